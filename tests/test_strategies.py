"""Layouts, tiles and blocks: what the cost model chooses, and every choice against the oracle."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zoo
from sympy import Idx, IndexedBase, Piecewise, Sum, exp, tanh

import symprop
from symprop import Network, verification
from symprop.derivation import Derivation, differentiate
from symprop.examples import load_example
from symprop.functions import reduce_max, reduce_min
from symprop.loader import load
from symprop.lower import lower, parts, strategy
from symprop.lower.accumulate import accumulate
from symprop.lower.program import Note, Program, nested
from symprop.lower.steps import (
    SAMPLES,
    Axis,
    Compute,
    Contract,
    Lane,
    Transpose,
    name_of,
)
from symprop.lower.strategy import FEW, LANES, LEAST, OWN, PART, SCALARS, choose
from symprop.lower.tiles import contracted, dotted, started, transposable, transposed
from symprop.network import Training
from symprop.optimizers import find
from symprop.options import Options
from symprop.render import render
from symprop.verification import compare_kernels
from symprop.verification.points import draw
from symprop.verification.replay import replay_long

i, j, k = (Idx(name, size) for name, size in (("i", 64), ("j", 48), ("k", 10)))
s, every = Lane("s", 32), Lane("s", SAMPLES)
W, x, z, d, g, b, y, u = (IndexedBase(name, real=True) for name in "Wxzdgbyu")


def exact() -> Network:
    """Sums and products only: of small whole numbers they are exact, in any order.

    No value has more than 7*3*3 + 3 (h), 21*66*3 + 3 (z) and 3*4167^2 (the loss) units; a sum of
    128 of them is below 2^53.
    """
    net = Network("exact")
    i, j, k = net.index("i", 7), net.index("j", 21), net.index("k", 3)
    x, t = net.input("x", i), net.target("t", k)
    W, b, V = net.parameter("W", i, j), net.parameter("b", j), net.parameter("V", j, k)
    h = net.define("h", Sum(W[i, j] * x[i], i) + b[j], j)
    y = net.output("y", Sum(V[j, k] * h[j], j), k)
    net.loss(Sum((y[k] - t[k]) ** 2, k))
    return net


def equal(some: Iterable[np.ndarray], others: Iterable[np.ndarray]) -> bool:
    """Tell whether all bits are the same."""
    return all(np.array_equal(*pair) for pair in zip(some, others, strict=True))


SEVERAL = 69
"""A number of samples that is three blocks of lanes, the last neither full nor whole registers."""

WAYS = (
    ("lanes", "tiles"), ("lanes", "loops"),
    ("rows", "tiles"), ("rows", "blas"), ("rows", "loops"), ("scalars", "loops"),
)  # fmt: skip

NETWORKS: dict[str, Callable[[], Network]] = {**zoo.ZOO, "exact": exact}


@functools.cache
def derivation(name: str) -> Derivation:
    return differentiate(NETWORKS[name]())


@functools.cache
def lowered(name: str, dtype: str, layout: str, products: str) -> Program:
    """The kernels of a network, in one forced way."""
    made = derivation(name)
    return lower(made, dtype, layout=layout, products=products)  # type: ignore[arg-type]


@functools.cache
def text(name: str, dtype: str, layout: str, products: str) -> str:
    """Their text."""
    made, program = derivation(name), lowered(name, dtype, layout, products)
    options = Options(dtype, find("sgd" if name == "exact" else "adam"))  # type: ignore[arg-type]
    return render(made, program, options)


def module(name: str, dtype: str, layout: str, products: str) -> ModuleType:
    return load(text(name, dtype, layout, products), name)


# ------------------------------------------------------------------------------ the cost model


@pytest.mark.parametrize("dtype", LANES)
def test_a_few_samples_a_step_are_rows(dtype: str) -> None:
    assert choose(FEW, 100, 1000, dtype).layout == "rows"
    assert choose(FEW + 1, 100, 1000, dtype).layout == "lanes"


@pytest.mark.parametrize("batch", [8, 33, 50, 100, 129, 1000, 10_000])
@pytest.mark.parametrize("weights", [100, 10**6])
def test_blocks_are_whole_registers_and_even(batch: int, weights: int) -> None:
    found = choose(batch, 200, weights, "float32")
    assert found.block % 16 == 0
    blocks = -(-batch // found.block)
    assert blocks * found.block - batch < 16 * blocks
    assert found.block <= 128


def test_few_values_become_variables() -> None:
    assert choose(1, 2 * SCALARS, SCALARS, "float32").scalars
    assert not choose(1, 2 * SCALARS + 1, SCALARS, "float32").scalars
    assert not choose(1, 2 * SCALARS, SCALARS + 1, "float32").scalars
    assert not choose(100, SCALARS, SCALARS, "float32").scalars


@pytest.mark.parametrize("dtype", LANES)
def test_the_outputs_of_a_few_samples_are_computed_in_rows(dtype: str) -> None:
    program = lower(derivation("classifier"), dtype, layout="lanes")  # type: ignore[arg-type]
    assert program.few is not None
    assert program.few.strategy.layout == "rows"
    assert program.few.strategy.block == FEW
    assert [kernel.name for kernel in program.kernels] == ["forward", "few", "loss", "gradient"]
    assert lower(derivation("classifier"), dtype, layout="rows").few is None  # type: ignore[arg-type]


def test_what_is_in_a_cache_limits_the_samples_of_a_block() -> None:
    assert choose(1000, 10**5, 100, "float32").block == LANES["float32"]
    assert choose(1000, 3000, 100, "float32").block == 32  # 375 KB of values beside few weights
    assert choose(1000, 3000, 10**5, "float32").block == 2 * LEAST
    assert choose(1000, 10**5, 10**6, "float32").block > LEAST


def test_the_model_can_be_overruled() -> None:
    assert choose(1, 100, 1000, "float32", "lanes").layout == "lanes"
    assert choose(100, 100, 1000, "float32", "rows").layout == "rows"


# ------------------------------------------------------------------------------------- tiles


def test_a_dense_layer_is_a_tile_along_the_samples() -> None:
    shapes = {"W": (64, 48), "x": (64, 32), "z": (48, 32)}
    found = contracted(z[j, s], W[i, j], x[i, s], (i,), shapes)
    assert found is not None
    assert found.tiling.columns == Axis(None, 0, 1, 1)
    assert found.tiling.rows == Axis(48, 1, 0, 32)
    assert found.tiling.terms == (Axis(64, 48, 32, 0),)


def test_a_gradient_reads_a_transposed_copy() -> None:
    shapes = {"x": (64, 32), "d": (48, 32), "g": (64, 48), "d_T": (32, 48)}
    assert contracted(g[i, j], x[i, every], d[j, every], (every,), shapes) is None
    group = transposable(g[i, j], d[j, every], shapes)
    assert group == (j,)
    copy = transposed(d[j, every], group, "d_T", shapes)
    assert (copy.rows, copy.columns, copy.lanes) == (48, 32, True)
    found = contracted(g[i, j], x[i, every], copy.target, (every,), shapes)
    assert found is not None
    assert found.tiling.columns == Axis(48, 0, 1, 1)
    assert found.tiling.terms == (Axis(None, 1, 48, 0),)
    assert not found.tiling.over


@pytest.mark.parametrize(
    ("start", "columns", "rows"),
    [
        (b[j], Axis(None, 0, 1, 1), Axis(48, 1, 0, 32, 1)),
        (y[j, s], Axis(None, 0, 1, 1, 1), Axis(48, 1, 0, 32, 32)),
        (u[s], Axis(None, 0, 1, 1, 1), Axis(48, 1, 0, 32)),
    ],
)
def test_the_sums_of_a_product_start_from_a_tensor(start, columns, rows) -> None:
    """From a bias, from another layer, or from what every unit has in common."""
    shapes = {"W": (64, 48), "x": (64, 32), "z": (48, 32), "b": (48,), "y": (48, 32), "u": (32,)}
    plain = contracted(z[j, s], W[i, j], x[i, s], (i,), shapes)
    assert plain is not None
    found = started(plain, start, shapes)
    assert found is not None
    assert (found.tiling.columns, found.tiling.rows) == (columns, rows)
    assert found.accesses[2].name == name_of(start)
    assert str(found).endswith(f" + {start}")


def test_few_columns_are_summed_lane_by_lane() -> None:
    """The gradient of weights to few outputs; from two operands as they lie, not from a copy."""
    for outputs, lane_by_lane in ((1, True), (3, True), (16, False)):
        made = differentiate(single_layer(60, outputs))
        body = list(nested(lower(made, "float32").gradient.body))
        (found,) = (s for s in body if isinstance(s, Contract) and name_of(s.target) == "dL/dV")
        assert (found.tiling.columns.out == 0) == lane_by_lane
        assert any(isinstance(s, Transpose) for s in body) != lane_by_lane
        assert found.tiling.counted == SAMPLES


def single_layer(inputs: int, outputs: int) -> Network:
    net = Network("layer")
    j, k = net.index("j", inputs), net.index("k", outputs)
    x, t, V = net.input("x", j), net.target("t", k), net.parameter("V", j, k)
    y = net.output("y", Sum(V[j, k] * tanh(x[j]), j), k)
    net.loss(Sum((y[k] - t[k]) ** 2, k))
    return net


def test_no_sum_starts_where_its_tile_finds_no_vectors() -> None:
    shapes = {"W": (64, 48), "x": (64, 32), "z": (48, 32), "y": (32, 48), "b": (48, 48)}
    plain = contracted(z[j, s], W[i, j], x[i, s], (i,), shapes)
    assert plain is not None
    assert started(plain, y[s, j], shapes) is None
    assert started(plain, b[j, j**2], shapes) is None


def test_in_rows_a_layer_runs_along_its_units_or_along_its_sum() -> None:
    """As the weights lie; the samples are its rows, or a loop around dot products."""
    n = Idx("n", SAMPLES)
    shapes = {"W": (64, 48), "V": (48, 64), "x": (64,), "z": (48,), "b": (48,)}
    V = IndexedBase("V", real=True)
    tile = contracted(z[n, j], x[n, i], W[i, j], (i,), shapes)
    assert tile is not None
    assert tile.tiling.columns == Axis(48, 0, 1, 1)
    assert (tile.tiling.rows, tile.tiling.loops) == (Axis(None, 64, 0, 48), ())
    assert tile.tiling.terms == (Axis(64, 1, 48, 0),)
    assert contracted(z[n, j], x[n, i], V[j, i], (i,), shapes) is None
    dots = dotted(z[n, j], x[n, i], V[j, i], (i,), shapes)
    assert dots is not None
    assert (name_of(dots.left), name_of(dots.right)) == ("V", "x")
    assert (dots.tiling.columns, dots.tiling.rows) == (Axis(64, 1, 1, 0), Axis(48, 64, 0, 1))
    assert dots.tiling.loops == (Axis(None, 0, 64, 48),)
    assert (tile.tiling.counted, dots.tiling.counted) == (SAMPLES, SAMPLES)
    found = started(dots, b[j], shapes)
    assert found is not None
    assert found.tiling.unstarted == dots.tiling
    assert found.tiling.rows.start == 1
    assert dotted(z[n, j], x[n, i], W[i, j], (i,), shapes) is None


def test_a_layer_is_a_product_and_its_activation() -> None:
    kernel = lower(differentiate(load_example("digits")), "float32").forward
    starts = [s.start for s in kernel.body if isinstance(s, Contract)]
    assert [name_of(start) for start in starts if start is not None] == ["b1", "b2"]


@pytest.mark.parametrize("layout", ["lanes", "rows"])
@pytest.mark.parametrize(("name", "memory"), [("gates", "product_a"), ("tied", "product_dL_dW")])
def test_a_product_goes_on_where_another_of_the_sum_ends(name, memory, layout) -> None:
    """No loop adds them up: the second one's sums start from the first one's."""
    kernel = lower(derivation(name), layout=layout, products="tiles").gradient
    first, second = (step for step in nested(kernel.body) if f"{memory}[" in str(step))
    assert isinstance(first, Contract)
    assert isinstance(second, Contract)
    assert name_of(first.target) == memory
    assert second.start == first.target


def test_only_the_workspace_is_read_beyond_its_columns() -> None:
    """A line follows it; behind parameters or the user's data there may be no memory."""
    kernel = lower(differentiate(load_example("digits")), "float32").gradient
    room = {storage.name for storage in kernel.workspace}
    over = [name_of(s.right) for s in kernel.body if isinstance(s, Contract) and s.tiling.over]
    assert over
    assert room.issuperset(over)


