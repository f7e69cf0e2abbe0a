"""Training around the compiled loop: continuation, stopping, errors, evaluation."""

from __future__ import annotations

import functools
import os
import signal
import threading
import types

import fake_kernels
import numpy as np
import pytest

from symprop.errors import DataError, DivergenceError, OptionError
from symprop.training import Result, evaluate, train


def compiled():
    """Return real kernels of the network that the fake ones compute."""
    compiler = pytest.importorskip("symprop.compiler")
    return compiler.compile(fake_kernels.network, optimizer="momentum")


@pytest.fixture(scope="module", params=["fake", "fake with network", "compiled"])
def kernels(request):
    if request.param == "fake":
        return fake_kernels
    if request.param == "compiled":
        return compiled()
    derivation = types.SimpleNamespace(network=fake_kernels.network)
    return types.SimpleNamespace(derivation=derivation, module=fake_kernels)


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(10, 3))
    return {"t": x @ [1.0, -2.0, 0.5] + 0.25 + 0.01 * rng.normal(size=10), "x": x}


def module_of(kernels):
    return getattr(kernels, "module", kernels)


def equal(a, b):
    return all(np.array_equal(left, right) for left, right in zip(a, b, strict=True))


def test_it_learns_what_the_data_say(kernels, data):
    before = {name: array.copy() for name, array in data.items()}
    result = train(kernels, data, epochs=300)
    assert result.parameters.w == pytest.approx([1, -2, 0.5], abs=0.02)
    assert result.parameters.b == pytest.approx(0.25, abs=0.02)
    assert len(result.losses) == 300
    assert result.losses[-1] < 1e-3 < result.losses[0]
    assert (result.stopped, result.interrupted, result.best_epoch) == ("completed", False, None)
    assert result.validation_losses.shape == (0,)
    assert equal(before.values(), data.values())


def test_defaults_and_overrides(kernels, data):
    plain = train(kernels, data)
    assert len(plain.losses) == 5
    assert equal(plain.losses, train(kernels, data, epochs=5, batch_size=4, seed=0).losses)
    for changed in (
        {"learning_rate": 0.01}, {"momentum": 0.5}, {"batch_size": 3}, {"seed": 1},
        {"shuffle": False},
    ):  # fmt: skip
        assert not equal(plain.losses, train(kernels, data, **changed).losses)
    assert train(kernels, data, epochs=0).losses.shape == (0,)


def test_continuation_is_exact(kernels, data):
    whole = train(kernels, data, epochs=7, seed=5)
    first = train(kernels, data, epochs=3, seed=5)
    rest = train(kernels, data, epochs=4, state=first.state)
    assert equal(whole.state, rest.state)
    assert equal(whole.losses, np.concatenate([first.losses, rest.losses]))


def test_epoch_by_epoch_is_the_same(kernels, data):
    whole = train(kernels, data, epochs=7)
    watched = train(kernels, data, epochs=7, validation=data)
    assert equal(whole.state, watched.state)
    assert equal(whole.losses, watched.losses)
    assert len(watched.validation_losses) == 7
    last = module_of(kernels).loss(watched.parameters, data["x"], data["t"])
    assert watched.validation_losses[-1] == last


def test_a_given_start(kernels, data):
    module = module_of(kernels)
    state = module.start(module.Parameters(np.zeros(3), 0.0), 4)
    result = train(kernels, data, state=state, epochs=1, batch_size=10)
    assert result.losses == pytest.approx([np.mean(data["t"] ** 2) / 2], rel=1e-14)


def test_patience(kernels, data):
    # validation on the opposite targets: what is learnt soon makes it worse
    opposite = {"x": data["x"], "t": -data["t"]}
    module = module_of(kernels)
    state = module.start(module.Parameters(np.full(3, 3.0), 3.0), 0)
    result = train(kernels, data, epochs=200, state=state, validation=opposite, patience=3)
    assert result.stopped == "patience"
    assert len(result.losses) == len(result.validation_losses) == result.best_epoch + 3
    assert result.best_epoch == 1 + int(np.argmin(result.validation_losses))
    best = module.loss(result.parameters, *map(opposite.get, ("x", "t")))
    assert best == result.validation_losses.min()
    assert result.state.epoch == len(result.losses)
    again = train(kernels, data, epochs=200, state=state, validation=opposite, patience=3)
    assert equal(result.losses, again.losses)
    assert equal(result.parameters, again.parameters)


def test_patience_that_is_never_lost(kernels, data):
    result = train(kernels, data, epochs=5, validation=data, patience=50)
    assert result.stopped == "completed"
    assert result.best_epoch == 1 + int(np.argmin(result.validation_losses))


def slow(kernels):
    """Tell whether a slice is an epoch at most, so that callbacks come within a few epochs."""
    return module_of(kernels) is fake_kernels


