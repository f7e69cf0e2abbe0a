"""The functions that choose between their arguments, in one text for both dtypes."""

from __future__ import annotations

from typing import Any

real: Any = float


def step(z: float) -> float:
    """Return 1 where z > 0, otherwise 0."""
    if z > real(0.0):
        return real(1.0)
    return real(0.0) if z <= real(0.0) else z


def sign(z: float) -> float:
    """Return 1, 0 or -1, the sign of z."""
    if z > real(0.0):
        return real(1.0)
    return real(-1.0) if z < real(0.0) else z


def maximum(a: float, b: float) -> float:
    """Return the larger of two numbers; NaN where one is NaN, unlike Python's max."""
    return b if b > a or b != b else a


def minimum(a: float, b: float) -> float:
    """Return the smaller of two numbers; NaN where one is NaN, unlike Python's min."""
    return b if b < a or b != b else a


def relu(z: float) -> float:
    """Return max(z, 0)."""
    return real(0.0) if z <= real(0.0) else z


def leaky_relu(z: float, slope: float) -> float:
    """Return z where z > 0, otherwise slope*z."""
    return z if z > real(0.0) else slope * z
