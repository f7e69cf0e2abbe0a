"""Numbers to sixty digits, each with its magnitude and the error a kernel may make.

`Value` is what the oracle computes with: NumPy arrays of mpmath's `mpf` beside two
arrays in float64, the magnitude and the error bound, both defined in `oracle`.
`Arithmetic` is the floating-point format whose errors are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import isfinite
from typing import Any

import numpy as np
from mpmath.ctx_mp import MPContext
from mpmath.libmp import from_float, from_man_exp
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["DIGITS", "MP", "Arithmetic", "Value", "arithmetic", "exact_sum", "mpf_array"]

Objects = NDArray[np.object_]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DIGITS = 60
"""Decimal digits of every operation: 50 and a reserve for the central differences."""

MP = MPContext()
"""An mpmath context of our own, so that nobody's precision is changed."""
MP.dps = DIGITS
NAN, INF = MP.nan, MP.inf

_LARGE_SUM = 256
_CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A floating-point format: machine epsilon, smallest normal and largest number."""

    dtype: np.dtype[Any]
    epsilon: float
    tiny: float
    largest: float

    def value(self, exact: Objects, magnitude: Floats, error: Floats) -> Value:
        """Return a value with infinite error where it is NaN or out of range."""
        approximate = exact.astype(np.float64)
        error = np.where(np.isnan(error), np.inf, error)
        error = np.where(np.abs(approximate) <= self.largest, error, np.inf)
        return Value(exact, approximate, magnitude, error)

    def leaf(self, numbers: ArrayLike) -> Value:
        """Return exactly known numbers, with an error where the format rounds them."""
        array = np.asarray(numbers)
        exact = mpf_array(array)
        approximate = exact.astype(np.float64)
        same = np.full(array.shape, array.dtype == self.dtype)
        if not same.all():
            with np.errstate(over="ignore"):
                rounded = approximate.astype(self.dtype).astype(np.float64)
            same = (mpf_array(rounded) == exact).astype(bool)
        size_of = np.abs(approximate)
        return self.value(exact, size_of, np.where(same, 0.0, self.epsilon * size_of + self.tiny))


def arithmetic(dtype: DTypeLike) -> Arithmetic:
    """Return the floating-point format of `dtype`, float64 or float32.

    >>> arithmetic("float64").epsilon == 2.0**-52
    True
    """
    limits = np.finfo(np.dtype(dtype))
    return Arithmetic(np.dtype(dtype), float(limits.eps), float(limits.tiny), float(limits.max))


@dataclass(frozen=True, slots=True)
class Value:
    """Numbers to `DIGITS` digits with their magnitude and the error bound of a kernel.

    All four arrays have one shape up to broadcasting: samples first, then the
    axes of the indices. `approximate` is `exact` in float64.
    """

    exact: Objects
    approximate: Floats
    magnitude: Floats
    error: Floats

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The four arrays in the order of the fields."""
        return self.exact, self.approximate, self.magnitude, self.error

    def map(self, change: Callable[[Any], Any]) -> Value:
        """Return the value with `change` applied to each array."""
        return Value(*map(change, self.arrays))

    def select(self, rows: NDArray[np.int64], count: int) -> Value:
        """Return the value for the samples `rows` out of `count`."""
        return self.map(lambda a: np.broadcast_to(a, (count, *a.shape[1:]))[rows])

    def mean(self, count: int, epsilon: float) -> Value:
        """Return the mean over `count` samples, without the axis of the samples.

        Where there are fewer samples than `count`, they repeat in turn: 0, 1, 2, 0, 1, ...
        A kernel may run over the samples and over the indices of an inner sum in
        one chain of additions; so the error is the sum of the samples' errors
        (`count` times their mean) and one rounding a sample on top.
        """
        _, magnitude, error = self.rough_mean(count, epsilon)
        if len(self.exact) == 1:
            exact = self.exact.reshape(self.exact.shape[1:])
        else:
            weighted = mpf_array(self._weights(count)) * self.exact
            exact = np.asarray(np.add.reduce(weighted, axis=0) / MP.mpf(count), dtype=object)
        return Value(exact, exact.astype(np.float64), magnitude, error)

    def rough_mean(self, count: int, epsilon: float) -> tuple[Floats, Floats, Floats]:
        """Return that mean to float64's precision only, with its magnitude and error."""
        weights = self._weights(count)
        error = np.sum(weights * self.error, axis=0)
        with np.errstate(all="ignore"):
            approximate, magnitude, operands = (
                np.sum(weights * array, axis=0) / count
                for array in (self.approximate, self.magnitude, np.abs(self.approximate))
            )
        return approximate, magnitude, error + (count + 1) * epsilon * operands

    def _weights(self, count: int) -> Floats:
        """Return how often each sample occurs among `count`, shaped to multiply the arrays."""
        samples = len(self.exact)
        repeats = np.bincount(np.arange(count) % samples, minlength=samples)
        return repeats.astype(np.float64).reshape(-1, *(1,) * (self.exact.ndim - 1))