def test_a_convolution_is_one_too() -> None:
    c, p, o, r = (Idx(name, n) for name, n in (("c", 3), ("p", 4), ("o", 8), ("r", 7)))
    shapes = {"W": (8, 3, 4), "x": (3, 10, 32), "z": (8, 7, 32)}
    found = contracted(z[o, r, s], W[o, c, p], x[c, r + p, s], (c, p), shapes)
    assert found is not None
    assert found.tiling.rows == Axis(8, 12, 0, 224)
    assert found.tiling.loops == (Axis(7, 0, 32, 32),)
    assert found.tiling.terms == (Axis(3, 4, 320, 0), Axis(4, 1, 32, 0))


def test_a_stride_and_an_offset_move_the_right_operand() -> None:
    p, q = Idx("p", 3), Idx("q", 4)
    shapes = {"W": (48, 3), "x": (12, 32), "z": (48, 4, 32)}
    found = contracted(z[j, q, s], W[j, p], x[2 * q + p + 1, s], (p,), shapes)
    assert found is not None
    assert found.tiling.rows == Axis(48, 3, 0, 128)
    assert found.tiling.loops == (Axis(4, 0, 64, 32),)
    assert found.tiling.terms == (Axis(3, 1, 32, 0),)
    assert found.tiling.offsets == (0, 32, 0, 0)


