"""Weights and states on disk: exact round trips, and every file that must be refused."""

from __future__ import annotations

import stat
import types

import fake_kernels
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import symprop
from symprop.errors import OutputError, WeightsError
from symprop.training import train
from symprop.weights import load_parameters, load_state, save_parameters, save_state

NETWORK = fake_kernels.network
PARAMETERS = fake_kernels.Parameters(np.array([0.1, -1e-300, 3.0]), 1 / 3)
METADATA = {
    "format": "symprop parameters",
    "version": "1",
    "network": "line",
    "fingerprint": NETWORK.fingerprint,
}
TENSORS = {"w": np.ones(3), "b": np.array(1.0)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "line.safetensors"


def test_round_trip(path):
    save_parameters(path, PARAMETERS, NETWORK)
    loaded = fake_kernels.Parameters(**load_parameters(path, NETWORK))
    assert np.array_equal(loaded.w, PARAMETERS.w)
    assert loaded.b == PARAMETERS.b
    assert isinstance(loaded.b, float)
    assert list(load_parameters(path, NETWORK)) == ["w", "b"]
    assert [file.name for file in path.parent.iterdir()] == ["line.safetensors"]


def test_what_a_stranger_sees(path):
    save_parameters(path, PARAMETERS, NETWORK)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == METADATA
        assert file.get_tensor("b").shape == ()
        assert file.get_tensor("w").dtype == np.float64


def test_the_file_is_readable_by_others(path, tmp_path):
    (tmp_path / "plain").write_text("")
    save_parameters(path, PARAMETERS, NETWORK)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0


def test_float32(path):
    save_parameters(path, fake_kernels.Parameters(np.ones(3, dtype=np.float32), 0.1), NETWORK)
    loaded = load_parameters(path, NETWORK)
    assert loaded["w"].dtype == np.float32
    assert loaded["b"] == float(np.float32(0.1))
    assert load_parameters(path, NETWORK, "float64")["w"].dtype == np.float64


def test_views_are_stored_as_they_look(path):
    strided = np.arange(6.0)[::2]
    save_parameters(path, fake_kernels.Parameters(strided, 0.0), NETWORK)
    assert load_parameters(path, NETWORK)["w"].tolist() == [0, 2, 4]


def other_network():
    net = symprop.Network("line")
    i = net.index("i", 3)
    x, t, w, b = net.input("x", i), net.target("t"), net.parameter("w", i), net.parameter("b")
    net.loss((symprop.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + b) - t) ** 2)
    return net


def test_weights_of_another_network(path):
    save_parameters(path, PARAMETERS, NETWORK)
    other = other_network()
    with pytest.raises(WeightsError) as caught:
        load_parameters(path, other)
    assert f"'line' with the fingerprint {NETWORK.fingerprint}, expected" in str(caught.value)
    assert other.fingerprint in str(caught.value)
    assert str(caught.value).startswith(str(path))


BAD = {
    "parameter 'b' is missing": ({"w": np.ones(3)}, {}),
    "the network has no parameter 'c'": ({**TENSORS, "c": np.ones(1)}, {}),
    "parameter 'w' has the shape (3, 1), expected (3,)": ({**TENSORS, "w": np.ones((3, 1))}, {}),
    "parameter 'b' has the shape (1,), expected ()": ({**TENSORS, "b": np.ones(1)}, {}),
    "parameter 'w' holds other than finite": ({**TENSORS, "w": np.array([1.0, np.nan, 1.0])}, {}),
    "parameter 'w' holds other": ({**TENSORS, "w": np.ones(3, dtype=np.int32)}, {}),
    "got symprop state 1, expected a file marked": (TENSORS, {"format": "symprop state"}),
    "got symprop parameters 2, expected": (TENSORS, {"version": "2"}),
    "belongs to another network: 'line' with the fingerprint 0": (TENSORS, {"fingerprint": "0"}),
}


@pytest.mark.parametrize(("message", "content"), BAD.items(), ids=BAD)
def test_bad_files(path, message, content):
    tensors, changed = content
    save_file(tensors, path, metadata=METADATA | changed)
    with pytest.raises(WeightsError) as caught:
        load_parameters(path, NETWORK)
    assert message in str(caught.value)


def test_files_that_are_no_weights(path):
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        load_parameters(path, NETWORK)
    for content in (b"", b"\xff" * 100, b'{"w": 1}'):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="no safetensors file"):
            load_parameters(path, NETWORK)
    save_file(TENSORS, path)
    with pytest.raises(WeightsError, match="got no such mark, expected a file marked as symprop p"):
        load_parameters(path, NETWORK)
    path.unlink()
    path.mkdir()
    with pytest.raises(WeightsError, match=r"line\.safetensors: "):
        load_parameters(path, NETWORK)


