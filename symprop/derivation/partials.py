"""Local derivatives: of every elementary node of an expression by each of its arguments."""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from sympy import Add, Expr, Function, Integer, Mul, Piecewise, Pow, Rational
from sympy.core.function import ArgumentIndexError

from symprop.errors import DifferentiationError
from symprop.indices import accesses

__all__ = ["partials"]


def partials(node: Expr) -> Iterator[tuple[Expr, Expr]]:
    """Yield each argument of an elementary node with the node's derivative by it."""
    if isinstance(node, Add):
        yield from ((term, Integer(1)) for term in node.args)
    elif isinstance(node, Mul):
        for place, factor in enumerate(node.args):
            yield factor, Mul(*node.args[:place], *node.args[place + 1 :])
    elif isinstance(node, Pow):
        yield from _power_partials(node)
    elif isinstance(node, sympy.Max | sympy.Min):
        for argument in node.args:
            yield argument, _share_of_extremum(node, argument)
    elif isinstance(node, Function | sympy.exp):
        yield from _function_partials(node)
    elif node.args and accesses(node):
        raise DifferentiationError(
            f"{node}: symprop knows no derivative of {type(node).__name__}; write it with "
            "elementary functions"
        )


def _power_partials(node: Pow) -> Iterator[tuple[Expr, Expr]]:
    base, exponent = node.args
    if exponent.is_Integer or not isinstance(exponent, Rational):
        yield base, exponent * base ** (exponent - 1)
    else:  # keep the root itself, whose value the forward pass has: d sqrt(v) = 1/(2 sqrt(v))
        yield base, exponent * node / base if exponent != Rational(1, 2) else 1 / (2 * node)
    if accesses(exponent):
        yield exponent, node * sympy.log(base)


def _function_partials(node: Function) -> Iterator[tuple[Expr, Expr]]:
    for place, argument in enumerate(node.args, start=1):
        if not accesses(argument):
            continue
        try:
            partial = node.fdiff(place)
        except (ArgumentIndexError, AttributeError, NotImplementedError):
            partial = sympy.nan
        if partial.has(sympy.nan, sympy.Derivative, sympy.Subs):
            raise DifferentiationError(
                f"{node}: symprop knows no derivative of {type(node).__name__} by its argument "
                f"{place}; write it with elementary functions"
            )
        yield argument, partial


def _share_of_extremum(node: sympy.Max | sympy.Min, argument: Expr) -> Expr:
    """Return d Max(a, b, ...)/da: 1 where a alone is the largest, an equal share in a tie."""
    others = [other for other in node.args if other != argument]
    below = sympy.Gt if isinstance(node, sympy.Max) else sympy.Lt
    if len(others) == 1:
        (other,) = others
        return Piecewise(
            (1, below(argument, other)), (Rational(1, 2), sympy.Eq(argument, other)), (0, True)
        )
    reached = sympy.And(*(sympy.Not(below(other, argument)) for other in others))
    ties = Add(1, *(Piecewise((1, sympy.Eq(argument, other)), (0, True)) for other in others))
    return Piecewise((1 / ties, reached), (0, True))
