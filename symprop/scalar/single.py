"""The elementary functions in float32, of polynomials that LLVM turns into vector code.

Reduce the argument, evaluate a polynomial, put the power of two together from bits; choices are
selections, never jumps, so that a loop over the samples is vectorised. What needs more than
float32 (the sine's multiples of pi/2) is computed in float64, and said to be.

The coefficients are minimax, found by Remez exchange with mpmath at 220 bits in
tests/accuracy/fit.py, which also prints the relative errors, before rounding to float32:
exp and tanh 1e-8, expm1 2e-10, log 6e-9, sinh 6e-11, sine 4e-9, cosine 1e-10, atan 5e-9,
asin 5e-9, atanh 1e-9, erf 1e-9, its complement beyond 1 2e-8, erfc 4e-10 and beyond 0.7 1e-8,
normal_cdf 7e-9 and beyond 1 1e-8. The errors in units in the last place, measured, stand in
tests/accuracy/README.md.
"""

# mypy: disable-error-code="return-value, assignment"
# NumPy's numbers count as float here

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symprop.scalar.common import _where

real: Any = np.float32


def _bits(x: float) -> int:
    """Return the bits of a number as an integer."""
    return np.float32(x).view(np.int32)


def _number(bits: int) -> float:
    """Return the number with these bits."""
    return np.int32(bits).view(np.float32)


def _real(k: int) -> float:
    """Return a small integer as a number, put together in the last bits of 1.5*2^23."""
    return _number(k + 0x4B400000) - real(12582912.0)


def _exp_rest(r: float) -> float:
    """Return e^r - 1 for |r| <= log(2)/2, where an error is small beside 1."""
    square = r * r
    p = real(0.0013947387) * square + (real(0.008366642) * r + real(0.041666266))
    p = p * square + (real(0.16666542) * r + real(0.5))
    return r + square * p


def _exp_parts(x: float, bits: int) -> tuple[float, float]:
    """Return w and s with e^x = (1 + w)*s, where s is 2^k times a power of two.

    x = k log 2 + r; adding 1.5*2^23 rounds k to an integer, in the last bits of the sum.
    `bits` are the bits of the power of two less those of its 127.
    """
    shifted = x * real(1.4426950408889634) + real(12582912.0)
    k = shifted - real(12582912.0)
    r = (x - k * real(0.693359375)) - k * real(-0.00021219444005469057)
    return _exp_rest(r), _number((_bits(shifted) << 23) + bits)


def _scaled_exp(x: float, bits: int) -> float:
    """Return e^x times the power of two that `bits` stand for, see `_exp_parts`."""
    w, s = _exp_parts(x, bits)
    return (real(1.0) + w) * s


def exp(z: float) -> float:
    """Return e^z; the power of two is multiplied in two parts, since it may be out of range."""
    x = _where(z < real(-104.0), real(-104.0), z)
    x = _where(x > real(89.0), real(89.0), x)
    bits = _where(x > real(0.0), 0x3F000000, 0x5F800000)
    return _scaled_exp(x, bits) * _where(x > real(0.0), real(2.0), real(5.421010862427522e-20))


def expm1(z: float) -> float:
    """Return e^z - 1, right to the last digits near 0 too.

    As `_scaled_exp`, with s = 2^k/2 and the two largest terms of s*(1 + r + t) - 1/2 added exactly.
    """
    x = _where(z < real(-18.0), real(-18.0), z)
    x = _where(x > real(89.0), real(89.0), x)
    shifted = x * real(1.4426950408889634) + real(12582912.0)
    k = shifted - real(12582912.0)
    high = x - k * real(0.693359375)
    r = high - k * real(-0.00021219444005469057)
    missing = (high - r) - k * real(-0.00021219444005469057)
    square = r * r
    p = real(0.00019914853) * r + real(0.0013941096)
    p = p * square + (real(0.008333271) * r + real(0.041666355))
    p = p * square + (real(0.16666667) * r + real(0.5))
    t = square * p + missing
    s = _number((_bits(shifted) << 23) + 0x3F000000)
    main = (s - real(0.5)) + s * r
    rest = ((s - real(0.5)) - main) + s * r
    value = real(2.0) * (main + (rest + s * t))
    return _where(abs(z) < real(1e-10), z, value)


