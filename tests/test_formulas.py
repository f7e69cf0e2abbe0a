"""Formulas read as a person writes them, in text and in LaTeX."""

from __future__ import annotations

import pytest
import sympy
from sympy import Idx, IndexedBase, Piecewise, Rational, Sum, Symbol, sqrt, tanh

from symprop.formulas import latex, text
from symprop.functions import log_softmax, logsumexp, sigmoid, softmax
from symprop.network import Equation

i, j, k = Idx("i", 3), Idx("j", 2), Idx("k", 2)
W, x, b, h, t, p = (IndexedBase(name, real=True) for name in ("W", "x", "b", "h", "t", "p"))
dh, dz = IndexedBase("dL/dh", real=True), IndexedBase("dL/dz", real=True)
a, c = Symbol("a", real=True), Symbol("c", real=True)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (b[j] + Sum(W[i, j] * x[i], i), "Sum(W[i,j]*x[i], i) + b[j]"),
        (-t[k] + p[k], "p[k] - t[k]"),
        (-a - c, "-a - c"),
        (1 - h[j] ** 2, "1 - h[j]**2"),
        (a + 1, "a + 1"),
        (dh[j] * (1 - h[j] ** 2), "dL/dh[j]*(1 - h[j]**2)"),
        (h[j] * dz[k], "h[j]*dL/dz[k]"),
        (a / c, "a/c"),
        (a / (2 * c), "a/(2*c)"),
        (-a / 2, "-a/2"),
        (3 * a / 2, "3*a/2"),
        (1 / a, "1/a"),
        (1 / (a + c), "1/(a + c)"),
        (1 / (a * c), "1/(a*c)"),
        (a**-2, "1/a**2"),
        (1 / sqrt(a), "1/sqrt(a)"),
        ((a + c) ** 2, "(a + c)**2"),
        (a**c, "a**c"),
        ((-a) ** 3, "-a**3"),
        (2.5 * a, "2.5*a"),
        (a - (c - 1), "a - c + 1"),
        (Rational(1, 3) * Sum(x[i], i), "Sum(x[i], i)/3"),
        (tanh(a) * a, "a*tanh(a)"),
        (softmax(x[k], k), "softmax(x[k], k)"),
        (softmax(x[k], k, 0), "softmax(x[k], k)[0]"),
        (log_softmax(x[k], k, j), "log_softmax(x[k], k)[j]"),
        (logsumexp(x[k], k), "logsumexp(x[k], k)"),
        (Piecewise((a, a > 0), (0, True)), "(a where a > 0)"),
        (Piecewise((a, a > 0), (c, True)), "{a if a > 0, c otherwise}"),
        (sympy.Max(a, 0), "max(0, a)"),
        (sympy.Abs(a), "abs(a)"),
        (sympy.pi * a, "pi*a"),
    ],
)
def test_text(expression: sympy.Expr, expected: str) -> None:
    assert text(expression) == expected


def test_text_is_what_it_says() -> None:
    """Read back as Python, the text of an expression has the expression's value."""
    names = {"a": a, "c": c, "sqrt": sqrt, "tanh": tanh}
    for expression in (
        -a / (2 * c) + (a + c) ** -2 - 3 * (1 - a) * c,
        a / c / (a + 1),
        (-a) ** 2 / c**3,
        -(a**2),
        sqrt(a) / tanh(c) ** 2,
        2 ** (a - c),
        a - 2 * (c - a * (c + 1)),
    ):
        assert sympy.simplify(eval(text(expression), names) - expression) == 0


def test_an_interval_prints_as_one() -> None:
    expression = Piecewise((a, sympy.And(i + j >= 1, i + j <= 3)), (0, True))
    assert text(expression) == "(a where 1 <= i + j <= 3)"


def test_scatter_says_that_it_adds() -> None:
    assert text(Equation(dh[i + j], a, accumulate=True)) == "dL/dh[i + j] += a"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Symbol("w12"), "w_{12}"),
        (Symbol("net_h"), r"\mathit{net}_{h}"),
        (Symbol("dE/dw1"), r"\frac{\partial E}{\partial w_{1}}"),
        (dz[k], r"\frac{\partial L}{\partial z_{k}}"),
        (IndexedBase("W1")[i, j], "W_{1,i j}"),
        (Sum(x[i] * h[i], i), r"\sum_{i} h_{i} x_{i}"),
        (softmax(x[k], k), r"\operatorname{softmax}_{k}\left(x_{k}\right)_{k}"),
        (sigmoid(a), r"\operatorname{sigmoid}{\left(a \right)}"),
    ],
)
def test_latex(expression: sympy.Expr, expected: str) -> None:
    assert latex(expression) == expected
