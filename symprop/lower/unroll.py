"""Pass 10, for tiny networks: a kernel without loops and tensors, to be a step of a training loop.

Every loop but that over the samples is written out, and every element of a tensor becomes a
variable of its own. So parameters, moments and gradients are local variables of the training
loop, which the compiler keeps in registers; in memory they cost a store and a load for each use.
The data of the samples stay arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import cast

import sympy
from sympy import Basic, Expr, Idx, Indexed, Integer, Symbol

from symprop.indices import rebuild, substitute
from symprop.lower.program import (
    Assign,
    Branch,
    Kernel,
    Loop,
    Note,
    Statement,
    Straight,
)
from symprop.lower.steps import element, extent, is_sample, name_of
from symprop.lower.vocabulary import Vocabulary, new_name
from symprop.network import Parameter

__all__ = ["MOST", "unroll"]

MOST = 2000
"""The greatest number of assignments; Numba takes about a millisecond for each."""

Place = tuple[int, ...]


class _MemoryNeededError(Exception):
    """An element is chosen when the kernel runs, or the kernel is too long to be written out."""


def unroll(kernel: Kernel, words: Vocabulary, parameters: Iterable[Parameter]) -> Straight | None:
    """Return the gradient's `kernel` as a step without loops and tensors; None where it needs them.

    It needs them where a subscript is itself a datum, for whole products, and where
    it would have more than `MOST` assignments.
    """
    parameters = tuple(parameters)
    shapes = {storage.name: storage.shape for storage in kernel.workspace}
    shapes |= {p.name: p.shape for p in parameters}
    shapes |= {words.adjoint(p.name): p.shape for p in parameters}
    pass_ = _Unrolling(words, shapes, set(words.taken))
    try:
        body = tuple(pass_.written(kernel.body, {}))
    except _MemoryNeededError:
        return None
    names = [name for p in parameters for name in (p.name, words.adjoint(p.name))]
    elements = {name: pass_.all_elements(name) for name in names}
    own = frozenset(variable.name for variable in pass_.variables.values())
    return Straight(replace(kernel, name="step", workspace=(), size=0, body=body), elements, own)


@dataclass(slots=True)
class _Unrolling:
    words: Vocabulary
    shapes: Mapping[str, Place]
    taken: set[str]
    variables: dict[tuple[str, Place], Symbol] = field(default_factory=dict)
    assignments: int = 0

    def all_elements(self, name: str) -> tuple[str, ...]:
        """Return the variables of a tensor's elements, the last axis fastest."""
        ranges = map(range, self.shapes[name])
        return tuple(self._variable(name, place).name for place in product(*ranges))

    def written(
        self, statements: Iterable[Statement], places: Mapping[Basic, Basic]
    ) -> Iterator[Statement]:
        """Yield statements whose loop indices have the values `places`."""
        for statement in statements:
            match statement:
                case Note():
                    yield statement
                case Assign(target, value, accumulate):
                    yield self._assigned(target, value, accumulate, places)
                case Loop(index, body) if is_sample(index):
                    yield Loop(index, tuple(self.written(body, places)))
                case Loop(index, body):
                    for n in range(extent(index) or 0):
                        yield from self.written(body, {**places, index: Integer(n)})
                case Branch(cases):
                    yield from self._branched(cases, places)
                case _:
                    raise _MemoryNeededError

    def _assigned(
        self,
        target: Symbol | Indexed,
        value: Expr,
        accumulate: bool,
        places: Mapping[Basic, Basic],
    ) -> Assign:
        self.assignments += 1
        if self.assignments > MOST:
            raise _MemoryNeededError
        read = (self._read(substitute(node, places)) for node in (target, value))
        return Assign(*cast(tuple[Symbol, Expr], tuple(read)), accumulate)

    def _branched(
        self,
        cases: tuple[tuple[Basic, tuple[Statement, ...]], ...],
        places: Mapping[Basic, Basic],
    ) -> Iterator[Statement]:
        """Yield a branch; conditions on indices only are decided here."""
        left: list[tuple[Basic, tuple[Statement, ...]]] = []
        for condition, body in cases:
            test = self._read(substitute(condition, places))
            if test == sympy.false:
                continue
            left.append((test, tuple(self.written(body, places))))
            if test == sympy.true:
                break
        if left and left[0][0] == sympy.true:
            yield from left[0][1]
        elif left:
            yield Branch(tuple(left))

    def _read(self, node: Basic) -> Basic:
        """Return `node` with variables for the elements of all tensors but the data."""
        if isinstance(node, Idx) or not node.args:
            return node
        if not isinstance(node, Indexed):
            return rebuild(node, map(self._read, node.args))
        name = name_of(node)
        if name in self.words.data:
            return element(name, tuple(self._read(part) for part in node.indices))
        if not all(isinstance(part, Integer) for part in node.indices):
            raise _MemoryNeededError
        return self._variable(name, tuple(map(int, node.indices)))

    def _variable(self, name: str, place: Place) -> Symbol:
        if not place:
            return element(name)
        if (name, place) not in self.variables:
            plain = self.words.identifiers.get(name, name)
            wanted = "_".join([plain, *map(str, place)])
            self.variables[name, place] = element(new_name(wanted, self.taken))
        return self.variables[name, place]
