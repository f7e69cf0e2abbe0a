"""The circular functions and their inverses in float64; see `double`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symprop.scalar.common import _where
from symprop.scalar.double import _bits, _number, _with_sign

real: Any = np.float64


def atan(z: float) -> float:
    """Return the arc tangent: of (a - 1)/(a + 1) from 1/2 on, of -1/a from 2 on."""
    a = abs(z)
    above = _where(a < real(0.5), a, _where(a < real(2.0), a - real(1.0), real(-1.0)))
    below = _where(a < real(0.5), real(1.0), _where(a < real(2.0), a + real(1.0), a))
    t = above / below
    square = t * t
    p = real(0.010136750640260673) * square + real(-0.02746467757282023)
    p = p * square + real(0.04188445424795562)
    p = p * square + real(-0.05122733136885384)
    p = p * square + real(0.05858471504790917)
    p = p * square + real(-0.06663837612074335)
    p = p * square + real(0.07692076720929115)
    p = p * square + real(-0.09090896436172105)
    p = p * square + real(0.1111111066784389)
    p = p * square + real(-0.142857142765904)
    p = p * square + real(0.19999999999905654)
    p = p * square + real(-0.33333333333332993)
    high = _where(
        a < real(0.5),
        real(0.0),
        _where(a < real(2.0), real(0.7853981633974483), real(1.5707963267948966)),
    )
    low = _where(
        a < real(0.5),
        real(0.0),
        _where(a < real(2.0), real(3.061616997868383e-17), real(6.123233995736766e-17)),
    )
    return _with_sign(high + (t + (t * square * p + low)), z)


def _asin_parts(a: float) -> tuple[float, float]:
    """Return s and asin(s) - s, where s is a up to 1/2 and beyond it sqrt((1 - a)/2)."""
    far = a > real(0.5)
    square = _where(far, real(0.5) * (real(1.0) - a), a * a)
    root = np.sqrt(_where(a <= real(1.0), square, real(math.nan)))
    s = _where(far, root, a)
    p = real(0.03196000703425321) * square + real(-0.01629559013246151)
    p = p * square + real(0.01957486806633307)
    p = p * square + real(0.006510504464347861)
    p = p * square + real(0.012173359222493477)
    p = p * square + real(0.013884586409018717)
    p = p * square + real(0.017359772322488264)
    p = p * square + real(0.022371753442261073)
    p = p * square + real(0.03038195933471128)
    p = p * square + real(0.044642856823394236)
    p = p * square + real(0.07500000000343161)
    p = p * square + real(0.16666666666665383)
    return s, s * square * p


def asin(z: float) -> float:
    """Return the arc sine, from 1/2 on by that of sqrt((1 - z)/2); NaN beyond 1."""
    a = abs(z)
    s, rest = _asin_parts(a)
    far = real(1.5707963267948966) - (
        real(2.0) * s + (real(2.0) * rest - real(6.123233995736766e-17))
    )
    return _with_sign(_where(a > real(0.5), far, s + rest), z)


def acos(z: float) -> float:
    """Return the arc cosine; NaN beyond 1."""
    a = abs(z)
    s, rest = _asin_parts(a)
    signed = _where(z > real(0.0), rest, -rest)
    near = real(1.5707963267948966) - (z - (real(6.123233995736766e-17) - signed))
    twice = real(2.0) * (s + rest)
    far = _where(
        z > real(0.0), twice, real(3.141592653589793) - (twice - real(1.2246467991473532e-16))
    )
    return _where(a > real(0.5), far, near)


def _quarter_turns(a: float) -> tuple[float, float, int]:
    """Return what a >= 0 exceeds a multiple of pi/2 by, in two parts, and the bits of the multiple.

    pi/2 in four parts; the products with the first three, of 25 bits, are exact.
    """
    shifted = a * real(0.6366197723675814) + real(6755399441055744.0)
    k = shifted - real(6755399441055744.0)
    first = (a - k * real(1.5707963109016418)) - k * real(1.5893254712295857e-08)
    second = first - k * real(6.123233932053594e-17)
    rest = ((first - second) - k * real(6.123233932053594e-17)) - k * real(6.36831716351095e-25)
    r = second + rest
    return r, (second - r) + rest, _bits(shifted)


def _sin_cos_parts(r: float, rest: float) -> tuple[float, float, float, float]:
    """Return sine and cosine of r + rest for |r| <= pi/4 and a tiny rest, in two parts each."""
    square = r * r
    s = real(1.589652002940801e-10) * square + real(-2.5050753574935036e-08)
    s = s * square + real(2.75573136643977e-06)
    s = s * square + real(-0.00019841269829733003)
    s = s * square + real(0.008333333333322326)
    s = s * square + real(-0.16666666666666632)
    c = real(-1.136108721447607e-11) * square + real(2.087575420119934e-09)
    c = c * square + real(-2.7557314608853104e-07)
    c = c * square + real(2.4801587290501355e-05)
    c = c * square + real(-0.0013888888888876044)
    c = c * square + real(0.041666666666666616)
    half = real(0.5) * square
    near = real(1.0) - half
    lost = (real(1.0) - near) - half
    return r, r * square * s + rest * near, near, lost + (square * square * c - r * rest)


def _sin_cos(r: float, rest: float) -> tuple[float, float]:
    """Return sine and cosine of r + rest, see `_sin_cos_parts`."""
    s, s_rest, c, c_rest = _sin_cos_parts(r, rest)
    return s + s_rest, c + c_rest


def sin(z: float) -> float:
    """Return the sine; NaN for |z| > 4e8."""
    a = abs(z)
    r, rest, n = _quarter_turns(a)
    s, c = _sin_cos(r, rest)
    value = _where((n & 1) != 0, c, s)
    flip = ((n & 2) << 62) ^ (_bits(z) & -0x8000000000000000)
    return _where(a < real(4e8), _number(_bits(value) ^ flip), real(math.nan))


def cos(z: float) -> float:
    """Return the cosine; NaN for |z| > 4e8."""
    a = abs(z)
    r, rest, n = _quarter_turns(a)
    s, c = _sin_cos(r, rest)
    value = _where((n & 1) != 0, s, c)
    flip = ((n + (n & 1)) & 2) << 62
    return _where(a < real(4e8), _number(_bits(value) ^ flip), real(math.nan))


def tan(z: float) -> float:
    """Return the tangent; NaN for |z| > 4e8.

    A quotient of sine and cosine, and of what it leaves: with their roundings the first alone
    were off by 2.3 ULP.
    """
    a = abs(z)
    r, rest, n = _quarter_turns(a)
    s, s_rest, c, c_rest = _sin_cos_parts(r, rest)
    sine, cosine = s + s_rest, c + c_rest
    s, s_rest = sine, (s - sine) + s_rest
    c, c_rest = cosine, (c - cosine) + c_rest
    odd = (n & 1) != 0
    below = _where(odd, s, c)
    value = _where(odd, -c, s) / below
    rest = _where(odd, -c_rest, s_rest) - value * _where(odd, s_rest, c_rest)
    value = value + rest / below
    sign = _bits(z) & -0x8000000000000000
    return _where(a < real(4e8), _number(_bits(value) ^ sign), real(math.nan))
