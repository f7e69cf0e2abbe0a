"""The functions that choose between their arguments, in one text for both dtypes."""

from __future__ import annotations

from typing import Any

real: Any = float


def _where(condition: bool, a: Any, b: Any) -> Any:
    """Return a where a condition holds, otherwise b; both are computed."""
    return a if condition else b


def step(z: float) -> float:
    """Return 1 where z > 0, otherwise 0."""
    return _where(z > real(0.0), real(1.0), _where(z <= real(0.0), real(0.0), z))


def sign(z: float) -> float:
    """Return 1, 0 or -1, the sign of z."""
    return _where(z > real(0.0), real(1.0), _where(z < real(0.0), real(-1.0), z))


def maximum(a: float, b: float) -> float:
    """Return the larger of two numbers; NaN where one is NaN, unlike Python's max."""
    return _where((b > a) | (b != b), b, a)


def minimum(a: float, b: float) -> float:
    """Return the smaller of two numbers; NaN where one is NaN, unlike Python's min."""
    return _where((b < a) | (b != b), b, a)


def relu(z: float) -> float:
    """Return max(z, 0)."""
    return _where(z <= real(0.0), real(0.0), z)


def leaky_relu(z: float, slope: float) -> float:
    """Return z where z > 0, otherwise slope*z."""
    return _where(z > real(0.0), z, slope * z)
