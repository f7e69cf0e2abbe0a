"""Products under conditions of indices: as products without, and as tiles in the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import sympy
from numpy.typing import NDArray
from sympy import (
    Abs,
    And,
    Basic,
    Expr,
    Idx,
    Indexed,
    Max,
    Min,
    Mod,
    Mul,
    Or,
    Piecewise,
    Sum,
    floor,
    tanh,
)

import symprop
from symprop import Network
from symprop.derivation import differentiate
from symprop.indices import bound_indices, free_indices, guarded, size, where
from symprop.lower import lower
from symprop.lower.guards import Copied, gathered, often, readable, spread, unguarded
from symprop.lower.products import REUSED
from symprop.lower.program import Branch, nested
from symprop.lower.steps import Compute, Contract, Transpose, element, name_of
from symprop.ranges import is_affine

Arrays = dict[str, NDArray[np.float64]]
Point = dict[Basic, Basic]


def points(indices: tuple[Idx, ...]) -> Iterator[Point]:
    for place in product(*(range(size(index)) for index in indices)):
        yield dict(zip(indices, map(sympy.Integer, place), strict=True))


def number(expression: Expr, at: Point, arrays: Arrays) -> float:
    """Return the value of sums, products and conditions, read off their definitions."""
    if isinstance(expression, Sum):
        bound = bound_indices(expression)
        return sum(number(expression.function, at | p, arrays) for p in points(bound))
    if isinstance(expression, Piecewise):
        pairs = ((pair.expr, pair.cond.xreplace(at)) for pair in expression.args)
        return next(number(value, at, arrays) for value, held in pairs if held == sympy.true)
    if isinstance(expression, Indexed):
        place = tuple(int(part.xreplace(at)) for part in expression.indices)
        array = arrays[name_of(expression)]
        assert all(0 <= n < length for n, length in zip(place, array.shape, strict=True))
        return float(array[place])
    if isinstance(expression, Mul):
        return float(np.prod([number(part, at, arrays) for part in expression.args]))
    return float(expression)


def read(factor: Indexed | Copied, arrays: Arrays) -> Indexed:
    """Return a factor that reads an array; a copy is made from its definition."""
    if isinstance(factor, Indexed):
        return factor
    copy = np.array([number(factor.value, at, arrays) for at in points(factor.axes)])
    arrays[f"{factor.kind}_{factor.source}"] = copy.reshape([size(axis) for axis in factor.axes])
    return element(f"{factor.kind}_{factor.source}", factor.subscripts)


def shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


i, p, j, q = Idx("i", 5), Idx("p", 3), Idx("j", 4), Idx("q", 2)

GUARDED = [  # the product, its condition, and which factors get zeros
    (element("w", (p,)) * element("x", (i + p - 1,)), And(i + p >= 1, i + p < 6), {"x": "padded"}),
    (element("w", (p,)) * element("x", (i - 2 * p,)), i >= 2 * p, {"x": "padded"}),
    (element("w", (p,)) * element("x", (2 * i + p - 1,)), 2 * i + p >= 1, {"x": "padded"}),
    (element("w", (p, q)) * element("x", (i + p - 1, j - q)),
     And(i + p >= 1, i + p <= 5, j >= q), {"x": "padded"}),
    (element("a", (i, j)) * element("b", (j, p)), j <= i, {"a": "masked"}),
    (element("a", (i, j)) * element("b", (j, p)), And(j <= i, p <= j),
     {"a": "masked", "b": "masked"}),
    (element("a", (i, j)) * element("b", (j, p)), Or(j <= i, i > 3), {"a": "masked"}),
    (element("a", (i, j)) * element("b", (j,)) * element("c", (p, i)), And(j <= i, i >= p),
     {"a": "masked", "c": "masked"}),
    (element("w", (p,)) * element("x", (Mod(i + p - 1, 5),)), sympy.true, {"x": "placed"}),
    (element("w", (p,)) * element("x", (floor((i + p) / 2),)), sympy.true, {"x": "placed"}),
    (element("w", (p,)) * element("x", (floor((i + p - 1) / 2),)), i + p >= 1, {"x": "padded"}),
    (element("w", (p,)) * element("x", (Max(Min(i + p - 1, 4), 0),)), sympy.true, {"x": "placed"}),
    (element("w", (p, q)) * element("x", (Abs(i - p), Mod(j - q, 4))), j >= q, {"x": "placed"}),
    (element("a", (i, j)) * element("b", (j, Mod(2 * p + 1, 3))), j <= i,
     {"a": "masked", "b": "placed"}),
]  # fmt: skip


def lengths(leaf: Indexed, condition: Basic) -> tuple[int, ...]:
    """Return the least shape in which a tensor can be read wherever the condition holds."""
    reads = [
        [int(part.xreplace(at)) for part in leaf.indices]
        for at in points((i, p, j, q))
        if condition.xreplace(at) == sympy.true
    ]
    assert np.min(reads) >= 0
    return tuple(np.max(reads, axis=0) + 1)


@pytest.mark.parametrize(("body", "condition", "zeros"), GUARDED)
def test_zeros_take_the_place_of_a_condition(
    body: Expr, condition: Basic, zeros: dict[str, str]
) -> None:
    random = np.random.default_rng(0)
    leaves = [factor for factor in Mul.make_args(body) if isinstance(factor, Indexed)]
    arrays = {name_of(leaf): random.random(lengths(leaf, condition)) for leaf in leaves}
    found = unguarded(where(body, condition), shapes(arrays), 0)
    assert found is not None
    assert {f.source: f.kind for f in found if isinstance(f, Copied)} == zeros
    plain = Mul(*(read(factor, arrays) for factor in found))
    for at in points(free_indices(And(condition, sympy.Eq(body, 0)))):
        assert number(plain, at, arrays) == number(where(body, condition), at, arrays)


def test_one_factor_under_a_condition_is_enough() -> None:
    inside = where(element("x", (i + p - 1,)), And(i + p >= 1, i + p < 6))
    found = unguarded(element("w", (p,)) * inside, {"w": (3,), "x": (5,)}, 0)
    assert found is not None
    assert [factor.source for factor in found if isinstance(factor, Copied)] == ["x"]


REFUSED = [
    (element("w", (p,)) * element("x", (i,)), i >= p),  # neither is read at i and p
    (element("w", (i,)) * element("x", (i,)), i < 3),  # the others of one are read nowhere
    (element("a", (i, j)) * element("b", (j,)), sympy.Eq(i, j)),  # 4 of 20 terms
    (element("a", (i, j)) * element("b", (j,)), element("a", (i, j)) > 0),  # a condition of data
    (element("w", (p,)) * element("x", (floor(i / 2) + p,)), i >= p),  # of two, not of a sum
]


@pytest.mark.parametrize(("body", "condition"), REFUSED)
def test_other_conditions_stay(body: Expr, condition: Basic) -> None:
    known = {"w": (5,), "x": (5,), "a": (5, 4), "b": (5,)}
    assert unguarded(where(body, condition), known, 0) is None


def test_what_is_read_nowhere_stays_unread() -> None:
    """Zero times infinity is not 0: weights that no output has must not reach one."""
    network = Network("cut")
    a, b = network.index("a", 64), network.index("b", 40)
    x, t = network.input("x", a), network.target("t", b)
    w = network.parameter("w", a, b, init="glorot_uniform")
    network.output("y", Sum(Piecewise((w[a, b] * x[a], a < 48), (0, True)), a), b)
    network.loss(Sum((w[0, b] - t[b]) ** 2, b))
    kernels = symprop.compile(network)
    weights = kernels.initialize()
    weights.w[49] = np.inf
    assert np.isfinite(kernels.forward(weights, np.zeros((9, 64)))).all()


SCATTERED = [
    ((i + p,), (7,)), ((i - p + 2,), (7,)), ((2 - i + p + 2,), (7,)), ((i + p, j), (7, 4)),
    ((i + p, j + q), (7, 5)), ((i + 2 * p, j), (9, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("place", "shape"), SCATTERED)
def test_what_is_added_at_affine_subscripts_is_a_sum(
    place: tuple[Expr, ...], shape: tuple[int, ...]
) -> None:
    random = np.random.default_rng(1)
    d = Idx("d", 2)
    rest = tuple(sorted({i, p, *free_indices(sympy.Add(*place))}, key=str))
    arrays = {"v": random.random((2, 3)), "u": random.random((2, *map(size, rest)))}
    value = Sum(element("v", (d, p)) * element("u", (d, *rest)), (d, 0, 1))
    step = Compute(element("t", place), where(value, i + p >= 1), rest, True)
    found = gathered(step, {**shapes(arrays), "t": shape})
    assert found is not None
    got, expected = np.zeros(shape), np.zeros(shape)
    for at in points(rest):
        expected[tuple(int(s.xreplace(at)) for s in place)] += number(step.value, at, arrays)
    assert all(isinstance(index, Idx) for index in found.target.indices)
    for at in points(found.loops):
        got[tuple(int(s.xreplace(at)) for s in found.target.indices)] = number(
            found.value, at, arrays
        )
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_strides_and_data_are_not_gathered() -> None:
    known = {"t": (13,), "u": (5, 3)}
    for place in (2 * i + 2 * p, element("k", (i,))):
        step = Compute(element("t", (place,)), element("u", (i, p)), (i, p), True)
        assert gathered(step, known) is None
    disjoint = Compute(element("t", (i + 5 * Idx("m", 8),)), element("u", (i, p)), (i, p), True)
    assert gathered(disjoint, {**known, "t": (40,)}) is None  # one of 8 terms would not be 0


def numbers(subscripts: Iterable[Expr], at: Point) -> tuple[int, ...]:
    return tuple(int(part.xreplace(at)) for part in subscripts)


BENT = [
    ((Mod(i + p + 4, 5),), (5,)), ((floor((i + p) / 2),), (4,)), ((Abs(i - p), j), (5, 4)),
    ((Max(Min(i + p - 1, 4), 0),), (5,)),
]  # fmt: skip


@pytest.mark.parametrize(("place", "shape"), BENT)
def test_what_is_added_at_other_subscripts_is_added_up_before(
    place: tuple[Expr, ...], shape: tuple[int, ...]
) -> None:
    target = element("t", place)
    found = spread(target, {"t": shape}, 0)
    assert found is not None
    leaf, condition = guarded(found.value)
    assert condition == sympy.true
    leads = {numbers(found.axes, at): numbers(leaf.indices, at) for at in points(found.axes)}
    for at in points(free_indices(target)):
        assert leads[numbers(found.subscripts, at)] == numbers(place, at)
    assert all(map(is_affine, found.subscripts))
    assert spread(element("t", (i + p,)), {"t": (7,)}, 0) is None


def test_conditions_that_pay() -> None:
    assert often(j <= i)
    assert not often(sympy.Eq(i, j))
    assert not often(element("x", (i,)) > 0)
    assert often(sympy.true)


def test_reads_that_exist() -> None:
    assert readable(element("x", (i + p,)), {"x": (7,)})
    assert not readable(element("x", (i + p,)), {"x": (6,)})
    assert not readable(element("x", (i - p,)), {"x": (7,)})
    assert not readable(element("x", (element("k", (i,)),)), {"x": (7,)})


# ---------------------------------------------------------------------------- in the kernels


def dilated() -> Network:
    """Two causal convolutions, weights as [from, to, time]: the axis of the sums is no last one."""
    net = Network("dilated")
    s, k, c, f, g = (net.index(n, m) for n, m in zip("skcfg", (12, 2, 8, 16, 16), strict=True))
    x, t = net.input("x", s, c), net.target("t", s, g)
    v = net.parameter("v", c, f, k, init="glorot_uniform")
    w = net.parameter("w", f, g, k, init="glorot_uniform")
    past = Piecewise((x[s - 2 * k, c], s >= 2 * k), (0, True))
    h = net.define("h", tanh(Sum(v[c, f, k] * past, c, k)), s, f)
    y = net.output(
        "y", Sum(Piecewise((w[f, g, k] * h[s - 3 * k, f], s >= 3 * k), (0, True)), f, k), s, g
    )
    net.loss(Sum((y[s, g] - t[s, g]) ** 2, s, g))
    return net


def triangular() -> Network:
    """Weights of which one triangle is used."""
    net = Network("triangular")
    a, b = net.index("a", 48), net.index("b", 48)
    x, t = net.input("x", a), net.target("t", b)
    w = net.parameter("w", a, b, init="glorot_uniform")
    y = net.output("y", tanh(Sum(w[a, b] * x[a], (a, 0, b))), b)
    net.loss(Sum((y[b] - t[b]) ** 2, b))
    return net


@pytest.mark.parametrize("layout", ["lanes", "rows"])
@pytest.mark.parametrize("build", [dilated, triangular])
def test_no_product_is_left_under_a_condition(build: Callable[[], Network], layout: str) -> None:
    program = lower(differentiate(build()), layout=layout)  # type: ignore[arg-type]
    found = [*nested(program.gradient.body)]
    branches = [branch for branch in found if isinstance(branch, Branch)]
    inside = [s for b in branches for _, body in b.cases for s in nested(body)]
    assert not any(isinstance(getattr(s, "value", None), Mul) for s in inside)
    products = [s for s in found if isinstance(s, Contract)]
    assert len(products) == (5 if build is dilated else 2)


def test_weights_are_copied_where_a_sample_reads_them_often() -> None:
    program = lower(differentiate(dilated()), layout="rows")
    copies = [s for s in nested(program.gradient.body) if isinstance(s, Transpose)]
    assert {name_of(s.source) for s in copies} == {"v", "w"}
    assert REUSED <= 12


@pytest.mark.parametrize(
    ("build", "batch", "dtype"), [(dilated, 20, "float64"), (triangular, 3, "float32")]
)
def test_the_kernels_are_right(build: Callable[[], Network], batch: int, dtype: str) -> None:
    network = build()
    network.training = replace(network.training, batch_size=batch)
    report = symprop.verify(network, dtype=dtype, points=("moderate",), steps=2)
    assert report.ok
