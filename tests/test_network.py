"""What a network accepts, and the message for everything that it does not."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy
from sympy import And, Idx, IndexedBase, Integer, Max, Piecewise, Sum, Symbol, floor, sqrt
from values import value

from symprop import Network
from symprop.description.expressions import BINDING
from symprop.errors import NetworkError, SympropError
from symprop.functions import FUNCTIONS, logsumexp, softmax
from symprop.network import INITIALIZERS, RESERVED, Equation, Parameter
from symprop.ranges import subscript_range


@pytest.fixture
def net():
    """Inputs x[i], y; target t[k]; parameters W[i,k], b[k], c; indices i, k, m."""
    net = Network("net")
    i, k, _ = net.index("i", 4), net.index("k", 3), net.index("m", 4)
    net.input("x", i)
    net.input("y")
    net.target("t", k)
    net.parameter("W", i, k)
    net.parameter("b", k)
    net.parameter("c")
    return net


def parts(net):
    """Return indices and variables by name, as a user has them in variables."""
    found = {index.name: index for index in net.indices}
    return found | {variable.name: variable.symbol for variable in net.variables}


def refused(call, *args, **kwargs):
    with pytest.raises(NetworkError) as caught:
        call(*args, **kwargs)
    assert isinstance(caught.value, SympropError)
    assert caught.value.exit_status == 2
    return str(caught.value)


# What it holds


def test_a_network_in_order(net):
    p = parts(net)
    i, k = p["i"], p["k"]
    h = net.define("h", Sum(p["W"][i, k] * p["x"][i], i) + p["b"][k] * p["c"], k)
    out = net.output("p", softmax(h[k], k), k)
    net.loss(-Sum(p["t"][k] * sympy.log(out[k]), k) + p["y"])
    assert [equation.name for equation in net.equations] == ["h", "p", "L"]
    assert net.outputs == ("p",)
    assert net.names == {*"ikmxytWbchpL"}
    assert net.variable("W").shape == (4, 3)
    assert net.variable("W").access == p["W"][i, k]
    assert net.variable("c").access == Symbol("c", real=True)
    assert [variable.name for variable in net.variables] == [*"xytWbchp"]
    assert net.problems() == []
    net.check()


def test_equation():
    i = Idx("i", 2)
    a, x = IndexedBase("a", real=True), IndexedBase("x", real=True)
    equation = Equation(a[i], x[i])
    assert (equation.name, equation.indices) == ("a", (i,))
    assert str(equation) == "a[i] = x[i]"
    assert str(Equation(a[i + 1], x[i], accumulate=True)) == "a[i + 1] += x[i]"
    assert Equation(Symbol("s"), Integer(1)).indices == ()


def test_scalars_are_symbols_and_tensors_bases():
    net = Network()
    assert isinstance(net.input("x"), Symbol)
    assert isinstance(net.input("u", net.index("i", 2)), IndexedBase)


def test_the_loss_takes_another_name_where_it_is_taken(net):
    net.input("L")
    net.loss(parts(net)["c"])
    assert net.objective.name == "loss"


def test_a_symbol_of_the_right_name_becomes_the_variables_own(net):
    k = parts(net)["k"]
    net.define("d", Symbol("c") * IndexedBase("b")[k] - parts(net)["c"] * parts(net)["b"][k], k)
    assert net.definitions[-1].rhs == 0


def test_numpy_sizes_and_numbers(net):
    assert net.index("n", np.int64(3)).upper == 2
    net.define("one", 1)
    assert net.definitions[-1].rhs == 1


# Names

BAD_NAMES = ["", "1a", "_x", "a b", "é", "x\n", "x;import os", "a.b", "dL/dx", "a" * 3 + "-"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["index", "input", "target", "parameter", "define", "loss"])
def test_unsafe_names_are_refused(net, kind, name):
    arguments = {"index": (name, 2), "define": (name, 1), "loss": (1, name)}.get(kind, (name,))
    if kind == "loss" and not name:
        return  # no name given: the default
    message = refused(getattr(net, kind), *arguments)
    assert "expected letters, digits and underscores, starting with a letter" in message
    assert repr(name) in message


@pytest.mark.parametrize(
    "name",
    [
        "class",
        "None",
        "match",
        "backward",
        "Parameters",
        "np",
        "softmax",
        "sum",
        "len",
        "range",
        "tanh",
    ],
)
def test_reserved_names_are_refused(net, name):
    message = refused(net.input, name)
    assert message == (
        f"input {name!r}: the name is reserved (Python, or the generated module, uses it); "
        "choose another"
    )


def test_reserved_names_contain_what_modules_define():
    needed = {"train", "resume", "State", "math", "numba", "relu", "print", "abs"}
    assert needed <= RESERVED
    assert {*FUNCTIONS, *BINDING} <= RESERVED  # what an expression may call
    assert not RESERVED & {"x", "y", "t", "W1", "h", "z", "p", "theta", "L", "i", "loss1"}


def test_a_name_is_used_once(net):
    for call in (net.input, net.target, net.parameter):
        assert "'x': the name is taken already; choose another" in refused(call, "x")
    assert "index 'x': the name is taken" in refused(net.index, "x", 2)
    assert "equation 'i': the name is taken" in refused(net.define, "i", 1)
    assert "loss 'W': the name is taken" in refused(net.loss, 1, "W")
    net.loss(parts(net)["c"])
    assert "input 'L': the name is taken" in refused(net.input, "L")


@pytest.mark.parametrize("name", ["a b", "", "class", "0", "../x"])
def test_network_names(name):
    assert "it becomes the name of a module" in refused(Network, name)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3", None])
def test_sizes_are_positive_integers(net, size):
    message = refused(net.index, "n", size)
    assert message == f"index 'n': got the size {size!r}, expected an integer >= 1"


# Variables


def test_indices_come_from_the_network(net):
    other = Idx("i", 9)
    message = refused(net.input, "u", other)
    assert message == "input 'u': got i as an index, expected one made by index(...)"
    message = refused(net.input, "u", "ii")
    assert message.startswith("input 'u': got 'ii' as an index, expected one made by index(...)")
    message = refused(net.parameter, "u", Symbol("x2"))
    assert "did you mean 'x'?" in message


def test_an_index_stands_once(net):
    i = parts(net)["i"]
    message = refused(net.define, "A", 1, i, i)
    assert message == (
        "equation 'A': an index occurs twice in [i, i]; define a second index of the same size"
    )


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (float("nan"), "parameter 'q': the initial value holds NaN or infinity"),
        (
            10**400,
            "parameter 'q': the initial value holds an integer beyond the largest float, 1.8e308",
        ),
        ([1.0, float("inf"), 0, 0], "parameter 'q': the initial value holds NaN or infinity"),
        ([1, 2], "parameter 'q': got an initial value of shape (2,), expected (4,)"),
        ([[1, 2, 3, 4]], "got an initial value of shape (1, 4), expected (4,)"),
        ([[1], [2, 3]], "expected a number, nested lists of numbers of shape (4,), or the name"),
        (object(), "expected a number, nested lists of numbers of shape (4,)"),
        (1j, "got the value 1j, expected a number"),
        (None, "the initial value holds NaN or infinity"),
        ("glorot", "parameter 'q': unknown initialiser 'glorot'; did you mean 'glorot_normal'?"),
    ],
)
def test_initial_values_that_do_not_fit(net, init, expected):
    assert expected in refused(net.parameter, "q", parts(net)["i"], init=init)


def test_initial_values(net):
    i, k = parts(net)["i"], parts(net)["k"]
    net.parameter("p1", i, init=[1, 2, 3, 4])
    net.parameter("p2", k, i, init=np.ones((3, 4)), trainable=False)
    net.parameter("p3", i, init=0.1)
    net.parameter("p4", i, k, init="he_normal")
    assert [p.init for p in net.parameters[3:]] == [
        (1.0, 2.0, 3.0, 4.0), ((1.0,) * 4,) * 3, 0.1, "he_normal",
    ]  # fmt: skip
    assert [p.trainable for p in net.parameters[3:]] == [True, False, True, True]
    assert net.variable("p1") == Parameter("p1", (i,), (1.0, 2.0, 3.0, 4.0))
    for name in INITIALIZERS:
        net.parameter(f"p_{name}", i, init=name)


def test_unknown_variable(net):
    net.parameter("weights")
    message = refused(net.variable, "weigths")
    assert message == "network 'net': no variable 'weigths'; did you mean 'weights'?"


# Outputs and the loss


def test_outputs(net):
    message = refused(net.output, "x")
    assert message == ("output 'x': no equation defines it; give its expression or define it first")
    net.define("value", 1)
    assert "did you mean 'value'?" in refused(net.output, "valu")
    net.output("value")
    assert refused(net.output, "value") == "output 'value' is declared twice"


def test_one_loss(net):
    net.loss(parts(net)["c"])
    message = refused(net.loss, 1)
    assert message == "loss: the network has one already, L = c; add the two expressions"


def test_an_incomplete_network_names_all_problems(net):
    assert net.problems() == [
        "network 'net' has no loss; add one with loss(...)",
        *(
            f"parameter {name!r} is used in no equation; use it or remove it"
            for name in ("W", "b", "c")
        ),
    ]
    assert "has no loss" in refused(net.check)
    assert "parameter 'c' is used in no equation" in refused(lambda: net.fingerprint)


# Expressions


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda p: "x", "equation 'q': got str 'x', expected a SymPy expression or a number"),
        (lambda p: [1], "equation 'q': got list [1], expected a SymPy expression or a number"),
        (lambda p: p["c"] > 0, "equation 'q': got c > 0, expected a number-valued expression"),
        (lambda p: True, "equation 'q': got True, expected a number-valued expression"),
        (lambda p: sqrt(-1) * p["c"], "the expression is not a real number: I*c"),
        (lambda p: sympy.nan, "the expression is not a real number: nan"),
        (lambda p: p["c"] / 0, "the expression is not a real number: zoo*c"),
        (lambda p: sympy.oo, "the expression is not a real number: oo"),
        (lambda p: float("inf"), "the expression is not a real number: oo"),
        (
            lambda p: p["x"][p["i"]],
            "equation 'q': index 'i' is free in the expression but not on the left; "
            "sum over it or add it to the left",
        ),
        (
            lambda p: p["W"][p["i"], p["k"]] + p["i"],
            "index 'i', 'k' is free in the expression but not on the left",
        ),
        (
            lambda p: softmax(p["b"][p["k"]], p["k"]),
            "index 'k' is free in the expression but not on the left",
        ),
        (
            lambda p: Symbol("cc", real=True),
            "equation 'q': unknown name 'cc'; did you mean 'c'?; declare or define it before",
        ),
        (
            lambda p: Sum(p["W"][p["i"]], p["i"]),
            "equation 'q': W[i] has 1 subscripts, expected 2 as in W[i, k]",
        ),
        (lambda p: p["W"] + 1, "equation 'q': W has 0 subscripts, expected 2 as in W[i, k]"),
        (
            lambda p: IndexedBase("c")[0],
            "equation 'q': c[0] has 1 subscripts, expected 0 as in c",
        ),
        (
            lambda p: Sum(p["x"][Idx("z", 4)], Idx("z", 4)),
            "equation 'q': got z as an index, expected one made by index(...)",
        ),
        (
            lambda p: Sum(p["x"][Symbol("l", integer=True)], (Symbol("l", integer=True), 0, 3)),
            "runs over l, expected an index made by index(...)",
        ),
        (lambda p: p["x"][4], "equation 'q': x[4] reads axis 0 at 4 to 4, expected 0 to 3"),
        (lambda p: p["x"][-1], "equation 'q': x[-1] reads axis 0 at -1 to -1, expected 0 to 3"),
        (
            lambda p: Sum(p["x"][p["i"] / 2], p["i"]),
            "x[i/2] reads axis 0 at i/2, which need not be an integer; write floor(i/2)",
        ),
        (
            lambda p: p["x"][p["c"]],
            "x[c] reads axis 0 at c, expected an expression of indices, or one value of an input "
            "or target, which then holds integers",
        ),
        (lambda p: p["x"][p["y"] + 1], "x[y + 1] reads axis 0 at y + 1, expected an expression of"),
        (
            lambda p: softmax(p["b"][p["k"]], p["k"], Integer(3)),
            "softmax(b[k], k)[3] reads axis 0 at 3 to 3, expected 0 to 2",
        ),
    ],
)
def test_expressions_that_do_not_fit(net, build, expected):
    assert expected in refused(net.define, "q", build(parts(net)))
    assert not net.definitions


def test_the_subject_is_the_equation_as_it_is_written(net):
    p = parts(net)
    message = refused(net.define, "q", p["x"][p["i"] + 1], p["i"], p["k"])
    assert message == (
        "equation 'q[i,k]': x[i + 1] reads axis 0 at 1 to 4, expected 0 to 3; use an index of that "
        "size, or read it only where it exists: Piecewise((..., condition), (0, True)), in a "
        "file (... if condition else 0)"
    )
    assert refused(net.loss, p["x"][p["i"]]).startswith("loss: index 'i' is free")


def test_values_are_defined_before_they_are_used(net):
    h = IndexedBase("h", real=True)
    assert "unknown name 'h'" in refused(net.define, "z", h[0])
    net.define("h", 1, parts(net)["k"])
    net.define("z", h[0])


# Partial sums


def numbers(net):
    return {
        "x": lambda i: mpmath.mpf(3 * i * i - 4),
        "W": lambda i, k: mpmath.mpf(i * k + 2 * i - k),
        "b": lambda k: mpmath.mpf(k - 7),
        "c": mpmath.mpf(5),
    }


def test_bounds_of_a_sum_become_conditions(net):
    p = parts(net)
    net.define("q", Sum(p["x"][p["i"]], (p["i"], 1, 2)))
    (total,) = net.definitions
    assert total.rhs.limits == ((p["i"], 0, 3),)
    assert value(total.rhs, numbers(net)) == sum(map(numbers(net)["x"], (1, 2)))


def test_bounds_may_be_indices(net):
    p = parts(net)
    net.define("q", Sum(p["W"][p["i"], p["k"]], (p["i"], p["k"], 3)), p["k"])
    rhs, names = net.definitions[0].rhs, numbers(net)
    for k in range(3):
        assert value(rhs, names, {p["k"]: k}) == sum(names["W"](i, k) for i in range(k, 4))


def test_a_full_sum_is_left_alone(net):
    p = parts(net)
    total = Sum(p["x"][p["i"]], p["i"])
    net.define("q", total)
    assert net.definitions[0].rhs == total


def test_bounds_of_several_indices(net):
    p = parts(net)
    net.define("q", Sum(p["W"][p["i"], p["k"]], (p["i"], p["k"], 2), (p["k"], 1, 2)))
    rhs, names = net.definitions[0].rhs, numbers(net)
    assert value(rhs, names) == sum(names["W"](i, k) for k in (1, 2) for i in range(k, 3))


def test_a_bound_is_not_captured_by_an_inner_sum(net):
    """In Sum(..., i, (k, 0, i)) the bound of k is an i from outside, not the inner sum's."""
    p = parts(net)
    i, k, names = p["i"], p["k"], numbers(net)
    expression = Sum(p["W"][i, k], (i, 0, 3), (k, 0, i - 1))
    assert "index 'i' is free in the expression" in refused(net.define, "q", expression)
    net.define("q", expression, i)
    for place in range(4):
        expected = sum(names["W"](n, r) for r in range(place) if r < 3 for n in range(4))
        assert value(net.definitions[0].rhs, names, {i: place}) == expected


