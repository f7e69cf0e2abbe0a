"""Networks that exercise every way of reading a tensor; each is built by one function.

None of them is known to symprop: they are what a user might write.
"""

from __future__ import annotations

from collections.abc import Callable

from sympy import (
    Abs,
    And,
    Expr,
    Float,
    Integer,
    Max,
    Min,
    Mod,
    Piecewise,
    Rational,
    Sum,
    cos,
    exp,
    log,
    sin,
    sqrt,
    tanh,
)

import symprop
from symprop import Network

ZOO: dict[str, Callable[[], Network]] = {}


def member(build: Callable[[], Network]) -> Callable[[], Network]:
    ZOO[build.__name__] = build
    return build


@member
def scalars() -> Network:
    """A 2-2-2 sigmoid network with scalar weights and one bias a layer."""
    net = Network("scalars")
    x1, x2, t1, t2 = net.input("x1"), net.input("x2"), net.target("t1"), net.target("t2")
    w1, w2, w3, w4, w5, w6, w7, w8 = (net.parameter(f"w{n}", init=n / 10) for n in range(1, 9))
    b1, b2 = net.parameter("b1", init=0.35), net.parameter("b2", init=0.6, trainable=False)
    h1 = net.define("h1", symprop.sigmoid(w1 * x1 + w2 * x2 + b1))
    h2 = net.define("h2", symprop.sigmoid(w3 * x1 + w4 * x2 + b1))
    y1 = net.output("y1", symprop.sigmoid(w5 * h1 + w6 * h2 + b2))
    y2 = net.output("y2", symprop.sigmoid(w7 * h1 + w8 * h2 + b2))
    net.loss((t1 - y1) ** 2 / 2 + (t2 - y2) ** 2 / 2, name="E")
    return net


@member
def classifier() -> Network:
    """A dense tanh network with softmax cross-entropy, 7-5-3."""
    net = Network("classifier")
    i, j, k = net.index("i", 7), net.index("j", 5), net.index("k", 3)
    x, t = net.input("x", i), net.target("t", k)
    W1, b1 = net.parameter("W1", i, j, init="glorot_uniform"), net.parameter("b1", j)
    W2, b2 = net.parameter("W2", j, k, init="glorot_uniform"), net.parameter("b2", k)
    h = net.define("h", tanh(Sum(W1[i, j] * x[i], i) + b1[j]), j)
    z = net.define("z", Sum(W2[j, k] * h[j], j) + b2[k], k)
    net.output("p", symprop.softmax(z[k], k), k)
    net.loss(symprop.logsumexp(z[k], k) - Sum(t[k] * z[k], k))
    return net


@member
def skip() -> Network:
    """A residual block with gelu, layer normalisation and a scale."""
    net = Network("skip")
    d, e = net.index("d", 5), net.index("e", 5)
    x, t = net.input("x", d), net.target("t", d)
    W = net.parameter("W", d, e, init="he_normal")
    g, b = net.parameter("g", d, init=1), net.parameter("b", d)
    u = net.define("u", x[e] + symprop.gelu(Sum(W[d, e] * x[d], d)), e)
    mean = Sum(u[d], d) / 5
    variance = Sum((u[d] - mean) ** 2, d) / 5
    y = net.output("y", g[e] * (u[e] - mean) / sqrt(variance + Float(1e-5)) + b[e], e)
    net.loss(Sum((y[d] - t[d]) ** 2, d) / 2)
    return net


@member
def tied() -> Network:
    """An autoencoder whose decoder is the encoder transposed."""
    net = Network("tied")
    i, j = net.index("i", 6), net.index("j", 3)
    x = net.input("x", i)
    W, b = net.parameter("W", i, j, init="glorot_normal"), net.parameter("b", j)
    h = net.output("h", tanh(Sum(W[i, j] * x[i], i) + b[j]), j)
    y = net.output("y", Sum(W[i, j] * h[j], j), i)
    net.loss(Sum((y[i] - x[i]) ** 2, i) / 2)
    return net


