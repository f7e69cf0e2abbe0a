"""Parameters and training states as safetensors files that know which network they belong to.

A file's metadata holds the network's name and fingerprint; a file of another network
is refused. Scalar parameters are stored as arrays without axes.

Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symprop.errors import OutputError, WeightsError
from symprop.network import Network

__all__ = ["check_place", "load_parameters", "load_state", "save_parameters", "save_state"]

_VERSION = "1"
_COUNTERS = ("step", "epoch", "position")


def save_parameters(
    path: str | Path, parameters: Any, network: Network, *, force: bool = False
) -> None:
    """Write the `Parameters` of a generated module of `network` to a safetensors file.

    The file is complete or not there: it is written under another name first. One that
    exists is replaced only if it holds parameters of a network of that name, or with
    `force`. Raises `WeightsError` for parameters of another network, `OutputError` where
    nothing can be written.
    """
    values = {name: np.asarray(value) for name, value in parameters._asdict().items()}
    arrays = [array for array in values.values() if array.ndim]
    dtype = np.result_type(*arrays) if arrays else np.dtype(np.float64)
    tensors = {name: array.astype(dtype, order="C") for name, array in values.items()}
    _check_shapes({name: array.shape for name, array in tensors.items()}, network, "parameters")
    metadata = _metadata("parameters", network.name, network.fingerprint)
    _write(Path(path), tensors, metadata, force)


def check_place(path: str | Path, network: Network, *, force: bool = False) -> None:
    """Raise `OutputError` where `save_parameters` would not replace what stands at `path`."""
    if Path(path).exists() and not force:
        _check_replaceable(Path(path), _metadata("parameters", network.name, network.fingerprint))


def load_parameters(
    path: str | Path, network: Network, dtype: str | None = None
) -> dict[str, NDArray[Any] | float]:
    """Return the parameters in a file that `save_parameters` wrote, by name, in order.

    ``module.Parameters(**load_parameters(path, network))`` is what the kernels take.
    Scalar parameters are floats; arrays have the stored dtype unless `dtype` is given. Raises
    `WeightsError` unless the file holds finite parameters of `network`.
    """
    subject = str(path)
    shapes = {parameter.name: parameter.shape for parameter in network.parameters}
    expected = _metadata("parameters", network.name, network.fingerprint)
    with _opened(path) as file:
        _check_metadata(file.metadata() or {}, expected, subject)
        _check_shapes({name: _shape(file, name) for name in file.keys()}, network, subject)  # noqa: SIM118
        arrays = {name: file.get_tensor(name) for name in shapes}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise WeightsError(f"{subject}: parameter {name!r} holds other than finite numbers")
    wanted = {name: array.astype(dtype or array.dtype) for name, array in arrays.items()}
    return {name: array if array.ndim else float(array) for name, array in wanted.items()}


def save_state(path: str | Path, state: Any, kernels: Any, *, force: bool = False) -> None:
    """Write a training `State` to a safetensors file, for a continuation to the bit.

    `kernels` is the `CompiledModule` or generated module that made it. What exists is
    replaced as by `save_parameters`.
    """
    tensors = {name: np.array(value, order="C") for name, value in state._asdict().items()}
    _write(Path(path), tensors, _state_metadata(kernels), force)


def load_state(path: str | Path, kernels: Any) -> Any:
    """Return the `State` in a file that `save_state` wrote, for the same kernels to resume.

    Raises `WeightsError` unless network, dtype and optimizer are those of `kernels`.
    """
    subject = str(path)
    module = getattr(kernels, "module", kernels)
    like = {k: np.asarray(v) for k, v in module.start(module.initialize(0))._asdict().items()}
    with _opened(path) as file:
        _check_metadata(file.metadata() or {}, _state_metadata(kernels), subject)
        _check_state_shapes({name: _shape(file, name) for name in file.keys()}, like, subject)  # noqa: SIM118
        values = {name: file.get_tensor(name) for name in like}
    return _state(module, values, like, subject)


def _check_state_shapes(
    shapes: Mapping[str, tuple[int, ...]], like: Mapping[str, NDArray[Any]], subject: str
) -> None:
    for name, array in like.items():
        got = shapes.get(name)
        # the permutation is as long as the data, which a fresh state has not seen
        fits = got is not None and len(got) == 1 if name == "permutation" else got == array.shape
        if not fits:
            raise WeightsError(
                f"{subject}: {name!r} has the shape {got}, expected {array.shape}; the state "
                "belongs to other kernels"
            )


def _state(module: Any, values: dict[str, Any], like: Mapping[str, Any], subject: str) -> Any:
    """Check what the compiled loop relies on, and return the `State`."""
    for name, array in like.items():
        if values[name].dtype != array.dtype:
            raise WeightsError(
                f"{subject}: {name!r} has the type {values[name].dtype}, expected {array.dtype}"
            )
    permutation = values["permutation"]
    if not np.array_equal(np.sort(permutation), np.arange(len(permutation))):
        raise WeightsError(f"{subject}: 'permutation' is none; the file is damaged")
    counters = {name: int(values[name]) for name in _COUNTERS}
    if min(counters.values()) < 0 or counters["position"] > len(permutation):
        raise WeightsError(f"{subject}: {counters} cannot be; the file is damaged")
    if not np.isfinite(values["theta"]).all():
        raise WeightsError(f"{subject}: 'theta' holds NaN or infinity")
    return module.State(**(values | counters | {"partial": float(values["partial"])}))


def _metadata(kind: str, name: str, fingerprint: str) -> dict[str, str]:
    return {
        "format": f"symprop {kind}",
        "version": _VERSION,
        "network": name,
        "fingerprint": fingerprint,
    }


def _state_metadata(kernels: Any) -> dict[str, str]:
    module = getattr(kernels, "module", kernels)
    metadata = _metadata("state", module.NAME, module.FINGERPRINT) | {"dtype": module.DTYPE}
    options = getattr(kernels, "options", None)
    return metadata if options is None else metadata | {"optimizer": options.optimizer.name}


def _check_metadata(got: Mapping[str, str], expected: Mapping[str, str], subject: str) -> None:
    if got.get("format") != expected["format"] or got.get("version") != _VERSION:
        found = " ".join(filter(None, (got.get("format"), got.get("version")))) or "no such mark"
        raise WeightsError(
            f"{subject}: got {found}, expected a file marked as {expected['format']} {_VERSION}"
        )
    if got.get("fingerprint") != expected["fingerprint"]:
        raise WeightsError(
            f"{subject}: belongs to another network: {got.get('network')!r} with the fingerprint "
            f"{got.get('fingerprint')}, expected {expected['network']!r} with "
            f"{expected['fingerprint']}; train again, or use the description it was trained with"
        )
    for key in ("dtype", "optimizer"):
        if key in got and key in expected and got[key] != expected[key]:
            raise WeightsError(
                f"{subject}: made with {key} {got[key]}, expected {expected[key]}; generate the "
                f"kernels with {key} {got[key]}"
            )


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], network: Network, subject: str) -> None:
    expected = {parameter.name: parameter.shape for parameter in network.parameters}
    missing = [name for name in expected if name not in shapes]
    extra = [name for name in shapes if name not in expected]
    if missing or extra:
        problems = [f"parameter {name!r} is missing" for name in missing]
        problems += [f"the network has no parameter {name!r}" for name in extra]
        raise WeightsError(f"{subject}: {'; '.join(problems[:5])}")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise WeightsError(
                f"{subject}: parameter {name!r} has the shape {shapes[name]}, expected {shape}"
            )


def _opened(path: str | Path) -> Any:
    """Return the file, opened but with no tensor read; raise `WeightsError` if it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(str(path), framework="numpy")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: no safetensors file: {error}") from error


def _shape(file: Any, name: str) -> tuple[int, ...]:
    return tuple(file.get_slice(name).get_shape())


def _write(
    path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str], force: bool
) -> None:
    from safetensors.numpy import save

    if path.exists() and not force:
        _check_replaceable(path, metadata)
    content = save(tensors, metadata=metadata)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _check_replaceable(path: Path, metadata: Mapping[str, str]) -> None:
    try:
        with _opened(path) as file:
            found = file.metadata() or {}
    except WeightsError:
        found = {}
    if any(found.get(key) != metadata[key] for key in ("format", "network")):
        raise OutputError(
            f"{path}: exists and holds no {metadata['format'].removeprefix('symprop ')} of network "
            f"{metadata['network']!r}; move it away, or force it to be replaced"
        )


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
