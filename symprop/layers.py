"""Common layers, written as equations: a convenience, nothing that the core would know of.

Each function adds parameters and equations to a `Network` and returns the name of
its result. What they write is what a person would write by hand, prints the same
formulas and is differentiated by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sympy
from sympy import Expr, Float, Idx, Rational

from symprop import functions
from symprop.errors import NetworkError, nearest
from symprop.indices import size, summation
from symprop.network import Network, Variable

__all__ = ["attention", "convolution", "dense", "layer_norm", "mlp"]

ACTIVATIONS: dict[str, Callable[[Expr], Expr]] = {
    "identity": lambda z: z,
    "tanh": sympy.tanh,
    "sigmoid": functions.sigmoid,
    "relu": functions.relu,
    "leaky_relu": functions.leaky_relu,
    "elu": functions.elu,
    "gelu": functions.gelu,
    "silu": functions.silu,
    "softplus": functions.softplus,
}
"""The activations by name."""

RECTIFIERS = frozenset(("relu", "leaky_relu", "elu", "gelu", "silu", "softplus"))
"""Those that let half of their input through: their weights start by He et al. (2015)."""

LOSSES = (
    "softmax_cross_entropy",
    "binary_cross_entropy",
    "mean_squared_error",
    "half_squared_error",
)
"""The losses that `mlp` knows."""

_LETTERS = "ijklmnoqrsuv"


def mlp(
    widths: Sequence[int],
    activation: str = "tanh",
    loss: str = "softmax_cross_entropy",
    name: str = "mlp",
) -> Network:
    """Return a network of dense layers, ``widths`` units wide from the input to the output.

    The input is ``x``, the target ``t``, the weights ``W1[i,j]``, ``b1[j]``, ... Losses, for one
    sample with K outputs:

    - ``softmax_cross_entropy``: logsumexp(z) - sum t*z, for targets that sum to 1;
      output ``p = softmax(z)``.
    - ``binary_cross_entropy``: sum softplus(z) - t*z, for targets between 0 and 1;
      output ``p = sigmoid(z)``.
    - ``mean_squared_error``: sum (y - t)^2 / K, as PyTorch and scikit-learn define it.
    - ``half_squared_error``: sum (y - t)^2 / 2, as worked examples like it.

    >>> [str(equation.lhs) for equation in mlp([64, 32, 10]).equations]
    ['h[j]', 'z[k]', 'p[k]', 'L']
    """
    if len(widths) < 2:
        raise NetworkError(
            f"mlp: got the widths {list(widths)}, expected those of two or more layers"
        )
    if loss not in LOSSES:
        raise NetworkError(f"mlp: unknown loss {loss!r}{nearest(loss, LOSSES)}")
    net = Network(name)
    letters = _LETTERS if len(widths) <= len(_LETTERS) else [f"i{n}" for n in range(len(widths))]
    first, *others = (
        net.index(index, width) for index, width in zip(letters, widths, strict=False)
    )
    net.input("x", first)
    net.target("t", others[-1])
    source = "x"
    for number, index in enumerate(others[:-1], start=1):
        result = "h" if len(others) == 2 else f"h{number}"
        names = (f"W{number}", f"b{number}")
        source = dense(net, source, result, index, activation=activation, names=names)
    last = f"W{len(others)}", f"b{len(others)}"
    result = "z" if "cross_entropy" in loss else "y"
    dense(net, source, result, others[-1], names=last)
    _add_loss(net, result, others[-1], loss)
    return net


def _add_loss(net: Network, result: str, index: Idx, loss: str) -> None:
    """Add the output and the loss of the values ``result[index]``."""
    z, t = net.variable(result).access, net.variable("t").access
    if loss == "softmax_cross_entropy":
        net.output("p", functions.softmax(z, index), index)
        net.loss(functions.logsumexp(z, index) - summation(t * z, [index]))
    elif loss == "binary_cross_entropy":
        net.output("p", functions.sigmoid(z), index)
        net.loss(summation(functions.softplus(z) - t * z, [index]))
    else:
        net.output(result)
        factor = Rational(1, 2) if loss == "half_squared_error" else Rational(1, size(index))
        net.loss(factor * summation((z - t) ** 2, [index]))


def dense(
    net: Network,
    source: str,
    name: str,
    index: Idx,
    *,
    activation: str = "identity",
    names: tuple[str, str] | None = None,
) -> str:
    """Add ``name[..., index] = activation(sum W*source + b)`` over the last axis of `source`.

    The axes before the last stay: with ``x[s, d]`` every ``s`` goes through the same
    weights. Weights and bias are called by `names`, or ``W_name`` and ``b_name``.
    """
    function = _activation(activation)
    *leading, last = _axes(net, source)
    weights, bias = names or (f"W_{name}", f"b_{name}")
    start = "he_normal" if activation in RECTIFIERS else "glorot_uniform"
    W = net.parameter(weights, last, index, init=start)
    b = net.parameter(bias, index)
    net_input = summation(W[last, index] * net.variable(source).access, [last]) + b[index]
    net.define(name, function(net_input), *leading, index)
    return name


def layer_norm(net: Network, source: str, name: str, epsilon: float = 1e-5) -> str:
    """Add the layer normalisation of `source` over its last axis, with gain and bias.

    Source: Ba, Kiros and Hinton (2016), "Layer normalization".
    """
    *leading, last = _axes(net, source)
    x = net.variable(source).access
    mean = summation(x, [last]) / size(last)
    variance = summation((x - mean) ** 2, [last]) / size(last)
    gain = net.parameter(f"g_{name}", last, init=1)
    bias = net.parameter(f"b_{name}", last)
    normal = (x - mean) / sympy.sqrt(variance + Float(epsilon))
    net.define(name, gain[last] * normal + bias[last], *leading, last)
    return name


def convolution(
    net: Network,
    source: str,
    name: str,
    channels: Idx,
    positions: Sequence[Idx],
    window: Sequence[Idx],
    *,
    stride: int = 1,
    activation: str = "identity",
) -> str:
    """Add a convolution of ``source[c, ...]`` without padding, in one dimension or more.

    ``name[o, r, ...] = activation(sum w[o, c, p, ...]*source[c, stride*r + p, ...] + b[o])`` with
    `channels` o, one of `positions` (r) and one of `window` (p) for each axis after
    the first. Raises `NetworkError` where a window would leave `source`.
    """
    c, *axes = _axes(net, source)
    if not len(axes) == len(positions) == len(window):
        raise NetworkError(
            f"convolution {name!r}: got {len(positions)} positions and {len(window)} window "
            f"indices, expected {len(axes)} of each, one for every axis of {source!r} but the first"
        )
    function = _activation(activation)
    start = "he_normal" if activation in RECTIFIERS else "glorot_uniform"
    w = net.parameter(f"w_{name}", channels, c, *window, init=start)
    b = net.parameter(f"b_{name}", channels)
    places = [stride * r + p for r, p in zip(positions, window, strict=True)]
    read = net.variable(source).symbol[(c, *places)]
    total = summation(w[(channels, c, *window)] * read, [c, *window])
    net.define(name, function(total + b[channels]), channels, *positions)
    return name


def attention(net: Network, source: str, name: str, other: Idx, key: Idx, value: Idx) -> str:
    """Add single-head self-attention over the first axis of ``source[s, d]``.

    `other` is a second index of the size of s; `key` and `value` are the widths of
    queries and keys, and of values. The scores are divided by sqrt(keys).

    Source: Vaswani et al. (2017), "Attention is all you need", equation 1.
    """
    s, d = _axes(net, source)
    x = net.variable(source).access
    parts = {}
    for letter, width in (("Q", key), ("K", key), ("V", value)):
        W = net.parameter(f"W{letter}_{name}", d, width, init="glorot_uniform")
        parts[letter] = net.define(f"{letter}_{name}", summation(W[d, width] * x, [d]), s, width)
    scores = summation(parts["Q"][s, key] * parts["K"][other, key], [key])
    weights = functions.softmax(scores / sympy.sqrt(size(key)), other)
    A = net.define(f"A_{name}", weights, s, other)
    net.define(name, summation(A[s, other] * parts["V"][other, value], [other]), s, value)
    return name


def _axes(net: Network, name: str) -> tuple[Idx, ...]:
    variable: Variable = net.variable(name)
    if not variable.indices:
        raise NetworkError(f"layer on {name!r}: it is a scalar, expected a tensor")
    return variable.indices


def _activation(name: str) -> Callable[[Expr], Expr]:
    if name not in ACTIVATIONS:
        raise NetworkError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]
