"""Those who train: symprop's own kernels, and the other libraries on the same network.

Each takes a workload, trains one epoch in the given order (`first`, whose parameters and
time are compared and shown) and then as many shuffled epochs as it is told (`run`, which is timed).
What a library needs once, such as the conversion of the samples, is done before. All go
through the same batches, a shorter last one included. Where one batch holds all
samples nothing is shuffled by the others.

The libraries are imported where they are used: a contestant lives in a process of its own.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from symprop.bench import machine
from symprop.bench.arrays import NAMESPACES, load
from symprop.bench.counting import count_step
from symprop.bench.dense import Dense, recognise
from symprop.bench.translate import translate, translate_rule
from symprop.bench.workload import Workload
from symprop.derivation import differentiate
from symprop.errors import OptionError
from symprop.optimizers import find

__all__ = ["CONTESTANTS", "PEERS", "Contestant", "available"]


class Contestant(Protocol):
    """What a process can be told to do."""

    version: str

    def first(self) -> tuple[Mapping[str, Any], float]:
        """Train one epoch in order; return the parameters after it and the mean loss in it."""

    def run(self, epochs: int) -> float:
        """Train so many epochs, shuffled; return the seconds that they took."""


class Symprop:
    """The generated kernels, by `symprop.compile` and `symprop.train`."""

    def __init__(self, workload: Workload) -> None:
        import symprop

        self.workload = workload
        self.version = symprop.__version__
        self.kernels: Any = None
        self.state: Any = None
        self.nothing = 0.0

    def first(self) -> tuple[Mapping[str, Any], float]:
        """Derive, generate, compile and train one epoch."""
        from symprop.compiler import compile

        settings = self.workload.settings
        self.kernels = compile(self.workload.network, dtype=settings.dtype)
        self.state = self.kernels.start(self.kernels.initialize(0), 0)
        result = self._train(1, shuffle=False)
        return result.parameters._asdict(), float(result.losses[-1])

    def run(self, epochs: int) -> float:
        """Train; the check of the samples, which a call makes once, is not counted."""
        self.nothing = min(filter(None, (self.nothing, _timed(lambda: self._train(0)))))
        return max(_timed(lambda: self._train(epochs)) - self.nothing, 1e-9)

    def _train(self, epochs: int, *, shuffle: bool = True) -> Any:
        from symprop.training import train

        settings = self.workload.settings
        more: dict[str, Any] = {}
        if "threads" in inspect.signature(train).parameters:
            more["threads"] = settings.threads
        return train(
            self.kernels, self.workload.data, epochs=epochs, batch_size=settings.batch_size,
            state=self.state, shuffle=shuffle, **more,
        )  # fmt: skip


class Torch:
    """PyTorch run line by line, with its fused optimizer where that has the same formula."""

    def __init__(self, workload: Workload) -> None:
        import torch

        self.torch, self.workload, self.version = torch, workload, torch.__version__
        torch.set_num_threads(workload.settings.threads)
        self.loss = load(
            translate(differentiate(workload.network)), "torch", workload.settings.dtype
        )
        self.parameters = {
            name: torch.tensor(array, requires_grad=name in workload.trainable)
            for name, array in workload.parameters.items()
        }
        self.data = [torch.from_numpy(array) for array in workload.data.values()]
        self.optimizer = self._optimizer([self.parameters[name] for name in workload.trainable])

    def _optimizer(self, parameters: list[Any]) -> Any:
        """Return the library's own form of the rule; `symprop.optimizers` follows its formulas."""
        optim, rates = self.torch.optim, dict(self.workload.rates)
        common: dict[str, Any] = {"params": parameters, "lr": rates["learning_rate"]}
        rule = self.workload.network.training.optimizer
        if rule in ("sgd", "momentum", "nesterov"):
            speed = {"momentum": rates.get("momentum", 0.0), "nesterov": rule == "nesterov"}
            return optim.SGD(**common, **speed, fused=True)
        if rule == "rmsprop":
            return optim.RMSprop(**common, alpha=rates["decay"], eps=rates["epsilon"])
        moments = {"betas": (rates["beta1"], rates["beta2"]), "eps": rates["epsilon"]}
        if rule == "adamw":
            moments["weight_decay"] = rates["weight_decay"]
            return optim.AdamW(**common, **moments, fused=True)
        return optim.Adam(**common, **moments, fused=True)

    def first(self) -> tuple[Mapping[str, Any], float]:
        """Train one epoch in order."""
        losses: list[Any] = []
        self._epoch(None, losses)
        total = sum(float(loss) * size for loss, size in losses)
        found = {name: p.detach().numpy().copy() for name, p in self.parameters.items()}
        return found, total / self.workload.settings.samples

    def run(self, epochs: int) -> float:
        """Train; each epoch's samples are put in order once."""
        settings = self.workload.settings

        def train() -> None:
            for _ in range(epochs):
                whole = settings.batch_size == settings.samples
                self._epoch(None if whole else self.torch.randperm(settings.samples), None)

        return _timed(train)

    def _epoch(self, order: Any, losses: list[Any] | None) -> None:
        data = self.data if order is None else [array[order] for array in self.data]
        values = tuple(self.parameters.values())
        for batch in zip(*(a.split(self.workload.settings.batch_size) for a in data), strict=True):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(values, batch)
            loss.backward()
            self.optimizer.step()
            if losses is not None:
                losses.append((loss.detach(), len(batch[0])))


