"""Elementary functions in float64 for one number, on whose value the next computation waits.

In a loop over samples a processor works on the functions of several at once, and what counts is
how few instructions they are. Where each value depends on the last one, as in training with one
sample a step, it is how long one takes: here a table takes the place of half of the polynomial,
and sigmoid applies its limits to the result, since they are known before it is. In a loop that is
vectorised, the table would have to be gathered, which takes longer on many processors.

What is not here is computed as in loops. The coefficients are those of "exp by 256 double" in
tests/accuracy/fit.py, whose error is 8e-18 of e^r.
"""

# mypy: disable-error-code="return-value, assignment"
# NumPy's numbers count as float here

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symprop.scalar.common import _where
from symprop.scalar.double import _bits, _number

real: Any = np.float64


def _power(j: int) -> tuple[float, float]:
    """Return 2^(j/256), correctly rounded, and what rounding took, relative to it, for j below 256.

    In units of 2^-120 it is a product of repeated roots of 2. Compiled code looks both up.
    """
    exact, root = 1 << 120, 2 << 120
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        root = math.isqrt(root << 120)
        if j & bit:
            exact = exact * root >> 120
    nearest = exact / (1 << 120)
    return nearest, (exact - (int(nearest * 2**52) << 68)) / exact


def _exp_parts_alone(x: float, place: int) -> tuple[float, float]:
    """Return w and s with (1 + w)*s = e^x*2^(place/256), where s is a power of 2^(1/256).

    x = k log(2)/256 + r, as in `_exp_parts`.
    """
    shifted = x * real(369.3299304675746) + real(6755399441055744.0)
    k = shifted - real(6755399441055744.0)
    r = (x - k * real(0.00270760617331689)) - k * real(7.453964567463233e-13)
    square = r * r
    p = real(0.041666669854948366) * square
    p = p + (real(0.16666667887693012) * r + real(0.4999999999999988))
    i = _bits(shifted) + place
    power, rest = _power(i & 255)
    return (r + rest) + square * p, _number(_bits(power) + ((i >> 8) << 52))


def _exp_alone(z: float) -> float:
    """Return e^z, as `exp` does."""
    x = _where(z < real(-746.0), real(-746.0), z)
    x = _where(x > real(710.0), real(710.0), x)
    w, s = _exp_parts_alone(x, _where(x > real(0.0), -256, 32768))
    return (s + s * w) * _where(x > real(0.0), real(2.0), real(2.938735877055719e-39))


def _sigmoid_alone(z: float) -> float:
    """Return c/(c + c*e^-z), as `sigmoid` does, with c = 2^(-128 + 126/256).

    Near the root of 2 the errors of the sum, which may have any digits, weigh least in the
    quotient; of the powers there this is one of the nearest to a number of float64.
    """
    w, s = _exp_parts_alone(-z, -32642)
    c = real(4.1335553368412436e-39)
    limit = _where(z > real(0.0), c, real(math.inf))
    return c / _where(abs(z + real(63.0)) > real(683.0), limit, (c + s) + s * w)
