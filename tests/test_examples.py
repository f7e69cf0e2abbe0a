"""The networks that come with symprop are what their documents say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sympy import Symbol

import symprop
from symprop import data, examples
from symprop.description import dump, parse
from symprop.errors import DescriptionError

NAMES = ("digits", "kumar", "lamsal", "one_neuron", "relu", "two_hidden_layers")


def test_names_and_paths() -> None:
    assert examples.names() == NAMES
    for name in NAMES:
        assert isinstance(examples.path(name), Path)
        assert examples.path(name).read_text(encoding="utf-8").startswith("# ")
        assert examples.load_example(name).name == name
    assert symprop.load_example is examples.load_example


def test_unknown_names() -> None:
    with pytest.raises(DescriptionError, match="did you mean 'digits'"):
        examples.load_example("digit")
    with pytest.raises(DescriptionError, match="there are digits, kumar"):
        examples.path("../digits")


@pytest.mark.parametrize("name", NAMES)
def test_complete_and_stored_alike(name: str) -> None:
    net = examples.load_example(name)
    assert net.outputs
    assert net.training.hyperparameters["learning_rate"] > 0
    again = parse(dump(net))
    assert again.fingerprint == net.fingerprint
    assert (again.parameters, again.training) == (net.parameters, net.training)
    samples = data.embedded(net, examples.path(name).parent)
    assert list(samples) == [variable.name for variable in net.inputs + net.targets]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def forward(name: str) -> dict[str, float]:
    """Evaluate a scalar network on its sample with plain floats."""
    net = examples.load_example(name)
    values = {key: float(array[0]) for key, array in net.data.samples.items()}
    values |= {parameter.name: parameter.init for parameter in net.parameters}
    for equation in net.equations:
        known = {Symbol(key, real=True): value for key, value in values.items()}
        rhs = equation.rhs.subs(known).replace(symprop.sigmoid, lambda z: sigmoid(float(z)))
        values[equation.name] = float(rhs)
    return values


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        # 000, steps 1 and 2
        ("kumar", {"H1": "0.3775", "H1out": "0.59327", "H2out": "0.59688", "y1": "1.105905967",
                   "y1out": "0.75136507", "y2out": "0.772928465", "E": "0.298371109"}),
        # 003, the forward pass; from the fifth digit on it calculates with rounded numbers
        ("lamsal", {"sum_h1": "0.41", "output_h1": "0.6011", "sum_h2": "0.47",
                    "output_h2": "0.6154", "sum_o1": "1.0198", "output_o1": "0.7349",
                    "sum_o2": "1.2631", "output_o2": "0.7796", "E_1": "0.2346", "E_2": "0.0145",
                    "E_total": "0.2491"}),
        # 004, section 4
        ("one_neuron", {"z1": "0.3", "h": "0.5744", "y": "0.3723", "L": "0.0259"}),
    ],
)  # fmt: skip
def test_forward_passes_of_the_documents(name: str, printed: dict[str, str]) -> None:
    values = forward(name)
    for quantity, digits in printed.items():
        places = len(digits.partition(".")[2])
        assert f"{values[quantity]:.{places}f}" == digits, quantity


def test_where_the_documents_err_in_the_forward_pass() -> None:
    # 000 prints H1out 0.59326 and H2out 0.59683 for 0.593270 and 0.596884
    values = forward("kumar")
    assert f"{values['H1out']:.6f}" == "0.593270"
    assert f"{values['H2out']:.6f}" == "0.596884"
    # 004 prints the loss 0.0260 in its text and 0.0259 in its table; it is 0.025916
    assert f"{forward('one_neuron')['L']:.6f}" == "0.025916"


def test_two_hidden_layers_with_numpy() -> None:
    net = examples.load_example("two_hidden_layers")
    values = {parameter.name: np.asarray(parameter.init) for parameter in net.parameters}
    (x,), (y,) = net.data.samples["x"], net.data.samples["y"]
    assert (list(x), y) == ([1, 2, 3, 4], 1)
    a = x
    for layer in (1, 2, 3):
        z = values[f"W{layer}"].T @ a + values[f"b{layer}"]
        a = 1 / (1 + np.exp(-z))
        if layer == 1:
            np.testing.assert_allclose(z, [5.1, 6.1], rtol=1e-15)
    # 001 prints 0.1(0.6453) + 0.2(0.6892) + 0.3(0.7302) + 0.1 = 0.4714 and a3 = 0.6157, but its
    # terms make 0.5214
    assert f"{float(z):.4f}" == "0.5216"
    assert f"{float(a):.4f}" == "0.6275"


def test_what_is_trained() -> None:
    for name in NAMES:
        fixed = {p.name for p in examples.load_example(name).parameters if not p.trainable}
        assert fixed == ({"b1", "b2"} if name in ("kumar", "lamsal") else set())
    rates = {name: examples.load_example(name).training.hyperparameters for name in NAMES}
    assert [rates[name]["learning_rate"] for name in NAMES[1:4]] == [0.5, 0.6, 0.1]
    assert examples.load_example("one_neuron").training.epochs == 60


def test_relu_is_the_documents_network() -> None:
    net = examples.load_example("relu")
    assert [(p.name, p.shape, p.init) for p in net.parameters] == [
        ("Wh", (2,), "he_normal"),
        ("Bh", (2,), 0.1),
        ("Wo", (2, 2), "he_normal"),
        ("Bo", (2,), 0.1),
    ]


def test_digits_are_those_of_uci() -> None:
    net = examples.load_example("digits")
    path = examples.path("digits").with_name(net.data.file)
    assert path.stat().st_size < 150_000
    with np.load(path, allow_pickle=False) as arrays:
        x, t = arrays["x"], arrays["t"]
    assert (x.shape, x.dtype, t.shape) == ((1797, 64), np.float32, (1797, 10))
    assert set(np.unique(x * 16)) == set(range(17))
    assert (t.sum(axis=1) == 1).all()
    # classes of the set's 1797 samples, as its documentation lists them
    assert list(t.sum(axis=0)) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_scikit_learns() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    whole = datasets.load_digits()
    order = np.random.default_rng(0).permutation(1797)
    net = examples.load_example("digits")
    samples = data.embedded(net, examples.path("digits").parent)
    np.testing.assert_array_equal(samples["x"] * 16, whole.data[order])
    np.testing.assert_array_equal(samples["t"].argmax(axis=1), whole.target[order])


def test_digits_split_is_fair() -> None:
    net = examples.load_example("digits")
    samples = data.embedded(net, examples.path("digits").parent)
    train, test = data.split(samples, net.data.test_samples)
    assert (len(train["x"]), len(test["x"])) == (1437, 360)
    counts = test["t"].sum(axis=0)
    # 36 of each on average; a fair draw has a standard deviation of sqrt(36*0.9*0.8) = 5.1
    assert (abs(counts - 36) < 4 * 5.1).all()
    assert not {row.tobytes() for row in test["x"]} & {row.tobytes() for row in train["x"]}


def test_digits_can_be_learned_from_the_split() -> None:
    """Nearest neighbours reach 0.97 on a sound split; a scrambled target would give 0.1."""
    net = examples.load_example("digits")
    samples = data.embedded(net, examples.path("digits").parent)
    train, test = data.split(samples, net.data.test_samples)
    distance = -2 * test["x"] @ train["x"].T + (train["x"] ** 2).sum(axis=1)
    nearest = train["t"][distance.argmin(axis=1)].argmax(axis=1)
    assert (nearest == test["t"].argmax(axis=1)).mean() > 0.97
