"""Naive forms as users type them: what becomes of them, and that it is the same number."""

from __future__ import annotations

import math
import time

import mpmath
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import (
    Add,
    Dummy,
    Idx,
    IndexedBase,
    Integer,
    Max,
    Mul,
    Piecewise,
    Rational,
    Sum,
    Symbol,
    cosh,
    erf,
    exp,
    log,
    sinh,
    sqrt,
    sympify,
    tanh,
)
from values import value

from symprop import Network
from symprop.derivation.flatten import flatten
from symprop.derivation.rewrites import Rewrite, stabilize
from symprop.functions import (
    expm1,
    gelu,
    log1p,
    log_softmax,
    logsumexp,
    normal_cdf,
    relu,
    sigmoid,
    softmax,
    softplus,
)
from symprop.network import Equation
from symprop.scalar import functions as scalar_functions

i, k, k2, m, s = Idx("i", 4), Idx("k", 3), Idx("k2", 3), Idx("m", 3), Idx("s", 4)
q = Idx("q", 2)
a, e, p, t, x, z, c = (IndexedBase(name, real=True) for name in "aeptxzc")
A, W = IndexedBase("A", real=True), IndexedBase("W", real=True)
b, u, v, y, T, S, L = (Symbol(name, real=True) for name in "buvyTSL")

PLACES = {i: 1, k: 2, s: 3, m: 0, k2: 1, q: 1}


def once(expression, *definitions):
    """Return the stable form of an expression; that of a second run must be the same."""
    equations, rewrites = stabilize((*definitions, Equation(L, expression)))
    assert stabilize(equations) == (equations, ())
    assert all(isinstance(rewrite, Rewrite) and rewrite.reason for rewrite in rewrites)
    changed = {rewrite.equation for rewrite in rewrites}
    pairs = zip((*definitions, Equation(L, expression)), equations, strict=True)
    assert all(new == old or new.name in changed for old, new in pairs)
    return equations[-1].rhs


def numbers(scale):
    """Return values for all names: about 1, or as large as `scale`; T is a position."""
    big = mpmath.mpf(scale)
    return {
        "z": lambda n: big * [-1, 1, Rational(2, 3)][n],
        "c": lambda n: big * (n - 1) / 3,
        "x": lambda n: (n - mpmath.mpf("1.5")) * big / 4,
        "t": lambda n: mpmath.mpf([1, 0, "0.3"][n]),
        "A": lambda r, n: big * (r * n - 2) / 6,
        "W": lambda r, n: mpmath.mpf(r - n) / 3,
        "u": big * mpmath.mpf("0.71"),
        "v": -big * mpmath.mpf("0.43"),
        "y": big * mpmath.mpf("-0.97"),
        "T": mpmath.mpf(2),
    }


def assert_same(left, right, names):
    """Compare at so many digits that exp(-700) beside 1 does not vanish."""
    with mpmath.workdps(1400):
        one, other = value(left, names, PLACES), value(right, names, PLACES)
        assert abs(one - other) <= mpmath.mpf(10) ** -300 * max(abs(one), mpmath.mpf(10) ** -700)


SCALES = ("0.4", "-3", "700", "-700")

