"""Kernels without a compiler: the equations computed by the oracle with 53 or 24 bits.

Every operation is rounded as a float64 or float32 kernel rounds it, so that the error bounds
can be tested against real rounding errors, and mutated equations make wrong kernels.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from symprop.derivation import Derivation
from symprop.network import Equation
from symprop.optimizers import OPTIMIZERS, Optimizer
from symprop.options import hyperparameters
from symprop.verification.oracle import evaluate
from symprop.verification.points import Point, mathematics
from symprop.verification.precise import MP, Value

State = namedtuple("State", ["theta", "moments", "step"])

BITS = {"float64": 53, "float32": 24}

Change = Callable[[Equation], Equation]


@contextmanager
def precision(bits: int) -> Iterator[None]:
    before = MP.prec
    MP.prec = bits
    try:
        yield
    finally:
        MP.prec = before


def unchanged(equation: Equation) -> Equation:
    return equation


class Simulated:
    """The interface of a generated module over the oracle at a kernel's precision."""

    def __init__(
        self,
        derivation: Derivation,
        dtype: str = "float64",
        *,
        change: Change = unchanged,
        missing_mean: bool = False,
        optimizer: Optimizer = OPTIMIZERS["adam"],
        update: Change = unchanged,
    ) -> None:
        self.derivation, self.dtype, self.missing_mean = derivation, dtype, missing_mean
        self.optimizer, self.update = optimizer, update
        self.frozen = True
        network = derivation.network
        self.names = [v.name for v in (*network.inputs, *network.targets)]
        self.Parameters = namedtuple("Parameters", [p.name for p in network.parameters])
        self.Outputs = namedtuple("Outputs", network.outputs)
        self.equations = _Equations(derivation, change)

    def forward(self, parameters: Any, *inputs: Any) -> Any:
        network = self.derivation.network
        n = len(inputs[0])
        targets = [np.zeros((n, *target.shape)) for target in network.targets]
        values = self._values(parameters, *inputs, *targets)
        found = [
            a[np.arange(n) % len(a)] for a in (values[name].approximate for name in network.outputs)
        ]
        return found[0] if len(found) == 1 else self.Outputs(*found)

    def loss(self, parameters: Any, *data: Any) -> float:
        return self.backward(parameters, *data)[0]

    def backward(self, parameters: Any, *data: Any) -> tuple[float, Any]:
        values, n = self._values(parameters, *data), len(data[0])
        with precision(BITS[self.dtype]):
            loss = self._mean(values[self.derivation.loss_name], n)
            gradients = {
                p.name: self._mean(values[self.derivation.adjoint_name(p.name)], n)
                for p in self.derivation.network.parameters
            }
        return float(loss), self.Parameters(**gradients)

    def start(self, parameters: Any, seed: int = 0) -> Any:
        theta = np.concatenate([np.ravel(value) for value in parameters])
        return State(theta, np.zeros((len(self.optimizer.slots), theta.size)), 0)

    def resume(
        self, state: Any, *data: Any, epochs: int, batch_size: int, shuffle: bool
    ) -> tuple[Any, Any]:
        assert batch_size == len(data[0])
        assert not shuffle
        losses = []
        for _ in range(epochs):
            loss, gradients = self.backward(self._parameters(state.theta), *data)
            losses.append(loss)
            state = self._moved(state, np.concatenate([np.ravel(g) for g in gradients]))
        return state, np.array(losses)

    def train(self, parameters: Any, *data: Any, seed: int, **settings: Any) -> tuple[Any, Any]:
        state, losses = self.resume(self.start(parameters, seed), *data, **settings)
        return self._parameters(state.theta), losses

    def _parameters(self, theta: Any) -> Any:
        sizes = [int(np.prod(p.shape)) for p in self.derivation.network.parameters]
        parts = np.split(theta, np.cumsum(sizes)[:-1])
        shapes = [p.shape for p in self.derivation.network.parameters]
        return self.Parameters(*(a.reshape(s) for a, s in zip(parts, shapes, strict=True)))

    def _moved(self, state: Any, gradient: Any) -> Any:
        rule = self.optimizer
        settings = hyperparameters(rule, self.derivation.network.training)
        numbers = {
            **{key: np.array([value]) for key, value in settings.items()},
            **dict(zip(rule.slots, state.moments, strict=True)),
            "theta": state.theta,
            "gradient": gradient,
            "t": np.array([state.step + 1]),
        }
        with precision(BITS[self.dtype]):
            given = {key: _rounded(value) for key, value in numbers.items()}
            after = evaluate(map(self.update, rule.equations), given).values
        found = [after[slot].approximate for slot in rule.slots]
        moments = np.array(found).reshape(state.moments.shape)
        trainable = np.concatenate(
            [np.full(p.shape, p.trainable).ravel() for p in self.derivation.network.parameters]
        )
        theta = np.where(trainable | (not self.frozen), after["theta"].approximate, state.theta)
        return State(theta, moments, state.step + 1)

    def _values(self, parameters: Any, *data: Any) -> dict[str, Value]:
        period = next(p for p in (1, 2, 3, len(data[0])) if all(_repeats(a, p) for a in data))
        point = Point(
            "simulated",
            self.dtype,
            {name: np.asarray(value) for name, value in parameters._asdict().items()},
            {name: a[:period] for name, a in zip(self.names, data, strict=True)},
        )
        with precision(BITS[self.dtype]):
            return mathematics(self.equations, point).values

    def _mean(self, value: Value, n: int) -> Any:
        mean = value.mean(n, 0.0).approximate
        return mean * n if self.missing_mean else mean


class _Equations:
    """A derivation with mutated equations."""

    def __init__(self, derivation: Derivation, change: Change) -> None:
        self.network = derivation.network
        self.forward = tuple(map(change, derivation.forward))
        self.backward = tuple(map(change, derivation.backward))
        self.adjoint_name = derivation.adjoint_name


def _repeats(array: Any, period: int) -> bool:
    """Tell whether the samples repeat, so that a long batch needs no long evaluation."""
    return bool((array == array[np.arange(len(array)) % period]).all())


def _rounded(array: Any) -> Value:
    exact = np.frompyfunc(lambda x: +MP.mpf(x), 1, 1)(np.asarray(array).astype(object))
    numbers = exact.astype(np.float64)
    return Value(exact, numbers, np.abs(numbers), np.zeros(numbers.shape))
