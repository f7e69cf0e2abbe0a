"""Random points at which kernels are compared with the mathematics.

A point is a value for every parameter and a small batch of samples, all of them
numbers of the kernels' dtype. Its kind says how large they are: `moderate` numbers,
`small` ones, a `large` scale at which some value of the network reaches 1e4
(float64) or 80 (float32), an `extreme` one at which what the loss reads (the
logits) does, and `zero`, where every kink is met exactly.

A sample is used only where the mathematics has a finite value for everything, and
redrawn, as far as this helps, where rounding alone decides on which side of a kink it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sympy import Idx, Indexed, preorder_traversal

from symprop.equation import name_of
from symprop.indices import accesses, bound_indices, free_indices, size
from symprop.network import Equation, Network, Variable
from symprop.verification.oracle import Evaluation, evaluate, known
from symprop.verification.precise import Bools, Value, arithmetic

__all__ = ["KINDS", "Derived", "Point", "draw", "integer_data", "kinds", "mathematics", "terms"]

KINDS = ("moderate", "moderate", "small", "large", "extreme", "zero")
"""The points of a verification, unless others are asked for."""

LARGEST = {"float64": 1e4, "float32": 80.0}
"""How far `large` and `extreme` points go: to where a naive exponential has long overflowed."""

_STYLES = (0, 0, 0, 1, 2, 3, 1, 2)
"""How the attempts draw: 0 any sign, 1 positive inputs, 2 all positive, 3 inputs below 1 too."""

Arrays = Mapping[str, NDArray[Any]]


class Derived(Protocol):
    """What is verified: a network and its equations, forward and backward."""

    @property
    def network(self) -> Network:
        """The network that was differentiated."""

    @property
    def forward(self) -> tuple[Equation, ...]:
        """The equations of the values, the loss last."""

    @property
    def backward(self) -> tuple[Equation, ...]:
        """The equations of the adjoints."""

    def adjoint_name(self, name: str) -> str:
        """Return the name of the adjoint of `name`."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value for each parameter, and for each input and target a batch of samples.

    Arrays of `data` have the samples as their first axis; parameters do not.
    """

    kind: str
    dtype: str
    parameters: Arrays
    data: Arrays

    @property
    def samples(self) -> int:
        """The number of samples in the batch."""
        return len(next(iter(self.data.values()))) if self.data else 1

    def rows(self, rows: Bools | NDArray[np.int64] | Sequence[int]) -> Point:
        """Return the point with only some of its samples."""
        return replace(self, data={name: array[rows] for name, array in self.data.items()})

    def repeated(self, count: int) -> Point:
        """Return the point with `count` samples: its own in turn."""
        return self.rows(np.arange(count) % self.samples)

    def scaled(self, factor: float, names: frozenset[str]) -> Point:
        """Return the point with the parameters and the data `names` multiplied by `factor`."""
        dtype = np.dtype(self.dtype).type
        return replace(
            self,
            parameters={n: (a * factor).astype(dtype) for n, a in self.parameters.items()},
            data={n: (a * factor).astype(dtype) if n in names else a for n, a in self.data.items()},
        )


def mathematics(
    derivation: Derived,
    point: Point,
    *,
    backward: bool = True,
    parameters: Mapping[str, Value] | None = None,
) -> Evaluation:
    """Evaluate all equations of `derivation` at `point` for each sample.

    `parameters` takes the place of the point's (their first axis is of length 1).
    """
    stacked = {name: array[None] for name, array in point.parameters.items()}
    values = {**known({**point.data, **stacked}, point.dtype), **(parameters or {})}
    result = evaluate(derivation.forward, values, dtype=point.dtype)
    if not backward:
        return result
    shapes = _shapes(derivation)
    after = evaluate(derivation.backward, result.values, shapes, point.dtype)
    return Evaluation(after.values, result.undecided | after.undecided)


def _shapes(derivation: Derived) -> dict[str, tuple[int, ...]]:
    """Return the shape of the adjoint of every value and variable."""
    defined = [Variable(equation.name, equation.indices) for equation in derivation.forward]
    variables = (*derivation.network.variables, *defined)
    return {derivation.adjoint_name(variable.name): variable.shape for variable in variables}


def terms(equations: Iterable[Equation]) -> int:
    """Return about how many products one sample takes: the sizes of all loops, added up.

    >>> i, j = Idx("i", 64), Idx("j", 32)
    >>> from sympy import IndexedBase, Sum
    >>> W, x, y = map(IndexedBase, "Wxy")
    >>> terms([Equation(y[j], Sum(W[i, j] * x[i], (i, 0, 63)))])
    2080
    """
    nests = []
    for equation in equations:
        nodes = [n for n in preorder_traversal(equation.rhs) if bound_indices(n)]
        looped = equation.lhs.atoms(Idx).union(free_indices(equation.rhs))
        nests += [looped, *(node.atoms(Idx) for node in nodes)]
    return sum(int(np.prod([size(index) for index in nest])) for nest in nests)


def draw(
    derivation: Derived, kind: str, samples: int, dtype: str, random: np.random.Generator
) -> tuple[Point, Evaluation] | None:
    """Return a point with up to `samples` usable samples and its mathematics.

    The best of a few attempts: every gradient alive (a ReLU network may be dead at a
    random point, and a kernel that returns zeros right), all samples usable and decided,
    else the most that are. None where the mathematics has no finite value at any point
    that was tried.
    """
    best: tuple[Point, Evaluation] | None = None
    most = (-1, 0, 0)
    wanted = _mortal(derivation) if kind in ("moderate", "small") else ()
    for attempt in range(len(_STYLES)):
        point = _candidate(derivation, kind, samples, dtype, random, attempt)
        values = mathematics(derivation, point)
        usable, decided = _usable(values, point)
        good = usable & decided if (usable & decided).any() else usable
        if not good.any():
            continue
        found = _restricted(point, values, good)
        alive = sum(bool(found[1].values[name].approximate.any()) for name in wanted)
        score = (alive, int((usable & decided).sum()), int(usable.sum()))
        if score > most:
            best, most = found, score
        enough = samples if attempt < 2 else min(2, samples)
        if most[0] == len(wanted) and most[1] >= enough:
            break
    return best


def _mortal(derivation: Derived) -> tuple[str, ...]:
    """Return the adjoints of the parameters that are not zero everywhere."""
    names = {derivation.adjoint_name(p.name) for p in derivation.network.parameters}
    return tuple({e.name for e in derivation.backward if e.name in names and e.rhs != 0})


def _restricted(point: Point, values: Evaluation, rows: Bools) -> tuple[Point, Evaluation]:
    if rows.all():
        return point, values
    count, chosen = point.samples, np.flatnonzero(rows)
    kept = {
        name: value.select(chosen, count) if len(value.exact) == count else value
        for name, value in values.values.items()
    }
    return point.rows(rows), Evaluation(kept)


def _usable(values: Evaluation, point: Point) -> tuple[Bools, Bools]:
    """Return which samples have finite values that the dtype can hold, and no open kink."""
    usable = np.ones(point.samples, dtype=bool)
    largest = arithmetic(point.dtype).largest
    for value in values.values.values():
        sizes = np.abs(value.approximate).reshape(len(value.approximate), -1)
        usable &= (sizes <= largest).all(axis=1)
    decided = np.ones(point.samples, dtype=bool)
    for rows in values.undecided.values():
        decided &= ~rows
    return usable, decided


# Drawing


def _candidate(
    derivation: Derived,
    kind: str,
    samples: int,
    dtype: str,
    random: np.random.Generator,
    attempt: int,
) -> Point:
    """Draw numbers of any sign first; where that fails, positive inputs, then all positive."""
    style = _STYLES[attempt]
    network = derivation.network
    point = Point(
        kind,
        dtype,
        {p.name: _parameter(p, random, style >= 2, dtype) for p in network.parameters},
        _data(network, samples, random, style, dtype),
    )
    factors = {"moderate": 1.0, "small": 1e-3, "zero": 0.0}
    names = _scalable(network)
    if kind in factors:
        return point if kind == "moderate" else point.scaled(factors[kind], names)
    scale = _scale(derivation, point.rows([0]), kind) / 4.0 ** (attempt // 2)
    return point.scaled(scale, names)


def _parameter(
    parameter: Variable, random: np.random.Generator, positive: bool, dtype: str
) -> NDArray[Any]:
    """Draw a parameter so that a sum over its longest axis is of the size of one term."""
    values = random.normal(size=parameter.shape) / np.sqrt(max(parameter.shape, default=1))
    return np.asarray(np.abs(values) if positive else values).astype(dtype)


def _data(
    network: Network, samples: int, random: np.random.Generator, style: int, dtype: str
) -> dict[str, NDArray[Any]]:
    whole = integer_data(network)
    found = {}
    for variable in (*network.inputs, *network.targets):
        shape = (samples, *variable.shape)
        if variable.name in whole:
            found[variable.name] = random.integers(0, whole[variable.name], shape)
            continue
        values = random.normal(size=shape)
        if variable in network.targets:
            values = _target(values, random, style)
        elif style == 3:
            values = random.uniform(size=shape)
        found[variable.name] = np.asarray(np.abs(values) if style else values).astype(dtype)
    return found


def _target(
    values: NDArray[np.float64], random: np.random.Generator, style: int
) -> NDArray[np.float64]:
    """Return targets: numbers, or classes (one-hot), or probabilities that sum to 1."""
    choice = random.integers(0, 3) if style < 3 else 2
    scalar = values.ndim == 1
    if choice == 0:
        return values
    if choice == 1:
        return np.asarray(
            values > 0 if scalar else values == values.max(axis=-1, keepdims=True), dtype=float
        )
    weights = random.uniform(0.05, 0.95, values.shape)
    return np.asarray(weights if scalar else weights / weights.sum(axis=-1, keepdims=True))


def integer_data(network: Network) -> dict[str, int]:
    """Return the inputs and targets that are used as subscripts, with how many values they take."""
    data = {variable.name for variable in (*network.inputs, *network.targets)}
    found: dict[str, int] = {}
    for access in (a for equation in network.equations for a in equation.rhs.atoms(Indexed)):
        shape = network.variable(str(access.base.label)).shape
        for subscript, length in zip(access.indices, shape, strict=True):
            for leaf in accesses(subscript):
                name = name_of(leaf)
                if name in data:
                    found[name] = min(length, found.get(name, length))
    return found


def _scalable(network: Network) -> frozenset[str]:
    """Return the inputs that are numbers: what is scaled along with the parameters."""
    return frozenset(v.name for v in network.inputs) - integer_data(network).keys()


def _scale(derivation: Derived, point: Point, kind: str) -> float:
    """Return the largest factor found at which the network's values stay within `LARGEST`."""
    limit = LARGEST[point.dtype]
    factor, found = float(np.sqrt(limit)), 0.0
    for _ in range(6):
        height = _height(derivation, point.scaled(factor, _scalable(derivation.network)), kind)
        if height <= limit:
            if found or factor > limit:
                return max(found, factor)
            found, factor = factor, factor * 8
        elif found:
            return found
        else:
            factor *= max(0.01, min(0.5, float(np.sqrt(limit / height))))
    return found or factor


def _height(derivation: Derived, point: Point, kind: str) -> float:
    """Return the largest |value|: of everything, or of what loss and outputs read."""
    values = mathematics(derivation, point, backward=False).values
    *inner, loss = derivation.forward
    names = {equation.name for equation in inner}
    if kind == "extreme":
        heads = [e for e in inner if e.name in derivation.network.outputs]
        read = {name_of(leaf) for e in (loss, *heads) for leaf in accesses(e.rhs)}
        names = (names & read) or names
    sizes = [float(np.abs(values[name].approximate).max()) for name in names]
    largest = max(sizes, default=0.0)
    return largest if np.isfinite(largest) else float("inf")


def kinds(points: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each kind with a label that tells points of one kind apart."""
    for number, kind in enumerate(points):
        same = [k for k in points[: number + 1] if k == kind]
        yield kind, kind if points.count(kind) == 1 else f"{kind} {len(same)}"
