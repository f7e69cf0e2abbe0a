"""Worked examples of the literature, built by hand: what the tests of explanations work on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from sympy import Sum, Symbol, exp

import symprop
from symprop.derivation import Derivation, differentiate
from symprop.network import Data, Network, Training


def sigmoid(z: Symbol) -> Symbol:
    return symprop.sigmoid(z)


def kumar() -> Network:
    """2-2-2, one bias a layer: Naveen Kumar's manual calculation."""
    net = Network("kumar")
    x1, x2, t1, t2 = net.input("x1"), net.input("x2"), net.target("t1"), net.target("t2")
    values = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)
    w1, w2, w3, w4, w5, w6, w7, w8 = (
        net.parameter(f"w{n}", init=value) for n, value in enumerate(values, start=1)
    )
    b1, b2 = (net.parameter(n, init=v, trainable=False) for n, v in (("b1", 0.35), ("b2", 0.6)))
    H1 = net.define("H1", x1 * w1 + x2 * w2 + b1)
    H1out = net.define("H1out", sigmoid(H1))
    H2 = net.define("H2", x1 * w3 + x2 * w4 + b1)
    H2out = net.define("H2out", sigmoid(H2))
    y1 = net.define("y1", H1out * w5 + H2out * w6 + b2)
    y1out = net.output("y1out", sigmoid(y1))
    y2 = net.define("y2", H1out * w7 + H2out * w8 + b2)
    y2out = net.output("y2out", sigmoid(y2))
    net.loss((t1 - y1out) ** 2 / 2 + (t2 - y2out) ** 2 / 2, name="E")
    net.training = Training("sgd", 1, 1, hyperparameters={"learning_rate": 0.5})
    net.data = Data({"x1": (0.05,), "x2": (0.1,), "t1": (0.01,), "t2": (0.99,)})
    return net


def lamsal() -> Network:
    """2-2-2 with its own wiring (w3 feeds h1): Rabindra Lamsal's example."""
    net = Network("lamsal")
    i1, i2, t1, t2 = net.input("i1"), net.input("i2"), net.target("t1"), net.target("t2")
    w1, w2, w3, w4, w5, w6, w7, w8 = (net.parameter(f"w{n}", init=n / 10) for n in range(1, 9))
    b1, b2 = (net.parameter(n, init=v, trainable=False) for n, v in (("b1", 0.25), ("b2", 0.35)))
    sum_h1 = net.define("sum_h1", i1 * w1 + i2 * w3 + b1)
    output_h1 = net.define("output_h1", sigmoid(sum_h1))
    sum_h2 = net.define("sum_h2", i1 * w2 + i2 * w4 + b1)
    output_h2 = net.define("output_h2", sigmoid(sum_h2))
    sum_o1 = net.define("sum_o1", output_h1 * w5 + output_h2 * w6 + b2)
    output_o1 = net.output("output_o1", sigmoid(sum_o1))
    sum_o2 = net.define("sum_o2", output_h1 * w7 + output_h2 * w8 + b2)
    output_o2 = net.output("output_o2", sigmoid(sum_o2))
    E1 = net.define("E1", (t1 - output_o1) ** 2 / 2)
    E2 = net.define("E2", (t2 - output_o2) ** 2 / 2)
    net.loss(E1 + E2, name="E")
    net.training = Training("sgd", 1, 1, hyperparameters={"learning_rate": 0.6})
    net.data = Data({"i1": (0.1,), "i2": (0.5,), "t1": (0.05,), "t2": (0.95,)})
    return net


def one_neuron() -> Network:
    """1-1-1, sigmoid hidden, linear output: sixty steps of gradient descent."""
    net = Network("one_neuron")
    x, t = net.input("x"), net.target("t")
    starts = {"w1": 0.4, "w2": 0.3, "b1": 0.1, "b2": 0.2}
    w1, w2, b1, b2 = (net.parameter(name, init=value) for name, value in starts.items())
    h = net.define("h", sigmoid(w1 * x + b1))
    y = net.output("y", w2 * h + b2)
    net.loss((y - t) ** 2 / 2)
    net.training = Training("sgd", 1, 60, hyperparameters={"learning_rate": 0.1})
    net.data = Data({"x": (0.5,), "t": (0.6,)})
    return net


def dense() -> Network:
    """3-2-2 tanh and softmax cross-entropy, in index notation, with a sample."""
    from sympy import tanh

    net = Network("dense")
    i, j, k = net.index("i", 3), net.index("j", 2), net.index("k", 2)
    x, t = net.input("x", i), net.target("t", k)
    W1 = net.parameter("W1", i, j, init=[[0.1, -0.2], [0.3, 0.4], [-0.5, 0.6]])
    b1 = net.parameter("b1", j, init=0.1)
    W2 = net.parameter("W2", j, k, init=[[0.7, -0.8], [0.9, 0.25]])
    b2 = net.parameter("b2", k, init=0)
    h = net.define("h", tanh(Sum(W1[i, j] * x[i], i) + b1[j]), j)
    z = net.define("z", Sum(W2[j, k] * h[j], j) + b2[k], k)
    net.output("p", symprop.softmax(z[k], k), k)
    net.loss(symprop.logsumexp(z[k], k) - Sum(t[k] * z[k], k))
    net.training = Training("adam", 1, 10, hyperparameters={"learning_rate": 0.01})
    net.data = Data({"x": [[0.5, -1.0, 0.25]], "t": [[0.0, 1.0]]})
    return net


def naive() -> Network:
    """One unit, its logistic function written out: a rewrite to report."""
    net = Network("naive")
    x, t, w = net.input("x"), net.target("t"), net.parameter("w", init=0.5)
    y = net.output("y", 1 / (1 + exp(-w * x)))
    net.loss((y - t) ** 2)
    net.training = Training("sgd", hyperparameters={"learning_rate": 1.0})
    net.data = Data({"x": (2.0,), "t": (1.0,)})
    return net


CLASSICS: tuple[Callable[[], Network], ...] = (kumar, lamsal, one_neuron, dense, naive)


@cache
def derived(build: Callable[[], Network]) -> Derivation:
    """Return the derivation of a network, made once."""
    return differentiate(build())
