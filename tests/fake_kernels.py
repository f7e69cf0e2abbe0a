"""A generated module written by hand in NumPy: y = sum_i w[i]*x[i] + b, (y - t)^2/2, momentum.

It has the interface of generated modules, so that what stands on it can be tested without
them: a slice is one batch, and the permutation of an epoch is a rotation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sympy import Sum

import symprop

network = symprop.Network("line")
_i = network.index("i", 3)
_x, _t = network.input("x", _i), network.target("t")
_w, _b = network.parameter("w", _i), network.parameter("b")
_y = network.output("y", Sum(_w[_i] * _x[_i], _i) + _b)
network.loss((_y - _t) ** 2 / 2)
network.training = symprop.Training(
    "momentum", batch_size=4, epochs=5, hyperparameters={"learning_rate": 0.05}
)

NAME = network.name
FINGERPRINT = network.fingerprint
DTYPE = "float64"


class DivergenceError(ArithmeticError):
    def __init__(self, epoch, state):
        super().__init__(f"the loss is not finite in epoch {epoch}")
        self.epoch = epoch
        self.state = state


class Parameters(NamedTuple):
    w: np.ndarray
    b: float


class State(NamedTuple):
    theta: np.ndarray
    moments: np.ndarray
    step: int
    epoch: int
    position: int
    permutation: np.ndarray
    random: np.ndarray
    partial: float

    @property
    def parameters(self):
        return Parameters(self.theta[:3].copy(), float(self.theta[3]))


def initialize(seed=0):
    return Parameters(np.random.default_rng(seed).normal(size=3), 0.0)


def forward(parameters, x):
    return x @ parameters.w + parameters.b


def loss(parameters, x, t):
    return float(np.mean((forward(parameters, x) - t) ** 2) / 2)


def backward(parameters, x, t):
    error = (forward(parameters, x) - t) / len(t)
    return loss(parameters, x, t), Parameters(error @ x, float(error.sum()))


def start(parameters, seed=0):
    theta = np.append(parameters.w, parameters.b)
    random = np.array([seed], dtype=np.uint64)
    return State(theta, np.zeros((1, 4)), 0, 0, 0, np.empty(0, dtype=np.int64), random, 0.0)


def resume(
    state, x, t, *, epochs=5, batch_size=4, shuffle=True, callback=None,
    learning_rate=0.05, momentum=0.9,
):  # fmt: skip
    losses, good, count = [], state, len(t)
    while len(losses) < epochs:
        if state.position == 0:
            random = (state.random + np.uint64(7)) * np.uint64(6364136223846793005)
            turn = int(random[0] >> np.uint64(33)) if shuffle else 0
            permutation = np.roll(np.arange(count), turn)
            state = state._replace(random=random, permutation=permutation, partial=0.0)
        state = _step(state, x, t, batch_size, learning_rate, momentum)
        if not np.isfinite(state.partial):
            raise DivergenceError(state.epoch + 1, good)
        if state.position == count:
            losses.append(state.partial / count)
            good = state = state._replace(position=0, epoch=state.epoch + 1)
        done = np.array(losses)
        if callback is not None and len(losses) < epochs and callback(len(done), done) is True:
            break
    return state, np.array(losses)


def _step(state, x, t, batch_size, learning_rate, momentum):
    chosen = state.permutation[state.position : state.position + batch_size]
    with np.errstate(over="ignore", invalid="ignore"):
        value, gradient = backward(state.parameters, x[chosen], t[chosen])
        moments = momentum * state.moments + np.append(gradient.w, gradient.b)
        theta = state.theta - learning_rate * moments[0]
    return state._replace(
        theta=theta, moments=moments, step=state.step + 1,
        position=state.position + len(chosen), partial=state.partial + value * len(chosen),
    )  # fmt: skip


def train(
    parameters, x, t, *, epochs=5, batch_size=4, seed=0, shuffle=True, callback=None,
    learning_rate=0.05, momentum=0.9,
):  # fmt: skip
    state, losses = resume(
        start(parameters, seed), x, t, epochs=epochs, batch_size=batch_size, shuffle=shuffle,
        callback=callback, learning_rate=learning_rate, momentum=momentum,
    )  # fmt: skip
    return state.parameters, losses