@member
def halves() -> Network:
    """Two layers whose weights are halves of one tensor, and a penalty on all parameters."""
    net = Network("halves")
    i, r, j, k = net.index("i", 5), net.index("r", 10), net.index("j", 4), net.index("k", 3)
    x, u, t = net.input("x", i), net.input("u", i), net.target("t", k)
    W, b = net.parameter("W", r, j, init="glorot_uniform"), net.parameter("b", j, init=0.1)
    V, c = net.parameter("V", j, k, init="glorot_uniform"), net.parameter("c", k)
    a = net.define("a", tanh(Sum(W[i + 5, j] * u[i], i)), j)
    h = net.define("h", tanh(Sum(W[i, j] * x[i], i) + b[j]), j)
    y = net.output("y", Sum(V[j, k] * h[j] * a[j], j) + c[k], k)
    penalty = Sum(V[j, k] ** 2, j, k) + Sum(b[j] ** 2, j) + Sum(c[k] ** 2, k)
    net.loss(Sum((y[k] - t[k]) ** 2, k) + penalty / 100)
    return net


@member
def attention() -> Network:
    """Two-head self-attention over four tokens, queries and keys over the same indices."""
    net = Network("attention")
    a, s, r = net.index("a", 2), net.index("s", 4), net.index("r", 4)
    d, e, o = net.index("d", 3), net.index("e", 2), net.index("o", 3)
    X, t = net.input("X", s, d), net.target("t", s, o)
    Wq, Wk, Wv = (net.parameter(n, a, d, e, init="glorot_uniform") for n in ("Wq", "Wk", "Wv"))
    Wo = net.parameter("Wo", a, e, o, init="glorot_uniform")
    Q = net.define("Q", Sum(Wq[a, d, e] * X[s, d], d), a, s, e)
    K = net.define("K", Sum(Wk[a, d, e] * X[s, d], d), a, s, e)
    V = net.define("V", Sum(Wv[a, d, e] * X[s, d], d), a, s, e)
    scores = Sum(Q[a, s, e] * K[a, r, e], e) / sqrt(2)
    A = net.define("A", symprop.softmax(scores, r), a, s, r)
    H = net.define("H", Sum(A[a, s, r] * V[a, r, e], r), a, s, e)
    Y = net.output("Y", Sum(Wo[a, e, o] * H[a, s, e], a, e), s, o)
    net.loss(Sum((Y[s, o] - t[s, o]) ** 2, s, o) / 2)
    return net


@member
def convolution() -> Network:
    """Padded convolution, a strided one after it, mean pooling and a linear head."""
    net = Network("convolution")
    r, c, o, p = net.index("r", 8), net.index("c", 2), net.index("o", 3), net.index("p", 3)
    q, u, k = net.index("q", 3), net.index("u", 2), net.index("k", 2)
    x, t = net.input("x", c, r), net.target("t", k)
    w, b = net.parameter("w", o, c, p, init="he_uniform"), net.parameter("b", o, init=0.1)
    v = net.parameter("v", o, p, init=0.2)
    W = net.parameter("W", o, k, init="lecun_normal")
    inside = Piecewise((x[c, r + p - 1], And(r + p >= 1, r + p <= 8)), (0, True))
    y = net.define("y", symprop.relu(Sum(w[o, c, p] * inside, c, p) + b[o]), o, r)
    f = net.define("f", Sum(v[o, p] * y[o, 2 * q + p], p), o, q)
    m = net.define("m", Sum(f[o, q], q) / 3, o)
    z = net.output("z", Sum(W[o, k] * m[o], o), k)
    net.loss(Sum((z[k] - t[k]) ** 2, k) + 0 * Sum(f[0, u], u))
    return net


@member
def convolution_2d() -> Network:
    """A 2-D convolution over an image, then the maximum over windows."""
    net = Network("convolution_2d")
    h, w = net.index("h", 5), net.index("w", 6)
    r, s, p, q = net.index("r", 4), net.index("s", 4), net.index("p", 2), net.index("q", 3)
    m, n, a, b = net.index("m", 2), net.index("n", 2), net.index("a", 2), net.index("b", 2)
    x, t = net.input("x", h, w), net.target("t", m, n)
    f = net.parameter("f", p, q, init="he_normal")
    y = net.define("y", Sum(f[p, q] * x[r + p, s + q], p, q), r, s)
    z = net.output("z", symprop.reduce_max(y[2 * m + a, 2 * n + b], a, b), m, n)
    net.loss(Sum((z[m, n] - t[m, n]) ** 2, m, n))
    return net


