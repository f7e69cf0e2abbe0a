"""Name the intermediate values: after this stage no reduction hides inside another expression.

``h[j] = tanh(Sum(W1[i,j]*x[i], i) + b1[j])`` becomes two equations::

    net_h[j] = Sum(W1[i,j]*x[i], i) + b1[j]
    h[j] = tanh(net_h[j])

which is how a textbook writes it ("net input") and how it is computed: the
adjoint of ``net_h`` is a factor that the gradients of W1 and b1 share. A
reduction that stands inside a product, a power, a function or another sum gets
a name as well (``sum_y``), so that it is computed once and not once for every
value of the indices around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import sympy
from sympy import Add, Basic, Expr, Function, Idx, Indexed, IndexedBase, Mul, Piecewise, Sum, Symbol

from symprop.functions import Normalisation, Reduction
from symprop.indices import (
    accesses,
    bound_indices,
    branches,
    canonical,
    free_indices,
    guarded,
    index_name,
    name_bound,
    numbered,
    piecewise,
    rebind,
    rebuild,
    size,
    summation,
    where,
)
from symprop.network import Equation

__all__ = ["flatten"]

_PREFIXES = {"Sum": "sum", "reduce_max": "max", "reduce_min": "min"}


def flatten(equations: Iterable[Equation], taken: Iterable[str]) -> tuple[Equation, ...]:
    """Return equivalent equations in which every reduction and net input has a name.

    `taken` holds the names in use; the new ones differ from all of them. An
    intermediate value that occurs twice is named once.
    """
    pass_ = _Flattener({*taken})
    for equation in equations:
        pass_.add(equation)
    return tuple(pass_.done)


@dataclass(slots=True)
class _Flattener:
    """The equations so far, and what has been named already."""

    taken: set[str]
    done: list[Equation] = field(default_factory=list)
    named: dict[Basic, Symbol | IndexedBase] = field(default_factory=dict)
    order: tuple[Idx, ...] = ()
    owner: str = ""

    def add(self, equation: Equation) -> None:
        """Append `equation`, preceded by the equations of what it is made of."""
        self.owner = equation.name.replace("/", "_")  # the adjoint dL/dh names dL_dh
        self.order = _order(equation.lhs)
        rhs = self._value(equation.rhs, set(self.order), ())
        self.done.append(Equation(equation.lhs, rhs, equation.accumulate))

    def _value(self, rhs: Expr, around: set[Idx], guards: tuple[Basic, ...]) -> Expr:
        """Flatten the right side of an equation: reductions may stand as terms of its sum.

        They may have a constant factor, and must depend on all indices `around`
        them; otherwise they would be computed again and again.
        """
        return Add(*(self._term(term, around, guards) for term in Add.make_args(rhs)))

    def _term(self, term: Expr, around: set[Idx], guards: tuple[Basic, ...]) -> Expr:
        value, condition = guarded(term)
        if condition is not sympy.true and not accesses(condition):
            return where(self._value(value, around, (*guards, condition)), condition)
        factors = Mul.make_args(term)
        constant = [factor for factor in factors if not _reads(factor)]
        rest = Mul(*(factor for factor in factors if _reads(factor)))
        whole = isinstance(rest, Normalisation) and not constant
        if (_reduces(rest) or whole) and set(free_indices(rest)) >= around:
            return Mul(*constant) * self._inside(rest, guards)
        return self._visit(term, guards)

    def _visit(self, node: Basic, guards: tuple[Basic, ...]) -> Basic:
        """Return `node` with every reduction and net input in it replaced by a name."""
        if not node.args or isinstance(node, Idx | Indexed | Symbol) or not _compound(node):
            return node
        if isinstance(node, Piecewise):
            return self._piecewise(node, guards)
        if bound_indices(node):
            prefix = _PREFIXES.get(type(node).__name__, type(node).__name__)
            return self._name(self._inside(node, guards), prefix, guards)
        if isinstance(node, Function) and not isinstance(node, sympy.Abs | sympy.sign):
            return rebuild(node, [self._argument(part, guards) for part in node.args])
        if isinstance(node, sympy.Max | sympy.Min):
            return rebuild(node, [self._compared(part, guards) for part in node.args])
        return rebuild(node, [self._visit(part, guards) for part in node.args])

    def _compared(self, node: Expr, guards: tuple[Basic, ...]) -> Expr:
        """Name what an extremum compares where it has branches: SymPy would compare each of them.

        That takes a time exponential in their number.
        """
        return self._net(node, guards) if node.has(Piecewise) else self._visit(node, guards)

    def _argument(self, node: Basic, guards: tuple[Basic, ...]) -> Basic:
        """Name the argument of a function where it is a net input: more than one value read."""
        if len(accesses(node)) > 1 and isinstance(node, Expr):
            return self._net(node, guards)
        return self._visit(node, guards)

    def _inside(self, node: Expr, guards: tuple[Basic, ...]) -> Expr:
        """Flatten the body of a binding node; all but sums reduce values that have a name."""
        if isinstance(node, Sum):
            return summation(self._visit(node.function, guards), bound_indices(node))
        body = node.body if isinstance(node.body, Indexed) else self._net(node.body, guards)
        return rebind(node, body, node.bound, [node.at] if isinstance(node, Normalisation) else [])

    def _net(self, node: Expr, guards: tuple[Basic, ...]) -> Expr:
        return self._name(self._value(node, set(free_indices(node)), guards), "net", guards)

    def _piecewise(self, node: Piecewise, guards: tuple[Basic, ...]) -> Expr:
        """Flatten each branch; what is named inside one is computed only where it is taken."""
        pairs = []
        for value, condition in branches(node):
            test = self._visit(condition, guards)
            pairs.append((self._visit(value, (*guards, test)), test))
            guards = (*guards, sympy.Not(test))
        return piecewise(*pairs)

    def _name(self, value: Expr, prefix: str, guards: tuple[Basic, ...]) -> Expr:
        """Return the name of `value`, with a new equation for it unless there is one already."""
        if isinstance(value, Indexed | Symbol) or not accesses(value):
            return value
        found = free_indices(value)
        indices = tuple(sorted(found, key=lambda i: (i not in self.order, self._place(i))))
        condition = sympy.And(*(g for g in guards if set(free_indices(g)) & set(indices)))
        if condition is not sympy.true and set(free_indices(condition)) <= set(indices):
            value = where(value, condition)
        places = {index: Idx(f"_at{n}", size(index)) for n, index in enumerate(indices)}
        key = canonical(value, places)
        if key not in self.named:
            self.named[key] = self._define(value, prefix, indices)
        symbol = self.named[key]
        return symbol[indices] if indices else symbol

    def _place(self, index: Idx) -> int:
        return self.order.index(index) if index in self.order else 0

    def _define(self, value: Expr, prefix: str, indices: tuple[Idx, ...]) -> Symbol | IndexedBase:
        names = numbered(f"{prefix}_{self.owner}")
        name = next(name for name in names if name not in self.taken)
        self.taken.add(name)
        symbol = IndexedBase(name, real=True) if indices else Symbol(name, real=True)
        lhs = symbol[indices] if indices else symbol
        self.done.append(Equation(lhs, name_bound(value, map(index_name, indices))))
        return symbol


def _order(lhs: Symbol | Indexed) -> tuple[Idx, ...]:
    """Return the indices of a left side as they stand in it; a scatter's may be inside `r + p`."""
    found: dict[Idx, None] = {}
    for subscript in getattr(lhs, "indices", ()):
        found |= dict.fromkeys(free_indices(subscript))
    return tuple(found)


def _reads(node: Expr) -> bool:
    return bool(accesses(node) or free_indices(node))


def _reduces(node: Basic) -> bool:
    """Tell whether `node` is a reduction: its value does not depend on the indices it binds."""
    return isinstance(node, Sum | Reduction)


def _compound(node: Basic) -> bool:
    """Tell whether there is anything in `node` that could need a name."""
    return node.has(Sum, Reduction, Normalisation, Function, sympy.Max, sympy.Min)