HALF = Rational(1, 2)
FORMS = [
    # sigmoid
    (1 / (1 + exp(-y)), sigmoid(y)),
    (1 / (1 + exp(y)), sigmoid(-y)),
    (exp(y) / (1 + exp(y)), sigmoid(y)),
    (exp(-z[k]) / (1 + exp(-z[k])), sigmoid(-z[k])),
    (1 / (1 + exp(-2 * y + u)), sigmoid(2 * y - u)),
    (-3 * u / (1 + exp(-y)), -3 * u * sigmoid(y)),
    (3 * u * exp(y) / (1 + exp(y)) + v, 3 * u * sigmoid(y) + v),
    (1 / (1 + exp(-Sum(W[i, k] * x[i], i) - u)), sigmoid(Sum(W[i, k] * x[i], i) + u)),
    ((1 + exp(-y)) ** -2, sigmoid(y) ** 2),
    (1 / sqrt(1 + exp(-y)), sqrt(sigmoid(y))),
    (exp(-y) / (1 + exp(-y)) ** 2, sigmoid(y) * sigmoid(-y)),
    (exp(2 * y) / (1 + exp(y)) ** 2, sigmoid(y) ** 2),
    (exp(y + u) / (1 + exp(y)), exp(u) * sigmoid(y)),
    (y / (1 + exp(-y)), y * sigmoid(y)),
    (exp(y) / (exp(y) + exp(u)), sigmoid(y - u)),
    (exp(y) / (exp(y) + exp(u) + exp(v)), None),
    (exp(y) / (1 + exp(y) + exp(u)), sigmoid(y - softplus(u))),
    (1 / (1 + exp(-1 / (1 + exp(-y)))), sigmoid(sigmoid(y))),
    (1 / (1 + Sum(exp(z[k]), k)), sigmoid(-logsumexp(z[k], k))),
    (exp(y) / (1 + exp(u)), exp(y) * sigmoid(-u)),
    # softplus and logarithms
    (log(1 + exp(y)), softplus(y)),
    (u * log(1 + exp(-2 * z[k])) / 3, u * softplus(-2 * z[k]) / 3),
    (log1p(exp(y)), softplus(y)),
    (log(exp(y) + exp(u)), u + softplus(y - u)),
    (log(exp(y) + exp(u) + exp(v)), None),
    (log(1 + exp(y) + exp(u)), None),
    (log(1 + Sum(exp(z[k]), k)), softplus(logsumexp(z[k], k))),
    (log(sigmoid(y)), -softplus(-y)),
    (log(1 - sigmoid(y)), -softplus(y)),
    (log1p(-sigmoid(y)), -softplus(y)),
    (log(1 / (1 + exp(-y))), -softplus(-y)),
    (log(1 - 1 / (1 + exp(-y))), -softplus(y)),
    (log(exp(y) / (1 + exp(y))), -softplus(-y)),
    (log((1 + exp(-y)) ** -2), -2 * softplus(-y)),
    (log(sqrt(1 + exp(y))), softplus(y) / 2),
    (log(sigmoid(y) * (1 + u**2)), -softplus(-y) + log1p(u**2)),
    (log(sigmoid(y) / (1 - sigmoid(y))), y),
    (log(cosh(y)), softplus(2 * y) - y - log(2)),
    # softmax
    (exp(z[k]) / Sum(exp(z[k2]), k2), softmax(z[k], k)),
    (exp(z[k]) / Sum(exp(z[k]), k), softmax(z[k], k)),
    (exp(z[k] - u) / Sum(exp(z[k2] - u), k2), softmax(z[k], k)),
    (exp(z[k] / u) / Sum(exp(z[k2] / u), k2), softmax(z[k] / u, k)),
    (exp(-z[k]) / Sum(exp(-z[k2]), k2), softmax(-z[k], k)),
    (u * exp(z[k]) / Sum(exp(z[k2]), k2), u * softmax(z[k], k)),
    (exp(z[k] + u) / Sum(exp(z[k2]), k2), exp(u) * softmax(z[k], k)),
    (exp(2 * z[k]) / Sum(exp(z[k2]), k2) ** 2, softmax(z[k], k) ** 2),
    (exp(A[s, k]) / Sum(exp(A[s, k2]), k2), softmax(A[s, k], k)),
    (exp(A[s, 0]) / Sum(exp(A[s, k]), k), softmax(A[s, k], k, Integer(0))),
    (exp(z[T]) / Sum(exp(z[k]), k), softmax(z[k], k, T)),
    (exp(z[q + 1]) / Sum(exp(z[k]), k), softmax(z[k], k, q + 1)),
    (exp(A[s, k]) / Sum(exp(A[i, k]), i), softmax(A[s, k], s)),
    (exp(A[s, k]) / Sum(exp(A[i, m]), i, m), exp(A[s, k] - logsumexp(A[i, m], i, m))),
    (Sum(exp(z[k]) * z[k] / Sum(exp(z[k]), k), k), Sum(softmax(z[k], k) * z[k], k)),
    (exp(z[k]) / (1 + Sum(exp(z[k2]), k2)), softmax(z[k], k) * sigmoid(logsumexp(z[k2], k2))),
    (log(softmax(z[k], k)), log_softmax(z[k], k)),
    (log(exp(z[k]) / Sum(exp(z[k2]), k2)), log_softmax(z[k], k)),
    (log(Sum(exp(z[k]), k)), logsumexp(z[k], k)),
    (log(Sum(exp(A[s, k]), s, k)), logsumexp(A[s, k], s, k)),
    (u + log(Sum(exp(z[k] - u), k)), logsumexp(z[k], k)),
    (log(Sum(exp(z[k]), k) / 3), logsumexp(z[k], k) - log(3)),
    # other functions
    (Max(z[k], 0), relu(z[k])),
    (Max(0, Sum(W[i, k] * x[i], i)), relu(Sum(W[i, k] * x[i], i))),
    ((exp(y) - exp(-y)) / (exp(y) + exp(-y)), tanh(y)),
    ((1 - exp(-2 * y)) / (1 + exp(-2 * y)), tanh(y)),
    ((exp(2 * y) - 1) / (exp(2 * y) + 1), tanh(y)),
    ((exp(-y) - exp(y)) / (exp(y) + exp(-y)), -tanh(y)),
    (2 * u * (exp(y) - 1) / (1 + exp(y)), 2 * u * tanh(y / 2)),
    (sinh(y) / cosh(y), tanh(y)),
    (y * (1 + erf(y / sqrt(2))) / 2, gelu(y)),
    (HALF * z[k] * (1 + erf(z[k] / sqrt(2))) * u, u * gelu(z[k])),
    (y * (HALF + HALF * erf(y / sqrt(2))), gelu(y)),
    ((1 - erf(y / sqrt(2))) / 2, normal_cdf(-y)),
    (-2 * y * normal_cdf(-y), 2 * gelu(-y)),
    (exp(y) - 1, expm1(y)),
    (2 - 2 * exp(y), -2 * expm1(y)),
    (u * (exp(y) - 1) + v, u * expm1(y) + v),
    (Piecewise((y, y > 0), (u * (exp(y) - 1), True)), Piecewise((y, y > 0), (u * expm1(y), True))),
    (log(1 + u**2), log1p(u**2)),
    (Sum(log(1 + z[k] ** 2), k), Sum(log1p(z[k] ** 2), k)),
]