class TorchCompile(Torch):
    """PyTorch with loss and gradients compiled by `torch.compile`, one graph a batch size."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.loss = self.torch.compile(self.loss, dynamic=False)


class Jax:
    """JAX with all epochs of a run in one compiled scan over epochs and batches.

    Scalar parameters travel in one vector: ten of them apart made a step of T1 15 times as long.
    """

    def __init__(self, workload: Workload) -> None:
        import jax

        self.dtype = workload.settings.dtype
        self.scalars = [n for n in workload.trainable if workload.parameters[n].ndim == 0]
        self.tensors = [n for n in workload.trainable if workload.parameters[n].ndim > 0]
        jax.config.update("jax_enable_x64", self.dtype == "float64")
        jax.config.update("jax_platforms", "cpu")
        self.jax, self.workload, self.version = jax, workload, jax.__version__
        self.data = tuple(jax.numpy.asarray(array) for array in workload.data.values())
        self.loss = load(translate(differentiate(workload.network)), "jax", workload.settings.dtype)
        optimizer = find(workload.network.training.optimizer)
        names, _ = NAMESPACES["jax"](self.dtype)
        self.update = translate_rule(optimizer).load(names, lambda array: array)
        self.slots = len(optimizer.slots)
        self.random = np.random.default_rng(0)
        self.train = jax.jit(self._train)
        self.compiled: set[int] = set()

    def first(self) -> tuple[Mapping[str, Any], float]:
        """Train one epoch in order."""
        order = np.arange(self.workload.settings.samples, dtype=np.int32)[None]
        (values, *_), losses = self.train(self._start(), self.data, order)
        found = {name: np.asarray(value) for name, value in self._named(values).items()}
        return found, float(losses[-1])

    def run(self, epochs: int) -> float:
        """Train; what must be compiled for so many epochs is compiled before."""
        start = self._start()

        def train() -> None:
            self.jax.block_until_ready(self.train(start, self.data, self._orders(epochs)))

        if epochs not in self.compiled:
            self.compiled.add(epochs)
            train()
        return _timed(train)

    def _orders(self, epochs: int) -> Any:
        """Return the order of the samples in each epoch."""
        orders = np.tile(np.arange(self.workload.settings.samples, dtype=np.int32), (epochs, 1))
        return self.random.permuted(orders, axis=1)

    def _start(self) -> Any:
        """Return the tensors that are trained by name, the scalars as one; slots; the step."""
        jnp, start = self.jax.numpy, self.workload.parameters
        values = {name: jnp.asarray(start[name]) for name in self.tensors}
        if self.scalars:
            values[""] = jnp.asarray([start[name] for name in self.scalars], self.dtype)
        slots = {name: (jnp.zeros_like(a),) * self.slots for name, a in values.items()}
        return values, slots, jnp.zeros((), self.dtype)

    def _named(self, values: Any) -> dict[str, Any]:
        """Return all parameters by name, in order."""
        found = {**self.workload.parameters, **values}
        found |= {name: values[""][place] for place, name in enumerate(self.scalars)}
        return {name: found[name] for name in self.workload.parameters}

    def _train(self, state: Any, data: Any, orders: Any) -> Any:
        return self.jax.lax.scan(lambda s, order: self._epoch(s, data, order), state, orders)

    def _epoch(self, state: Any, data: Any, order: Any) -> Any:
        """Go through the batches of an epoch; return the mean loss of its samples."""
        size, samples = self.workload.settings.batch_size, self.workload.settings.samples
        if size == samples:
            return self._step(state, data)
        whole = samples // size * size
        batches = order[:whole].reshape(-1, size)
        state, losses = self.jax.lax.scan(
            lambda s, rows: self._step(s, tuple(a[rows] for a in data)), state, batches
        )
        total = losses.sum() * size
        if whole < samples:
            state, loss = self._step(state, tuple(a[order[whole:]] for a in data))
            total += loss * (samples - whole)
        return state, total / samples

    def _step(self, state: Any, batch: Any) -> Any:
        values, slots, t = state

        def objective(values: Any) -> Any:
            return self.loss(tuple(self._named(values).values()), batch)

        loss, gradients = self.jax.value_and_grad(objective)(values)
        t = t + 1
        rates = tuple(self.workload.rates.values())
        new = {
            name: self.update(value, gradients[name], t, slots[name], rates)
            for name, value in values.items()
        }
        return (
            {name: value for name, (value, _) in new.items()},
            {name: kept for name, (_, kept) in new.items()},
            t,
        ), loss


class Sklearn:
    """scikit-learn's multilayer perceptron, where it is the same network."""

    def __init__(self, workload: Workload) -> None:
        import sklearn

        self.workload, self.version = workload, sklearn.__version__
        self.dense: Dense = recognise(differentiate(workload.network))
        self.x = workload.data[self.dense.input]
        target = workload.data[self.dense.target]
        self.y = target.argmax(axis=1) if self.dense.classifies else target

    def first(self) -> tuple[Mapping[str, Any], float]:
        """Train one epoch in order; its loss is that of the parameters, told elsewhere."""
        model = self._model(1, shuffle=False)
        self._fit(model)
        pairs = zip(self.dense.layers, model.coefs_, model.intercepts_, strict=True)
        found: dict[str, Any] = {}
        for layer, weights, bias in pairs:
            found[layer.weights] = weights.T if layer.transposed else weights
            found[layer.bias] = bias
        return found, float("nan")

    def run(self, epochs: int) -> float:
        """Train."""
        model = self._model(epochs, shuffle=True)
        return _timed(lambda: self._fit(model))

    def _fit(self, model: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the few epochs did not converge
            model.fit(self.x, self.y)

    def _model(self, epochs: int, *, shuffle: bool) -> Any:
        """Return a perceptron that goes on from the workload's parameters."""
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        rates, dense = self.workload.rates, self.dense
        more = {"momentum": 0.0, "nesterovs_momentum": False}
        if dense.solver == "adam":
            more = {k: rates[v] for k, v in
                    (("beta_1", "beta1"), ("beta_2", "beta2"), ("epsilon", "epsilon"))}  # fmt: skip
        kind = MLPClassifier if dense.classifies else MLPRegressor
        model = kind(
            hidden_layer_sizes=dense.hidden, activation=dense.activation, solver=dense.solver,
            alpha=0.0, batch_size=self.workload.settings.batch_size, max_iter=1, shuffle=shuffle,
            learning_rate_init=rates["learning_rate"], warm_start=True, tol=0.0,
            n_iter_no_change=epochs + 1, **more,
        )  # fmt: skip
        self._fit(model)  # makes its arrays
        start = self.workload.parameters
        model.coefs_ = [
            (start[la.weights].T if la.transposed else start[la.weights]).copy(order="C")
            for la in dense.layers
        ]
        model.intercepts_ = [start[layer.bias].copy() for layer in dense.layers]
        return model.set_params(max_iter=epochs)


class Machine:
    """The machine itself: its figures are measured in every round too."""

    version = ""

    def __init__(self, workload: Workload) -> None:
        self.dtype = workload.settings.dtype
        work = count_step(
            differentiate(workload.network),
            find(workload.network.training.optimizer),
            1,
            self.dtype,
        )
        self.size = work.parameter_bytes // 2

    def measure(self) -> dict[str, float]:
        """Return the figures of one core."""
        return machine.measure(self.dtype, self.size)


CONTESTANTS: dict[str, Callable[[Workload], Any]] = {
    "symprop": Symprop,
    "torch": Torch,
    "torch-compile": TorchCompile,
    "jax": Jax,
    "sklearn": Sklearn,
    "machine": Machine,
}

PEERS = ("torch", "torch-compile", "jax", "sklearn")
"""The contestants besides symprop."""


def available(peer: str) -> bool:
    """Tell whether the library of a peer is installed."""
    if peer not in PEERS:
        raise OptionError(f"peer {peer!r}: expected one of {', '.join(PEERS)}")
    return find_spec(peer.removesuffix("-compile")) is not None


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
