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

from collections.abc import Iterable
from dataclasses import dataclass

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
from symprop.lower.steps import name_of
from symprop.lower.values import Values, appearing, key, scopes
from symprop.network import Equation

__all__ = ["expand"]


def expand(equations: Iterable[Equation], values: Values) -> None:
    """Add `equations` to `values` with every logsumexp and softmax written out."""
    equations = tuple(equations)
    functions = (
        node
        for equation in equations
        for node in sympy.preorder_traversal(equation.rhs)
        if isinstance(node, Elementwise)
    )
    expansion = _Expansion(values, frozenset(key(node, appearing(node)) for node in functions))
    for equation in equations:
        rhs = expansion.visit(equation.rhs, ())
        values.add(Equation(equation.lhs, rhs, equation.accumulate))


@dataclass(frozen=True, slots=True)
class _Expansion:
    """The walk over the right sides; `computed` holds the keys of the functions in all of them."""

    values: Values
    computed: frozenset[Basic]

    def visit(self, node: Basic, guards: tuple[Basic, ...]) -> Basic:
        """Return `node` with its parts expanded; `guards` say where it is computed."""
        if not node.args or isinstance(node, Idx | Indexed | Symbol):
            return node
        if isinstance(node, Piecewise):
            return self._piecewise(node, guards)
        if isinstance(node, logsumexp | Normalisation):
            body = self.visit(node.body, guards)
            return self._written_out(rebind(node, body, node.bound, node.args[2:]), guards)
        bound = bound_indices(node)
        if bound:
            return rebind(node, self.visit(node.args[0], guards), bound, scopes(node)[1:])
        if isinstance(node, Elementwise) and self._is_product(node):
            node = node.product()
        return rebuild(node, (self.visit(part, guards) for part in node.args))

    def _is_product(self, node: Elementwise) -> bool:
        """Tell whether a function is a product whose other factor is computed anyway."""
        factors = node.product().atoms(Elementwise) - node.atoms(Elementwise)
        return bool(factors) and all(key(f, appearing(f)) in self.computed for f in factors)

    def _piecewise(self, node: Piecewise, guards: tuple[Basic, ...]) -> Expr:
        pairs = []
        for value, condition in branches(node):
            test = self.visit(condition, guards)
            pairs.append((self.visit(value, (*guards, test)), test))
            guards = (*guards, sympy.Not(test))
        return piecewise(*pairs)

    def _written_out(self, node: logsumexp | Normalisation, guards: tuple[Basic, ...]) -> Expr:
        hint, name = _hint(node.body), self.values.name
        largest = name(reduce_max(node.body, *node.bound), f"max_{hint}", guards)
        exponential = name(exp(node.body - largest), f"exp_{hint}", guards)
        total = name(summation(exponential, node.bound), f"sum_{hint}", guards)
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
