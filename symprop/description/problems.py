"""What is wrong with a file: the list of problems, and words for the values in it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from symprop.errors import DescriptionError, NetworkError, nearest

__all__ = [
    "Problems",
    "is_finite",
    "is_name",
    "is_numeric",
    "is_whole",
    "kind",
    "one_line",
    "short",
    "shown",
]

_MANY = 100
_LARGEST = 2**63 - 1
_SUBJECT = re.compile(
    r"(?:index|input|target|parameter|equation|output|loss|network name)\b[^:]*: "
)


class Problems:
    r"""The problems of one file, in the order in which they were found.

    >>> problems = Problems("digits.toml")
    >>> problems.add('index "i"', "got the size 0")
    >>> problems.unknown({"epoch": 3}, ["epochs", "seed"], "[training]")
    >>> print(*problems.lines(), sep="\n")
    digits.toml, index "i": got the size 0
    digits.toml, [training]: unknown key "epoch"; did you mean 'epochs'?
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._lines: dict[str, None] = {}

    def __bool__(self) -> bool:
        """Tell whether there is any problem."""
        return bool(self._lines)

    def lines(self) -> list[str]:
        """Return the problems, a line each."""
        return list(self._lines)

    def add(self, place: str, message: str) -> None:
        """Note down a problem, unless the same is there; give up where there are very many."""
        self._lines[f"{self.where}{', ' if place else ''}{place}: {one_line(message)}"] = None
        if len(self._lines) >= _MANY:
            raise DescriptionError(
                [*self._lines, f"{self.where}: there may be more problems; mend these first"]
            )

    def unknown(self, table: Iterable[str], keys: Iterable[str], place: str) -> None:
        """Note down the keys of `table` that are not in `keys`, and what they may be."""
        known = sorted(keys)
        for key in table:
            if key not in known:
                meant = nearest(key[:99], known) or f"; known are {', '.join(known)}"
                self.add(place, f"unknown key {shown(key)}{meant}")

    def attempt(self, place: str, act: Callable[..., object], *args: Any, **options: Any) -> bool:
        """Call a method of a network; note down what it objects to and return False then."""
        try:
            act(*args, **options)
        except NetworkError as error:
            self.add(place, _SUBJECT.sub("", str(error), count=1))
            return False
        return True


def is_numeric(value: Any) -> bool:
    """Tell whether `value` is a finite number or nested lists of them."""
    if isinstance(value, list):
        return bool(value) and all(map(is_numeric, value))
    return is_finite(value)


def is_finite(value: Any) -> bool:
    """Tell whether `value` is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_whole(value: Any, least: int) -> bool:
    """Tell whether `value` is an integer from `least` that 64 bits can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def is_name(value: Any) -> bool:
    """Tell whether `value` is a string of letters, digits and underscores, a letter first."""
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value))


def kind(value: Any) -> str:
    """Say what a value of a file is, in a few words."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return short(value)


def short(value: Any) -> str:
    """Return the text of a value, cut to a bearable length."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "an enormous number"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def shown(name: str) -> str:
    """Return a name of the file in double quotes, harmless to a terminal."""
    text = repr(name[:60])[1:-1] + ("..." if len(name) > 60 else "")
    return f'"{text}"'


def one_line(message: str) -> str:
    """Return a message as one line of bearable length, harmless to a terminal."""
    text = "".join(character if character.isprintable() else " " for character in message)
    return text if len(text) <= 500 else f"{text[:500]}..."
