"""The vector machinery that generated modules carry along, as text.

Its files are not imported here: only a generated module needs Numba. Of their sections all but
"below", what a file imports of its neighbours, are copied, so they use nothing else of symprop.
"""

from __future__ import annotations

from symprop.sections import sections

__all__ = ["PIECES", "imports", "text"]

_FILES = ("writer", "tiling", "products", "dots", "contraction", "copies", "modes")

PIECES = ("modes", "contraction", "transpose", "gather")
"""The parts of the machinery that a module may need alone."""


def _file(name: str) -> dict[str, str]:
    return sections(f"vectors/{name}.py")


def imports() -> str:
    """Return the import statements of the machinery, for the head of a generated module.

    The last ones are guarded: Numba does not promise what they import.
    """
    return "\n".join(_file(name)["imports"] for name in _FILES)


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
    names += ["writer"] if wanted - {"modes"} else []
    names += ["blocks"] if wanted & {"transpose", "gather"} else []
    names += ["tiling", "products", "dots"] if "contraction" in wanted else []
    names += [piece for piece in PIECES[1:] if piece in wanted]
    found = {name: part for file in _FILES for name, part in _file(file).items()}
    return "\n\n".join(found[name] for name in names)
