"""The error function, the normal law and what comes from them in float64; see `double`."""

# mypy: disable-error-code="return-value, assignment"

from __future__ import annotations

from typing import Any

import numpy as np

from symprop.scalar.double import _exp_parts, _with_sign

real: Any = np.float64


def _scaled_erfc(high: float, low: float) -> float:
    """Return erfc(high + low)*2^128 for high > 0.45 of at most 26 bits and |low| <= 2^-22.

    e^(-high^2), whose exponent is exact, times t p(t) of t = 1/(high + 3.0) and less the Taylor
    series in low.
    """
    d = high + real(3.0)
    t = real(1.0) / d
    short = (t + real(201326592.0)) - real(201326592.0)
    missing = (real(1.0) - short * d) - (t - short) * d
    u = t - real(0.15625)
    q = real(133119104.39548615) * u + real(-40936974.87296913)
    q = q * u + real(-23608120.149236556)
    q = q * u + real(10270252.605773246)
    q = q * u + real(2476850.1175235515)
    q = q * u + real(-1737620.0208175257)
    q = q * u + real(-224625.611898301)
    q = q * u + real(272259.75876074715)
    q = q * u + real(25902.05075135761)
    q = q * u + real(-44075.41213670027)
    q = q * u + real(-5845.681041336498)
    q = q * u + real(7477.814480381694)
    q = q * u + real(2055.9070551428617)
    q = q * u + real(-1148.8618345361408)
    q = q * u + real(-762.6229002407438)
    q = q * u + real(2.318573881620253)
    q = q * u + real(210.27085397593763)
    q = q * u + real(143.98368025906314)
    q = q * u + real(60.83371958901355)
    q = q * u + real(19.251052687334827)
    q = q * u + real(4.87883713723174)
    p = real(1.0210263338171548) + u * q
    x = high * low
    series = x * (real(1.0) - real(0.6666666666666666) * x * (real(1.0) - real(0.5) * x))
    step = real(1.1283791670955126) * low * (real(1.0) - series)
    slope = real(1.1283791670955126) * d - real(2.0) * high * p
    v = u * q + (real(9.491629311891474e-17) + (missing * slope - step) * d)
    p = real(1.0210263338171548) + v
    rest = (real(1.0210263338171548) - p) + v
    w, s = _exp_parts(-high * high, 0x47F0000000000000)
    value = t * p
    return (value + (value * w + t * rest)) * s


def _erfc_far(a: float) -> float:
    """Return erfc(a)*2^128 for a >= 0.47."""
    a = real(0.47) if a < real(0.47) else a
    a = real(27.4) if a > real(27.4) else a
    high = (a + real(3221225472.0)) - real(3221225472.0)
    return _scaled_erfc(high, a - high)


def erfc(z: float) -> float:
    """Return 1 - erf(z)."""
    a = abs(z)
    square = a * a if a < real(0.5) else real(0.0)
    p = real(1.4726888904752097e-06) * square + real(-1.4845951579479245e-05)
    p = p * square + real(0.00012053339279683246)
    p = p * square + real(-0.0008548297841528953)
    p = p * square + real(0.005223977374050091)
    p = p * square + real(-0.026866170632953282)
    p = p * square + real(0.11283791670925557)
    p = p * square + real(-0.37612638903183476)
    p = p * square + real(0.12837916709551256)
    near = real(1.0) - (z + z * p)
    far = _erfc_far(a) * real(2.938735877055719e-39)
    far = real(2.0) - far if z < real(0.0) else far
    return near if a < real(0.47) else far


def _cdf_far(a: float) -> float:
    """Return erfc(a/sqrt(2))*2^128 for a >= 0.66; what a/sqrt(2) misses is computed exactly."""
    a = real(0.66) if a < real(0.66) else a
    a = real(38.7) if a > real(38.7) else a
    high = (a * real(0.7071067811865476) + real(3221225472.0)) - real(3221225472.0)
    low = (a - high * real(1.4142135381698608)) - high * real(2.420323420895794e-08)
    return _scaled_erfc(high, low * real(0.7071067811865476))


def normal_cdf(z: float) -> float:
    """Return erfc(-z/sqrt(2))/2, the distribution function of the standard normal law."""
    a = abs(z)
    square = a * a if a < real(0.66) else real(0.0)
    p = real(2.0570824932124637e-09) * square + real(-4.10477917717002e-08)
    p = p * square + real(6.658889150303702e-07)
    p = p * square + real(-9.44463510472528e-06)
    p = p * square + real(0.00011543468434228387)
    p = p * square + real(-0.001187328215195579)
    p = p * square + real(0.009973557010023393)
    p = p * square + real(-0.06649038006690523)
    p = p * square + real(0.3989422804014327)
    far = _cdf_far(a) * real(1.4693679385278594e-39)
    far = far if z < real(0.0) else real(1.0) - far
    return real(0.5) + z * p if a < real(0.66) else far


def gelu(z: float) -> float:
    """Return z*normal_cdf(z), scaled for z < 0, so that only the result underflows."""
    a = abs(z)
    square = a * a if a < real(0.66) else real(0.0)
    p = real(2.0570824932124637e-09) * square + real(-4.10477917717002e-08)
    p = p * square + real(6.658889150303702e-07)
    p = p * square + real(-9.44463510472528e-06)
    p = p * square + real(0.00011543468434228387)
    p = p * square + real(-0.001187328215195579)
    p = p * square + real(0.009973557010023393)
    p = p * square + real(-0.06649038006690523)
    p = p * square + real(0.3989422804014327)
    far = _cdf_far(a)
    x = real(-38.7) if z < real(-38.7) else z
    left = x * far * real(1.4693679385278594e-39)
    right = z * (real(1.0) - far * real(1.4693679385278594e-39))
    near = z * (real(0.5) + z * p)
    return near if a < real(0.66) else left if z < real(0.0) else right


def erf(z: float) -> float:
    """Return the error function; beyond 1/2 as 1 - erfc."""
    a = abs(z)
    square = a * a if a < real(0.5) else real(0.0)
    p = real(1.4726888904752097e-06) * square + real(-1.4845951579479245e-05)
    p = p * square + real(0.00012053339279683246)
    p = p * square + real(-0.0008548297841528953)
    p = p * square + real(0.005223977374050091)
    p = p * square + real(-0.026866170632953282)
    p = p * square + real(0.11283791670925557)
    p = p * square + real(-0.37612638903183476)
    p = p * square + real(0.12837916709551256)
    near = a + a * p
    far = real(1.0) - _erfc_far(a) * real(2.938735877055719e-39)
    return _with_sign(near if a < real(0.5) else far, z)
