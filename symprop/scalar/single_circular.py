"""The circular functions and their inverses in float32; see `single`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symprop.scalar.common import _where
from symprop.scalar.single import _bits, _number, _with_sign

real: Any = np.float32


def atan(z: float) -> float:
    """Return the arc tangent: of (a - 1)/(a + 1) from 1/2 on, of -1/a from 2 on."""
    a = abs(z)
    above = _where(a < real(0.5), a, _where(a < real(2.0), a - real(1.0), real(-1.0)))
    below = _where(a < real(0.5), real(1.0), _where(a < real(2.0), a + real(1.0), a))
    t = above / below
    square = t * t
    p = real(-0.051415384) * square + real(0.10165489)
    p = p * square + real(-0.14176168)
    p = p * square + real(0.19994323)
    p = p * square + real(-0.33333236)
    high = _where(a < real(0.5), real(0.0), _where(a < real(2.0), real(0.7853982), real(1.5707964)))
    low = _where(
        a < real(0.5), real(0.0), _where(a < real(2.0), real(-2.1855694e-08), real(-4.371139e-08))
    )
    return _with_sign(high + (t + (t * square * p + low)), z)


def _asin_parts(a: float) -> tuple[float, float]:
    """Return s and asin(s) - s, where s is a up to 1/2 and beyond it sqrt((1 - a)/2)."""
    far = a > real(0.5)
    square = _where(far, real(0.5) * (real(1.0) - a), a * a)
    root = np.sqrt(_where(a <= real(1.0), square, real(math.nan)))
    s = _where(far, root, a)
    p = real(0.04221981) * square + real(0.024146855)
    p = p * square + real(0.04547725)
    p = p * square + real(0.07495241)
    p = p * square + real(0.16666754)
    return s, s * square * p


def asin(z: float) -> float:
    """Return the arc sine, from 1/2 on by that of sqrt((1 - z)/2); NaN beyond 1."""
    a = abs(z)
    s, rest = _asin_parts(a)
    far = real(1.5707964) - (real(2.0) * s + (real(2.0) * rest - real(-4.371139e-08)))
    return _with_sign(_where(a > real(0.5), far, s + rest), z)


def acos(z: float) -> float:
    """Return the arc cosine; NaN beyond 1."""
    a = abs(z)
    s, rest = _asin_parts(a)
    signed = _where(z > real(0.0), rest, -rest)
    near = real(1.5707964) - (z - (real(-4.371139e-08) - signed))
    twice = real(2.0) * (s + rest)
    far = _where(z > real(0.0), twice, real(3.1415927) - (twice - real(-8.742278e-08)))
    return _where(a > real(0.5), far, near)


def _wide(x: float) -> float:
    """Return a number in float64."""
    return np.float64(x)


def _narrow(x: float) -> float:
    """Return a number of float64 in float32."""
    return real(x)


def _last_bits(x: float) -> int:
    """Return the last 32 bits of a number of float64 as an integer."""
    return np.int32(np.float64(x).view(np.int64))


def _quarter_turns(a: float) -> tuple[float, int]:
    """Return what a >= 0 exceeds a multiple of pi/2 by and the bits of the multiple.

    In float64, where the products with the first two parts of pi/2, of 25 bits, are exact.
    """
    wide = _wide(a)
    shifted = wide * 0.6366197723675814 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = ((wide - k * 1.5707963109016418) - k * 1.5893254712295857e-08) - k * 6.123233995736766e-17
    return r, _last_bits(shifted)


def _sin_cos(r: float) -> tuple[float, float]:
    """Return sine and cosine for |r| <= pi/4, computed in float64."""
    square = r * r
    s = -0.0001951666007425131 * square + 0.00833217356602858
    s = s * square + -0.16666654872691436
    c = 2.4437807247629453e-05 * square + -0.001388736227145112
    c = c * square + 0.04166664676849494
    s = r + r * square * s
    c = 1.0 - square * (0.5 - square * c)
    return s, c


def sin(z: float) -> float:
    """Return the sine; NaN for |z| > 4e8."""
    a = abs(z)
    r, n = _quarter_turns(a)
    s, c = _sin_cos(r)
    value = _narrow(_where((n & 1) != 0, c, s))
    flip = ((n & 2) << 30) ^ (_bits(z) & -0x80000000)
    return _where(a < real(4e8), _number(_bits(value) ^ flip), real(math.nan))


def cos(z: float) -> float:
    """Return the cosine; NaN for |z| > 4e8."""
    a = abs(z)
    r, n = _quarter_turns(a)
    s, c = _sin_cos(r)
    value = _narrow(_where((n & 1) != 0, s, c))
    flip = ((n + (n & 1)) & 2) << 30
    return _where(a < real(4e8), _number(_bits(value) ^ flip), real(math.nan))


def tan(z: float) -> float:
    """Return the tangent; NaN for |z| > 4e8."""
    a = abs(z)
    r, n = _quarter_turns(a)
    s, c = _sin_cos(r)
    odd = (n & 1) != 0
    value = _narrow(_where(odd, -c, s) / _where(odd, s, c))
    sign = _bits(z) & -0x80000000
    return _where(a < real(4e8), _number(_bits(value) ^ sign), real(math.nan))
