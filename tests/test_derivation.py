"""The formulas themselves: what a textbook would print, for every way of reading a tensor."""

from __future__ import annotations

import pytest
import sympy
from sympy import Sum, tanh
from zoo import ZOO

import symprop
from symprop.errors import DifferentiationError, FormulaSizeError, NetworkError
from symprop.formulas import text
from symprop.indices import accesses, free_indices
from symprop.network import Network


def dense(inputs: int, hidden: int, outputs: int) -> Network:
    net = Network("dense")
    i, j, k = net.index("i", inputs), net.index("j", hidden), net.index("k", outputs)
    x, t = net.input("x", i), net.target("t", k)
    W1, b1 = net.parameter("W1", i, j), net.parameter("b1", j)
    W2, b2 = net.parameter("W2", j, k), net.parameter("b2", k)
    h = net.define("h", tanh(Sum(W1[i, j] * x[i], i) + b1[j]), j)
    z = net.define("z", Sum(W2[j, k] * h[j], j) + b2[k], k)
    net.loss(symprop.logsumexp(z[k], k) - Sum(t[k] * z[k], k))
    return net


DENSE = """\
net_h[j] = Sum(W1[i,j]*x[i], i) + b1[j]
h[j] = tanh(net_h[j])
z[k] = Sum(W2[j,k]*h[j], j) + b2[k]
L = logsumexp(z[k], k) - Sum(t[k]*z[k], k)
dL/dz[k] = softmax(z[k], k) - t[k]
dL/dh[j] = Sum(W2[j,k]*dL/dz[k], k)
dL/dnet_h[j] = dL/dh[j]*(1 - h[j]**2)
dL/dW1[i,j] = x[i]*dL/dnet_h[j]
dL/db1[j] = dL/dnet_h[j]
dL/dW2[j,k] = h[j]*dL/dz[k]
dL/db2[k] = dL/dz[k]
dL/dx[i] = Sum(W1[i,j]*dL/dnet_h[j], j)"""


def test_dense_network_gives_the_textbook_formulas() -> None:
    assert str(symprop.differentiate(dense(64, 32, 10))) == DENSE


def test_derivation_does_not_depend_on_width() -> None:
    """The same equations, symbol for symbol: width is only the range of an index."""
    assert str(symprop.differentiate(dense(4096, 2048, 1000))) == DENSE


def test_every_adjoint_has_exactly_the_indices_of_its_variable() -> None:
    for name, build in ZOO.items():
        derivation = symprop.differentiate(build())
        for equation in derivation.backward:
            variable = equation.name.split("/d", 1)[1]
            adjoint = derivation.adjoint(variable)
            assert set(free_indices(adjoint.rhs)) <= set(adjoint.indices), (name, str(adjoint))


def test_adjoints_are_in_an_order_that_can_be_evaluated() -> None:
    for build in ZOO.values():
        derivation = symprop.differentiate(build())
        known = {equation.name for equation in derivation.forward}
        known |= {variable.name for variable in derivation.network.variables}
        last = {equation.name: n for n, equation in enumerate(derivation.backward)}
        for position, equation in enumerate(derivation.backward):
            for leaf in accesses(equation.rhs):
                name = str(getattr(getattr(leaf, "base", leaf), "label", leaf))
                assert name in known or last[name] < position


def test_softmax_cross_entropy_has_no_special_case() -> None:
    derivation = symprop.differentiate(ZOO["classifier"]())
    assert text(derivation.adjoint("z")) == "dL/dz[k] = p[k] - t[k]"


def test_softmax_in_attention_reuses_the_forward_value() -> None:
    derivation = symprop.differentiate(ZOO["attention"]())
    assert text(derivation.adjoint("net_A")) == (
        "dL/dnet_A[a,s,r] = A[a,s,r]*(dL/dA[a,s,r] - Sum(A[a,s,r2]*dL/dA[a,s,r2], r2))"
    )


def test_a_tensor_read_under_other_indices_is_not_captured() -> None:
    """K was defined over [a,s,e] and is read as K[a,r,e] beside Q[a,s,e]."""
    derivation = symprop.differentiate(ZOO["attention"]())
    assert text(derivation.adjoint("K")) == (
        "dL/dK[a,s,e] = sqrt(2)*Sum(Q[a,s2,e]*dL/dnet_A[a,s2,s], s2)/2"
    )


