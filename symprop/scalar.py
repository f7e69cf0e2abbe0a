"""Scalar functions that a generated module carries along, as plain Python that Numba compiles.

The generator copies the source of a function, docstring and all, into a module, behind
the functions that it `requires`. So each may use only `math`, `real` and the others of this
file. `real` is the module's floating-point type, `numpy.float32` or `float`: every literal
is written ``real(1.0)``, since Numba computes ``float32 op literal`` in float64.

Each function takes and returns numbers of type `real` (arguments that are integers must
be converted first), is within a few units in the last place (ULP) of the true value over the
whole range, gives the limit at +-infinity, returns NaN for NaN, and neither overflows nor
divides by zero, so that plain Python raises nothing either. To be compiled without
the fast-math flag ``reassoc``, which would undo the exact differences in `normal_cdf`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

__all__ = ["SCALARS", "requires", "source"]

real = float


def step(z: float) -> float:
    """Return 1 where z > 0, otherwise 0."""
    if z > real(0.0):
        return real(1.0)
    return real(0.0) if z <= real(0.0) else z


def sign(z: float) -> float:
    """Return 1, 0 or -1, the sign of z."""
    if z > real(0.0):
        return real(1.0)
    return real(-1.0) if z < real(0.0) else z


def maximum(a: float, b: float) -> float:
    """Return the larger of two numbers; NaN where one is NaN, unlike Python's max."""
    return b if b > a or b != b else a


def minimum(a: float, b: float) -> float:
    """Return the smaller of two numbers; NaN where one is NaN, unlike Python's min."""
    return b if b < a or b != b else a


def relu(z: float) -> float:
    """Return max(z, 0)."""
    return real(0.0) if z <= real(0.0) else z


def leaky_relu(z: float, slope: float) -> float:
    """Return z where z > 0, otherwise slope*z."""
    return z if z > real(0.0) else slope * z


def elu(z: float, alpha: float) -> float:
    """Return z where z > 0, otherwise alpha*(e^z - 1)."""
    return z if z > real(0.0) else alpha * math.expm1(z)


def sigmoid(z: float) -> float:
    """Return 1/(1 + e^-z), from e^-|z|, which cannot overflow."""
    e = real(math.exp(-abs(z)))
    return real(1.0) / (real(1.0) + e) if z >= real(0.0) else e / (real(1.0) + e)


def softplus(z: float) -> float:
    """Return log(1 + e^z) as max(z, 0) + log1p(e^-|z|), which cannot overflow."""
    tail = real(math.log1p(math.exp(-abs(z))))
    return z + tail if z > real(0.0) else tail


def silu(z: float) -> float:
    """Return z*sigmoid(z); for z < 0 from e^(z/2) twice, so that only the result can underflow."""
    if z >= real(0.0):
        return z / (real(1.0) + real(math.exp(-z)))
    half = real(math.exp(real(0.5) * z))
    if half == real(0.0):
        return half
    return (z * half) * (half / (real(1.0) + half * half))


def normal_cdf(z: float) -> float:
    """Return erfc(-z/sqrt(2))/2, the distribution function of the standard normal law.

    The rounding error of x = -z/sqrt(2) would grow by a factor 2 x^2, up to 1400, in erfc(x).
    So what x misses, -(z + sqrt(2) x)/sqrt(2), is computed exactly, with x and sqrt(2)
    each split in two parts of few digits, and erfc is corrected by its derivative.
    """
    x = -z * real(0.7071067811865476)
    value = real(0.5) * real(math.erfc(x))
    if not real(-40.0) < z < real(-1.0):
        return value
    high = real(math.floor(x * real(64.0))) * real(0.015625)
    low = x - high
    missing = z + high * real(1.4140625)
    missing += low * real(1.4142135623730951) + high * real(0.0001510623730950488)
    slope = real(0.3989422804014327) * real(math.exp(-x * x))
    return value + slope * missing


def gelu(z: float) -> float:
    """Return z*normal_cdf(z); once normal_cdf is subnormal, right to |z| subnormal steps."""
    weight = normal_cdf(z)
    return weight if weight == real(0.0) else z * weight


SCALARS: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (
        step, sign, maximum, minimum, relu, leaky_relu, elu, sigmoid, softplus, silu,
        normal_cdf, gelu,
    )
}  # fmt: skip
"""The functions by name; those with a SymPy twin in `symprop.functions` have its name."""


def requires(name: str) -> tuple[str, ...]:
    """Return the names of the functions that `name` calls, each after those it calls itself.

    >>> requires("gelu")
    ('normal_cdf',)
    >>> requires("sigmoid")
    ()
    """
    found: dict[str, None] = {}
    for called in SCALARS[name].__code__.co_names:
        if called in SCALARS:
            found |= dict.fromkeys((*requires(called), called))
    return tuple(found)


def source(name: str) -> str:
    """Return the text of a function, ready to be put into a module.

    >>> source("relu").splitlines()[-1]
    '    return real(0.0) if z <= real(0.0) else z'
    """
    return inspect.getsource(SCALARS[name])