def _with_sign(a: float, z: float) -> float:
    """Return a >= 0 with the sign of z."""
    return _number(_bits(a) | (_bits(z) & -0x80000000))


def tanh(z: float) -> float:
    """Return the hyperbolic tangent, (1 - E)/(1 + E) with E = e^-2|z| = s/2*(1 - 2g).

    2|z| = k log 2 + 2r and s = 2^(1 - k), so its products are exact, and 1 - s/2 + s*g is right
    to the last digits near 0 too, where k = 0. One constant for log(2)/2 does: it is right to
    28 bits by chance, and the larger k, the less E matters.
    """
    a = abs(z)
    x = _where(a > real(10.0), real(10.0), a)
    shifted = x * real(2.8853900817779268) + real(12582912.0)
    r = x - (shifted - real(12582912.0)) * real(0.34657359027997264)
    square = r * r
    p = real(-0.044631638) * square + (real(0.13386627) * r + real(-0.33333012))
    p = p * square + (real(0.6666617) * r + real(-1.0))
    g = r + square * p
    s = _number(0x40000000 - (_bits(shifted) << 23))
    half = real(0.5) * s
    return _with_sign(((real(1.0) - half) + s * g) / ((real(1.0) + half) - s * g), z)


def sigmoid(z: float) -> float:
    """Return c/(c + c*e^-z); with c = 1.875*2^-64 nothing overflows and what is small is gradual.

    c*e^-z = s*(1 + w). A c just below a power of two suffers least where the sum c + s is rounded;
    with a power of two itself the largest error is 2.4 ULP.
    """
    x = -z
    x = _where(x > real(104.0), real(104.0), x)
    x = _where(x < real(-40.0), real(-40.0), x)
    w, s = _exp_parts(x, 0x1FF00000)
    c = real(1.0164395367051604e-19)
    return c / ((c + s) + s * w)


def silu(z: float) -> float:
    """Return z*sigmoid(z) as c*(z/(c + c*e^-z)) with c = 2^-64; what c + s loses is added."""
    x = _where(z < real(-110.0), real(-110.0), z)
    x = _where(x > real(40.0), real(40.0), x)
    w, s = _exp_parts(-x, 0x1F800000)
    c = real(5.421010862427522e-20)
    near = c + s
    value = x / (near + (s * w + (c - (near - s))))
    return _where(z > real(40.0), z, c * value)


def elu(z: float, alpha: float) -> float:
    """Return z where z > 0, otherwise alpha*(e^z - 1)."""
    return _where(z > real(0.0), z, alpha * expm1(z))


def log(z: float) -> float:
    """Return the natural logarithm: -infinity at 0, NaN below."""
    x = abs(z)
    tiny = x < real(1.1754943508222875e-38)
    x = _where(tiny, x * real(8388608.0), x)
    bits = _bits(x) - 0x3F3504F3
    k = _real(bits >> 23) - _where(tiny, real(23.0), real(0.0))
    m = _number((bits & 0x007FFFFF) + 0x3F3504F3)
    f = m - real(1.0)
    value = k * real(0.693359375) - ((_log_tail(f) - k * real(-0.00021219444005469057)) - f)
    special = _where(z == real(0.0), real(-math.inf), _where(z < real(0.0), real(math.nan), z))
    return _where((z > real(0.0)) & (z < real(math.inf)), value, special)


def _log1p_parts(z: float) -> tuple[float, float, float]:
    """Return f, k and 2^-k with 1 + z = (1 + f)*2^k; what the sum 1 + z loses is added to f."""
    u = real(1.0) + z
    lost = _where(z < real(1.0), z - (u - real(1.0)), real(1.0) - (u - z))
    bits = _bits(abs(u)) - 0x3F3504F3
    k = bits >> 23
    m = _number((bits & 0x007FFFFF) + 0x3F3504F3)
    power = _number((127 - _where(k < 127, k, 127)) << 23)
    return (m - real(1.0)) + lost * power, _real(k), power


def log1p(z: float) -> float:
    """Return log(1 + z)."""
    f, k, _ = _log1p_parts(z)
    value = k * real(0.693359375) - ((_log_tail(f) - k * real(-0.00021219444005469057)) - f)
    special = _where(z == real(-1.0), real(-math.inf), _where(z < real(-1.0), real(math.nan), z))
    inside = (z > real(-1.0)) & (z < real(math.inf)) & (abs(z) >= real(1e-10))
    return _where(inside, value, special)


