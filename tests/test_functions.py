"""Every declared derivative against a numerical derivative of the definition, at 50 digits."""

from __future__ import annotations

import mpmath
import pytest
import sympy
from sympy import Idx, IndexedBase, Sum, Symbol, symbols
from values import value

from symprop import functions
from symprop.functions import (
    ELEMENTWISE,
    REDUCTIONS,
    Elementwise,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsumexp,
    normal_cdf,
    reduce_max,
    reduce_min,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    step,
)
from symprop.indices import free_indices, substitute

z, slope = symbols("z slope", real=True)
i, k, m = Idx("i", 2), Idx("k", 3), Idx("m", 3)
u, A = IndexedBase("u", real=True), IndexedBase("A", real=True)

POINTS = ("-700", "-40", "-3.7", "-1", "-0.3", "-1e-12", "1e-12", "0.2", "1", "2.9", "40", "700")


@pytest.fixture(autouse=True)
def _fifty_digits():
    with mpmath.workdps(50):
        yield


def arguments(function):
    return (z, slope) if function in (leaky_relu, elu) else (z,)


def numerical(function, place, point):
    """Differentiate the definition by the argument number `place`, with a reserve of digits."""
    names = [str(argument) for argument in arguments(function)]

    def at(x):
        moved = [*point[:place], x, *point[place + 1 :]]
        expression = function(*arguments(function)).definition()
        return value(expression, dict(zip(names, moved, strict=True)))

    with mpmath.workdps(700):  # exp(-700) beside 1 needs 300 digits
        step_size = mpmath.mpf(10) ** -200
        x = point[place]
        return (at(x + step_size) - at(x - step_size)) / (2 * step_size)


@pytest.mark.parametrize("function", ELEMENTWISE, ids=lambda f: f.__name__)
def test_a_product_is_the_function_and_its_other_factor_is_in_the_derivative(function):
    whole = function(*arguments(function))
    names = {"z": mpmath.mpf("-1.25"), "slope": mpmath.mpf("0.7")}
    product = whole.product()
    assert abs(value(product, names) - value(whole, names)) < mpmath.mpf(10) ** -44
    factors = product.atoms(Elementwise) - {whole}
    assert all(whole.fdiff().has(factor) for factor in factors)
    assert bool(factors) == (function in (gelu, silu))


@pytest.mark.parametrize("text", POINTS)
@pytest.mark.parametrize("function", ELEMENTWISE, ids=lambda f: f.__name__)
def test_derivative_of_every_argument(function, text):
    point = [mpmath.mpf(text), mpmath.mpf("0.7")][: len(arguments(function))]
    names = dict(zip(["z", "slope"], point, strict=False))
    for place in range(len(point)):
        declared = value(function(*arguments(function)).fdiff(place + 1), names)
        expected = numerical(function, place, point)
        # the declared form may cancel (1 - sigmoid): relative to 1 or to the value itself
        assert abs(declared - expected) <= mpmath.mpf(10) ** -44 * (1 + abs(expected))


def test_a_wrong_derivative_is_noticed():
    point = [mpmath.mpf("0.2")]
    wrong = value(sigmoid(z), {"z": point[0]})  # forgot the factor 1 - sigmoid
    assert abs(wrong - numerical(sigmoid, 0, point)) > 0.1


@pytest.mark.parametrize(
    ("function", "at_zero"),
    [(step, 0), (relu, 0), (leaky_relu, "slope"), (elu, "slope"), (gelu, 0.5), (silu, 0.5)],
)
def test_stated_derivatives_at_kinks(function, at_zero):
    names = {"z": mpmath.mpf(0), "slope": mpmath.mpf("0.7")}
    expected = names.get(at_zero, at_zero)
    assert value(function(*arguments(function)).fdiff(1), names) == expected


def test_definitions_at_zero():
    names = {"z": mpmath.mpf(0), "slope": mpmath.mpf("0.7")}
    got = {f.__name__: value(f(*arguments(f)), names) for f in ELEMENTWISE}
    ln2 = mpmath.log(2)
    half = mpmath.mpf("0.5")
    assert got == {
        "step": 0, "sigmoid": half, "softplus": ln2, "relu": 0, "leaky_relu": 0, "elu": 0,
        "normal_cdf": half, "gelu": 0, "silu": 0,
    }  # fmt: skip


def test_default_slopes():
    assert leaky_relu(z) == leaky_relu(z, sympy.Rational(1, 100))
    assert elu(z) == elu(z, 1)
    assert leaky_relu(z, slope).args == (z, slope)


def test_second_derivatives_are_made_of_known_functions():
    for function in ELEMENTWISE:
        second = sympy.diff(function(*arguments(function)), z, 2)
        assert not second.has(sympy.Derivative, sympy.Subs, sympy.DiracDelta), function


def test_functions_are_real_and_printed_by_name():
    assert sigmoid(z).is_extended_real
    assert str(softplus(-z)) == "softplus(-z)"
    assert str(softmax(u[k], k)) == "softmax(u[k], k)"
    assert str(softmax(u[m], m, k)) == "softmax(u[m], m)[k]"
    assert set(functions.__all__) >= {f.__name__ for f in ELEMENTWISE + REDUCTIONS}


