"""Verification: right kernels pass, and every mutation of them is caught and named."""

from __future__ import annotations

import json
import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy
from simulated import Simulated
from sympy import Sum, tanh
from zoo import ZOO

import symprop
from symprop import Network
from symprop.derivation import Derivation, differentiate
from symprop.errors import VerificationError
from symprop.loader import load
from symprop.network import Equation
from symprop.optimizers import OPTIMIZERS
from symprop.verification import Report, check, verify, verify_training
from symprop.verification.comparison import MANY, compare, compare_equal, compare_mean, merge
from symprop.verification.points import KINDS, draw, integer_data, mathematics
from symprop.verification.precise import arithmetic

QUICK = ("moderate", "extreme")


# Kernels written by hand


def square_network() -> Network:
    """Three units everywhere, so that a swapped index fits."""
    net = Network("square")
    i, j, k = net.index("i", 3), net.index("j", 3), net.index("k", 3)
    x, t = net.input("x", i), net.target("t", k)
    W1, b1 = net.parameter("W1", i, j), net.parameter("b1", j)
    W2, b2 = net.parameter("W2", j, k), net.parameter("b2", k)
    h = net.define("h", tanh(Sum(W1[i, j] * x[i], i) + b1[j]), j)
    z = net.define("z", Sum(W2[j, k] * h[j], j) + b2[k], k)
    net.output("p", symprop.softmax(z[k], k), k)
    net.loss(symprop.logsumexp(z[k], k) - Sum(t[k] * z[k], k))
    net.training = replace(net.training, batch_size=16)  # small enough for loops, not tiles
    return net


Parameters = namedtuple("Parameters", "W1 b1 W2 b2")


def by_hand(dtype: str = "float64", mutation: str = "") -> Any:
    """Return NumPy kernels of `square_network` as a person writes them, or with one mistake."""

    def values(p: Any, x: Any) -> Any:
        h = np.tanh(x @ (p.W1.T if mutation == "index" else p.W1) + p.b1)
        z = h @ p.W2 + (0 if mutation == "bias" else p.b2)
        top = 0 if mutation == "naive" else z.max(axis=1, keepdims=True)
        e = np.exp(z - top)
        return h, z, e / e.sum(axis=1, keepdims=True), (np.log(e.sum(axis=1)) + np.ravel(top))

    def loss(p: Any, x: Any, t: Any) -> float:
        _, z, _, lse = values(p, x)
        return float((lse - (t * z).sum(axis=1)).mean(dtype=dtype))

    def backward(p: Any, x: Any, t: Any) -> Any:
        if mutation == "writes":
            x[0, 0] += 1
        h, z, y, lse = values(p, x)
        n = 1 if mutation == "mean" else len(x)
        dz = (y + t if mutation == "sign" else y - t) / np.dtype(dtype).type(n)
        dh = dz @ p.W2.T * (1 - h * h)
        found = Parameters(x.T @ dh, dh.sum(axis=0), h.T @ dz, dz.sum(axis=0))
        if mutation == "nan":
            found.W2[2, 1] = np.nan
        if mutation == "shape":
            found = found._replace(b1=found.b1[:2])
        return float((lse - (t * z).sum(axis=1)).mean(dtype=dtype)), found

    return SimpleNamespace(
        Parameters=Parameters, forward=lambda p, x: values(p, x)[2], loss=loss, backward=backward
    )


@pytest.fixture(scope="module")
def square() -> Derivation:
    return differentiate(square_network())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernels_by_hand_are_right(square: Derivation, dtype: str) -> None:
    with np.errstate(all="ignore"):
        report = verify(square.network, dtype=dtype, module=by_hand(dtype), derivation=square)
    assert report.ok, str(report)
    assert [f"{row.kind} {row.name}" for row in report.rows] == [
        "output p", "loss L", "gradient W1", "gradient b1", "gradient W2", "gradient b2",
    ]  # fmt: skip
    assert len(report.points) == len(KINDS)
    assert not report.skipped