@pytest.mark.parametrize(("naive", "stable"), FORMS, ids=lambda form: str(form))
def test_form(naive, stable):
    got = once(naive)
    assert got != naive
    if stable is not None:
        assert got == stable
    if naive.has(erf):
        return  # compared below, at its own number of digits
    for scale in SCALES:
        assert_same(naive, got, numbers(scale))


@pytest.mark.parametrize("point", ["-9", "-0.3", "1e-9", "4"])
def test_forms_with_erf_are_the_same_numbers(point):
    names = {"y": mpmath.mpf(point), "u": mpmath.mpf(3), "z": lambda n: mpmath.mpf(point)}
    for naive, _ in FORMS:
        if naive.has(erf):
            with mpmath.workdps(100):
                difference = value(naive, names, PLACES) - value(once(naive), names, PLACES)
                assert abs(difference) < mpmath.mpf(10) ** -90


def test_erf_with_floats():
    assert once(0.5 * y * (1 + erf(y / sqrt(2)))) == gelu(y)
    assert once(0.5 * (1 + erf(y / 1.4142135623730951)) * y) == gelu(y)
    assert once(0.5 * (1 + erf(0.7 * y)) * y) != gelu(y)


NEAR_MISSES = [
    1 / (2 + exp(-y)),
    1 / (1 + 2 * exp(-y)),
    1 + exp(-y),
    (1 + exp(-y)) ** 2,
    log(2 + exp(y)),
    log(exp(y) - exp(u)),
    log(exp(y) + u),
    log(u),
    exp(z[k]) / Sum(exp(2 * z[k2]), k2),
    exp(z[k]) / Sum(exp(z[k2] + c[k2]), k2),
    exp(z[k]) / Sum(c[k2] * exp(z[k2]), k2),
    exp(z[k]) / Sum(exp(z[q]), q),
    exp(z[k]) / Sum(exp(c[k2]), k2),
    exp(x[i]) / Sum(exp(z[k]), k),
    exp(A[s, k]) / Sum(exp(A[k2, s]), k2),
    exp(A[s, k]) / Sum(exp(A[k, k2]), k2),
    exp(z[k]) / (Sum(exp(z[k2]), k2) + Rational(1, 1000)),
    exp(z[k]) * Sum(exp(z[k2]), k2),
    log(Sum(z[k], k)),
    log(Sum(c[k] * exp(z[k]), k)),
    log(Sum(exp(u), k)),
    Max(y, 1),
    Max(0, u, y),
    (exp(y) - exp(-u)) / (exp(y) + exp(-y)),
    (exp(y) + exp(-y)) / (exp(y) - exp(-y)),
    (exp(y) - exp(-y)) / 2,
    sinh(y) / cosh(u),
    exp(y) - 2,
    exp(y) + 1,
    2 + erf(y),
    2 * sigmoid(2 * y) - 1,
    1 - sigmoid(y),
    u * normal_cdf(y),
    log(softmax(z[k], k) + Rational(1, 1000)),
    u * softplus(y) + v * softplus(-y),
    softplus(y) + softplus(-y),
    u * softplus(-y) + (1 - u) * softplus(2 * y),
    softmax(z[k], k) * u,
    sqrt(y**2),
]