def test_attention_has_lanes_in_both_operands() -> None:
    a, q, r, e = (Idx(name, n) for name, n in (("a", 2), ("q", 4), ("r", 5), ("e", 3)))
    shapes = {"W": (2, 4, 3, 32), "x": (2, 5, 3, 32), "z": (2, 4, 5, 32)}
    found = contracted(z[a, q, r, s], W[a, q, e, s], x[a, r, e, s], (e,), shapes)
    assert found is not None
    assert found.tiling.columns == Axis(None, 1, 1, 1)
    assert found.tiling.rows == Axis(4, 96, 0, 160)
    assert found.tiling.loops == (Axis(2, 384, 480, 640), Axis(5, 0, 96, 32))
    assert found.tiling.terms == (Axis(3, 32, 32, 0),)


def test_two_indices_that_follow_each_other_are_one() -> None:
    shapes = {"W": (48, 10, 64), "x": (64, 32), "z": (48, 10, 32)}
    found = contracted(z[j, k, s], W[j, k, i], x[i, s], (i,), shapes)
    assert found is not None
    assert found.tiling.rows == Axis(480, 64, 0, 32)
    assert found.tiling.loops == ()
    turned = {**shapes, "W": (10, 48, 64)}  # in another order they are not
    found = contracted(z[j, k, s], W[k, j, i], x[i, s], (i,), turned)
    assert found is not None
    assert (found.tiling.rows.count, found.tiling.loops) == (48, (Axis(10, 3072, 0, 32),))


