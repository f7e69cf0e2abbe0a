"""Tiny networks: a training loop of variables alone, against the same network with tensors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import zoo
from compiled import own_bodies
from sympy import Idx, Piecewise, Sum, tanh

import symprop
from symprop import Network, sigmoid
from symprop.derivation import differentiate
from symprop.loader import load
from symprop.lower import lower
from symprop.lower.program import Assign, Loop, Statement
from symprop.lower.steps import is_sample
from symprop.lower.unroll import MOST
from symprop.network import Training
from symprop.optimizers import OPTIMIZERS
from symprop.options import Options
from symprop.render import render


def small(width: int = 2, batch: int = 1) -> Network:
    """A 2-width-1 network in index notation, its second weight not trained."""
    net = Network("small")
    i, j = net.index("i", 2), net.index("j", width)
    x, t = net.input("x", i), net.target("t")
    W, b = net.parameter("W", i, j, init="glorot_uniform"), net.parameter("b", j)
    V = net.parameter("V", j, init="glorot_uniform", trainable=False)
    h = net.define("h", tanh(Sum(W[i, j] * x[i], i) + b[j]), j)
    y = net.output("y", Sum(V[j] * h[j], j))
    net.loss((y - t) ** 2)
    net.training = Training("adam", batch, 1)
    return net


def assignments(statements: tuple[Statement, ...]) -> list[Assign]:
    found = []
    for statement in statements:
        if isinstance(statement, Loop):
            assert is_sample(statement.index)
            found += assignments(statement.body)
        elif isinstance(statement, Assign):
            found.append(statement)
    return found


def written(net: Network, layout: str, optimizer: str = "adam", dtype: str = "float64") -> str:
    made = differentiate(net)
    program = lower(made, dtype, layout=layout)  # type: ignore[arg-type]
    return render(made, program, Options(dtype, OPTIMIZERS[optimizer]))  # type: ignore[arg-type]


def test_no_loops_and_no_tensors_are_left() -> None:
    straight = lower(differentiate(small())).straight
    assert straight is not None
    assert straight.elements["W"] == ("W_0_0", "W_0_1", "W_1_0", "W_1_1")
    found = assignments(straight.kernel.body)
    assert all(line.target.is_Symbol for line in found)
    read = {str(leaf) for line in found for leaf in line.value.atoms(type(found[-1].target))}
    assert {"W_0_0", "V_1", "b_1"} <= read


def test_the_data_stay_arrays() -> None:
    source = written(small(), "model")
    body = source[source.index("def _stretch(") : source.index("# ----", source.index("def _str"))]
    assert "x[s, 0] * W_0_1" in body
    assert not re.search(r"\b[WbV]\[", re.sub("#.*", "", body))


def test_a_name_that_is_taken_is_not_used_again() -> None:
    net = Network("names")
    i = net.index("i", 2)
    x, t, w = net.input("x", i), net.target("t"), net.parameter("w", i)
    other = net.parameter("w_0", init=2)
    y = net.output("y", Sum(w[i] * x[i], i) * other)
    net.loss((y - t) ** 2)
    straight = lower(differentiate(net), layout="scalars").straight
    assert straight is not None
    first, second = straight.elements["w"]
    assert len({first, second, "w_0"}) == 3


def test_conditions_on_indices_are_decided() -> None:
    net = Network("edges")
    i = net.index("i", 3)
    x, t, w = net.input("x", i), net.target("t"), net.parameter("w", i, init=1)
    edge = Idx("i", 3)
    y = net.output("y", Sum(Piecewise((w[edge] * x[edge], edge > 0), (0, True)), edge))
    net.loss((y - t) ** 2)
    source = written(net, "scalars")
    body = source[source.index("def _stretch(") : source.index("# ----", source.index("def _str"))]
    assert " if " not in body
    assert "w_1" in body
    assert "g_w_0 = 0.0" in body
    assert "g_w_0 +=" not in body


@pytest.mark.parametrize("name", ["embedding", "products"])
def test_what_needs_memory_keeps_it(name: str) -> None:
    """An element chosen by a datum has no variable; and there are only so many."""
    net = zoo.ZOO[name]() if name == "embedding" else small(width=MOST)
    program = lower(differentiate(net), layout="scalars")
    assert program.strategy.scalars
    assert program.straight is None


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch", [1, 4])
def test_training_is_that_with_tensors(optimizer: str, batch: int) -> None:
    """In steps of one sample and of four, the last of three; a few roundings apart."""
    random = np.random.default_rng(0)
    data = [random.standard_normal((23, 2)), random.standard_normal(23)]
    found = []
    for layout in ("scalars", "rows"):
        kernels = load(written(small(), layout, optimizer), "small", jit=False)
        found.append(kernels.train(kernels.initialize(3), *data, epochs=2, batch_size=batch))
    (straight, losses), (tensors, same) = found
    # 46 steps of some 60 operations at most, each off by half an ULP, on values of order 1
    bound = 46 * 60 * np.finfo(float).eps
    assert np.allclose(losses, same, rtol=0, atol=bound)
    for one, other in zip(straight, tensors, strict=True):
        assert np.allclose(one, other, rtol=0, atol=bound)
    assert np.array_equal(straight.V, kernels.initialize(3).V)
    assert not np.array_equal(straight.W, kernels.initialize(3).W)


def test_where_training_is_cut_makes_no_difference() -> None:
    """Slices of any length, also inside an epoch, give the bits of one run."""
    kernels = symprop.compile(small(batch=2))
    random = np.random.default_rng(1)
    data = [random.standard_normal((50, 2)), random.standard_normal(50)]
    state = kernels.start(kernels.initialize(0))
    whole, losses = kernels.resume(state, *data, epochs=6)
    cut, some = state, []
    for epochs in (1, 3, 2):
        cut, part = kernels.resume(cut, *data, epochs=epochs)
        some += part.tolist()
    assert some == losses.tolist()
    assert cut.theta.tobytes() == whole.theta.tobytes()
    assert cut.moments.tobytes() == whole.moments.tobytes()


def backward_branches(body: str) -> int:
    """Count the branches to a label above them in the LLVM text of a function."""
    seen: set[str] = set()
    count = 0
    for line in body.splitlines():
        seen |= set(re.findall(r"^([\w.]+):", line))
        count += not seen.isdisjoint(re.findall(r"label %([\w.]+)", line))
    return count


def test_steps_of_one_sample_have_no_loop_inside() -> None:
    kernels = load(written(small(), "model"), "small")
    random = np.random.default_rng(2)
    data = [random.standard_normal((7, 2)), random.standard_normal(7)]
    parameters = kernels.initialize(0)
    one, _ = kernels.train(parameters, *data, epochs=2, batch_size=1)
    (alone,) = own_bodies(kernels._stretch)
    assert backward_branches(alone) == 1
    kernels.train(parameters, *data, epochs=2, batch_size=2)
    several = {*own_bodies(kernels._stretch)} - {alone}
    assert all(backward_branches(body) > 1 for body in several)
    assert len(several) == 1
    same, _ = kernels.train(parameters, *data, epochs=2, batch_size=1)
    assert np.array_equal(one.W, same.W)


def test_functions_have_their_form_for_one_number_in_the_steps_alone() -> None:
    net = Network("logistic")
    x, t, w = net.input("x"), net.target("t"), net.parameter("w", init=1)
    net.loss((net.output("y", sigmoid(w * x)) - t) ** 2)
    source = written(net, "scalars")
    start = source.index("def _stretch(")
    assert " sigmoid(" in source[:start]
    assert "_sigmoid_alone(" in source[start : source.index("# ----", start)]
    assert "_alone" not in written(net, "scalars", dtype="float32")
    assert "_alone" not in written(net, "rows")
