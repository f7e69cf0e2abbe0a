"""Pass in lanes: reductions as steps, so that the samples stay the innermost loop.

``y[s] = Sum(a[k,s]*b[k,s], k)`` as one statement would run over k inside the loop over the
samples. As two steps, ``y[s] = 0`` and ``y[s] += a[k,s]*b[k,s]`` for all k and s, each
innermost loop runs over neighbouring samples. What is reduced inside another expression gets
an accumulator of its own. Steps without samples are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import sympy
from sympy import Basic, Expr, Idx, Indexed, Piecewise, Sum, Symbol

from symprop.functions import reduce_max, reduce_min
from symprop.indices import (
    bound_indices,
    branches,
    piecewise,
    rebuild,
    substitute,
    where,
)
from symprop.lower.passes import LanePass
from symprop.lower.steps import (
    Compute,
    Step,
    element,
    name_of,
    renewed,
)

__all__ = ["accumulate"]

_REDUCTIONS = (Sum, reduce_max, reduce_min)


def accumulate(
    steps: Iterable[Step], shapes: Mapping[str, tuple[int, ...]], taken: set[str], block: int
) -> tuple[tuple[Step, ...], dict[str, tuple[int, ...]]]:
    """Return `steps` with every reduction over lanes as steps, and the shapes of all tensors.

    The names of the accumulators are added to `taken`; each has room for `block` samples.
    """
    return _Accumulators(dict(shapes), taken, block).run(steps)


class _Accumulators(LanePass):
    def add(self, step: Compute) -> None:
        """Append a step, after those that compute the reductions in it."""
        if not step.value.has(*_REDUCTIONS):
            self.done.append(step)
            return
        if step.accumulate and isinstance(step.value, Sum):
            self._summed(step.target, step.value, step.loops, sympy.true, step.comment)
            return
        plain = isinstance(step.target, Indexed) and step.target.indices == step.loops
        if plain and not step.accumulate and isinstance(step.value, _REDUCTIONS):
            self._reduced(step.target, step.value, step.loops, sympy.true, step.comment)
            return
        value = self._without(step.value, step, sympy.true)
        self.done.append(replace(step, value=value))

    def _without(self, node: Basic, step: Compute, guard: Basic) -> Basic:
        """Return `node` with accumulators for its reductions, which count where `guard` holds."""
        if not node.has(*_REDUCTIONS) or isinstance(node, Idx | Indexed | Symbol):
            return node
        if isinstance(node, Piecewise):
            return self._guarded(node, step, guard)
        if not isinstance(node, _REDUCTIONS):
            return rebuild(node, (self._without(part, step, guard) for part in node.args))
        accumulator = element(self.tensor(f"total_{name_of(step.target)}", step.loops), step.loops)
        self._reduced(accumulator, node, step.loops, guard, "")
        return accumulator

    def _guarded(self, node: Piecewise, step: Compute, guard: Basic) -> Expr:
        pairs = []
        for value, condition in branches(node):
            pairs.append((self._without(value, step, sympy.And(guard, condition)), condition))
            guard = sympy.And(guard, sympy.Not(condition))
        return piecewise(*pairs)

    def _reduced(
        self, target: Indexed, node: Expr, loops: tuple[Idx, ...], guard: Basic, comment: str
    ) -> None:
        """Append the steps of ``target = node``."""
        own = {index: renewed(index) for index in loops}
        start, bottom = (
            substitute(target, own),
            {Sum: 0, reduce_max: -sympy.oo, reduce_min: sympy.oo},
        )
        self.done.append(Compute(start, sympy.sympify(bottom[type(node)]), tuple(own.values())))
        if isinstance(node, Sum):
            self._summed(target, node, loops, guard, comment)
        else:
            choice = sympy.Function("maximum" if isinstance(node, reduce_max) else "minimum")
            inner = _extended(loops, bound_indices(node))
            step = Compute(target, node.body, inner, comment=comment)
            body = choice(target, self._without(node.body, step, guard))
            self.done.append(replace(step, value=piecewise((body, guard), (target, sympy.true))))

    def _summed(
        self, target: Expr, node: Sum, loops: tuple[Idx, ...], guard: Basic, comment: str
    ) -> None:
        """Append the steps of ``target += node``."""
        step = Compute(target, node.function, _extended(loops, bound_indices(node)), True, comment)
        if isinstance(node.function, Sum):
            self._summed(target, node.function, step.loops, guard, comment)
            return
        value = self._without(node.function, step, guard)
        value = where(value, guard)
        self.done.append(replace(step, value=value))


def _extended(loops: tuple[Idx, ...], bound: tuple[Idx, ...]) -> tuple[Idx, ...]:
    """Return the loops with others further inside, but outside of the samples."""
    return (*loops[:-1], *bound, loops[-1])