def test_a_product_of_two_indices_is_not() -> None:
    shapes = {"W": (64, 48), "x": (4096, 32), "z": (48, 32)}
    assert contracted(z[j, s], W[i, j], x[i * i, s], (i,), shapes) is None


# ----------------------------------------------------------------------- reductions in lanes


def steps_of(value, *loops):
    return accumulate([Compute(z[loops], value, loops)], {"z": (48, 32)}, {"z"}, 32)[0]


def test_a_sum_starts_at_zero_and_adds() -> None:
    start, adds = steps_of(Sum(W[i, j] * x[i, s], (i, 0, 63)), j, s)
    assert start.value == 0
    assert adds.accumulate
    assert adds.value == W[i, j] * x[i, s]
    assert adds.loops == (j, i, s)


def test_a_maximum_starts_below_everything() -> None:
    start, grows = steps_of(reduce_max(x[i, s], i), j, s)
    assert str(start.value) == "-oo"
    assert grows.loops == (j, i, s)
    assert not grows.accumulate


def test_a_minimum_starts_above_everything() -> None:
    start, shrinks = steps_of(reduce_min(x[i, s], i), j, s)
    assert str(start.value) == "oo"
    assert "minimum" in str(shrinks.value)


def test_a_sum_inside_a_sum_is_complete_before_it_is_read() -> None:
    inner = exp(Sum(W[i, k] * x[k, s], (k, 0, 9)))
    start, below, adds, outer = steps_of(Sum(x[i, s] * inner, (i, 0, 63)), j, s)
    assert (start.value, below.value) == (0, 0)
    assert adds.loops == (j, i, k, s)
    assert outer.loops == (j, i, s)
    assert outer.value == x[i, s] * exp(IndexedBase("total_z", real=True)[j, i, s])


def test_what_has_no_samples_is_left_alone() -> None:
    (step,) = steps_of(Sum(W[i, j], (i, 0, 63)), j, k)
    assert step.value.has(Sum)


def test_a_sum_inside_an_expression_has_an_accumulator() -> None:
    start, adds, whole = steps_of(exp(Sum(x[i, s], (i, 0, 63))), j, s)
    assert start.target.base.label.name == adds.target.base.label.name == "total_z"
    assert whole.value == exp(IndexedBase("total_z", real=True)[j, s])


def test_a_guarded_sum_counts_where_its_branch_is_taken() -> None:
    value = Piecewise((Sum(x[i + j, s], (i, 0, 63)), j < 3), (0, True), evaluate=False)
    _, adds, _ = steps_of(value, j, s)
    assert isinstance(adds.value, Piecewise)
    assert adds.value.args[0].cond == (j < 3)


# --------------------------------------------------------------------------- whole networks


def test_every_large_product_of_digits_is_a_tile() -> None:
    program = lower(differentiate(load_example("digits")), "float32")
    found = [s for s in nested(program.gradient.body) if isinstance(s, Contract)]
    assert len(found) == 6 + 2  # forward, loss, input and weight gradients; bias gradients
    assert all(contract.reason for contract in found)
    assert sum(isinstance(s, Transpose) for s in nested(program.gradient.body)) == 2
    notes = [s.text for s in nested(program.gradient.body) if isinstance(s, Note)]
    assert len(set(notes)) == len(notes)
    assert not any(note.startswith("dL/dx") for note in notes)  # nobody asks for it


@pytest.fixture(scope="module", params=zoo.ZOO)
def each(request: pytest.FixtureRequest) -> str:
    """A network of the zoo; its tests run after one another, and share the kernels."""
    return str(request.param)


