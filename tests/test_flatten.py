"""Intermediate values get names, once each, where a person would name them."""

from __future__ import annotations

from sympy import Max, Piecewise, Sum, sqrt, tanh
from zoo import ZOO

import symprop
from symprop.derivation.flatten import flatten
from symprop.formulas import text
from symprop.functions import Normalisation, Reduction
from symprop.indices import free_indices
from symprop.network import Network


def flat(net: Network) -> list[str]:
    return [text(equation) for equation in flatten(net.equations, net.names)]


def test_net_input_is_named() -> None:
    net = Network("n")
    i, j = net.index("i", 3), net.index("j", 2)
    x, W, b = net.input("x", i), net.parameter("W", i, j), net.parameter("b", j)
    net.define("h", tanh(Sum(W[i, j] * x[i], i) + b[j]), j)
    assert flat(net) == ["net_h[j] = Sum(W[i,j]*x[i], i) + b[j]", "h[j] = tanh(net_h[j])"]


def test_names_in_use_are_avoided() -> None:
    net = Network("n")
    x, w, v = net.input("x"), net.parameter("w"), net.parameter("net_h")
    net.define("h", tanh(w * x + v))
    assert flat(net) == ["net_h2 = w*x + net_h", "h = tanh(net_h2)"]


def test_a_mean_used_twice_is_computed_once() -> None:
    net = Network("n")
    d = net.index("d", 4)
    x = net.input("x", d)
    mean = Sum(x[d], d) / 4
    net.define("y", (x[d] - mean) / sqrt(Sum((x[d] - mean) ** 2, d)), d)
    assert flat(net) == [
        "sum_y = Sum(x[d], d)",
        "sum_y2 = Sum((x[d] - sum_y/4)**2, d)",
        "y[d] = (x[d] - sum_y/4)/sqrt(sum_y2)",
    ]


def test_a_sum_inside_a_sum_keeps_the_outer_index() -> None:
    net = Network("n")
    i, j = net.index("i", 3), net.index("j", 2)
    x, A = net.input("x", i), net.parameter("A", j, i)
    net.define("y", Sum(Sum(A[j, i] * x[i], i) ** 2, j))
    assert flat(net) == ["sum_y[j] = Sum(A[j,i]*x[i], i)", "y = Sum(sum_y[j]**2, j)"]


def test_what_an_extremum_compares_has_no_branches() -> None:
    """The largest of a window at the edge of a line, read as -9 outside."""
    net = Network("n")
    r = net.index("r", 5)
    x = net.input("x", r)
    net.define("y", Max(x[r], Piecewise((x[r - 1], r >= 1), (-9, True))), r)
    assert flat(net) == [
        "net_y[r] = {x[r - 1] if r >= 1, -9 otherwise}",
        "y[r] = max(net_y[r], x[r])",
    ]


def test_what_is_named_inside_a_guard_stays_guarded() -> None:
    """The hoisted sum must not read x outside of its range."""
    net = Network("n")
    r, p = net.index("r", 5), net.index("p", 3)
    x, w = net.input("x", r), net.parameter("w", p)
    padded = Piecewise((tanh(w[p] * x[r + p - 1]), (r + p >= 1) & (r + p <= 5)), (0, True))
    net.define("y", Sum(padded, p), r)
    first = flat(net)[0]
    assert first == "net_y[r,p] = (w[p]*x[p + r - 1] where 1 <= p + r <= 5)"


def test_flattening_is_idempotent() -> None:
    for build in ZOO.values():
        net = build()
        once = flatten(net.equations, net.names)
        names = {*net.names, *(equation.name for equation in once)}
        assert flatten(once, names) == once


def test_no_reduction_is_left_inside_anything() -> None:
    for build in ZOO.values():
        derivation = symprop.differentiate(build())
        for equation in derivation.forward:
            for node in equation.rhs.atoms(Sum, Reduction, Normalisation):
                assert set(free_indices(node)) == set(equation.indices), text(equation)