def _to_mpf(number: Any) -> Any:
    if isinstance(number, float) and isfinite(number):
        return MP.make_mpf(from_float(number))  # twice as fast as the constructor
    return number if isinstance(number, MP.mpf) else MP.mpf(number)


_to_mpfs = np.frompyfunc(_to_mpf, 1, 1)
is_finite = np.frompyfunc(MP.isfinite, 1, 1)


def mpf_array(array: NDArray[Any]) -> Objects:
    """Return `array` as an array of mpf; NumPy's own scalars become Python's first."""
    return np.asarray(_to_mpfs(array.astype(object)), dtype=object)


def exact_sum(factors: Sequence[Objects], across: tuple[int, ...]) -> Objects:
    """Return the sum of the products of `factors` over the axes `across`.

    Large sums are done in integers, without any rounding, thirty times as fast as
    in mpf: the factors become integers times a common power of two. Where a
    factor's numbers are too unlike for that, mpf it is.
    """
    shape = np.broadcast_shapes(*(factor.shape for factor in factors))
    if np.prod(shape) < _LARGE_SUM or not across:
        return np.asarray(_reduce(reduce(np.multiply, _by_size(factors)), across), dtype=object)
    whole = [_as_integers(factor) for factor in factors]
    if any(pair is None for pair in whole):
        return np.asarray(_reduce(reduce(np.multiply, _by_size(factors)), across), dtype=object)
    pairs = [pair for pair in whole if pair is not None]
    total = _sum_in_chunks([pair[0] for pair in pairs], across, shape)
    exponent = sum(pair[1] for pair in pairs)
    scaled = np.frompyfunc(lambda n: MP.make_mpf(from_man_exp(n, exponent, MP.prec, "n")), 1, 1)
    return np.asarray(scaled(total), dtype=object)


def _by_size(factors: Sequence[Objects]) -> list[Objects]:
    return sorted(factors, key=lambda factor: factor.size)


def _reduce(products: Objects, across: tuple[int, ...]) -> Any:
    for axis in sorted(across, reverse=True):
        products = np.add.reduce(products, axis=axis)
    return products


def _sum_in_chunks(
    factors: Sequence[Objects], across: tuple[int, ...], shape: tuple[int, ...]
) -> Any:
    """Multiply and add a slice of the first summed axis at a time, to bound the memory."""
    axis = across[0]
    length = shape[axis]
    step = max(1, _CHUNK * length // int(np.prod(shape)))
    total: Any = 0
    for start in range(0, length, step):
        slices = [
            f if f.shape[axis] == 1 else f.take(range(start, min(start + step, length)), axis)
            for f in factors
        ]
        total = total + _reduce(reduce(np.multiply, _by_size(slices)), across)
    return total


def _as_integers(array: Objects) -> tuple[Objects, int] | None:
    """Return integers n and an exponent e with array = n * 2^e; None where they are too long."""
    numbers: list[Any] = array.ravel().tolist()
    parts = [number._mpf_ for number in numbers]
    exponents = [exponent for _, mantissa, exponent, _ in parts if mantissa]
    if len(exponents) < len(parts) and any(p[1] == 0 and p[2] != 0 for p in parts):
        return None  # NaN or infinity
    low, high = (min(exponents), max(exponents)) if exponents else (0, 0)
    if high - low > 400:
        return None
    integers = np.empty(len(parts), dtype=object)
    integers[:] = [
        (-int(mantissa) if sign else int(mantissa)) << (exponent - low) if mantissa else 0
        for sign, mantissa, exponent, _ in parts
    ]
    return integers.reshape(array.shape), low
