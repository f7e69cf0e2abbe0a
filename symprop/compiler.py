"""The way from a network to kernels that run: one line a stage.

What was made before is taken from the user's cache (`symprop.cache`): the text of a module, by
everything it is made from, and in `symprop.load` its machine code. So the stages, and SymPy with
them, are imported where they are used.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as memoised
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from symprop import cache
from symprop.errors import OutputError
from symprop.loader import load
from symprop.reading import again, key_of, tools

if TYPE_CHECKING:
    from symprop.derivation import Derivation
    from symprop.network import Network
    from symprop.optimizers import Optimizer
    from symprop.options import Dtype, Options

__all__ = ["CompiledModule", "compile", "compile_network", "place", "source_text", "write"]

_DELEGATED = (
    "DTYPE", "FINGERPRINT", "NAME", "DivergenceError", "Outputs", "Parameters", "State", "backward",
    "forward", "initialize", "loss", "resume", "start", "train",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompiledModule:
    """The generated module of a network, loaded; its functions are attributes here too.

    `source` is its text, `module` what `import` would give for it. `origin` returns what the text
    was made from: kernels that come from the cache are derived only when that is asked for.
    """

    source: str
    module: ModuleType
    origin: Callable[[], tuple[Derivation, Options]]

    @property
    def derivation(self) -> Derivation:
        """The equations of the network and of its adjoints."""
        return self.origin()[0]

    @property
    def options(self) -> Options:
        """The dtype and the optimizer."""
        return self.origin()[1]

    @property
    def forward(self) -> Any:
        """The outputs; a property like the next two, since `__getattr__` alone takes 1.3 us."""
        return self.module.forward

    @property
    def loss(self) -> Any:
        """The mean loss."""
        return self.module.loss

    @property
    def backward(self) -> Any:
        """The mean loss and its gradients."""
        return self.module.backward

    def __getattr__(self, name: str) -> Any:
        """Return what the generated module calls `name`."""
        if name not in _DELEGATED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.module, name)

    def __reduce__(self) -> tuple[Callable[..., CompiledModule], tuple[Any, ...]]:
        """Copy and pickle the text with what it was made from; it is loaded again."""
        derivation, options = self.origin()
        return _loaded, (self.source, self.NAME, derivation.network, options)

    def __dir__(self) -> list[str]:
        """List the fields and the names of the generated module."""
        return sorted({*object.__dir__(self), *(n for n in _DELEGATED if hasattr(self.module, n))})


def _loaded(source: str, name: str, network: Network, options: Options) -> CompiledModule:
    """Return the kernels that were pickled."""
    origin = memoised(lambda: _derived(network, options.dtype, options.optimizer))
    return CompiledModule(source, load(source, name), origin)


def source_text(derivation: Derivation, options: Options) -> str:
    """Return the text of the module that computes `derivation`, a pure function of both.

    Raises `LoweringError` where an equation has no form that a kernel can compute.
    """
    from symprop.identity import identity

    made_from = identity(derivation, options)
    if made_from is None:
        return _made(derivation, options)
    entry = cache.digest("text", tools(), made_from)
    kept = cache.read(entry, cache.TEXT)
    if kept is not None:
        return kept.decode()
    source = _made(derivation, options)
    cache.write(entry, cache.TEXT, source.encode())
    return source


def _made(derivation: Derivation, options: Options) -> str:
    from symprop.lower import lower
    from symprop.render import render

    program = lower(derivation, options.dtype)
    return render(derivation, program, options)


def compile_network(derivation: Derivation, options: Options) -> CompiledModule:
    """Lower, render and load the kernels of `derivation`.

    Derivation --lower--> Program --render--> text --load--> module. Raises
    `LoweringError` where an equation has no form that a kernel can compute.
    """
    source = source_text(derivation, options)
    module = load(source, derivation.network.name)
    return CompiledModule(source, module, lambda: (derivation, options))


def compile(
    network: Network, *, dtype: str = "float64", optimizer: str | Optimizer | None = None
) -> CompiledModule:
    """Derive and compile the kernels of `network`; without `optimizer`, for that of its training.

    Raises `NetworkError` for an incomplete network, `OptionError` for an unknown dtype or
    optimizer, `DifferentiationError` and `LoweringError` for what cannot be computed.
    """
    key = key_of(network)
    if key is None or not isinstance(optimizer, str | None):
        return compile_network(*_derived(network, dtype, optimizer))
    entry = cache.digest("compile", key, repr(dtype), repr(optimizer))
    kept = cache.read(entry, cache.TEXT)
    if kept is not None:
        make = again(network)
        name, source = kept.decode().split("\n", 1)
        origin = memoised(lambda: _derived(make(), dtype, optimizer))
        return CompiledModule(source, load(source, name), origin)
    kernels = compile_network(*_derived(network, dtype, optimizer))
    cache.write(entry, cache.TEXT, f"{kernels.NAME}\n{kernels.source}".encode())
    return kernels


def _derived(
    network: Network, dtype: str, optimizer: str | Optimizer | None
) -> tuple[Derivation, Options]:
    from symprop.derivation import differentiate
    from symprop.optimizers import find
    from symprop.options import Options

    options = Options(cast("Dtype", dtype), find(optimizer or network.training.optimizer))
    return differentiate(network), options


def write(kernels: CompiledModule, folder: str | Path, *, force: bool = False) -> Path:
    """Write the text of `kernels` as ``folder/NAME.py`` and return the path.

    The folder is made where it is missing; the file is complete or not there at all.
    Raises `OutputError` where something else stands in its place: a file is overwritten
    only if symprop generated it, or with `force`.
    """
    path = place(kernels.derivation.network, folder, force=force)
    with _output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, kernels.source)
    return path


def place(network: Network, folder: str | Path, *, force: bool = False) -> Path:
    """Return where `write` puts the kernels of `network`; nothing is written.

    Raises `OutputError` where `write` would, so that it is known before the work is done.
    """
    path = Path(folder) / f"{network.name}.py"
    with _output_errors(path):
        if not force and (path.exists() or path.is_symlink()) and not _ours(path):
            raise OutputError(
                f"{path}: the file was not generated by symprop, so it is left alone; "
                "choose another folder, or overwrite it with force (--force)"
            )
    return path


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    """Raise `OutputError` for what the file system objects to."""
    try:
        yield
    except OutputError:  # an OSError too, with its message
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error


def _ours(path: Path) -> bool:
    """Tell whether symprop generated a file, by its first line."""
    if path.is_symlink() or not path.is_file():
        return False
    from symprop.render import MARKER

    with path.open(encoding="utf-8", errors="replace") as file:
        return re.match(rf'"""\w+: {MARKER} ', file.readline(1000)) is not None


def _replace(path: Path, text: str) -> None:
    """Write a file in one move, so that nobody ever reads half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
