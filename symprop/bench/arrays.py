"""The functions of a translated program in NumPy, JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symprop.bench.translate import Program

__all__ = ["NAMESPACES", "load"]

_SAME = (
    "tanh exp log sqrt where maximum minimum sin cos tan sinh cosh sign floor expm1 log1p einsum "
    "mean arange"
).split()


def _rectifiers(where: Any, expm1: Any, minimum: Any) -> dict[str, Any]:
    """Return what libraries lack with an array as slope, in a form whose slope is finite too."""
    return {
        "leaky_relu": lambda z, slope: where(z > 0, z, slope * z),
        "elu": lambda z, alpha: where(z > 0, z, alpha * expm1(minimum(z, 0 * z))),
    }


def numpy_namespace(dtype: str) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return the functions of NumPy (with SciPy), and how it takes a constant array."""
    import numpy as np
    from scipy import special

    names = {name: getattr(np, name) for name in _SAME}
    names |= {
        "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
        "acosh": np.arccosh, "atanh": np.arctanh, "atan2": np.arctan2, "abs": np.abs,
        "ceiling": np.ceil, "erf": special.erf, "erfc": special.erfc, "sigmoid": special.expit,
        "normal_cdf": special.ndtr, "permute": np.transpose, "broadcast": np.broadcast_to,
        "softplus": lambda z: np.logaddexp(z, 0 * z), "relu": lambda z: np.maximum(z, 0),
        "silu": lambda z: z * special.expit(z), "gelu": lambda z: z * special.ndtr(z),
        "step": lambda z: (z > 0).astype(z.dtype), "affine": lambda a, b, c: a @ b + c,
        "sum": lambda z, axes: z.sum(axes), "logsumexp": special.logsumexp,
        "reduce_max": lambda z, axes: z.max(axes), "reduce_min": lambda z, axes: z.min(axes),
        "softmax": special.softmax, "log_softmax": special.log_softmax,
        "number": lambda value: np.asarray(value, dtype),
        **_rectifiers(np.where, np.expm1, np.minimum),
    }  # fmt: skip
    return names, lambda array: array.astype(dtype) if array.dtype.kind == "f" else array


def jax_namespace(dtype: str) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return the functions of JAX, and how it takes a constant array."""
    import jax
    import jax.numpy as jnp
    from jax.scipy import special

    names = {name: getattr(jnp, name) for name in _SAME}
    names |= {
        "asin": jnp.arcsin, "acos": jnp.arccos, "atan": jnp.arctan, "asinh": jnp.arcsinh,
        "acosh": jnp.arccosh, "atanh": jnp.arctanh, "atan2": jnp.arctan2, "abs": jnp.abs,
        "ceiling": jnp.ceil, "erf": special.erf, "erfc": special.erfc,
        "sigmoid": jax.nn.sigmoid, "normal_cdf": special.ndtr, "permute": jnp.transpose,
        "broadcast": jnp.broadcast_to, "softplus": jax.nn.softplus, "relu": jax.nn.relu,
        "silu": jax.nn.silu, "gelu": lambda z: jax.nn.gelu(z, approximate=False),
        "step": lambda z: (z > 0).astype(z.dtype), "affine": lambda a, b, c: a @ b + c,
        "sum": lambda z, axes: z.sum(axes), "logsumexp": special.logsumexp,
        "reduce_max": lambda z, axes: z.max(axes), "reduce_min": lambda z, axes: z.min(axes),
        "softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax,
        "number": lambda value: jnp.asarray(value, dtype),
        **_rectifiers(jnp.where, jnp.expm1, jnp.minimum),
    }  # fmt: skip
    return names, lambda array: jnp.asarray(array, dtype if array.dtype.kind == "f" else None)


def torch_namespace(dtype: str) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return the functions of PyTorch, and how it takes a constant array."""
    import torch
    from torch.nn import functional

    real = getattr(torch, dtype)
    names = {name: getattr(torch, name) for name in _SAME}
    names |= {
        "asin": torch.asin, "acos": torch.acos, "atan": torch.atan, "asinh": torch.asinh,
        "acosh": torch.acosh, "atanh": torch.atanh, "atan2": torch.atan2, "abs": torch.abs,
        "ceiling": torch.ceil, "erf": torch.erf, "erfc": torch.erfc, "sigmoid": torch.sigmoid,
        "normal_cdf": torch.special.ndtr, "permute": torch.permute,
        "broadcast": torch.broadcast_to, "softplus": lambda z: torch.logaddexp(z, 0 * z),
        "relu": torch.relu, "silu": functional.silu, "gelu": functional.gelu,
        "step": lambda z: (z > 0).to(z.dtype), "affine": lambda a, b, c: torch.addmm(c, a, b),
        "sum": torch.sum, "logsumexp": torch.logsumexp, "reduce_max": torch.amax,
        "reduce_min": torch.amin, "softmax": torch.softmax, "log_softmax": torch.log_softmax,
        "number": lambda value: torch.as_tensor(value, dtype=real),
        **_rectifiers(torch.where, torch.expm1, torch.minimum),
    }  # fmt: skip

    def constant(array: Any) -> Any:
        return torch.as_tensor(array, dtype=real if array.dtype.kind == "f" else None)

    return names, constant


NAMESPACES = {"numpy": numpy_namespace, "jax": jax_namespace, "torch": torch_namespace}
"""The libraries that a translated program runs in."""


def load(program: Program, library: str, dtype: str) -> Callable[..., Any]:
    """Return the function of `program` in one of `NAMESPACES`, for numbers of `dtype`."""
    return program.load(*NAMESPACES[library](dtype))
