"""Training steps against the update rule: gradients can be right while the update is wrong.

All samples are one batch, without shuffling. Each step starts from the state that the
kernels reached, parameters and slots, and is done once more by the oracle: the
tolerance is that of one step and does not grow. Then as many epochs at once must end in
the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symprop.network import Network
from symprop.optimizers import Optimizer
from symprop.options import hyperparameters
from symprop.verification.comparison import MANY, Row, call, compare, compare_equal, parameters_of
from symprop.verification.oracle import Evaluation, evaluate, known
from symprop.verification.points import Arrays, Derived, Point, mathematics
from symprop.verification.precise import Arithmetic, Value, arithmetic

__all__ = ["replay", "replay_long"]

SOME = 256
"""Elements of each parameter that are compared in the steps between the first and the last."""


def replay(
    derivation: Derived,
    module: Any,
    rule: Optimizer,
    point: Point,
    values: Evaluation,
    steps: int,
) -> list[Row]:
    """Compare `steps` steps of `module.resume` with `rule`, and `module.train` with the steps.

    `values` are the equations' values at `point`, where training starts.
    """
    network, n = derivation.network, point.samples
    data = [point.data[variable.name] for variable in (*network.inputs, *network.targets)]
    start = parameters_of(module, point.parameters)
    settings = {"batch_size": n, "shuffle": False}
    states, losses = [call(module, "start", "start of training", start, seed=0)], []
    rows: list[Row] = []
    for step in range(1, steps + 1):
        label = f"step {step} of {rule.name}, {n} sample{'s' * (n > 1)}"
        after, loss = call(module, "resume", label, states[-1], *data, epochs=1, **settings)
        run = _Step(derivation, rule, point, label, step, n, MANY if step in (1, steps) else SOME)
        here = values if step == 1 else run.values_at(states[-1])
        rows += run.compare(here, states[-1], after, float(loss[0]))
        states.append(after)
        losses.append(float(loss[0]))
    label = f"{steps} epochs at once, against one after the other"
    end, together = call(module, "train", label, start, *data, epochs=steps, seed=0, **settings)
    form = arithmetic(point.dtype)
    for name, value in _parts(network, states[-1].theta).items():
        rows.append(compare_equal("training", name, getattr(end, name), value, label, form))
    return [*rows, compare_equal("training", "losses", together, losses, label, form)]


def replay_long(
    derivation: Derived,
    module: Any,
    rule: Optimizer,
    point: Point,
    values: Evaluation,
    samples: int,
) -> list[Row]:
    """Compare one step over a batch of `samples`, in which those of `point` repeat."""
    network, long = derivation.network, point.repeated(samples)
    data = [long.data[variable.name] for variable in (*network.inputs, *network.targets)]
    start = parameters_of(module, point.parameters)
    label = f"one step of {rule.name}, {samples} samples"
    before = call(module, "start", label, start, seed=0)
    after, loss = call(
        module, "resume", label, before, *data, epochs=1, batch_size=samples, shuffle=False
    )
    run = _Step(derivation, rule, point, label, 1, samples, MANY)
    rows = run.compare(values, before, after, float(loss[0]))
    # the error bound of so long a chain leaves small gradients open, which the short steps settle
    return [replace(row, unchecked=0) for row in rows if row.checked or row.problem]


def _parts(network: Network, flat: Any) -> dict[str, Any]:
    """Return the parameters that a flat vector holds, in order of declaration."""
    ends = np.cumsum([int(np.prod(parameter.shape)) for parameter in network.parameters])
    parts = np.split(np.asarray(flat), ends[:-1])
    return {p.name: a.reshape(p.shape) for p, a in zip(network.parameters, parts, strict=True)}


def _picker(places: NDArray[np.int64]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return what picks elements of each sample, the sample's axis first."""
    return lambda array: array.reshape(len(array), -1)[:, places]


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of training, number `number` from 1, with a batch of `samples`.

    About `elements` elements of each parameter are compared, evenly spaced.
    """

    derivation: Derived
    rule: Optimizer
    point: Point
    label: str
    number: int
    samples: int
    elements: int

    @property
    def form(self) -> Arithmetic:
        """The floating-point format of the kernels."""
        return arithmetic(self.point.dtype)

    def values_at(self, state: Any) -> Evaluation:
        """Return the values of all equations with the parameters of `state`."""
        parameters = self._numbers(state)["theta"]
        return mathematics(self.derivation, replace(self.point, parameters=parameters))

    def compare(self, here: Evaluation, before: Any, after: Any, loss: float) -> Iterator[Row]:
        """Yield the comparison of the loss, and of each parameter and slot after the step."""
        network, n, values = self.derivation.network, self.samples, here.values
        old, new = self._numbers(before), self._numbers(after)
        expected = values[self.derivation.forward[-1].name].mean(n, self.form.epsilon)
        yield self._row("losses", loss, expected)
        for parameter in network.parameters:
            name = parameter.name
            if not parameter.trainable:
                pair = new["theta"][name], old["theta"][name]
                yield compare_equal("training", name, *pair, self.label, self.form)
                continue
            stride = max(1, new["theta"][name].size // self.elements)
            places = np.arange(self.number % stride, new["theta"][name].size, stride)
            adjoint = values[self.derivation.adjoint_name(name)]
            slope = adjoint.map(_picker(places))
            given = {key: arrays[name].ravel()[places] for key, arrays in old.items()}
            for key, value in self._update(given, slope.mean(n, self.form.epsilon)).items():
                title = name if key == "theta" else f"{name} ({key})"
                row = self._row(title, new[key][name].ravel()[places], value)
                at = np.unravel_index(places[row.place[0]], parameter.shape)
                yield replace(row, place=tuple(map(int, at)))

    def _numbers(self, state: Any) -> dict[str, dict[str, Any]]:
        """Return what a state holds: for theta and each slot the array of each parameter."""
        flat = zip(("theta", *self.rule.slots), (state.theta, *state.moments), strict=True)
        return {key: _parts(self.derivation.network, vector) for key, vector in flat}

    def _row(self, name: str, got: Any, expected: Value) -> Row:
        return compare("training", name, got, expected, self.label, self.form)

    def _update(self, old: Arrays, gradient: Value) -> dict[str, Value]:
        """Apply the rule to elements of a parameter: they take the place of the samples."""
        given = {
            **known(hyperparameters(self.rule, self.derivation.network.training), self.form.dtype),
            **known(old, self.form.dtype),
            "gradient": gradient,
            "t": self.form.leaf([self.number]),
        }
        after = evaluate(self.rule.equations, given, dtype=self.form.dtype).values
        count = len(old["theta"])
        return {
            key: after[key].map(lambda a: np.broadcast_to(a, count))
            for key in ("theta", *self.rule.slots)
        }
