"""From the text of a generated module to the module."""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import linecache
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, ModuleType

__all__ = ["load"]

_LOCK = threading.RLock()


def load(source: str, name: str, *, jit: bool = True) -> ModuleType:
    """Execute the text of a generated module and return the module.

    The module is called ``symprop_generated_NAME_HASH`` after a hash of the text and
    stands in ``sys.modules``, so its values can be pickled, its functions' text inspected and
    tracebacks show its lines. The same text gives the same module again, compiled once, and in
    another process the same machine code, from the user's cache (`symprop.machine_code`).

    With ``jit=False`` Numba's decorators do nothing while the text is executed: its
    functions are plain Python, for comparisons. Raises ValueError for a `name` that is no
    identifier, and whatever the text raises; no module stays behind then.
    """
    if not name.isidentifier():
        raise ValueError(f"module name: got {name!r}, expected a Python identifier")
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    title = f"symprop_generated_{name}_{digest}" + ("" if jit else "_plain")
    with _LOCK:
        return sys.modules.get(title) or _execute(source, title, jit)


def _execute(source: str, title: str, jit: bool) -> ModuleType:
    path = f"<{title}>"
    loader = _TextLoader(source, path)
    spec = importlib.util.spec_from_loader(title, loader, origin=path)
    if spec is None:  # never for a loader with source; spec_from_loader is typed for any
        raise ImportError(title)
    module = importlib.util.module_from_spec(spec)
    module.__file__ = path
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    sys.modules[title] = module
    try:
        with _decorators(jit):
            loader.exec_module(module)
    except BaseException:
        del sys.modules[title], linecache.cache[path]
        raise
    if jit:
        _keep(module, source)
    return module


def _keep(module: ModuleType, source: str) -> None:
    """Let the module take its machine code from the cache, where Numba has what that needs."""
    try:
        from symprop.machine_code import keep
    except ImportError as error:
        message = f"{error}: kernels are compiled anew in every process"
        warnings.warn(message, stacklevel=4)
    else:
        keep(module, source)


class _TextLoader(importlib.abc.InspectLoader):
    """A loader whose module is a text in memory, under the path that tracebacks name."""

    def __init__(self, source: str, path: str) -> None:
        self._source = source
        self._path = path

    def get_source(self, fullname: str) -> str:
        """Return the text."""
        return self._source

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled text."""
        return compile(self._source, self._path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        """Tell that a generated module is no package."""
        return False


@contextmanager
def _decorators(jit: bool) -> Iterator[None]:
    """Let `numba.njit` return plain functions inside the block, unless `jit`."""
    if jit:
        yield
        return
    import numba

    before = numba.config.DISABLE_JIT
    numba.config.DISABLE_JIT = True
    try:
        yield
    finally:
        numba.config.DISABLE_JIT = before
