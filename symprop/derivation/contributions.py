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
from sympy import Add, Basic, Expr, Idx, Indexed, IndexedBase, Mul, Sum, Symbol

from symprop.indices import (
    bound_indices,
    canonical,
    free_indices,
    fresh,
    freshen,
    guarded,
    index_name,
    make_sum,
    name_bound,
    numbered,
    size,
    substitute,
    where,
)
from symprop.network import Equation
from symprop.ranges import decided, solved, within

__all__ = [
    "Contribution",
    "factored",
    "gather",
    "gathered",
    "joined",
    "merged",
    "scatter",
    "summed",
]


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
    parts = [part for condition in conditions for part in sympy.And.make_args(condition)]
    inner = [part for part in parts if set(free_indices(part)) & set(loops)]
    outer = [part for part in parts if not set(free_indices(part)) & set(loops)]
    return _guarded(make_sum(_guarded(value, inner), loops), outer)


def _guarded(value: Expr, conditions: Iterable[Basic]) -> Expr:
    """Return `value` where all `conditions` hold, else 0."""
    return where(value, decided(sympy.And(*conditions)))


def merged(terms: list[Expr]) -> Expr:
    """Add the terms; those that differ only in the names of bound indices become one."""
    counts: dict[Expr, tuple[Expr, int]] = {}
    for term in terms:
        key = canonical(term)
        counts[key] = (counts[key][0] if key in counts else term, counts.get(key, (0, 0))[1] + 1)
    return Add(*(term * count for term, count in counts.values()))


def joined(scatters: list[Equation]) -> list[Equation]:
    """Make one equation of all scatters to the same subscripts, with one term a condition."""
    terms: dict[Expr, dict[Basic, list[Expr]]] = {}
    for scatter in scatters:
        value, condition = guarded(scatter.rhs)
        terms.setdefault(scatter.lhs, {}).setdefault(condition, []).append(value)
    return [
        Equation(lhs, factored(Add(*(where(factored(Add(*v)), c) for c, v in rhs.items()))), True)
        for lhs, rhs in terms.items()
    ]


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
    ``0 <= m - p < R``. Where a subscript has no solution, its equation remains as a condition.
    """
    loops = {index: fresh(index) for index in _loops(scatter)}
    subscripts = [substitute(subscript, loops) for subscript in scatter.indices]
    mapping = solved(subscripts, own, loops.values())
    reached = [substitute(subscript, mapping) for subscript in subscripts]
    conditions = [sympy.Eq(s, place) for s, place in zip(reached, own, strict=True) if s != place]
    conditions += within(mapping)
    value = substitute(freshen(scatter.rhs, loops), mapping)
    total = summed(value, conditions, (index for index in loops.values() if index not in mapping))
    return name_bound(total, map(index_name, own))


def summed(value: Expr, conditions: Iterable[Basic], loops: Iterable[Idx]) -> Expr:
    """Sum `value` over `loops` where `conditions` hold: of sums under a condition, one sum."""
    value, condition = guarded(value)
    found, bound = [*conditions, condition], [*loops]
    if isinstance(value, Sum):
        bound += bound_indices(value)
        value, condition = guarded(value.function)
        found.append(condition)
    return _guarded_sum(value, found, bound)


def _loops(scatter: Equation) -> tuple[Idx, ...]:
    found = dict.fromkeys(index for part in scatter.indices for index in free_indices(part))
    return (*found, *(index for index in free_indices(scatter.rhs) if index not in found))
