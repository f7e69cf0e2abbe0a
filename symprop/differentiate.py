"""Reverse-mode differentiation of equations in index notation.

The equations are walked backwards. For ``v[I] = f(..., u[e], ...)`` every place
where ``u`` is read contributes ``dL/dv[I] * df/du`` to the adjoint of ``u`` at the
subscripts ``e``, summed over the indices of ``v`` and over those of the sums
around the place. Where the subscripts are plain indices they are renamed to
``u``'s own and the contribution is the textbook formula (a gather)::

    dL/dW2[j,k] = h[j]*dL/dz[k]

Where they are not (``x[c, r+p]``, a diagonal ``A[j, j]``, a data value ``E[token[s], d]``) it
stays a scatter, an equation that accumulates. The adjoints are equations like
those they come from: printing, lowering and verification see one kind of thing.

No sum is ever expanded, so the time taken does not depend on the width of any index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import sympy
from sympy import (
    Add,
    Basic,
    Expr,
    Function,
    Idx,
    Indexed,
    IndexedBase,
    Integer,
    Mul,
    Piecewise,
    Pow,
    Rational,
    Sum,
    Symbol,
)
from sympy.core.function import ArgumentIndexError
from sympy.core.parameters import distribute

from symprop.errors import DifferentiationError, FormulaSizeError, NetworkError
from symprop.flatten import flatten
from symprop.formulas import text
from symprop.functions import Normalisation, Reduction, log_softmax
from symprop.indices import (
    accesses,
    branches,
    canonical,
    free_indices,
    fresh,
    freshen,
    index_name,
    make_sum,
    name_bound,
    numbered,
    size,
    substitute,
)
from symprop.network import Equation, Network, Variable
from symprop.rewrites import Rewrite, stabilize

__all__ = ["Derivation", "differentiate", "gathered"]

_CONSTANT = (sympy.sign, sympy.floor, sympy.ceiling)
"""Functions whose derivative is 0 wherever it exists; symprop takes it as 0 everywhere."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """The equations of a network and of all its adjoints.

    `forward` computes the values and the loss, last. `backward` computes the
    adjoint of every value, parameter and input in an order in which it can be
    evaluated; adjoints are those of one sample's loss, and the gradient of a batch
    is their mean over the samples.
    """

    network: Network
    rewrites: tuple[Rewrite, ...]
    forward: tuple[Equation, ...]
    backward: tuple[Equation, ...]

    @property
    def loss_name(self) -> str:
        """The name of the loss in formulas, ``L`` unless the network says otherwise."""
        return self.forward[-1].name

    def adjoint_name(self, name: str) -> str:
        """Return the name of the adjoint of `name`: ``dL/dname``."""
        return f"d{self.loss_name}/d{name}"

    def adjoint(self, name: str) -> Equation:
        """Return the adjoint of an input, value or parameter as one equation.

        Scatters are turned into the equivalent gather. Raises `NetworkError` for an
        unknown name.
        """
        wanted = self.adjoint_name(name)
        parts = [equation for equation in self.backward if equation.name == wanted]
        if not parts:
            known = ", ".join(eq.name.split("/d", 1)[1] for eq in self.backward)
            raise NetworkError(
                f"network {self.network.name!r}: no adjoint of {name!r}; known: {known}"
            )
        plain = [part.rhs for part in parts if not part.accumulate]
        scatters = [part for part in parts if part.accumulate]
        if not scatters:
            return parts[0]
        own = self._indices(name)
        return Equation(
            parts[0].lhs.base[own], Add(*plain, *(gathered(part, own) for part in scatters))
        )

    def gradient(self, name: str) -> Equation:
        """Return the gradient of the loss of one sample by the parameter `name`.

        Raises `NetworkError` where there is no such parameter.
        """
        known = [parameter.name for parameter in self.network.parameters]
        if name not in known:
            raise NetworkError(
                f"network {self.network.name!r}: no parameter {name!r}; "
                f"its parameters are {', '.join(known)}"
            )
        return self.adjoint(name)

    def closed_form(self, name: str, limit: int = 5_000) -> Expr:
        """Return the adjoint of `name` in inputs, targets and parameters only.

        Raises `FormulaSizeError` with an estimate where it would have more than
        `limit` operations.
        """
        definitions = {equation.name: equation for equation in self.forward}
        for equation in self.backward:
            source = equation.name.split("/d", 1)[1]
            definitions.setdefault(equation.name, self.adjoint(source))
        target = self.adjoint(name)
        estimate = _expanded_size(target.rhs, definitions, {})
        if estimate > limit:
            raise FormulaSizeError(
                f"the closed form of {target.name} would have about {estimate:,} operations, more "
                f"than {limit:,}; read it as a chain of adjoints instead, or raise the limit"
            )
        return name_bound(_expanded(target.rhs, definitions), map(index_name, target.indices))

    def __str__(self) -> str:
        """Return every equation and every adjoint, one a line."""
        return "\n".join(map(text, (*self.forward, *self.backward)))

    def _indices(self, name: str) -> tuple[Idx, ...]:
        """Return the indices that `name` was declared or defined with."""
        defined = (equation for equation in self.forward if equation.name == name)
        return next((eq.indices for eq in defined), None) or self.network.variable(name).indices


def differentiate(network: Network) -> Derivation:
    """Derive the adjoint of every value, parameter and input of `network`.

    network -> equations in stable form -> flat equations -> adjoint equations.
    Raises `NetworkError` for an incomplete network and `DifferentiationError` for
    an expression without a derivative.
    """
    network.check()
    equations, rewrites = stabilize(network.equations)
    flat = flatten(equations, network.names)
    forward, more = stabilize(flat)
    with distribute(False):  # keep 2*(y - t), which SymPy would write 2*y - 2*t
        backward = _Reverse(network, forward).run()
    return Derivation(network, (*rewrites, *more), forward, backward)


@dataclass(frozen=True, slots=True)
class _Contribution:
    """What one place where a variable is read adds to its adjoint.

    For all values of `loops`, `value` is added to the adjoint at `access`, where
    the `conditions` hold.
    """

    access: Symbol | Indexed
    loops: tuple[Idx, ...]
    value: Expr
    conditions: tuple[Basic, ...]


@dataclass(frozen=True, slots=True)
class _Path:
    """The way from the left side of an equation down to a node of its right side.

    `seed` is the derivative of the loss by the node, per value of `loops`.
    """

    seed: Expr
    loops: tuple[Idx, ...] = ()
    conditions: tuple[Basic, ...] = ()

    def times(self, factor: Expr) -> _Path:
        return _Path(self.seed * factor, self.loops, self.conditions)

    def within(self, indices: Iterable[Idx]) -> _Path:
        return _Path(self.seed, (*self.loops, *indices), self.conditions)

    def where(self, condition: Basic) -> _Path:
        return _Path(self.seed, self.loops, (*self.conditions, condition))


class _Reverse:
    """One backward walk over a network's flat equations."""

    def __init__(self, network: Network, forward: tuple[Equation, ...]) -> None:
        self.forward = forward
        self.loss = forward[-1].name
        self.values = _ForwardValues(forward)
        integers = network.index_inputs
        self.leaves = [v for v in network.inputs if v.name not in integers]
        self.leaves = [*network.parameters, *self.leaves]
        self.known = {v.name: v for v in self.leaves}
        self.known |= {eq.name: Variable(eq.name, eq.indices) for eq in forward}
        self.found: dict[str, list[_Contribution]] = {}

    def run(self) -> tuple[Equation, ...]:
        """Return the adjoint equations of all values, last first, then of the leaves."""
        backward: list[Equation] = []
        for equation in reversed(self.forward):
            if equation.name == self.loss:
                seed: Expr = Integer(1)
            else:
                adjoint = self._adjoint(equation.name)
                backward += adjoint
                seed = Integer(0) if _is_zero(adjoint) else self._symbol(equation.name)
            self._spread(equation, seed)
        for leaf in self.leaves:
            backward += self._adjoint(leaf.name)
        return tuple(backward)

    def _symbol(self, name: str) -> Symbol | IndexedBase:
        return Variable(f"d{self.loss}/d{name}", self.known[name].indices).symbol

    def _spread(self, equation: Equation, seed: Expr | IndexedBase) -> None:
        """Record what the right side of `equation` contributes to the adjoints of what it reads."""
        if seed == 0:
            return
        own = {index: fresh(index) for index in equation.indices}
        rhs = substitute(freshen(equation.rhs), own)
        if own:
            seed = seed[tuple(own.values())]
        for part in self._visit(rhs, _Path(seed, tuple(own.values()))):
            name = str(part.access.base.label if isinstance(part.access, Indexed) else part.access)
            self.found.setdefault(name, []).append(part)

    def _visit(self, node: Basic, path: _Path) -> Iterator[_Contribution]:
        """Follow `path` down into `node` and yield a contribution for every leaf below it."""
        if isinstance(node, Symbol | Indexed) and not isinstance(node, Idx):
            name = str(node.base.label if isinstance(node, Indexed) else node)
            if name in self.known:
                yield _Contribution(node, path.loops, path.seed, path.conditions)
            return
        if isinstance(node, Piecewise):
            yield from self._piecewise(node, path)
        elif isinstance(node, Sum):
            yield from self._visit(node.function, path.within(lim[0] for lim in node.limits))
        elif isinstance(node, Reduction):
            yield from self._reduction(node, path)
        elif isinstance(node, Normalisation):
            yield from self._normalisation(node, path)
        elif not isinstance(node, _CONSTANT):
            for argument, partial in _partials(node):
                if partial != 0:
                    yield from self._visit(argument, path.times(partial))

    def _piecewise(self, node: Piecewise, path: _Path) -> Iterator[_Contribution]:
        for value, condition in branches(node):
            if accesses(value):
                yield from self._visit(value, path.where(condition))
            path = path.where(sympy.Not(condition))

    def _reduction(self, node: Reduction, path: _Path) -> Iterator[_Contribution]:
        inner = {index: fresh(index) for index in node.bound}
        partial = substitute(node.fdiff(), inner)
        body = substitute(node.body, inner)
        yield from self._visit(body, path.times(partial).within(inner.values()))

    def _normalisation(self, node: Normalisation, path: _Path) -> Iterator[_Contribution]:
        """D softmax_a/dz_k = p_a (delta_ak - p_k);  d log_softmax_a/dz_k = delta_ak - p_k."""
        (index,) = node.bound
        inner = fresh(index)
        outer = path if isinstance(node, log_softmax) else path.times(node)
        yield from self._visit(substitute(node.body, {index: node.at}), outer)
        body = substitute(node.body, {index: inner})
        yield from self._visit(body, outer.times(-node.share(inner)).within((inner,)))

    def _adjoint(self, name: str) -> list[Equation]:
        """Return the equations of the adjoint of `name`: a gather, then its scatters."""
        variable = self.known[name]
        symbol = self._symbol(name)
        gathers: list[Expr] = []
        scatters: list[Equation] = []
        for part in self.found.get(name, ()):
            value = freshen(self.values.reuse(part.value))
            gathered_value = _gather(part, value, variable.indices)
            if gathered_value is not None:
                gathers.append(gathered_value)
            else:
                scatters.append(_scatter(part, value, symbol))
        lhs = symbol[variable.indices] if variable.indices else symbol
        shown = [index_name(index) for index in variable.indices]
        total = name_bound(_factored(_merged(gathers)), shown)
        plain = [Equation(lhs, total)] if total != 0 or not scatters else []
        return [*plain, *_joined(scatters)]


