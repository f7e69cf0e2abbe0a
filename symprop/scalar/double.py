"""The elementary functions in float64, of polynomials that LLVM turns into vector code.

Reduce the argument, evaluate a polynomial, put the power of two together from bits; choices are
selections, never jumps, so that a loop over the samples is vectorised.

The coefficients are minimax, found by Remez exchange with mpmath at 220 bits in
tests/accuracy/fit.py, which also prints the relative errors, before rounding to float64:
exp and expm1 2e-17, log 1e-18, tanh 3e-19, sinh 9e-20, sine 4e-18, cosine 8e-20, atan 4e-18,
asin 2e-17, atanh 5e-19, erf 4e-18, normal_cdf 6e-19, erfc 1e-18. The errors in units in the
last place, measured, stand in tests/accuracy/README.md.
"""

# mypy: disable-error-code="return-value, assignment"
# NumPy's numbers count as float here

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symprop.scalar.common import _where

real: Any = np.float64


def _bits(x: float) -> int:
    """Return the bits of a number as an integer."""
    return np.float64(x).view(np.int64)


def _number(bits: int) -> float:
    """Return the number with these bits."""
    return np.int64(bits).view(np.float64)


def _real(k: int) -> float:
    """Return a small integer as a number, put together in the last bits of 1.5*2^52."""
    return _number(k + 0x4338000000000000) - real(6755399441055744.0)


def _exp_parts(x: float, bits: int) -> tuple[float, float]:
    """Return w and s with e^x = (1 + w)*s, where s is 2^k times a power of two.

    x = k log 2 + r; adding 1.5*2^52 rounds k to an integer, in the last bits of the sum.
    `bits` are the bits of the power of two less those of its 1023. The polynomial is evaluated
    in parts (Estrin), a fifth faster than by Horner's scheme, which waits for each step.
    """
    shifted = x * real(1.4426950408889634) + real(6755399441055744.0)
    k = shifted - real(6755399441055744.0)
    r = (x - k * real(0.6931471803691238)) - k * real(1.9082149292705877e-10)
    square = r * r
    p = real(2.5114837228610875e-08) * r + real(2.7626454720852886e-07)
    p = p * square + (real(2.755722670677056e-06) * r + real(2.4801504140225844e-05))
    q = real(0.00019841269904621867) * r + real(0.0013888888932613703)
    q = q * square + (real(0.00833333333331369) * r + real(0.04166666666657302))
    p = p * (square * square) + q
    p = p * square + (real(0.16666666666666688) * r + real(0.5000000000000006))
    return r + square * p, _number((_bits(shifted) << 52) + bits)


def _scaled_exp(x: float, bits: int) -> float:
    """Return e^x times the power of two that `bits` stand for, see `_exp_parts`."""
    w, s = _exp_parts(x, bits)
    return (real(1.0) + w) * s


def exp(z: float) -> float:
    """Return e^z; the power of two is multiplied in two parts, since it may be out of range."""
    x = _where(z < real(-746.0), real(-746.0), z)
    x = _where(x > real(710.0), real(710.0), x)
    bits = _where(x > real(0.0), 0x3FE0000000000000, 0x47F0000000000000)
    return _scaled_exp(x, bits) * _where(x > real(0.0), real(2.0), real(2.938735877055719e-39))


def expm1(z: float) -> float:
    """Return e^z - 1, right to the last digits near 0 too.

    As `_scaled_exp`, with s = 2^k/2 and the two largest terms of s*(1 + r + t) - 1/2 added exactly.
    """
    x = _where(z < real(-38.0), real(-38.0), z)
    x = _where(x > real(710.0), real(710.0), x)
    shifted = x * real(1.4426950408889634) + real(6755399441055744.0)
    k = shifted - real(6755399441055744.0)
    high = x - k * real(0.6931471803691238)
    r = high - k * real(1.9082149292705877e-10)
    missing = (high - r) - k * real(1.9082149292705877e-10)
    square = r * r
    p = real(2.5114837228610875e-08) * r + real(2.7626454720852886e-07)
    p = p * square + (real(2.755722670677056e-06) * r + real(2.4801504140225844e-05))
    q = real(0.00019841269904621867) * r + real(0.0013888888932613703)
    q = q * square + (real(0.00833333333331369) * r + real(0.04166666666657302))
    p = p * (square * square) + q
    p = p * square + (real(0.16666666666666688) * r + real(0.5000000000000006))
    t = square * p + missing
    s = _number((_bits(shifted) << 52) + 0x3FE0000000000000)
    main = (s - real(0.5)) + s * r
    rest = ((s - real(0.5)) - main) + s * r
    value = real(2.0) * (main + (rest + s * t))
    return _where(abs(z) < real(1e-20), z, value)


