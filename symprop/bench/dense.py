"""Which networks are the plain multilayer perceptrons that scikit-learn has."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import sympy
from sympy import Add, Expr, Idx, Indexed, Mul, Rational, Sum

from symprop.bench.counting import needed
from symprop.derivation import Derivation
from symprop.equation import Equation, name_of
from symprop.errors import SympropError
from symprop.functions import logsumexp, relu, sigmoid
from symprop.indices import canonical, size, summation

__all__ = ["Dense", "Layer", "NotExpressibleError", "recognise"]

_ACTIVATIONS = {sympy.tanh: "tanh", relu: "relu", sigmoid: "logistic"}


class NotExpressibleError(SympropError, ValueError):
    """A network is no plain multilayer perceptron."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not expressible in scikit-learn: {reason}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One dense layer by the names of its parameters; `transposed` weights have outputs first."""

    weights: str
    bias: str
    width: int
    transposed: bool


@dataclass(frozen=True, slots=True)
class Dense:
    """A multilayer perceptron, in scikit-learn's words."""

    input: str
    target: str
    layers: tuple[Layer, ...]
    activation: str
    classifies: bool
    solver: str

    @property
    def hidden(self) -> tuple[int, ...]:
        """The widths of the hidden layers."""
        return tuple(layer.width for layer in self.layers[:-1])


def recognise(derivation: Derivation) -> Dense:
    """Return what scikit-learn calls the network; raise `NotExpressibleError` where it has none.

    That is: one input and one target vector, dense layers with a bias for each unit, all
    parameters trained, one activation for all hidden layers, at the end the softmax
    cross-entropy of three classes or more, or half the squared error, and Adam or plain SGD.
    """
    network = derivation.network
    *equations, loss = needed(derivation.forward)
    if network.training.optimizer not in ("adam", "sgd"):
        raise NotExpressibleError(f"it has no optimizer {network.training.optimizer!r}")
    if len(network.inputs) != 1 or len(network.targets) != 1:
        raise NotExpressibleError("there is not one input and one target")
    source, target = network.inputs[0].name, network.targets[0].name
    layers, activations = _layers(equations, source)
    outside = {p.name for p in network.parameters if p.trainable} ^ {
        name for layer in layers for name in (layer.weights, layer.bias)
    }
    if outside or len(network.parameters) != 2 * len(layers):
        raise NotExpressibleError(
            "not all parameters are weights and biases of a layer, or not all are trained"
        )
    if len(activations) > 1:
        raise NotExpressibleError("the hidden layers have different activations")
    classifies = _classifies(loss, equations[-1], network.targets[0].symbol)
    if prod(network.targets[0].shape) < 3 and classifies:
        raise NotExpressibleError("two classes have one output there")
    return Dense(
        source, target, layers, next(iter(activations), "identity"), classifies,
        network.training.optimizer,
    )  # fmt: skip


def _layers(equations: list[Equation], source: str) -> tuple[tuple[Layer, ...], set[str]]:
    """Return the layers in order and the activations of the hidden ones."""
    layers: list[Layer] = []
    activations: set[str] = set()
    pending = [*equations]
    while pending:
        equation = pending.pop(0)
        layers.append(_layer(equation, source))
        source = equation.name
        if pending:
            following = pending[0].rhs
            if type(following) in _ACTIVATIONS and following.args[0] == equation.lhs:
                activations.add(_ACTIVATIONS[type(following)])
                source = pending.pop(0).name
                if not pending:
                    raise NotExpressibleError("the output layer is not linear")
            else:
                activations.add("identity")
    if not layers:
        raise NotExpressibleError("there is no layer")
    return tuple(layers), activations


def _layer(equation: Equation, source: str) -> Layer:
    """Return the layer ``y[j] = Sum(W[i,j]*x[i], i) + b[j]``; raise where it is none."""
    rhs = equation.rhs
    if isinstance(rhs, Add) and len(rhs.args) == 2 and len(equation.indices) == 1:
        sums = [part for part in rhs.args if isinstance(part, Sum)]
        rest = [part for part in rhs.args if not isinstance(part, Sum)]
        if len(sums) == 1 and isinstance(rest[0], Indexed) and rest[0].indices == equation.indices:
            found = _weights(sums[0], source, equation.indices[0])
            if found:
                name, transposed = found
                return Layer(name, name_of(rest[0]), size(equation.indices[0]), transposed)
    raise NotExpressibleError(f"equation {equation.name!r} is no dense layer")


def _weights(product: Sum, source: str, out: Idx) -> tuple[str, bool] | None:
    factors = Mul.make_args(product.function)
    if len(product.limits) != 1 or len(factors) != 2:
        return None
    index = product.limits[0][0]
    reads = {name_of(f): f.indices for f in factors if isinstance(f, Indexed)}
    if len(reads) != 2 or reads.pop(source, None) != (index,):
        return None
    ((name, subscripts),) = reads.items()
    if subscripts == (index, out):
        return name, False
    return (name, True) if subscripts == (out, index) else None


def _classifies(loss: Equation, last: Equation, target: sympy.IndexedBase) -> bool:
    """Tell the softmax cross-entropy from half the squared error; raise for other losses."""
    y, (k,) = last.lhs, last.indices
    if isinstance(target, sympy.IndexedBase):
        t = target[k]
        if _same(loss.rhs, logsumexp(y, k) - summation(t * y, [k])):
            return True
        for difference in (y - t, t - y):
            half = Rational(1, 2)
            if _same(loss.rhs, half * summation(difference**2, [k])) or _same(
                loss.rhs, summation(half * difference**2, [k])
            ):
                return False
    raise NotExpressibleError(
        "the loss is neither softmax cross-entropy nor half the squared error"
    )


def _same(first: Expr, second: Expr) -> bool:
    return bool(canonical(first) == canonical(second))
