"""The oracle: values against SymPy's own evaluation, bounds against real rounding errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy
from numpy.testing import assert_allclose
from simulated import BITS, precision
from sympy import Eq, Idx, IndexedBase, Piecewise, Sum, Symbol
from zoo import ZOO

from symprop import functions
from symprop.errors import VerificationError
from symprop.network import Equation, Network
from symprop.verification.differences import directional_derivatives, symbolic_gradient
from symprop.verification.oracle import Evaluation, evaluate, known
from symprop.verification.precise import MP, Value, arithmetic, exact_sum, mpf_array
from symprop.verification.slopes import RULES, STEPS

x, y, z, w = (Symbol(name, real=True) for name in "xyzw")
i, j, k = Idx("i", 4), Idx("j", 3), Idx("k", 4)
A, B, u, v = (IndexedBase(name, real=True) for name in "ABuv")
EPS = 2.0**-52


def value(expression: Any, dtype: str = "float64", **arrays: Any) -> Value:
    """Evaluate an expression without free indices, for one sample or a batch."""
    return result(expression, dtype, **arrays).values["out"]


def result(expression: Any, dtype: str = "float64", **arrays: Any) -> Evaluation:
    equation = Equation(Symbol("out"), sympy.sympify(expression))
    return evaluate([equation], known(arrays, dtype), dtype=dtype)


def tensor(expression: Any, *indices: Idx, **arrays: Any) -> np.ndarray:
    equation = Equation(IndexedBase("out")[indices], expression)
    return evaluate([equation], known(arrays)).values["out"].approximate[0]


# functions


def sympy_function(name: str) -> Any:
    if hasattr(functions, name):
        return getattr(functions, name)
    return getattr(sympy, name, None) or getattr(sympy.codegen.cfunctions, name)


ARGUMENTS = {"acosh": (1.5, 3.0), "acoth": (1.5, 3.0), "asin": (-0.5, 0.7), "acos": (-0.5, 0.7),
             "atanh": (-0.5, 0.7), "log": (0.3, 4.0), "log2": (0.3, 4.0), "log10": (0.3, 4.0),
             "Sqrt": (0.3, 4.0), "Cbrt": (0.3, 4.0), "gamma": (0.7, 3.5), "loggamma": (0.7, 3.5),
             "digamma": (0.7, 3.5), "log1p": (-0.5, 3.0)}  # fmt: skip
UNARY = [name for name, rule in RULES.items() if len(rule.slopes) == 1]


@pytest.mark.parametrize("name", UNARY)
def test_a_function_is_sympys(name: str) -> None:
    for point in ARGUMENTS.get(name, (-1.3, 0.4)):
        node = sympy_function(name)(x)
        exact = node.definition() if isinstance(node, functions.Elementwise) else node
        number = sympy.N(sympy.expand_func(exact).subs(x, sympy.Float(point, 70)), 60)
        expected = MP.make_mpf(sympy.Float(number, 60)._mpf_)
        got = RULES[name].exact(mpf_array(np.array([point])))[0]
        assert abs(got - expected) < 1e-55


@pytest.mark.parametrize("name", [n for n in UNARY if n not in ("sinc",)])
def test_a_slope_is_the_derivative(name: str) -> None:
    rule = RULES[name]
    for point in ARGUMENTS.get(name, (-1.3, 0.4)):
        step = MP.mpf(10) ** -20
        ends = [rule.exact(np.array([MP.mpf(point) + s * step], object))[0] for s in (1, -1)]
        slope = abs((ends[0] - ends[1]) / (2 * step))
        assert_allclose(np.abs(rule.slopes[0](np.array([point]))), float(slope), rtol=1e-12)


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "atan2", "hypot"])
def test_a_slope_of_two_arguments_is_the_derivative(name: str) -> None:
    rule, step = RULES[name], MP.mpf(10) ** -20
    for point in ((-1.3, 0.4), (0.7, 0.2)):
        for place in range(2):
            moved = [
                [MP.mpf(p) + sign * step * (n == place) for n, p in enumerate(point)]
                for sign in (1, -1)
            ]
            ends = [rule.exact(*(np.array([p], object) for p in at))[0] for at in moved]
            slope = abs((ends[0] - ends[1]) / (2 * step))
            got = rule.slopes[place](*(np.array([p]) for p in point))
            assert_allclose(np.abs(got), float(slope), rtol=1e-12)


def test_functions_hold_at_extreme_arguments() -> None:
    far = np.array([-1e4, -745.0, 0.0, 745.0, 1e4])
    for name in ("sigmoid", "softplus", "gelu", "silu", "tanh", "normal_cdf", "relu"):
        found = value(sympy_function(name)(x), x=far)
        assert np.isfinite(found.approximate).all()
        assert np.isfinite(found.error).all()
    assert value(functions.softplus(x), x=[-1e4]).exact[0] > 0
    assert value(sympy.exp(sympy.exp(sympy.exp(x))), x=[100.0]).approximate[0] == np.inf


def test_an_unknown_function_is_named() -> None:
    with pytest.raises(VerificationError, match=r"'out'.*no rule for 'zeta'.*known functions"):
        value(sympy.zeta(x), x=[2.0])


def test_an_undefined_name_is_named() -> None:
    with pytest.raises(VerificationError, match=r"'out' reads 'x', which no equation above"):
        value(x + 1)


def test_an_undecidable_condition_is_named() -> None:
    with pytest.raises(VerificationError, match="cannot decide the condition"):
        value(Piecewise((1, sympy.Xor(x > 0, y > 0, evaluate=False)), (0, True)), x=[1.0], y=[1.0])


# indices


def test_sums_nest_and_repeat() -> None:
    numbers = np.arange(12.0).reshape(1, 4, 3)
    assert tensor(Sum(A[i, j], (i, 0, 3)), j, A=numbers).tolist() == [18.0, 22.0, 26.0]
    assert value(Sum(A[i, j] ** 2, (i, 0, 3), (j, 0, 2)), A=numbers).approximate[0] == 506.0
    assert value(Sum(x, (i, 0, 3), (j, 0, 2)), x=[2.0]).approximate[0] == 24.0
    square = Sum(u[i] * Sum(u[i], (i, 0, 3)), (i, 0, 3))
    assert value(square, u=np.arange(4.0)[None]).approximate[0] == 36.0


def test_an_inner_sum_hides_the_outer_index() -> None:
    numbers = np.arange(4.0)[None]
    assert tensor(u[i] + Sum(u[i], (i, 0, 3)), i, u=numbers).tolist() == [6.0, 7.0, 8.0, 9.0]
    expected = np.exp(np.arange(4)) / np.exp(np.arange(4)).sum()
    assert_allclose(tensor(functions.softmax(u[i], i), i, u=numbers), expected)
    assert_allclose(tensor(functions.softmax(u[i], i, 3 - k), k, u=numbers), expected[::-1])


def test_an_index_is_a_number() -> None:
    numbers = np.ones((1, 4))
    assert tensor(i * u[i] + Sum(k, (k, 0, 3)), i, u=numbers).tolist() == [6.0, 7.0, 8.0, 9.0]


def test_reads_are_affine_and_guarded() -> None:
    numbers = np.arange(1.0, 5.0)[None]
    shifted = Piecewise((u[i + 1], i < 3), (0, True))
    assert tensor(shifted, i, u=numbers).tolist() == [2.0, 3.0, 4.0, 0.0]
    assert np.isnan(tensor(u[i + 1], i, u=numbers)).tolist() == [False, False, False, True]


def test_a_remainder_of_indices_is_a_subscript_and_a_number() -> None:
    numbers = np.arange(1.0, 5.0)[None]
    assert tensor(u[sympy.Mod(i - 1, 4)], i, u=numbers).tolist() == [4.0, 1.0, 2.0, 3.0]
    assert tensor(sympy.Mod(i - 3, 3) * u[i], i, u=numbers).tolist() == [0.0, 2.0, 6.0, 0.0]
    with pytest.raises(VerificationError, match="no rule for 'Mod'"):
        value(sympy.Mod(x, 1), x=[2.5])


def test_data_may_be_a_subscript() -> None:
    table = np.arange(12.0).reshape(1, 4, 3)
    rows = tensor(A[v[k], j], k, j, A=table, v=np.array([[2, 0, 3, 2]]))
    assert rows[:, 0].tolist() == [6.0, 0.0, 9.0, 6.0]
    assert np.isnan(tensor(A[v[k], 0], k, A=table, v=np.array([[0.5, 0, 4, -1]]))).sum() == 3


def test_scatters_add_where_the_subscripts_point() -> None:
    base = IndexedBase("out")
    equation = Equation(base[i + j], u[i] * v[j], accumulate=True)
    given = known({"u": np.array([[1.0, 2, 3, 4]]), "v": np.array([[1.0, 10, 100]])})
    found = evaluate([equation], given, {"out": (6,)}).values["out"]
    assert found.approximate[0].tolist() == [1.0, 12.0, 123.0, 234.0, 340.0, 400.0]
    first = Equation(base[i], 1000 * u[i])
    second = Equation(base[0], u[i], accumulate=True)
    both = evaluate([first, second], given).values["out"].approximate[0]
    assert both.tolist() == [1010.0, 2000.0, 3000.0, 4000.0]
    with pytest.raises(VerificationError, match="outside its shape"):
        evaluate([equation], given, {"out": (5,)})
    with pytest.raises(VerificationError, match="shape is not known"):
        evaluate([equation], given)


def test_scatters_follow_data_and_samples() -> None:
    equation = Equation(IndexedBase("out")[v[k]], u[k], accumulate=True)
    given = known({"u": np.ones((1, 4)), "v": np.array([[0, 0, 2, 2], [1, 1, 1, 1]])})
    found = evaluate([equation], given, {"out": (3,)}).values["out"].approximate
    assert found.tolist() == [[2.0, 0.0, 2.0], [0.0, 4.0, 0.0]]


def test_reductions() -> None:
    numbers = np.random.default_rng(0).normal(size=(2, 4, 3))
    whole = numbers.reshape(2, -1)
    got = value(functions.reduce_max(A[i, j], i, j), A=numbers)
    assert got.approximate.tolist() == whole.max(axis=1).tolist()
    got = value(functions.logsumexp(A[i, j], i, j), A=numbers)
    assert_allclose(got.approximate, np.log(np.exp(whole).sum(axis=1)))
    got = value(functions.log_softmax(A[i, 1], i, sympy.Integer(2)), A=numbers)
    column = numbers[:, :, 1]
    assert_allclose(got.approximate, column[:, 2] - np.log(np.exp(column).sum(axis=1)))


def test_large_sums_in_integers_are_exact() -> None:
    random = np.random.default_rng(1)
    a, b = (
        mpf_array(random.normal(size=(1, 5, 1, 2000))),
        mpf_array(random.normal(size=(1, 1, 3, 2000))),
    )
    expected = np.add.reduce(a * b, axis=3)
    assert (abs(exact_sum([a, b], (3,)) - expected) < 1e-55).all()
    a[0, 0, 0, 0] = MP.mpf(10) ** -200  # too far apart for integers: mpf does it
    assert (abs(exact_sum([a, b], (3,)) - np.add.reduce(a * b, axis=3)) < 1e-55).all()
    a[0, 0, 0, 0] = MP.nan
    assert MP.isnan(exact_sum([a, b], (3,))[0, 0, 0])


# bounds


def test_magnitude_is_the_sum_of_absolute_terms() -> None:
    found = value(x * y - 3 * z, x=[2.0], y=[-5.0], z=[7.0])
    assert found.magnitude[0] == 31.0
    assert found.error[0] / EPS < 3 * 31
    assert value(1 / x, x=[-4.0]).magnitude[0] == 0.5  # |1/x| + |x|/x^2


def test_a_sum_of_n_terms_allows_n_roundings() -> None:
    n = 4
    found = value(Sum(u[i] * v[i], (i, 0, n - 1)), u=np.ones((1, n)), v=np.full((1, n), 0.1))
    assert_allclose(found.error[0], (n + 1) * EPS * found.magnitude[0])


def test_a_sum_may_begin_with_what_it_is_added_to() -> None:
    """As a layer begins with its bias: each addition rounds a number as large as that is."""
    n, small, m = 1000, np.float32(1e-6), Idx("m", 1000)
    total = np.float32(1.0)
    for _ in range(n):
        total += small
    found = value(
        x + Sum(u[m], (m, 0, n - 1)), dtype="float32",
        x=np.ones(1, np.float32), u=np.full((1, n), small),
    )  # fmt: skip
    off = abs(float(total) - found.approximate[0])
    assert 100 * np.finfo(np.float32).eps < off < found.error[0]


def test_constants_that_the_format_rounds_have_an_error() -> None:
    assert value(sympy.Integer(3)).error[0] == 0
    assert value(sympy.Rational(1, 4)).error[0] == 0
    assert_allclose(value(sympy.pi).error[0], EPS * np.pi)
    assert value(sympy.Float(0.1)).error[0] == 0
    assert value(sympy.Float(0.1), "float32").error[0] > 0


def test_overflow_makes_the_error_infinite_unless_the_form_is_stable() -> None:
    naive = value(sympy.log(1 + sympy.exp(x)), x=[1000.0])
    assert_allclose(naive.approximate[0], 1000.0)
    assert naive.error[0] == np.inf
    assert value(functions.softplus(x), x=[1000.0]).error[0] < 2e-12
    assert value(sympy.exp(x), "float32", x=[89.0]).error[0] == np.inf
    assert value(sympy.exp(x), "float64", x=[89.0]).error[0] < np.inf


def test_an_error_that_reaches_a_pole_is_unbounded() -> None:
    difference = value(1 / (x * y - z), x=[1 + EPS], y=[1 + EPS], z=[1 + 2 * EPS])
    assert difference.error[0] == np.inf


def test_close_values_are_undecided_and_equal_ones_are_decided() -> None:
    jump = Piecewise((5, x * y > z), (1, True))
    close = result(jump, x=[1 + EPS, 1.0, 3.0], y=[1 + EPS, 2.0, 2.0], z=[1 + 2 * EPS, 2.0, 1.0])
    assert close.undecided["out"].tolist() == [True, False, False]
    assert close.values["out"].approximate.tolist() == [5.0, 1.0, 5.0]
    assert close.values["out"].error[0] == 4.0
    assert close.values["out"].error[1:].max() < 1e-300
    top = functions.reduce_max(u[i], i)
    attained = Sum(Piecewise((1, Eq(u[i], top)), (0, True)), (i, 0, 3))
    tie = result(attained, u=np.array([[0.1, 0.3, 0.3, 0.2]]))
    assert tie.values["out"].approximate[0] == 2.0
    assert not tie.undecided


def test_a_kink_without_a_jump_is_no_matter() -> None:
    crossing = {"x": [1 + EPS], "y": [1 + EPS], "z": [1 + 2 * EPS]}
    smooth = result(functions.relu(x * y - z), **crossing)
    assert not smooth.undecided
    assert smooth.values["out"].error[0] < 10 * EPS
    assert result(functions.step(x * y - z), **crossing).undecided["out"].tolist() == [True]


def test_a_certain_condition_settles_an_undecided_one() -> None:
    close = (x * y > z) | (x > 0)
    found = result(Piecewise((5, close), (1, True)), x=[1 + EPS], y=[1 + EPS], z=[1 + 2 * EPS])
    assert not found.undecided


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["classifier", "functions", "attention", "pooling"])
def test_bounds_hold_for_rounded_arithmetic_and_are_not_idle(name: str, dtype: str) -> None:
    network = ZOO[name]()
    random = np.random.default_rng(5)
    shares = []
    for scale in (0.1, 1.0, 10.0):
        arrays = {
            v.name: (scale * random.normal(size=(5, *v.shape))).astype(dtype)
            for v in (*network.inputs, *network.targets, *network.parameters)
        }
        exact = evaluate(network.equations, known(arrays, dtype), dtype=dtype).values
        with precision(BITS[dtype]):
            rounded = evaluate(network.equations, known(arrays, dtype), dtype=dtype).values
        for equation in network.equations:
            bound = exact[equation.name].error
            error = np.abs(
                (rounded[equation.name].exact - exact[equation.name].exact).astype(float)
            )
            shares.append((error / bound)[np.isfinite(bound)].ravel())
    largest = max(share.max() for share in shares)
    assert 0.05 < largest <= 1


def test_the_format() -> None:
    assert arithmetic("float32").epsilon == 2.0**-23
    assert arithmetic("float32").largest < 3.41e38


# independent derivatives


def test_central_differences_have_forty_digits() -> None:
    equations = [Equation(y, sympy.sin(x * w)), Equation(z, y**3 + x)]
    point = {"x": 0.7, "w": -1.3}
    (found,) = directional_derivatives(equations, point, [{"x": 2.0, "w": -1.0}])
    a, b = sympy.Float(0.7, 70), sympy.Float(-1.3, 70)
    loss = sympy.sin(x * w) ** 3 + x
    exact = (2 * sympy.diff(loss, x) - sympy.diff(loss, w)).subs({x: a, w: b})
    assert abs(found - MP.make_mpf(sympy.N(exact, 60)._mpf_)) < 1e-37


def test_plain_diff_trusts_no_declared_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions.sigmoid, "fdiff", lambda self, argindex=1: sympy.Integer(7))
    net = Network("one")
    a, b = net.input("a"), net.parameter("b")
    net.loss(functions.sigmoid(a * b))
    found = symbolic_gradient(net, {"a": 0.5, "b": 2.0})
    assert found is not None
    expected = 0.5 * np.exp(-1.0) / (1 + np.exp(-1.0)) ** 2
    assert_allclose(float(found["b"]), expected)


def test_plain_diff_declines_tensors_and_large_networks() -> None:
    assert symbolic_gradient(ZOO["classifier"](), {}) is None
    assert symbolic_gradient(ZOO["scalars"](), {}, operations=10) is None


def test_every_step_function_is_flat() -> None:
    for name in STEPS:
        found = value(sympy_function(name)(x), x=[0.3, 1.7])
        assert (found.error <= np.finfo(float).tiny).all()
