"""What is timed: a network, synthetic samples of the right shapes, a batch size, a precision.

A workload is written to a folder, from which each contestant's process reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symprop import description
from symprop.bench.arrays import load
from symprop.bench.translate import TranslationError, translate
from symprop.compiler import source_text
from symprop.derivation import Derivation
from symprop.errors import DataError
from symprop.loader import load as load_module
from symprop.network import Network
from symprop.optimizers import find
from symprop.options import Options, hyperparameters

__all__ = ["CASES", "Settings", "Workload", "read", "write"]

CASES: dict[str, tuple[str, int]] = {
    "T1": ("float64", 1_000),
    "T2": ("float32", 10_000),
    "M0": ("float32", 1_797),
    "M1": ("float32", 20_000),
    "M3": ("float32", 10_000),
}
"""The bench networks with the precision and the number of samples that they are timed with."""

_SAMPLES = 10_000
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Settings:
    """How a network is timed: precision, samples in an epoch and in a batch, threads."""

    dtype: str
    samples: int
    batch_size: int
    threads: int = 1

    @classmethod
    def choose(
        cls, network: Network, dtype: str | None, samples: int | None, batch_size: int | None,
        threads: int,
    ) -> Settings:  # fmt: skip
        """Return the settings for `network`; those not given are its own or the usual ones."""
        usual, count = CASES.get(network.name, ("float64", _SAMPLES))
        numbers = sum(prod(v.shape) for v in (*network.inputs, *network.targets))
        count = max(1, min(count, _MOST_BYTES // (8 * max(numbers, 1))))
        chosen = samples or count
        batch = min(batch_size or network.training.batch_size, chosen)
        return cls(dtype or usual, chosen, batch, threads)

    def described(self, network: Network) -> Network:
        """Return `network` with this batch size in its description, which kernels are made for."""
        found = copy(network)
        found.training = replace(network.training, batch_size=self.batch_size)
        return found

    @property
    def steps(self) -> int:
        """Updates in an epoch; the last may have fewer samples."""
        return -(-self.samples // self.batch_size)


@dataclass(frozen=True, slots=True)
class Workload:
    """A network with its settings, the parameters to start from and the samples.

    `data` holds the inputs and then the targets, in order; `parameters` likewise.
    """

    network: Network
    settings: Settings
    parameters: Mapping[str, NDArray[Any]]
    data: Mapping[str, NDArray[Any]]

    @property
    def rates(self) -> dict[str, float]:
        """The optimizer's hyperparameters."""
        training = self.network.training
        return hyperparameters(find(training.optimizer), training)

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the parameters that are trained."""
        return tuple(p.name for p in self.network.parameters if p.trainable)


def make(derivation: Derivation, settings: Settings, seed: int = 0) -> Workload:
    """Return the workload of a network, with synthetic samples.

    Inputs are standard normal, or where the loss would not be finite then between 0.1 and 1;
    subscripts are drawn from their range. A target is a class as a one-hot vector along its
    last axis, which suits a distribution, a probability and a number; a scalar is between 0
    and 1. Raises `DataError` where the loss is finite for neither.
    """
    network = derivation.network
    options = Options(settings.dtype, find(network.training.optimizer))  # type: ignore[arg-type]
    module = load_module(source_text(derivation, options), network.name, jit=False)
    parameters = {k: np.asarray(v) for k, v in module.initialize(0)._asdict().items()}
    for positive in (False, True):
        data = samples(network, settings.samples, settings.dtype, seed, positive=positive)
        workload = Workload(network, settings, parameters, data)
        if np.isfinite(_first_loss(derivation, workload)):
            return workload
    raise DataError(
        f"network {network.name!r}: its loss is not finite on synthetic samples, neither on "
        "standard normal inputs nor on inputs between 0.1 and 1; it cannot be timed"
    )


def samples(
    network: Network, count: int, dtype: str, seed: int = 0, *, positive: bool = False
) -> dict[str, NDArray[Any]]:
    """Return `count` synthetic samples of every input and target of `network`."""
    random = np.random.default_rng(seed)
    found: dict[str, NDArray[Any]] = {}
    targets = {variable.name for variable in network.targets}
    for variable in (*network.inputs, *network.targets):
        shape = (count, *variable.shape)
        if variable.name in network.index_inputs:
            found[variable.name] = random.integers(0, network.index_inputs[variable.name], shape)
        elif variable.name in targets and shape[1:] and shape[-1] > 1:
            chosen = random.integers(0, shape[-1], shape[:-1])
            found[variable.name] = np.eye(shape[-1], dtype=dtype)[chosen]
        elif variable.name in targets or positive:
            found[variable.name] = random.uniform(0.1, 1, shape).astype(dtype)
        else:
            found[variable.name] = random.standard_normal(shape).astype(dtype)
    return found


def _first_loss(derivation: Derivation, workload: Workload) -> float:
    """Return the mean loss of the first samples; 0 where NumPy cannot tell."""
    try:
        return mean_loss(derivation, workload, workload.parameters, 64)
    except TranslationError:
        return 0.0


def mean_loss(
    derivation: Derivation, workload: Workload, parameters: Mapping[str, Any], most: int = 4096
) -> float:
    """Return the mean loss of the first samples, at most `most`, by NumPy in float64."""
    loss = load(translate(derivation), "numpy", "float64")
    values = tuple(np.asarray(parameters[name], np.float64) for name in workload.parameters)
    total, count = 0.0, min(most, workload.settings.samples)
    with np.errstate(all="ignore"):
        for first in range(0, count, 256):
            rows = slice(first, min(first + 256, count))
            data = tuple(_double(array[rows]) for array in workload.data.values())
            total += float(loss(values, data)) * (rows.stop - rows.start)
    return total / count


def _double(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def write(workload: Workload, folder: Path) -> None:
    """Write a workload to a folder."""
    text = description.dump(workload.network)
    (folder / "network.toml").write_text(text, encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(asdict(workload.settings)), encoding="utf-8")
    np.savez(folder / "data.npz", **workload.data)  # type: ignore[arg-type]
    np.savez(folder / "parameters.npz", **workload.parameters)  # type: ignore[arg-type]


def read(folder: Path) -> Workload:
    """Return the workload that `write` wrote."""
    network = description.read(folder / "network.toml")
    settings = Settings(**json.loads((folder / "settings.json").read_text(encoding="utf-8")))
    parameters = _arrays(folder / "parameters.npz", [p.name for p in network.parameters])
    names = [variable.name for variable in (*network.inputs, *network.targets)]
    return Workload(network, settings, parameters, _arrays(folder / "data.npz", names))


def _arrays(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in names}
