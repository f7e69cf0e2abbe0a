"""First pass: functions of indices alone are tables, made once when a module is imported.

``cos(pi*m*(n + 1/2)/64)`` in a cosine transform, or the encoding of positions in a transformer,
would be computed anew for every block of samples. As an element of a table a factor of a sum is
that of a tensor, too, so that the sum is a product of two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import permutations, product
from math import prod

import sympy
from sympy import Add, Basic, Expr, Function, Idx, Indexed, Integer, Mul, Piecewise, Pow, Symbol

from symprop.equation import Equation
from symprop.indices import (
    accesses,
    bound_indices,
    branches,
    free_indices,
    piecewise,
    rebind,
    rebuild,
    size,
    substitute,
)
from symprop.lower.steps import element
from symprop.lower.values import appearing, key, scopes
from symprop.lower.vocabulary import new_name
from symprop.ranges import is_arithmetic

__all__ = ["ROOM", "Table", "tabulated"]

ROOM = 2**15
"""The most numbers of a table: Python makes about a million of them in a second."""


@dataclass(frozen=True, slots=True)
class Table:
    """A constant tensor: ``name[indices] = value``."""

    name: str
    indices: tuple[Idx, ...]
    value: Expr

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        return tuple(map(size, self.indices))


def tabulated(
    equations: Iterable[Equation], taken: Iterable[str]
) -> tuple[tuple[Equation, ...], tuple[Table, ...]]:
    """Return the equations with elements of tables in them, and the tables.

    Their names differ from those `taken`.
    """
    pass_ = _Tables({*taken})
    done = tuple(pass_.read(equation) for equation in equations)
    return done, tuple(pass_.known.values())


@dataclass(slots=True)
class _Tables:
    taken: set[str]
    known: dict[Basic, Table] = field(default_factory=dict)
    owner: str = ""

    def read(self, equation: Equation) -> Equation:
        """Return an equation that reads tables."""
        self.owner = equation.name.replace("/", "_")
        return Equation(equation.lhs, self._visit(equation.rhs), equation.accumulate)

    def _visit(self, node: Basic) -> Basic:
        if not node.args or isinstance(node, Indexed | Symbol | Idx):
            return node
        if _costly(node) and (table := self._table(node)) is not None:
            return table
        if isinstance(node, Piecewise):
            return piecewise(*((self._visit(value), test) for value, test in branches(node)))
        if bound := bound_indices(node):
            body, *outside = scopes(node)
            return rebind(node, self._visit(body), bound, outside)
        if isinstance(node, Mul | Add):
            return self._parted(node)
        return rebuild(node, map(self._visit, node.args))

    def _parted(self, node: Mul | Add) -> Expr:
        """Make one table of all the terms or factors that are functions of indices."""
        still = [part for part in node.args if _is_still(part) and free_indices(part)]
        whole = node.func(*still)
        table = self._table(whole) if _costly(whole) else None
        if table is None:
            return rebuild(node, map(self._visit, node.args))
        others = (part for part in node.args if part not in still)
        return node.func(table, *map(self._visit, others))

    def _table(self, value: Expr) -> Indexed | None:
        """Return the element of a table; None where it would be large, or not all numbers."""
        indices = appearing(value)
        for order in permutations(indices):  # m*n and k*m are sorted by their names
            if (table := self.known.get(key(value, order))) is not None:
                return element(table.name, order)
        if prod(map(size, indices)) > ROOM:
            return None
        if not _is_finite(value, indices):
            return None
        table = Table(new_name(f"table_{self.owner}", self.taken), indices, value)
        self.known[key(value, indices)] = table
        return element(table.name, indices)


def _is_finite(value: Expr, indices: tuple[Idx, ...]) -> bool:
    """Tell whether Python finds a finite number for all values of the indices."""
    plain = {index: Symbol(f"q{n}") for n, index in enumerate(indices)}
    function = sympy.lambdify(list(plain.values()), substitute(value, plain), "math")
    try:
        found = [function(*at) for at in product(*(range(size(index)) for index in indices))]
    except (ArithmeticError, ValueError):
        return False
    return all(isinstance(number, int | float) and math.isfinite(number) for number in found)


def _is_still(node: Basic) -> bool:
    """Tell whether a number depends on indices alone, and Python can compute it."""
    known = all(hasattr(math, type(function).__name__) for function in _functions(node))
    return known and isinstance(node, Expr) and not accesses(node) and not _binds(node)


def _functions(node: Basic) -> list[Function]:
    """Return the functions in a number but those of index arithmetic, and choices."""
    found = (f for f in node.atoms(Function) if not isinstance(f, Piecewise))
    return [function for function in found if not is_arithmetic(function)]


def _binds(node: Basic) -> bool:
    return bool(bound_indices(node)) or any(map(_binds, node.args))


def _costly(node: Basic) -> bool:
    """Tell whether a number depends on indices alone, and takes more than sums and products."""
    if not _is_still(node) or not free_indices(node):
        return False
    if _functions(node):
        return True
    powers = (power.exp for power in node.atoms(Pow) if free_indices(power))
    return any(not (isinstance(power, Integer) and power > 0) for power in powers)