def _partials(node: Expr) -> Iterator[tuple[Expr, Expr]]:
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
            yield argument, node.fdiff(place)
        except (ArgumentIndexError, AttributeError, NotImplementedError):
            raise DifferentiationError(
                f"{node}: symprop knows no derivative of {type(node).__name__} by its argument "
                f"{place}; write it with elementary functions"
            ) from None


def _share_of_extremum(node: sympy.Max | sympy.Min, argument: Expr) -> Expr:
    """Return d Max(a, b, ...)/da: 1 where a alone is the largest, an equal share in a tie."""
    others = [other for other in node.args if other != argument]
    below = (lambda a, b: a > b) if isinstance(node, sympy.Max) else (lambda a, b: a < b)
    if len(others) == 1:
        (other,) = others
        return Piecewise(
            (1, below(argument, other)), (Rational(1, 2), sympy.Eq(argument, other)), (0, True)
        )
    reached = sympy.And(*(sympy.Not(below(other, argument)) for other in others))
    ties = Add(1, *(Piecewise((1, sympy.Eq(argument, other)), (0, True)) for other in others))
    return Piecewise((1 / ties, reached), (0, True))


def _gather(part: _Contribution, value: Expr, own: tuple[Idx, ...]) -> Expr | None:
    """Return the contribution at the variable's `own` indices; None where it must scatter.

    Each subscript has to be another loop index over the whole axis.
    """
    subscripts = part.access.indices if isinstance(part.access, Indexed) else ()
    plain = all(
        subscript in part.loops and size(subscript) == size(index)
        for subscript, index in zip(subscripts, own, strict=True)
    )
    if not plain or len(set(subscripts)) < len(subscripts):
        return None
    mapping = dict(zip(subscripts, own, strict=True))
    loops = [index for index in part.loops if index not in mapping]
    conditions = [substitute(condition, mapping) for condition in part.conditions]
    return _guarded_sum(substitute(value, mapping), conditions, loops)


