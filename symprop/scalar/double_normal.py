"""The error function, the normal law and what comes from them in float64; see `double`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

from typing import Any

import numpy as np

from symprop.scalar.common import _where
from symprop.scalar.double import _exp_parts, _with_sign

real: Any = np.float64


def _erfc_parts(high: float, low: float) -> tuple[float, float, float]:
    """Return base, rest and s with erfc(high + low) = (base + rest)*s*2^-128.

    For high > 0.59 of at most 26 bits and |low| <= 2^-22. e^(-high^2) = (1 + w)*s, whose exponent
    is exact, times t p(t) of t = 1/(high + 3) and less the Taylor series in low. With t rounded to
    2^-38 and p = b + v, b to 2^-14, base = t*b is exact; rest = t*(v + p*w), at most 0.42 of it, is
    off by little beside the sum. What two coefficients and t lack is added to v.
    """
    d = high + real(3.0)
    t = (real(1.0) / d + real(24576.0)) - real(24576.0)
    short = (t + real(201326592.0)) - real(201326592.0)
    missing = (real(1.0) - short * d) - (t - short) * d
    u = t - real(0.125)
    square = u * u
    fourth = square * square
    q = real(123184314.53113037) * u + real(-122724199.03006232)
    q = q * square + (real(28575861.51163989) * u + real(11144955.80720302))
    r = real(-5021243.501043454) * u + real(-1090192.5591928998)
    r = r * square + (real(655082.4316999451) * u + real(158772.50001384818))
    q = q * fourth + r
    r = real(-84022.44454193398) * u + real(-30550.828656914662)
    r = r * square + (real(9582.636101665617) * u + real(6686.509383735659))
    q = q * fourth + r
    r = real(-297.9821823931047) * u + real(-1390.053671344641)
    r = r * square + (real(-431.29992776237094) * u + real(133.99749435041377))
    q = q * fourth + r
    r = real(196.34918013547005) * u + real(111.89447554069456)
    r = r * square + (real(44.864366926301074) * u + real(14.327854933924094))
    q = (q * fourth + r) * square
    p = (real(0.885637101864549) + u * real(3.8372915446746787)) + q
    x = high * low
    series = x * (real(1.0) - real(0.6666666666666666) * x)
    step = real(1.1283791670955126) * low * (real(1.0) - series)
    slope = (real(1.1283791670955126) * d - step) - real(2.0) * high * p
    tiny = real(-2.0181201116270843e-17) + u * real(-2.1285894297443339e-16)
    tiny = tiny + (missing * slope - step) * d
    w, s = _exp_parts(-high * high, 0x47F0000000000000)
    b = (p + real(412316860416.0)) - real(412316860416.0)
    v = ((real(0.885637101864549) - b + u * real(3.8372915446746787)) + q) + tiny
    return b * t, t * (b * w + (v + v * w)), s


def _erfc_far(a: float) -> float:
    """Return erfc(a)*2^128 for a >= 0.6."""
    a = _where(a < real(0.6), real(0.6), a)
    a = _where(a > real(27.4), real(27.4), a)
    high = (a + real(3221225472.0)) - real(3221225472.0)
    base, rest, s = _erfc_parts(high, a - high)
    return (base + rest) * s


def erfc(z: float) -> float:
    """Return 1 - erf(z)."""
    a = abs(z)
    square = _where(a < real(0.6), a * a, real(0.0))
    p = real(-1.391804418840731e-07) * square + real(1.62802866094232e-06)
    p = p * square + real(-1.4918064100075684e-05)
    p = p * square + real(0.00012055140604016798)
    p = p * square + real(-0.0008548323995526383)
    p = p * square + real(0.005223977596383212)
    p = p * square + real(-0.02686617064352793)
    p = p * square + real(0.11283791670950631)
    p = p * square + real(-0.37612638903183704)
    p = p * square + real(0.1283791670955126)
    near = real(1.0) - (z + z * p)
    far = _erfc_far(a) * real(2.938735877055719e-39)
    far = _where(z < real(0.0), real(2.0) - far, far)
    return _where(a < real(0.6), near, far)


def _cdf_parts(a: float) -> tuple[float, float, float]:
    """Return the parts of erfc(a/sqrt(2)) for a >= 0.85; what a/sqrt(2) lacks is exact."""
    a = _where(a < real(0.85), real(0.85), a)
    a = _where(a > real(38.7), real(38.7), a)
    high = (a * real(0.7071067811865476) + real(3221225472.0)) - real(3221225472.0)
    low = (a - high * real(1.4142135381698608)) - high * real(2.420323420895794e-08)
    return _erfc_parts(high, low * real(0.7071067811865476))


def normal_cdf(z: float) -> float:
    """Return erfc(-z/sqrt(2))/2, the distribution function of the standard normal law."""
    a = abs(z)
    square = _where(a < real(0.85), a * a, real(0.0))
    p = real(-9.605523095876048e-11) * square + real(2.2482540330810153e-09)
    p = p * square + real(-4.120551115179819e-08)
    p = p * square + real(6.659585816275823e-07)
    p = p * square + real(-9.444652857629717e-06)
    p = p * square + real(0.00011543468696097306)
    p = p * square + real(-0.0011873282154079103)
    p = p * square + real(0.009973557010031735)
    p = p * square + real(-0.06649038006690536)
    p = (real(0.5) + z * real(0.3989422804014327)) + z * square * p
    base, rest, s = _cdf_parts(a)
    far = (base + rest) * s * real(1.4693679385278594e-39)
    far = _where(z < real(0.0), far, real(1.0) - far)
    return _where(a < real(0.85), p, far)


def gelu(z: float) -> float:
    """Return z*normal_cdf(z), scaled for z < 0, so that only the result underflows.

    There what the sum of the parts loses is multiplied too: the product is one more rounding.
    """
    a = abs(z)
    square = _where(a < real(0.85), a * a, real(0.0))
    p = real(-9.605523095876048e-11) * square + real(2.2482540330810153e-09)
    p = p * square + real(-4.120551115179819e-08)
    p = p * square + real(6.659585816275823e-07)
    p = p * square + real(-9.444652857629717e-06)
    p = p * square + real(0.00011543468696097306)
    p = p * square + real(-0.0011873282154079103)
    p = p * square + real(0.009973557010031735)
    p = p * square + real(-0.06649038006690536)
    base, rest, s = _cdf_parts(a)
    total = base + rest
    x = _where(z < real(-38.7), real(-38.7), z)
    scaled = x * s
    lost = (base - total) + rest
    left = (scaled * total + scaled * lost) * real(1.4693679385278594e-39)
    right = z * (real(1.0) - total * s * real(1.4693679385278594e-39))
    near = z * (real(0.5) + z * real(0.3989422804014327)) + square * square * p
    return _where(a < real(0.85), near, _where(z < real(0.0), left, right))


def erf(z: float) -> float:
    """Return the error function; beyond 0.6 as 1 - erfc."""
    a = abs(z)
    square = _where(a < real(0.6), a * a, real(0.0))
    p = real(-1.391804418840731e-07) * square + real(1.62802866094232e-06)
    p = p * square + real(-1.4918064100075684e-05)
    p = p * square + real(0.00012055140604016798)
    p = p * square + real(-0.0008548323995526383)
    p = p * square + real(0.005223977596383212)
    p = p * square + real(-0.02686617064352793)
    p = p * square + real(0.11283791670950631)
    p = p * square + real(-0.37612638903183704)
    p = p * square + real(0.1283791670955126)
    near = a + a * p
    far = real(1.0) - _erfc_far(a) * real(2.938735877055719e-39)
    return _with_sign(_where(a < real(0.6), near, far), z)
