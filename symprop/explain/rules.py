"""The chain rule in index notation: each adjoint as a sum over what reads the variable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sympy import Add, Expr, Idx, Indexed
from sympy.core.parameters import distribute

from symprop.derivation import Derivation, local_derivatives
from symprop.derivation.contributions import Contribution, factored, merged
from symprop.equation import name_of
from symprop.explain.paths import readers
from symprop.explain.rows import Line, Row, line_data
from symprop.explain.spelling import Slope
from symprop.explain.writing import Writer
from symprop.indices import (
    accesses,
    index_name,
    make_sum,
    name_bound,
    size,
    substitute,
    summation,
)
from symprop.network import Equation, Variable

__all__ = ["ChainRule", "chain_rules"]


@dataclass(frozen=True)
class ChainRule:
    """An adjoint by the chain rule, the local derivatives in it, and what comes of it.

    `rule` and `factors` are empty where the adjoint is a derivative of the loss itself, or where
    reads at other subscripts than plain indices have no such form.
    """

    rule: Line | None
    factors: tuple[Line, ...]
    result: Line

    def rows(self) -> Iterator[Row]:
        """Yield the rule, its factors and the result."""
        if self.rule is not None:
            yield self.rule
            yield from self.factors
        yield self.result

    def as_dict(self, writer: Writer) -> dict[str, Any]:
        """Return the rule as data for JSON."""
        return {
            "name": writer.quantity(self.result.quantity),
            "rule": None if self.rule is None else writer.formula(self.rule.expression),
            "factors": [line_data(line, writer) for line in self.factors],
            "formula": writer.formula(self.result.expression),
        }


def chain_rules(derivation: Derivation, name: str) -> tuple[ChainRule, ...]:
    """Return the chain rule of every adjoint on the way from the loss back to `name`."""
    found: dict[str, ChainRule] = {}

    def follow(variable: str) -> None:
        equation = derivation.adjoint(variable)
        for access in accesses(equation.rhs):
            source = name_of(access).split("/d", 1)[-1]
            if "/d" in name_of(access) and source not in found:
                follow(source)
        found[variable] = _rule(derivation, variable, equation)

    follow(name)
    return tuple(found.values())


def _rule(derivation: Derivation, name: str, adjoint: Equation) -> ChainRule:
    result = Line(adjoint.lhs, adjoint.rhs, general=True)
    terms = []
    with distribute(False):
        for equation in readers(derivation, name):
            if equation.name == derivation.loss_name:
                return ChainRule(None, (), result)
            term = _term(derivation, equation, Variable(name, adjoint.indices))
            if term is None:
                return ChainRule(None, (), result)
            terms.append(term)
        total = name_bound(Add(*terms), map(index_name, adjoint.indices))
    slopes = sorted(total.atoms(Slope), key=lambda slope: slope.sort_key())
    factors = tuple(Line(slope.partial, slope.args[2], general=True) for slope in slopes)
    return ChainRule(Line(adjoint.lhs, total, general=True), factors, result)


def _term(derivation: Derivation, equation: Equation, below: Variable) -> Expr | None:
    """Return adjoint times local derivative, summed over the indices of `equation` that are left.

    None where there is no such form: the variable is read at subscripts that are no
    plain indices, or at several places under different ones.
    """
    parts = local_derivatives(derivation, equation)[below.name]
    slopes: dict[tuple[Expr, ...], list[Expr]] = {}
    for part in parts:
        placed = _placed(part, below.indices)
        if placed is None or part.conditions:
            return None
        own = part.loops[: len(equation.indices)]
        inner = [index for index in part.loops if index not in own and index not in placed]
        value = make_sum(substitute(part.value, placed), inner)
        slopes.setdefault(tuple(placed.get(index, index) for index in own), []).append(value)
    if len(slopes) != 1:
        return None
    ((subscripts, values),) = slopes.items()
    adjoint = Variable(derivation.adjoint_name(equation.name), equation.indices).symbol
    above, seed = equation.lhs, adjoint
    if subscripts:
        above, seed = equation.lhs.base[subscripts], adjoint[subscripts]
    product = seed * Slope(above, below.access, factored(merged(values)))
    rest = [index for index in subscripts if index not in below.indices]
    return summation(product, rest) if rest else product


def _placed(part: Contribution, own: tuple[Idx, ...]) -> dict[Idx, Idx] | None:
    """Return the variable's own index for each loop index that is a subscript of its read."""
    subscripts = part.access.indices if isinstance(part.access, Indexed) else ()
    plain = all(subscript in part.loops for subscript in subscripts)
    if not plain or len(set(subscripts)) < len(subscripts):
        return None
    whole = all(size(old) == size(new) for old, new in zip(subscripts, own, strict=True))
    return dict(zip(subscripts, own, strict=True)) if whole else None