MUTATIONS = {
    "sign": r"gradient W1.*gradient b1.*gradient W2.*gradient b2",
    "bias": r"output p\[\d, \d\] \(.*loss L \(.*gradient W1",
    "index": r"output p.*gradient W1\[\d, \d\]",
    "mean": r"gradient W1\[\d, \d\] \(moderate \d, 2053 samples\): got .*, expected .*: off by",
    "nan": r"gradient W2\[2, 1\] \(.*\): got nan, expected .*: not finite where the true value is",
    "naive": r"output p.*\(extreme, .*: got nan, expected .*: not finite",
    "shape": r"gradient b1 \(.*\): got an array of shape \(2,\), expected \(3,\)",
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_mistake_is_caught_and_named(square: Derivation, mutation: str) -> None:
    with np.errstate(all="ignore"):
        report = verify(square.network, module=by_hand(mutation=mutation), derivation=square)
    assert not report.ok
    with pytest.raises(VerificationError) as caught:
        report.check()
    assert re.search(MUTATIONS[mutation], str(caught.value), re.DOTALL), str(caught.value)
    assert caught.value.exit_status == 1
    assert "WRONG" in str(report)
    assert str(report).endswith("NOT verified")


def test_a_kernel_that_writes_into_its_data_is_refused(square: Derivation) -> None:
    with pytest.raises(VerificationError, match="backward changes its argument 1"):
        verify(square.network, module=by_hand(mutation="writes"), derivation=square)


def test_a_kernel_that_fails_is_refused(square: Derivation) -> None:
    kernels = by_hand()
    kernels.loss = lambda *_: 1 / 0
    with pytest.raises(VerificationError, match=r"loss fails \(moderate 1.*ZeroDivisionError"):
        verify(square.network, module=kernels, derivation=square)


# Simulated kernels: rounding of every kind of equation


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ZOO)
def test_rounded_equations_pass(name: str, dtype: str) -> None:
    derivation = differentiate(ZOO[name]())
    kernels = Simulated(derivation, dtype)
    report = verify(
        derivation.network, dtype=dtype, module=kernels, derivation=derivation, steps=1,
        points=QUICK,
    )  # fmt: skip
    assert report.ok, str(report)
    assert max(row.share for row in report.rows) > 1e-3


Change = Callable[[Equation], Equation]


def on(name: str, change: Callable[[Any], Any]) -> Change:
    """Return a mutation of the one equation called `name`."""
    return lambda eq: replace(eq, rhs=change(eq.rhs)) if eq.name == name else eq


def simulated(derivation: Derivation, **options: Any) -> Report:
    kernels = Simulated(derivation, **options)
    return verify(
        derivation.network, module=kernels, derivation=derivation, points=("moderate",), steps=0
    )


def test_a_tiny_relative_mistake_in_one_gradient_is_caught() -> None:
    derivation = differentiate(ZOO["attention"]())
    grow = on("dL/dWk", lambda rhs: rhs * (1 + sympy.Float(1e-12)))
    report = simulated(derivation, change=grow)
    assert [row.name for row in report.rows if not row.ok] == ["Wk"]


def test_a_sign_in_an_inner_adjoint_reaches_the_gradients_below() -> None:
    derivation = differentiate(ZOO["skip"]())
    report = simulated(derivation, change=on("dL/du", lambda rhs: -rhs))
    assert [row.name for row in report.rows if not row.ok] == ["W"]


def test_a_missing_mean_is_caught() -> None:
    derivation = differentiate(ZOO["embedding"]())
    report = simulated(derivation, missing_mean=True)
    assert {row.kind for row in report.rows if not row.ok} == {"loss", "gradient"}


# Formulas


def changed(derivation: Derivation, change: Change) -> Any:
    return SimpleNamespace(
        network=derivation.network,
        forward=tuple(map(change, derivation.forward)),
        backward=tuple(map(change, derivation.backward)),
        adjoint_name=derivation.adjoint_name,
        loss_name=derivation.loss_name,
    )


def test_a_wrong_formula_is_caught_although_the_kernels_follow_it() -> None:
    derivation = differentiate(ZOO["scalars"]())
    wrong = changed(derivation, on("dE/dw3", lambda rhs: rhs + sympy.Float(1e-15)))
    kernels = Simulated(wrong)
    report = verify(wrong.network, module=kernels, derivation=wrong, points=("moderate",), steps=0)
    assert all(row.ok for row in report.rows)
    assert {(part.name, part.method) for part in report.agreements if not part.ok} == {
        ("w3", "central differences"), ("w3", "sympy.diff"),
    }  # fmt: skip
    with pytest.raises(VerificationError, match="gradient of w3: the formula gives"):
        report.check()


