"""The kernels before they are text: what was chosen for them, their memory and their loops.

Every line of the listing has a number; a tensor of the workspace lives from the line that
first writes it to the one that last reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from sympy import Expr, Idx, Indexed, Symbol

from symprop.formulas import text
from symprop.indices import index_name
from symprop.lower.program import (
    LANES,
    SAMPLES,
    Assign,
    Branch,
    Contract,
    Fill,
    Kernel,
    Loop,
    Note,
    Product,
    Program,
    Statement,
    Transpose,
    length,
    name_of,
)

__all__ = ["as_data", "listing"]

_WORDS = {str(SAMPLES): "samples", str(LANES): "lanes"}


def listing(program: Program) -> str:
    """Return the strategy and the kernels of `program` as text, its lines numbered.

    What is printed are the statements of the lowered form, with the names of the formulas; each
    contraction says along which indices it goes, and why it is done as it is.
    """
    return "\n\n".join([_strategy(program), *map(_kernel, program.kernels)])


def as_data(program: Program) -> dict[str, Any]:
    """Return what `listing` shows as plain data."""
    strategy = program.strategy
    return {
        "layout": strategy.layout,
        "block": strategy.block,
        "reason": strategy.reason,
        "work": program.work,
        "kernels": [_as_data(kernel) for kernel in program.kernels],
    }


def _as_data(kernel: Kernel) -> dict[str, Any]:
    lines = list(_lines(kernel.body, 0))
    return {
        "name": kernel.name,
        "workspace": [
            {
                "name": storage.name,
                "shape": list(storage.shape),
                "offset": storage.offset,
                "lines": list(_life(storage.name, lines)),
            }
            for storage in kernel.workspace
        ],
        "lines": [{"depth": line.depth, "text": line.text, "why": line.why} for line in lines],
    }


def _strategy(program: Program) -> str:
    strategy = program.strategy
    layout = {
        "lanes": "lanes: the sample is the last axis, innermost loops run over samples",
        "rows": "rows: the sample is the first axis, the outermost loop runs over samples",
    }[strategy.layout]
    return "\n".join(
        [
            f"layout {layout}",
            f"block  {strategy.block} samples at most in one call of a kernel",
            f"why    {strategy.reason}",
            f"work   about {program.work} operations for the gradient of one sample",
        ]
    )


def _kernel(kernel: Kernel) -> str:
    lines = list(_lines(kernel.body, 0))
    out = [f"kernel {kernel.name}: {kernel.size} numbers of workspace"]
    for storage in kernel.workspace:
        first, last = _life(storage.name, lines)
        rows = "samples x " if storage.sampled else ""
        shape = " x ".join(map(str, storage.shape)) or "1"
        out.append(f"    {storage.name:<20} {rows + shape:<16} lines {first} to {last}")
    for number, line in enumerate(lines, 1):
        out.append(f"{number:4} {'    ' * line.depth}{line.text}")
        out += [f"     {'    ' * line.depth}  {why}" for why in line.why]
    return "\n".join(out)


@dataclass(frozen=True, slots=True)
class _Line:
    """One line: its depth, its text, and for a product how it is done and why."""

    depth: int
    text: str
    why: tuple[str, ...] = ()


def _life(name: str, lines: list[_Line]) -> tuple[int, int]:
    """Return the first and the last line that mention a tensor, comments aside."""
    word = re.compile(rf"(?<![\w/]){re.escape(name)}(?![\w/])")
    found = [
        number
        for number, line in enumerate(lines, 1)
        if not line.text.startswith("#") and word.search(line.text)
    ]
    return (found[0], found[-1]) if found else (0, 0)


def _lines(statements: tuple[Statement, ...], depth: int) -> Iterator[_Line]:
    for statement in statements:
        match statement:
            case Note(comment):
                yield _Line(depth, f"# {comment}")
            case Loop(index, body):
                count = str(length(index))
                yield _Line(depth, f"for {index_name(index)} in {_WORDS.get(count, count)}:")
                yield from _lines(body, depth + 1)
            case Branch(cases):
                for condition, body in cases:
                    yield _Line(depth, f"where {condition}:")
                    yield from _lines(body, depth + 1)
            case Assign(target, value, accumulate):
                sign = "+=" if accumulate else "="
                yield _Line(depth, f"{text(target)} {sign} {text(value)}")
            case Fill(name, subscripts):
                inside = ",".join([*map(str, subscripts), ":"])
                yield _Line(depth, f"{name}[{inside}] = 0")
            case Contract():
                yield _Line(depth, _equation(statement), tuple(_tiling(statement)))
            case Transpose(target, source, batch, rows, columns):
                many = f"{batch} x " if batch > 1 else ""
                why = f"a copy with its axes exchanged, {many}{rows} x {columns}, for a product"
                yield _Line(depth, f"{_read(target)} = {_read(source)}", (why,))
            case Product(target, left, right):
                why = "np.dot, since it has enough multiply-adds to be worth the call"
                yield _Line(depth, f"{target} = {left} @ {right}", (f"BLAS: {why}",))


def _equation(contract: Contract) -> str:
    """Return a contraction as the sum that it is."""
    own = {index_name(i) for i in contract.target.atoms(Idx)}
    both = (*contract.left.atoms(Idx), *contract.right.atoms(Idx))
    summed = sorted({index_name(i) for i in both} - own)
    product = f"{_read(contract.left)}*{_read(contract.right)}"
    return f"{_read(contract.target)} = Sum({product}, {', '.join(summed)})"


def _read(leaf: Indexed) -> str:
    return f"{name_of(leaf)}[{','.join(map(_subscript, leaf.indices))}]"


def _subscript(part: Expr) -> str:
    names = {index: Symbol(index_name(index)) for index in part.atoms(Idx)}
    return str(part.xreplace(names)).replace(" ", "")


def _tiling(contract: Contract) -> Iterator[str]:
    """Yield how a contraction is done, and why."""
    tiling = contract.tiling
    terms = " x ".join(str(axis.count or "samples") for axis in tiling.terms)
    loops = prod(axis.count or 1 for axis in tiling.loops)
    parts = [
        f"rows {tiling.rows.count}",
        f"columns {tiling.columns[0] or 'lanes'}",
        f"terms {terms}",
        *([f"loops {loops}"] if tiling.loops else []),
    ]
    yield f"register tiles: {', '.join(parts)}; {contract.reason}"
    row, term = tiling.rows, tiling.terms[-1]
    left = "vectors" if tiling.columns[1] else "single numbers"
    yield (
        f"left gives {left}, {row.left} apart by row, {term.left} by term; right vectors, "
        f"{term.right} apart by term"
    )