def _with_sign(a: float, z: float) -> float:
    """Return a >= 0 with the sign of z."""
    return _number(_bits(a) | (_bits(z) & -0x8000000000000000))


def tanh(z: float) -> float:
    """Return the hyperbolic tangent, (1 - E)/(1 + E) with E = e^-2|z| = s/2*(1 - 2g).

    2|z| = k log 2 + 2r and s = 2^(1 - k), so its products are exact, and 1 - E = 1 - s/2 + s*g is
    right to the last digits near 0 too, where k = 0. With b = (1 - s/2)/2 the quotient is
    b + (1 - E - b*(1 + E))/(1 + E). That and what log(2)/2 lacks, added to g, take the largest
    error from 2.2 to below 2 ULP and a sixth more time.
    """
    a = abs(z)
    x = _where(a > real(20.0), real(20.0), a)
    shifted = x * real(2.8853900817779268) + real(6755399441055744.0)
    k = shifted - real(6755399441055744.0)
    r = x - k * real(0.34657359027997264)
    square = r * r
    fourth = square * square
    p = real(-4.285355101909023e-06) * square + (
        real(2.5711766753851595e-05) * r + real(-0.00014109308057973338)
    )
    q = real(0.0007054654441710947) * r + real(-0.0031746031822196884)
    q = q * square + (real(0.012698412727295322) * r + real(-0.04444444444437302))
    p = p * fourth + q
    q = real(0.1333333333331445) * r + real(-0.3333333333333336)
    q = q * square + (real(0.6666666666666671) * r + real(-1.0))
    p = p * fourth + q
    g = r + (square * p - k * real(1.1595234069231498e-17))
    s = _number(0x4000000000000000 - (_bits(shifted) << 52))
    rest = real(1.0) - real(0.5) * s
    base = real(0.5) * rest
    above = rest * base + (real(1.0) + base) * (s * g)
    return _with_sign(base + above / ((real(1.0) + real(0.5) * s) - s * g), z)


def sigmoid(z: float) -> float:
    """Return c/(c + c*e^-z); with c = 1.875*2^-128 nothing overflows and what is small is gradual.

    c*e^-z = s*(1 + w). A c just below a power of two suffers least where the sum c + s is rounded;
    with a power of two itself the largest error is 2.4 ULP.
    """
    x = -z
    x = _where(x > real(746.0), real(746.0), x)
    x = _where(x < real(-80.0), real(-80.0), x)
    w, s = _exp_parts(x, 0x37FE000000000000)
    c = real(5.510129769479473e-39)
    return c / ((c + s) + s * w)


def silu(z: float) -> float:
    """Return z*sigmoid(z) as c*(z/(c + c*e^-z)) with c = 2^-128; what c + s loses is added."""
    x = _where(z < real(-755.0), real(-755.0), z)
    x = _where(x > real(80.0), real(80.0), x)
    w, s = _exp_parts(-x, 0x37F0000000000000)
    c = real(2.938735877055719e-39)
    near = c + s
    value = x / (near + (s * w + (c - (near - s))))
    return _where(z > real(80.0), z, c * value)


def elu(z: float, alpha: float) -> float:
    """Return z where z > 0, otherwise alpha*(e^z - 1)."""
    return _where(z > real(0.0), z, alpha * expm1(z))


