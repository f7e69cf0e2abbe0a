"""From equations in index notation to a program of whole arrays, for any array library.

An expression becomes an array with named axes, the samples' first. A sum of products becomes
a matrix product or an ``einsum``, softmax and logsumexp the library's own stable ones, a piecewise
value ``where`` with both branches read in range, and subscripts such as ``x[c, 2*r + p]`` or
``E[token[s], d]`` advanced indexing. The program is Python text, one line an operation, so that it
costs a library no more than what a person would write::

    def loss(parameters, data):
        W, b, = parameters
        x, t, = data
        _n = x.shape[0]
        y = _affine(x, W, b)
        _1 = y - t
        ...
        return _mean(L)

Names that begin with an underscore are the library's functions (`symprop.bench.arrays`), constant
arrays ``_c1``, ... and intermediate values ``_1``, ...; a network's own names begin with a letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from symprop.bench.counting import needed
from symprop.bench.expressions import TranslationError, Writer
from symprop.bench.lines import SAMPLES, Term
from symprop.derivation import Derivation
from symprop.equation import Equation
from symprop.indices import size
from symprop.network import Network
from symprop.optimizers import Optimizer

__all__ = ["Program", "TranslationError", "translate", "translate_rule"]


@dataclass(frozen=True, slots=True)
class Program:
    """A translated function: its text, its name and the constant arrays that it reads."""

    name: str
    source: str
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def load(
        self, namespace: dict[str, Any], constant: Callable[[NDArray[Any]], Any]
    ) -> Callable[..., Any]:
        """Return the function, with the library's `namespace`; `constant` converts an array."""
        names = {f"_{name}": value for name, value in namespace.items()}
        names |= {name: constant(array) for name, array in self.constants.items()}
        exec(compile(self.source, f"<{self.name} as arrays>", "exec", dont_inherit=True), names)
        function: Callable[..., Any] = names[self.name]
        return function


def translate(derivation: Derivation) -> Program:
    """Return ``loss(parameters, data)``, the mean loss of the samples.

    `parameters` and `data` (inputs, then targets) come in the order of their declaration.
    Raises `TranslationError` for an expression that no array library knows.
    """
    network = derivation.network
    writer = Writer(_shapes(network, derivation.forward))
    for parameter in network.parameters:
        writer.known[parameter.name] = Term(parameter.name, parameter.indices)
    for variable in (*network.inputs, *network.targets):
        writer.known[variable.name] = Term(variable.name, (SAMPLES, *variable.indices))
    for equation in needed(derivation.forward):
        writer.define(equation)
    loss = writer.known[derivation.loss_name]
    data = [variable.name for variable in (*network.inputs, *network.targets)]
    lines = ["def loss(parameters, data):"]
    lines += [_unpack([p.name for p in network.parameters], "parameters")]
    lines += [_unpack(data, "data")]
    lines += [f"    _n = {data[0]}.shape[0]"] if data else []
    lines += writer.lines
    lines += [f"    return {f'_mean({loss.code})' if loss.axes else loss.code}", ""]
    return Program("loss", "\n".join(lines), writer.constants)


def translate_rule(optimizer: Optimizer) -> Program:
    """Return ``update(theta, gradient, t, slots, hyperparameters) -> (theta, slots)``.

    `slots` and `hyperparameters` are tuples in the optimizer's order.

    >>> from symprop.optimizers import find
    >>> print(translate_rule(find("sgd")).source)
    def update(theta, gradient, t, slots, hyperparameters):
        learning_rate, = hyperparameters
        _1 = gradient*learning_rate
        _2 = theta - _1
        return _2, ()
    <BLANKLINE>
    """
    writer = Writer({})
    names = ("theta", "gradient", "t", *optimizer.slots, *optimizer.hyperparameters)
    writer.known = {name: Term(name) for name in names}
    for equation in optimizer.equations:
        writer.known[equation.name] = writer.value(equation.rhs)
        writer.cache.clear()
    slots = [writer.known[slot].code for slot in optimizer.slots]
    lines = ["def update(theta, gradient, t, slots, hyperparameters):"]
    lines += [_unpack(optimizer.slots, "slots")] if slots else []
    lines += [_unpack(optimizer.hyperparameters, "hyperparameters")]
    lines += writer.lines
    lines += [f"    return {writer.known['theta'].code}, ({''.join(f'{s}, ' for s in slots)})", ""]
    return Program("update", "\n".join(lines))


def _unpack(names: Iterable[str], source: str) -> str:
    listed = list(names)
    return f"    {', '.join(listed)}, = {source}" if listed else f"    assert not {source}"


def _shapes(network: Network, forward: Iterable[Equation]) -> dict[str, tuple[int, ...]]:
    shapes = {variable.name: variable.shape for variable in network.variables}
    return shapes | {eq.name: tuple(map(size, eq.indices)) for eq in forward}
