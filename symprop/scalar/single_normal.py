"""The error function, the normal law and what comes from them in float32; see `single`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

from typing import Any

import numpy as np

from symprop.scalar.single import _scaled_exp, _with_sign

real: Any = np.float32


def erf(z: float) -> float:
    """Return the error function; from 1 on 1 - e^p with a polynomial p."""
    a = abs(z)
    square = a * a if a < real(1.0) else real(0.0)
    p = real(7.889119e-05) * square + real(-0.00080208457)
    p = p * square + real(0.0051895366)
    p = p * square + real(-0.026854446)
    p = p * square + real(0.112836)
    p = p * square + real(-0.37612626)
    p = p * square + real(0.12837917)
    near = a + a * p
    a = real(4.0) if a > real(4.0) else a
    q = real(-0.0011503397) * a + real(0.014777545)
    q = q * a + real(-0.08863262)
    q = q * a + real(-0.65449095)
    q = q * a + real(-1.1174372)
    q = q * a + real(-0.0026720143)
    far = real(1.0) - _scaled_exp(q, 0x3F800000)
    return _with_sign(near if a < real(1.0) else far, z)


def _wide_erfc(a: float) -> float:
    """Return erfc(a) for a >= 0 in float64, to float32's precision: e^(-a^2) times t p(t).

    t = 1/(a + 2) is divided in float32 and refined by a Newton step.
    """
    a = 10.35 if a > 10.35 else a
    d = a + 2.0
    t = np.float64(np.float32(1.0) / np.float32(d))
    t = t * (2.0 - d * t)
    square = t * t
    fourth = square * square
    q = 74.00899691622378 * square + (-197.86695314961003 * t + 198.21081888373905)
    r = -76.32478780879973 * t + -1.768184476008653
    r = r * square + (1.9367029647644383 * t + 1.8257231545291333)
    q = q * fourth + r
    r = 2.959809202321156 * t + 1.9622857077151667
    r = r * square + (1.128967144542177 * t + 0.5641779506278086)
    q = q * fourth + r
    x = -a * a
    shifted = x * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = x - k * 0.6931471805599453
    square = r * r
    p = (0.00019914853045789336 * r + 0.0013941096111846087) * square + (
        0.008333271799424573 * r + 0.04166635365421194
    )
    p = p * square + (0.16666666822335954 * r + 0.5000000046628218)
    p = 1.0 + (r + square * p)
    power = (np.float64(shifted).view(np.int64) << np.int64(52)) + np.int64(0x3FF0000000000000)
    return t * q * (p * np.int64(power).view(np.float64))


def erfc(z: float) -> float:
    """Return 1 - erf(z)."""
    value = _wide_erfc(np.float64(abs(z)))
    return np.float32(2.0 - value if z < real(0.0) else value)


def normal_cdf(z: float) -> float:
    """Return erfc(-z/sqrt(2))/2, the distribution function of the standard normal law."""
    value = 0.5 * _wide_erfc(np.float64(abs(z)) * 0.7071067811865476)
    return np.float32(value if z < real(0.0) else 1.0 - value)


def gelu(z: float) -> float:
    """Return z*normal_cdf(z)."""
    value = 0.5 * _wide_erfc(np.float64(abs(z)) * 0.7071067811865476)
    x = np.float64(real(-15.0) if z < real(-15.0) else z)
    return np.float32(x * (value if z < real(0.0) else 1.0 - value))