def test_tied_weights_add_up() -> None:
    derivation = symprop.differentiate(ZOO["tied"]())
    assert text(derivation.gradient("W")) == "dL/dW[i,j] = x[i]*dL/dnet_h[j] + h[j]*dL/dy[i]"


def test_strided_reading_scatters_and_prints_as_a_gather() -> None:
    derivation = symprop.differentiate(ZOO["convolution"]())
    scatters = [text(e) for e in derivation.backward if e.accumulate and e.name == "dL/dy"]
    assert scatters == ["dL/dy[o,2*q + p] += v[o,p]*dL/df[o,q]"]
    assert text(derivation.adjoint("y")) == (
        "dL/dy[o,r] = Sum((v[o,r - 2*q]*dL/df[o,q] where 0 <= r - 2*q <= 2), q)"
    )


def test_padding_keeps_its_bounds() -> None:
    derivation = symprop.differentiate(ZOO["convolution"]())
    assert text(derivation.gradient("w")) == (
        "dL/dw[o,c,p] = Sum((x[c,p + r - 1]*dL/dnet_y[o,r] where 1 <= p + r <= 8), r)"
    )


def test_a_parameter_that_does_not_reach_the_loss_has_gradient_zero() -> None:
    derivation = symprop.differentiate(ZOO["unreached"]())
    assert derivation.gradient("v").rhs == 0
    assert derivation.gradient("w").rhs != 0


def test_closed_form_has_only_data_and_parameters() -> None:
    derivation = symprop.differentiate(ZOO["classifier"]())
    form = derivation.closed_form("b2")
    names = {str(getattr(getattr(n, "base", n), "label", n)) for n in accesses(form)}
    assert names == {"W1", "W2", "b1", "b2", "x", "t"}
    assert text(form) == (
        "softmax(Sum(W2[j,k]*tanh(Sum(W1[i,j]*x[i], i) + b1[j]), j) + b2[k], k) - t[k]"
    )


def test_closed_form_of_a_scalar_network_is_what_sympy_derives() -> None:
    net = Network("small")
    x, t, w, v = net.input("x"), net.target("t"), net.parameter("w"), net.parameter("v")
    h = net.define("h", tanh(w * x))
    y = net.define("y", v * h)
    net.loss((y - t) ** 2 / 2)
    derivation = symprop.differentiate(net)
    loss = (v * tanh(w * x) - t) ** 2 / 2
    for parameter in (w, v):
        difference = derivation.closed_form(str(parameter)) - loss.diff(parameter)
        assert sympy.simplify(difference) == 0


def test_closed_form_that_would_explode_is_refused_with_an_estimate() -> None:
    derivation = symprop.differentiate(ZOO["attention"]())
    with pytest.raises(FormulaSizeError, match=r"dL/dWq would have about [\d,]+ operations"):
        derivation.closed_form("Wq", limit=100)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    derivation = symprop.differentiate(ZOO["tied"]())
    with pytest.raises(NetworkError, match="no parameter 'x'; its parameters are W, b"):
        derivation.gradient("x")
    with pytest.raises(NetworkError, match="no adjoint of 'q'; known: "):
        derivation.adjoint("q")


def test_a_function_without_a_known_derivative_is_refused() -> None:
    net = Network("odd")
    x, w = net.input("x"), net.parameter("w")
    net.loss(sympy.Function("mystery")(w * x))
    with pytest.raises(DifferentiationError, match="no derivative of mystery"):
        symprop.differentiate(net)


def test_incomplete_networks_are_refused() -> None:
    net = Network("incomplete")
    net.input("x")
    with pytest.raises(NetworkError, match="has no loss"):
        symprop.differentiate(net)


def test_squares_are_not_expanded() -> None:
    net = Network("square")
    i = net.index("i", 3)
    y, t, w = net.input("y", i), net.target("t", i), net.parameter("w", i)
    z = net.define("z", w[i] * y[i], i)
    net.loss(Sum((z[i] - t[i]) ** 2, i))
    assert text(symprop.differentiate(net).adjoint("z")) == "dL/dz[i] = 2*(z[i] - t[i])"