@member
def padding() -> Network:
    """Two convolutions that keep an image's size, the second around a cylinder, with gaps."""
    net = Network("padding")
    c, d, a, b = net.index("c", 2), net.index("d", 2), net.index("a", 6), net.index("b", 5)
    p, q = net.index("p", 3), net.index("q", 3)
    x, t = net.input("x", c, a, b), net.target("t", d)
    v = net.parameter("v", d, c, p, q, init="he_uniform")
    e = net.index("e", 2)
    w = net.parameter("w", e, d, p, q, init="he_normal")

    def inside(value: Expr, i: Expr, j: Expr) -> Expr:
        return Piecewise((value, And(i >= 0, i < 6, j >= 0, j < 5)), (0, True))

    i, j = a + p - 1, b + q - 1
    y = net.define(
        "y", symprop.relu(Sum(v[d, c, p, q] * inside(x[c, i, j], i, j), c, p, q)), d, a, b
    )
    i, j = a + 2 * p - 2, Mod(b + 2 * q - 2, 5)
    f = net.define("f", Sum(inside(w[e, d, p, q] * y[d, i, j], i, j), d, p, q), e, a, b)
    z = net.output("z", Sum(f[e, a, b], a, b) / 30, e)
    net.loss(Sum((z[e] - t[e]) ** 2, e))
    return net


@member
def masks() -> Network:
    """Attention to what came before, of places that are known; later ones have no scores."""
    net = Network("masks")
    s, r, e = net.index("s", 5), net.index("r", 5), net.index("e", 3)
    x, t = net.input("x", s, e), net.target("t", s, e)
    f = net.index("f", 3)
    q, k = (net.parameter(name, e, f, init="glorot_uniform") for name in ("q", "k"))
    Q = net.define("Q", Sum(q[e, f] * x[s, e], e), s, f)
    K = net.define("K", Sum(k[e, f] * x[s, e], e) + sin(s * exp(-f)), s, f)
    S = Piecewise((Sum(Q[s, f] * K[r, f], f) / sqrt(3), r <= s), (-1000, True))
    A = net.define("A", symprop.softmax(S, r), s, r)
    y = net.output("y", Sum(A[s, r] * cos(s - r) * x[r, e], r), s, e)
    net.loss(
        Sum((y[s, e] - t[s, e]) ** 2, s, e) + Sum(Piecewise((A[s, r] ** 2, r < 2), (0, True)), s, r)
    )
    return net


@member
def embedding() -> Network:
    """Integer tokens look rows up; the same rows score the classes (tied embedding)."""
    net = Network("embedding")
    s, v, d = net.index("s", 3), net.index("v", 7), net.index("d", 9)
    token, t = net.input("token", s), net.target("t", v)
    E = net.parameter("E", v, d, init="lecun_uniform")
    mean = net.define("mean_row", Sum(E[token[s], d], s) / 3, d)
    z = net.define("z", Sum(E[v, d] * mean[d], d), v)
    net.output("p", symprop.softmax(z[v], v), v)
    net.loss(-Sum(t[v] * symprop.log_softmax(z[v], v), v))
    return net


@member
def gates() -> Network:
    """A gated recurrent cell written out for one step, gates sliced from one product."""
    net = Network("gates")
    i, j, g = net.index("i", 3), net.index("j", 2), net.index("g", 6)
    x, h0, t = net.input("x", i), net.input("h0", j), net.target("t", j)
    W, U = net.parameter("W", i, g, init="glorot_uniform"), net.parameter("U", j, g, init=0.3)
    a = net.define("a", Sum(W[i, g] * x[i], i) + Sum(U[j, g] * h0[j], j), g)
    update = symprop.sigmoid(a[j])
    h = net.output(
        "h", update * h0[j] + (1 - update) * tanh(a[j + 2] * symprop.sigmoid(a[j + 4])), j
    )
    net.loss(Sum(Abs(h[j] - t[j]), j))
    return net


