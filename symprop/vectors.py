"""The vector machinery that generated modules carry along, as text.

The machinery itself is `symprop.machinery`, which is not imported here: only a generated module
needs Numba.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

__all__ = ["imports", "text"]

PIECES = ("modes", "contraction", "transpose", "gather")


def imports() -> str:
    """Return the import statements of the machinery, for the head of a generated module."""
    return _sections()["imports"]


def text(*pieces: str) -> str:
    """Return the named pieces of the machinery, of `PIECES`; all where none is named.

    What the pieces stand on is there too, and so is "modes" (`_hot`, `_flush` and `_restore`). The
    imports are not: `imports` returns them. Raises ValueError for an unknown name.
    """
    unknown = sorted(set(pieces) - set(PIECES))
    if unknown:
        raise ValueError(f"vector machinery: got {unknown[0]!r}, expected one of {PIECES}")
    wanted = set(pieces or PIECES)
    names = ["modes"]
    names += ["vectors"] if wanted - {"modes"} else []
    names += ["blocks"] if wanted & {"transpose", "gather"} else []
    names += [piece for piece in PIECES[1:] if piece in wanted]
    return "\n\n".join(_sections()[name] for name in names)


@cache
def _sections() -> dict[str, str]:
    """Return the text below each dividing line of the machinery, by the line's name."""
    source = Path(__file__).with_name("machinery.py").read_text(encoding="utf-8")
    _, *parts = re.split(r"^# -{70,} (\w+)$", source, flags=re.MULTILINE)
    return {name: body.strip() + "\n" for name, body in zip(parts[::2], parts[1::2], strict=True)}
