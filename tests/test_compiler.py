"""Compiled kernels: against differences, against plain Python, and as users meet them."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import replace
from pathlib import Path

import classics
import numpy as np
import pytest
import zoo
from compiled import own_bodies
from numba import njit
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys
from sympy import Rational, Sum, exp, sqrt, tanh

from symprop import Network, logsumexp, softmax
from symprop.compiler import CompiledModule, compile, source_text, write
from symprop.derivation import differentiate
from symprop.errors import OptionError, OutputError
from symprop.loader import load
from symprop.options import Options


def digits(widths: tuple[int, int, int] = (64, 32, 10)) -> Network:
    """The dense classifier of the README, wide enough for matrix products."""
    net = Network("digits")
    i, j, k = (net.index(name, width) for name, width in zip("ijk", widths, strict=True))
    x, t = net.input("x", i), net.target("t", k)
    W1 = net.parameter("W1", i, j, init="glorot_uniform")
    b1 = net.parameter("b1", j)
    W2 = net.parameter("W2", j, k, init="glorot_normal")
    b2 = net.parameter("b2", k)
    h = net.define("h", tanh(Sum(W1[i, j] * x[i], i) + b1[j]), j)
    z = net.define("z", Sum(W2[j, k] * h[j], j) + b2[k], k)
    net.output("p", softmax(z[k], k), k)
    net.loss(logsumexp(z[k], k) - Sum(t[k] * z[k], k))
    return net


def attention() -> Network:
    """Single-head attention, wide enough for products over the samples and for each sample."""
    net = Network("attention")
    s, u = net.index("s", 12), net.index("u", 12)
    d, e, k = net.index("d", 16), net.index("e", 16), net.index("k", 3)
    x, t = net.input("x", s, d), net.target("t", k)
    q, v, w = (net.parameter(name, d, e, init="lecun_normal") for name in ("q", "v", "w"))
    U = net.parameter("U", e, k, init="he_uniform")
    Q = net.define("Q", Sum(q[d, e] * x[s, d], d), s, e)
    K = net.define("K", Sum(v[d, e] * x[s, d], d), s, e)
    V = net.define("V", Sum(w[d, e] * x[s, d], d), s, e)
    a = net.define("a", softmax(Sum(Q[s, e] * K[u, e], e) / sqrt(16), u), s, u)
    y = net.define("y", Sum(a[s, u] * V[u, e], u), s, e)
    z = net.output("z", Sum(U[e, k] * y[s, e], s, e) / 12, k)
    net.loss(logsumexp(z[k], k) - Sum(t[k] * z[k], k))
    return net


def tied() -> Network:
    """An autoencoder with one matrix and a penalty on it: one gradient, three terms."""
    net = Network("tied")
    i, j = net.index("i", 20), net.index("j", 8)
    x, W = net.input("x", i), net.parameter("W", i, j, init="glorot_uniform")
    h = net.define("h", tanh(Sum(W[i, j] * x[i], i)), j)
    y = net.output("y", Sum(W[i, j] * h[j], j), i)
    net.loss(Sum((y[i] - x[i]) ** 2, i) / 2 + Rational(1, 100) * Sum(W[i, j] ** 2, i, j))
    return net


def normalised() -> Network:
    """Weight normalisation: a value of parameters only between the data and the weights."""
    net = Network("normalised")
    a, b = net.index("a", 5), net.index("b", 4)
    x, w, t = net.input("x", a), net.parameter("w", a, b, init="he_normal"), net.target("t", b)
    g = net.parameter("g", b, init=1)
    u = net.define("u", exp(g[b]) * w[a, b] / sqrt(Sum(w[a, b] ** 2, a)), a, b)
    q = net.output("q", Sum(u[a, b] * x[a], a), b)
    net.loss(Sum((q[b] - t[b]) ** 2, b) / 2)
    return net


def online() -> Network:
    """Digits, trained sample by sample: in rows."""
    network = digits()
    network.training = replace(network.training, batch_size=1)
    return network


BUILDERS = {
    "kumar": classics.kumar, "digits": digits, "attention": attention, "tied": tied,
    "online": online,
    "normalised": normalised, "convolution": zoo.ZOO["convolution"],
    "embedding": zoo.ZOO["embedding"],
}  # fmt: skip


@functools.cache
def kernels(name: str, dtype: str = "float64", optimizer: str = "adam") -> CompiledModule:
    return compile(BUILDERS[name](), dtype=dtype, optimizer=optimizer)


@functools.cache
def fresh(name: str, dtype: str) -> CompiledModule:
    """The same, compiled in this process: what comes from a cache has no LLVM to look into."""
    derivation, options = differentiate(BUILDERS[name]()), Options(dtype)
    source = source_text(derivation, options) + f"# compiled by process {os.getpid()}\n"
    return CompiledModule(source, load(source, name), lambda: (derivation, options))


@functools.cache
def plain(name: str, dtype: str):
    """The same text, executed as plain Python."""
    return load(fresh(name, dtype).source, name, jit=False)


def data(network: Network, samples: int, dtype: str = "float64", seed: int = 1) -> list:
    random = np.random.default_rng(seed)
    bounds = network.index_inputs
    return [
        random.integers(0, bounds[v.name], (samples, *v.shape))
        if v.name in bounds
        else random.normal(size=(samples, *v.shape)).astype(dtype)
        for v in (*network.inputs, *network.targets)
    ]


def perturbed(module, seed: int = 2):
    """The initial parameters with noise, so that no bias is 0."""
    random = np.random.default_rng(seed)
    values = (
        (value + 0.3 * random.normal(size=np.shape(value))).astype(module.DTYPE)
        if np.ndim(value)
        else float(value + 0.3 * random.normal())
        for value in module.initialize(3)
    )
    return module.Parameters(*values)


def differences(module, parameters, arrays, name: str) -> np.ndarray:
    """Central differences of the mean loss by every element of a parameter."""
    value = np.asarray(getattr(parameters, name), float)
    found = np.empty(value.shape)
    step = 1e-5
    for place in np.ndindex(value.shape):
        losses = []
        for sign in (1, -1):
            moved = value.copy()
            moved[place] += sign * step
            losses.append(module.loss(parameters._replace(**{name: moved}), *arrays))
        found[place] = (losses[0] - losses[1]) / (2 * step)
    return found


# ------------------------------------------------------------------------------------ right values


@pytest.mark.parametrize("name", BUILDERS)
def test_gradients_are_those_of_the_mean_loss(name: str) -> None:
    """Central differences err by h^2 L''' and by eps L/h: 1e-10 and 1e-11 of the loss."""
    module = kernels(name)
    parameters, arrays = perturbed(module), data(module.derivation.network, 7)
    loss, gradients = module.backward(parameters, *arrays)
    assert loss == pytest.approx(module.loss(parameters, *arrays), rel=1e-13)
    for field in [*parameters._fields][-3:]:
        wanted = differences(module, parameters, arrays, field)
        scale = max(1.0, abs(loss), np.abs(wanted).max())
        np.testing.assert_allclose(getattr(gradients, field), wanted, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("name", ["kumar", "digits", "attention", "embedding"])
def test_compiled_and_plain_python_agree(name: str) -> None:
    """Both do the same operations in another order: some hundred roundings at most."""
    module, python = fresh(name, "float32"), plain(name, "float32")
    network = module.derivation.network
    parameters, arrays = perturbed(module), data(network, 5, "float32")
    tolerance = 500 * float(np.finfo(np.float32).eps)
    inputs = arrays[: len(network.inputs)]
    values, others = (
        [k.forward(parameters, *inputs), *k.backward(parameters, *arrays)] for k in (module, python)
    )
    for one, other in zip(values, others, strict=True):
        pairs = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
        for a, b in pairs:
            scale = max(1.0, float(np.abs(b).max()))
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def test_the_classifier_computes_the_textbook_formulas() -> None:
    module = kernels("digits")
    parameters, (x, t) = perturbed(module), data(module.derivation.network, 40)
    W1, b1, W2, b2 = parameters
    h = np.tanh(x @ W1 + b1)
    z = h @ W2 + b2
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(module.forward(parameters, x), p, rtol=1e-12)
    d_z = (p - t) / 40  # the derivative of logsumexp(z) - t z, whatever t adds up to
    d_h = d_z @ W2.T * (1 - h**2)
    _, gradients = module.backward(parameters, x, t)
    for found, wanted in zip(
        gradients, (x.T @ d_h, d_h.sum(0), h.T @ d_z, d_z.sum(0)), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)


def test_many_samples_are_worked_on_block_by_block() -> None:
    """A batch of several blocks has the gradient of its parts, and so has a training step."""
    module = kernels("tied", optimizer="sgd")
    block = module.module._BLOCK
    parameters = perturbed(module)
    (x,) = data(module.derivation.network, 2 * block + 5)
    loss, gradients = module.backward(parameters, x)
    parts = [module.backward(parameters, x[n : n + 1000]) for n in range(0, len(x), 1000)]
    weights = [min(1000, len(x) - n) / len(x) for n in range(0, len(x), 1000)]
    assert loss == pytest.approx(sum(w * p[0] for w, p in zip(weights, parts, strict=True)))
    mean = sum(w * p[1].W for w, p in zip(weights, parts, strict=True))
    np.testing.assert_allclose(gradients.W, mean, rtol=1e-10)
    after, _ = module.train(parameters, x, epochs=1, batch_size=len(x), learning_rate=0.01)
    np.testing.assert_allclose(after.W, parameters.W - 0.01 * gradients.W, rtol=1e-10)
    assert module.forward(parameters, x).shape == (len(x), 20)


def test_softmax_of_large_logits_is_finite() -> None:
    module = kernels("digits")
    parameters, (x, t) = perturbed(module), data(module.derivation.network, 4)
    huge = parameters._replace(W2=parameters.W2 * 1e4)
    loss, gradients = module.backward(huge, x, t)
    assert np.isfinite(loss)
    assert all(np.isfinite(value).all() for value in gradients)


# ------------------------------------------------------------------------------------- the machine


@pytest.mark.parametrize("name", ["kumar", "digits", "attention", "embedding"])
def test_float32_kernels_compute_in_float32(name: str) -> None:
    """No number is widened to float64 in a kernel: a bare literal would do it."""
    module = fresh(name, "float32")
    parameters = perturbed(module)
    network = module.derivation.network
    module.backward(parameters, *data(network, 5, "float32"))
    own = own_bodies(module.module._gradient_block)
    assert own
    assert not any("fpext" in body for body in own)


def test_a_bare_literal_would_be_found() -> None:
    """The negative control of the test above."""
    source = kernels("kumar", "float32").source
    broken = source.replace("real(1) - ", "1.0 - ", 1) if "real(1) - " in source else source
    module = load(broken.replace("(real(1) - ", "(1.0 - "), "broken")
    network = kernels("kumar", "float32").derivation.network
    module.backward(module.initialize(), *data(network, 5, "float32"))
    (text,) = module._gradient_block.inspect_llvm().values()
    assert "fpext" in text


@pytest.mark.parametrize("name", ["kumar", "digits"])
def test_no_memory_is_allocated_inside_the_loop_of_steps(name: str) -> None:
    """None for the arrays that Python gives either: Numba need not count who holds them."""
    module = kernels(name, "float32", "adam")
    arrays = data(module.derivation.network, 64, "float32")
    parameters = module.initialize()
    module.train(parameters, *arrays, epochs=1)
    _nrt_python.memsys_enable_stats()

    def allocations(steps: int) -> int:
        _, *changed = module.module._copied(module.start(parameters), 64)
        _, *kept = module.module._copied(module.start(parameters), 64)
        room: tuple[object, ...] = ()
        if hasattr(module.module, "_crew"):
            crew = module.module._crew(1, 16)._replace(threads=None)
            room = (*module.module._room(), *crew, 0)
        before = rtsys.get_allocation_stats().mi_alloc
        module.module._advance(
            0, 0, 0, 0.0, *changed, *kept, np.zeros(2, np.int64), np.empty(10**6), 0, 16, True,
            steps, *arrays,
            0.001, 0.9, 0.999, 1e-8, *room,
        )  # fmt: skip
        return rtsys.get_allocation_stats().mi_alloc - before

    assert allocations(2000) == allocations(20) == 0
    before = rtsys.get_allocation_stats().mi_alloc
    module.loss(parameters, *arrays)
    assert rtsys.get_allocation_stats().mi_alloc > before  # else nothing would be counted
    _nrt_python.memsys_disable_stats()


def test_kernels_work_inside_compiled_functions() -> None:
    module = kernels("digits")
    forward, backward, loss = module.module.forward, module.module.backward, module.module.loss
    Parameters = module.Parameters

    @njit
    def descend(W1, b1, W2, b2, x, t):
        parameters = Parameters(W1, b1, W2, b2)
        value, gradients = backward(parameters, x, t)
        return value, gradients.W1, forward(parameters, x), loss(parameters, x, t)

    parameters, (x, t) = perturbed(module), data(module.derivation.network, 6)
    value, slope, p, again = descend(*parameters, x, t)
    assert value == pytest.approx(again, rel=1e-14)
    np.testing.assert_allclose(slope, module.backward(parameters, x, t)[1].W1, rtol=1e-12)
    np.testing.assert_allclose(p, module.forward(parameters, x), rtol=1e-12)


@functools.cache
def compiled(name: str, kernel: str):
    """Return a user's compiled function that calls a kernel."""
    function = getattr(kernels(name).module, kernel)

    @njit
    def call(parameters, arrays):
        return function(parameters, *arrays)

    return call


@pytest.mark.parametrize("kernel", ["forward", "loss", "backward"])
def test_kernels_of_a_tiny_network_are_inlined(kernel: str) -> None:
    """A call with dozens of arguments takes longer than the mathematics."""
    called = {}
    for name in ("kumar", "digits"):  # digits is the negative control
        module, network = kernels(name), kernels(name).derivation.network
        given = network.inputs if kernel == "forward" else (*network.inputs, *network.targets)
        arrays, function = tuple(data(network, 1)[: len(given)]), getattr(module.module, kernel)

        @njit
        def call(parameters, arrays, function=function):
            return function(parameters, *arrays)

        call(module.initialize(), arrays)
        (own,) = own_bodies(call)
        called[name] = bool(re.search(r"(call|invoke) [^\n]*symprop6loader", own))
    assert called == {"kumar": False, "digits": True}


@pytest.mark.parametrize("kernel", ["forward", "loss", "backward"])
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"W1": np.ones((64, 31))}, r"parameter 'W1': expected shape \(64, 32\)"),
        ({"b2": np.ones(9)}, r"parameter 'b2': expected shape \(10,\)"),
        ({"x": np.ones((6, 63))}, r"input 'x': expected shape \(n, 64\)"),
        ({"x": np.ones((0, 64))}, "input 'x': got no samples"),
        ({"t": np.ones((6, 11))}, r"target 't': expected shape \(n, 10\)"),
        ({"t": np.ones((5, 10))}, "target 't': expected as many samples as in 'x'"),
    ],
)
def test_compiled_callers_cannot_read_out_of_bounds(kernel: str, change: dict, match: str) -> None:
    given = good()
    weights = {name: change[name] for name in change if name in given["parameters"]._fields}
    arrays = [change.get(name, given[name]) for name in ("x", "t")]
    if kernel == "forward":
        if "t" in change:
            return
        arrays = arrays[:1]
    with pytest.raises(ValueError, match=match):
        compiled("digits", kernel)(given["parameters"]._replace(**weights), tuple(arrays))


def test_compiled_callers_cannot_read_rows_that_do_not_exist() -> None:
    module = kernels("embedding")
    arrays = data(module.derivation.network, 4)
    place = next(n for n, a in enumerate(arrays) if a.dtype.kind == "i")
    for value in (-1, 10**6):
        wrong = [array.copy() for array in arrays]
        wrong[place].flat[0] = value
        with pytest.raises(ValueError, match="got a subscript outside 0 to"):
            compiled("embedding", "loss")(module.initialize(), tuple(wrong))


@pytest.mark.parametrize("x", [np.ones(64), np.ones((6, 64), np.float32), 1.0])
def test_compiled_callers_learn_which_array_has_the_wrong_type(x: np.ndarray) -> None:
    with pytest.raises(TypingError, match=r"input 'x': got .*, expected an array with 2 axes of"):
        compiled("digits", "forward")(good()["parameters"], (x,))


# ---------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", ["kumar", "digits"])
def test_epochs_add_up_bit_for_bit(name: str) -> None:
    module = kernels(name, optimizer="adam")
    arrays = data(module.derivation.network, 37)
    begin = module.start(module.initialize(3), seed=5)
    middle, first = module.resume(begin, *arrays, epochs=2, batch_size=8)
    parts, second = module.resume(middle, *arrays, epochs=3, batch_size=8)
    whole, losses = module.resume(begin, *arrays, epochs=5, batch_size=8)
    assert all(np.array_equal(a, b) for a, b in zip(parts, whole, strict=True))
    assert np.array_equal(np.concatenate([first, second]), losses)
    assert begin.step == 0
    assert whole.step == 25


def test_a_training_that_was_stopped_inside_an_epoch_goes_on_exactly() -> None:
    """Slices of one step each, stopped by the callback wherever that is."""
    module = kernels("digits")
    arrays = data(module.derivation.network, 50)
    begin = module.start(module.initialize(), seed=1)
    whole, losses = module.resume(begin, *arrays, epochs=3, batch_size=4)
    state, found = begin, []
    stops = 0
    while state.epoch < 3:
        state, part = module.resume(
            state, *arrays, epochs=3 - state.epoch, batch_size=4, callback=lambda done, so_far: True
        )
        found += part.tolist()
        stops += state.position != 0
    assert stops
    assert all(np.array_equal(a, b) for a, b in zip(state, whole, strict=True))
    assert found == losses.tolist()


def test_the_seed_decides_the_order() -> None:
    module = kernels("digits")
    arrays = data(module.derivation.network, 50)
    runs = [
        module.train(module.initialize(), *arrays, epochs=2, batch_size=8, seed=seed)[1]
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_every_epoch_visits_every_sample_once_in_a_new_order() -> None:
    module = kernels("digits")
    arrays = data(module.derivation.network, 50)
    state = module.start(module.initialize())
    orders = []
    for _ in range(3):
        state, _ = module.resume(state, *arrays, epochs=1, batch_size=8)
        orders.append(state.permutation.tolist())
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    state, _ = module.resume(state, *arrays, epochs=1, batch_size=8, shuffle=False)
    assert state.permutation.tolist() == list(range(50))


def test_the_shuffle_has_no_bias() -> None:
    """Each of 5 samples comes first about equally often: chi-square of 4 degrees below 18.5."""
    module = kernels("digits").module
    state, kept = np.array([12345], np.uint64), np.zeros(1, np.uint64)
    order, before, nothing = np.arange(5), np.zeros(5, np.int64), np.zeros((1, 0))
    counts = np.zeros(5)
    for _ in range(5000):
        module._begin(nothing, order, state, nothing, before, kept, True)
        counts[order[0]] += 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 18.5  # 99.9 % quantile


def test_losses_are_the_means_before_each_step() -> None:
    """One batch an epoch: the first loss is that of the parameters that training starts from."""
    module = kernels("tied", optimizer="sgd")
    arrays = data(module.derivation.network, 30)
    parameters = module.initialize(1)
    trained, losses = module.train(parameters, *arrays, epochs=1, batch_size=30, learning_rate=0.1)
    value, gradients = module.backward(parameters, *arrays)
    assert losses[0] == pytest.approx(value, rel=1e-13)
    for after, before, gradient in zip(trained, parameters, gradients, strict=True):
        np.testing.assert_allclose(after, before - 0.1 * gradient, rtol=1e-12, atol=1e-15)


def test_nothing_that_is_passed_in_is_changed() -> None:
    module = kernels("digits")
    parameters, arrays = perturbed(module), data(module.derivation.network, 20)
    state = module.start(parameters)
    copies = [np.array(v) for v in (*parameters, *arrays, *state)]
    module.backward(parameters, *arrays)
    module.train(parameters, *arrays, epochs=2, batch_size=4)
    module.resume(state, *arrays, epochs=2, batch_size=4)
    for copy, value in zip(copies, (*parameters, *arrays, *state), strict=True):
        assert np.array_equal(copy, value)


def test_divergence_names_the_epoch_and_keeps_the_last_good_state() -> None:
    module = kernels("tied", optimizer="sgd")
    arrays = data(module.derivation.network, 40)
    with pytest.raises(module.DivergenceError, match=r"NaN or infinite in epoch \d+") as caught:
        module.train(module.initialize(), *arrays, epochs=500, batch_size=8, learning_rate=30.0)
    error = caught.value
    assert error.epoch == error.state.epoch + 1
    assert error.state.position == 0
    assert np.isfinite(error.state.theta).all()
    if error.epoch > 1:
        again, _ = module.resume(
            module.start(module.initialize()), *arrays, epochs=error.epoch - 1, batch_size=8,
            learning_rate=30.0,
        )  # fmt: skip
        assert np.array_equal(again.theta, error.state.theta)
        assert again.step == error.state.step


def test_a_sum_that_overflows_diverges_though_every_loss_is_finite() -> None:
    net = Network("steep")
    x, w = net.input("x"), net.parameter("w", init=1)
    net.output("y", w * x)
    net.loss(w * x)
    module = compile(net, optimizer="sgd")
    with pytest.raises(module.DivergenceError):
        module.train(module.initialize(), np.full(40, 1e307), epochs=1, learning_rate=0.0)


def test_initial_values() -> None:
    module = kernels("digits", "float32")
    one, same, other = (module.initialize(seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one.W1, other.W1)
    assert np.abs(one.W1).max() <= np.float32(np.sqrt(6 / 96))
    assert one.W2.std() == pytest.approx(np.sqrt(2 / 42), rel=0.15)  # 320 draws: 4 %, 4 sigma
    assert one.W1.dtype == np.float32
    assert not one.b1.any()


def test_parameters_that_are_not_trainable_stay() -> None:
    net = Network("fixed")
    x, t = net.input("x"), net.target("t")
    a, b = net.parameter("a", init=0.5), net.parameter("b", init=0.25, trainable=False)
    y = net.output("y", a * x + b)
    net.loss((y - t) ** 2)
    module = compile(net, optimizer="sgd")
    arrays = data(net, 20)
    trained, _ = module.train(module.initialize(), *arrays, epochs=2)
    assert trained.b == 0.25
    assert trained.a != 0.5
    assert module.backward(module.initialize(), *arrays)[1].b != 0


# ----------------------------------------------------------------------------------- refused input


def good() -> dict:
    module = kernels("digits")
    x, t = data(module.derivation.network, 6)
    return {"parameters": module.initialize(), "x": x, "t": t}


def poisoned(value: float) -> np.ndarray:
    x = good()["x"]
    x[2, 3] = value
    return x


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"x": np.zeros((6, 63))}, ValueError,
         r"input 'x': got shape \(6, 63\), expected \(n, 64\)"),
        ({"x": np.zeros(64)}, ValueError, r"input 'x': got shape \(64,\), expected \(n, 64\)"),
        ({"x": np.zeros((0, 64))}, ValueError, "input 'x': got no samples"),
        ({"t": np.zeros((5, 10))}, ValueError, "'t': got 5 samples, expected 6 as in 'x'"),
        ({"x": np.zeros((6, 64), np.float32)}, TypeError, "'x': got float32, expected float64"),
        ({"x": np.zeros((6, 64), int)}, TypeError, "'x': got int64, expected float64"),
        ({"x": poisoned(np.nan)}, ValueError, "input 'x': got NaN or infinity"),
        ({"x": poisoned(np.inf)}, ValueError, "input 'x': got NaN or infinity"),
        ({"parameters": good()["parameters"]._replace(W1=np.zeros((32, 64)))}, ValueError,
         r"parameter 'W1': got shape \(32, 64\), expected \(64, 32\)"),
        ({"parameters": good()["parameters"]._replace(b1=np.zeros(32, "f"))}, TypeError,
         "parameter 'b1': got float32, expected float64"),
        ({"parameters": (1.0,)}, ValueError, "parameters: got 1, expected 4"),
    ],
)  # fmt: skip
def test_what_no_kernel_can_read_is_refused(change: dict, error: type, match: str) -> None:
    given = {**good(), **change}
    module = kernels("digits")
    with pytest.raises(error, match=match):
        module.backward(given["parameters"], given["x"], given["t"])
    with pytest.raises(error, match=match):
        module.train(given["parameters"], given["x"], given["t"], epochs=1)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"epochs": -1}, "epochs: got -1, expected a whole number >= 0"),
        ({"epochs": 1.5}, "epochs: got 1.5"),
        ({"batch_size": 0}, "batch_size: got 0, expected a whole number >= 1"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan, expected a finite number"),
    ],
)
def test_arguments_of_training_are_checked(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        kernels("digits").train(*good().values(), **arguments)


def test_subscripts_outside_their_axis_are_refused() -> None:
    module = kernels("embedding")
    arrays = data(module.derivation.network, 4)
    place = next(n for n, a in enumerate(arrays) if a.dtype.kind == "i")
    for value in (-1, 10**6):
        wrong = [array.copy() for array in arrays]
        wrong[place].flat[0] = value
        with pytest.raises(ValueError, match="got a subscript outside 0 to"):
            module.loss(module.initialize(), *wrong)
    with pytest.raises(TypeError, match="expected integers"):
        module.loss(
            module.initialize(),
            *(array.astype(float) if n == place else array for n, array in enumerate(arrays)),
        )


def test_a_state_of_another_module_is_refused() -> None:
    module = kernels("digits")
    state = kernels("tied").start(kernels("tied").initialize())
    with pytest.raises(ValueError, match="it belongs to another module"):
        module.resume(state, *data(module.derivation.network, 4), epochs=1)


def test_strided_arrays_are_read_right() -> None:
    module = kernels("digits")
    parameters, x, t = good().values()
    wide = np.repeat(x, 2, axis=0)[::2]
    turned = parameters._replace(W1=np.asfortranarray(parameters.W1))
    assert not wide.flags.c_contiguous
    assert module.loss(turned, wide, t) == module.loss(parameters, x, t)


# ------------------------------------------------------------------------------- compile and write


def test_names_of_the_machinery_never_collide() -> None:
    from test_render import crowded

    source = source_text(differentiate(crowded()), Options())
    module = load(source, "crowded", jit=False)
    parameters, arrays = perturbed(module), data(crowded(), 5)
    _, gradients = module.backward(parameters, *arrays)
    for field in parameters._fields:
        np.testing.assert_allclose(
            getattr(gradients, field), differences(module, parameters, arrays, field), atol=1e-7
        )
    module.train(parameters, *arrays, epochs=2, batch_size=2)


def test_an_output_of_parameters_only_has_a_row_for_each_sample() -> None:
    net = Network("constant")
    k = net.index("k", 3)
    x, t, w = net.input("x"), net.target("t"), net.parameter("w", k, init=[1, 2, 3])
    y = net.define("y", w[k] ** 2, k)
    net.output("y")
    net.loss((Sum(y[k], k) * x - t) ** 2)
    module = compile(net)
    rows = module.forward(module.initialize(), np.ones(4))
    np.testing.assert_array_equal(rows, [[1.0, 4.0, 9.0]] * 4)


def test_several_outputs_are_named() -> None:
    module = kernels("kumar")
    network = module.derivation.network
    found = module.forward(module.initialize(), *data(network, 3)[: len(network.inputs)])
    assert found._fields == network.outputs
    assert found[0].shape == (3,)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(OptionError, match="dtype"):
        compile(classics.kumar(), dtype="float16")
    with pytest.raises(OptionError, match="unknown optimizer 'adamm'"):
        compile(classics.kumar(), optimizer="adamm")


def test_a_compiled_module_has_the_names_of_its_module() -> None:
    module = kernels("kumar")
    assert "train" in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


def test_written_text_is_what_was_compiled(tmp_path: Path) -> None:
    module = kernels("kumar")
    path = write(module, tmp_path / "new" / "folder")
    assert path.name == "kumar.py"
    assert path.read_text() == module.source
    assert write(module, path.parent) == path, "our own file is replaced"
    assert [p.name for p in path.parent.iterdir()] == ["kumar.py"], "nothing else is left"


@pytest.mark.parametrize("content", ["", "print('mine')\n", '"""kumar: my own notes."""\n'])
def test_a_foreign_file_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kumar.py"
    path.write_text(content)
    with pytest.raises(OutputError, match=r"^\S+kumar.py: the file was not generated by symprop"):
        write(kernels("kumar"), tmp_path)
    assert path.read_text() == content
    write(kernels("kumar"), tmp_path, force=True)
    assert path.read_text() == kernels("kumar").source


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write(kernels("kumar"), tmp_path / "file" / "folder")
