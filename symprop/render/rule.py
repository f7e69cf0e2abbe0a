"""An optimizer's update rule as statements: what is the same for all elements comes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sympy import Add, Expr, Idx, Mul, Symbol

from symprop.formulas import text
from symprop.lower.program import Assign, Note, Statement
from symprop.lower.steps import element
from symprop.lower.vocabulary import new_name
from symprop.optimizers import Optimizer
from symprop.printer import Printer
from symprop.render.frames import Frames

__all__ = ["SCALE", "Rule", "factored", "rule"]

SCALE = Symbol("1/samples", positive=True)
"""The factor from a sum over samples to their mean."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The update of one element; `factors` are computed once a step, in float64.

    Its gradient is the sum over the samples: what makes a mean of it is a part of the factors.
    """

    factors: tuple[tuple[str, Expr], ...]
    body: tuple[Statement, ...]


def rule(optimizer: Optimizer, *indices: Idx, slope: Symbol | None = None) -> Rule:
    """Return the update rule of `optimizer` for the element at `indices`.

    Its gradient is the scalar `slope`, or else the element of a tensor, too.
    """
    gradient = Symbol("gradient", real=True)
    names = ("theta", "gradient", *optimizer.slots)
    elements: dict[Expr, Expr] = {Symbol(n, real=True): element(n, indices) for n in names}
    if slope is not None:
        elements[gradient] = slope
    hoisting = _Hoisting({*elements})
    body: list[Statement] = []
    for equation in optimizer.equations:
        value = hoisting.visit(equation.rhs.xreplace({gradient: SCALE * gradient}))
        body.append(Note(text(equation)))
        body.append(Assign(elements[equation.lhs], value.xreplace(elements)))
    return Rule(tuple((str(name), value) for value, name in hoisting.factors.items()), tuple(body))


def factored(update: Rule, frames: Frames) -> tuple[list[str], dict[str, str]]:
    """Return the lines that compute the factors, and the texts of all that is no element's own."""
    n, rates = frames.named, frames.rates
    taken = {*frames.program.taken, *n.values(), *rates.values()}
    factors = {name: new_name(name, taken) for name, _ in update.factors}
    same = {**rates, SCALE.name: n["scale"], "t": n["iteration"]}
    real = f"float({n['iteration']})"  # Numba compiles a power of its own for an integer
    once = Printer("float64", {**same, "t": real})
    lines = [f"{factors[name]} = real({once.expression(value)})" for name, value in update.factors]
    if frames.options.dtype != "float64":
        same = {name: f"real({shown})" for name, shown in same.items()}
    return lines, {**same, **factors}


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
