"""The kernels before they are text: what was chosen for them, their memory and their loops.

The statements of the lowered form are numbered. A tensor of the workspace lives from the line
that first writes it to the line that last reads it. Every product says how it is computed
and why, whether as register tiles, by BLAS or in loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from textwrap import wrap
from typing import Any

import sympy
from sympy import Basic, Expr, Idx, Indexed, Mul, Symbol

from symprop.formulas import text
from symprop.indices import accesses, free_indices, index_name, numbered
from symprop.lower.products import BLAS, COLUMNS, MINIMUM, NOMINAL_BATCH, counted
from symprop.lower.program import (
    Assign,
    Branch,
    Deferred,
    Kernel,
    Loop,
    Note,
    Product,
    Program,
    Statement,
    Storage,
    nested,
)
from symprop.lower.steps import (
    LANES,
    SAMPLES,
    Axis,
    Contract,
    Matrix,
    Tiling,
    Transpose,
    element,
    extent,
    is_sample,
    length,
    name_of,
)
from symprop.lower.strategy import Strategy

__all__ = ["as_data", "listing"]

_WIDTH = 100

_WORDS = {str(SAMPLES): "samples", str(LANES): "lanes"}

_LAYOUTS = {
    "lanes": "the sample is the last axis, innermost loops run over samples",
    "rows": "the sample is the first axis, loops over samples are outside of others",
}


def listing(program: Program) -> str:
    """Return the strategy and the kernels of `program` as text of at most 100 columns.

    What is printed are the statements of the lowered form, with the names of the formulas; each
    product is followed by how it is computed and why, each tensor by its shape, its
    offset in the workspace and the lines between which it is needed.
    """
    head = [
        *_strategy(program.strategy),
        f"work   about {program.work} operations for the gradient of one sample",
    ]
    for table in program.tables:
        shape = " x ".join(map(str, table.shape))
        head += _wrapped(f"{table.name}, {shape}: {text(table.value)}", "table  ", " " * 7)
    kernels = ("\n".join(_kernel(kernel, program)) for kernel in program.kernels)
    return "\n\n".join(["\n".join(head), *kernels])


def _strategy(strategy: Strategy) -> list[str]:
    """Return the lines of a strategy."""
    return [
        f"layout {strategy.layout}: {_LAYOUTS[strategy.layout]}",
        f"block  {strategy.block} samples at most in one call of a kernel",
        f"why    {strategy.reason}",
    ]


def as_data(program: Program) -> dict[str, Any]:
    """Return what `listing` shows as plain data; lines are counted from 1."""
    return {
        **_strategy_data(program.strategy),
        "work": program.work,
        "tables": [
            {"name": table.name, "shape": list(table.shape), "value": text(table.value)}
            for table in program.tables
        ],
        "kernels": [_kernel_data(kernel, program) for kernel in program.kernels],
    }


def _strategy_data(strategy: Strategy) -> dict[str, Any]:
    return {
        "layout": strategy.layout,
        "lanes": strategy.lanes,
        "block": strategy.block,
        "reason": strategy.reason,
    }


def _kernel_data(kernel: Kernel, program: Program) -> dict[str, Any]:
    lines = _lines_of(kernel, program)
    return {
        "name": kernel.name,
        **_strategy_data(kernel.strategy),
        "data": [variable.name for variable in kernel.data],
        "outputs": [variable.name for variable in kernel.outputs],
        "size": kernel.size,
        "workspace": [_storage_data(storage, lines) for storage in kernel.workspace],
        "lines": [line.as_dict() for line in lines],
    }


def _storage_data(storage: Storage, lines: list[_Line]) -> dict[str, Any]:
    first, last = _life(storage.name, lines)
    return {
        "name": storage.name,
        "shape": list(storage.shape),
        "sampled": storage.sampled,
        "offset": storage.offset,
        "first_write": first,
        "last_read": last,
    }


def _kernel(kernel: Kernel, program: Program) -> Iterator[str]:
    """Yield the lines of text of a kernel."""
    lines = _lines_of(kernel, program)
    yield f"kernel {kernel.name}"
    if kernel.strategy != program.strategy:
        yield from (f"     {line}" for line in _strategy(kernel.strategy))
    yield f"     workspace: {kernel.size} numbers"
    rows = [_storage(storage, lines) for storage in kernel.workspace]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"       {'  '.join(cells)}".rstrip()
    for number, line in enumerate(lines, 1):
        margin = "    " * line.depth
        yield from _wrapped(line.text, f"{number:4} {margin}", f"     {margin}    ")
        for why in line.why:
            yield from _wrapped(why, f"     {margin}  | ", f"     {margin}  |   ")


def _storage(storage: Storage, lines: list[_Line]) -> tuple[str, ...]:
    first, last = _life(storage.name, lines)
    shape = (*(["samples"] if storage.sampled else []), *map(str, storage.shape))
    life = f"lines {first} to {last}" if first != last else f"line {first}"
    return storage.name, " x ".join(shape), f"from {storage.offset}", life


def _wrapped(words: str, first: str, others: str) -> list[str]:
    """Break a line between words where it is too long."""
    return wrap(
        words,
        max(_WIDTH, len(first) + 40),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """A line: its depth, its text, what it reads and writes; how a product is done, and why."""

    depth: int
    text: str
    reads: frozenset[str] = frozenset()
    writes: str = ""
    why: tuple[str, ...] = ()
    tiling: Tiling | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the line as plain data."""
        data = {"depth": self.depth, "text": self.text, "why": list(self.why)}
        return data | ({"tiling": _tiling_data(self.tiling)} if self.tiling else {})


