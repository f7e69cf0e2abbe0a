"""The text of a kernel: statements to indented lines of Python.

Lines are broken the way `ruff format` breaks them, at most 100 columns wide where
the parts allow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sympy
from sympy import Add, Expr, Idx, Indexed, Symbol

from symprop.indices import index_name
from symprop.lower.program import (
    Assign,
    Branch,
    Fill,
    Loop,
    Matrix,
    Note,
    Product,
    Statement,
    extent,
)
from symprop.printer import Printer

__all__ = ["WIDTH", "Lines", "call"]

WIDTH = 100
"""Columns of a line."""


def call(head: str, parts: Sequence[str], tail: str = ")", depth: int = 0) -> list[str]:
    """Return ``head`` + parts + ``tail`` on one line if it fits, else with its parts broken off.

    >>> call("f(", ["a", "b"])
    ['f(a, b)']
    """
    margin = "    " * depth
    whole = f"{margin}{head}{', '.join(parts)}{tail}"
    if len(whole) <= WIDTH:
        return [whole]
    inside = f"{margin}    {', '.join(parts)}"
    if len(inside) <= WIDTH:
        return [f"{margin}{head}", inside, f"{margin}{tail}"]
    return [f"{margin}{head}", *(f"{margin}    {part}," for part in parts), f"{margin}{tail}"]


@dataclass(frozen=True, slots=True)
class Lines:
    """Writes the statements of one kernel."""

    printer: Printer

    def body(self, statements: Iterable[Statement], depth: int = 1) -> Iterator[str]:
        """Yield the lines of some statements, indented by `depth` steps."""
        margin = "    " * depth
        for statement in statements:
            match statement:
                case Note(text):
                    yield f"{margin}# {text}"
                case Assign(target, value, accumulate):
                    yield from self._assign(target, value, accumulate, depth)
                case Product():
                    yield from self._product(statement, depth)
                case Fill(name, subscripts):
                    inside = ", ".join([*map(self.printer.subscript, subscripts), ":"])
                    zero = self.printer.expression(sympy.S.Zero)
                    yield f"{margin}{self.printer.name(name)}[{inside}] = {zero}"
                case Loop(index, body):
                    yield f"{margin}for {index_name(index)} in range({self.length(index)}):"
                    yield from self.body(body, depth + 1)
                case Branch(cases):
                    yield from self._branch(cases, depth)
                case _:
                    raise TypeError(f"{type(statement).__name__}: not a statement")

    def length(self, index: Idx) -> str:
        """Return the text of how many values an index takes."""
        found = extent(index)
        return self.printer.name("number of samples") if found is None else str(found)

    def extent_of(self, axes: Sequence[Idx]) -> str:
        """Return the text of how many elements some axes have together.

        >>> i, j = Idx("i", 3), Idx("j", 4)
        >>> Lines(Printer()).extent_of([i, j])
        '12'
        """
        fixed = sympy.prod(n for axis in axes if (n := extent(axis)) is not None)
        if all(extent(axis) is not None for axis in axes):
            return str(fixed)
        samples = self.printer.name("number of samples")
        return samples if fixed == 1 else f"{fixed} * {samples}"

    def _assign(
        self, target: Symbol | Indexed, value: Expr, accumulate: bool, depth: int
    ) -> Iterator[str]:
        sign = "="
        if not accumulate and isinstance(value, Add) and target in value.args:
            value = value - target
            accumulate = True
        if accumulate:
            negative = bool(value.as_coeff_Mul()[0].is_negative)
            sign, value = ("-=", -value) if negative else ("+=", value)
        shown = self.printer.expression(value)
        yield from _wrapped(f"{self.printer.target(target)} {sign} ", shown, depth)

    def _product(self, product: Product, depth: int) -> Iterator[str]:
        parts = [self._matrix(m) for m in (product.left, product.right, product.target)]
        yield from call("np.dot(", parts, depth=depth)

    def _matrix(self, matrix: Matrix) -> str:
        text = self.printer.name(matrix.name)
        if matrix.loops:
            text += f"[{', '.join(map(self.printer.subscript, matrix.loops))}]"
        if len(matrix.rows) > 1 or len(matrix.columns) > 1:
            shape = f"({self.extent_of(matrix.rows)}, {self.extent_of(matrix.columns)})"
            text += f".reshape({shape})"
        return text + ".T" * matrix.transposed

    def _branch(
        self, cases: tuple[tuple[sympy.Basic, tuple[Statement, ...]], ...], depth: int
    ) -> Iterator[str]:
        margin = "    " * depth
        for number, (condition, body) in enumerate(cases):
            if condition is sympy.true and number:
                yield f"{margin}else:"
            else:
                word = "elif" if number else "if"
                yield f"{margin}{word} {self.printer.condition(condition)}:"
            yield from self.body(body, depth + 1)


def _wrapped(head: str, value: str, depth: int) -> Iterator[str]:
    """Put a long value into parentheses; break it at its outermost operators if it must be."""
    margin = "    " * depth
    if len(margin) + len(head) + len(value) <= WIDTH:
        yield f"{margin}{head}{value}"
        return
    parts, before = [value], ""
    if len(margin) + 4 + len(value) > WIDTH:
        parts = _terms(value)
        if len(parts) == 1 and value.endswith(")"):
            place = _opening(value)
            before, parts = value[:place], _terms(value[place + 1 : -1])
    yield f"{margin}{head}{before}("
    for part in parts:
        yield f"{margin}    {part}"
    yield f"{margin})"


def _opening(value: str) -> int:
    """Return the place of the parenthesis that the last one closes.

    >>> _opening("f(a) * (b + (c))")
    7
    """
    depth = 0
    for place in range(len(value) - 1, -1, -1):
        depth += (value[place] == ")") - (value[place] == "(")
        if depth == 0:
            return place
    return 0


def _terms(value: str) -> list[str]:
    """Split a text in front of its outermost ``+``, ``-``, ``if`` and ``else``.

    >>> _terms("a + f(b - c) - d")
    ['a', '+ f(b - c)', '- d']
    """
    parts, depth, begin = [], 0, 0
    words = (" if ", " else ") if _outside(value, " else ") else (" + ", " - ")
    for place, letter in enumerate(value):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and place and any(value.startswith(word, place) for word in words):
            parts.append(value[begin:place])
            begin = place + 1
    return [*parts, value[begin:]]


def _outside(value: str, word: str) -> bool:
    """Tell whether `word` stands in `value` outside of all parentheses."""
    depth = 0
    for place, letter in enumerate(value):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and value.startswith(word, place):
            return True
    return False
