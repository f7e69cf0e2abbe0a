"""Samples for a network: read from CSV or .npz files, checked, and split for the test.

Whatever the source, the result is the same: a dict with an array for each input, then
each target, in the order of declaration; the first axis counts the samples. Values are
float64, those of inputs that are used as subscripts int64. Errors are `DataError` and name the
file, the place in it and the remedy.

A CSV file has a header. The scalar variable ``x1`` is the column ``x1``; a tensor has a
column for each element, ``x[0]``, ``x[1]``, ... or ``K[0,0]``, ``K[0,1]``, ... in any order
(``x_0`` and ``K_0_0`` are understood too). There must be no further column. An .npz file
holds an array by the name of each variable, with the shape ``(n, *shape)``.
"""

from __future__ import annotations

import csv
import math
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from symprop.errors import DataError, nearest
from symprop.network import Network, Variable

__all__ = ["check", "check_names", "embedded", "load", "split"]

Samples = dict[str, NDArray[Any]]
"""An array for each input and target."""

_LARGEST = 2**31
"""Bytes of a CSV file, or of an .npz file's arrays, beyond which a file is taken for a mistake."""


def load(path: str | Path, network: Network) -> Samples:
    """Return the samples in a .csv or .npz file; raise `DataError` where they do not fit."""
    path = Path(path)
    readers = {".csv": _read_csv, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: got the ending {path.suffix!r}, expected .csv or .npz")
    with _file_errors(path):
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path}: larger than 2 GiB; train on arrays in Python instead")
        samples = readers[path.suffix.lower()](path, network)
    return check(samples, network, str(path))


def embedded(network: Network, folder: str | Path) -> Samples:
    """Return the samples that come with the network: in its description or beside it.

    `folder` is where the description stands; a file that it names must be inside. Raises
    `DataError`, also where the network has no samples.
    """
    if network.data.samples:
        return check(network.data.samples, network, f"network {network.name!r}, data")
    if not network.data.file:
        raise DataError(
            f"network {network.name!r} comes without data; give a .csv or .npz file (--data FILE)"
        )
    path = Path(folder) / network.data.file
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise DataError(
            f"network {network.name!r}, data: the file {network.data.file!r} is outside the "
            f"description's folder; move it there, or give it explicitly"
        )
    return load(path, network)


def split(data: Mapping[str, NDArray[Any]], test_samples: int) -> tuple[Samples, Samples]:
    """Return training and test samples, the order of each kept; no test samples are ``{}``.

    The test gets the last `test_samples` of a permutation that depends on the number of
    samples only, the same on every machine: files are often sorted, by class or by
    writer, and their end is not like the rest.
    """
    (count,) = {len(array) for array in data.values()}
    if not 0 <= test_samples < count:
        raise DataError(f"test samples: got {test_samples}, expected 0 to {count - 1} of {count}")
    if test_samples == 0:
        return dict(data), {}
    chosen = np.zeros(count, dtype=bool)
    chosen[_permutation(count)[count - test_samples :]] = True
    train = {name: array[~chosen] for name, array in data.items()}
    return train, {name: array[chosen] for name, array in data.items()}


def _permutation(count: int) -> NDArray[np.int64]:
    """Return 0, ..., count - 1 sorted by their SplitMix64 hashes.

    NumPy does not promise its own permutations from one version to the next.
    Source: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
    """
    z = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)), kind="stable")


def check(samples: Mapping[str, Any], network: Network, origin: str = "data") -> Samples:
    """Return `samples` as arrays of the right type, in order; raise `DataError` unless they fit.

    Each array-like has the shape ``(n, *shape)`` with the same n >= 1, numbers without
    NaN or infinity, and integers within range where the network uses them as subscripts.
    `origin` is what messages name.
    """
    variables = network.inputs + network.targets
    check_names(samples, [variable.name for variable in variables], origin, "array")
    arrays = {v.name: _checked(samples[v.name], v, origin) for v in variables}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"{origin}: the arrays differ in their number of samples: {listed}")
    if 0 in counts.values():
        raise DataError(f"{origin}: there are no samples; expected at least one")
    for name, size in network.index_inputs.items():
        arrays[name] = _as_subscripts(arrays[name], name, size, origin)
    return arrays


def check_names(got: Iterable[str], expected: list[str], origin: str, kind: str) -> None:
    """Raise `DataError`, naming what is unknown and what is missing, unless `got` is `expected`."""
    names, known = dict.fromkeys(got), set(expected)
    unknown = [name for name in names if name not in known]
    missing = [name for name in expected if name not in names]
    if unknown or missing:
        problems = [
            f"unknown {kind} {name!r}{nearest(name, (missing or expected)[:1000])}"
            for name in unknown[:5]
        ]
        problems += [f"{kind} {name!r} is missing" for name in missing[: 5 - len(problems)]]
        more = len(unknown) + len(missing) - len(problems)
        problems += [f"and {more} more such problems"] if more else []
        raise DataError(
            f"{origin}: {'; '.join(problems)}; expected exactly the inputs and targets "
            f"{_listed(expected)}"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 4 else (*names[:3], "...", names[-1]))


def _checked(values: Any, variable: Variable, origin: str) -> NDArray[Any]:
    subject = f"{origin}, array {variable.name!r}"
    shape = ", ".join(map(str, ("n", *variable.shape)))
    expected = f"expected ({shape}{'' if variable.shape else ','}), n samples"
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"{subject}: its rows differ in length, {expected}") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{subject}: got the type {array.dtype}, expected real numbers")
    if array.ndim == 0 or array.shape[1:] != variable.shape:
        raise DataError(f"{subject}: got the shape {array.shape}, {expected}")
    bad = np.argwhere(~np.isfinite(array))
    if bad.size:
        sample, *place = bad[0].tolist()
        element = f"[{','.join(map(str, place))}]" if place else ""
        raise DataError(
            f"{subject}: {variable.name}{element} of sample {sample} (counted from 0) is "
            f"{array[tuple(bad[0])]}, expected a finite number; remove or mend {len(bad)} such "
            "values"
        )
    return np.ascontiguousarray(array, dtype=np.float64)


