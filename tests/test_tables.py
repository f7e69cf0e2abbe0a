"""Functions of indices alone: tables in the kernels, made when a module is imported."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
import zoo
from numpy.typing import NDArray
from sympy import Abs, Expr, Idx, Max, Piecewise, Sum, cos, erf, exp, floor, sqrt

import symprop
from symprop import Network
from symprop.derivation import differentiate
from symprop.equation import Equation
from symprop.explain.kernels import as_data, listing
from symprop.functions import sigmoid
from symprop.loader import load
from symprop.lower import lower
from symprop.lower.program import nested
from symprop.lower.steps import Contract, element, name_of
from symprop.lower.tables import ROOM, tabulated
from symprop.options import Options
from symprop.render import render

n, m, k = Idx("n", 6), Idx("m", 4), Idx("k", 6)
long = Idx("long", ROOM + 1)
x, y = element("x", (n,)), element("y", (m,))


def read(value: Expr) -> tuple[Expr, dict[str, Expr]]:
    """Return the right side of an equation with tables in it, and the tables."""
    (equation,), tables = tabulated([Equation(y, value)], {"y", "x"})
    return equation.rhs, {table.name: table.value for table in tables}


@pytest.mark.parametrize(
    ("value", "expected", "table"),
    [
        (Sum(cos(n * m) * x, n), Sum(element("table_y", (m, n)) * x, n), cos(n * m)),
        (Sum(2 * cos(n) * sqrt(m) * x, n), Sum(2 * element("table_y", (m, n)) * x, n),
         cos(n) * sqrt(m)),
        (y + m + exp(-m), y + element("table_y", (m,)), m + exp(-m)),
        (y / (m + 1), y * element("table_y", (m,)), 1 / (m + 1)),
        (Piecewise((exp(m) * y, m < 2), (0, True)),
         Piecewise((element("table_y", (m,)) * y, m < 2), (0, True)), exp(m)),
        (exp(y * cos(m)), exp(y * element("table_y", (m,))), cos(m)),
    ],
)  # fmt: skip
def test_a_function_of_indices_is_a_table(value: Expr, expected: Expr, table: Expr) -> None:
    assert read(value) == (expected, {"table_y": table})


@pytest.mark.parametrize(
    "value",
    [
        y * cos(y * m),  # of data
        m * y + (2 * m + 1) ** 2,  # sums and products: no work
        Sum(x / (n - 3), n),  # infinite somewhere
        Sum(x * sqrt(n - 3), n),  # no number
        y * exp(1000 * m),  # too large
        Sum(cos(n) * x, n) * Sum(cos(long), long),  # a sum, and too long
        y * sigmoid(m),  # no function that Python has
        y * cos(1),  # a number
    ],
)
def test_all_else_stays(value: Expr) -> None:
    found, tables = read(value)
    left = {f for f in value.atoms(sympy.Function) if f != cos(n)}
    assert left <= found.atoms(sympy.Function)
    assert set(tables.values()) <= {cos(n)}
    if not value.has(cos(n)):
        assert found == value


def test_equal_tables_are_one() -> None:
    equations = [
        Equation(element("y", (m,)), Sum(cos(n * m) * x, n)),
        Equation(element("z", (n,)), Sum(cos(n * m) * y, m)),
        Equation(element("u", (k,)), Sum(cos(k * m) * y, m)),
        Equation(element("v", (n,)), Sum(cos(n * k) * element("x", (k,)), k)),
    ]
    done, tables = tabulated(equations, {"table_v"})
    assert [table.shape for table in tables] == [(4, 6), (6, 6)]
    assert [table.name for table in tables] == ["table_y", "table_v2"]
    assert done[1].rhs == Sum(element("table_y", (m, n)) * y, m)
    assert done[2].rhs == Sum(element("table_y", (m, k)) * y, m)


def transform() -> Network:
    """A cosine transform, a weight for each frequency, and the transform back."""
    net = Network("transform")
    a, f = net.index("a", 48), net.index("f", 16)
    u, t = net.input("u", a), net.target("t", a)
    w = net.parameter("w", f, init=1)
    wave = cos(sympy.pi * f * (2 * a + 1) / 96)
    U = net.define("U", Sum(wave * u[a], a) / 24, f)
    h = net.define("h", w[f] * U[f], f)
    v = net.output("v", Sum(wave * h[f], f), a)
    net.loss(Sum((v[a] - t[a]) ** 2, a))
    return net


def waves() -> NDArray[np.float64]:
    return np.array(
        [[math.cos(math.pi * f * (2 * a + 1) / 96) for f in range(16)] for a in range(48)]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["lanes", "rows"])
def test_sums_with_a_table_are_products(layout: str, dtype: str) -> None:
    derivation = differentiate(transform())
    program = lower(derivation, dtype, layout=layout)  # type: ignore[arg-type]
    (table,) = program.tables
    found = [s for s in nested(program.gradient.body) if isinstance(s, Contract)]
    assert sum(table.name in map(name_of, s.read) for s in found) == 3  # there, back, and adjoint
    module = load(render(derivation, program, Options(dtype)), "transform", jit=False)  # type: ignore[arg-type]
    values = getattr(module, table.name)
    assert values.dtype == dtype
    assert values.shape == table.shape
    values = values if table.shape == (48, 16) else values.T
    # arguments are below 50 and rounded four times: 50*4 units of 2**-53; the table once more
    bound = 200 * 2.0**-53 + np.finfo(dtype).eps / 2
    np.testing.assert_allclose(values, waves(), rtol=0, atol=bound)


def test_values_are_those_of_python() -> None:
    """Of functions that NumPy has not, of choices, and whatever the indices are called."""
    net = Network("values")
    m, table = net.index("m", 4), net.index("table", 4)
    a, b, t = net.input("a", m), net.input("b", table), net.target("t")
    values = (
        erf(m) / (m + 1), Max(cos(m), sympy.Rational(1, 3)), sqrt(Abs(m - 2)) * floor(m / 2),
        Piecewise((exp(-m), m < 2), (5, True)),
    )  # fmt: skip
    parts = [net.define(f"y{n}", value * a[m], m)[m] for n, value in enumerate(values)]
    last = net.output("z", Sum(sqrt(table) * b[table], table) + Sum(sum(parts), m))
    net.loss((last - t) ** 2)
    derivation = differentiate(net)
    program = lower(derivation, layout="lanes")
    module = load(render(derivation, program, Options()), "values", jit=False)
    found = {str(each.value): getattr(module, each.name).tolist() for each in program.tables}
    expected = {str(v): [float(v.subs(m, n)) for n in range(4)] for v in values}
    expected[str(sqrt(table))] = [n**0.5 for n in range(4)]
    assert found.keys() == expected.keys()
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, rtol=4 * 2.0**-53)


def test_the_kernels_are_right() -> None:
    report = symprop.verify(transform(), dtype="float32", points=("moderate",), steps=2)
    assert report.ok, str(report)


def test_scalars_have_no_tables() -> None:
    derivation = differentiate(zoo.ZOO["masks"]())
    assert lower(derivation).tables
    assert not lower(derivation, layout="scalars").tables


def test_the_listing_shows_tables() -> None:
    program = lower(differentiate(transform()))
    (table,) = program.tables
    line = f"table  {table.name}, 48 x 16: cos(pi*f*(2*a + 1)/96)"
    assert line in listing(program).splitlines()
    (data,) = as_data(program)["tables"]
    assert data == {"name": table.name, "shape": [48, 16], "value": "cos(pi*f*(2*a + 1)/96)"}