def test_a_sum_of_a_sum_over_the_same_index(net):
    p = parts(net)
    net.define("q", Sum(Sum(p["x"][p["i"]], p["i"]), (p["i"], 1, 3)))
    names = numbers(net)
    assert value(net.definitions[0].rhs, names) == 3 * sum(map(names["x"], range(4)))


def test_partial_sums_inside_other_functions(net):
    p = parts(net)
    inner = Sum(p["W"][p["i"], p["k"]], (p["i"], 2, 3))
    net.define("q", logsumexp(inner, p["k"]))
    names = numbers(net)
    sums = [names["W"](2, k) + names["W"](3, k) for k in range(3)]
    expected = mpmath.log(mpmath.fsum(map(mpmath.exp, sums)))
    assert abs(value(net.definitions[0].rhs, names) - expected) < 1e-12


# Ranges of subscripts


def test_shifted_reads_where_they_exist(net):
    p = parts(net)
    i, x = p["i"], p["x"]
    net.define("q1", Piecewise((x[i + 1], i < 3), (0, True)), i)
    net.define("q2", Piecewise((0, i >= 3), (x[i + 1], True)), i)
    net.define("q3", Sum(x[i + 1], (i, 0, 2)))
    net.define("q4", x[3 - i] + x[floor(i / 2)] + x[Max(i - 1, 0)], i)
    message = refused(net.define, "q5", Piecewise((x[i + 1], i < 3), (2 * x[i + 1], True)), i)
    assert "reads axis 0 at 4 to 4" in message
    message = refused(net.define, "q6", Piecewise((x[i + 1], p["c"] > 0), (0, True)), i)
    assert "reads axis 0 at 1 to 4" in message