def _as_subscripts(array: NDArray[Any], name: str, size: int, origin: str) -> NDArray[Any]:
    bad = np.argwhere((array != np.floor(array)) | (array < 0) | (array >= size))
    if bad.size:
        raise DataError(
            f"{origin}, array {name!r}: sample {bad[0][0]} (counted from 0) holds "
            f"{array[tuple(bad[0])]:g}, expected integers from 0 to {size - 1}: the network "
            "uses them as subscripts"
        )
    return array.astype(np.int64)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Turn what reading a broken file raises into a `DataError` that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}: no CSV file: {error}") from error
    except MemoryError as error:
        raise DataError(f"{path}: its arrays do not fit into memory") from error


# CSV


def _read_csv(path: Path, network: Network) -> Samples:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = _header(file, path)
        expected = [name for v in network.inputs + network.targets for name in _elements(v)]
        columns = _columns(expected)
        canonical = [columns.get(name, name) for name in header]
        _check_header(canonical, expected, path)
        table = _quick_table(file, len(header))
    if table is None or not np.isfinite(table).all():
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = _careful_table(file, header, path)
    position = {name: number for number, name in enumerate(canonical)}
    return {
        variable.name: table[:, [position[name] for name in _elements(variable)]].reshape(
            -1, *variable.shape
        )
        for variable in network.inputs + network.targets
    }


def _header(file: TextIO, path: Path) -> list[str]:
    for row in csv.reader(iter(file.readline, "")):
        if row:
            return [name.strip().replace(" ", "") for name in row]
    raise DataError(f"{path}: the file is empty; expected a header with the columns' names")


def _check_header(names: list[str], expected: list[str], path: Path) -> None:
    if len(names) == 1 and len(expected) > 1 and (";" in names[0] or "\t" in names[0]):
        raise DataError(f"{path}, line 1: expected columns separated by commas")
    if all(_is_numeric(name) for name in names):
        raise DataError(f"{path}, line 1: got numbers, expected a header: {_listed(expected)}")
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{path}, line 1: column {name!r} occurs {count} times; keep one")
    check_names(names, expected, f"{path}, line 1", "column")


def _elements(variable: Variable) -> list[str]:
    """Return the canonical names of the columns of a variable, in the array's order.

    >>> from sympy import Idx
    >>> _elements(Variable("K", (Idx("i", 2), Idx("j", 2))))
    ['K[0,0]', 'K[0,1]', 'K[1,0]', 'K[1,1]']
    """
    if not variable.shape:
        return [variable.name]
    return [
        f"{variable.name}[{','.join(map(str, place))}]"
        for place in product(*map(range, variable.shape))
    ]


def _columns(names: list[str]) -> dict[str, str]:
    """Return the canonical name of a column for each name by which it may be called.

    >>> _columns(["t", "K[0,1]"])
    {'t': 't', 'K_0_1': 'K[0,1]', 'K[0,1]': 'K[0,1]'}
    """
    underscored = {name.replace("[", "_").replace(",", "_").rstrip("]"): name for name in names}
    # a scalar called x_0 goes before an element of x
    return {**underscored, **dict(zip(names, names, strict=True))}


def _quick_table(file: TextIO, width: int) -> NDArray[np.float64] | None:
    """Return the rows as numbers by NumPy's reader, six times as fast as `csv`; None if unsure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a file without rows, reported by `check`
        try:
            table = np.loadtxt(file, delimiter=",", comments=None, quotechar='"', ndmin=2)
        except ValueError:
            return None
    if table.size == 0:
        return np.empty((0, width))
    return table if table.shape[1] == width else None


def _careful_table(file: TextIO, header: list[str], path: Path) -> NDArray[np.float64]:
    """Return the rows as numbers, or raise with the line and column of the first that is none."""
    rows = csv.reader(file)
    next(row for row in rows if row)
    table = []
    for row in rows:
        if not row:
            continue
        line = f"{path}, line {rows.line_num}"
        if len(row) != len(header):
            raise DataError(
                f"{line}: got {len(row)} cells, expected {len(header)} as in the header"
            )
        for name, cell in zip(header, row, strict=True):
            if not _is_numeric(cell):
                raise DataError(f"{line}, column {name!r}: got {cell[:40]!r}, expected a number")
            if not math.isfinite(float(cell)):
                raise DataError(
                    f"{line}, column {name!r}: got {cell.strip()!r}, expected a finite number; "
                    "remove the line or mend the value"
                )
        table.append([float(cell) for cell in row])
    return np.array(table).reshape(-1, len(header))


def _is_numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


# .npz


def _read_npz(path: Path, network: Network) -> Samples:
    names = [variable.name for variable in network.inputs + network.targets]
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                raise DataError(f"{path}: more than 2 GiB unpacked; train on arrays in Python")
        with np.load(path, allow_pickle=False) as arrays:
            check_names(arrays.files, names, str(path), "array")
            return {name: _member(arrays, name, path) for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{path}: no .npz file: {error}; write it with numpy.savez") from error


def _member(arrays: Mapping[str, Any], name: str, path: Path) -> NDArray[Any]:
    try:
        return np.asarray(arrays[name])
    except ValueError as error:
        raise DataError(f"{path}, array {name!r}: no array of plain numbers: {error}") from error
