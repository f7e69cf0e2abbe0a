"""Values that the forward pass has computed, found again in derivatives by their formula."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

from sympy import Expr, Function, Idx, Indexed, Pow, Sum, Symbol

from symprop.functions import Normalisation, Reduction
from symprop.indices import (
    accesses,
    bound_indices,
    canonical,
    free_indices,
    rebuild,
    size,
    substitute,
    summation,
)
from symprop.network import Equation

__all__ = ["ForwardValues"]


class ForwardValues:
    """The values that the forward pass has computed, to be used again by name."""

    def __init__(self, forward: Iterable[Equation]) -> None:
        self.by_head: dict[type, list[Equation]] = {}
        for equation in forward:
            rhs = equation.rhs
            if isinstance(rhs, Function | Pow | Normalisation) and accesses(rhs):
                self.by_head.setdefault(type(rhs), []).append(equation)

    def reuse(self, expression: Expr) -> Expr:
        """Replace every function value in `expression` that has a name by that name.

        ``1 - tanh(net_h[j])**2`` becomes ``1 - h[j]**2``.
        """
        if not expression.args or isinstance(expression, Idx | Indexed | Symbol):
            return expression
        for equation in self.by_head.get(type(expression), ()):
            value = _instance(equation, expression)
            if value is not None:
                return value
        if isinstance(expression, Sum):
            return summation(self.reuse(expression.function), bound_indices(expression))
        if isinstance(expression, Reduction | Normalisation):
            return expression
        return rebuild(expression, map(self.reuse, expression.args))


def _instance(equation: Equation, expression: Expr) -> Expr | None:
    """Return the left side of `equation` where its right side is `expression`, else None.

    The indices of the equation may have to be renamed: all ways are tried, which
    are few. A power matches up to an integer exponent: 1/sqrt(v) is 1/s for s = sqrt(v).
    """
    own, there = equation.indices, free_indices(expression)
    if set(free_indices(equation.rhs)) != set(own) or len(own) != len(there):
        return None
    for order in permutations(there):
        renaming = dict(zip(own, order, strict=True))
        if any(size(old) != size(new) for old, new in renaming.items()):
            continue
        exponent = _matches(substitute(equation.rhs, renaming), expression)
        if exponent:
            return substitute(equation.lhs, renaming) ** exponent
    return None


def _matches(candidate: Expr, expression: Expr) -> int:
    """Return n where expression = candidate**n with an integer n, and 0 where there is none."""
    if isinstance(candidate, Pow) and candidate.base == expression.base:
        ratio = expression.exp / candidate.exp
        return int(ratio) if ratio.is_Integer else 0
    return int(canonical(candidate) == canonical(expression))