def test_conditions_on_several_indices(net):
    p = parts(net)
    i, k, W = p["i"], p["k"], p["W"]
    guard = And(i + k >= 1, i - k <= 1, i >= 1)
    net.define("q", Piecewise((W[i - 1, k], guard), (0, True)), i, k)
    message = refused(net.define, "r", Piecewise((W[i, k + 1], guard), (0, True)), i, k)
    assert "W[i, k + 1] reads axis 1 at 1 to 3, expected 0 to 2" in message


def test_subscript_range():
    i, k = Idx("i", 4), Idx("k", 3)
    assert subscript_range(2 * i - k) == (-2, 6)
    assert subscript_range(Integer(5)) == (5, 5)
    assert subscript_range(i, [i > k]) == (1, 3)
    assert subscript_range(i + k, [sympy.Or(i < 1, k > 1)]) == (0, 5)
    assert subscript_range(i, [sympy.Not(And(i > 0, k >= 0))]) == (0, 0)
    assert subscript_range(i, [i > 7]) == (0, 0)
    assert subscript_range(i, [Symbol("a", real=True) > 0]) == (0, 3)


# Values as subscripts


def test_index_inputs(net):
    i, k = parts(net)["i"], parts(net)["k"]
    token, label = net.input("token", i), net.target("label")
    W, x, b = (parts(net)[name] for name in ("W", "x", "b"))
    net.define("e", W[token[i], k], i, k)
    assert net.index_inputs == {"token": 4}
    net.define("s", Sum(b[token[i]], i) + x[label])
    assert net.index_inputs == {"token": 3, "label": 4}
    net.loss(-sympy.log(softmax(b[k], k, label)))
    assert net.index_inputs == {"token": 3, "label": 3}


