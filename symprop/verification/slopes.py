"""The functions as the oracle knows them: exact values and slopes for the error bounds.

A table of its own, independent of `functions.py` and of what kernels call: a
function's value comes from mpmath, its slope, needed to a few digits only, from
NumPy and SciPy in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from symprop.verification.precise import INF, MP, NAN, Floats

__all__ = ["POWER", "RECIPROCAL", "RULES", "STEPS", "Rule", "Steps", "map_exp", "map_log"]

_FAR = MP.mpf(10) ** 30

Slope = Callable[..., Any]


def _total(function: Callable[..., Any], arguments: int = 1) -> Callable[..., Any]:
    """Return a ufunc on mpf that answers NaN where `function` has no real value."""

    def apply(*args: Any) -> Any:
        try:
            result = function(*args)
        except (ValueError, ZeroDivisionError, OverflowError):
            return NAN
        return result if isinstance(result, MP.mpf) else NAN

    return np.frompyfunc(apply, arguments, 1)


def _exp(x: Any) -> Any:
    """Return e^x; infinity and zero where the exponent itself would not fit into memory."""
    if x > _FAR:
        return INF
    return MP.zero if x < -_FAR else MP.exp(x)


def _within(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `function` restricted to arguments whose period can still be resolved."""
    return lambda x: function(x) if abs(x) < _FAR else NAN


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + _exp(-x))


def _softplus(x: Any) -> Any:
    return max(x, MP.zero) + MP.log1p(_exp(-abs(x)))


def _normal_cdf(x: Any) -> Any:
    return MP.erfc(-x / MP.sqrt(2)) / 2


def _expm1(x: Any) -> Any:
    return _exp(x) - 1 if abs(x) > 1 else MP.expm1(x)


def _power(base: Any, exponent: Any) -> Any:
    """Return base**exponent where it is real."""
    if base == 0 and exponent < 0:
        return NAN
    if exponent == MP.floor(exponent) and abs(exponent) < _FAR:
        return base ** int(exponent)
    return _exp(exponent * MP.log(base)) if base > 0 else base**exponent


@dataclass(frozen=True, slots=True)
class Rule:
    """A function: its exact value, partial derivatives in float64, roundings of a kernel.

    `most`, where given, bounds how far the value moves when the argument moves by so
    much, however steep the slope: sqrt moves by at most the root of that.
    """

    exact: Callable[..., Any]
    slopes: tuple[Slope, ...]
    roundings: float = 4.0
    most: Callable[[Floats], Any] | None = None


def _smooth(
    exact: Callable[..., Any],
    *slopes: Slope,
    roundings: float = 4.0,
    most: Callable[[Floats], Any] | None = None,
) -> Rule:
    return Rule(_total(exact, len(slopes)), slopes, roundings, most)


def _density(x: Floats) -> Any:
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def _reciprocal_cosh(x: Floats) -> Any:
    return 1 / np.cosh(x)


_ONE: Slope = np.ones_like

