"""`symprop bench`: the same work for all, counted right; nothing here looks at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sympy import Function, Piecewise, Sum, log, tanh
from zoo import ZOO

import symprop
from symprop import Network, bench, examples
from symprop.bench import contestants, machine, running, workload
from symprop.bench.arrays import NAMESPACES, load
from symprop.bench.counting import Work, count_step, count_update, floor_seconds, needed
from symprop.bench.dense import NotExpressibleError, recognise
from symprop.bench.processes import Process, ProcessError
from symprop.bench.report import Case, Report, Row
from symprop.bench.translate import TranslationError, translate, translate_rule
from symprop.bench.workload import CASES, Settings
from symprop.description import dump, parse
from symprop.errors import DataError, OptionError, OutputError
from symprop.layers import mlp
from symprop.optimizers import OPTIMIZERS, find
from symprop.verification.points import Point, mathematics

BOUND = 3e-12
"""Sums of some hundred terms of order 1, each rounded a few dozen times: see test_torch.py."""

LINE = """
name = "line"
inputs = ["x"]
targets = ["t"]
outputs = ["y"]
[parameters]
w = 0.5
b = 0
[equations]
y = "w*x + b"
loss = "(y - t)**2/2"
[training]
optimizer = "sgd"
learning_rate = 0.1
batch_size = 3
"""


def derived(name: str) -> symprop.Derivation:
    return symprop.differentiate(examples.load_example(name))


def point(network: Network) -> tuple[list[Any], list[Any]]:
    """Return parameters and six samples."""
    random = np.random.default_rng(1)
    parameters = [np.asarray(random.standard_normal(p.shape)) for p in network.parameters]
    data = []
    for variable in (*network.inputs, *network.targets):
        shape = (6, *variable.shape)
        if variable.name in network.index_inputs:
            data.append(random.integers(0, network.index_inputs[variable.name], shape))
        else:
            data.append(random.standard_normal(shape))
    return parameters, data


def named(kernels: Any, parameters: list[Any]) -> Any:
    return kernels.Parameters(*(value if value.ndim else float(value) for value in parameters))


@pytest.mark.parametrize("name", ["classifier", "attention", "convolution", "embedding"])
def test_the_translation_is_the_kernels_loss(name: str) -> None:
    network = ZOO[name]()
    program = translate(symprop.differentiate(network))
    parameters, data = point(network)
    kernels = symprop.compile(network)
    expected = kernels.loss(named(kernels, parameters), *data)
    got = float(load(program, "numpy", "float64")(tuple(parameters), tuple(data)))
    assert abs(got - expected) <= BOUND * max(1, abs(expected))


@pytest.mark.parametrize("name", ZOO)
def test_the_translation_is_the_mathematics(name: str) -> None:
    network = ZOO[name]()
    derivation = symprop.differentiate(network)
    parameters, data = point(network)
    names = [variable.name for variable in (*network.inputs, *network.targets)]
    weights = dict(zip([p.name for p in network.parameters], parameters, strict=True))
    at = Point("moderate", "float64", weights, dict(zip(names, data, strict=True)))
    values = mathematics(derivation, at, backward=False).values
    expected = np.mean(values[derivation.loss_name].approximate)
    got = float(load(translate(derivation), "numpy", "float64")(tuple(parameters), tuple(data)))
    assert abs(got - expected) <= BOUND * max(1, abs(expected))


def test_a_wrong_translation_is_seen() -> None:
    network = ZOO["tied"]()
    program = translate(symprop.differentiate(network))
    parameters, data = point(network)
    right = float(load(program, "numpy", "float64")(tuple(parameters), tuple(data)))
    assert " - " in program.source
    broken = type(program)("loss", program.source.replace(" - ", " + "), program.constants)
    wrong = float(load(broken, "numpy", "float64")(tuple(parameters), tuple(data)))
    assert abs(wrong - right) > 1e-3


@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize("name", ["classifier", "attention", "convolution", "embedding", "gates"])
def test_libraries_derive_the_same_gradients(library: str, name: str) -> None:
    module = pytest.importorskip(library)
    network = ZOO[name]()
    program = translate(symprop.differentiate(network))
    parameters, data = point(network)
    kernels = symprop.compile(network)
    expected, gradients = kernels.backward(named(kernels, parameters), *data)
    if library == "jax":
        module.config.update("jax_enable_x64", True)
    function = load(program, library, "float64")
    if library == "jax":
        start = tuple(map(module.numpy.asarray, parameters))
        loss, found = module.value_and_grad(function)(start, tuple(data))
    else:
        leaves = [module.tensor(value, requires_grad=True) for value in parameters]
        loss = function(tuple(leaves), tuple(map(module.as_tensor, data)))
        loss.backward()
        loss, found = loss.item(), [leaf.grad.numpy() for leaf in leaves]
    assert abs(float(loss) - expected) <= BOUND * max(1, abs(expected))
    for got, wanted in zip(found, gradients, strict=True):
        assert np.abs(np.asarray(got) - wanted).max() <= BOUND * max(1, np.abs(wanted).max())


def test_dense_layers_are_matrix_products() -> None:
    lines = translate(derived("M0")).source.splitlines()
    assert "    net_h = _affine(x, W1, b1)" in lines
    assert "    h = _tanh(net_h)" in lines
    assert not any("softmax" in line for line in lines)  # the loss does not need the output


def test_a_padded_convolution_is_one_contraction() -> None:
    source = translate(symprop.differentiate(ZOO["convolution"]())).source
    assert source.count("_einsum") == 2
    assert "_where(" in source


def test_every_library_has_the_same_functions() -> None:
    names = set(NAMESPACES["numpy"]("float64")[0])
    for library, namespace in NAMESPACES.items():
        if library == "numpy" or contestants.find_spec(library):
            assert set(namespace("float64")[0]) == names, library


def test_what_no_library_has_is_refused() -> None:
    class riddle(Function):  # noqa: N801
        def fdiff(self, argindex: int = 1) -> Any:
            return self

    net = Network("riddles")
    x, w = net.input("x"), net.parameter("w")
    net.loss(riddle(w * x))
    with pytest.raises(TranslationError, match="riddle"):
        translate(symprop.differentiate(net))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rules_are_translated(name: str) -> None:
    rule = OPTIMIZERS[name]
    update = translate_rule(rule).load(NAMESPACES["numpy"]("float64")[0], np.asarray)
    theta, slots = np.array([0.3, -2.0]), tuple(np.array([0.2, 0.1]) for _ in rule.slots)
    gradient = np.array([0.5, -0.25])
    new, kept = update(theta, gradient, 3.0, slots, tuple(rule.hyperparameters.values()))
    for place in range(2):
        values = {"theta": theta[place], "gradient": gradient[place], "t": 3.0}
        values |= rule.hyperparameters
        values |= {slot: array[place] for slot, array in zip(rule.slots, slots, strict=True)}
        for equation in rule.equations:
            values[equation.name] = float(
                equation.rhs.subs(
                    {symbol: values[str(symbol)] for symbol in equation.rhs.free_symbols}
                )
            )
        assert new[place] == pytest.approx(values["theta"], rel=1e-14)
        for slot, array in zip(rule.slots, kept, strict=True):
            assert array[place] == pytest.approx(values[slot], rel=1e-14)


# Counting


def test_products_of_m0_by_hand() -> None:
    work = count_step(derived("M0"), find("adam"), 32, "float32")
    # forward 2*64*32 and 2*32*10, gradients of W1 and W2 as many, dL/dh 2*32*10; 32 samples
    assert work.products == 4 * 32 * 64 * 32 + 6 * 32 * 32 * 10
    # biases 42; dL/dh*(1 - h**2) 3*32; their gradients 42; softmax with its loss: differences
    # from the maximum, maximum, sum and shares 4*10, p - t 10, t*z 2*10, the last two operations 1
    assert work.elementwise == 32 * (42 + 96 + 42 + 40 + 10 + 20 + 1) + 13 * 2410
    # tanh, exponentials, which the loss shares with the output, a logarithm
    assert work.transcendentals == 32 * (32 + 10 + 1)
    assert work.parameter_bytes == 2 * 3 * 2410 * 4
    assert work.data_bytes == 32 * 74 * 4


def test_updates_by_hand() -> None:
    counted = {name: count_update(rule, 1).elementwise for name, rule in OPTIMIZERS.items()}
    assert counted["sgd"] == 2
    assert counted["momentum"] == 4
    assert counted["rmsprop"] == 4 + 5
    assert counted["adam"] == 3 + 4 + 6


@pytest.mark.parametrize("name", ZOO)
def test_every_network_can_be_counted(name: str) -> None:
    derivation = symprop.differentiate(ZOO[name]())
    one, many = (count_step(derivation, find("sgd"), size, "float64") for size in (1, 5))
    assert 0 < one.flops < many.flops <= 5 * one.flops


def test_a_convolution_is_products() -> None:
    net = Network("filter")
    r, p = net.index("r", 8), net.index("p", 3)
    x, t, w = net.input("x", r), net.target("t"), net.parameter("w", p)
    inside = Piecewise((w[p] * x[r + p - 1], (r + p >= 1) & (r + p <= 8)), (0, True))
    y = net.define("y", tanh(Sum(inside, p)), r)
    net.loss((Sum(y[r], r) - t) ** 2)
    work = count_step(symprop.differentiate(net), find("sgd"), 1, "float64")
    assert work.transcendentals == 8
    assert work.flops > 4 * 8 * 3  # forward and gradient of w; the input's is not needed


def test_only_what_is_needed() -> None:
    derivation = derived("M0")
    assert [equation.name for equation in needed(derivation.forward)] == ["net_h", "h", "z", "L"]


def test_the_floor() -> None:
    work = Work(600, 400, 50, 800, 200)
    figures = {"peak": 2.0, "transcendental": 3.0, "bandwidth": 4.0}
    assert floor_seconds(work, figures) == pytest.approx(1000 / 2e9 + 50 * 3e-9 + 1000 / 4e9)
    assert floor_seconds(work, figures, 2) == pytest.approx(floor_seconds(work, figures) / 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_machine_is_measured(dtype: str) -> None:
    figures = machine.measure(dtype, 10_000)
    assert set(figures) == {"peak", "transcendental", "bandwidth"}
    assert min(figures.values()) > 0
    assert machine.name()


def test_without_vector_instructions_blas_is_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(dtype: str) -> Any:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(machine, "_multiply_adds", fail)
    assert machine.measure("float64", 10_000)["peak"] > 0


# Workloads


@pytest.mark.parametrize(
    ("name", "weights"), [("T1", 10), ("T2", 756), ("M0", 2410), ("M1", 101770), ("M3", 669706)]
)
def test_the_bench_networks(name: str, weights: int) -> None:
    network = examples.load_example(name)
    assert network.name == name
    assert sum(prod(p.shape) for p in network.parameters if p.trainable) == weights
    assert parse(dump(network)).fingerprint == network.fingerprint
    assert examples.path(name).read_text(encoding="utf-8").startswith("# ")
    assert set(CASES) == set(examples.bench_names())
    assert name not in examples.names()


def test_settings_are_those_of_the_bench_networks_unless_given() -> None:
    m0 = examples.load_example("M0")
    assert Settings.choose(m0, None, None, None, 1) == Settings("float32", 1797, 32, 1)
    assert Settings.choose(m0, None, None, None, 1).steps == 57
    assert Settings.choose(m0, "float64", 20, 50, 2) == Settings("float64", 20, 20, 2)
    assert Settings.choose(parse(LINE), None, None, None, 1) == Settings("float64", 10_000, 3, 1)


def test_samples_suit_the_network() -> None:
    network = ZOO["embedding"]()
    found = workload.samples(network, 50, "float32")
    assert found["token"].shape == (50, 3)
    assert 0 <= found["token"].min() <= found["token"].max() < 7
    assert found["t"].dtype == np.float32
    assert (found["t"].sum(axis=1) == 1).all()
    again = workload.samples(network, 50, "float32")
    assert all((found[name] == again[name]).all() for name in found)


def logarithm(sign: int) -> symprop.Derivation:
    net = Network("logarithm")
    x, w = net.input("x"), net.parameter("w", init=1)
    net.output("y", log(sign * x) - w)
    net.loss((log(sign * x) - w) ** 2)
    return symprop.differentiate(net)


def test_inputs_are_positive_where_they_must_be() -> None:
    settings = Settings("float64", 40, 10)
    made = workload.make(logarithm(1), settings)
    assert made.data["x"].min() > 0
    with pytest.raises(DataError, match="not finite on synthetic samples"):
        workload.make(logarithm(-1), settings)


def test_a_workload_goes_to_another_process_unchanged(tmp_path: Path) -> None:
    made = workload.make(derived("M0"), Settings("float32", 40, 16))
    workload.write(made, tmp_path)
    again = workload.read(tmp_path)
    assert again.network.fingerprint == made.network.fingerprint
    assert again.settings == made.settings
    assert again.rates == {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    for arrays in ("parameters", "data"):
        assert list(getattr(again, arrays)) == list(getattr(made, arrays))
        for name, array in getattr(made, arrays).items():
            np.testing.assert_array_equal(getattr(again, arrays)[name], array)


# scikit-learn's networks


def test_perceptrons_are_recognised() -> None:
    found = recognise(derived("M3"))
    assert (found.input, found.target, found.solver) == ("x", "t", "adam")
    assert (found.hidden, found.activation, found.classifies) == ((512, 512), "tanh", True)
    assert not any(layer.transposed for layer in found.layers)
    assert not recognise(derived("T2")).classifies


def test_transposed_weights_are_seen() -> None:
    net = Network("transposed")
    i, j, k = net.index("i", 4), net.index("j", 3), net.index("k", 3)
    x, t = net.input("x", i), net.target("t", k)
    W, b, V, c = (net.parameter(*a) for a in (("W", j, i), ("b", j), ("V", j, k), ("c", k)))
    h = net.define("h", symprop.relu(Sum(W[j, i] * x[i], i) + b[j]), j)
    y = net.output("y", Sum(V[j, k] * h[j], j) + c[k], k)
    net.loss(Sum((t[k] - y[k]) ** 2, k) / 2)
    found = recognise(symprop.differentiate(net))
    assert [layer.transposed for layer in found.layers] == [True, False]
    assert (found.activation, found.classifies) == ("relu", False)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (ZOO["scalars"], "expressible in scikit-learn: there is not one input"),
        (ZOO["attention"], "no dense layer"),
        (ZOO["tied"], "one input and one target"),
        (lambda: mlp([4, 3, 2]), "two classes"),
        (lambda: mlp([4, 3, 3], loss="mean_squared_error"), "loss"),
        (lambda: mlp([4, 3, 5], activation="gelu"), "no dense layer|layer"),
    ],
)
def test_other_networks_are_not_expressible(build: Any, reason: str) -> None:
    with pytest.raises(NotExpressibleError, match=reason):
        recognise(symprop.differentiate(build()))


# Contestants


@pytest.mark.parametrize("name", ["torch", "jax", "sklearn"])
def test_peers_train_as_symprop_does(name: str) -> None:
    pytest.importorskip(name)
    made = workload.make(derived("M0"), Settings("float64", 40, 16))
    own, _ = contestants.CONTESTANTS["symprop"](made).first()
    peer, _ = contestants.CONTESTANTS[name](made).first()
    losses = [workload.mean_loss(derived("M0"), made, found) for found in (own, peer)]
    start = workload.mean_loss(derived("M0"), made, made.parameters)
    assert losses[0] < start - 1e-3
    # scikit-learn's epsilon stands elsewhere in Adam: 1e-8 beside gradients of 1e-3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5 if name == "sklearn" else 1e-12)


def test_symprop_trains_whole_epochs() -> None:
    made = workload.make(symprop.differentiate(parse(LINE)), Settings("float64", 7, 3))
    own = contestants.Symprop(made)
    parameters, loss = own.first()
    assert loss > 0
    assert parameters["w"] != 0.5
    assert own.run(2) > 0


def test_peers_are_known_by_name() -> None:
    with pytest.raises(OptionError, match="'tensorflow': expected one of torch"):
        contestants.available("tensorflow")


def test_a_process_that_ends_says_why(tmp_path: Path) -> None:
    process = Process(tmp_path, "symprop", 1)  # where no workload is
    with pytest.raises(ProcessError, match="its process ended: FileNotFoundError"):
        process.ask("start")
    process.close()


def test_a_command_that_fails_is_answered(tmp_path: Path) -> None:
    made = workload.make(symprop.differentiate(parse(LINE)), Settings("float64", 7, 3))
    workload.write(made, tmp_path)
    process = Process(tmp_path, "nobody", 1)
    for command, reason in (("start", "KeyError"), ("dance", "unknown command 'dance'")):
        with pytest.raises(ProcessError, match=reason):
            process.ask(command)
    process.close()


# The report


def report() -> Report:
    rows = (
        Row("symprop", "0.1", (2e-6, 1e-6, 3e-6), 100, 1.5, 0.25, 0.0),
        Row("jax", "0.9", (8e-6, 8e-6, 8e-6), 50, 2.5, 0.26, 0.04),
        Row("torch", problem="not installed"),
    )
    figures = {"peak": 2.0, "transcendental": 3.0, "bandwidth": 4.0}
    work = Work(600, 400, 50, 800, 200)
    case = Case("line", Settings("float64", 20, 10), work, figures, rows)
    return Report("a processor", 3, (case,))


def test_the_table() -> None:
    head, own, jax, torch, *rest = str(report()).splitlines()
    assert head.split()[:3] == ["network", "contestant", "us/step"]
    # 1000 flops in 2 us are half a GF/s of 2; the floor is 900 ns
    assert own.split() == ["line", "symprop", "2", "200", "1", "0.5", "25", "45", "0.25", "1.5"]
    assert jax.split() == ["line", "jax", "8", "800", "4", "0.125", "6.2", "11", "4e-02!", "2.5"]
    assert torch.split() == ["line", "torch", *"--------"]
    assert "20 samples in batches of 10" in rest[1]


def test_what_went_wrong_is_told() -> None:
    other, missing = report().problems()
    assert "line, jax: its loss after one epoch differs by 4.0e-02" in other
    assert missing == "line, torch: not installed"


def test_the_report_as_json() -> None:
    found = json.loads(json.dumps(report().as_dict()))
    assert set(found) == {"processor", "rounds", "networks"}
    (case,) = found["networks"]
    assert set(case) == {
        "network", "dtype", "samples", "batch_size", "threads", "steps", "work", "machine",
        "floor_seconds", "contestants",
    }  # fmt: skip
    assert case["work"]["flops"] == 1000
    own, jax, torch = case["contestants"]
    assert (own["us"], own["ns"], jax["ratio"]) == (2.0, 200.0, 4.0)
    assert own["seconds"] == [2e-6, 1e-6, 3e-6]
    assert torch["us"] is None
    assert torch["problem"] == "not installed"


def test_the_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench_plot = tmp_path / "times.svg"
    if contestants.find_spec("matplotlib"):
        with pytest.raises(OptionError, match="no folder"):
            bench.check_plot(tmp_path / "missing" / "times.svg")
        bench.check_plot(bench_plot)
        report().plot(bench_plot)
        assert b"symprop" in bench_plot.read_bytes()
        with pytest.raises(OutputError, match="cannot be written"):
            report().plot(tmp_path / "times.unknown")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"symprop\[plots\]"):
        bench.check_plot(bench_plot)


# The command


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from symprop.cli import main; main()", "bench", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(symprop.__file__).parents[1])},
    )  # fmt: skip


def test_the_whole_command(tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_text(LINE)
    done = command(
        tmp_path, "line.toml", "--peer", "none", "--rounds", "1", "--samples", "7", "--json"
    )
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(done.stdout)["networks"]
    assert (case["samples"], case["batch_size"], case["steps"]) == (7, 3, 3)
    (own,) = case["contestants"]
    assert own["name"] == "symprop"
    assert own["us"] > 0
    assert own["loss"] > 0
    assert case["floor_seconds"] > 0


@pytest.mark.parametrize(("epoch", "noise"), [(1e-8, 2e-5), (3e-4, -2e-3), (1e-3, 1e-3), (2.0, 0)])
def test_epochs_that_are_too_short_to_be_timed_are_counted_again(
    epoch: float, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Clock:
        """Runs that take `epoch` seconds an epoch, and no time at all where `noise` is more."""

        def __init__(self, folder: Path, name: str, threads: int) -> None: ...

        def ask(self, command: str, *, epochs: int = 1) -> dict[str, float | str]:
            asked.append(epochs)
            once = {"version": "1", "loss": 1.0, "after": 1.0}
            return {**once, "seconds": max(epochs * epoch - noise, 1e-9)}

    monkeypatch.setattr(running, "Process", Clock)
    entrant = running._Entrant("symprop")
    entrant.start(Path(), 1)
    assert entrant.epochs == asked[-1] <= running._EPOCHS
    assert entrant.epochs * epoch < max(3 * running._SECONDS, 2 * epoch)
    assert entrant.epochs * epoch > running._SECONDS / 4 or entrant.epochs == running._EPOCHS


def test_a_peer_that_is_missing_is_a_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "available", lambda name: False)
    monkeypatch.setattr(running, "_SECONDS", 1e-3)
    settings = Settings("float64", 7, 3)
    case = running.run_case(parse(LINE), settings, ["torch"], rounds=2)
    own, torch = case.rows
    assert len(own.seconds) == 2
    assert own.difference == 0
    assert (torch.problem, torch.seconds) == ("not installed", ())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nothing"], "expected a .toml file"),
        (["M0", "--peer", "tensorflow"], "torch-compile"),
        (["M0", "--threads", "0"], "--threads"),
        (["M0", "--threads", "100000"], "processors here"),
        (["M0", "--plot", "missing/times.svg"], "no folder|matplotlib"),
    ],
)
def test_bad_usage(tmp_path: Path, arguments: list[str], part: str) -> None:
    done = command(tmp_path, *arguments)
    assert done.returncode == 2
    assert any(word in done.stderr for word in part.split("|"))
    assert "Traceback" not in done.stderr
