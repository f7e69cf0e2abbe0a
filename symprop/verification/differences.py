"""The formulas against gradients found without them: central differences and `sympy.diff`.

Both start from the network's own equations, as the user wrote them: neither the
stable rewriting nor the declared derivatives of functions are trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import sympy
from numpy.typing import ArrayLike
from sympy import Expr, Symbol

from symprop.functions import Elementwise
from symprop.network import Equation, Network
from symprop.verification.oracle import Evaluation, evaluate
from symprop.verification.points import Arrays, Derived, Point, integer_data, terms
from symprop.verification.precise import DIGITS, MP, Floats, Objects, Value, mpf_array

__all__ = ["Agreement", "compare_formulas", "directional_derivatives", "symbolic_gradient"]

STEP_DIGITS = 20
"""Central differences use steps of 1e-20: truncation and cancellation are both near 1e-40."""


AGREEMENT = 1e-25
"""How closely two exact gradients must agree, relative to the sum of |terms|: central
differences at 60 digits are right to about 1e-38, which leaves room for large third derivatives."""

MOST_TERMS = 2_000_000
"""How many terms the central differences of one point may evaluate: then fewer directions."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A gradient of the derivation compared with one found in another way, both exact."""

    name: str
    method: str
    difference: float
    got: float
    expected: float

    @property
    def ok(self) -> bool:
        """Whether the two agree."""
        return self.difference <= AGREEMENT

    def __str__(self) -> str:
        """Return one sentence on the comparison."""
        return (
            f"derivation, gradient of {self.name}: the formula gives {self.got:.9g}, "
            f"{self.method} {self.expected:.9g} (relative difference {self.difference:.1e}); "
            "the formula itself is wrong"
        )


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


def compare_formulas(
    derivation: Derived, point: Point, values: Evaluation, random: np.random.Generator
) -> list[Agreement]:
    """Compare the adjoint equations at the first sample with derivatives found otherwise.

    Each parameter, and each input that holds numbers, is moved as a whole in a random
    direction, and two of its elements are moved alone; all together where there
    are very many.
    """
    network = derivation.network
    sample = {**point.parameters, **{name: a[0] for name, a in point.data.items()}}
    whole = integer_data(network)
    names = [v.name for v in (*network.parameters, *network.inputs) if v.name not in whole]
    exact = {n: values.values[derivation.adjoint_name(n)].exact[0] for n in names}
    budget = MOST_TERMS // (2 * terms(network.equations))
    moves = _moves({name: sample[name] for name in names}, random, budget)
    numeric = directional_derivatives(network.equations, sample, [move for _, move in moves])
    scale = float(np.abs(values.values[derivation.forward[-1].name].approximate).flat[0])
    found = []
    for (label, move), expected in zip(moves, numeric, strict=True):
        parts = np.concatenate([np.ravel(exact[n] * mpf_array(v)) for n, v in move.items()])
        sizes = float(np.sum(np.abs(parts.astype(np.float64)))) + scale
        found.append(_agree(label, "central differences", np.sum(parts), expected, sizes))
    scalars = {name: float(value) for name, value in sample.items() if np.ndim(value) == 0}
    for name, expected in (symbolic_gradient(network, scalars) or {}).items():
        got = np.ravel(exact[name])[0]
        found.append(_agree(name, "sympy.diff", got, expected, abs(float(got)) + scale))
    return found


def _agree(name: str, method: str, got: Any, expected: Any, sizes: float) -> Agreement:
    distance = float(abs(got - expected))
    difference = 0.0 if distance == 0 else distance / sizes if sizes else np.inf
    return Agreement(name, method, difference, float(got), float(expected))


def _moves(arrays: Arrays, random: np.random.Generator, budget: int) -> list[tuple[str, Arrays]]:
    """Return directions with what they are called: whole tensors, then two elements of each.

    Where that is more than `budget`: whole tensors, or all of them in one direction.
    """
    whole = {name: random.normal(size=np.shape(array)) for name, array in arrays.items()}
    if len(whole) > budget:
        return [("everything", whole)]
    found: list[tuple[str, Arrays]] = [(name, {name: move}) for name, move in whole.items()]
    for name, array in arrays.items():
        for place in {int(p) for p in random.integers(0, np.size(array), 2)} if array.ndim else ():
            single = np.zeros(array.shape)
            single.flat[place] = 1.0
            at = ", ".join(map(str, np.unravel_index(place, array.shape)))
            found.append((f"{name}[{at}]", {name: single}))
    return found if len(found) <= budget else found[: len(whole)]