@pytest.mark.parametrize("expression", NEAR_MISSES, ids=str)
def test_near_misses_are_left_alone(expression):
    assert once(expression) == expression
    assert stabilize((Equation(L, expression),)) == ((Equation(L, expression),), ())


def test_nearly_forms_become_something_else_correctly():
    """Not one of the forms above, but cancellation is still to be mended."""
    assert once(1 / (1 - exp(-y))) == -1 / expm1(-y)
    assert once(y * (1 + erf(y))) == 2 * y * normal_cdf(sqrt(2) * y)
    assert once(log(1 - u)) == log1p(-u)


# Through names

SIGMOID = Equation(a[m], 1 / (1 + exp(-z[m])))
SCALAR = Equation(b, sigmoid(y))


@pytest.mark.parametrize(
    ("naive", "stable"),
    [
        (log(b), -softplus(-y)),
        (log(1 - b), -softplus(y)),
        (log1p(-b), -softplus(y)),
        (-(u * log(b) + (1 - u) * log(1 - b)), softplus(y) - u * y),
        (u * log(b) + (1 - u) * log(1 - b), u * y - softplus(y)),
        (-u * log(b) - (1 - u) * log1p(-b), softplus(y) - u * y),
        (-(v * u * log(b) + v * (1 - u) * log(1 - b)), v * softplus(y) - v * u * y),
        (-((1 + u) / 2 * log(b) + (1 - u) / 2 * log(1 - b)), softplus(-y) + (HALF - u / 2) * y),
        (-(3 * u * log(b) + (1 - u) * log(1 - b)), 3 * u * softplus(-y) + (1 - u) * softplus(y)),
        (log(b) - log(1 - b), y),
        (log(b / (1 - b)), y),
    ],
    ids=str,
)
def test_binary_cross_entropy_of_a_scalar(naive, stable):
    assert once(naive, SCALAR) == stable
    with mpmath.workdps(700):
        for scale in SCALES:
            names = numbers(scale)
            assert_same(naive, stable, names | {"b": value(sigmoid(y), names)})


ENTROPY = t[k] * log(a[k]) + (1 - t[k]) * log(1 - a[k])
STABLE = Sum(softplus(z[k]) - t[k] * z[k], k)


@pytest.mark.parametrize(
    ("naive", "stable"),
    [
        (-Sum(ENTROPY, k), STABLE),
        (Sum(-t[k] * log(a[k]) - (1 - t[k]) * log(1 - a[k]), k), STABLE),
        (-Sum(ENTROPY, k) / 3 + u**2, STABLE / 3 + u**2),
        (-Sum(t[k] * log(a[k]), k) - Sum((1 - t[k]) * log(1 - a[k]), k), STABLE),
        (-Sum(t[k] * log(a[k]), k) - Sum((1 - t[m]) * log(1 - a[m]), m), STABLE.xreplace({k: m})),
        (-Sum(log(a[k]), k), Sum(softplus(-z[k]), k)),
    ],
    ids=str,
)
def test_binary_cross_entropy_in_a_sum(naive, stable):
    got = once(naive, SIGMOID)
    assert got == stable
    with mpmath.workdps(1400):
        names = numbers(300)
        outputs = [value(sigmoid(z[k]), names, {k: place}) for place in range(3)]
        assert_same(naive, got, names | {"a": lambda n: outputs[n]})


