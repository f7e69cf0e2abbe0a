"""Files of which generated modules carry parts along, cut at their dividing lines."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

__all__ = ["sections"]


@cache
def sections(name: str) -> dict[str, str]:
    """Return the text below each dividing line of a file of symprop, by the line's name.

    The file is not imported: only a generated module needs Numba.
    """
    source = (Path(__file__).parent / name).read_text(encoding="utf-8")
    _, *parts = re.split(r"^# -{70,} (\w+)$", source, flags=re.MULTILINE)
    return {title: text.strip() + "\n" for title, text in zip(parts[::2], parts[1::2], strict=True)}