def _tiling_data(tiling: Tiling) -> dict[str, Any]:
    """Return a tiling as plain data; a count of null is that of the lanes or samples."""
    names = ("left", "right", "out", "start")
    return {
        "rows": _axis_data(tiling.rows),
        "columns": _axis_data(tiling.columns) | {"over": tiling.over},
        "terms": [_axis_data(axis) for axis in tiling.terms],
        "loops": [_axis_data(axis) for axis in tiling.loops],
        "offsets": dict(zip(names, tiling.offsets, strict=True)),
    }


def _axis_data(axis: Axis) -> dict[str, int | None]:
    return asdict(axis)


def _life(name: str, lines: list[_Line]) -> tuple[int, int]:
    """Return the line that first writes a tensor and the one that last reads it.

    What is written and never read lives where it is written.
    """
    written = [number for number, line in enumerate(lines, 1) if line.writes == name]
    read = [number for number, line in enumerate(lines, 1) if name in line.reads]
    first = min(written, default=0)
    return first, max([*read, first])


def _lines_of(kernel: Kernel, program: Program) -> list[_Line]:
    """Return the lines of a kernel; samples are called as in the loop that adds up the losses."""
    loops = (s.index for s in nested(program.loss.body) if isinstance(s, Loop))
    sample = next((index_name(index) for index in loops if is_sample(index)), "s")
    return list(_Lister(kernel.strategy, sample, _apart(kernel.deferred)).lines(kernel.body))


def _apart(deferred: Iterable[Deferred]) -> dict[Contract, str]:
    """Return what the training does with products that are no part of the kernel then."""
    found: dict[Contract, str] = {}
    for part in deferred:
        what = f"{part.rows} rows" if part.rows else "one element"
        found[part.product] = f"training applies {what} at a time"
        if part.reader:
            weight = name_of(part.reader.left)
            found[part.product] += f" where each of several threads has its rows of {weight}"
            found[part.reader] = f"each of several threads computes what its rows of {weight} give"
    return found