def log(z: float) -> float:
    """Return the natural logarithm: -infinity at 0, NaN below."""
    x = abs(z)
    tiny = x < real(2.2250738585072014e-308)
    x = _where(tiny, x * real(4503599627370496.0), x)
    bits = _bits(x) - 0x3FE6A09E667F3BCD
    k = _real(bits >> 52) - _where(tiny, real(52.0), real(0.0))
    m = _number((bits & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD)
    f = m - real(1.0)
    value = k * real(0.6931471803691238) - ((_log_tail(f) - k * real(1.9082149292705877e-10)) - f)
    special = _where(z == real(0.0), real(-math.inf), _where(z < real(0.0), real(math.nan), z))
    return _where((z > real(0.0)) & (z < real(math.inf)), value, special)


def _log1p_parts(z: float) -> tuple[float, float, float]:
    """Return f, k and 2^-k with 1 + z = (1 + f)*2^k; what the sum 1 + z loses is added to f."""
    u = real(1.0) + z
    lost = _where(z < real(1.0), z - (u - real(1.0)), real(1.0) - (u - z))
    bits = _bits(abs(u)) - 0x3FE6A09E667F3BCD
    k = bits >> 52
    m = _number((bits & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD)
    power = _number((1023 - _where(k < 1023, k, 1023)) << 52)
    return (m - real(1.0)) + lost * power, _real(k), power


def log1p(z: float) -> float:
    """Return log(1 + z)."""
    f, k, _ = _log1p_parts(z)
    value = k * real(0.6931471803691238) - ((_log_tail(f) - k * real(1.9082149292705877e-10)) - f)
    special = _where(z == real(-1.0), real(-math.inf), _where(z < real(-1.0), real(math.nan), z))
    inside = (z > real(-1.0)) & (z < real(math.inf)) & (abs(z) >= real(1e-20))
    return _where(inside, value, special)


def softplus(z: float) -> float:
    """Return log(1 + e^z) as max(z, 0) + log1p(e^-|z|), which cannot overflow."""
    x = -abs(z)
    x = _where(x < real(-755.0), real(-755.0), x)
    e = _scaled_exp(x, 0x47F0000000000000) * real(2.938735877055719e-39)
    large = e > real(0.41421356)
    f = _where(large, real(0.5) * (e - real(1.0)), e)
    base = _where(large, real(0.6931471803691238), real(0.0))
    rest = _where(large, real(1.9082149292705877e-10), real(0.0))
    value = base - ((_log_tail(f) - rest) - f)
    return value + _where(z > real(0.0), z, real(0.0))


def _quarter_exp(a: float) -> float:
    """Return e^a/4 for a >= 0, which overflows later than e^a."""
    return _scaled_exp(_where(a > real(711.0), real(711.0), a), 0x3FD0000000000000)


def cosh(z: float) -> float:
    """Return the hyperbolic cosine."""
    quarter = _quarter_exp(abs(z))
    return real(2.0) * quarter + real(0.125) / quarter


def sinh(z: float) -> float:
    """Return the hyperbolic sine, below 1 by a polynomial of its own."""
    a = abs(z)
    quarter = _quarter_exp(a)
    square = _where(a < real(1.0), a * a, real(0.0))
    p = real(7.759302428231932e-13) * square + real(1.605724070471721e-10)
    p = p * square + real(2.505212339332868e-08)
    p = p * square + real(2.7557319155373335e-06)
    p = p * square + real(0.00019841269841437554)
    p = p * square + real(0.008333333333333139)
    p = p * square + real(0.16666666666666669)
    near = a + a * square * p
    far = real(2.0) * quarter - real(0.125) / quarter
    return _with_sign(_where(a < real(1.0), near, far), z)


def atanh(z: float) -> float:
    """Return the inverse hyperbolic tangent, log1p(2a/(1 - a))/2; NaN beyond 1."""
    a = abs(z)
    square = _where(a < real(0.5), a * a, real(0.0))
    p = real(0.24074817584540595) * square + real(-0.19547822551165128)
    p = p * square + real(0.17445559989644036)
    p = p * square + real(-0.005117742453942522)
    p = p * square + real(0.05950048361568152)
    p = p * square + real(0.05059351004715086)
    p = p * square + real(0.059072299976772685)
    p = p * square + real(0.06664508616465363)
    p = p * square + real(0.07692438750893658)
    p = p * square + real(0.0909090368742355)
    p = p * square + real(0.1111111125462986)
    p = p * square + real(0.14285714283467088)
    p = p * square + real(0.2000000000001762)
    p = p * square + real(0.33333333333333287)
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
    rest = k * real(1.9082149292705877e-10) + (b - (total - a)) * power
    value = k * real(0.6931471803691238) - ((_log_tail(f) - rest) - f)
    return _where(total < real(math.inf), value, total)


def asinh(z: float) -> float:
    """Return the inverse hyperbolic sine, log(1 + a + a^2/(1 + sqrt(1 + a^2)))."""
    a = abs(z)
    large = a > real(1e150)
    x = _where(large, real(0.0), a)
    square = x * x
    more = square / (real(1.0) + np.sqrt(real(1.0) + square))
    return _with_sign(_log_of_sum(a, more, large), z)


def acosh(z: float) -> float:
    """Return the inverse hyperbolic cosine, log(1 + t + sqrt(2t + t^2)), t = z - 1; NaN below 1."""
    large = z > real(1e150)
    t = _where(z >= real(1.0), z - real(1.0), real(math.nan))
    x = _where(large, real(0.0), t)
    root = np.sqrt(real(2.0) * x + x * x)
    return _log_of_sum(root, t, large)


def _log_tail(f: float) -> float:
    """Return f - log(1 + f) for 1 + f between sqrt(1/2) and sqrt(2), from s = f/(2 + f)."""
    s = f / (real(2.0) + f)
    square = s * s
    fourth = square * square
    p = real(0.14762747810331364) * fourth + (
        real(0.1531764000176727) * square + real(0.18183410640022854)
    )
    q = real(0.22222201869556624) * square + real(0.2857142870565349)
    p = p * fourth + q
    q = real(0.39999999999611363) * square + real(0.6666666666666696)
    p = p * fourth + q
    half = real(0.5) * f * f
    return half - s * (half + square * p)
