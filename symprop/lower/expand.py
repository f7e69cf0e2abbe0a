"""Pass 1: stable reductions become plain equations.

``logsumexp(z[k], k)`` is the largest value plus the logarithm of a sum of
exponentials that cannot overflow; `softmax` is the same exponentials over the
same sum. Value numbering makes all reductions of one ``z`` share them::

    max_z = reduce_max(z[k], k)
    exp_z[k] = exp(z[k] - max_z)
    sum_z = Sum(exp_z[k], k)
    p[k] = exp_z[k]/sum_z                                  # softmax(z[k], k)
    L = max_z + log(sum_z) - Sum(t[k]*z[k], k)             # logsumexp(z[k], k) - ...

A function that is a product with another one, as ``gelu(z) = z*normal_cdf(z)``, is written so where
the other one is computed anyway: its derivative needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sympy
from sympy import Basic, Expr, Idx, Indexed, Piecewise, Symbol, exp, log

from symprop.functions import (
    Elementwise,
    Normalisation,
    log_softmax,
    logsumexp,
    reduce_max,
    softmax,
)
from symprop.indices import (
    bound_indices,
    branches,
    piecewise,
    rebind,
    rebuild,
    substitute,
    summation,
)
from symprop.lower.program import name_of
from symprop.lower.values import Values, appearing, key, scopes
from symprop.network import Equation

__all__ = ["expand"]


def expand(equations: Iterable[Equation], values: Values) -> None:
    """Add `equations` to `values` with every logsumexp and softmax written out."""
    for equation in _with_products(tuple(equations)):
        rhs = _expanded(equation.rhs, values, ())
        values.add(Equation(equation.lhs, rhs, equation.accumulate))


def _with_products(equations: tuple[Equation, ...]) -> Iterator[Equation]:
    """Yield the equations with functions as products whose other factor is computed anyway."""
    computed = {
        key(node, appearing(node))
        for equation in equations
        for node in sympy.preorder_traversal(equation.rhs)
        if isinstance(node, Elementwise)
    }

    def wanted(node: Basic) -> bool:
        if not isinstance(node, Elementwise):
            return False
        factors = node.product().atoms(Elementwise) - node.atoms(Elementwise)
        return bool(factors) and all(key(f, appearing(f)) in computed for f in factors)

    for equation in equations:
        rhs = equation.rhs.replace(wanted, lambda node: node.product())
        yield Equation(equation.lhs, rhs, equation.accumulate)


def _expanded(node: Basic, values: Values, guards: tuple[Basic, ...]) -> Basic:
    if not node.args or isinstance(node, Idx | Indexed | Symbol):
        return node
    if isinstance(node, Piecewise):
        return _piecewise(node, values, guards)
    if isinstance(node, logsumexp | Normalisation):
        body = _expanded(node.body, values, guards)
        return _written_out(rebind(node, body, node.bound, node.args[2:]), values, guards)
    bound = bound_indices(node)
    if bound:
        return rebind(node, _expanded(node.args[0], values, guards), bound, scopes(node)[1:])
    return rebuild(node, (_expanded(part, values, guards) for part in node.args))


def _piecewise(node: Piecewise, values: Values, guards: tuple[Basic, ...]) -> Expr:
    pairs = []
    for value, condition in branches(node):
        test = _expanded(condition, values, guards)
        pairs.append((_expanded(value, values, (*guards, test)), test))
        guards = (*guards, sympy.Not(test))
    return piecewise(*pairs)


def _written_out(
    node: logsumexp | Normalisation, values: Values, guards: tuple[Basic, ...]
) -> Expr:
    hint = _hint(node.body)
    largest = values.name(reduce_max(node.body, *node.bound), f"max_{hint}", guards)
    exponential = values.name(exp(node.body - largest), f"exp_{hint}", guards)
    total = values.name(summation(exponential, node.bound), f"sum_{hint}", guards)
    if isinstance(node, logsumexp):
        return largest + log(total)
    at = {node.bound[0]: node.at}
    if isinstance(node, softmax):
        return substitute(exponential, at) / total
    if isinstance(node, log_softmax):
        return substitute(node.body, at) - largest - log(total)
    raise TypeError(f"{type(node).__name__}: not a reduction that can be written out")


def _hint(body: Expr) -> str:
    """Return what the names of a reduction's parts are made from: the name that it reduces."""
    return name_of(body).replace("/", "_") if isinstance(body, Symbol | Indexed) else "values"
