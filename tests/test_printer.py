"""Expressions to Python text: readable, minimal, and of one floating-point type."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from sympy import (
    Abs,
    Add,
    And,
    Eq,
    Float,
    Idx,
    IndexedBase,
    Max,
    Min,
    Mul,
    Not,
    Or,
    Piecewise,
    Pow,
    Rational,
    Symbol,
    exp,
    log,
    pi,
    sqrt,
    symbols,
    tanh,
)

from symprop.errors import LoweringError
from symprop.functions import leaky_relu, sigmoid, step
from symprop.printer import Printer
from symprop.scalar import functions as scalar_functions

a, b, c, h, p, t = symbols("a b c h p t", real=True)
i, j = Idx("i", 5), Idx("j", 5)
x, W, token = (IndexedBase(name, real=True) for name in ("x", "W", "token"))

TEXTS = [
    (1 - h**2, "1 - h * h"),
    (p - t, "p - t"),
    (-a * b, "-a * b"),
    (a - b * c, "a - b * c"),
    (Add(a, Mul(-1, b + c, evaluate=False), evaluate=False), "a - (b + c)"),
    (a * (b + c), "a * (b + c)"),
    (a / b, "a / b"),
    (a / (b * c), "a / (b * c)"),
    (1 / a, "1 / a"),
    (a * b / c, "a * b / c"),
    (-a / b, "-a / b"),
    (a / 2, "a / 2"),
    (2 * a / 3, "2 * a / 3"),
    ((a - b) ** 2, "(a - b) ** 2.0"),
    (a**3, "a**3"),
    (a**-2, "1 / (a * a)"),
    (1 / (a + b) ** 2, "1 / (a + b) ** 2.0"),
    (sqrt(a), "math.sqrt(a)"),
    (1 / sqrt(a + 1), "1 / math.sqrt(a + 1)"),
    (a ** Rational(3, 2), "a**1.5"),
    (a**b, "a**b"),
    ((a + b) ** (a - b), "(a + b) ** (a - b)"),
    (exp(-a), "exp(-a)"),
    (sqrt(5) * a / 5, "0.4472135954999579 * a"),
    (a * pi, "3.141592653589793 * a"),
    (Float("0.1") * a, "0.1 * a"),
    (tanh(a) * b, "b * tanh(a)"),
    (sigmoid(a) + step(b), "sigmoid(a) + step(b)"),
    (leaky_relu(a), "leaky_relu(a, 0.01)"),
    (Max(a, 0), "maximum(a, 0.0)"),
    (Min(a, b, c), "minimum(a, minimum(b, c))"),
    (Abs(a - b), "abs(a - b)"),
    (sympy.floor(a), "real(math.floor(a))"),
    (sympy.sec(a), "1 / cos(a)"),
    (sympy.atan2(a, b), "math.atan2(a, b)"),
    (sympy.loggamma(a), "math.lgamma(a)"),
    (x[i + 1] * W[2 * i - 1, j], "W[2 * i - 1, j] * x[i + 1]"),
    (a * i, "a * real(i)"),
    (W[token[i], j], "W[token[i], j]"),
    (a + token[i], "a + real(token[i])"),
    (Piecewise((a, a > 0), (0, True)), "a if a > 0.0 else 0.0"),
    (1 + Piecewise((a, a > 0), (b, True)), "(a if a > 0.0 else b) + 1"),
    (
        Piecewise((x[i - 1], And(i >= 1, i < 4)), (0, True)),
        "x[i - 1] if i >= 1 and i < 4 else 0.0",
    ),
    (
        Piecewise((1, a > 1), (2, a > 0), (3, True)),
        "1.0 if a > 1.0 else 2.0 if a > 0.0 else 3.0",
    ),
]


@pytest.mark.parametrize(("expression", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_text(expression: sympy.Expr, text: str) -> None:
    printer = Printer(integers=frozenset({"token"}))
    with sympy.core.parameters.distribute(False):
        assert printer.expression(expression) == text


NAMES = {"math": math, "real": float, **scalar_functions("float64")}
POINTS = [
    {"a": 0.7, "b": 1.3, "c": -0.4, "h": 0.2, "p": 0.9, "t": 0.1},
    {"a": 2.1, "b": 0.3, "c": 1.4, "h": -0.7, "p": 0.2, "t": 1.0},
]


@pytest.mark.parametrize(("expression", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_text_has_the_value_of_the_expression(expression: sympy.Expr, text: str) -> None:
    """The text, evaluated by Python, against SymPy's own evaluation."""
    if expression.has(IndexedBase, Idx):
        pytest.skip("reads tensors")
    for point in POINTS:
        values = {Symbol(name, real=True): value for name, value in point.items()}
        meaning = expression.replace(
            lambda node: hasattr(node, "definition"), lambda node: node.definition()
        )
        wanted = float(meaning.subs(values).evalf())
        assert eval(text, NAMES, dict(point)) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (1 - h**2, "real(1) - h * h"),
        (a / 2, "a / real(2)"),
        (a ** Rational(3, 2), "a ** real(1.5)"),
        (a**3, "a**3"),
        ((a - b) ** 2, "(a - b) ** real(2)"),
        (Rational(1, 3), "real(0.3333333333333333)"),
        (Piecewise((1, a > 0), (0, True)), "real(1) if a > real(0) else real(0)"),
    ],
)
def test_float32_literals_are_converted(expression: sympy.Expr, text: str) -> None:
    """A bare literal would make Numba compute in float64; an integer exponent does not."""
    assert Printer("float32").expression(expression) == text


def test_constants_are_floats() -> None:
    printer = Printer()
    assert printer.expression(sympy.Integer(0)) == "0.0"
    assert printer.expression(Rational(1, 4)) == "0.25"
    assert printer.expression(-sympy.oo) == "-math.inf"


def test_conditions() -> None:
    printer = Printer(integers=frozenset({"token"}))
    assert printer.condition(Or(And(a > 0, b > 0), Not(Eq(c, 0)))) == (
        "(a > 0.0 and b > 0.0) or c != 0.0"
    )
    assert printer.condition(And(Or(a > 0, b > 0), c > 0)) == "(a > 0.0 or b > 0.0) and c > 0.0"
    assert printer.condition(Eq(token[i], 3)) == "token[i] == 3"
    assert printer.condition(sympy.true) == "True"


def test_identifiers_replace_the_names_of_formulas() -> None:
    adjoint = IndexedBase("dL/dz", real=True)
    printer = Printer(identifiers={"dL/dz": "d_z"})
    assert printer.expression(adjoint[i] * a) == "a * d_z[i]"


@pytest.mark.parametrize(
    ("expression", "match"),
    [
        (sympy.zeta(a), "function zeta: no kernel can compute zeta"),
        (sympy.Function("f")(a), "function f: no kernel can compute f"),
        (sympy.Integral(a, a), "Integral: no kernel can compute"),
        (Piecewise((a, a > 0)), "no branch holds otherwise"),
        (x[i / 2], "expected sums and products of indices"),
    ],
)
def test_what_cannot_be_computed_is_refused(expression: sympy.Expr, match: str) -> None:
    with pytest.raises(LoweringError, match=match):
        Printer().expression(expression)


def test_powers_of_constants_are_evaluated() -> None:
    assert eval(Printer().expression(Pow(2, a)), {}, {"a": 3.0}) == 8.0
    assert np.float64(Printer().expression(exp(1) * log(2))) == pytest.approx(math.e * math.log(2))
