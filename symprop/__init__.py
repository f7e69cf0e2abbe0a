"""symprop: neural networks as equations, their gradients as formulas, both as compiled kernels.

The names below are imported when they are first used, so that ``import symprop``
and ``symprop --help`` cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Network": "network",
    "Training": "network",
    "Data": "network",
    "Claim": "network",
    "Equation": "network",
    "read": "reading",
    "write": "description",
    "mlp": "layers",
    "differentiate": "derivation",
    "Derivation": "derivation",
    "Optimizer": "optimizers",
    "compile": "compiler",
    "generate": "generation",
    "work": "explain.worked",
    "verify": "verification",
    "train": "training",
    "load_example": "examples",
    **dict.fromkeys(
        (
            "step",
            "sigmoid",
            "softplus",
            "relu",
            "leaky_relu",
            "elu",
            "normal_cdf",
            "gelu",
            "silu",
            "logsumexp",
            "reduce_max",
            "reduce_min",
            "softmax",
            "log_softmax",
            "expm1",
            "log1p",
        ),
        "functions",
    ),
}

__all__ = sorted((*_HOMES, "__version__"))


def __getattr__(name: str) -> Any:
    """Import the module that defines `name` and return the attribute."""
    if name not in _HOMES:
        raise AttributeError(f"module 'symprop' has no attribute {name!r}")
    value = getattr(import_module(f"symprop.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