def test_truncated_files(path):
    save_parameters(path, PARAMETERS, NETWORK)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError):
            load_parameters(path, NETWORK)


def test_wrong_parameters_are_not_written(path):
    with pytest.raises(WeightsError, match=r"parameter 'w' has the shape \(4,\), expected \(3,\)"):
        save_parameters(path, fake_kernels.Parameters(np.ones(4), 0.0), NETWORK)
    assert not path.exists()


def test_foreign_files_stay(path):
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists and holds no parameters of network 'line'; move"):
        save_parameters(path, PARAMETERS, NETWORK)
    assert path.read_text() == "precious"
    save_parameters(path, PARAMETERS, NETWORK, force=True)
    save_parameters(path, PARAMETERS._replace(b=2.0), NETWORK)
    assert load_parameters(path, NETWORK)["b"] == 2.0
    save_file(TENSORS, path, metadata=METADATA | {"network": "another"})
    with pytest.raises(OutputError, match="exists and holds no parameters"):
        save_parameters(path, PARAMETERS, NETWORK)


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    save_parameters(path, PARAMETERS, NETWORK)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OutputError, match="cannot be written: No space left"):
        save_parameters(path, PARAMETERS._replace(b=2.0), NETWORK)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_no_folder(tmp_path):
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        save_parameters(tmp_path / "none" / "w.safetensors", PARAMETERS, NETWORK)


# States


@pytest.fixture(params=["fake", "compiled"])
def kernels(request):
    if request.param == "fake":
        return fake_kernels
    compiler = pytest.importorskip("symprop.compiler")
    return compiler.compile(NETWORK, optimizer="momentum")


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    return {"x": rng.normal(size=(10, 3)), "t": rng.normal(size=10)}


def test_a_stored_state_continues_exactly(kernels, data, path):
    whole = train(kernels, data, epochs=6)
    save_state(path, train(kernels, data, epochs=2).state, kernels)
    rest = train(kernels, data, epochs=4, state=load_state(path, kernels))
    assert np.array_equal(rest.losses, whole.losses[2:])
    for stored, expected in zip(rest.state, whole.state, strict=True):
        assert np.array_equal(stored, expected)
        assert type(stored) is type(expected)


def test_a_state_in_the_middle_of_an_epoch(data, path):
    stopped = train(fake_kernels, data, seed=1, callback=lambda done, losses: True)
    assert stopped.state.position == 4
    save_state(path, stopped.state, fake_kernels)
    rest = train(fake_kernels, data, epochs=1, state=load_state(path, fake_kernels))
    assert np.array_equal(rest.losses, train(fake_kernels, data, epochs=1, seed=1).losses)


def test_a_fresh_state(kernels, path):
    module = getattr(kernels, "module", kernels)
    save_state(path, module.start(module.initialize(0), 3), kernels)
    assert load_state(path, kernels).step == 0


def changed(**fields):
    state = fake_kernels.start(PARAMETERS)._replace(permutation=np.arange(5))
    return state._replace(**fields)


BAD_STATES = {
    "'permutation' is none; the file is damaged": {"permutation": np.array([0, 1, 7])},
    "'permutation' has the type int32, expected int64": {"permutation": np.arange(3, dtype="i4")},
    "'permutation' has the shape (1, 3)": {"permutation": np.arange(3).reshape(1, 3)},
    "cannot be; the file is damaged": {"position": 6},
    "'step': -1": {"step": -1},
    "'moments' has the shape (2, 4), expected (1, 4)": {"moments": np.zeros((2, 4))},
    "'theta' has the type float32, expected float64": {"theta": np.zeros(4, dtype=np.float32)},
    "'theta' holds NaN or infinity": {"theta": np.full(4, np.nan)},
}


@pytest.mark.parametrize(("message", "fields"), BAD_STATES.items(), ids=BAD_STATES)
def test_damaged_states(path, message, fields):
    """Compiled code trusts the permutation: an index out of range would write anywhere."""
    save_state(path, changed(**fields), fake_kernels)
    with pytest.raises(WeightsError) as caught:
        load_state(path, fake_kernels)
    assert message in str(caught.value)


def with_options(optimizer):
    options = types.SimpleNamespace(optimizer=types.SimpleNamespace(name=optimizer))
    return types.SimpleNamespace(module=fake_kernels, options=options)


def test_states_of_other_kernels(path):
    save_state(path, changed(), with_options("momentum"))
    assert load_state(path, with_options("momentum")).step == 0
    assert load_state(path, fake_kernels).step == 0
    with pytest.raises(WeightsError, match="made with optimizer momentum, expected nesterov; gen"):
        load_state(path, with_options("nesterov"))
    save_parameters(path, PARAMETERS, NETWORK, force=True)
    with pytest.raises(WeightsError, match="got symprop parameters 1, expected a file marked as s"):
        load_state(path, fake_kernels)