@pytest.mark.parametrize("reduction", [logsumexp, reduce_max, reduce_min])
@pytest.mark.parametrize("bad", [(), (Symbol("k"),), (3,)])
def test_a_reduction_needs_an_index(reduction, bad):
    with pytest.raises(TypeError, match=r"expected one or more indices .* as in \w+\(z\[k\], k\)"):
        reduction(u[k], *bad)


@pytest.mark.parametrize("normalisation", [softmax, log_softmax])
def test_a_normalisation_needs_an_index(normalisation):
    with pytest.raises(TypeError, match=r"got the index k, expected one index of the network"):
        normalisation(u[k], Symbol("k"))


VECTORS = (["-700", "0.5", "699"], ["0.1", "-0.2", "0.3"], ["5", "5", "-1"], ["-300", "-299", "0"])


def tensor(values):
    """Return the vector u, and a matrix A[i, k] made of it, as functions of their subscripts."""
    numbers = [mpmath.mpf(text) for text in values]
    return {"u": lambda k: numbers[k], "A": lambda i, k: numbers[k] * (i + 1) / 2}


def moved(names, base, place, amount):
    old = names[base]
    return {**names, base: lambda *at: old(*at) + (amount if at == place else 0)}


def difference(node, names, base, place, indices=None):
    with mpmath.workdps(700):
        step_size = mpmath.mpf(10) ** -200
        up, down = (moved(names, base, place, s * step_size) for s in (1, -1))
        return (value(node, up, indices) - value(node, down, indices)) / (2 * step_size)


def close(got, expected):
    return abs(got - expected) <= mpmath.mpf(10) ** -44 * (1 + abs(expected))


@pytest.mark.parametrize("values", VECTORS)
@pytest.mark.parametrize("reduction", [logsumexp, reduce_max, reduce_min])
def test_derivative_of_reductions(reduction, values):
    node, names = reduction(u[k], k), tensor(values)
    for place in range(3):
        declared = value(node.fdiff(), names, {k: place})
        expected = difference(node, names, "u", (place,))
        assert close(declared, expected)


@pytest.mark.parametrize("values", VECTORS)
def test_derivative_of_logsumexp_over_two_indices(values):
    node, names = logsumexp(A[i, k], i, k), tensor(values)
    for place in ((0, 1), (1, 2)):
        declared = value(node.fdiff(), names, dict(zip((i, k), place, strict=True)))
        assert close(declared, difference(node, names, "A", place))


def test_ties_share_the_derivative():
    names = {"u": lambda place: mpmath.mpf([2, 7, 7][place])}
    shares = [value(reduce_max(u[k], k).fdiff(), names, {k: place}) for place in range(3)]
    assert shares == [0, 0.5, 0.5]


@pytest.mark.parametrize("values", VECTORS)
def test_normalisations_are_what_they_say(values):
    names = tensor(values)
    shares = [value(softmax(u[k], k), names, {k: place}) for place in range(3)]
    assert close(sum(shares), 1)
    with mpmath.workdps(700):
        for place in range(3):
            at = {k: place}
            logarithm = mpmath.log(value(softmax(u[m], m, k), names, at))
            assert abs(value(log_softmax(u[k], k), names, at) - logarithm) < mpmath.mpf(10) ** -50


@pytest.mark.parametrize("values", VECTORS)
@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_share_gives_the_derivative_of_normalisations(function, values):
    """d softmax_a/du_m = p_a (delta_am - p_m), d log_softmax_a/du_m = delta_am - p_m."""
    node, names = function(u[k], k), tensor(values)
    for a in range(3):
        for b in range(3):
            declared = (a == b) - value(node.share(m), names, {m: b})
            if function is softmax:
                declared *= value(node, names, {k: a})
            assert close(declared, difference(node, names, "u", (b,), {k: a}))


@pytest.mark.parametrize("values", VECTORS)
@pytest.mark.parametrize("function", [logsumexp, softmax, log_softmax])
def test_definitions_of_reductions(function, values):
    node, names = function(u[k], k), tensor(values)
    with mpmath.workdps(700):
        assert close(value(node.definition(), names, {k: 1}), value(node, names, {k: 1}))


def test_definition_of_a_normalisation_elsewhere_keeps_its_position():
    moved_softmax = substitute(softmax(A[i, k], k), {k: m})
    assert moved_softmax.definition() == sympy.exp(A[i, m]) / Sum(sympy.exp(A[i, k]), k)
    assert free_indices(moved_softmax) == (i, m)


def test_normal_cdf_in_the_tail():
    """The tail is what 1 + erf would lose: normal_cdf(-40) = 3.66e-350."""
    with mpmath.workdps(450):
        got = value(normal_cdf(z), {"z": mpmath.mpf(-40)})
        assert abs(got / mpmath.ncdf(-40) - 1) < 1e-40
