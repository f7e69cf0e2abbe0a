"""What an expression is worth: plain mpmath, by the definitions of SymPy's and symprop's functions.

For tests of single expressions. It shares nothing with the oracle, which works on
whole networks and bounds rounding errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import mpmath
import sympy
from sympy import Basic, Idx, Indexed, Piecewise, Sum, Symbol
from sympy.codegen.cfunctions import expm1, log1p

from symprop.functions import logsumexp, reduce_max, reduce_min, softmax
from symprop.indices import bound_indices, branches, size

Names = Mapping[str, Any]
"""A number for every scalar, a function of the subscripts for every tensor."""

_FOLDS: dict[type, Callable[..., Any]] = {
    sympy.Add: lambda *terms: mpmath.fsum(terms),
    sympy.Mul: lambda *factors: mpmath.fprod(factors),
    sympy.Pow: lambda base, power: mpmath.power(base, power),
    sympy.exp: mpmath.exp,
    sympy.log: mpmath.log,
    sympy.tanh: mpmath.tanh,
    sympy.sinh: mpmath.sinh,
    sympy.cosh: mpmath.cosh,
    sympy.erf: mpmath.erf,
    sympy.erfc: mpmath.erfc,
    sympy.Abs: abs,
    sympy.sign: mpmath.sign,
    sympy.Max: max,
    sympy.Min: min,
    expm1: lambda z: mpmath.exp(z) - 1,
    log1p: lambda z: mpmath.log(1 + z),
}


def value(node: Basic, names: Names, indices: Mapping[Idx, int] | None = None) -> Any:
    """Return the value of `node` at mpmath's working precision; free indices have `indices`."""
    indices = indices or {}
    if isinstance(node, Idx):
        return indices[node]
    if isinstance(node, Indexed):
        subscripts = (int(value(part, names, indices)) for part in node.indices)
        return names[str(node.base.label)](*subscripts)
    if isinstance(node, Symbol):
        return names[node.name]
    if node.is_number and not node.atoms(sympy.Function, Sum):
        return mpmath.mpmathify(sympy.N(node, mpmath.mp.dps))
    if isinstance(node, Piecewise):
        return next(
            value(part, names, indices)
            for part, condition in branches(node)
            if condition is sympy.true or holds(condition, names, indices)
        )
    if bound_indices(node):
        return _reduction(node, names, indices)
    if type(node) in _FOLDS:
        return _FOLDS[type(node)](*(value(part, names, indices) for part in node.args))
    return value(node.definition(), names, indices)


def holds(condition: Basic, names: Names, indices: Mapping[Idx, int]) -> bool:
    """Return the truth of a relation, or of a conjunction or negation of relations."""
    if isinstance(condition, sympy.And | sympy.Or):
        fold = all if isinstance(condition, sympy.And) else any
        return fold(holds(part, names, indices) for part in condition.args)
    if isinstance(condition, sympy.Not):
        return not holds(condition.args[0], names, indices)
    left, right = (value(part, names, indices) for part in condition.args)
    return bool(condition.func(sympy.sign(left - right), 0))


def _reduction(node: Basic, names: Names, indices: Mapping[Idx, int]) -> Any:
    """Evaluate what binds indices, from the values of its body at all their positions."""
    bound = bound_indices(node)

    def body(place: tuple[int, ...]) -> Any:
        return value(node.args[0], names, {**indices, **dict(zip(bound, place, strict=True))})

    values = [body(place) for place in product(*(range(size(index)) for index in bound))]
    if isinstance(node, Sum):
        return mpmath.fsum(values)
    if isinstance(node, reduce_max | reduce_min):
        return (max if isinstance(node, reduce_max) else min)(values)
    total = mpmath.log(mpmath.fsum(map(mpmath.exp, values)))
    if isinstance(node, logsumexp):
        return total
    logarithm = body((int(value(node.at, names, indices)),)) - total
    return mpmath.exp(logarithm) if isinstance(node, softmax) else logarithm