@member
def recurrence() -> Network:
    """Seven steps of a recurrent cell after the first, and a scale that all of them share."""
    net = Network("recurrence")
    s, i, j, m = net.index("s", 8), net.index("i", 2), net.index("j", 3), net.index("m", 3)
    x, t, scale = net.input("x", s, i), net.target("t", j), net.parameter("scale", init=0.8)
    W, V = net.parameter("W", i, j, init="glorot_uniform"), net.parameter("V", m, j, init=-0.2)
    h = net.define("h0", tanh(Sum(W[i, j] * x[0, i], i)), j)
    for n in range(1, 8):
        change = tanh(scale * Sum(V[m, j] * h[m], m) + Sum(W[i, j] * x[n, i], i))
        h = net.define(f"h{n}", h[j] / 2 + change, j)
    y = net.output("y", h[j] ** 2, j)
    net.loss(Sum((y[j] - t[j]) ** 2, j))
    return net


@member
def pooling() -> Network:
    """Element-wise and reducing maxima and minima, a piecewise value, an absolute value."""
    net = Network("pooling")
    r, q, p = net.index("r", 6), net.index("q", 3), net.index("p", 2)
    x = net.input("x", r)
    w = net.parameter("w", r, init="ones")
    a = net.define("a", w[r] * x[r], r)
    y = net.define("y", symprop.reduce_max(a[2 * q + p], p), q)
    m = net.define("m", Max(a[2 * q], a[2 * q + 1]) - Min(a[2 * q], a[2 * q + 1], a[0]), q)
    c = net.output("c", Piecewise((y[q] ** 2, y[q] > m[q]), (m[q] * Abs(a[0]), True)), q)
    net.loss(Sum(c[q], q) + symprop.reduce_min(a[r] ** 2, r))
    return net


@member
def functions() -> Network:
    """One of every element-wise function, and powers with parameters in the exponent."""
    net = Network("functions")
    i = net.index("i", 3)
    x = net.input("x", i)
    w, a = net.parameter("w", i, init=0.7), net.parameter("a", init=0.2)
    u = net.define("u", w[i] * x[i], i)
    smooth = symprop.softplus(u[i]) + symprop.silu(u[i]) + symprop.gelu(u[i]) * sin(u[i])
    kinked = symprop.leaky_relu(u[i], a) + symprop.elu(u[i], a) + symprop.relu(u[i])
    y = net.define("y", smooth + kinked * cos(u[i]), i)
    z = net.output("z", exp(-(y[i] ** 2)) + log(1 + y[i] ** 2) + (1 + y[i] ** 2) ** a, i)
    net.loss(Sum(z[i] * sqrt(1 + u[i] ** 2), i) + symprop.expm1(a) / (2 + symprop.log1p(a**2)))
    return net


@member
def products() -> Network:
    """Sums of three and more factors, squares of sums, a diagonal, one tensor read twice."""
    net = Network("products")
    i, j, k = net.index("i", 3), net.index("j", 3), net.index("k", 3)
    x = net.input("x", i)
    A, B = net.parameter("A", i, j, init="glorot_normal"), net.parameter("B", j, k, init=0.5)
    trilinear = net.define("trilinear", Sum(A[i, j] * B[j, k] * x[k] * A[k, i], j, k), i)
    square = net.define("square", Sum(A[i, j] * x[j], j) ** 2 * Sum(x[j] * A[j, i], j), i)
    trace = net.define("trace", Sum(A[j, j] * B[j, j], j))
    y = net.output("y", trilinear[i] + square[i] * trace, i)
    net.loss(Sum(y[i] * y[j] * A[i, j], i, j) + Sum(y[i] * Sum(y[i] * x[i], i), i))
    return net


@member
def unreached() -> Network:
    """An output that the loss does not see, and a parameter that only it uses."""
    net = Network("unreached")
    x, t = net.input("x"), net.target("t")
    w, v = net.parameter("w", init=2), net.parameter("v", init=3)
    y = net.output("y", w * x)
    net.output("other", v * y**2 + Integer(1))
    net.loss(Rational(1, 2) * (y - t) ** 2)
    return net
