"""An optimizer's update rule as statements: what is the same for all elements comes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sympy import Add, Expr, Idx, Mul, Symbol

from symprop.formulas import text
from symprop.lower.program import Assign, Note, Statement, element
from symprop.optimizers import Optimizer

__all__ = ["Rule", "rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """The update of one element; `factors` are computed once a step, in float64."""

    factors: tuple[tuple[str, Expr], ...]
    body: tuple[Statement, ...]


def rule(optimizer: Optimizer, index: Idx) -> Rule:
    """Return the update rule of `optimizer` for the element at `index`."""
    elements = {
        Symbol(name, real=True): element(name, (index,)) for name in ("theta", *optimizer.slots)
    }
    hoisting = _Hoisting({*elements, Symbol("gradient", real=True)})
    body: list[Statement] = []
    for equation in optimizer.equations:
        value = hoisting.visit(equation.rhs)
        body.append(Note(text(equation)))
        body.append(Assign(elements[equation.lhs], value.xreplace(elements)))
    return Rule(tuple((str(name), value) for value, name in hoisting.factors.items()), tuple(body))


@dataclass(slots=True)
class _Hoisting:
    """Names the largest parts of an expression that do not depend on the element."""

    varying: set[Symbol]
    factors: dict[Expr, Symbol] = field(default_factory=dict)

    def visit(self, node: Expr) -> Expr:
        if not node.free_symbols & self.varying:
            return self._named(node)
        if isinstance(node, Add | Mul):
            return node.func(*self._parts(node))
        return node.func(*map(self.visit, node.args)) if node.args else node

    def _parts(self, node: Add | Mul) -> Iterator[Expr]:
        varying = [part for part in node.args if part.free_symbols & self.varying]
        fixed = [part for part in node.args if not part.free_symbols & self.varying]
        signs = [part for part in fixed if part == -1 and isinstance(node, Mul)]
        fixed = [part for part in fixed if part not in signs]
        yield from signs
        if fixed:
            yield self._named(node.func(*fixed))
        yield from map(self.visit, varying)

    def _named(self, node: Expr) -> Expr:
        if node.is_number or isinstance(node, Symbol):
            return node
        if node not in self.factors:
            self.factors[node] = Symbol(f"factor_{len(self.factors) + 1}", real=True)
        return self.factors[node]
