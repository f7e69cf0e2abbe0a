"""What commands read and print: the network and data they are about, messages, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from symprop.errors import DescriptionError, SympropError

if TYPE_CHECKING:
    from symprop.network import Network

__all__ = ["count_samples", "count_weights", "find_data", "find_network", "print_json", "say"]


def find_network(net: str) -> tuple[Network, Path]:
    """Return the network that NET names, and the folder its data files are in."""
    from symprop import description, examples

    known = (*examples.names(), *examples.bench_names())
    if net in known:
        path = examples.path(net)
        return description.read(path), path.parent
    if net.endswith(".toml"):
        return description.read(Path(net)), Path(net).resolve().parent
    file, colon, name = net.rpartition(":")
    if colon and file.endswith(".py"):
        return _network_in_code(Path(file), name), Path(file).resolve().parent
    raise DescriptionError(
        f"NET {net!r}: expected a .toml file, file.py:name, or one of {', '.join(known)}"
    )


def _network_in_code(path: Path, name: str) -> Network:
    """Run the user's file and return the Network it calls `name`."""
    import runpy

    from symprop.network import Network

    if not path.is_file():
        raise DescriptionError(f"{path}: no such file")
    try:
        found = runpy.run_path(str(path)).get(name)
    except SympropError:
        raise
    except Exception as error:
        raise DescriptionError(f"{path}: {type(error).__name__} while it ran: {error}") from error
    if not isinstance(found, Network):
        raise DescriptionError(
            f"{path}: {name!r} is {type(found).__name__}, expected a symprop.Network"
        )
    return found


def find_data(network: Network, folder: Path, file: Path | None) -> Mapping[str, Any]:
    """Return the samples of FILE, or those that come with NETWORK."""
    from symprop import data

    return data.load(file, network) if file else data.embedded(network, folder)


def count_samples(data: Mapping[str, Any]) -> int:
    """Return how many samples DATA holds."""
    return len(next(iter(data.values()), ()))


def count_weights(network: Network) -> int:
    """Return how many numbers the parameters of NETWORK hold."""
    import math

    return sum(math.prod(parameter.shape) for parameter in network.parameters)


def say(message: str) -> None:
    """Tell a person at a terminal what is going on."""
    if sys.stderr.isatty():
        click.echo(message, err=True)


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    click.echo(json.dumps(value, indent=2))
