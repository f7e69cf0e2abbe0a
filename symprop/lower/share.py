"""Pass 2: compute every value once.

Three kinds of expression get an equation of their own:

- a reduction that does not depend on all of the loops around it, so that it is
  not computed again and again (``z[k]/Sum(z[k2], k2)``), after sums have been
  pushed inwards, ``Sum(A[i,j]*Sum(B[j,k]*x[k], k), j)``;
- a transcendental function that occurs in several equations (``tanh(z[k])`` forward and
  backward), or that does not depend on all of the loops around it;
- a reduction inside one branch of a `Piecewise`, which is then computed only
  where that branch is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import sympy
from sympy import Basic, Expr, Function, Idx, Indexed, Mul, Piecewise, Sum, Symbol

from symprop.functions import Reduction, leaky_relu, relu, step
from symprop.indices import (
    accesses,
    bound_indices,
    branches,
    free_indices,
    piecewise,
    rebind,
    rebuild,
    summation,
)
from symprop.lower.steps import name_of
from symprop.lower.values import Values, appearing, key, scopes
from symprop.network import Equation

__all__ = ["live", "share"]

_SAMPLE = Idx("_sample", 1)
"""Stands for the loop over the samples among the loops around an expression."""

_CHEAP = (step, relu, leaky_relu, sympy.Abs, sympy.sign, sympy.Max, sympy.Min)


def live(equations: Iterable[Equation], wanted: Iterable[str]) -> tuple[Equation, ...]:
    """Return the equations that the `wanted` values need, in their order."""
    needed = set(wanted)
    kept: list[Equation] = []
    for equation in reversed(tuple(equations)):
        if equation.name in needed:
            kept.append(equation)
            parts = (equation.rhs, *equation.indices)
            needed |= {name_of(leaf) for part in parts for leaf in accesses(part)}
    return tuple(reversed(kept))


def share(equations: tuple[Equation, ...], values: Values) -> None:
    """Add `equations` to `values`, naming what would be computed more than once."""
    uses = Counter(
        key(node, appearing(node))
        for equation in equations
        for node in sympy.preorder_traversal(equation.rhs)
        if _transcendental(node)
    )
    for equation in equations:
        varies = any(map(values.varies, (equation.rhs, *equation.indices)))
        own = [index for part in equation.indices for index in free_indices(part)]
        own += free_indices(equation.rhs)
        around = frozenset(own) | ({_SAMPLE} if varies else frozenset())
        rhs = _Sharing(values, uses, equation).whole(around)
        values.add(Equation(equation.lhs, rhs, equation.accumulate))


def _transcendental(node: Basic) -> bool:
    return isinstance(node, Function) and not isinstance(node, (*_CHEAP, Reduction, Piecewise))


class _Sharing:
    """One walk over the right side of one equation."""

    def __init__(self, values: Values, uses: Counter[Basic], equation: Equation) -> None:
        self.values = values
        self.uses = uses
        self.rhs = equation.rhs
        self.hint = equation.name.replace("/", "_")

    def whole(self, around: frozenset[Idx]) -> Expr:
        """Return the right side; a Piecewise at its root may keep the sums in its branches."""
        if isinstance(self.rhs, Piecewise):
            return self._piecewise(self.rhs, around, (), named=False)
        if _transcendental(self.rhs):  # the equation itself names it
            return rebuild(self.rhs, (self._visit(part, around, ()) for part in self.rhs.args))
        return self._visit(self.rhs, around, ())

    def _visit(
        self, node: Basic, around: frozenset[Idx], guards: tuple[Basic, ...], named: bool = False
    ) -> Basic:
        """Return `node` with names in it; with `named`, reductions always get one."""
        if not node.args or isinstance(node, Idx | Indexed | Symbol):
            return node
        if isinstance(node, Piecewise):
            return self._piecewise(node, around, guards, named=True)
        bound = bound_indices(node)
        if bound:
            return self._reduction(node, around, guards, named)
        shown = rebuild(node, (self._visit(part, around, guards, named) for part in node.args))
        if _transcendental(node) and (
            self.uses[key(node, appearing(node))] > 1 or self._loops(shown) < around
        ):
            return self.values.name(shown, f"{type(node).__name__}_{self.hint}", guards)
        return shown

    def _piecewise(
        self, node: Piecewise, around: frozenset[Idx], guards: tuple[Basic, ...], named: bool
    ) -> Expr:
        pairs = []
        for value, condition in branches(node):
            test = self._visit(condition, around, guards, named=True)
            pairs.append((self._visit(value, around, (*guards, test), named), test))
            guards = (*guards, sympy.Not(test))
        return piecewise(*pairs)

    def _reduction(
        self, node: Expr, around: frozenset[Idx], guards: tuple[Basic, ...], named: bool
    ) -> Expr:
        if isinstance(node, Sum):
            node = _pushed_inwards(node)
        if not isinstance(node, Sum | Reduction):
            return self._visit(node, around, guards, named)
        bound = bound_indices(node)
        body = self._visit(node.args[0], around | set(bound), guards)
        shown = rebind(node, body, bound, scopes(node)[1:])
        if named or self._loops(shown) < around:
            prefix = "sum" if isinstance(node, Sum) else type(node).__name__.removeprefix("reduce_")
            return self.values.name(shown, f"{prefix}_{self.hint}", guards)
        return shown

    def _loops(self, node: Basic) -> frozenset[Idx]:
        """Return the loops that the value of `node` depends on."""
        varies = frozenset((_SAMPLE,)) if self.values.varies(node) else frozenset()
        return frozenset(free_indices(node)) | varies


def _pushed_inwards(node: Sum) -> Expr:
    """Sum as few factors at a time as possible: ``Sum(A*Sum(B*C, k), j)`` for ``Sum(A*B*C, j, k)``.

    >>> j, k = Idx("j", 3), Idx("k", 2)
    >>> a, b = sympy.symbols("a b", cls=sympy.IndexedBase)
    >>> _pushed_inwards(Sum(a[j] * b[j, k], (j, 0, 2), (k, 0, 1)))
    Sum(a[j]*Sum(b[j, k], (k, 0, 1)), (j, 0, 2))
    """
    factors = Mul.make_args(node.function)
    bound = [*bound_indices(node)]
    while len(bound) > 1 or len(factors) > 2:
        found = _innermost(factors, bound)
        if found is None:
            break
        inside = [f for f in factors if found in free_indices(f)]
        bound.remove(found)
        outside = [f for f in factors if found not in free_indices(f)]
        inner = summation(Mul(*inside), [found])
        factors = (*outside, inner)
    return summation(Mul(*factors), bound) if bound else Mul(*factors)


def _innermost(factors: Iterable[Expr], bound: list[Idx]) -> Idx | None:
    """Return the index that is best summed first: in some factors only, with the fewest loops."""
    best: tuple[int, Idx] | None = None
    for index in bound:
        inside = [factor for factor in factors if index in free_indices(factor)]
        if len(inside) == len(tuple(factors)):
            continue
        loops = set().union(*(free_indices(factor) for factor in inside))
        if best is None or len(loops) < best[0]:
            best = (len(loops), index)
    return None if best is None else best[1]