def test_a_wrong_element_is_found_by_the_direction_of_the_whole_tensor() -> None:
    derivation = differentiate(ZOO["classifier"]())
    i, j = derivation.network.indices[:2]
    at = sympy.Piecewise((1, sympy.Eq(i, 6) & sympy.Eq(j, 4)), (0, True))
    wrong = changed(derivation, on("dL/dW1", lambda rhs: rhs + at / 10**12))
    report = verify(
        wrong.network, module=Simulated(wrong), derivation=wrong, points=("moderate",), steps=0
    )
    assert "W1" in {part.name for part in report.agreements if not part.ok}


def test_exact_gradients_agree_to_thirty_digits() -> None:
    derivation = differentiate(ZOO["functions"]())
    report = simulated(derivation)
    assert max(part.difference for part in report.agreements) < 1e-30


# Training


def adam(change: Callable[[Any], Any], slot: str = "theta") -> Change:
    return on(slot, change)


UPDATES: dict[str, tuple[Change, set[str]]] = {
    "no bias correction": (
        adam(lambda rhs: rhs.subs(sympy.Symbol("t", real=True), 10**6)),
        {"W1", "b1", "W2", "b2"},
    ),
    "second moment of the new gradient only": (
        adam(lambda rhs: rhs * (1 + sympy.Float(1e-12)), "v"),
        {"W1 (v)", "b1 (v)", "W2 (v)", "b2 (v)"},
    ),
    "ascent": (
        adam(lambda rhs: 2 * sympy.Symbol("theta", real=True) - rhs),
        {"W1", "b1", "W2", "b2"},
    ),
}


@pytest.mark.parametrize("name", UPDATES)
def test_a_wrong_update_is_caught_although_the_gradients_are_right(
    square: Derivation, name: str
) -> None:
    update, expected = UPDATES[name]
    rows = verify_training(Simulated(square, update=update), square.network, steps=2)
    wrong = {row.name for row in rows if not row.ok}
    assert expected <= wrong


@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_optimizer_passes(square: Derivation, rule: str, dtype: str) -> None:
    kernels = Simulated(square, dtype, optimizer=OPTIMIZERS[rule])
    rows = verify_training(kernels, square.network, optimizer=rule, dtype=dtype, steps=3, samples=2)
    assert all(row.ok for row in rows), [str(row) for row in rows if not row.ok]


def test_parameters_that_are_not_trainable_stay() -> None:
    derivation = differentiate(ZOO["scalars"]())
    kernels = Simulated(derivation)
    assert all(row.ok for row in verify_training(kernels, derivation.network, steps=2))
    kernels.frozen = False
    rows = verify_training(kernels, derivation.network, steps=2)
    assert {row.name for row in rows if not row.ok} == {"b2"}


def test_train_must_equal_its_steps(square: Derivation) -> None:
    kernels = Simulated(square)
    train = kernels.train

    def off(*arguments: Any, **settings: Any) -> Any:
        parameters, losses = train(*arguments, **settings)
        return parameters._replace(b2=np.nextafter(parameters.b2, 9)), losses

    kernels.train = off  # type: ignore[method-assign]
    rows = verify_training(kernels, square.network, steps=2)
    wrong = [row for row in rows if not row.ok]
    assert [row.name for row in wrong] == ["b2"]
    assert "2 epochs at once" in str(wrong[0])


# Points


def test_extreme_points_reach_the_promised_logits(square: Derivation) -> None:
    for dtype, limit in (("float64", 1e4), ("float32", 80.0)):
        found = draw(square, "extreme", 3, dtype, np.random.default_rng(0))
        assert found is not None
        logits = np.abs(found[1].values["z"].approximate).max()
        assert limit / 30 < logits <= 3 * limit


def test_integer_inputs_are_drawn_in_range() -> None:
    derivation = differentiate(ZOO["embedding"]())
    assert integer_data(derivation.network) == {"token": 7}
    found = draw(derivation, "large", 4, "float32", np.random.default_rng(0))
    assert found is not None
    token = found[0].data["token"]
    assert token.dtype == np.int64
    assert token.min() >= 0
    assert token.max() < 7


