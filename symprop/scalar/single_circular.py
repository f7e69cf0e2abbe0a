"""The circular functions and their inverses in float32; see `single`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symprop.scalar.single import _with_sign

real: Any = np.float32


def atan(z: float) -> float:
    """Return the arc tangent: of (a - 1)/(a + 1) from 1/2 on, of -1/a from 2 on."""
    a = abs(z)
    above = a if a < real(0.5) else a - real(1.0) if a < real(2.0) else real(-1.0)
    below = real(1.0) if a < real(0.5) else a + real(1.0) if a < real(2.0) else a
    t = above / below
    square = t * t
    p = real(-0.051415384) * square + real(0.10165489)
    p = p * square + real(-0.14176168)
    p = p * square + real(0.19994323)
    p = p * square + real(-0.33333236)
    high = real(0.0) if a < real(0.5) else real(0.7853982) if a < real(2.0) else real(1.5707964)
    low = (
        real(0.0)
        if a < real(0.5)
        else real(-2.1855694e-08)
        if a < real(2.0)
        else real(-4.371139e-08)
    )
    return _with_sign(high + (t + (t * square * p + low)), z)


def _asin_parts(a: float) -> tuple[float, float]:
    """Return s and asin(s) - s, where s is a up to 1/2 and beyond it sqrt((1 - a)/2)."""
    far = a > real(0.5)
    square = real(0.5) * (real(1.0) - a) if far else a * a
    root = math.sqrt(square if a <= real(1.0) else real(math.nan))
    s = root if far else a
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
    return _with_sign(far if a > real(0.5) else s + rest, z)


def acos(z: float) -> float:
    """Return the arc cosine; NaN beyond 1."""
    a = abs(z)
    s, rest = _asin_parts(a)
    signed = rest if z > real(0.0) else -rest
    near = real(1.5707964) - (z - (real(-4.371139e-08) - signed))
    twice = real(2.0) * (s + rest)
    far = twice if z > real(0.0) else real(3.1415927) - (twice - real(-8.742278e-08))
    return far if a > real(0.5) else near


def _quarter_turns(a: float) -> tuple[float, int]:
    """Return what a >= 0 exceeds a multiple of pi/2 by and the bits of the multiple.

    In float64, where the products with the first two parts of pi/2, of 25 bits, are exact.
    """
    wide = np.float64(a)
    shifted = wide * 0.6366197723675814 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = ((wide - k * 1.5707963109016418) - k * 1.5893254712295857e-08) - k * 6.123233995736766e-17
    return r, np.int32(np.float64(shifted).view(np.int64) & np.int64(3))


def _sin_cos(r: float) -> tuple[float, float]:
    """Return sine and cosine for |r| <= pi/4, in float64."""
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
    value = c if n & np.int32(1) else s
    flip = ((n & np.int32(2)) << np.int32(30)) ^ (
        np.float32(z).view(np.int32) & np.int32(-0x80000000)
    )
    value = np.int32(np.float32(value).view(np.int32) ^ np.int32(flip)).view(np.float32)
    return value if a < real(4e8) else real(math.nan)


def cos(z: float) -> float:
    """Return the cosine; NaN for |z| > 4e8."""
    a = abs(z)
    r, n = _quarter_turns(a)
    s, c = _sin_cos(r)
    value = s if n & np.int32(1) else c
    flip = ((n + (n & np.int32(1)) * np.int32(1)) & np.int32(2)) << np.int32(30)
    value = np.int32(np.float32(value).view(np.int32) ^ np.int32(flip)).view(np.float32)
    return value if a < real(4e8) else real(math.nan)


def tan(z: float) -> float:
    """Return the tangent; NaN for |z| > 4e8."""
    a = abs(z)
    r, n = _quarter_turns(a)
    s, c = _sin_cos(r)
    quotient = (-c if n & np.int32(1) else s) / (s if n & np.int32(1) else c)
    sign = np.float32(z).view(np.int32) & np.int32(-0x80000000)
    value = np.int32(np.float32(quotient).view(np.int32) ^ np.int32(sign)).view(np.float32)
    return value if a < real(4e8) else real(math.nan)
