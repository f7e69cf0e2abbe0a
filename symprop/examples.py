"""The networks that come with symprop, descriptions inside the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from symprop.errors import DescriptionError, nearest
from symprop.reading import read

if TYPE_CHECKING:
    from symprop.network import Network

__all__ = ["bench_names", "load_example", "names", "path"]


def names() -> tuple[str, ...]:
    """Return the names of the networks that come with symprop, sorted.

    >>> names()
    ('digits', 'kumar', 'lamsal', 'one_neuron', 'relu', 'two_hidden_layers')
    """
    return tuple(sorted(file.stem for file in _folder().glob("*.toml")))


def bench_names() -> tuple[str, ...]:
    """Return the names of the networks that `symprop bench` times, the smallest first.

    They come without data.
    """
    return ("T1", "T2", "M0", "M1", "M3")


def path(name: str) -> Path:
    """Return where the description of a network stands; its data file is beside it.

    Raises `DescriptionError` where no network has that name.
    """
    if name in bench_names():
        return _folder() / "bench" / f"{name}.toml"
    if name not in names():
        known = (*names(), *bench_names())
        raise DescriptionError(
            f"no network {name!r} comes with symprop{nearest(name, known)}; "
            f"there are {', '.join(known)}"
        )
    return _folder() / f"{name}.toml"


def load_example(name: str) -> Network:
    """Return a network that comes with symprop; raise `DescriptionError` for other names.

    Those of `names` and those of `bench_names`.

    >>> load_example("kumar").objective.name
    'E'
    """
    return read(path(name))


def _folder() -> Path:
    return Path(__file__).with_name("networks")
