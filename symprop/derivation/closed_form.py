"""Closed forms: every defined value replaced by its definition, all the way to the data."""

from __future__ import annotations

from collections.abc import Mapping

import sympy
from sympy import Basic, Idx, Indexed, Sum, Symbol

from symprop.equation import name_of
from symprop.functions import Normalisation, Reduction
from symprop.indices import bound_indices, freshen, rebuild, summation
from symprop.network import Equation

__all__ = ["expanded", "expanded_size"]


def expanded(expression: Basic, definitions: Mapping[str, Equation]) -> Basic:
    """Replace every defined value in `expression` by its right side, all the way down."""
    expression = freshen(expression)
    if isinstance(expression, Symbol | Indexed) and not isinstance(expression, Idx):
        name = name_of(expression)
        if name not in definitions:
            return expression
        equation = definitions[name]
        subscripts = expression.indices if isinstance(expression, Indexed) else ()
        mapping = dict(zip(equation.indices, subscripts, strict=True))
        return freshen(expanded(equation.rhs, definitions), mapping)
    if not expression.args or isinstance(expression, Idx):
        return expression
    if isinstance(expression, Sum):
        return summation(expanded(expression.function, definitions), bound_indices(expression))
    if isinstance(expression, Reduction | Normalisation):
        body = expanded(expression.body, definitions)
        return expression.func(body, *expression.args[1:])
    return rebuild(expression, [expanded(part, definitions) for part in expression.args])


def expanded_size(
    expression: Basic, definitions: Mapping[str, Equation], known: dict[str, int]
) -> int:
    """Return how many operations `expanded` would give, without expanding anything."""
    total = int(expression.count_ops()) + 1
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, Symbol | Indexed) and not isinstance(node, Idx):
            name = name_of(node)
            if name in definitions:
                if name not in known:
                    known[name] = expanded_size(definitions[name].rhs, definitions, known)
                total += known[name]
    return total
