"""Arithmetic on indices: the values that subscripts and conditions take, and where they do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy import Add, Basic, Expr, Idx, Symbol
from sympy.core.relational import Relational

from symprop.errors import NetworkError
from symprop.indices import size, substitute

__all__ = ["decided", "grid", "is_affine", "is_arithmetic", "solved", "subscript_range", "within"]

_COMBINATIONS = 50_000_000
"""Values of the indices of one subscript that are tried, at 9 bytes each."""

_ARITHMETIC = (
    sympy.Number, sympy.Add, sympy.Mul, sympy.Pow, sympy.Mod, sympy.floor, sympy.ceiling,
    sympy.Max, sympy.Min, sympy.Abs, Relational, sympy.And, sympy.Or,
    sympy.Not, sympy.logic.boolalg.BooleanAtom,
)  # fmt: skip
"""What a condition on the range of a subscript may be made of."""


def is_arithmetic(expression: Basic) -> bool:
    """Tell whether `expression`, a number or a condition, is made of nothing but indices."""
    if isinstance(expression, Idx):
        return True
    return isinstance(expression, _ARITHMETIC) and all(map(is_arithmetic, expression.args))


def is_affine(subscript: Expr) -> bool:
    """Tell whether `subscript` is a combination of indices with integer factors, and a number."""
    return _affine_range(subscript) is not None


def grid(expression: Basic, axes: Sequence[Idx]) -> NDArray[Any]:
    """Return the values of an expression of indices, an axis for each of `axes`; not to be written.

    >>> i, j = Idx("i", 2), Idx("j", 3)
    >>> grid(2 * i + j, (i, j)).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    own = {
        axis: Symbol(f"q{n}", integer=True) for n, axis in enumerate(axes) if expression.has(axis)
    }
    shape = tuple(size(axis) if axis in own else 1 for axis in axes)
    # of one shape: NumPy joins conditions as the rows of an array
    grids = [np.broadcast_to(g, shape) for g in np.ix_(*(np.arange(n) for n in shape))]
    function = sympy.lambdify(list(own.values()), substitute(expression, own), "numpy")
    values = function(*(g for g, axis in zip(grids, axes, strict=True) if axis in own))
    return np.broadcast_to(values, tuple(map(size, axes)))


def subscript_range(subscript: Expr, conditions: Iterable[Basic] = ()) -> tuple[int, int]:
    """Return the smallest and largest value of a subscript where the index conditions hold.

    Exact: where there are conditions, every combination of the indices is tried (they are
    few in any subscript); what is no arithmetic on indices narrows no range. Where the conditions
    never hold, (0, 0) is returned. Raises `NetworkError` where there are too many combinations.
    """
    parts = [part for condition in conditions for part in sympy.And.make_args(condition)]
    relevant = [part for part in parts if is_arithmetic(part) and part is not sympy.true]
    ends = None if relevant else _affine_range(subscript)
    if ends:
        return ends
    indices = sorted(
        set().union(subscript.atoms(Idx), *(c.atoms(Idx) for c in relevant)),
        key=lambda index: index.sort_key(),
    )
    if math.prod(map(size, indices)) > _COMBINATIONS:
        raise NetworkError(
            f"subscript {subscript}: its indices and those of its conditions have more than "
            f"{_COMBINATIONS:,} combinations, too many to check; split the equation"
        )
    allowed = np.ones(tuple(map(size, indices)), dtype=np.bool_)
    for part in relevant:
        allowed &= grid(part, indices)
    values = grid(subscript, indices)[allowed]
    return (int(values.min()), int(values.max())) if values.size else (0, 0)


def decided(condition: Basic) -> Basic:
    """Return a condition without terms that both its sides have; true or false if it always is.

    >>> i, k = Idx("i", 4), Idx("k", 2)
    >>> decided(i + 2 * k >= 2 * k), decided(i + k < 3 + k)
    (True, i < 3)
    """
    if isinstance(condition, sympy.And | sympy.Or | sympy.Not):
        return condition.func(*map(decided, condition.args))
    if not isinstance(condition, Relational):
        return condition
    left, right = condition.args
    ends = _affine_range(left - right)
    if ends and (found := _always(condition.func, *ends)) is not None:
        return found
    shared = Add(*(set(Add.make_args(left)) & set(Add.make_args(right))))
    return condition.func(left - shared, right - shared) if shared != 0 else condition


def _always(relation: type[Relational], low: int, high: int) -> Basic | None:
    """Return what the relation of a number to 0 is wherever the number lies; None if it varies."""
    if relation in (sympy.Eq, sympy.Ne):
        varies = low <= 0 <= high and low < high
    else:
        varies = relation(low, 0) != relation(high, 0)
    return None if varies else relation(low, 0)


def solved(
    subscripts: Iterable[Expr], places: Iterable[Idx], indices: Iterable[Idx]
) -> dict[Idx, Expr]:
    """Solve ``subscripts = places`` for some of `indices`.

    Each subscript is solved for the longest index that it has with the factor 1 or -1, if any;
    `within` gives the conditions under which the solutions are values of these indices.

    >>> m, r, p = Idx("m", 5), Idx("r", 4), Idx("p", 2)
    >>> solved([r + p], [m], [r, p])
    {r: m - p}
    """
    mapping: dict[Idx, Expr] = {}
    left = list(indices)
    for subscript, place in zip(subscripts, places, strict=True):
        reached = substitute(subscript, mapping)
        found = _unit(reached, left)
        if found is not None:
            sign = reached.coeff(found)
            solution = {found: sympy.expand(sign * (place - reached) + found)}
            left.remove(found)
            mapping = {i: substitute(value, solution) for i, value in mapping.items()} | solution
    return mapping


def within(mapping: Mapping[Idx, Expr]) -> list[Basic]:
    """Return the conditions that what indices are replaced by is a value of theirs.

    >>> m, r, p = Idx("m", 5), Idx("r", 4), Idx("p", 2)
    >>> within({r: m - p, p: p})
    [(m - p >= 0) & (m - p <= 3)]
    """
    conditions: list[Basic] = []
    for index, value in mapping.items():
        if not isinstance(value, Idx):
            ends = sympy.And(value >= 0, value <= size(index) - 1)
            conditions.append(decided(ends))
        elif size(value) > size(index):
            conditions.append(value <= size(index) - 1)
    return conditions


def _unit(subscript: Expr, indices: Iterable[Idx]) -> Idx | None:
    """Return the longest of `indices` with which a subscript moves by one; None if it has none."""
    found = [index for index in indices if subscript.coeff(index) in (1, -1)]
    return max(found, key=size) if found and is_arithmetic(subscript) else None


def _affine_range(subscript: Expr) -> tuple[int, int] | None:
    """Return the ends of an integer combination of indices, from its corners; else None."""
    constant, terms = sympy.expand(subscript).as_coeff_add()
    low = high = constant
    for term in terms:
        factor, index = term.as_coeff_Mul()
        if not (isinstance(index, Idx) and factor.is_Integer):
            return None
        end = factor * (size(index) - 1)
        low, high = low + min(end, 0), high + max(end, 0)
    return (int(low), int(high)) if constant.is_Integer else None