def _scatter(part: _Contribution, value: Expr, symbol: IndexedBase) -> Equation:
    """Return the contribution as an equation that adds at the subscripts of the access."""
    placed = free_indices(part.access)
    names: dict[Idx, Idx] = {}
    for index in part.loops:
        if index in placed:
            taken = {index_name(new) for new in names.values()}
            name = next(name for name in numbered(index_name(index)) if name not in taken)
            names[index] = Idx(name, size(index))
    loops = [index for index in part.loops if index not in placed]
    conditions = [substitute(condition, names) for condition in part.conditions]
    rhs = _guarded_sum(substitute(value, names), conditions, loops)
    lhs = symbol[tuple(substitute(subscript, names) for subscript in part.access.indices)]
    shown = [index_name(new) for new in names.values()]
    return Equation(lhs, name_bound(_factored(rhs), shown), accumulate=True)


def _guarded_sum(value: Expr, conditions: Iterable[Basic], loops: list[Idx]) -> Expr:
    """Sum `value` over `loops` where the `conditions` hold, each tested as far out as it can be."""
    inner = [c for c in conditions if set(free_indices(c)) & set(loops)]
    outer = [c for c in conditions if not set(free_indices(c)) & set(loops)]
    return _guarded(make_sum(_guarded(value, inner), loops), outer)