def test_samples_outside_the_domain_are_redrawn() -> None:
    net = Network("roots")
    x, w = net.input("x"), net.parameter("w")
    y = net.output("y", sympy.log(x) + sympy.sqrt(w))
    net.loss(y**2)
    derivation = differentiate(net)
    report = verify(net, module=Simulated(derivation), derivation=derivation, steps=0)
    assert report.ok
    assert report.skipped == ("zero",)
    assert "no finite value at: zero" in str(report)


def test_a_network_without_finite_values_is_named() -> None:
    net = Network("nowhere")
    x, w = net.input("x"), net.parameter("w")
    net.output("y", sympy.log(-1 - (w * x) ** 2))
    net.loss(w * x)
    derivation = differentiate(net)
    with pytest.raises(VerificationError, match=r"'nowhere': at none of the points.*logarithms"):
        verify(net, module=Simulated(derivation), derivation=derivation)


def test_a_naive_form_is_left_out_where_the_dtype_cannot_compute_it() -> None:
    net = Network("cosh")
    x, w = net.input("x"), net.parameter("w")
    y = net.output("y", w * x)
    net.loss(sympy.log(2 + sympy.exp(y) + sympy.exp(3 * y)))
    derivation = differentiate(net)
    report = verify(net, module=Simulated(derivation), derivation=derivation, steps=0)
    assert report.ok
    assert sum(row.unchecked for row in report.rows) > 0
    assert "comparisons were left out" in str(report)


def test_dead_points_are_redrawn() -> None:
    net = Network("dead")
    x, t = net.input("x"), net.target("t")
    w, b = net.parameter("w"), net.parameter("b")
    y = net.output("y", symprop.relu(w * x + b - 1))
    net.loss((y - t) ** 2)
    derivation = symprop.differentiate(net)
    for seed in range(5):
        found = draw(derivation, "moderate", 3, "float64", np.random.default_rng(seed))
        assert found is not None
        assert found[1].values[derivation.adjoint_name("w")].approximate.any()


def test_kinks_are_redrawn_or_allowed_for() -> None:
    derivation = differentiate(ZOO["pooling"]())
    for kind in KINDS:
        found = draw(derivation, kind, 3, "float32", np.random.default_rng(3))
        assert found is not None
        assert not any(rows.any() for rows in found[1].undecided.values())


# Reports


def test_the_report_is_data(square: Derivation) -> None:
    report = verify(square.network, module=by_hand(mutation="nan"), derivation=square, points=QUICK)
    data = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert data["ok"] is False
    assert data["network"] == "square"
    by_name = {row["name"]: row for row in data["rows"]}
    assert by_name["W2"]["got"] == "nan"
    assert by_name["W2"]["place"] == [2, 1]
    assert by_name["W1"]["ok"] is True
    assert data["failures"] == [str(row) for row in report.failures]


def test_the_report_is_a_table(square: Derivation) -> None:
    report = verify(square.network, module=by_hand(), derivation=square, points=QUICK)
    lines = str(report).splitlines()
    assert lines[0] == "square, float64: error in units of epsilon*sum|terms|"
    assert lines[1].split()[:3] == ["quantity", "error", "used"]
    assert lines[2].split()[:3] == ["ok", "output", "p"]
    assert lines[-1] == "verified"


def test_merging_keeps_the_worst_and_counts_all(square: Derivation) -> None:
    found = draw(square, "moderate", 2, "float64", np.random.default_rng(0))
    assert found is not None
    exact, form = found[1].values["p"], arithmetic("float64")
    right = compare("output", "p", exact.approximate, exact, "here", form)
    wrong = compare("output", "p", exact.approximate + 1e-9, exact, "there", form)
    (joined,) = merge([right, wrong])
    assert joined.point == "there"
    assert joined.checked == 12
    assert not joined.ok


