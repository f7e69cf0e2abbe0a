"""Text that fits into the columns of a line, broken the way `ruff format` breaks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["WIDTH", "call", "joined", "wrapped"]

WIDTH = 100
"""Columns of a line."""


def call(head: str, parts: Sequence[str], tail: str = ")", depth: int = 0) -> list[str]:
    """Return ``head`` + parts + ``tail`` on one line if it fits, else with its parts broken off.

    >>> call("f(", ["a", "b"])
    ['f(a, b)']
    """
    margin = "    " * depth
    whole = f"{margin}{head}{', '.join(parts)}{tail}"
    if len(whole) <= WIDTH:
        return [whole]
    inside = f"{margin}    {', '.join(parts)}"
    if len(inside) <= WIDTH:
        return [f"{margin}{head}", inside, f"{margin}{tail}"]
    return [f"{margin}{head}", *(f"{margin}    {part}," for part in parts), f"{margin}{tail}"]


def joined(lines: Iterable[str]) -> str:
    """Return lines as one text, without a newline at its end."""
    return "\n".join(lines)


def wrapped(head: str, value: str, depth: int) -> Iterator[str]:
    """Put a long value into parentheses; break it at its outermost operators if it must be."""
    margin = "    " * depth
    if len(margin) + len(head) + len(value) <= WIDTH:
        yield f"{margin}{head}{value}"
        return
    parts, before = [value], ""
    if len(margin) + 4 + len(value) > WIDTH:
        parts = _terms(value)
        if len(parts) == 1 and value.endswith(")"):
            place = _opening(value)
            before, parts = value[:place], _terms(value[place + 1 : -1])
    yield f"{margin}{head}{before}("
    for part in parts:
        yield f"{margin}    {part}"
    yield f"{margin})"


def _opening(value: str) -> int:
    """Return the place of the parenthesis that the last one closes.

    >>> _opening("f(a) * (b + (c))")
    7
    """
    depth = 0
    for place in range(len(value) - 1, -1, -1):
        depth += (value[place] == ")") - (value[place] == "(")
        if depth == 0:
            return place
    return 0


def _terms(value: str) -> list[str]:
    """Split a text in front of its outermost ``+``, ``-``, ``if`` and ``else``.

    >>> _terms("a + f(b - c) - d")
    ['a', '+ f(b - c)', '- d']
    """
    parts, depth, begin = [], 0, 0
    words = (" if ", " else ") if _outside(value, " else ") else (" + ", " - ")
    for place, letter in enumerate(value):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and place and any(value.startswith(word, place) for word in words):
            parts.append(value[begin:place])
            begin = place + 1
    return [*parts, value[begin:]]


def _outside(value: str, word: str) -> bool:
    """Tell whether `word` stands in `value` outside of all parentheses."""
    depth = 0
    for place, letter in enumerate(value):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and value.startswith(word, place):
            return True
    return False