def test_the_gradient_by_the_net_input_is_output_minus_target():
    loss = once(-(u * log(b) + (1 - u) * log(1 - b)), SCALAR)
    assert loss.diff(y) == sigmoid(y) - u


SOFTMAX = Equation(p[m], exp(z[m]) / Sum(exp(z[k]), k))


@pytest.mark.parametrize(
    ("naive", "stable"),
    [
        (-Sum(t[k] * log(p[k]), k), -Sum(t[k] * log_softmax(z[k], k), k)),
        (-log(p[T]), -log_softmax(z[m], m, T)),
        (-log(p[2]), -log_softmax(z[m], m, Integer(2))),
        (log(p[k] ** 2), 2 * log_softmax(z[k], k)),
        (log(p[k] * p[0]), log_softmax(z[k], k) + log_softmax(z[m], m, Integer(0))),
    ],
    ids=str,
)
def test_cross_entropy_by_name(naive, stable):
    assert once(naive, SOFTMAX) == stable


def test_names_with_other_subscripts():
    rows = Equation(p[s, k], softmax(A[s, k], k))
    assert once(log(p[i, m]), rows) == log_softmax(A[i, m], m)
    columns = Equation(p[k, s], softmax(A[s, k], k))
    assert once(log(p[m, i]), columns) == log_softmax(A[i, m], m)
    # the row is called like the bound index: it must not be captured
    square = Equation(p[k, m], softmax(A[k, m], m))
    got = once(log(p[m, k]), square)
    assert got == log_softmax(A[m, k], k)
    turned = once(log(p[m, m]), square)
    assert not turned.atoms(Dummy)
    names = {"A": lambda r, n: mpmath.mpf(r * r - n)}
    for place in range(3):
        row = [mpmath.exp(names["A"](place, n)) for n in range(3)]
        expected = mpmath.log(row[place] / sum(row))
        assert abs(value(turned, names, {m: place}) - expected) < 1e-12


def test_exponentials_with_names_of_their_own():
    exponentials = Equation(e[m], exp(z[m])), Equation(S, Sum(e[k], k))
    assert once(e[k] / S, *exponentials) == softmax(z[k], k)
    assert once(log(S), *exponentials) == logsumexp(z[k], k)
    shares = Equation(p[k], e[k] / S)
    assert once(log(p[k]), *exponentials, shares) == log_softmax(z[k], k)
    shifted = Equation(e[m], exp(z[m] - u)), Equation(S, Sum(e[k], k))
    # two values are read: looked through when the argument of exp has a name
    assert once(e[k] / S, *shifted) == e[k] / S


def test_scalar_softmax_with_names():
    names = [Symbol(f"e{n}", real=True) for n in range(3)]
    parts = [Equation(name, exp(at)) for name, at in zip(names, (u, v, y), strict=True)]
    total = Equation(S, Add(*names))
    got = once(names[0] / S, *parts, total)
    assert got.func == sigmoid
    for scale in SCALES:
        assert_same(exp(u) / (exp(u) + exp(v) + exp(y)), got, numbers(scale))


def test_names_of_names():
    again = Equation(v, b), Equation(u, 1 - v)
    assert once(log(v), SCALAR, *again) == -softplus(-y)
    assert once(log(u), SCALAR, *again) == -softplus(y)


@pytest.mark.parametrize(
    "definition",
    [
        Equation(b, tanh(y)),
        Equation(b, 2 * sigmoid(y)),
        Equation(b, sigmoid(y) - u),
        Equation(b, Sum(softmax(z[k], k) * x[1], k)),
    ],
    ids=str,
)
def test_other_definitions_are_not_looked_through(definition):
    assert once(log(b), definition) == log(b)


def test_a_definition_further_down_is_not_known_yet():
    equations = Equation(L, log(b)), Equation(b, sigmoid(y))
    assert stabilize(equations) == (equations, ())


# With flatten: net inputs get a name, so that looking through repeats no work


