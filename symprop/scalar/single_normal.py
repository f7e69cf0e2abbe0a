"""The error function, the normal law and what comes from them in float32; see `single`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

from typing import Any

import numpy as np

from symprop.scalar.common import _where
from symprop.scalar.single import _bits, _exp_rest, _number, _scaled_exp, _with_sign

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


def _bell_parts(a: float, factor: float) -> tuple[float, float]:
    """Return w and s with e^(-factor a^2) = (1 + w)*s*2^-64 for a <= 14.5; factor is 1 or 1/2.

    As `_exp_parts`; the square of the first 12 bits of a is exact, what it lacks is added last.
    """
    shifted = a * a * (factor * real(-1.4426950408889634)) + real(12582912.0)
    k = shifted - real(12582912.0)
    high = _number(_bits(a) & -0x1000)
    main = high * high + k * (real(0.693359375) / factor)
    rest = (a - high) * (a + high) + k * (real(-0.00021219444005469057) / factor)
    r = -factor * (main + rest)
    return _exp_rest(r), _number((_bits(shifted) << 23) + 0x5F800000)


def _quotient(b: float, y: float, a: float) -> float:
    """Return (b + y)/a; what the sum loses is added times 1/a, to a digit: from the bits of a."""
    total = b + y
    lost = y - (total - b)
    return total / a + lost * _number(0x7EF311C7 - _bits(a))


def _cdf_parts(a: float) -> tuple[float, float]:
    """Return y and s with a*normal_cdf(-a) = (0.34375 + y)*s*2^-64 for a from 1 to 14.5.

    That is (1 + w)*s times a*e^(a^2/2)*normal_cdf(-a), which changes little, from 0.26 to 0.40: as
    0.34375 + v its error is small beside it, though v is a quotient of polynomials.
    """
    square = a * a
    p = real(0.055186864) * square + (real(0.29453027) * a + real(0.44777068))
    p = p * square + (real(-0.81826407) * a + real(-4.745016))
    q = square + (real(5.331414) * a + real(15.449822))
    q = q * square + (real(22.398375) * a + real(13.818364))
    v = p / q
    w, s = _bell_parts(a, real(0.5))
    return real(0.34375) * w + (v + v * w), s


def _cdf_tail(square: float) -> float:
    """Return (normal_cdf(z) - 1/2 - z/sqrt(2 pi))/z^3 for z^2 <= 1."""
    p = real(-9.026215e-06) * square + real(0.00011734378)
    p = p * square + real(-0.0011902694)
    p = p * square + real(0.009975068)
    return p * square + real(-0.066490665)


def normal_cdf(z: float) -> float:
    """Return erfc(-z/sqrt(2))/2, the distribution function of the standard normal law."""
    a = abs(z)
    a = _where(a > real(14.5), real(14.5), a)
    square = a * a
    near = (real(0.5) + z * real(0.3989423)) + z * square * _cdf_tail(square)
    x = _where(a < real(1.0), real(1.0), a)
    y, s = _cdf_parts(x)
    far = _quotient(real(0.34375), y, x) * s * real(5.421010862427522e-20)
    far = _where(z < real(0.0), far, real(1.0) - far)
    return _where(a < real(1.0), near, far)


def gelu(z: float) -> float:
    """Return z*normal_cdf(z); above 1 as z less what it is at -z."""
    a = abs(z)
    a = _where(a > real(14.5), real(14.5), a)
    square = a * a
    near = z * (real(0.5) + z * real(0.3989423)) + square * square * _cdf_tail(square)
    y, s = _cdf_parts(a)
    far = (real(0.34375) + y) * s * real(5.421010862427522e-20)
    far = _where(z < real(0.0), real(0.0), z) - far
    return _where(a < real(1.0), near, far)


def erfc(z: float) -> float:
    """Return 1 - erf(z); from 0.7 on like `normal_cdf`, a*e^(a^2)*erfc(a) is 0.484375 + v."""
    a = abs(z)
    a = _where(a > real(10.4), real(10.4), a)
    square = a * a
    p = real(-0.00067865837) * square + real(0.0051157763)
    p = p * square + real(-0.026833212)
    p = p * square + real(0.11283291)
    p = p * square + real(-0.37612605)
    p = p * square + real(0.12837917)
    near = (real(1.0) - z) - z * p
    x = _where(a < real(0.7), real(0.7), a)
    square = x * x
    p = real(0.079807036) * square + (real(0.30128536) * x + real(0.3303947))
    p = p * square + (real(-0.3955341) * x + real(-1.6718162))
    q = square + (real(3.7713737) * x + real(7.7267537))
    q = q * square + (real(7.921198) * x + real(3.455112))
    v = p / q
    w, s = _bell_parts(x, real(1.0))
    y = real(0.484375) * w + (v + v * w)
    far = _quotient(real(0.484375), y, x) * s * real(5.421010862427522e-20)
    far = _where(z < real(0.0), real(2.0) - far, far)
    return _where(a < real(0.7), near, far)
