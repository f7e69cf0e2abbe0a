"""TOML text: read as a table without exhausting the reader, and networks written as TOML."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sympy import Idx

from symprop.description.notation import expression_text
from symprop.description.problems import one_line
from symprop.errors import DescriptionError, OutputError
from symprop.indices import index_name
from symprop.network import Claim, Data, Equation, Network, Parameter, Training, Variable

__all__ = ["dump", "load_table", "write"]

_WIDTH = 96
_PARTS = 30
_QUOTES = ('"', "'")


def load_table(text: str, where: str) -> dict[str, Any]:
    """Return what a TOML text holds; raise `DescriptionError` with the place of a mistake."""
    try:
        _check_keys(text)
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (line \d+), (column \d+)\)", str(error), re.DOTALL)
        place = f", {found[2]}, {found[3]}" if found else ""
        message = found[1] if found else str(error)
        raise DescriptionError(f"{where}{place}: not TOML: {one_line(message)}") from None
    except RecursionError:
        raise DescriptionError(f"{where}: not TOML: values are nested too deeply") from None
    except ValueError as error:
        raise DescriptionError(f"{where}: not TOML: {one_line(str(error))}") from None


def _check_keys(text: str) -> None:
    """Refuse keys of very many parts, for which `tomllib` takes time in the square of them."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") <= _PARTS:
            continue
        chain = quoted = 0
        for between in line.split("."):
            chain = chain + 1 if re.fullmatch(r"[\w\s\"'-]*", between) else 0
            quoted += between.strip()[:1] in _QUOTES or between.strip()[-1:] in _QUOTES
            if chain > _PARTS or quoted > 2 * _PARTS:
                raise ValueError(f"too many dots in line {number}")


def write(network: Network, path: str | Path) -> None:
    """Write the description of `network` to a file; raise `OutputError` where that fails."""
    text = dump(network)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def dump(network: Network) -> str:
    """Return `network` as a description, which `description.parse` reads as an equal network.

    Indices that the network does not use are left out. Raises `NetworkError` where the
    network is incomplete and `DescriptionError` where an equation has no text.
    """
    network.check()
    tables = {
        "indices": {index_name(index): str(index.upper + 1) for index in _used(network)},
        "parameters": {_declaration(p): _parameter(p) for p in network.parameters},
        "equations": dict(_equations(network)),
        "training": _training(network.training) if network.training != Training() else {},
        "data": _data(network.data, network.inputs + network.targets),
    }
    blocks = ["\n".join(_head(network))]
    blocks += [_block(name, entries) for name, entries in tables.items() if entries]
    blocks += [_block("[claims]", _claim(claim)) for claim in network.claims]
    return "\n\n".join(blocks) + "\n"


def _head(network: Network) -> Iterator[str]:
    yield f"name = {json.dumps(network.name)}"
    yield f"inputs  = {json.dumps([*map(_declaration, network.inputs)])}"
    if network.targets:
        yield f"targets = {json.dumps([*map(_declaration, network.targets)])}"
    if network.outputs:
        yield f"outputs = {json.dumps(list(network.outputs))}"
    if _loss_name(network) != "loss":
        yield f"loss    = {json.dumps(_loss_name(network))}"


def _block(name: str, entries: Mapping[str, str]) -> str:
    lines = [f"[{name}]"]
    for key, value in entries.items():
        lines.append(f"{key if re.fullmatch('[A-Za-z0-9_-]+', key) else json.dumps(key)} = {value}")
    return "\n".join(lines)


def _used(network: Network) -> list[Idx]:
    """Return the indices of the variables and sums of a network, in order of declaration."""
    used = {index for variable in network.variables for index in variable.indices}
    used |= set().union(*(equation.rhs.atoms(Idx) for equation in network.equations))
    foreign = used - set(network.indices)
    if foreign:
        names = ", ".join(sorted(repr(index_name(index)) for index in foreign))
        raise DescriptionError(
            f"network {network.name!r}: index {names} was not made by the network's index(...)"
        )
    return [index for index in network.indices if index in used]


def _declaration(variable: Variable | Equation) -> str:
    inside = ",".join(map(index_name, variable.indices))
    return f"{variable.name}[{inside}]" if inside else variable.name


def _parameter(parameter: Parameter) -> str:
    value = (
        json.dumps(parameter.init) if isinstance(parameter.init, str) else _value(parameter.init)
    )
    return value if parameter.trainable else f"{{ value = {value}, trainable = false }}"


def _equations(network: Network) -> Iterator[tuple[str, str]]:
    for equation in network.definitions:
        yield _declaration(equation), json.dumps(expression_text(equation.rhs))
    yield _loss_name(network), json.dumps(expression_text(network.equations[-1].rhs))


def _loss_name(network: Network) -> str:
    """Return the key of the loss's equation: ``loss`` where it has the name it gets by default."""
    name = network.equations[-1].name
    return "loss" if name in ("L", "loss") else name


def _training(training: Training) -> dict[str, str]:
    default = Training()
    entries = {"optimizer": json.dumps(training.optimizer)}
    entries |= {key: _value(value) for key, value in training.hyperparameters.items()}
    entries |= {"batch_size": str(training.batch_size), "epochs": str(training.epochs)}
    if training.seed != default.seed:
        entries["seed"] = str(training.seed)
    if training.shuffle != default.shuffle:
        entries["shuffle"] = str(training.shuffle).lower()
    return entries


def _data(data: Data, variables: Iterable[Variable]) -> dict[str, str]:
    if data.file:
        kept = {"test_samples": str(data.test_samples)} if data.test_samples else {}
        return {"file": json.dumps(data.file), **kept}
    entries = {}
    for variable in variables if data.samples else ():
        array = np.asarray(data.samples[variable.name])
        entries[variable.name] = _value((array[0] if len(array) == 1 else array).tolist())
    return entries


def _claim(claim: Claim) -> dict[str, str]:
    entries = {"quantity": _string(claim.quantity), "printed": _printed(claim.printed)}
    if claim.after:
        entries["after"] = str(claim.after)
    return entries | ({"where": _string(claim.where)} if claim.where else {})


def _printed(printed: str | tuple[Any, ...]) -> str:
    if isinstance(printed, str):
        return _string(printed)
    return f"[{', '.join(map(_printed, printed))}]"


def _string(text: str) -> str:
    """Return a TOML string: JSON's, but without surrogates and bare delete characters."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    """Return a number, or nested sequences of numbers in rows that fit the page."""
    if not isinstance(value, list | tuple):
        return _number(value)
    parts = [_value(part) for part in value]
    text = f"[{', '.join(parts)}]"
    if len(text) <= _WIDTH or not any(isinstance(part, list | tuple) for part in value):
        return text
    return "[\n" + "".join(f"  {part},\n" for part in parts) + "]"


def _number(value: float) -> str:
    """Return the shortest text that reads back as the same float, without ``.0``."""
    text = repr(value if isinstance(value, int) else float(value))
    return text.removesuffix(".0") if text != "-0.0" else text