def _guarded(value: Expr, conditions: Iterable[Basic]) -> Expr:
    """Return `value` where all `conditions` hold, else 0."""
    condition = sympy.And(*conditions)
    return value if condition is sympy.true else Piecewise((value, condition), (0, True))


def _merged(terms: list[Expr]) -> Expr:
    """Add the terms; those that differ only in the names of bound indices become one."""
    counts: dict[Expr, tuple[Expr, int]] = {}
    for term in terms:
        key = canonical(term)
        counts[key] = (counts[key][0] if key in counts else term, counts.get(key, (0, 0))[1] + 1)
    return Add(*(term * count for term, count in counts.values()))


def _joined(scatters: list[Equation]) -> list[Equation]:
    """Make one equation of all scatters to the same subscripts."""
    terms: dict[Expr, list[Expr]] = {}
    for scatter in scatters:
        terms.setdefault(scatter.lhs, []).append(scatter.rhs)
    return [Equation(lhs, _factored(Add(*rhs)), True) for lhs, rhs in terms.items()]


def _factored(expression: Expr) -> Expr:
    """Write a sum of products with the factors that all terms share outside.

    ``p*d - p*s`` becomes ``p*(d - s)``.
    """
    if not isinstance(expression, Add):
        return _signed(expression)
    terms = [Mul.make_args(term) for term in expression.args]
    shared = [
        factor
        for factor in terms[0]
        if not factor.is_number and all(factor in term for term in terms[1:])
    ]
    rest = [Mul(*(factor for factor in term if factor not in shared)) for term in terms]
    return Mul(*shared, Add(*map(_signed, rest)))


