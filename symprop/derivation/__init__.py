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
from dataclasses import dataclass, replace

import sympy
from sympy import (
    Add,
    Basic,
    Expr,
    Idx,
    Indexed,
    IndexedBase,
    Integer,
    Piecewise,
    Sum,
    Symbol,
)
from sympy.core.parameters import distribute

from symprop.derivation.closed_form import expanded, expanded_size
from symprop.derivation.contributions import (
    Contribution,
    factored,
    gather,
    gathered,
    joined,
    merged,
    scatter,
)
from symprop.derivation.flatten import flatten
from symprop.derivation.partials import partials
from symprop.derivation.reuse import ForwardValues
from symprop.derivation.rewrites import Rewrite, stabilize
from symprop.equation import name_of
from symprop.errors import FormulaSizeError, NetworkError
from symprop.formulas import aligned, text
from symprop.functions import Normalisation, Reduction, log_softmax
from symprop.indices import (
    accesses,
    branches,
    fresh,
    freshen,
    index_name,
    name_bound,
    substitute,
)
from symprop.network import Equation, Network, Variable

__all__ = ["Derivation", "differentiate", "gathered", "local_derivatives"]

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
        estimate = expanded_size(target.rhs, definitions, {})
        if estimate > limit:
            raise FormulaSizeError(
                f"the closed form of {target.name} would have about {estimate:,} operations, more "
                f"than {limit:,}; read it as a chain of adjoints instead, or raise the limit"
            )
        return name_bound(expanded(target.rhs, definitions), map(index_name, target.indices))

    def __str__(self) -> str:
        """Return every equation and every adjoint, one a line."""
        return "\n".join(map(text, (*self.forward, *self.backward)))

    def _repr_latex_(self) -> str:
        """Return every equation and every adjoint for a notebook."""
        names = dict.fromkeys(equation.name.split("/d", 1)[1] for equation in self.backward)
        return aligned((*self.forward, *map(self.adjoint, names)))

    def _indices(self, name: str) -> tuple[Idx, ...]:
        """Return the indices that `name` was declared or defined with."""
        defined = (equation for equation in self.forward if equation.name == name)
        return next((eq.indices for eq in defined), None) or self.network.variable(name).indices


def differentiate(network: Network) -> Derivation:
    """Derive the adjoint of every value, parameter and input of `network`.

    network -> equations in stable form -> flat equations -> adjoint equations.
    Forms such as log(p[k]) can only be recognised once p's net input has a name, so
    the flat equations are stabilised again, and flattened where that gave new reductions.
    Raises `NetworkError` for an incomplete network and `DifferentiationError` for
    an expression without a derivative.
    """
    network.check()
    equations, rewrites = stabilize(network.equations)
    flat, more = stabilize(flatten(equations, network.names))
    forward = flatten(flat, {*network.names, *(equation.name for equation in flat)})
    with distribute(False):  # keep 2*(y - t), which SymPy would write 2*y - 2*t
        backward = _Reverse(network, forward).run()
    return Derivation(network, (*rewrites, *more), forward, backward)


def local_derivatives(
    derivation: Derivation, equation: Equation
) -> Mapping[str, tuple[Contribution, ...]]:
    """Return the derivatives of the left side of one forward equation by what it reads.

    By the name of each variable: for every place where it is read, where that is, the
    loops (the indices of the left side first, under fresh names) and the derivative. They come
    from the walk that gives the adjoints, with 1 in the place of the left side's adjoint.
    """
    with distribute(False):
        walk = _Reverse(derivation.network, derivation.forward)
        walk._spread(equation, Integer(1))
        return {
            name: tuple(
                replace(part, value=freshen(walk.values.reuse(part.value))) for part in parts
            )
            for name, parts in walk.found.items()
        }


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
        self.values = ForwardValues(forward)
        integers = network.index_inputs
        self.leaves = [v for v in network.inputs if v.name not in integers]
        self.leaves = [*network.parameters, *self.leaves]
        self.known = {v.name: v for v in self.leaves}
        self.known |= {eq.name: Variable(eq.name, eq.indices) for eq in forward}
        self.found: dict[str, list[Contribution]] = {}

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
        rhs = freshen(equation.rhs, own)
        if isinstance(seed, IndexedBase):
            seed = seed[tuple(own.values())]
        for part in self._visit(rhs, _Path(seed, tuple(own.values()))):
            name = name_of(part.access)
            self.found.setdefault(name, []).append(part)

    def _visit(self, node: Basic, path: _Path) -> Iterator[Contribution]:
        """Follow `path` down into `node` and yield a contribution for every leaf below it."""
        if isinstance(node, Symbol | Indexed) and not isinstance(node, Idx):
            name = name_of(node)
            if name in self.known:
                yield Contribution(node, path.loops, path.seed, path.conditions)
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
            for argument, partial in partials(node):
                if partial != 0:
                    yield from self._visit(argument, path.times(partial))

    def _piecewise(self, node: Piecewise, path: _Path) -> Iterator[Contribution]:
        for value, condition in branches(node):
            if accesses(value):
                yield from self._visit(value, path.where(condition))
            path = path.where(sympy.Not(condition))

    def _reduction(self, node: Reduction, path: _Path) -> Iterator[Contribution]:
        inner = {index: fresh(index) for index in node.bound}
        partial = substitute(node.fdiff(), inner)
        body = substitute(node.body, inner)
        yield from self._visit(body, path.times(partial).within(inner.values()))

    def _normalisation(self, node: Normalisation, path: _Path) -> Iterator[Contribution]:
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
            gathered_value = gather(part, value, variable.indices)
            if gathered_value is not None:
                gathers.append(gathered_value)
            else:
                scatters.append(scatter(part, value, symbol))
        lhs = symbol[variable.indices] if variable.indices else symbol
        shown = [index_name(index) for index in variable.indices]
        total = name_bound(factored(merged(gathers)), shown)
        plain = [Equation(lhs, total)] if total != 0 or not scatters else []
        return [*plain, *joined(scatters)]


def _is_zero(adjoint: list[Equation]) -> bool:
    return all(equation.rhs == 0 for equation in adjoint)