def whole(net):
    equations, first = stabilize(net.equations)
    equations, second = stabilize(flatten(equations, net.names))
    assert stabilize(equations) == (equations, ())
    return {equation.name: equation.rhs for equation in equations}, first + second


def test_sigmoid_of_a_sum():
    net = Network()
    n, j = net.index("n", 5), net.index("j", 3)
    W, x, b, t = net.parameter("W", n, j), net.input("x", n), net.parameter("b", j), None
    t = net.target("t", j)
    a = net.define("a", 1 / (1 + exp(-Sum(W[n, j] * x[n], n) - b[j])), j)
    net.loss(-Sum(t[j] * log(a[j]) + (1 - t[j]) * log(1 - a[j]), j))
    equations, rewrites = whole(net)
    net_a = IndexedBase("net_a", real=True)
    assert equations["a"] == sigmoid(net_a[j])
    assert equations["L"] == Sum(softplus(net_a[j]) - t[j] * net_a[j], j)
    assert [rewrite.equation for rewrite in rewrites] == ["a", "L", "L", "L"]
    assert "log1p" not in str(rewrites)


def test_softmax_of_shifted_exponentials():
    net = Network()
    j = net.index("j", 3)
    z, t = net.input("z", j), net.target("t", j)
    largest = net.define("largest", z[0])
    powers = net.define("powers", exp(z[j] - largest), j)
    total = net.define("total", Sum(powers[j], j))
    p = net.define("p", powers[j] / total, j)
    net.loss(-Sum(t[j] * log(p[j]), j))
    equations, _ = whole(net)
    inner = IndexedBase("net_powers", real=True)
    assert equations["p"] == softmax(inner[j], j)
    assert equations["L"].has(log_softmax)
    assert not equations["L"].has(log)


def test_scalar_network():
    net = Network()
    x1, x2, target = net.input("x1"), net.input("x2"), net.target("target")
    w1, w2 = net.parameter("w1"), net.parameter("w2")
    o = net.output("o", 1 / (1 + exp(-(w1 * x1 + w2 * x2))))
    net.loss(-target * log(o) - (1 - target) * log(1 - o))
    equations, _ = whole(net)
    net_o = Symbol("net_o", real=True)
    assert equations["o"] == sigmoid(net_o)
    assert equations["L"] == softplus(net_o) - target * net_o


# Reports


def test_a_rewrite_is_reported_as_it_was_written():
    naive = log(1 / (1 + exp(-y)))
    _, (rewrite,) = stabilize((Equation(L, naive + u),))
    assert (rewrite.equation, rewrite.before, rewrite.after) == ("L", naive, -softplus(-y))
    assert str(rewrite).startswith("L: log(1/(1 + exp(-y))) -> -softplus(-y) (")


def test_only_the_part_is_reported():
    _, rewrites = stabilize((Equation(L, 3 * u * exp(y) / (1 + exp(y)) + v),))
    assert [(r.before, r.after) for r in rewrites] == [(exp(y) / (1 + exp(y)), sigmoid(y))]


def test_a_rewrite_is_reported_once_per_equation():
    square = 1 / (1 + exp(-y)) + u / (1 + exp(-y))
    _, rewrites = stabilize((Equation(b, square), Equation(L, 1 / (1 + exp(-y)))))
    assert [rewrite.equation for rewrite in rewrites] == ["b", "L"]


def test_every_kind_has_its_reason():
    reasons = {r.reason for naive, _ in FORMS for r in stabilize((Equation(L, naive),))[1]}
    assert len(reasons) >= 11
    assert any("relu'(0) = 0" in reason for reason in reasons)


def test_left_sides_and_accumulation_are_kept():
    scatter = Equation(x[i], log(1 + exp(z[k])), accumulate=True)
    (got,), _ = stabilize((scatter,))
    assert got == Equation(x[i], softplus(z[k]), accumulate=True)


# Random compositions


def leaves():
    return st.sampled_from([y, u, v, z[k], 2 * y, -u, y - v, sympify(HALF)])


