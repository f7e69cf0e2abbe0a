"""Layers write the equations that a person would write by hand."""

from __future__ import annotations

import pytest

import symprop
from symprop import Network, layers
from symprop.errors import NetworkError
from symprop.formulas import text


def equations(net: Network) -> list[str]:
    return [text(equation) for equation in net.equations]


def test_mlp_is_the_network_of_the_handwritten_digits() -> None:
    assert equations(symprop.mlp([64, 32, 10])) == [
        "h[j] = tanh(Sum(W1[i,j]*x[i], i) + b1[j])",
        "z[k] = Sum(W2[j,k]*h[j], j) + b2[k]",
        "p[k] = softmax(z[k], k)",
        "L = logsumexp(z[k], k) - Sum(t[k]*z[k], k)",
    ]


def test_deep_mlp_numbers_its_layers() -> None:
    net = symprop.mlp([5, 4, 3, 2], activation="relu", loss="mean_squared_error")
    assert equations(net) == [
        "h1[j] = relu(Sum(W1[i,j]*x[i], i) + b1[j])",
        "h2[k] = relu(Sum(W2[j,k]*h1[j], j) + b2[k])",
        "y[l] = Sum(W3[k,l]*h2[k], k) + b3[l]",
        "L = Sum((y[l] - t[l])**2, l)/2",
    ]
    assert [p.init for p in net.parameters] == [
        "he_normal", 0.0, "he_normal", 0.0, "glorot_uniform", 0.0,
    ]  # fmt: skip


def test_binary_cross_entropy_has_the_plain_derivative() -> None:
    derivation = symprop.differentiate(symprop.mlp([3, 1], loss="binary_cross_entropy"))
    assert text(derivation.adjoint("z")) == "dL/dz[j] = p[j] - t[j]"


def test_very_deep_networks_do_not_run_out_of_letters() -> None:
    assert len(symprop.mlp([2] * 20).equations) == 21


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"widths": [3]}, "two or more layers"),
        ({"widths": [3, 2], "loss": "softmax_crossentropy"}, "softmax_cross_entropy"),
        ({"widths": [3, 4, 2], "activation": "tan"}, "unknown activation 'tan'"),
        ({"widths": [3, 0]}, "expected an integer >= 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], part: str) -> None:
    with pytest.raises(NetworkError, match=part):
        symprop.mlp(**arguments)


def test_layers_compose() -> None:
    """A small transformer block over five tokens, followed by a convolution."""
    net = Network("block")
    s, r, d, e = net.index("s", 5), net.index("r", 5), net.index("d", 4), net.index("e", 4)
    o, q, p, k = net.index("o", 3), net.index("q", 2), net.index("p", 2), net.index("k", 3)
    net.input("x", s, d)
    layers.attention(net, "x", "a", r, net.index("key", 2), e)
    layers.layer_norm(net, "a", "n")
    layers.dense(net, "n", "f", k, activation="gelu")
    layers.convolution(net, "f", "c", o, [q], [p], activation="relu")
    c = net.variable("c").symbol
    net.loss(symprop.logsumexp(c[o, q], o, q))
    derivation = symprop.differentiate(net)
    assert text(derivation.gradient("W_f")) == "dL/dW_f[e,k] = Sum(n[s,e]*dL/dnet_f[s,k], s)"
    assert [text(e) for e in net.equations if e.name == "c"] == [
        "c[o,q] = relu(Sum(w_c[o,s,p]*f[s,p + q], s, p) + b_c[o])"
    ]


def test_convolution_wants_an_index_for_every_axis() -> None:
    net = Network("n")
    c, h, w, o = net.index("c", 2), net.index("h", 4), net.index("w", 4), net.index("o", 3)
    net.input("x", c, h, w)
    with pytest.raises(NetworkError, match="expected 2 of each"):
        layers.convolution(net, "x", "y", o, [h], [w])
    net2 = Network("n")
    net2.input("x")
    with pytest.raises(NetworkError, match="it is a scalar"):
        layers.dense(net2, "x", "y", o)
