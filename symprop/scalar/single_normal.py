"""The error function, the normal law and what comes from them in float32; see `single`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

from typing import Any

import numpy as np

from symprop.scalar.common import _where
from symprop.scalar.single import _bits, _number, _scaled_exp, _with_sign
from symprop.scalar.single_circular import _narrow, _wide

real: Any = np.float32


def erf(z: float) -> float:
    """Return the error function; from 1 on 1 - e^p with a polynomial p."""
    a = abs(z)
    square = _where(a < real(1.0), a * a, real(0.0))
    p = real(7.889119e-05) * square + real(-0.00080208457)
    p = p * square + real(0.0051895366)
    p = p * square + real(-0.026854446)
    p = p * square + real(0.112836)
    p = p * square + real(-0.37612626)
    p = p * square + real(0.12837917)
    near = a + a * p
    a = _where(a > real(4.0), real(4.0), a)
    q = real(-0.0011503397) * a + real(0.014777545)
    q = q * a + real(-0.08863262)
    q = q * a + real(-0.65449095)
    q = q * a + real(-1.1174372)
    q = q * a + real(-0.0026720143)
    far = real(1.0) - _scaled_exp(q, 0x3F800000)
    return _with_sign(_where(a < real(1.0), near, far), z)


def _wide_erfc(a: float) -> float:
    """Return erfc(a) for a >= 0 in float64, to float32's precision: e^(-a^2) times t p(t).

    t = 1/(a + 2) is divided in float32 and refined by a Newton step.
    """
    a = _where(a > 10.35, 10.35, a)
    d = a + 2.0
    t = _wide(real(1.0) / _narrow(d))
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
    power = _wide(_number((_bits(_narrow(k) + real(12582912.0)) << 23) + 0x5F800000))
    return t * q * (p * (power * 5.421010862427522e-20))


def erfc(z: float) -> float:
    """Return 1 - erf(z)."""
    value = _wide_erfc(_wide(abs(z)))
    return _narrow(_where(z < real(0.0), 2.0 - value, value))


def normal_cdf(z: float) -> float:
    """Return erfc(-z/sqrt(2))/2, the distribution function of the standard normal law."""
    value = 0.5 * _wide_erfc(_wide(abs(z)) * 0.7071067811865476)
    return _narrow(_where(z < real(0.0), value, 1.0 - value))


def gelu(z: float) -> float:
    """Return z*normal_cdf(z)."""
    value = 0.5 * _wide_erfc(_wide(abs(z)) * 0.7071067811865476)
    x = _wide(_where(z < real(-15.0), real(-15.0), z))
    return _narrow(x * _where(z < real(0.0), value, 1.0 - value))