RULES: dict[str, Rule] = {
    "Abs": _smooth(abs, _ONE, roundings=0),
    "exp": _smooth(_exp, np.exp),
    "exp2": _smooth(lambda x: _power(MP.mpf(2), x), lambda x: np.exp2(x) * np.log(2)),
    "expm1": _smooth(_expm1, np.exp),
    "log": _smooth(MP.log, lambda x: 1 / x),
    "log1p": _smooth(MP.log1p, lambda x: 1 / (1 + x)),
    "log2": _smooth(lambda x: MP.log(x, 2), lambda x: 1 / (x * np.log(2))),
    "log10": _smooth(MP.log10, lambda x: 1 / (x * np.log(10))),
    "Sqrt": _smooth(MP.sqrt, lambda x: 0.5 / np.sqrt(x), most=np.sqrt),
    "Cbrt": _smooth(
        lambda x: MP.cbrt(x) if x >= 0 else -MP.cbrt(-x), lambda x: np.cbrt(x) ** -2 / 3
    ),
    "hypot": _smooth(MP.hypot, lambda x, y: x / np.hypot(x, y), lambda x, y: y / np.hypot(x, y)),
    "sin": _smooth(_within(MP.sin), np.cos),
    "cos": _smooth(_within(MP.cos), np.sin),
    "tan": _smooth(_within(MP.tan), lambda x: 1 + np.tan(x) ** 2),
    "cot": _smooth(_within(MP.cot), lambda x: 1 + np.tan(x) ** -2),
    "sec": _smooth(_within(MP.sec), lambda x: np.tan(x) / np.cos(x)),
    "csc": _smooth(_within(MP.csc), lambda x: 1 / (np.tan(x) * np.sin(x))),
    "sinc": _smooth(_within(MP.sinc), _ONE),
    "asin": _smooth(MP.asin, lambda x: 1 / np.sqrt(1 - x**2)),
    "acos": _smooth(MP.acos, lambda x: 1 / np.sqrt(1 - x**2)),
    "atan": _smooth(MP.atan, lambda x: 1 / (1 + x**2)),
    "acot": _smooth(MP.acot, lambda x: 1 / (1 + x**2)),
    "atan2": _smooth(MP.atan2, lambda y, x: x / (x**2 + y**2), lambda y, x: y / (x**2 + y**2)),
    "sinh": _smooth(lambda x: (_exp(x) - _exp(-x)) / 2 if abs(x) > 1 else MP.sinh(x), np.cosh),
    "cosh": _smooth(lambda x: (_exp(x) + _exp(-x)) / 2, np.sinh),
    "tanh": _smooth(MP.tanh, lambda x: _reciprocal_cosh(x) ** 2),
    "coth": _smooth(MP.coth, lambda x: np.sinh(x) ** -2.0),
    "sech": _smooth(lambda x: 2 / (_exp(x) + _exp(-x)), lambda x: np.tanh(x) * _reciprocal_cosh(x)),
    "csch": _smooth(MP.csch, lambda x: 1 / (np.tanh(x) * np.sinh(x))),
    "asinh": _smooth(MP.asinh, lambda x: 1 / np.hypot(1, x)),
    "acosh": _smooth(MP.acosh, lambda x: 1 / np.sqrt(x**2 - 1)),
    "atanh": _smooth(MP.atanh, lambda x: 1 / (1 - x**2)),
    "erf": _smooth(MP.erf, lambda x: 2 * np.exp(-(x**2)) / np.sqrt(np.pi)),
    "erfc": _smooth(MP.erfc, lambda x: 2 * np.exp(-(x**2)) / np.sqrt(np.pi)),
    "gamma": _smooth(MP.gamma, lambda x: special.gamma(x) * special.digamma(x), roundings=16),
    "loggamma": _smooth(MP.loggamma, special.digamma, roundings=16),
    "digamma": _smooth(MP.digamma, lambda x: special.polygamma(1, x), roundings=16),
    "sigmoid": _smooth(_sigmoid, lambda x: special.expit(x) * special.expit(-x)),
    "softplus": _smooth(_softplus, special.expit),
    "relu": _smooth(lambda x: max(x, MP.zero), lambda x: (x > 0).astype(float), roundings=0),
    "leaky_relu": _smooth(
        lambda x, slope: x if x > 0 else slope * x,
        lambda x, slope: np.where(x > 0, 1, slope),
        lambda x, slope: np.where(x > 0, 0, x),
    ),
    "elu": _smooth(
        lambda x, alpha: x if x > 0 else alpha * _expm1(x),
        lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))),
        lambda x, alpha: np.where(x > 0, 0, np.expm1(np.minimum(x, 0))),
    ),
    "normal_cdf": _smooth(_normal_cdf, _density),
    "gelu": _smooth(lambda x: x * _normal_cdf(x), lambda x: special.ndtr(x) + x * _density(x)),
    "silu": _smooth(
        lambda x: x * _sigmoid(x),
        lambda x: special.expit(x) * (1 + x * special.expit(-x)),
    ),
}
"""Every smooth or continuous function the oracle knows, by its SymPy name."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A piecewise constant function; `at_step` tells whether an argument is on a jump."""

    exact: Callable[..., Any]
    approximate: Callable[[Floats], Any]
    at_step: Callable[..., Any]


def _steps(
    exact: Callable[[Any], Any],
    approximate: Callable[[Floats], Any],
    at_step: Callable[[Any], bool] = lambda x: bool(x == 0),
) -> Steps:
    return Steps(_total(exact), approximate, np.frompyfunc(at_step, 1, 1))


STEPS: dict[str, Steps] = {
    "step": _steps(lambda x: MP.mpf(1 if x > 0 else 0), lambda x: x > 0),
    "Heaviside": _steps(lambda x: (MP.sign(x) + 1) / 2, lambda x: x > 0),
    "sign": _steps(MP.sign, np.sign),
    "floor": _steps(MP.floor, np.floor, lambda x: bool(x == MP.floor(x))),
    "ceiling": _steps(MP.ceil, np.ceil, lambda x: bool(x == MP.floor(x))),
}
"""Functions that jump; the value at the jump is theirs, `sign(0) = step(0) = 0`."""


RECIPROCAL = _smooth(lambda x: 1 / x, lambda x: x**-2.0, roundings=2)
POWER = _smooth(
    _power, lambda x, y: y * np.power(x, y - 1), lambda x, y: np.power(x, y) * np.log(x)
)
POLES = frozenset((RECIPROCAL.slopes[0], RULES["log"].slopes[0]))
"""Slopes that are infinite at 0: an error that reaches over it is unbounded."""
map_exp, map_log = _total(_exp), _total(MP.log)
