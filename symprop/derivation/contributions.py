"""What one place where a variable is read adds to the variable's adjoint.

A contribution has its own loops. Where the variable is read at plain indices, they
are renamed to the variable's own and the contribution becomes a term of the
adjoint (a gather); everywhere else it is added at the subscripts of the read (a
scatter), for which `gathered` gives the equivalent sum for people to read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy
from sympy import Add, Basic, Expr, Idx, Indexed, IndexedBase, Mul, Symbol

from symprop.indices import (
    accesses,
    canonical,
    free_indices,
    fresh,
    freshen,
    index_name,
    make_sum,
    name_bound,
    numbered,
    size,
    substitute,
    where,
)
from symprop.network import Equation

__all__ = ["Contribution", "factored", "gather", "gathered", "joined", "merged", "scatter"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one place where a variable is read adds to its adjoint.

    For all values of `loops`, `value` is added to the adjoint at `access`, where
    the `conditions` hold.
    """

    access: Symbol | Indexed
    loops: tuple[Idx, ...]
    value: Expr
    conditions: tuple[Basic, ...]


def gather(part: Contribution, value: Expr, own: tuple[Idx, ...]) -> Expr | None:
    """Return the contribution at the variable's `own` indices; None where it must scatter.

    Each subscript has to be another loop index over the whole axis.
    """
    subscripts = part.access.indices if isinstance(part.access, Indexed) else ()
    plain = all(
        subscript in part.loops and size(subscript) == size(index)
        for subscript, index in zip(subscripts, own, strict=True)
    )
    if not plain or len(set(subscripts)) < len(subscripts):
        return None
    mapping = dict(zip(subscripts, own, strict=True))
    loops = [index for index in part.loops if index not in mapping]
    conditions = [substitute(condition, mapping) for condition in part.conditions]
    return _guarded_sum(substitute(value, mapping), conditions, loops)


def scatter(part: Contribution, value: Expr, symbol: IndexedBase) -> Equation:
    """Return the contribution as an equation that adds at the subscripts of the access."""
    placed = free_indices(part.access)
    names: dict[Idx, Idx] = {}
    for index in part.loops:
        if index in placed:
            taken = {index_name(new) for new in names.values()}
            name = next(name for name in numbered(index_name(index)) if name not in taken)
            names[index] = Idx(name, size(index))
    loops = [index for index in part.loops if index not in placed]
    conditions = [substitute(condition, names) for condition in part.conditions]
    rhs = _guarded_sum(substitute(value, names), conditions, loops)
    lhs = symbol[tuple(substitute(subscript, names) for subscript in part.access.indices)]
    shown = [index_name(new) for new in names.values()]
    return Equation(lhs, name_bound(factored(rhs), shown), accumulate=True)


def _guarded_sum(value: Expr, conditions: Iterable[Basic], loops: list[Idx]) -> Expr:
    """Sum `value` over `loops` where the `conditions` hold, each tested as far out as it can be."""
    inner = [c for c in conditions if set(free_indices(c)) & set(loops)]
    outer = [c for c in conditions if not set(free_indices(c)) & set(loops)]
    return _guarded(make_sum(_guarded(value, inner), loops), outer)


def _guarded(value: Expr, conditions: Iterable[Basic]) -> Expr:
    """Return `value` where all `conditions` hold, else 0."""
    condition = sympy.And(*conditions)
    return where(value, condition)


def merged(terms: list[Expr]) -> Expr:
    """Add the terms; those that differ only in the names of bound indices become one."""
    counts: dict[Expr, tuple[Expr, int]] = {}
    for term in terms:
        key = canonical(term)
        counts[key] = (counts[key][0] if key in counts else term, counts.get(key, (0, 0))[1] + 1)
    return Add(*(term * count for term, count in counts.values()))


def joined(scatters: list[Equation]) -> list[Equation]:
    """Make one equation of all scatters to the same subscripts."""
    terms: dict[Expr, list[Expr]] = {}
    for scatter in scatters:
        terms.setdefault(scatter.lhs, []).append(scatter.rhs)
    return [Equation(lhs, factored(Add(*rhs)), True) for lhs, rhs in terms.items()]


def factored(expression: Expr) -> Expr:
    """Write a sum of products with the factors that all terms share outside.

    ``p*d - p*s`` becomes ``p*(d - s)``.
    """
    if not isinstance(expression, Add):
        return _signed(expression)
    terms = [Mul.make_args(term) for term in expression.args]
    shared = [
        factor
        for factor in terms[0]
        if not factor.is_number and all(factor in term for term in terms[1:])
    ]
    rest = [Mul(*(factor for factor in term if factor not in shared)) for term in terms]
    return Mul(*shared, Add(*map(_signed, rest)))


def _signed(term: Expr) -> Expr:
    """Move a minus into a difference of two variables: ``-(t - y)`` becomes ``y - t``."""
    if not isinstance(term, Mul) or not term.args[0].is_number or not term.args[0].is_negative:
        return term
    number, *factors = term.args
    for place, factor in enumerate(factors):
        if isinstance(factor, Add) and not any(part.is_number for part in factor.args):
            factors[place] = Add(*(-part for part in factor.args))
            return Mul(-number, *factors)
    return term


def gathered(scatter: Equation, own: tuple[Idx, ...]) -> Expr:
    """Return what a scatter adds to the element at `own`: the equivalent sum with its bounds.

    ``dx[r + p] += dy[r]*w[p]`` adds to ``dx[m]`` the sum over p of ``dy[m - p]*w[p]`` where
    ``0 <= m - p < R``.
    Each subscript is solved for the longest index that it has with the factor 1
    or -1; where it has none, the equation of the subscript remains as a condition.
    """
    loops = {index: fresh(index) for index in _loops(scatter)}
    subscripts = [substitute(subscript, loops) for subscript in scatter.indices]
    value = substitute(freshen(scatter.rhs), loops)
    remaining = list(loops.values())
    conditions: list[Basic] = []
    for axis, place in enumerate(own):
        subscript = subscripts[axis]
        solved = _solved(subscript, place, remaining)
        if solved is None:
            conditions.append(sympy.Eq(subscript, place))
            continue
        index, solution = solved
        remaining.remove(index)
        if solution != place or size(index) < size(place):
            conditions.append(_within(solution, index, place))
        value = substitute(value, {index: solution})
        conditions = [substitute(condition, {index: solution}) for condition in conditions]
        subscripts = [substitute(other, {index: solution}) for other in subscripts]
    total = _guarded_sum(value, conditions, remaining)
    return name_bound(total, map(index_name, own))


def _loops(scatter: Equation) -> tuple[Idx, ...]:
    found = dict.fromkeys(index for part in scatter.indices for index in free_indices(part))
    return (*found, *(index for index in free_indices(scatter.rhs) if index not in found))


def _solved(subscript: Expr, place: Idx, loops: list[Idx]) -> tuple[Idx, Expr] | None:
    """Solve ``subscript = place`` for one of `loops`; None where none has the factor 1 or -1."""
    candidates = [index for index in loops if subscript.coeff(index) in (1, -1)]
    if not candidates or accesses(subscript):
        return None
    index = max(candidates, key=size)
    sign = subscript.coeff(index)
    return index, sign * (place - (subscript - sign * index))


def _within(solution: Expr, index: Idx, place: Idx) -> Basic:
    """Return the condition that `solution` is a value of `index`."""
    if solution == place:
        return place <= size(index) - 1
    return sympy.And(solution >= 0, solution <= size(index) - 1)
