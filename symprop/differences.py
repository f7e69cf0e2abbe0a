"""Gradients found without `differentiate`: central differences and plain `sympy.diff`.

Both start from the network's own equations, as the user wrote them: neither the
stable rewriting nor the declared derivatives of functions are trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
import sympy
from numpy.typing import ArrayLike
from sympy import Expr, Symbol

from symprop.functions import Elementwise
from symprop.network import Equation, Network
from symprop.oracle import evaluate
from symprop.precise import DIGITS, MP, Floats, Objects, Value, mpf_array

__all__ = ["directional_derivatives", "symbolic_gradient"]

STEP_DIGITS = 20
"""Central differences use steps of 1e-20: truncation and cancellation are both near 1e-40."""


def directional_derivatives(
    equations: Sequence[Equation],
    point: Mapping[str, ArrayLike],
    directions: Sequence[Mapping[str, ArrayLike]],
) -> list[Any]:
    """Return the derivatives of the last equation's value along `directions`, as mpf.

    Central differences with steps of 1e-20 at 60 digits: relative errors near
    1e-40 where the function is smooth. `point` maps each name to one sample's array
    (no axis for samples); a direction maps some of the names to arrays of the
    same shapes.
    """
    step = MP.mpf(10) ** -STEP_DIGITS
    stacked = {}
    for name, array in point.items():
        base = mpf_array(np.asarray(array))[None]
        moves = [direction.get(name) for direction in directions]
        if any(move is not None for move in moves):
            steps = [mpf_array(np.asarray(0 if move is None else move)) * step for move in moves]
            base = np.stack([base[0] + s for step_ in steps for s in (step_, -step_)])
        stacked[name] = Value(*_plain(base))
    result = evaluate(equations, stacked)
    loss = result.values[equations[-1].name].exact
    loss = np.broadcast_to(loss, (2 * len(directions),))
    return [(loss[2 * k] - loss[2 * k + 1]) / (2 * step) for k in range(len(directions))]


def _plain(exact: Objects) -> tuple[Objects, Floats, Floats, Floats]:
    approximate = exact.astype(np.float64)
    return exact, approximate, np.abs(approximate), np.zeros(approximate.shape)


def symbolic_gradient(
    network: Network, point: Mapping[str, float], operations: int = 2000
) -> dict[str, Any] | None:
    """Return the gradient at `point` by plain `sympy.diff`, or None where that is too large.

    For networks without indices: every equation is substituted into the loss, and
    each function is replaced by its definition, so that not even the declared
    derivatives are trusted.
    """
    if any(variable.indices for variable in network.variables):
        return None
    loss = _substituted(network, operations)
    if loss is None:
        return None
    leaves = [v.symbol for v in (*network.inputs, *network.targets, *network.parameters)]
    gradients = [sympy.diff(loss, parameter.symbol) for parameter in network.parameters]
    extra = {"Heaviside": lambda x, half=0.5: mpmath.mpf(0 if x < 0 else half if x == 0 else 1)}
    compute = sympy.lambdify(leaves, gradients, modules=[extra, "mpmath"])
    with mpmath.workdps(DIGITS):
        found = compute(*(mpmath.mpf(float(point[str(leaf)])) for leaf in leaves))
        found = [MP.make_mpf(mpmath.mpmathify(number)._mpf_) for number in found]
    return {p.name: value for p, value in zip(network.parameters, found, strict=True)}


def _substituted(network: Network, operations: int) -> Expr | None:
    """Return the loss in inputs, targets and parameters; None where it has too many operations."""
    known_as: dict[Symbol, Expr] = {}
    counts: dict[Symbol, int] = {}
    for equation in network.equations:
        rhs = equation.rhs.replace(
            lambda node: isinstance(node, Elementwise), lambda node: node.definition()
        )
        reads = [node for node in sympy.preorder_traversal(rhs) if node in counts]
        counts[equation.lhs] = int(rhs.count_ops()) + sum(counts[node] for node in reads)
        if counts[equation.lhs] > operations:
            return None
        known_as[equation.lhs] = rhs.xreplace(known_as)
    return known_as[network.equations[-1].lhs]
