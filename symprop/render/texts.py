"""Text that fits into the columns of a line, broken the way `ruff format` breaks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["WIDTH", "call", "joined", "times", "tupled", "wrapped"]

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


def times(stride: int, index: str, start: int = 0) -> str:
    """Return the text of ``start + stride * index``.

    >>> times(1, "first"), times(64, "first", 200)
    ('first', '200 + 64 * first')
    """
    moved = index if stride == 1 else f"{stride} * {index}"
    return f"{start} + {moved}" if start else moved


def tupled(parts: Sequence[str]) -> str:
    """Return the text of a tuple.

    >>> tupled(["a"]), tupled(["a", "b"])
    ('(a,)', '(a, b)')
    """
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def wrapped(head: str, value: str, depth: int) -> Iterator[str]:
    """Break a long value inside of its last parentheses, or in parentheses around all of it.

    The former where at most one operator is outermost and the parentheses end the value, a rule
    of the formatter; what stands inside is broken at its outermost operators if it must be.

    >>> next(wrapped("a = ", f"b * ({'c' * 50} + {'d' * 40})", 0))
    'a = b * ('
    """
    margin = "    " * depth
    if len(margin) + len(head) + len(value) <= WIDTH:
        yield f"{margin}{head}{value}"
        return
    place = _opening(value) if value.endswith(")") and len(_terms(value)) <= 2 else 0
    if not 0 < place < WIDTH - len(margin) - len(head):
        place, value = 0, f"({value})"
    inside = value[place + 1 : -1]
    parts = [inside]
    if len(margin) + 4 + len(inside) > WIDTH:
        parts = _arguments(inside) or _terms(inside)
    yield f"{margin}{head}{value[:place]}("
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
    """Split a text in front of those of its outermost operators that bind least.

    >>> _terms("a + f(b - c) * e - d"), _terms("a[i] * b / (c + d)")
    (['a', '+ f(b - c) * e', '- d'], ['a[i]', '* b', '/ (c + d)'])
    """
    for words in ((" if ", " else "), (" + ", " - "), (" * ", " / ")):
        parts = _split(value, words)
        if len(parts) > 1:
            return parts
    return [value]


def _arguments(value: str) -> list[str]:
    """Split a text at its outermost commas; nothing where it has none.

    >>> _arguments("a, f(b, c)"), _arguments("f(b, c)")
    (['a,', 'f(b, c),'], [])
    """
    parts = _split(value, (", ",))
    return [f"{part.removeprefix(', ')}," for part in parts] if len(parts) > 1 else []


def _split(value: str, words: tuple[str, ...]) -> list[str]:
    """Split a text in front of some words where they stand outside of all parentheses."""
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(value):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and place and value.startswith(words, place):
            parts.append(value[begin:place].strip())
            begin = place
    return [*parts, value[begin:].strip()]
