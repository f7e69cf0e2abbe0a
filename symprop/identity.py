"""What the text of a module depends on, spelled out, so that it can be found by it.

The fingerprint of a network tells networks apart whose equations print differently. Here
nothing may be left out: the text is also made of initial values, defaults of training, digits of
numbers that are not printed, and the rules of the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import count
from typing import Any

import numpy as np
from sympy import Basic, Dummy, srepr

from symprop.derivation import Derivation
from symprop.options import Options

__all__ = ["identity"]


class _ForeignError(Exception):
    """A value whose meaning its spelling might not tell."""


def identity(derivation: Derivation, options: Options) -> str | None:
    """Return a text that two derivations with options share only if their modules are equal.

    None where an expression has a function that is defined neither by SymPy nor by symprop.

    >>> from symprop.derivation import differentiate
    >>> from symprop.examples import load_example
    >>> one = identity(differentiate(load_example("kumar")), Options())
    >>> one == identity(differentiate(load_example("kumar")), Options())
    True
    >>> one == identity(differentiate(load_example("kumar")), Options("float32"))
    False
    """
    net = derivation.network
    parts = (
        net.name, net.indices, net.inputs, net.targets, net.parameters, net.outputs,
        net.definitions, net.objective, net.training, derivation.rewrites, derivation.forward,
        derivation.backward, options,
    )  # fmt: skip
    try:
        return _Speller().spelled(parts)
    except _ForeignError:
        return None


class _Speller:
    """Spells values; dummies, whose numbers differ from run to run, are numbered as they come."""

    def __init__(self) -> None:
        self._numbers = count()
        self._dummies: dict[Dummy, int] = {}

    def spelled(self, value: Any) -> str:
        """Return the spelling of a value and of all its parts."""
        if value is None or isinstance(value, bool | int | float | str | np.generic):
            return repr(value)
        if isinstance(value, tuple | list):
            return f"({','.join(map(self.spelled, value))})"
        if isinstance(value, Mapping):
            return self.spelled(tuple(value.items()))
        if isinstance(value, Basic):
            return self._expression(value)
        if is_dataclass(value) and not isinstance(value, type):
            parts = tuple(getattr(value, field.name) for field in fields(value))
            return f"{_title(type(value))}{self.spelled(parts)}"
        raise _ForeignError(type(value))

    def _expression(self, value: Basic) -> str:
        """Return a call for each node, its arguments in their own order, unlike `srepr`."""
        if isinstance(value, Dummy):
            if value not in self._dummies:
                self._dummies[value] = next(self._numbers)
            return f"dummy{self._dummies[value]}({value.name!r},{value.assumptions0!r})"
        title = _title(type(value))
        if not value.args:
            return f"{title}:{srepr(value)}"
        return f"{title}({','.join(map(self.spelled, value.args))})"


def _title(kind: type) -> str:
    if str(kind.__module__).split(".")[0] not in ("sympy", "symprop"):
        raise _ForeignError(kind)
    return f"{kind.__module__}.{kind.__qualname__}"