@pytest.mark.parametrize("wrong", [1e-6, np.nan])
def test_one_wrong_element_among_very_many_is_found(wrong: float) -> None:
    form = arithmetic("float64")
    numbers = np.random.default_rng(0).normal(size=(2, 100, 2 * MANY // 100))
    samples = form.leaf(numbers)
    got = numbers.mean(axis=0)
    right = compare_mean("gradient", "W", got, samples, 2, "here", form)
    assert right.ok
    assert right.checked == got.size
    got[71, 13] += wrong
    row = compare_mean("gradient", "W", got, samples, 2, "here", form)
    assert row.place == (71, 13)
    assert not row.ok


def test_equal_means_bit_for_bit() -> None:
    form, numbers = arithmetic("float32"), np.ones((2, 3), np.float32)
    assert compare_equal("training", "W", numbers, numbers, "here", form).ok
    other = numbers.copy()
    other[1, 2] = np.nextafter(np.float32(1), np.float32(2))
    row = compare_equal("training", "W", other, numbers, "here", form)
    assert row.place == (1, 2)
    assert not row.ok
    assert not compare_equal("training", "W", numbers[0], numbers, "here", form).ok


def test_the_seed_decides_the_points(square: Derivation) -> None:
    first, second, other = (
        draw(square, "moderate", 2, "float64", np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first is not None
    assert second is not None
    assert other is not None
    assert np.array_equal(first[0].data["x"], second[0].data["x"])
    assert not np.array_equal(first[0].data["x"], other[0].data["x"])
    again = mathematics(square, first[0]).values["L"].exact
    assert (again == first[1].values["L"].exact).all()


# Generated kernels

SOURCE_MUTATIONS: dict[str, tuple[str, str, str]] = {
    "a sign": (r"= p - t", "= p + t", "gradient"),
    "a dropped bias": (r"b2\[k\] \+ total_z\[k, s\]", "total_z[k, s]", "output"),
    "a swapped index": (r"W2\[j, k\] \* d_z\[k, s\]", "W2[k, j] * d_z[k, s]", "gradient"),
    "a transposed gradient": (r"g_W1\[i, j\] \+=", "g_W1[j, i] +=", "gradient"),
    "a missing square": (r"1 - h\[j, s\] \* h\[j, s\]", "1 - h[j, s]", "gradient"),
    "a missing mean of the loss": (r"return total / n\n", "return total\n", "loss"),
    "a missing mean of the gradient": (r"real\(1\.0 / n\)", "real(1.0)", "gradient"),
    "a forgotten block": (r"_add\(gradient, part\)", "pass", "gradient"),
    "an unstable softmax": (
        r"max_z\[s\] = maximum\(max_z\[s\], z\[k, s\]\)",
        "max_z[s] = 0.0",
        r"output p\[.*\(extreme",
    ),
    "ascent": (r"theta\[element\] -=", "theta[element] +=", "training"),
    "no bias correction": (r"1 - beta1\s*\*\*\s*float\(iteration\)", "1", "training"),
    "a sum in place of a mean": (r"1\.0 / size", "1.0", "training"),
}


@pytest.fixture(scope="module")
def compiled() -> Any:
    return symprop.compile(square_network())


def test_generated_kernels_are_right(compiled: Any) -> None:
    report = check(compiled)
    assert report.ok
    assert {row.kind for row in report.rows} == {"output", "loss", "gradient", "training"}


@pytest.mark.parametrize("mutation", SOURCE_MUTATIONS)
def test_a_mutated_source_is_caught(compiled: Any, mutation: str) -> None:
    pattern, replacement, kind = SOURCE_MUTATIONS[mutation]
    source, count = re.subn(pattern, replacement, compiled.source)
    assert count, f"the generated text has changed; find a new pattern for {mutation}"
    module = load(source, "mutated", jit=False)
    with np.errstate(all="ignore"), pytest.raises(VerificationError, match=kind):
        verify(
            compiled.derivation.network, module=module, derivation=compiled.derivation,
            points=QUICK, steps=2,
        ).check()  # fmt: skip


def test_kernels_of_another_network_are_refused(compiled: Any) -> None:
    with pytest.raises(VerificationError, match="'classifier': got kernels with the fingerprint"):
        verify(ZOO["classifier"](), module=compiled)


def test_the_unmutated_source_is_right_as_plain_python(compiled: Any) -> None:
    module = load(compiled.source, "plain", jit=False)
    with np.errstate(all="ignore"):
        report = verify(
            compiled.derivation.network, module=module, derivation=compiled.derivation, points=QUICK
        )
    assert report.ok, str(report)
