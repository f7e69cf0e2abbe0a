"""From the text of a generated module to the module.

The modules are called as if they lay in a package of this name. Another process, such as a worker
of joblib or Dask that is given a kernel, imports them by it from the user's cache.
"""

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
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

from symprop import cache

__all__ = ["load"]

__path__: list[str] = []  # which makes a package of this module; there are no files

_LOCK = threading.RLock()


def load(source: str, name: str, *, jit: bool = True) -> ModuleType:
    """Execute the text of a generated module and return the module.

    The module is called ``symprop.loader.NAME_HASH`` after a hash of the text and stands in
    ``sys.modules``, so its functions' text can be inspected and tracebacks show its lines. The same
    text gives the same module again, compiled once, and in another process the same machine code,
    from the user's cache (`symprop.machine_code`). The text is kept there too (`symprop.cache`), so
    functions and values of the module can be pickled, and unpickled by whoever shares the cache.

    With ``jit=False`` Numba's decorators do nothing while the text is executed: its
    functions are plain Python, for comparisons. Raises ValueError for a `name` that is no
    identifier, and whatever the text raises; no module stays behind then.
    """
    if not name.isidentifier():
        raise ValueError(f"module name: got {name!r}, expected a Python identifier")
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    title = f"{__name__}.{name}_{digest}" + ("" if jit else "_plain")
    with _LOCK:
        return sys.modules.get(title) or _execute(source, title, jit)


def _execute(source: str, title: str, jit: bool) -> ModuleType:
    loader = _TextLoader(source, title, jit)
    module = importlib.util.module_from_spec(loader.spec())
    sys.modules[title] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[title]
        raise
    if jit and cache.read(_entry(title), cache.TEXT) is None:
        cache.write(_entry(title), cache.TEXT, source.encode())
    return module


def _entry(title: str) -> str:
    """Return the name of the cache entry with the text of a module."""
    return cache.digest("loader", title)


def _keep(module: ModuleType, source: str) -> None:
    """Let the module take its machine code from the cache, where Numba has what that needs."""
    try:
        from symprop.machine_code import keep
    except ImportError as error:
        message = f"{error}: kernels are compiled anew in every process"
        warnings.warn(message, stacklevel=5)
    else:
        keep(module, source)


class _TextLoader(importlib.abc.InspectLoader):
    """A loader whose module is a text in memory, under a path that tracebacks name."""

    def __init__(self, source: str, title: str, jit: bool = True) -> None:
        self._source = source
        self._title = title
        self._jit = jit
        self._path = f"<{title}>"

    def spec(self) -> ModuleSpec:
        """Return what the module is made from."""
        return ModuleSpec(self._title, self, origin=self._path)

    def get_source(self, fullname: str) -> str:
        """Return the text."""
        return self._source

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled text."""
        return compile(self._source, self._path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        """Tell that a generated module is no package."""
        return False

    def exec_module(self, module: ModuleType) -> None:
        """Execute the text in its module."""
        lines = self._source.splitlines(keepends=True)
        linecache.cache[self._path] = (len(self._source), None, lines, self._path)
        module.__file__ = self._path
        try:
            with _decorators(self._jit):
                super().exec_module(module)
        except BaseException:
            del linecache.cache[self._path]
            raise
        if self._jit:
            _keep(module, self._source)


class _CacheFinder(importlib.abc.MetaPathFinder):
    """Finds in the user's cache the modules that another process has loaded."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return what a generated module is made from; None for other modules."""
        if not fullname.startswith(f"{__name__}."):
            return None
        text = cache.read(_entry(fullname), cache.TEXT)
        if text is None:
            raise ModuleNotFoundError(
                f"{fullname}: these kernels are not in symprop's cache, which may be switched off; "
                "compile their network in this process first",
                name=fullname,
            )
        return _TextLoader(text.decode(), fullname).spec()


sys.meta_path.append(_CacheFinder())


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
