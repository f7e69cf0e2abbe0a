"""The tables of a description beside its equations: training, data and claims."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symprop.description.problems import (
    Problems,
    is_finite,
    is_name,
    is_numeric,
    is_whole,
    kind,
    shown,
)
from symprop.errors import DescriptionError, nearest
from symprop.network import Claim, Data, Network, Training, Variable
from symprop.quantities import elements

__all__ = ["read_claims", "read_data", "read_training"]

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.(?:npz|csv)")

_TRAINING: dict[str, tuple[Callable[[Any], bool], str]] = {
    "optimizer": (is_name, "the name of an optimizer"),
    "batch_size": (lambda value: is_whole(value, 1), "a whole number from 1"),
    "epochs": (lambda value: is_whole(value, 1), "a whole number from 1"),
    "seed": (lambda value: is_whole(value, 0), "a whole number from 0"),
    "shuffle": (lambda value: isinstance(value, bool), "true or false"),
}


def read_training(table: dict[str, Any], problems: Problems) -> Training:
    """Return what ``[training]`` says; keys that are not its own are hyperparameters.

    Whether the optimizer exists and has them is for the compiler to say.
    """
    given: dict[str, Any] = {}
    hyperparameters: dict[str, float] = {}
    for key, value in table.items():
        valid, expected = _TRAINING.get(key, (is_finite, "a number"))
        if not is_name(key):
            problems.add("[training]", f"unknown key {shown(key)}{nearest(key[:99], _TRAINING)}")
        elif not valid(value):
            problems.add("[training]", f"{key} is {kind(value)}, expected {expected}")
        elif key in _TRAINING:
            given[key] = value
        else:
            hyperparameters[key] = float(value)
    return Training(**given, hyperparameters=hyperparameters)


def read_data(
    table: dict[str, Any], network: Network, broken: Collection[str], problems: Problems
) -> Data:
    """Return what ``[data]`` says: the samples themselves, or a file beside the description.

    `broken` are names whose declaration was refused; their samples are not reported again.
    """
    if not isinstance(table.get("file"), str):
        return Data(samples=_samples(table, network, broken, problems)) if table else Data()
    problems.unknown(table, ("file", "test_samples"), "[data]")
    if not _FILE.fullmatch(table["file"]):
        problems.add(
            "[data]",
            f"file is {shown(table['file'])}, expected the name of an .npz or .csv file beside "
            "the description",
        )
    kept = table.get("test_samples", 0)
    if is_whole(kept, 0):
        return Data(file=table["file"], test_samples=kept)
    problems.add("[data]", f"test_samples is {kind(kept)}, expected a whole number from 0")
    return Data()


def _samples(
    table: dict[str, Any], network: Network, broken: Collection[str], problems: Problems
) -> dict[str, NDArray[Any]]:
    variables = (*network.inputs, *network.targets)
    problems.unknown(table, (*(v.name for v in variables), *broken), "[data]")
    whole = {} if problems else network.index_inputs
    samples = {}
    for variable in variables:
        if variable.name not in table:
            problems.add("[data]", f"no value for {variable.name!r}")
            continue
        array = _array(variable, table[variable.name], problems)
        if array is not None:
            samples[variable.name] = array.astype(np.int64) if variable.name in whole else array
    if len({len(array) for array in samples.values()}) > 1:
        counts = ", ".join(f"{name} {len(array)}" for name, array in samples.items())
        problems.add("[data]", f"the variables differ in their number of samples: {counts}")
    return samples


def _array(variable: Variable, value: Any, problems: Problems) -> NDArray[Any] | None:
    """Return the samples of a variable, their number first; None where they do not fit."""
    place, shape = f"[data], {variable.name}", variable.shape
    if not is_numeric(value):
        problems.add(place, f"got {kind(value)}, expected a finite number or lists of numbers")
        return None
    with suppress(ValueError):
        array = np.asarray(value, dtype=np.float64)
        array = array[np.newaxis] if array.ndim == len(shape) else array
        if array.shape[1:] == shape and len(array):
            return array
    listed = ", ".join(map(str, shape))
    expected = f"a sample of shape ({listed})" if shape else "a number"
    problems.add(place, f"the value does not fit: expected {expected}, or a list of such samples")
    return None


def read_claims(tables: Any, network: Network, problems: Problems) -> tuple[Claim, ...]:
    """Return the claims; what they are about is only checked where the network is sound."""
    if not isinstance(tables, list) or not all(isinstance(claim, dict) for claim in tables):
        problems.add("", f"'claims' is {kind(tables)}, expected tables: [[claims]]")
        return ()
    sound = not problems
    claims = []
    for number, table in enumerate(tables, start=1):
        place = f"claim {number}"
        if isinstance(table.get("quantity"), str):
            place += f", {shown(table['quantity'])}"
        problems.unknown(table, ("quantity", "printed", "where", "after"), place)
        claim = _claim(table, place, problems)
        if claim is not None:
            claims.append(claim)
            if sound:
                _check_claim(claim, network, place, problems)
    return tuple(claims)


def _check_claim(claim: Claim, network: Network, place: str, problems: Problems) -> None:
    try:
        elements(claim, network)
    except DescriptionError as error:
        problems.add(place, str(error))


def _claim(table: dict[str, Any], place: str, problems: Problems) -> Claim | None:
    """Return one claim; None where a part of it is not what it should be."""
    printed = table.get("printed", "")
    after = table.get("after", 0)
    checks = {
        "quantity": (isinstance(table.get("quantity"), str), 'a string such as "dE/dw5"'),
        "printed": (_texts(printed), 'a string, for its digits count: "0.0820"'),
        "where": (isinstance(table.get("where", ""), str), "a string"),
        "after": (is_whole(after, 0), "a whole number of updates from 0"),
    }
    for key, (valid, expected) in checks.items():
        if not valid:
            got = "missing" if key not in table else kind(table[key])
            problems.add(place, f"{key} is {got}, expected {expected}")
    if not all(valid for valid, _ in checks.values()):
        return None
    return Claim(table["quantity"], _frozen(printed), table.get("where", ""), after)


def _texts(value: Any) -> bool:
    """Tell whether `value` is a string or nested lists of strings."""
    return all(map(_texts, value)) if isinstance(value, list) else isinstance(value, str)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
