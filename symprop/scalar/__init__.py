"""Scalar functions that a generated module carries along, as plain Python that Numba can call.

The generator copies the source of a function, docstring and all, into a module, behind
the functions that it `requires`. So each may use only `math`, `np`, `real` and the others of
its dtype: those of `common` and those of `single` (float32) or `double` (float64). `real` is the
module's floating-point type; a literal without it takes the type of what it is computed with,
which NumPy too would do with a number of Python. The names of helpers begin with an underscore,
which no name of a user does.

Where compiled code calls a function, `tracing` writes down what it computes: operators, `abs` and
`np.sqrt`, of numbers and of their `_bits`. So there are no jumps; `_where` chooses. Of a function
of small whole numbers it makes a table.

Each function takes and returns numbers of type `real` (arguments that are integers must
be converted first), keeps the sign of a zero, gives the limit at +-infinity and NaN for NaN. With
fused multiply-add it is within two units in the last place (ULP) of the true value; what is so
without, and that sine, cosine and tangent are NaN for large arguments, says
tests/accuracy/README.md. Plain Python raises nothing either; NumPy may warn of an overflow.

The fast-math flag ``reassoc`` would undo exact differences and the rounding to integers by
adding a large number. That rounding leaves the integer in the last bits of the sum, needs no
conversion, which a NaN would make undefined, and is vector code on every x86 processor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType, ModuleType

from symprop.scalar import (
    common,
    double,
    double_alone,
    double_circular,
    double_normal,
    single,
    single_circular,
    single_normal,
)
from symprop.sections import sections

__all__ = ["ALONE", "SCALARS", "functions", "imports", "machinery", "requires", "source"]

_TRACING = "scalar/tracing.py"
_TABLES = {"_power": 256}
"""Functions that compiled code looks up, and how many of their values."""


def _defined(*modules: ModuleType) -> Mapping[str, Callable[..., float]]:
    found = {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    }
    return MappingProxyType(found)


_FUNCTIONS = {
    "float32": _defined(common, single, single_circular, single_normal),
    "float64": _defined(common, double, double_circular, double_normal, double_alone),
}

SCALARS: tuple[str, ...] = tuple(n for n in _FUNCTIONS["float64"] if not n.startswith("_"))
"""The names of the functions; those with a twin in SymPy or `symprop.functions` have its name."""

ALONE: Mapping[str, Mapping[str, str]] = {
    dtype: {name: f"_{name}_alone" for name in SCALARS if f"_{name}_alone" in found}
    for dtype, found in _FUNCTIONS.items()
}
"""For each dtype the functions that have another form for one number, and that form's name.

It is for code that waits for the result, see `double_alone`.
"""


def functions(dtype: str) -> Mapping[str, Callable[..., float]]:
    """Return the functions of "float32" or "float64" and their helpers by name, as plain Python.

    >>> float(functions("float64")["tanh"](0.0))
    0.0
    """
    return _FUNCTIONS[dtype]


def requires(name: str, dtype: str) -> tuple[str, ...]:
    """Return the names of the functions that `name` calls, each after those it calls itself.

    >>> requires("exp", "float32")
    ('_where', '_exp_rest', '_number', '_bits', '_exp_parts', '_scaled_exp')
    >>> requires("relu", "float64")
    ('_where',)
    """
    found: dict[str, None] = {}
    for called in _FUNCTIONS[dtype][name].__code__.co_names:
        if called in _FUNCTIONS[dtype]:
            found |= dict.fromkeys((*requires(called, dtype), called))
    return tuple(found)


def source(name: str, dtype: str) -> str:
    """Return the text of a function, ready to be put into a module.

    >>> source("relu", "float32").splitlines()[-1]
    '    return _where(z <= real(0.0), real(0.0), z)'
    """
    return inspect.getsource(_FUNCTIONS[dtype][name])


def imports() -> str:
    """Return the import statements of `machinery`, for the head of a generated module."""
    return sections(_TRACING)["imports"]


def machinery(names: Collection[str]) -> str:
    """Return the text by which Numba compiles functions; it stands behind these, in this order."""
    made = [f"_table({n}, {_TABLES[n]})" if n in _TABLES else f"_scalar({n})" for n in names]
    applied = "\n".join(f"{n} = {form}" for n, form in zip(names, made, strict=True))
    parts = sections(_TRACING)
    tables = [parts["tables"]] if any(n in _TABLES for n in names) else []
    return "\n\n".join([parts["tracing"], *tables, applied])
