"""The ways from the loss to one number, element by element: the chain rule written out.

Nodes are single numbers (``w5``, ``W1[0,1]``), edges the local derivatives of one forward
equation, which come from the walk that gives the adjoints. Where an element has too
many ways to the loss the chain starts at its adjoint, which sums them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod

import sympy
from sympy import Basic, Expr, Idx, Indexed, IndexedBase, Integer, Symbol
from sympy.core.parameters import distribute

from symprop.derivation import Derivation, local_derivatives
from symprop.derivation.contributions import Contribution, factored, merged
from symprop.equation import name_of
from symprop.indices import accesses, free_indices, make_sum, size, substitute, where
from symprop.network import Equation

__all__ = ["Edge", "Graph", "Node", "leaf"]

Node = tuple[str, tuple[int, ...]]
"""A variable's name and the subscripts of one of its elements."""

Number = Callable[[Expr], int]
"""What a subscript that is a data value (``token[0]``) is worth."""

_MANY = 4096


def leaf(node: Node) -> Symbol | Indexed:
    """Return the symbol, or the element of a tensor, that formulas have for `node`."""
    name, element = node
    if not element:
        return Symbol(name, real=True)
    return IndexedBase(name, real=True)[tuple(map(Integer, element))]


@dataclass(frozen=True, slots=True)
class Edge:
    """`above` reads `below`: the derivative of the one by the other."""

    above: Node
    below: Node
    derivative: Expr


@dataclass(slots=True)
class Graph:
    """Who reads an element, and how often the loss is reached from it.

    `number` gives data that serve as subscripts their value; without it, chains stop
    where such a subscript decides who reads whom.
    """

    derivation: Derivation
    number: Number | None = None
    known: dict[Node, tuple[Edge, ...] | None] = field(default_factory=dict)

    def ways(self, target: Node, limit: int) -> list[tuple[Edge, ...]]:
        """Return at most `limit` chains of edges, each from the loss's side down to `target`.

        A chain whose first edge does not start at the loss starts at an adjoint. The
        chains of a target that the loss does not depend on are none; an empty chain
        stands for the adjoint of the target itself.
        """
        if self._is_loss(target):
            return [()]
        edges = self.edges(target)
        if edges is None or len(edges) > limit:
            return [()]
        if self.count(target, limit) <= limit:
            shares = [limit] * len(edges)
        else:
            shares = [limit // len(edges)] * len(edges)
        return [
            (*way, edge)
            for edge, share in zip(edges, shares, strict=True)
            for way in self.ways(edge.above, share)
        ]

    def count(self, target: Node, limit: int) -> int:
        """Return the number of ways from the loss to `target`; beyond `limit` just more than it."""
        if self._is_loss(target):
            return 1
        edges = self.edges(target)
        total = 0
        for edge in edges if edges is not None else ():
            total += self.count(edge.above, limit - total)
            if total > limit:
                break
        return limit + 1 if edges is None else total

    def edges(self, target: Node) -> tuple[Edge, ...] | None:
        """Return the edges to `target` from all that read it; None where they are too many."""
        if target not in self.known:
            self.known[target] = self._edges(target)
        return self.known[target]

    def _is_loss(self, node: Node) -> bool:
        return node[0] == self.derivation.loss_name

    def _edges(self, target: Node) -> tuple[Edge, ...] | None:
        found: list[Edge] = []
        for equation in readers(self.derivation, target[0]):
            parts: dict[Node, list[Expr]] = {}
            for part in local_derivatives(self.derivation, equation).get(target[0], ()):
                reads = _reads_of(part, equation, target[1], self.number)
                if reads is None:
                    return None
                for above, derivative in reads:
                    parts.setdefault(above, []).append(derivative)
            with distribute(False):
                local = {above: factored(merged(terms)) for above, terms in parts.items()}
            found += [Edge(above, target, slope) for above, slope in local.items() if slope != 0]
        return tuple(found)


def readers(derivation: Derivation, name: str) -> Iterator[Equation]:
    """Yield the forward equations that read `name` and that the loss depends on."""
    for equation in derivation.forward:
        if name not in set(map(name_of, accesses(equation.rhs))):
            continue
        if equation.name == derivation.loss_name or derivation.adjoint(equation.name).rhs != 0:
            yield equation


def _reads_of(
    part: Contribution, equation: Equation, element: tuple[int, ...], number: Number | None
) -> list[tuple[Node, Expr]] | None:
    """Return the elements of the left side that read `element` here, with the derivatives."""
    own = part.loops[: len(equation.indices)]
    subscripts = part.access.indices if isinstance(part.access, Indexed) else ()
    placed = _placed(subscripts, element, part.loops)
    if placed is None:
        return []
    remaining = [index for index in part.loops if index not in placed]
    open_ = _open(subscripts, remaining, number)
    if open_ is None:
        return None
    outer = [index for index in remaining if index in own or index in open_]
    inner = [index for index in remaining if index not in outer]
    if prod(map(size, outer)) > _MANY:
        return None
    found = []
    for values in product(*(range(size(index)) for index in outer)):
        mapping = {**placed, **dict(zip(outer, map(Integer, values), strict=True))}
        if not _meets(subscripts, element, mapping, number):
            continue
        above = (equation.name, tuple(int(mapping[index]) for index in own))
        found.append((above, _derivative(part, mapping, inner)))
    return found


def _placed(
    subscripts: tuple[Expr, ...], element: tuple[int, ...], loops: tuple[Idx, ...]
) -> dict[Idx, Integer] | None:
    """Return the loop indices that plain subscripts decide; None where they cannot be met."""
    placed: dict[Idx, Integer] = {}
    for subscript, place in zip(subscripts, element, strict=True):
        if subscript in loops and (
            placed.setdefault(subscript, Integer(place)) != place or place >= size(subscript)
        ):
            return None
    return placed


def _open(
    subscripts: tuple[Expr, ...], remaining: list[Idx], number: Number | None
) -> set[Idx] | None:
    """Return the indices of subscripts that are expressions; None where data would decide them."""
    if number is None and any(accesses(subscript) for subscript in subscripts):
        return None
    return {index for subscript in subscripts for index in free_indices(subscript)} & set(remaining)


def _meets(
    subscripts: tuple[Expr, ...],
    element: tuple[int, ...],
    mapping: dict[Idx, Integer],
    number: Number | None,
) -> bool:
    """Tell whether the subscripts, at these values of their indices, are those of `element`."""
    for subscript, place in zip(subscripts, element, strict=True):
        there = substitute(subscript, mapping)
        worth = number(there) if number and accesses(there) else there
        if worth != place:
            return False
    return True


def _derivative(part: Contribution, mapping: dict[Idx, Integer], inner: list[Idx]) -> Expr:
    with distribute(False):
        value = substitute(part.value, mapping)
        conditions: list[Basic] = [substitute(test, mapping) for test in part.conditions]
        guarded = where(value, sympy.And(*conditions))
        return make_sum(guarded, inner)