def test_callback_stops(kernels, data):
    seen = []

    def callback(done, losses):
        seen.append((done, len(losses)))
        return done >= 3

    result = train(kernels, data, epochs=10**6, callback=callback)
    assert result.stopped == "callback"
    assert 3 <= len(result.losses) < 10**6
    assert all(done == count for done, count in seen)
    assert sorted(seen) == seen
    watched = train(kernels, data, epochs=50, callback=callback, validation=data)
    assert (watched.stopped, len(watched.losses)) == ("callback", 3)


def test_a_callback_must_say_true(kernels, data):
    assert (
        train(kernels, data, epochs=3, callback=lambda done, losses: losses).stopped == "completed"
    )


def test_callback_errors_pass(kernels, data):
    def callback(done, losses):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(kernels, data, epochs=10**7, callback=callback)


@pytest.fixture
def ctrl_c():
    """Let Ctrl-C have Python's own handler, which pytest's workers take away."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    """Return a callback that sends the process SIGINT when it is called first."""
    calls = []

    def callback(done, losses):
        calls.append(done)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


@pytest.mark.usefixtures("ctrl_c")
def test_interrupt_keeps_the_state(kernels, data):
    result = train(kernels, data, epochs=10**6, callback=press(), seed=2)
    assert result.interrupted
    assert result.stopped == "interrupted"
    assert len(result.losses) < 10**6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if slow(kernels):  # in the middle of an epoch
        assert 0 < result.state.position < 10
        rest = train(kernels, data, epochs=2, state=result.state)
        assert equal(rest.state, train(kernels, data, epochs=2, seed=2).state)


@pytest.mark.usefixtures("ctrl_c")
def test_interrupt_while_validating(kernels, data):
    result = train(kernels, data, epochs=10**6, callback=press(), validation=data, patience=10**6)
    assert result.interrupted
    assert len(result.losses) <= 1


@pytest.mark.usefixtures("ctrl_c")
def test_second_interrupt_is_immediate(kernels, data):
    def callback(done, losses):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

    with pytest.raises(KeyboardInterrupt):
        train(kernels, data, epochs=10**6, callback=callback)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_foreign_handlers_are_left_alone(data):
    def handler(number, frame):
        pass

    before = signal.signal(signal.SIGINT, handler)
    try:
        seen = []
        train(
            fake_kernels, data,
            callback=lambda *_: seen.append(signal.getsignal(signal.SIGINT)) or False,
        )  # fmt: skip
        assert set(seen) == {handler}
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_another_thread(kernels, data):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(kernels, data)))
    thread.start()
    thread.join()
    assert equal(results[0].losses, train(kernels, data).losses)


def test_divergence(kernels, data):
    start = train(kernels, data, epochs=2)
    with pytest.raises(DivergenceError) as caught:
        train(kernels, data, epochs=5000, state=start.state, learning_rate=50.0)
    error = caught.value
    assert f"network 'line': the loss became NaN or infinite in epoch {error.epoch}; " in str(error)
    assert "lower the learning rate (50)" in str(error)
    assert f"parameters of epoch {error.epoch - 1} are kept" in str(error)
    assert error.epoch > 3
    assert error.state.epoch == error.epoch - 1
    assert np.isfinite(error.state.theta).all()
    good = train(kernels, data, epochs=error.epoch - 3, state=start.state, learning_rate=50.0)
    assert equal(good.state, error.state)


WRONG = {
    "no hyperparameter 'learning_rat'; did you mean 'learning_rate'": {"learning_rat": 1.0},
    "learning_rate: got nan, expected a finite number": {"learning_rate": np.nan},
    "learning_rate: got 'fast', expected a finite number": {"learning_rate": "fast"},
    "epochs: got -1, expected an integer >= 0": {"epochs": -1},
    "epochs: got 1.5, expected an integer >= 0": {"epochs": 1.5},
    "batch_size: got 0, expected an integer >= 1": {"batch_size": 0},
    "seed: got True, expected an integer >= 0": {"seed": True},
    "patience: got 0, expected an integer >= 1": {"patience": 0},
    "patience needs validation samples to watch": {"patience": 3},
    "seed has no effect on a state": {"seed": 3, "state": ()},
}


@pytest.mark.parametrize(("message", "options"), WRONG.items(), ids=WRONG)
def test_wrong_options(kernels, data, message, options):
    with pytest.raises(OptionError) as caught:
        train(kernels, data, **options)
    assert message in str(caught.value)


def test_wrong_data(kernels, data):
    with pytest.raises(DataError, match=r"unknown array 'X'; did you mean 'x'\?; array 'x' is mis"):
        train(kernels, {"X": data["x"], "t": data["t"]})
    with pytest.raises(DataError, match=r"array 't' is missing"):
        train(kernels, data, validation={"x": data["x"]})


def test_lists_of_integers_are_numbers():
    derivation = types.SimpleNamespace(network=fake_kernels.network)
    kernels = types.SimpleNamespace(derivation=derivation, module=fake_kernels)
    assert len(train(kernels, {"x": [[1, 2, 3], [4, 5, 6]], "t": [1, 2]}).losses) == 5


def test_data_get_the_dtype_of_the_kernels(data):
    seen = []

    @functools.wraps(fake_kernels.resume)
    def resume(state, x, t, **settings):
        seen.extend((x.dtype, t.dtype))
        return fake_kernels.resume(state, x, t, **settings)

    narrow = types.SimpleNamespace(**vars(fake_kernels) | {"DTYPE": "float32", "resume": resume})
    train(narrow, data, epochs=1)
    assert seen == [np.float32, np.float32]
    data["t"][3] = 1e300
    with pytest.raises(DataError, match=r"array 't': holds infinity or numbers too large for floa"):
        train(narrow, data, epochs=1)


def test_no_bar_off_a_terminal(kernels, data, capfd):
    train(kernels, data, progress=True)
    train(kernels, data)
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(kernels, data, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(kernels, data, progress=True, epochs=20)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "line: 100%" in shown.err
    assert "20/20" in shown.err
    assert "loss " in shown.err
    train(kernels, data, progress=True, epochs=6, validation=data)
    assert "6/6" in capsys.readouterr().err


# Evaluation


def test_loss_of_the_whole_data(kernels, data):
    parameters = module_of(kernels).Parameters(np.zeros(3), 0.0)
    assert evaluate(kernels, parameters, data) == {
        "loss": pytest.approx(np.mean(data["t"] ** 2) / 2, rel=1e-14)
    }


def classifier(outputs, names=("t",)):
    """Return kernels whose outputs are given, with targets of these names."""

    def forward(parameters, x):
        return outputs

    def loss_of_one(parameters, x, t):
        return 0.0

    def loss_of_two(parameters, x, t, u):
        return 0.0

    loss = loss_of_one if len(names) == 1 else loss_of_two
    return types.SimpleNamespace(forward=forward, loss=loss, DTYPE="float64", NAME="classes")


X = np.zeros((4, 1))


def accuracy(output, target):
    return evaluate(classifier(np.array(output)), None, {"x": X, "t": np.array(target)})


def test_accuracy_of_one_hot_targets():
    one_hot = np.eye(3)[[0, 1, 2, 1]]
    probabilities = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]
    assert accuracy(probabilities, one_hot) == {"loss": 0.0, "accuracy": 0.75}
    assert accuracy(probabilities, one_hot.astype(int))["accuracy"] == 0.75
    places = np.array([probabilities, probabilities]).transpose(1, 0, 2)
    assert accuracy(places, np.stack([one_hot, np.eye(3)[[1, 1, 1, 1]]], axis=1))["accuracy"] == 0.5


def test_accuracy_of_0_and_1():
    assert accuracy([0.2, 0.5, 0.7, 0.4], [0.0, 1.0, 0.0, 1.0])["accuracy"] == 0.5
    assert accuracy([[0.2], [0.5], [0.7], [0.4]], [[0.0], [1.0], [1.0], [1.0]])["accuracy"] == 0.75
    several = accuracy([[0.9, 0.9]] * 4, [[1, 1], [1, 0], [0, 0], [1, 1]])
    assert several["accuracy"] == 0.625


@pytest.mark.parametrize(
    ("output", "target"),
    [
        ([0.2, 0.5, 0.7, 0.4], [0.01, 0.99, 0.01, 0.99]),  # a target that is no class
        ([0.2, 1.5, 0.7, 0.4], [0.0, 1.0, 0.0, 1.0]),  # an output that is no probability
        ([0.2, np.nan, 0.7, 0.4], [0.0, 1.0, 0.0, 1.0]),
        ([[0.2], [0.5], [0.7], [0.4]], [0.0, 1.0, 0.0, 1.0]),  # of other shape
    ],
)
def test_no_accuracy(output, target):
    assert accuracy(output, target) == {"loss": 0.0}


def test_several_targets():
    outputs = (np.array([0.9, 0.1, 0.9, 0.1]), np.array([0.9, 0.9, 0.9, 0.9]))
    targets = {"t": np.array([1, 0, 1, 0]), "u": np.array([1, 0, 1, 0])}
    found = evaluate(classifier(outputs, ("t", "u")), None, {"x": X, **targets})
    assert found == {"loss": 0.0, "accuracy(t)": 1.0, "accuracy(u)": 0.5}


def test_results_are_frozen(data):
    result = train(fake_kernels, data, epochs=1)
    assert isinstance(result, Result)
    with pytest.raises(AttributeError):
        result.stopped = "completed"