def naive_forms(children):
    def two(build):
        return st.builds(build, children, children)

    def one(build):
        return st.builds(build, children)

    return st.one_of(
        one(lambda w: 1 / (1 + exp(-w))),
        one(lambda w: exp(w) / (1 + exp(w))),
        one(lambda w: log(1 + exp(w))),
        one(lambda w: log(1 - sigmoid(w))),
        one(lambda w: (exp(w) - exp(-w)) / (exp(w) + exp(-w))),
        one(lambda w: exp(w) - 1),
        one(lambda w: Max(w, 0)),
        one(lambda w: log(1 + w**2)),
        one(lambda w: log(Sum(exp(z[m] + w), m))),
        one(lambda w: exp(z[k] * w) / Sum(exp(z[m] * w), m)),
        two(lambda w, r: log(exp(w) + exp(r))),
        two(lambda w, r: exp(w) / (exp(w) + exp(r))),
        two(lambda w, r: w * log(sigmoid(r)) + (1 - w) * log(1 - sigmoid(r))),
        two(Add),
        two(Mul),
    )


@settings(max_examples=60, deadline=None)
@given(st.recursive(leaves(), naive_forms, max_leaves=4))
def test_compositions_keep_their_value(expression):
    got = once(expression)
    names = {"y": mpmath.mpf("0.3"), "u": mpmath.mpf("-1.2"), "v": mpmath.mpf("0.9")}
    names["z"] = lambda n: mpmath.mpf([1, "-0.4", "0.2"][n])
    with mpmath.workdps(60):
        before, after = value(expression, names, PLACES), value(got, names, PLACES)
        assert abs(before - after) <= mpmath.mpf(10) ** -40 * (1 + abs(before))


# Time


def test_a_usual_network_takes_milliseconds():
    net = Network()
    last, width = net.input("x"), 30
    for n in range(width):
        last = net.define(f"h{n}", 1 / (1 + exp(-last * net.parameter(f"w{n}"))))
    net.loss(-log(last) - log(1 - last))
    stabilize(net.equations)
    start = time.perf_counter()
    stabilize(net.equations)
    assert time.perf_counter() - start < 0.5  # measured: 0.03 s


def test_depth_costs_no_more_than_it_must():
    """Each value is the sum of the two before it: looking through must not branch."""
    names = [Symbol(f"f{n}", real=True) for n in range(30)]
    equations = [Equation(names[0], exp(y)), Equation(names[1], exp(u))]
    equations += [Equation(names[n], names[n - 1] + names[n - 2]) for n in range(2, 12)]
    equations += [Equation(names[n], names[n - 1] * names[n - 2]) for n in range(12, 30)]
    start = time.perf_counter()
    stabilize((*equations, Equation(L, log(names[-1]))))
    assert time.perf_counter() - start < 5


# In floating point

PLAIN = {
    name: getattr(math, name, function)  # of math where it is, which raises an OverflowError
    for name, function in scalar_functions("float64").items()
}


def computed(expression, names):
    """Evaluate in float64 as a kernel would."""
    return sympy.lambdify((y, u, v), expression, [PLAIN, "math"])(*names)


POINTS = [(1e4, -9e3, 2.0), (-1e4, 30.0, -1e4), (0.25, -0.5, 0.125), (1e4, 1e4 + 1, -3.0)]
SCALAR_FORMS = [form for form, _ in FORMS if form.free_symbols <= {y, u, v}]


@pytest.mark.parametrize("naive", SCALAR_FORMS, ids=str)
def test_no_overflow_at_ten_thousand(naive):
    """Values and slopes: all but those that contain an exp of their own."""
    stable = once(naive)
    for point in () if stable.has(exp) else POINTS:
        names = dict(zip("yuv", map(mpmath.mpf, point), strict=True))
        with mpmath.workdps(60):  # an identity, as shown above; here at moderate expense
            expected = value(stable, names)
        if abs(expected) < 1e300:
            # terms such as 2*y and -y of log(cosh(y)) cancel: an error of some 1e4*2^-53
            assert abs(computed(stable, point) - expected) <= 1e-11 * (1 + abs(expected))
            assert all(math.isfinite(computed(stable.diff(symbol), point)) for symbol in (y, u))


def test_naive_forms_do_overflow():
    """The control: without the rewrites, math.exp raises or the result is wrong."""
    with pytest.raises(OverflowError):
        computed(log(1 + exp(y)), POINTS[0])
    with pytest.raises(OverflowError):
        computed((1 / (1 + exp(-y))).diff(y), POINTS[1])
