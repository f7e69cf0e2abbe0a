"""Machine code of generated modules, kept in the user's cache from one run to the next.

Numba's own cache (``cache=True``) keeps an index and the code in two files, so that two
processes at once can take each other's code for theirs; it raises at a full disk or a damaged
file; it does not see the module's constants; and it loads all of Numba's compiler before it looks.
Here a compiled function is one file in an entry of `symprop.cache`: where, and how safely, it says.
"""

from __future__ import annotations

import inspect
import pickle
import platform
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, cast

import llvmlite
import numba
import numpy as np
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

import symprop
from symprop import cache

__all__ = ["keep"]

_SETTINGS = (
    "OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "DEBUGINFO_DEFAULT",
    "LLVM_REFPRUNE_FLAGS",
)  # fmt: skip
"""What of Numba's settings changes the code; the processor's name and features are in its key."""


def keep(module: ModuleType, source: str) -> None:
    """Let the compiled functions of a module take their machine code from the cache.

    The entry depends on the text, on the numbers and strings among the module's
    globals, which a text may choose by the machine it runs on and Numba compiles in, and on the
    versions of everything that has a part in the code.
    """
    if cache.folder() is None:
        return
    settings = [f"{name}={getattr(numba.config, name, None)}" for name in _SETTINGS]
    entry = cache.digest(source, *_constants(module), *_versions(), *settings)
    kernels = {name: value for name, value in vars(module).items() if isinstance(value, Dispatcher)}
    for name, value in kernels.items():
        cast(Any, value)._cache = _KernelCache(name, _bound(value.py_func), entry, kernels)


def _versions() -> tuple[str, ...]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    packages = (symprop, numba, llvmlite, np)
    return (python, *(f"{package.__name__} {package.__version__}" for package in packages))


def _constants(module: ModuleType) -> list[str]:
    names = sorted(name for name, value in vars(module).items() if _is_constant(value))
    return [f"{name}={vars(module)[name]!r}" for name in names]


def _bound(function: FunctionType) -> str:
    """Return the constants that a function made by another one keeps from it."""
    kept = inspect.getclosurevars(function).nonlocals
    return repr(sorted((name, value) for name, value in kept.items() if _is_constant(value)))


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return isinstance(value, bool | int | float | complex | str | bytes | np.generic)


class _KernelCache(_Cache):
    """What a dispatcher asks for compiled code before it compiles, and gives it to afterwards.

    `name` is the module's name for it: functions that one function makes share their own.
    `kernels` are all dispatchers of the module. Those that a function calls are loaded before it:
    its code has a copy of theirs, optimised once more, with other roundings, and LLVM
    takes the one that it meets first. So numbers are the same, bit for bit, in every process.
    """

    def __init__(self, name: str, bound: str, entry: str, kernels: dict[str, Any]) -> None:
        self._name = name
        self._bound = bound
        self._entry = entry
        self._kernels = kernels
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """The folder of the entry, shown in a dispatcher's `stats`."""
        place = cache.folder()
        return str(place / self._entry) if place else ""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, ready to be called; None where it must be compiled.

        Of the compiler only the runtime library, which manages arrays' memory, is made ready: all
        of it, which Numba's cache would load here, takes 0.3 s.
        """
        if not self._enabled:
            return None
        key = _key(sig, target_context.codegen())
        content = cache.read(self._entry, self._file(key))
        if content is None:
            return None
        with suppress(Exception):  # whatever is wrong with it, it can be compiled again
            rtsys.initialize(target_context)
            stored, called, code = pickle.loads(content)
            if stored == key and all(self._loaded(*each) for each in called):
                return CompileResult._rebuild(target_context, *pickle.loads(code))
        return None

    def _loaded(self, name: str, signature: Any, symbol: str) -> bool:
        """Load a function that another one calls; tell whether it has the name that is called.

        One that had to be compiled again has another, and LLVM ends the process where a
        name is missing.
        """
        kernel = self._kernels[name]
        kernel.compile(signature)
        return bool(kernel.overloads[signature].fndesc.llvm_func_name == symbol)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, unless it holds addresses of this process."""
        if data.library.has_dynamic_globals or data.lifted:
            return
        with suppress(Exception):  # such as a type that cannot be pickled: not worth a failure
            key = _key(sig, data.codegen)
            content = dumps((key, self._called(data.library), dumps(data._reduce())))
            cache.write(self._entry, self._file(key), content)

    def _called(self, library: Any) -> list[tuple[str, Any, str]]:
        """Return the functions of the module that a library calls: names, signatures, symbols.

        Their code is a part of the library, or they are called where they are.
        """
        linked = {id(other) for other in library._linking_libraries}
        declared = {f.name for f in library._final_module.functions if f.is_declaration}
        return [
            (name, signature, result.fndesc.llvm_func_name)
            for name, kernel in self._kernels.items()
            for signature, result in kernel.overloads.items()
            if id(result.library) in linked or result.fndesc.llvm_func_name in declared
        ]

    def enable(self) -> None:
        """Take code from the cache, the initial state."""
        self._enabled = True

    def disable(self) -> None:
        """Take no code from the cache."""
        self._enabled = False

    def flush(self) -> None:
        """Take no code from the cache any more; what is compiled from now on replaces it."""
        self._enabled = False

    def _file(self, key: tuple[Any, ...]) -> str:
        """Return the file for a key; a file tells its key, so that its name may be any other's."""
        return f"{self._name}-{cache.digest(self._bound, *map(str, key))[:16]}.code"


def _key(signature: Any, codegen: Any) -> tuple[Any, ...]:
    """Return what the code of a function depends on besides the module: types and processor."""
    return (signature, *codegen.magic_tuple())
