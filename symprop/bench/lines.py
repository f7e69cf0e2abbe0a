"""The lines of an array program: operations, the axes of their values, reads at subscripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sympy import Basic, Expr, Idx

from symprop.indices import accesses, size
from symprop.ranges import grid

__all__ = ["SAMPLES", "Axes", "Lines", "Term", "union"]

SAMPLES = Idx("samples", 1)
"""The axis of the samples; its size is known when the program runs."""

Axes = tuple[Idx, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """An array by its name in the program (or a number by its digits), and its axes."""

    code: str
    axes: Axes = ()
    number: bool = False


class Lines:
    """A program as it is written, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.count = 0

    def value(self, node: Basic) -> Term:
        """Return the value of an expression."""
        raise NotImplementedError

    def emit(self, code: str, axes: Iterable[Idx] = ()) -> Term:
        """Write one operation and return its value."""
        self.count += 1
        name = f"_{self.count}"
        self.lines.append(f"    {name} = {code}")
        return Term(name, tuple(axes))

    def constant(self, array: NDArray[Any], axes: Iterable[Idx] = ()) -> Term:
        """Return a constant array."""
        name = f"_c{len(self.constants) + 1}"
        self.constants[name] = array
        return Term(name, tuple(axes))

    # axes

    def aligned(self, term: Term, axes: Axes) -> str:
        """Return the code of `term` so that it broadcasts against arrays with `axes`."""
        own = [axis for axis in axes if axis in term.axes]
        code = term.code
        if own != list(term.axes):
            code = f"_permute({code}, {tuple(term.axes.index(axis) for axis in own)})"
        if not own:
            return code
        shown = axes[axes.index(own[0]) :]
        if len(shown) == len(own):
            return code
        return f"{code}[{', '.join(':' if axis in own else 'None' for axis in shown)}]"

    def spread(self, term: Term, axes: Axes) -> Term:
        """Return `term` with exactly these axes, repeated along those that it has not."""
        if term.axes == axes:
            return term
        code = self.aligned(term, axes)
        if set(term.axes) == set(axes):
            return self.emit(code, axes)
        shape = ", ".join("_n" if axis == SAMPLES else str(size(axis)) for axis in axes)
        code = f"_number({code})" if term.number else code
        return self.emit(f"_broadcast({code}, ({shape},))", axes)

    def array(self, term: Term) -> Term:
        """Return a number as an array without axes."""
        return self.emit(f"_number({term.code})") if term.number else term

    # subscripts

    def read(self, term: Term, shape: Sequence[int], subscripts: Sequence[Expr]) -> Term:
        """Return an array at subscripts: the whole, a slice of it, or what stands there."""
        samples = tuple(axis for axis in term.axes if axis == SAMPLES)
        simple = [_is_simple(subscript, subscripts) for subscript in subscripts]
        if all(simple):
            return self._apart(term, samples, shape, subscripts)
        return self._together(term, samples, shape, subscripts, simple)

    def _apart(
        self, term: Term, samples: Axes, shape: Sequence[int], subscripts: Sequence[Expr]
    ) -> Term:
        """Read at subscripts that share no index, axis by axis from the last."""
        axes: Axes = ()
        for place in reversed(range(len(shape))):
            subscript, before = subscripts[place], (":, " * (len(samples) + place))
            if isinstance(subscript, Idx):
                axes = (subscript, *axes)
                if size(subscript) != shape[place]:
                    term = self.emit(f"{term.code}[{before}:{size(subscript)}]")
            elif subscript.is_Integer:
                term = self.emit(f"{term.code}[{before}{subscript}]")
            else:
                own = tuple(sorted(subscript.atoms(Idx), key=lambda index: index.sort_key()))
                where = self.constant(_places(subscript, own, shape[place]))
                term = self.emit(f"{term.code}[{before}{where.code}]")
                axes = (*own, *axes)
        return Term(term.code, (*samples, *axes))

    def _together(
        self, term: Term, samples: Axes, shape: Sequence[int], subscripts: Sequence[Expr],
        simple: Sequence[bool],
    ) -> Term:  # fmt: skip
        """Read at subscripts that share indices or are data, by one advanced indexing."""
        values = {s: self.value(s) for s in subscripts if accesses(s)}
        joined = [not plain or not isinstance(s, Idx) or size(s) != length
                  for plain, s, length in zip(simple, subscripts, shape, strict=True)]  # fmt: skip
        first, last = joined.index(True), len(joined) - joined[::-1].index(True)
        batched = bool(samples) or any(SAMPLES in value.axes for value in values.values())
        if (samples and any(values)) or not all(joined[first:last]) or (samples and first):
            first, last = 0, len(joined)
        found: list[Idx] = []
        for s in subscripts[first:last]:
            found += values[s].axes if s in values else sorted(s.atoms(Idx), key=str)
        axes = union([(SAMPLES,) if batched and (samples or values) else (), tuple(found)])
        indexed = bool(samples) and SAMPLES in axes
        parts = [self.aligned(Term("_arange(_n)", (SAMPLES,)), axes)] if indexed else []
        parts += [":"] * first
        for s, length in zip(subscripts[first:last], shape[first:last], strict=True):
            parts.append(self._place(s, length, axes, values))
        before = tuple(subscripts[:first])
        after = tuple(subscripts[last:])
        return self.emit(f"{term.code}[{', '.join(parts)}]", (*before, *axes, *after))

    def _place(self, subscript: Expr, length: int, axes: Axes, values: dict[Any, Term]) -> str:
        if subscript in values:
            return self.aligned(values[subscript], axes)
        own = tuple(axis for axis in axes if axis in subscript.atoms(Idx))
        return self.aligned(self.constant(_places(subscript, own, length), own), axes)


def _places(subscript: Expr, axes: Axes, length: int) -> NDArray[np.int64]:
    """Return the values of a subscript; one out of range is only read where it does not count."""
    return np.clip(grid(subscript, axes), 0, length - 1).astype(np.int64)


def _is_simple(subscript: Expr, others: Sequence[Expr]) -> bool:
    """Tell whether a subscript is made of indices that no other one has."""
    if accesses(subscript):
        return False
    own = subscript.atoms(Idx)
    return not any(own & other.atoms(Idx) for other in others if other is not subscript) and (
        sum(other == subscript for other in others) == 1 or not own
    )


def union(groups: Iterable[Axes]) -> Axes:
    """Return the axes of all groups, that of the samples first."""
    axes = tuple(dict.fromkeys(axis for group in groups for axis in group))
    return tuple(sorted(axes, key=lambda axis: axis != SAMPLES))
