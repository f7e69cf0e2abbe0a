"""Expressions spelled out: sums term by term, functions by their definitions, with their values.

What is worked by hand has concrete subscripts. Here a sum over an index becomes its
terms, with an ellipsis where there are many; a reduction becomes elementary functions;
and `Lookup` says what any expression is worth at a sample, to 50 digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from math import prod
from typing import Any, TypeAlias

import numpy as np
import sympy
from sympy import (
    Add,
    Basic,
    Expr,
    Function,
    Idx,
    Indexed,
    Integer,
    Mul,
    Piecewise,
    Pow,
    Sum,
    Symbol,
)
from sympy.printing.precedence import PRECEDENCE

from symprop.explain.worked import Objects, decimal
from symprop.functions import Normalisation, Reduction, log_softmax, logsumexp, reduce_max, softmax
from symprop.indices import (
    bound_indices,
    branches,
    free_indices,
    rebuild,
    size,
    substitute,
    summation,
)
from symprop.network import Equation
from symprop.verification.oracle import evaluate
from symprop.verification.precise import MP, Value, arithmetic

__all__ = [
    "Literal",
    "Lookup",
    "Partial",
    "Quantity",
    "Quoted",
    "Slope",
    "Terms",
    "Words",
    "number_text",
    "numerical",
    "opened",
    "spelled",
]

SHORT = 4
"""A sum of so many terms is written out."""

_FORM = arithmetic("float64")


@dataclass(frozen=True, slots=True)
class Partial:
    """The derivative of one number by another, as a name: ``dy1out/dy1``."""

    above: Symbol | Indexed
    below: Symbol | Indexed


@dataclass(frozen=True, slots=True)
class Words:
    """The name of a quantity that is no variable: ``path 1``."""

    words: str


Quantity: TypeAlias = Symbol | Indexed | Partial | Words


class Lookup:
    """What expressions are worth in a worked example."""

    def __init__(self, arrays: Mapping[str, Objects]) -> None:
        self.arrays = {name: np.asarray(array, object) for name, array in arrays.items()}
        self._known: dict[Basic, Any] = {}

    def value(self, expression: Expr) -> Any:
        """Return the value of an expression without free indices, an mpf."""
        if expression not in self._known:
            equation = decimal(Equation(Symbol("worth"), _whole(expression)))
            found = evaluate([equation], self._values).values["worth"]
            self._known[expression] = found.exact.flat[0]
        return self._known[expression]

    def integer(self, expression: Expr) -> int:
        """Return the value of an expression that is a subscript."""
        return int(self.value(expression))

    def holds(self, condition: Basic) -> bool:
        """Tell whether a condition is true."""
        return bool(self.value(Piecewise((1, condition), (0, True), evaluate=False)) == 1)

    def given(self, numbers: Mapping[str, Any]) -> Lookup:
        """Return a lookup that knows further scalars by name."""
        if not numbers:
            return self
        return self.including({n: np.array(v, dtype=object) for n, v in numbers.items()})

    def including(self, arrays: Mapping[str, Objects]) -> Lookup:
        """Return a lookup that knows further arrays, or other values of known ones."""
        return Lookup({**self.arrays, **arrays})

    @cached_property
    def _values(self) -> dict[str, Value]:
        return {name: _FORM.leaf(array[None]) for name, array in self.arrays.items()}


def number_text(value: Any, digits: int = 8) -> str:
    """Return a number with `digits` decimals; with fewer where they give it exactly.

    >>> number_text(MP.mpf("0.05")), number_text(MP.mpf(2) / 3), number_text(MP.mpf("0.1868156"))
    ('0.05', '0.66666667', '0.1868156')
    >>> number_text(MP.mpf("1.23456789e-7"))
    '1.2345679e-7'
    """
    number = MP.mpf(value)
    if not MP.isfinite(number):
        return str(number)
    size_of = abs(number)
    if number != 0 and not MP.mpf("1e-4") <= size_of < MP.mpf("1e7"):
        return _scientific(number, digits)
    scaled = MP.nint(number * MP.mpf(10) ** digits)
    whole, rest = divmod(abs(int(scaled)), 10**digits)
    decimals = f"{rest:0{digits}d}"
    if abs(scaled - number * MP.mpf(10) ** digits) < MP.mpf("1e-30"):  # to 50 digits, exact
        decimals = decimals.rstrip("0")
    sign = "-" if scaled < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def _scientific(number: Any, digits: int) -> str:
    mantissa, exponent = MP.nstr(number, digits, min_fixed=0, max_fixed=0).split("e")
    mantissa = mantissa.removesuffix(".0")
    return mantissa if int(exponent) == 0 else f"{mantissa}e{int(exponent)}"


# Expressions spelled out


class Terms(Function):
    """A sum over indices, spelled out: the sum itself, how many terms it has, those to be shown."""

    precedence = PRECEDENCE["Add"]

    @property
    def shown(self) -> tuple[Expr, ...]:
        """The terms to be shown; the last one after an ellipsis where some are left out."""
        return self.args[2:]

    @property
    def elided(self) -> bool:
        """Whether some terms are left out."""
        return len(self.shown) < int(self.args[1])


class Quoted(Function):
    """A part of an expression of which only the value is shown."""


class Literal(Symbol):
    """A symbol that is always printed as a number, and stands where numbers stand."""

    is_number = True


class Slope(Function):
    """A local derivative shown by its name: what is differentiated, by what, and the result."""

    @property
    def partial(self) -> Partial:
        """The name."""
        return Partial(*self.args[:2])


def _values_of(indices: Iterable[Idx], backwards: bool = False) -> Iterator[dict[Idx, Integer]]:
    indices = tuple(indices)
    ranges = [range(size(index)) for index in indices]
    for values in product(*(reversed(r) if backwards else r for r in ranges)):
        yield dict(zip(indices, map(Integer, values), strict=True))


def _nonzero(body: Expr, indices: Iterable[Idx], backwards: bool = False) -> Iterator[Expr]:
    terms = (substitute(body, values) for values in _values_of(indices, backwards))
    return (term for term in terms if term != 0)


def _terms(node: Expr, body: Expr, bound: tuple[Idx, ...], short: int = SHORT) -> Expr:
    """Return the terms of `body` over all values of `bound`; three of more than `short`."""
    total = prod(map(size, bound))
    if total <= 64:
        found = list(_nonzero(body, bound))
        total = len(found)
    else:
        found = [*islice(_nonzero(body, bound), 2), *islice(_nonzero(body, bound, True), 1)]
    if total > short and len(found) > 3:
        found = [*found[:2], found[-1]]
    if not found:
        return Integer(0)
    return found[0] if total == 1 else Terms(node, Integer(total), *found)


def spelled(expression: Basic, short: int = SHORT) -> Basic:
    """Return `expression` with every sum that has no free index spelled out.

    All terms of a sum are shown if they are at most `short`.
    """
    if not expression.args or isinstance(expression, Idx | Indexed | Symbol):
        return expression
    if isinstance(expression, Sum) and not free_indices(expression):
        return _terms(expression, expression.function, bound_indices(expression), short)
    if bound_indices(expression):
        return expression
    return rebuild(expression, [spelled(part, short) for part in expression.args])


def _whole(expression: Basic) -> Basic:
    """Return `expression` with the sums themselves again where they were spelled out."""
    if isinstance(expression, Terms):
        return expression.args[0]
    if not expression.has(Terms) or bound_indices(expression):
        return expression
    return rebuild(expression, map(_whole, expression.args))


def opened(expression: Basic, short: int = SHORT) -> Basic:
    """Return `expression` spelled out, reductions too: what it reads are elements only."""
    if not expression.args or isinstance(expression, Idx | Indexed | Symbol):
        return expression
    if bound_indices(expression):
        if free_indices(expression) or not isinstance(expression, Reduction | Normalisation):
            return spelled(expression, short)
        return _elementary(expression, short)
    return rebuild(expression, [opened(part, short) for part in expression.args])


def numerical(expression: Basic, lookup: Lookup) -> Basic:
    """Return `expression` as it is written with numbers in the place of names.

    Choices are made, reductions become elementary functions, and of a sum that is a
    factor only the value is kept.
    """
    if not expression.args or isinstance(expression, Idx | Indexed | Symbol):
        return expression
    if isinstance(expression, Piecewise):
        chosen = next(value for value, test in branches(expression) if lookup.holds(test))
        return numerical(chosen, lookup)
    if isinstance(expression, Terms):
        shown = (numerical(part, lookup) for part in expression.shown)
        return Terms(*expression.args[:2], *shown)
    if bound_indices(expression):
        return _elementary(expression)
    if isinstance(expression, Mul):
        return Mul(*(_quoted(part, lookup) for part in expression.args), evaluate=False)
    return rebuild(expression, [numerical(part, lookup) for part in expression.args])


def _quoted(factor: Expr, lookup: Lookup) -> Expr:
    """Return a factor of a product: of a sum, or of a power of one below it, only the value."""
    if isinstance(factor, Add | Terms | Piecewise):
        return Quoted(factor.args[0] if isinstance(factor, Terms) else factor)
    if isinstance(factor, Pow) and isinstance(factor.base, Add) and factor.exp.is_negative:
        return Pow(Quoted(factor.base), factor.exp, evaluate=False)
    return numerical(factor, lookup)


def _elementary(node: Expr, short: int = SHORT) -> Expr:
    """Return a reduction or normalisation by its definition, spelled out."""
    body, bound = node.args[0], bound_indices(node)
    if isinstance(node, softmax | log_softmax):
        here = substitute(body, {bound[0]: node.at})
        total = _terms(summation(sympy.exp(body), bound), sympy.exp(body), bound, short)
        if isinstance(node, softmax):
            return Mul(sympy.exp(here), Pow(total, -1, evaluate=False), evaluate=False)
        return Add(here, -sympy.log(total), evaluate=False)
    if isinstance(node, logsumexp):
        exponentials = summation(sympy.exp(body), bound)
        return sympy.log(_terms(exponentials, sympy.exp(body), bound, short))
    if isinstance(node, Reduction) and prod(map(size, bound)) <= 2 * SHORT:
        choose = sympy.Max if isinstance(node, reduce_max) else sympy.Min
        return choose(*_nonzero(body, bound))
    return Quoted(node)
