"""The vector machinery that generated modules carry along, as text.

The machinery itself is `symprop.machinery`, which is not imported here: only a generated module
needs Numba.
"""

from __future__ import annotations

from symprop.sections import sections

__all__ = ["imports", "text"]

_FILE = "machinery.py"

PIECES = ("modes", "contraction", "transpose", "gather")


def imports() -> str:
    """Return the import statements of the machinery, for the head of a generated module."""
    return sections(_FILE)["imports"]


def text(*pieces: str) -> str:
    """Return the named pieces of the machinery, of `PIECES`; all where none is named.

    What the pieces stand on is there too, and so is "modes" (`_hot`, `_flush` and others). The
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
    return "\n\n".join(sections(_FILE)[name] for name in names)
