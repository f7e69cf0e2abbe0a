"""The text of a kernel: statements to indented lines of Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import sympy
from sympy import Add, Expr, Idx, Indexed, Symbol

from symprop.indices import index_name
from symprop.lower.program import (
    Assign,
    Branch,
    Loop,
    Note,
    Product,
    Statement,
)
from symprop.lower.steps import (
    LANES,
    SAMPLES,
    Contract,
    Matrix,
    Transpose,
    extent,
    length,
    name_of,
)
from symprop.printer import Printer
from symprop.render.forms import Forms
from symprop.render.repeats import Call, Function
from symprop.render.texts import call, wrapped

__all__ = ["Lines"]


@dataclass(frozen=True, slots=True)
class Lines:
    """Writes the statements of one kernel."""

    printer: Printer
    forms: Forms = field(default_factory=Forms)

    def body(self, statements: Iterable[Statement | Call], depth: int = 1) -> Iterator[str]:
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
                case Contract(target, left, right, start=start):
                    counted = statement.tiling.counted
                    names = [*map(self._tensor, (left, right, target))]
                    names += [] if start is None else [self._tensor(start)]
                    names += [self.printer.name(str(counted))] if counted else []
                    yield from call(f"{self.forms.product(statement)}(", names, depth=depth)
                case Transpose(target, source):
                    names = [self._tensor(source), self._tensor(target)]
                    names += [self.printer.name(str(LANES))] if statement.lanes else []
                    yield from call(f"{self.forms.transpose(statement)}(", names, depth=depth)
                case Loop(index, body):
                    yield f"{margin}for {index_name(index)} in range({self.length(index)}):"
                    yield from self.body(body, depth + 1)
                case Branch(cases):
                    yield from self._branch(cases, depth)
                case Call(function, arguments, notes):
                    yield from self.body(notes, depth)
                    names = [*map(self.printer.name, arguments)]
                    yield from call(f"{function.name}(", names, depth=depth)
                case _:
                    raise TypeError(f"{type(statement).__name__}: not a statement")

    def function(self, function: Function) -> Iterator[str]:
        """Yield the lines of a function of loops over lanes that several parts of kernels are."""
        name = self.printer.name
        yield from call(f"def {function.name}(", [*map(name, function.arguments)], "):")
        yield '    """Compute what several parts of a kernel do, in the names of the first."""'
        yield "    _hot()"
        if function.lanes:
            yield f"    {name(str(LANES))} = _lanes({name(str(SAMPLES))}, {function.lanes})"
        for tensor, before in function.inherited:
            yield f"    {name(tensor)} = {name(before)}"
        yield from self.body([function.loop])
        yield "    _compact()"

    def _tensor(self, leaf: Indexed) -> str:
        return self.printer.name(name_of(leaf))

    def length(self, index: Idx) -> str:
        """Return the text of how many values an index takes."""
        return self.printer.name(str(length(index)))

    def extent_of(self, axes: Sequence[Idx]) -> str:
        """Return the text of how many elements some axes have together.

        >>> i, j = Idx("i", 3), Idx("j", 4)
        >>> Lines(Printer()).extent_of([i, j])
        '12'
        """
        fixed = sympy.prod(n for axis in axes if (n := extent(axis)) is not None)
        if all(extent(axis) is not None for axis in axes):
            return str(fixed)
        samples = self.printer.name(str(SAMPLES))
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
        yield from wrapped(f"{self.printer.target(target)} {sign} ", shown, depth)

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
