"""The import statements at the head of a generated module, sorted as isort sorts them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable

from symprop.render.texts import WIDTH

__all__ = ["imports"]

_OWN = """
import math
import time
from threading import Lock
from typing import Any, NamedTuple
import numpy as np
from numba import config, njit, types
from numba.core.errors import TypingError
from numba.core.options import DefaultOptions
from numba.extending import intrinsic, overload, register_jitable
"""

_VECTORS = """
import os
from threading import Thread
"""
"""What the training loop of a module with vector machinery needs too, for its threads."""


def imports(vectors: str = "", scalars: str = "") -> str:
    """Return the imports of a module; those of the two kinds of machinery are joined with its own.

    What follows the plain imports of `vectors` (a guarded import) stands after them all.
    """
    tree = ast.parse(vectors)
    plain = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    rest = [node for node in tree.body if node not in plain]
    merged = _merged([*ast.parse(_OWN + _VECTORS * bool(vectors) + scalars).body, *plain])
    standard = [line for module, line in merged if module in sys.stdlib_module_names]
    others = [line for module, line in merged if module not in sys.stdlib_module_names]
    lines = vectors.splitlines()
    guarded = "\n".join(lines[rest[0].lineno - 1 :]) if rest else ""
    return "\n\n".join(filter(None, ("\n".join(standard), "\n".join(others), guarded)))


def _merged(nodes: Iterable[ast.stmt]) -> list[tuple[str, str]]:
    """Return (top-level module, statement) pairs, one for each module, in order."""
    plain: set[str] = set()
    names: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            plain |= {ast.unparse(node)}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.setdefault(node.module, set()).update(ast.unparse(n) for n in node.names)
    found = [(line.split()[1].split(".")[0], line) for line in sorted(plain)]
    for module, imported in sorted(names.items()):
        ordered = sorted(
            imported, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
        )
        line = f"from {module} import {', '.join(ordered)}"
        if len(line) > WIDTH:
            inside = "".join(f"    {name},\n" for name in ordered)
            line = f"from {module} import (\n{inside})"
        found.append((module.split(".")[0], line))
    return found
