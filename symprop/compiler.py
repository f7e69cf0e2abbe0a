"""The way from a network to kernels that run: one line a stage."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from symprop.derivation import Derivation, differentiate
from symprop.loader import load
from symprop.lower import lower
from symprop.network import Network
from symprop.optimizers import Optimizer, find
from symprop.options import Dtype, Options
from symprop.render import render

__all__ = ["CompiledModule", "compile", "compile_network"]

_DELEGATED = (
    "DTYPE", "FINGERPRINT", "NAME", "DivergenceError", "Outputs", "Parameters", "State", "backward",
    "forward", "initialize", "loss", "resume", "start", "train",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompiledModule:
    """The generated module of a network, loaded; its functions are attributes here too.

    `source` is its text, `module` what `import` would give for it.
    """

    derivation: Derivation
    options: Options
    source: str
    module: ModuleType

    def __getattr__(self, name: str) -> Any:
        """Return what the generated module calls `name`."""
        if name not in _DELEGATED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.module, name)

    def __dir__(self) -> list[str]:
        """List the fields and the names of the generated module."""
        return sorted({*object.__dir__(self), *(n for n in _DELEGATED if hasattr(self.module, n))})


def source_text(derivation: Derivation, options: Options) -> str:
    """Return the text of the module that computes `derivation`."""
    program = lower(derivation, options.dtype)
    return render(derivation, program, options)


def compile_network(derivation: Derivation, options: Options) -> CompiledModule:
    """Lower, render and load the kernels of `derivation`.

    Derivation --lower--> Program --render--> text --load--> module. Raises
    `LoweringError` where an equation has no form that a kernel can compute.
    """
    program = lower(derivation, options.dtype)
    source = render(derivation, program, options)
    module = load(source, derivation.network.name)
    return CompiledModule(derivation, options, source, module)


def compile(
    network: Network, *, dtype: Dtype = "float64", optimizer: str | Optimizer | None = None
) -> CompiledModule:
    """Derive and compile the kernels of `network`; without `optimizer`, for that of its training.

    Raises `NetworkError` for an incomplete network, `OptionError` for an unknown dtype or
    optimizer, `DifferentiationError` and `LoweringError` for what cannot be computed.
    """
    options = Options(dtype, find(optimizer or network.training.optimizer))
    return compile_network(differentiate(network), options)