def _signed(term: Expr) -> Expr:
    """Move a minus into a difference of two variables: ``-(t - y)`` becomes ``y - t``."""
    if not isinstance(term, Mul) or not term.args[0].is_number or not term.args[0].is_negative:
        return term
    number, *factors = term.args
    for place, factor in enumerate(factors):
        if isinstance(factor, Add) and not any(part.is_number for part in factor.args):
            factors[place] = Add(*(-part for part in factor.args))
            return Mul(-number, *factors)
    return term


class _ForwardValues:
    """The values that the forward pass has computed, to be used again by name."""

    def __init__(self, forward: Iterable[Equation]) -> None:
        self.by_head: dict[type, list[Equation]] = {}
        for equation in forward:
            rhs = equation.rhs
            if isinstance(rhs, Function | Pow | Normalisation) and accesses(rhs):
                self.by_head.setdefault(type(rhs), []).append(equation)

    def reuse(self, expression: Expr) -> Expr:
        """Replace every function value in `expression` that has a name by that name.

        ``1 - tanh(net_h[j])**2`` becomes ``1 - h[j]**2``.
        """
        if not expression.args or isinstance(expression, Idx | Indexed | Symbol):
            return expression
        for equation in self.by_head.get(type(expression), ()):
            value = _instance(equation, expression)
            if value is not None:
                return value
        if isinstance(expression, Sum):
            return Sum(self.reuse(expression.function), *expression.limits)
        if isinstance(expression, Reduction | Normalisation):
            return expression
        return expression.func(*map(self.reuse, expression.args))


def _instance(equation: Equation, expression: Expr) -> Expr | None:
    """Return the left side of `equation` where its right side is `expression`, else None.

    The indices of the equation may have to be renamed: all ways are tried, which
    are few. A power matches up to an integer exponent: 1/sqrt(v) is 1/s for s = sqrt(v).
    """
    own, there = equation.indices, free_indices(expression)
    if set(free_indices(equation.rhs)) != set(own) or len(own) != len(there):
        return None
    for order in permutations(there):
        renaming = dict(zip(own, order, strict=True))
        if any(size(old) != size(new) for old, new in renaming.items()):
            continue
        exponent = _matches(substitute(equation.rhs, renaming), expression)
        if exponent:
            return substitute(equation.lhs, renaming) ** exponent
    return None


def _matches(candidate: Expr, expression: Expr) -> int:
    """Return n where expression = candidate**n with an integer n, and 0 where there is none."""
    if isinstance(candidate, Pow) and candidate.base == expression.base:
        ratio = expression.exp / candidate.exp
        return int(ratio) if ratio.is_Integer else 0
    return int(canonical(candidate) == canonical(expression))


def _is_zero(adjoint: list[Equation]) -> bool:
    return all(equation.rhs == 0 for equation in adjoint)