def softplus(z: float) -> float:
    """Return log(1 + e^z) as max(z, 0) + log1p(e^-|z|), which cannot overflow."""
    x = -abs(z)
    x = _where(x < real(-110.0), real(-110.0), x)
    e = _scaled_exp(x, 0x5F800000) * real(5.421010862427522e-20)
    large = e > real(0.41421356)
    f = _where(large, real(0.5) * (e - real(1.0)), e)
    base = _where(large, real(0.693359375), real(0.0))
    rest = _where(large, real(-0.00021219444005469057), real(0.0))
    value = base - ((_log_tail(f) - rest) - f)
    return value + _where(z > real(0.0), z, real(0.0))


def _quarter_exp(a: float) -> float:
    """Return e^a/4 for a >= 0, which overflows later than e^a."""
    return _scaled_exp(_where(a > real(90.0), real(90.0), a), 0x3E800000)


def cosh(z: float) -> float:
    """Return the hyperbolic cosine."""
    quarter = _quarter_exp(abs(z))
    return real(2.0) * quarter + real(0.125) / quarter


def sinh(z: float) -> float:
    """Return the hyperbolic sine, below 1 by a polynomial of its own."""
    a = abs(z)
    quarter = _quarter_exp(a)
    square = _where(a < real(1.0), a * a, real(0.0))
    p = real(2.8174245e-06) * square + real(0.00019836069)
    p = p * square + real(0.0083333505)
    p = p * square + real(0.16666667)
    near = a + a * square * p
    far = real(2.0) * quarter - real(0.125) / quarter
    return _with_sign(_where(a < real(1.0), near, far), z)


def atanh(z: float) -> float:
    """Return the inverse hyperbolic tangent, log1p(2a/(1 - a))/2; NaN beyond 1."""
    a = abs(z)
    square = _where(a < real(0.5), a * a, real(0.0))
    p = real(0.17719544) * square + real(0.050987132)
    p = p * square + real(0.118338875)
    p = p * square + real(0.142215)
    p = p * square + real(0.20002587)
    p = p * square + real(0.333333)
    near = a + a * square * p
    far = real(0.5) * log1p(real(2.0) * a / (real(1.0) - a))
    return _with_sign(_where(a < real(0.5), near, far), z)


def _log_of_sum(a: float, b: float, doubled: bool) -> float:
    """Return log(1 + a + b) for a >= b >= 0 or a = 0, and log 2 more where it is doubled.

    What the sum a + b loses is added to the logarithm, to a digit: else acosh is off by 2.05 ULP.
    """
    total = a + b
    f, k, power = _log1p_parts(total)
    k = k + _where(doubled, real(1.0), real(0.0))
    rest = k * real(-0.00021219444005469057) + (b - (total - a)) * power
    value = k * real(0.693359375) - ((_log_tail(f) - rest) - f)
    return _where(total < real(math.inf), value, total)


def asinh(z: float) -> float:
    """Return the inverse hyperbolic sine, log(1 + a + a^2/(1 + sqrt(1 + a^2)))."""
    a = abs(z)
    large = a > real(1e18)
    x = _where(large, real(0.0), a)
    square = x * x
    more = square / (real(1.0) + np.sqrt(real(1.0) + square))
    return _with_sign(_log_of_sum(a, more, large), z)


def acosh(z: float) -> float:
    """Return the inverse hyperbolic cosine, log(1 + t + sqrt(2t + t^2)), t = z - 1; NaN below 1."""
    large = z > real(1e18)
    t = _where(z >= real(1.0), z - real(1.0), real(math.nan))
    x = _where(large, real(0.0), t)
    root = np.sqrt(real(2.0) * x + x * x)
    return _log_of_sum(root, t, large)


def _log_tail(f: float) -> float:
    """Return f - log(1 + f) for 1 + f between sqrt(1/2) and sqrt(2)."""
    square = f * f
    p = real(-0.076356195) * f + real(0.12762101)
    p = p * square + (real(-0.1315998) * f + real(0.14201668))
    q = real(-0.1662337) * f + real(0.20001231)
    q = q * square + (real(-0.2500082) * f + real(0.3333333))
    p = p * (square * square) + q
    return real(0.5) * square - f * square * p
