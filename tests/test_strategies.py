"""Layouts, tiles and blocks: what the cost model chooses, and every choice against the oracle."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
import pytest
import zoo
from sympy import Idx, IndexedBase, Piecewise, Sum, exp

import symprop
from symprop.derivation import differentiate
from symprop.examples import load_example
from symprop.functions import reduce_max
from symprop.loader import load
from symprop.lower import lower
from symprop.lower.accumulate import accumulate
from symprop.lower.program import SAMPLES, Axis, Compute, Contract, Lane, Loop, Note, Transpose
from symprop.lower.strategy import LANES, LEAST, choose
from symprop.lower.tiles import contracted, transposable, transposed
from symprop.optimizers import find
from symprop.options import Options
from symprop.render import render

i, j, k = (Idx(name, size) for name, size in (("i", 64), ("j", 48), ("k", 10)))
s, every = Lane("s", 32), Lane("s", SAMPLES)
W, x, z, d, g = (IndexedBase(name, real=True) for name in ("W", "x", "z", "d", "g"))


@functools.cache
def module(name: str, dtype: str, layout: str, products: str) -> ModuleType:
    """The kernels of a network of the zoo, in one forced way."""
    network = zoo.ZOO[name]()
    derivation = differentiate(network)
    program = lower(derivation, dtype, layout=layout, products=products)  # type: ignore[arg-type]
    options = Options(dtype, find(network.training.optimizer))  # type: ignore[arg-type]
    return load(render(derivation, program, options), network.name)


# ------------------------------------------------------------------------------ the cost model


@pytest.mark.parametrize("dtype", LANES)
def test_lanes_want_half_a_register(dtype: str) -> None:
    half = LANES[dtype] // 2
    assert choose(half - 1, 100, 1000, dtype).layout == "rows"
    assert choose(half, 100, 1000, dtype).layout == "lanes"


@pytest.mark.parametrize("batch", [8, 33, 50, 100, 129, 1000, 10_000])
@pytest.mark.parametrize("weights", [100, 10**6])
def test_blocks_are_whole_registers_and_even(batch: int, weights: int) -> None:
    found = choose(batch, 200, weights, "float32")
    assert found.block % 16 == 0
    blocks = -(-batch // found.block)
    assert blocks * found.block - batch < 16 * blocks
    assert found.block <= 128


def test_large_weights_are_read_for_more_samples() -> None:
    assert choose(1000, 10**5, 100, "float32").block <= LEAST
    assert choose(1000, 10**5, 10**6, "float32").block > LEAST


def test_the_model_can_be_overruled() -> None:
    assert choose(1, 100, 1000, "float32", "lanes").layout == "lanes"
    assert choose(100, 100, 1000, "float32", "rows").layout == "rows"


# ------------------------------------------------------------------------------------- tiles


def test_a_dense_layer_is_a_tile_along_the_samples() -> None:
    shapes = {"W": (64, 48), "x": (64, 32), "z": (48, 32)}
    found = contracted(z[j, s], W[i, j], x[i, s], (i,), shapes)
    assert found is not None
    assert found.tiling.columns == (None, 0) or found.tiling.columns == (32, 0)
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
    assert found.tiling.columns == (48, 0)
    assert found.tiling.terms == (Axis(None, 1, 48, 0),)


def test_a_convolution_is_one_too() -> None:
    c, p, o, r = (Idx(name, n) for name, n in (("c", 3), ("p", 4), ("o", 8), ("r", 7)))
    shapes = {"W": (8, 3, 4), "x": (3, 10, 32), "z": (8, 7, 32)}
    found = contracted(z[o, r, s], W[o, c, p], x[c, r + p, s], (c, p), shapes)
    assert found is not None
    assert found.tiling.rows == Axis(8, 12, 0, 224)
    assert found.tiling.loops == (Axis(7, 0, 32, 32),)
    assert found.tiling.terms == (Axis(3, 4, 320, 0), Axis(4, 1, 32, 0))


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


def walk(statements):
    for statement in statements:
        yield statement
        if isinstance(statement, Loop):
            yield from walk(statement.body)


def test_every_large_product_of_digits_is_a_tile() -> None:
    program = lower(differentiate(load_example("digits")), "float32")
    found = [s for s in walk(program.gradient.body) if isinstance(s, Contract)]
    assert len(found) == 5 + 2  # forward, input gradient, weight gradients; bias gradients
    assert all(contract.reason for contract in found)
    assert sum(isinstance(s, Transpose) for s in walk(program.gradient.body)) == 2
    notes = [s.text for s in walk(program.gradient.body) if isinstance(s, Note)]
    assert len(set(notes)) == len(notes)
    assert not any(note.startswith("dL/dx") for note in notes)  # nobody asks for it


FORCED = [
    ("classifier", "float32", "lanes", "tiles"),
    ("classifier", "float64", "lanes", "loops"),
    ("classifier", "float32", "rows", "blas"),
    ("attention", "float64", "lanes", "tiles"),
    ("convolution", "float32", "lanes", "tiles"),
    ("convolution", "float64", "rows", "loops"),
    ("tied", "float64", "lanes", "tiles"),
    ("embedding", "float32", "lanes", "tiles"),
    ("pooling", "float64", "rows", "loops"),
    ("scalars", "float32", "lanes", "loops"),
]
"""Ways that differ in what they exercise; the rest of the zoo goes the way of the cost model."""


@pytest.mark.parametrize(("name", "dtype", "layout", "products"), FORCED)
def test_every_way_is_verified(name: str, dtype: str, layout: str, products: str) -> None:
    """Outputs, losses, gradients and ten steps of the optimizer against the mathematics."""
    kernels = module(name, dtype, layout, products)
    report = symprop.verify(zoo.ZOO[name](), dtype=dtype, module=kernels, steps=10)
    assert report.ok, str(report)


@pytest.mark.parametrize("count", [1, 5, 16, 17, 33, 50])
def test_any_number_of_samples(count: int) -> None:
    """In lanes and in rows the same to a few roundings of the largest of each gradient."""
    random = np.random.default_rng(count)
    network = zoo.ZOO["classifier"]()
    data = [random.random((count, *v.shape)) for v in (*network.inputs, *network.targets)]
    ways = [
        module("classifier", "float64", *way) for way in (("lanes", "loops"), ("rows", "loops"))
    ]
    parameters = ways[0].initialize(3)
    (loss, gradients), (same, others) = (way.backward(parameters, *data) for way in ways)
    roundings = 50 * (count + 20) * np.finfo(float).eps
    assert abs(loss - same) <= roundings * abs(same)
    for one, other in zip(gradients, others, strict=True):
        assert np.abs(one - other).max() <= roundings * max(1e-3, np.abs(other).max())
    outputs = [way.forward(parameters, *data[:1]) for way in ways]
    assert np.abs(outputs[0] - outputs[1]).max() <= roundings


# ------------------------------------------------------------------------------------ threads


def test_threads_change_the_last_digits_and_nothing_between_runs() -> None:
    kernels = module("classifier", "float64", "lanes", "loops")
    network = zoo.ZOO["classifier"]()
    random = np.random.default_rng(0)
    data = [random.random((101, *v.shape)) for v in (*network.inputs, *network.targets)]
    start = kernels.initialize(0)
    runs = [
        kernels.train(start, *data, epochs=3, batch_size=40, threads=threads)
        for threads in (1, 2, 2, 3, 7)
    ]
    (parameters, losses), (others, same) = runs[1:3]
    assert np.array_equal(losses, same)
    assert all(np.array_equal(a, b) for a, b in zip(parameters, others, strict=True))
    for parameters, losses in runs[1:]:
        assert np.allclose(losses, runs[0][1], rtol=1e-12, atol=0)
        for a, b in zip(parameters, runs[0][0], strict=True):
            assert np.abs(a - b).max() < 1e-9  # Adam divides by the root of what it rounds


def test_no_threads_are_refused() -> None:
    kernels = module("classifier", "float64", "lanes", "loops")
    data = [np.ones((4, *v.shape)) / 3 for v in (*zoo.ZOO["classifier"]().inputs,)]
    target = np.full((4, 3), 1 / 3)
    with pytest.raises(ValueError, match="threads"):
        kernels.train(kernels.initialize(0), *data, target, epochs=1, threads=0)


def test_small_steps_stay_on_one_thread() -> None:
    kernels = module("classifier", "float64", "lanes", "loops")
    assert kernels._crew(None, 32).threads == 1