def gathered(scatter: Equation, own: tuple[Idx, ...]) -> Expr:
    """Return what a scatter adds to the element at `own`: the equivalent sum with its bounds.

    ``dx[r + p] += dy[r]*w[p]`` adds to ``dx[m]`` the sum over p of ``dy[m - p]*w[p]`` where
    ``0 <= m - p < R``.
    Each subscript is solved for the longest index that it has with the factor 1
    or -1; where it has none, the equation of the subscript remains as a condition.
    """
    loops = {index: fresh(index) for index in _loops(scatter)}
    subscripts = [substitute(subscript, loops) for subscript in scatter.indices]
    value = substitute(freshen(scatter.rhs), loops)
    remaining = list(loops.values())
    conditions: list[Basic] = []
    for axis, place in enumerate(own):
        subscript = subscripts[axis]
        solved = _solved(subscript, place, remaining)
        if solved is None:
            conditions.append(sympy.Eq(subscript, place))
            continue
        index, solution = solved
        remaining.remove(index)
        if solution != place or size(index) < size(place):
            conditions.append(_within(solution, index, place))
        value = substitute(value, {index: solution})
        conditions = [substitute(condition, {index: solution}) for condition in conditions]
        subscripts = [substitute(other, {index: solution}) for other in subscripts]
    total = _guarded_sum(value, conditions, remaining)
    return name_bound(total, map(index_name, own))


def _loops(scatter: Equation) -> tuple[Idx, ...]:
    found = dict.fromkeys(index for part in scatter.indices for index in free_indices(part))
    return (*found, *(index for index in free_indices(scatter.rhs) if index not in found))


def _solved(subscript: Expr, place: Idx, loops: list[Idx]) -> tuple[Idx, Expr] | None:
    """Solve ``subscript = place`` for one of `loops`; None where none has the factor 1 or -1."""
    candidates = [index for index in loops if subscript.coeff(index) in (1, -1)]
    if not candidates or accesses(subscript):
        return None
    index = max(candidates, key=size)
    sign = subscript.coeff(index)
    return index, sign * (place - (subscript - sign * index))


def _within(solution: Expr, index: Idx, place: Idx) -> Basic:
    """Return the condition that `solution` is a value of `index`."""
    if solution == place:
        return place <= size(index) - 1
    return sympy.And(solution >= 0, solution <= size(index) - 1)


def _expanded(expression: Basic, definitions: Mapping[str, Equation]) -> Basic:
    """Replace every defined value in `expression` by its right side, all the way down."""
    expression = freshen(expression)
    if isinstance(expression, Symbol | Indexed) and not isinstance(expression, Idx):
        name = str(expression.base.label if isinstance(expression, Indexed) else expression)
        if name not in definitions:
            return expression
        equation = definitions[name]
        subscripts = expression.indices if isinstance(expression, Indexed) else ()
        mapping = dict(zip(equation.indices, subscripts, strict=True))
        return substitute(freshen(_expanded(equation.rhs, definitions)), mapping)
    if not expression.args or isinstance(expression, Idx):
        return expression
    if isinstance(expression, Sum):
        return Sum(_expanded(expression.function, definitions), *expression.limits)
    if isinstance(expression, Reduction | Normalisation):
        body = _expanded(expression.body, definitions)
        return expression.func(body, *expression.args[1:])
    return expression.func(*(_expanded(part, definitions) for part in expression.args))


def _expanded_size(
    expression: Basic, definitions: Mapping[str, Equation], known: dict[str, int]
) -> int:
    """Return how many operations `_expanded` would give, without expanding anything."""
    total = int(expression.count_ops()) + 1
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, Symbol | Indexed) and not isinstance(node, Idx):
            name = str(node.base.label if isinstance(node, Indexed) else node)
            if name in definitions:
                if name not in known:
                    known[name] = _expanded_size(definitions[name].rhs, definitions, known)
                total += known[name]
    return total
