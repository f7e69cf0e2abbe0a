"""Limits on SymPy objects, without which a short description could run for hours.

Each limit is on something that SymPy spends time on of its own accord: it evaluates
numbers, multiplies out to find a sign, and compares the arguments of a maximum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import sympy
from sympy import Add, Basic, Expr, Indexed, Mul, Pow, Symbol

__all__ = ["call_problem", "constant", "power_problem", "problem", "simple_problem"]

_EXPONENT = 1_000
_BITS = 1_100
_TERMS = 500
_CHOICES = 16
_LEVELS = 4
_COMPARED = 40
_COMPARING = ("max", "min", "abs", "sign", "floor", "ceiling")
_OVERFLOW = {"exp": 709.0, "expm1": 709.0, "sinh": 709.0, "cosh": 709.0}


def simple_problem(values: Iterable[Basic]) -> str:
    """Return why `values` must not be compared, by a maximum or a condition; '' where they may."""
    if sum(map(_nodes, values)) > _COMPARED:
        return (
            f"more than {_COMPARED} operations in what is compared; give its parts equations of "
            "their own"
        )
    return ""


def call_problem(name: str, values: list[Expr]) -> str:
    """Return why a function must not be called with `values`; '' where it may."""
    if name in _OVERFLOW and abs(constant(values[0]) or 0.0) > _OVERFLOW[name]:
        return f"{name}({values[0]}) is too large for a float"
    if name in _COMPARING and simple_problem(values):
        return simple_problem(values)
    if name in ("max", "min"):
        kind = sympy.Max if name == "max" else sympy.Min
        if sum(len(v.args) if isinstance(v, kind) else 1 for v in values) > _CHOICES:
            return f"more than {_CHOICES} values nested in {name}"
        if max(map(_levels, values)) >= _LEVELS:
            return f"max and min nested more than {_LEVELS} deep; split the equation"
    return ""


def power_problem(base: Expr, exponent: Expr) -> str:
    """Return why a power must not be built; '' where it may."""
    power = constant(exponent)
    if power is not None and abs(power) > _EXPONENT:
        return f"the exponent is beyond {_EXPONENT}"
    value = constant(base)
    if power and value and abs(power * math.log2(abs(value))) > _BITS:
        return "the power is too large or too small for a float"
    return ""


def problem(value: Basic) -> str:
    """Return what is wrong with a new SymPy object; '' where nothing is."""
    if value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo, sympy.I):
        return "not a finite real number"
    if value.has(sympy.ITE):
        return "a choice inside a comparison; give the choice an equation of its own"
    if any(max(abs(int(q.p)), int(q.q)).bit_length() > _BITS for q in value.atoms(sympy.Rational)):
        return "a number is too large or too small for a float"
    powers = {power for power in value.atoms(Pow) if not power.atoms(Symbol)}
    if any(power.is_extended_real is False for power in powers):
        return "not a real number"
    if isinstance(value, Expr) and not value.atoms(Symbol):
        if value.is_extended_real is False:
            return "not a real number"
        number = constant(value)
        if number is not None and not math.isfinite(number):
            return "a number is too large for a float"
    if isinstance(value, Add | Mul | Pow) and _terms(value) > _TERMS:
        return f"multiplied out it has over {_TERMS} terms; give its parts equations of their own"
    return ""


def constant(expression: Expr) -> float | None:
    """Return the value of a constant; infinity where it overflows, None where it is none."""
    if expression.atoms(Symbol):
        return None
    try:
        return float(expression)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def _terms(expression: Expr) -> int:
    """Estimate how many terms `expression` has when multiplied out.

    SymPy multiplies out to find the sign of an expression, whose cost this bounds.
    """
    if isinstance(expression, Add):
        return sum(map(_terms, expression.args))
    if isinstance(expression, Mul):
        return math.prod(map(_terms, expression.args))
    if isinstance(expression, Pow) and expression.exp.is_Integer:
        terms, power = _terms(expression.base), abs(int(expression.exp))
        return math.comb(terms + power - 1, power) if terms <= _TERMS else terms
    return 1


def _levels(expression: Basic) -> int:
    """Return how deep maxima and minima are nested; SymPy compares each with every other."""
    inside = max(map(_levels, expression.args), default=0)
    return inside + isinstance(expression, sympy.Max | sympy.Min)


def _nodes(expression: Basic) -> int:
    """Count the operations, numbers and reads in `expression`."""
    if isinstance(expression, Indexed):
        return 1
    return 1 + sum(map(_nodes, expression.args))