def test_the_work_of_a_sample_hardly_depends_on_how_it_is_done(each: str) -> None:
    """A loop counts its additions and conditions, a product its sums; none a block's samples."""
    found = [lowered(each, "float64", *way).work for way in WAYS]
    assert max(found) < 3 * min(found)


def test_every_way_is_right_as_plain_python(each: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, gradients and a step, one block and three; Python checks every subscript."""
    monkeypatch.setattr(verification, "LONG", SEVERAL)
    made, rule = derivation(each), find("adam")
    found = draw(made, "moderate", 2, "float64", np.random.default_rng(0))
    assert found is not None
    texts = {text(each, "float64", *way): way for way in WAYS}
    assert len(texts) >= 2
    for source, way in texts.items():
        kernels = load(source, each, jit=False)
        with np.errstate(all="ignore"):
            rows = compare_kernels(made, kernels, *found, "moderate")
            rows += replay_long(made, kernels, rule, *found, SEVERAL)
        assert not [str(row) for row in rows if not row.ok], way


FORCED = [
    ("classifier", "float32", "lanes", "tiles"),
    ("classifier", "float64", "lanes", "loops"),
    ("classifier", "float32", "rows", "tiles"),
    ("classifier", "float64", "rows", "blas"),
    ("convolution", "float64", "rows", "tiles"),
    ("convolution", "float32", "lanes", "tiles"),
    ("scalars", "float32", "scalars", "loops"),
]
"""Ways that differ in what LLVM makes of them."""


@pytest.mark.parametrize(("name", "dtype", "layout", "products"), FORCED)
def test_every_way_is_verified(name: str, dtype: str, layout: str, products: str) -> None:
    """Outputs, losses, gradients and ten steps of the optimizer against the mathematics."""
    kernels = module(name, dtype, layout, products)
    report = symprop.verify(
        zoo.ZOO[name](), module=kernels, derivation=derivation(name), samples=2, steps=10
    )
    assert report.ok, str(report)


# ------------------------------------------------------------------------ weights in parts


def in_parts(made: Derivation, part: int, patch: pytest.MonkeyPatch) -> Program:
    """The kernels in rows, every weight whose gradient is one product in parts."""
    patch.setattr(parts, "LARGE", 1)
    patch.setattr(parts, "PART", part)
    patch.setattr(strategy, "_ROWS", (32, 32))
    return lower(made, layout="rows", products="tiles")


@pytest.mark.parametrize("part", [1, 10])
@pytest.mark.parametrize("name", ["classifier", "skip", "convolution", "gates"])
def test_weights_in_parts_are_right_as_plain_python(
    name: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients, a step of one block, which is done in parts, and one of three, which is not."""
    made, rule = derivation(name), find("adam")
    program = in_parts(made, part, monkeypatch)
    assert program.gradient.deferred
    found = draw(made, "moderate", 2, "float64", np.random.default_rng(0))
    assert found is not None
    kernels = load(render(made, program, Options("float64", rule)), name, jit=False)
    with np.errstate(all="ignore"):
        rows = compare_kernels(made, kernels, *found, "moderate")
        rows += replay_long(made, kernels, rule, *found, 9)
        rows += replay_long(made, kernels, rule, *found, SEVERAL)
    assert not [str(row) for row in rows if not row.ok]


def alone(name: str) -> Derivation:
    """A network that is trained with one sample a step."""
    net = zoo.ZOO[name]()
    net.training = replace(net.training, batch_size=1)
    return differentiate(net)


FEW_POINTS: Any = {"points": ("moderate",), "samples": 2, "steps": 2}
"""What is verified where not the values matter, but how they are updated."""


@pytest.mark.parametrize("name", ["classifier", "skip", "convolution", "gates"])
def test_weights_element_by_element_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of one sample, which are done so, and of several, which are not."""
    made = alone(name)
    program = in_parts(made, 10, monkeypatch)
    assert {part.rows for part in program.gradient.deferred} == {0}
    source = render(made, program, Options("float64", find("adam")))
    kernels = load(source, name, jit=False)
    with np.errstate(all="ignore"):
        report = symprop.verify(made.network, module=kernels, derivation=made, **FEW_POINTS)
    assert report.ok, str(report)


def test_a_wrong_element_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above: a step of one sample is verified for itself."""
    made = alone("classifier")
    program = in_parts(made, 10, monkeypatch)
    source = render(made, program, Options("float64", find("adam")))
    broken = source.replace("g_W1 = x[0, i]", "g_W1 = 1.01 * x[0, i]")
    assert broken != source
    kernels = load(broken, "broken", jit=False)
    with np.errstate(all="ignore"):
        report = symprop.verify(made.network, module=kernels, derivation=made, **FEW_POINTS)
    assert {row.name for row in report.rows if not row.ok} >= {"W1"}
    assert all("1 sample" in row.point for row in report.rows if not row.ok)


def test_a_part_that_is_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above."""
    made, rule = derivation("classifier"), find("adam")
    source = render(made, in_parts(made, 1, monkeypatch), Options("float64", rule))
    found = draw(made, "moderate", 2, "float64", np.random.default_rng(0))
    assert found is not None
    kernels = load(source.replace("range(0, 7, 1)", "range(0, 6, 1)"), "broken", jit=False)
    with np.errstate(all="ignore"):
        rows = replay_long(made, kernels, rule, *found, 9)
    assert [row for row in rows if not row.ok]


def wide(*, trainable: bool = True, others: bool = True, decay: float = 0.0) -> Network:
    """Two weights that are large enough; with a `decay`, gradients are no products."""
    net = Network("wide")
    net.training = Training("adam", 2, 1)
    i, j, k = net.index("i", 131), net.index("j", 70), net.index("k", 120)
    x, t = net.input("x", i), net.target("t", k)
    b = net.parameter("b", j, trainable=others)
    W = net.parameter("W", i, j, init="glorot_uniform", trainable=trainable)
    V = net.parameter("V", j, k, init="glorot_uniform", trainable=others)
    h = net.define("h", tanh(Sum(W[i, j] * x[i], i) + b[j]), j)
    y = net.output("y", Sum(V[j, k] * h[j], j), k)
    net.loss(Sum((y[k] - t[k]) ** 2, k) + decay * Sum(W[i, j] ** 2 + V[j, k] ** 2, i, j, k))
    return net


def deferred(program: Program) -> list[str]:
    return sorted(name_of(part.product.target) for part in program.gradient.deferred)


def test_large_weights_are_updated_in_parts_in_rows() -> None:
    made = differentiate(wide())
    program = lower(made, "float32")
    assert deferred(program) == ["dL/dV", "dL/dW"]
    assert [part.rows for part in program.gradient.deferred] == [PART // 120, PART // 70]
    one = wide()
    one.training = Training("adam", 1, 1)
    rows = [part.rows for part in lower(differentiate(one), "float32").gradient.deferred]
    assert rows == [0, 0]
    assert not deferred(lower(made, "float32", products="loops"))
    assert not deferred(lower(differentiate(wide(decay=0.5)), "float32"))
    assert not deferred(lower(derivation("classifier"), layout="rows", products="tiles"))


def test_what_is_not_trained_needs_no_gradient_in_the_training() -> None:
    made = differentiate(wide(trainable=False))
    program = lower(made, "float32")
    source = render(made, program, Options("float32", find("adam")))
    assert deferred(program) == ["dL/dV", "dL/dW"]
    body = source[source.index("def _update_parts(") : source.index("- machinery\n")]
    assert "dL/dV" in body
    assert "dL/dW" not in body


@pytest.mark.parametrize("trainable", [True, False])
def test_frozen_weights_stay_as_they_are(trainable: bool) -> None:
    """Where one large weight alone is trained, and where nothing is."""
    made = differentiate(wide(trainable=trainable, others=False))
    options = Options("float32", find("adam"))
    kernels = load(render(made, lower(made, "float32"), options), "frozen", jit=False)
    data = [np.full((3, n), 0.1, np.float32) for n in (131, 120)]
    before = kernels.initialize()
    after, losses = kernels.train(before, *data, epochs=2, batch_size=2)
    pairs = zip(before, after, strict=True)
    same = dict(zip(before._fields, (np.array_equal(*pair) for pair in pairs), strict=True))
    assert same == {"b": True, "W": not trainable, "V": True}
    assert (losses[1] < losses[0]) == trainable


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_parts_have_the_bits_of_the_whole(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = differentiate(wide())
    options = Options("float32", find(rule))
    some = load(render(made, lower(made, "float32"), options), "some")
    monkeypatch.setattr(parts, "LARGE", 10**9)
    none = load(render(made, lower(made, "float32"), options), "none")
    random = np.random.default_rng(0)
    data = [random.standard_normal((100, n), np.float32) for n in (131, 120)]
    for batch_size in (1, 3, 100):  # the last is more than a block
        found = [
            module.train(module.initialize(1), *data, epochs=2, batch_size=batch_size)
            for module in (some, none)
        ]
        (one, losses), (other, same) = found
        assert np.array_equal(losses, same)
        assert equal(one, other)
        assert not np.array_equal(one.W, some.initialize(1).W)


# ------------------------------------------------------------------- numbers without roundings


def whole(
    count: int, kernels: ModuleType, widths: tuple[int, ...] = (7, 3), most: int = 3
) -> tuple[Any, list[np.ndarray]]:
    """Parameters of whole numbers from -3 to 3, and data of those from -most to most."""
    random = np.random.default_rng(count)
    parameters = (random.integers(-3, 4, value.shape) * 1.0 for value in kernels.initialize())
    data = [random.integers(-most, most + 1, (count, width)) * 1.0 for width in widths]
    return kernels.Parameters(*parameters), data


@pytest.mark.parametrize("count", [1, 3, FEW, FEW + 1, 16, 17, 33, 50])
def test_any_number_of_samples_has_the_same_bits_in_lanes_and_in_rows(count: int) -> None:
    """A few samples; blocks of 32 are one register, two, a part of one, and two blocks."""
    lanes = module("exact", "float64", "lanes", "tiles")
    rows = load(text("exact", "float64", "rows", "loops"), "exact", jit=False)
    assert lanes._BLOCK == 32
    parameters, data = whole(count, lanes)
    (loss, gradients), (same, others) = (way.backward(parameters, *data) for way in (lanes, rows))
    assert loss == same
    assert equal(gradients, others)
    assert np.abs(gradients.W).max() > 0
    outputs = (way.forward(parameters, data[0]) for way in (lanes, rows))
    assert np.array_equal(*outputs)


# ------------------------------------------------------------------------------------ threads


@pytest.mark.parametrize("count", [128, 64, 8])
def test_threads_take_the_step_that_one_takes(count: int) -> None:
    """Without roundings, bit for bit; with 8 samples only one of several threads has work."""
    kernels = module("exact", "float64", "lanes", "tiles")
    parameters, data = whole(count, kernels)
    (wanted, loss), *runs = (
        kernels.train(
            parameters, *data, epochs=1, batch_size=count, threads=threads, learning_rate=0.5
        )
        for threads in (1, 2, 3, 7)
    )
    assert not np.array_equal(wanted.W, parameters.W)
    for found, same in runs:
        assert np.array_equal(loss, same)
        assert equal(found, wanted)


def test_threads_have_the_same_bits_in_every_run() -> None:
    kernels = module("classifier", "float64", "lanes", "loops")
    network = zoo.ZOO["classifier"]()
    random = np.random.default_rng(0)
    data = [random.random((101, *v.shape)) for v in (*network.inputs, *network.targets)]
    (parameters, losses), (others, same) = (
        kernels.train(kernels.initialize(0), *data, epochs=3, batch_size=40, threads=2)
        for _ in range(2)
    )
    assert np.array_equal(losses, same)
    assert equal(parameters, others)


def test_no_threads_are_refused() -> None:
    kernels = module("classifier", "float64", "lanes", "loops")
    data = [np.ones((4, *v.shape)) / 3 for v in (*zoo.ZOO["classifier"]().inputs,)]
    target = np.full((4, 3), 1 / 3)
    with pytest.raises(ValueError, match="threads"):
        kernels.train(kernels.initialize(0), *data, target, epochs=1, threads=0)


def test_small_steps_stay_on_one_thread() -> None:
    kernels = module("classifier", "float64", "lanes", "loops")
    assert kernels._crew(None, 32).threads == 1


# ------------------------------------------------------------------------ rows of a thread's own


def whole_numbers(*, trainable: bool = True) -> Network:
    """Weights of inputs whose steps have no roundings: with a bias and without, and across."""
    net = Network("rows")
    net.training = Training("sgd", 32, 1)
    i, m, j, k = (net.index(*axis) for axis in (("i", 23), ("m", 9), ("j", 8), ("k", 10)))
    x, u, t = net.input("x", i), net.input("u", m), net.target("t", j)
    b, c = net.parameter("b", j), net.parameter("c", k)
    W, U = net.parameter("W", i, j, trainable=trainable), net.parameter("U", m, j)
    A = net.parameter("A", k, m)
    g = net.define("g", Sum(W[i, j] * x[i], i) + b[j], j)
    h = net.define("h", Sum(U[m, j] * u[m], m), j)
    a = net.define("a", Sum(A[k, m] * u[m], m) + c[k], k)
    y = net.output("y", Piecewise((g[j], g[j] > 0), (0, True)) + h[j], j)
    net.loss(Sum((y[j] - t[j]) ** 2, j) + Sum((a[k] - 1) ** 2, k))
    return net


def with_rows(net: Network, patch: pytest.MonkeyPatch) -> tuple[Program, str]:
    """Kernels of which the threads own rows of every weight that allows it, and their text."""
    patch.setattr(parts, "LARGE", 1)
    patch.setattr(parts, "OWNED", 0)
    patch.setattr(parts, "OWN", 4)
    patch.setattr(parts, "PART", 16)
    made = differentiate(net)
    program = lower(made, layout="lanes", products="tiles")
    return program, render(made, program, Options("float64", find("sgd")))


def taken(kernels: ModuleType, count: int, threads: int, **given: Any) -> list[np.ndarray]:
    """Return the parameters and the losses after an epoch, from small whole numbers on."""
    parameters, data = whole(count, kernels, (23, 9, 8), 1)
    rates = {"learning_rate": 0.5, **given}
    after, losses = kernels.train(parameters, *data, epochs=1, threads=threads, **rates)
    return [*after, losses]


def test_weights_of_inputs_have_rows_for_each_thread() -> None:
    made = differentiate(wide())
    (part,) = lower(made, "float32", layout="lanes").gradient.deferred
    assert (name_of(part.product.target), part.rows, part.owned) == ("dL/dW", *[PART // 70] * 2)
    assert part.reader
    assert {*map(name_of, part.reader.read)} == {"W", "x", "b"}


def test_rows_that_give_sums_are_owned_some_at_a_time() -> None:
    net = Network("across")
    net.training = Training("adam", 32, 1)
    i, j = net.index("i", 300), net.index("j", 70)
    W, x = net.parameter("W", j, i), net.input("x", i)
    y = net.define("y", tanh(Sum(W[j, i] * x[i], i)), j)
    net.loss(Sum(y[j] ** 2, j))
    (part,) = lower(differentiate(net), "float32", layout="lanes").gradient.deferred
    assert part.copy
    assert name_of(part.copy.source) == "x"
    assert (part.rows, part.owned) == (PART // 300, OWN // (PART // 300) * (PART // 300))


def test_some_weights_have_none() -> None:
    """A decayed one, a small one, and one of many samples."""

    def found(net: Network) -> list[str]:
        return deferred(lower(differentiate(net), "float32", layout="lanes"))

    assert found(wide()) == ["dL/dW"]
    assert not found(wide(decay=0.5))
    many = wide()
    many.training = Training("adam", 128, 1)
    assert not found(many)
    small = derivation("exact")
    assert not deferred(lower(small, layout="lanes", products="tiles"))


@pytest.mark.parametrize("count", [1, 7, 8, 15, 31, 32])
def test_rows_of_threads_take_the_step_that_one_takes(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without roundings, bit for bit; of few samples only some of the threads have any."""
    program, source = with_rows(whole_numbers(), monkeypatch)
    assert deferred(program) == ["dL/dA", "dL/dU", "dL/dW"]
    assert program.strategy.block == 32
    kernels = load(source, "rows")
    wanted = taken(kernels, count, 1)
    moved = zip(wanted, taken(kernels, count, 1, learning_rate=0.0), strict=True)
    assert [np.array_equal(*pair) for pair in moved] == [False] * 5 + [True]
    for threads in (2, 3, 5):
        assert equal(taken(kernels, count, threads), wanted)


@pytest.mark.parametrize(("count", "batch_size"), [(48, 32), (96, 64)])
def test_rows_of_threads_through_an_epoch(
    count: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of one block, before a smaller one, or after one of two, where no rows are owned.

    The means are sums times a power of two, so that they have no roundings either: after two steps
    values have 7 binary places and the losses 14.
    """
    kernels = load(with_rows(whole_numbers(), monkeypatch)[1], "rows")
    wanted = taken(kernels, count, 1, batch_size=batch_size)
    for threads in (2, 3):
        assert equal(taken(kernels, count, threads, batch_size=batch_size), wanted)


def test_frozen_rows_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    program, source = with_rows(whole_numbers(trainable=False), monkeypatch)
    assert deferred(program) == ["dL/dA", "dL/dU", "dL/dW"]
    kernels = load(source, "frozen")
    assert equal(taken(kernels, 20, 2), taken(kernels, 20, 1))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("_apart(_add, into, given)", "_apart(_copy, into, given)"),  # in `_total`
        ("first + (low - start) % size", "first"),
        ("other % threads * workspaces", "thread * workspaces"),  # in `_exchange`
        ("(begins - low) % size", "0"),  # where the samples are collected
        ("_share(23, 2, thread", "_share(22, 2, thread"),  # the last row
        ("given + row * step", "given"),
        (" < high == 10:", " < high == 11:"),  # rows that are left, so that they stay as they are
    ],
)
def test_a_thread_that_forgets_the_others_is_seen(
    right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative controls of the tests above."""
    source = with_rows(whole_numbers(), monkeypatch)[1]
    assert right in source
    kernels = load(source.replace(right, wrong), "broken")
    with contextlib.suppress(kernels.DivergenceError):  # of what was in the memory before
        assert not equal(taken(kernels, 32, 2), taken(kernels, 32, 1))


def test_one_thread_compiles_nothing_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = load(with_rows(whole_numbers(), monkeypatch)[1], "alone")
    if not kernels._WRITTEN:
        pytest.skip("this Numba has no vector machinery")
    for threads in (1, 2):
        taken(kernels, 32, threads)
        made = [len(function.overloads) for function in (kernels._sum_parts, kernels._total)]
        assert made == [threads - 1] * 2