@dataclass(frozen=True, slots=True)
class _Lister:
    """Writes statements as lines; `loops` and `conditions` count what they stand in.

    Of some products the training does otherwise than the kernel: that is said in `apart`.
    """

    strategy: Strategy
    sample: str
    apart: Mapping[Contract, str]
    loops: tuple[Idx, ...] = ()
    conditions: int = 0

    def lines(self, statements: Iterable[Statement]) -> Iterator[_Line]:
        for statement in statements:
            yield from self._statement(statement)

    def _statement(self, statement: Statement) -> Iterator[_Line]:
        depth = len(self.loops) + self.conditions
        match statement:
            case Note(comment):
                yield _Line(depth, f"# {comment}")
            case Loop(index, body):
                count = str(length(index))
                yield _Line(depth, f"for {index_name(index)} in {_WORDS.get(count, count)}:")
                yield from replace(self, loops=(*self.loops, index)).lines(body)
            case Branch(cases):
                for condition, body in cases:
                    holds = f"where {text(condition)}" if condition != sympy.true else "otherwise"
                    yield _Line(depth, f"{holds}:", _names(condition))
                    yield from replace(self, conditions=self.conditions + 1).lines(body)
            case Assign(target, value, accumulate):
                sign = "+=" if accumulate else "="
                line = f"{text(target)} {sign} {text(value)}"
                reads = _names(value) | ({name_of(target)} if accumulate else set())
                yield _Line(depth, line, reads, name_of(target), self._loop(statement))
            case Contract() | Transpose() | Product():
                yield self._whole(depth, statement)
            case _:
                raise TypeError(f"{type(statement).__name__}: not a statement")

    def _whole(self, depth: int, statement: Contract | Transpose | Product) -> _Line:
        """Return the line of what is computed as one, without loops in the kernel."""
        why: tuple[str, ...]
        tiling: Tiling | None = None
        reads: tuple[Indexed, ...]
        match statement:
            case Contract(target, left, right, tiling, reason):
                why = (f"register tiles: {reason}", str(tiling))
                why += (self.apart[statement],) if statement in self.apart else ()
                reads = statement.read
                line = self._sum(target, left, right, statement.summed, statement.start)
            case Transpose(target, source, batch, rows, columns):
                shape = f"{f'{batch} x ' if batch > 1 else ''}{rows} x {columns}"
                why = (f"a copy of {shape} with its axes exchanged, which is read in vectors",)
                names = self._indices((target, source))
                line = f"{_read(target, names)} = {_read(source, names)}"
                return _Line(depth, line, frozenset({name_of(source)}), name_of(target), why)
            case Product():
                matrices = (statement.target, statement.left, statement.right)
                target, left, right = map(_element, matrices)
                why = (_blas(statement, self.strategy),)
                line = self._sum(target, left, right, _sides(statement.left)[1])
                reads = (left, right)
        return _Line(depth, line, frozenset(map(name_of, reads)), name_of(target), why, tiling)

    def _sum(
        self,
        target: Indexed,
        left: Indexed,
        right: Indexed,
        summed: tuple[Idx, ...],
        start: Indexed | None = None,
    ) -> str:
        """Return a product as the sum that it is."""
        names = self._indices((target, left, right))
        begun = "" if start is None else f" + {_read(start, names)}"
        bound = ", ".join(str(names[index]) for index in summed)
        reads = f"{_read(left, names)}*{_read(right, names)}"
        return f"{_read(target, names)} = Sum({reads}, {bound}){begun}"

    def _indices(self, leaves: tuple[Indexed, ...]) -> dict[Basic, Basic]:
        """Return the name of each index: its own, or another one where two have the same."""
        names: dict[Basic, Basic] = {index: Symbol(index_name(index)) for index in self.loops}
        found = (index for leaf in leaves for part in leaf.indices for index in free_indices(part))
        for index in dict.fromkeys(found):
            if index not in names:
                used = {str(name) for name in names.values()}
                wanted = self.sample if is_sample(index) else index_name(index)
                names[index] = Symbol(next(n for n in numbered(wanted) if n not in used))
        return names

    def _loop(self, statement: Assign) -> tuple[str, ...]:
        """Return why a sum of products is added up in loops; nothing where it is none."""
        factors = [f for f in Mul.make_args(statement.value) if isinstance(f, Indexed)]
        if not statement.accumulate or len(factors) < 2:
            return ()
        work = prod(counted(index, self.strategy) for index in self.loops)
        if self.strategy.products == "loops":
            return ("loops: asked for",)
        if self.strategy.products == "model" and work < MINIMUM:
            return (f"loops: {work} multiply-adds < {MINIMUM}",)
        if self.conditions:
            return ("loops: what is added depends on a condition",)
        if self.strategy.lanes:
            return ("loops: its indices are no rows and columns of a tile",)
        if self.strategy.products == "blas":
            return ("loops: its indices are no rows and columns of a matrix product",)
        small = self.strategy.products == "model" and work < BLAS
        other = f"{work} multiply-adds < {BLAS}" if small else "no matrix product"
        return (f"loops: no line of {COLUMNS} or more, and {other}",)


def _blas(product: Product, strategy: Strategy) -> str:
    """Return how a matrix product is computed, and why."""
    rows, terms = (_room(group) for group in _sides(product.left))
    columns = _room(_sides(product.right)[1])
    work = prod(
        counted(index, strategy)
        for index in {*product.left.rows, *product.left.columns, *_sides(product.right)[1]}
    )
    why = f"{work} multiply-adds >= {BLAS}" if work >= BLAS else "asked for"
    batch = f" for {NOMINAL_BATCH} samples" if work >= BLAS and _sampled(product) else ""
    return f"BLAS, np.dot: {why}{batch}; {rows} x {terms} times {terms} x {columns}"


def _sampled(product: Product) -> bool:
    both = (product.left, product.right)
    return any(is_sample(index) for side in both for index in (*side.rows, *side.columns))


def _element(matrix: Matrix) -> Indexed:
    """Return the element of a tensor that is read as a matrix."""
    return element(matrix.name, (*matrix.loops, *matrix.rows, *matrix.columns))


def _sides(matrix: Matrix) -> tuple[tuple[Idx, ...], tuple[Idx, ...]]:
    """Return the indices of the rows and of the columns, as the product sees them."""
    pair = (matrix.rows, matrix.columns)
    return pair[::-1] if matrix.transposed else pair


def _room(group: tuple[Idx, ...]) -> str:
    lengths = [extent(index) for index in group]
    return "*".join(str(length or "samples") for length in lengths) or "1"


def _names(expression: Basic) -> frozenset[str]:
    return frozenset(name_of(leaf) for leaf in accesses(expression))


def _read(leaf: Indexed, names: Mapping[Basic, Basic]) -> str:
    return f"{name_of(leaf)}[{','.join(_subscript(part.xreplace(names)) for part in leaf.indices)}]"


def _subscript(part: Expr) -> str:
    return str(part).replace(" ", "")