# Axes that are read in part


def test_an_index_that_is_too_short_for_its_axis(net):
    p = parts(net)
    net.define("q", Sum(p["x"][p["k"]] * p["b"][p["k"]], p["k"]))
    net.loss(p["c"] + parts(net)["q"] + Sum(p["W"][p["i"], p["k"]], p["i"], p["k"]))
    assert net.problems() == [
        "equation 'q': x[k] reads only 3 of the 4 values of axis 0: index 'k' is too short for it"
    ]


def test_an_axis_read_at_shifted_places_needs_no_full_index(net):
    p = parts(net)
    k, x = p["k"], p["x"]
    net.loss(p["c"] + Sum(p["b"][k] * (x[k] + x[k + 1]), k) + Sum(p["W"][p["i"], k], p["i"], k))
    assert net.problems() == []


# Fingerprint


def small(name="net", size=2, factor=0.5, target="t", extra=False, unit=2):
    net = Network(name)
    i, n = net.index("i", size), net.index("n", unit)
    x, t, w = net.input("x", i), net.target(target), net.parameter("w", i, init=1)
    net.define("one", 1, n)
    y = net.output("y", Sum(w[i] * x[i], i))
    if extra:
        net.define("more", y)
    net.loss(factor * (y - t) ** 2)
    return net


def test_fingerprint_is_that_of_the_equations():
    first = small().fingerprint
    assert first == small().fingerprint
    assert len(first) == 16
    assert int(first, 16) >= 0
    changes = [{"name": "b"}, {"size": 3}, {"factor": 1}, {"target": "u"}, {"extra": True}]
    others = {small(**change).fingerprint for change in (*changes, {"unit": 3})}
    assert len(others | {first}) == 7


def test_fingerprint_does_not_depend_on_initial_values_or_training():
    net = small()
    net.training = type(net.training)(epochs=7)
    assert net.fingerprint == small().fingerprint


def test_fingerprint_follows_a_network_that_grows():
    net = small()
    before = net.fingerprint
    net.define("late", net.variable("y").symbol)
    assert net.fingerprint != before


# Time


def test_width_costs_nothing():
    """Checking ranges is a few array operations; an index of a million values is one array."""
    net = Network()
    i = net.index("i", 1_000_000)
    x = net.input("x", i)
    net.define("q", Sum(Piecewise((x[i + 1], i < 999_999), (0, True)), i))
    assert net.definitions[0].rhs.limits[0][2] == 999_999
