"""The values that expressions of indices take: every combination of the indices, tried at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy import Basic, Expr, Idx, Symbol

from symprop.errors import NetworkError
from symprop.indices import size, substitute

__all__ = ["grid", "is_arithmetic", "subscript_range"]

_COMBINATIONS = 50_000_000
"""Values of the indices of one subscript that are tried, at 9 bytes each."""

_ARITHMETIC = (
    sympy.Number, sympy.Add, sympy.Mul, sympy.Pow, sympy.Mod, sympy.floor, sympy.ceiling,
    sympy.Max, sympy.Min, sympy.Abs, sympy.core.relational.Relational, sympy.And, sympy.Or,
    sympy.Not, sympy.logic.boolalg.BooleanAtom,
)  # fmt: skip
"""What a condition on the range of a subscript may be made of."""


def is_arithmetic(expression: Basic) -> bool:
    """Tell whether `expression`, a number or a condition, is made of nothing but indices."""
    if isinstance(expression, Idx):
        return True
    return isinstance(expression, _ARITHMETIC) and all(map(is_arithmetic, expression.args))


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
