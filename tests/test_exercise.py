"""Exercises: fresh numbers, a sheet, its answers, and the marks for what was filled in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sympy import Sum, log
from zoo import ZOO

from symprop import cli, description, examples, log_softmax
from symprop.derivation import differentiate
from symprop.errors import DataError
from symprop.explain.claims import Report, check
from symprop.explain.exercise import answers, exercise, sheet
from symprop.explain.reckoning import Example, Reckoning
from symprop.explain.worked import work
from symprop.network import Data, Network
from symprop.quantities import elements
from symprop.verification.precise import MP

SMALL = ("kumar", "lamsal", "one_neuron", "relu", "two_hidden_layers")


def load(name: str) -> Network:
    return examples.load_example(name)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)


def numbers(network: Network) -> list[float]:
    inits = (p.init for p in network.parameters if not isinstance(p.init, str))
    arrays = [*network.data.samples.values(), *inits]
    return [float(number) for array in arrays for number in np.ravel(array)]


def marked(solved: Network, changes: dict[str, str]) -> Report:
    """Return the marks for the right answers with some others written over them."""
    solved.claims = tuple(
        replace(claim, printed=changes.get(claim.quantity, claim.printed))
        for claim in solved.claims
    )
    return check(solved)


@pytest.mark.parametrize("name", SMALL)
def test_a_sheet_is_the_same_network_with_friendly_numbers(name: str) -> None:
    fresh = description.parse(sheet(load(name), seed=4))
    assert [str(e) for e in fresh.equations] == [str(e) for e in load(name).equations]
    assert [p.trainable for p in fresh.parameters] == [p.trainable for p in load(name).parameters]
    assert all(number == round(number, 2) and abs(number) <= 1 for number in numbers(fresh))
    assert numbers(fresh) != numbers(load(name))
    assert fresh.training == load(name).training


@pytest.mark.parametrize("name", SMALL)
def test_nothing_is_saturated_or_degenerate(name: str) -> None:
    for seed in range(3):
        fresh = exercise(load(name), seed)
        worked = work(differentiate(fresh))
        for parameter in fresh.parameters:
            if parameter.trainable:
                gradient = worked.values(worked.derivation.adjoint_name(parameter.name))
                assert min(abs(float(g)) for g in gradient.flat) >= 0.002, (seed, parameter.name)


def test_a_seed_is_an_exercise() -> None:
    texts = [sheet(load("kumar"), seed) for seed in (0, 1, 2, 0)]
    assert texts[0] == texts[3]
    assert len({*texts}) == 3
    assert sheet(load("kumar"), 0) != sheet(load("lamsal"), 0)


@pytest.mark.parametrize("name", SMALL)
def test_an_empty_sheet_is_open_and_the_answers_are_right(name: str) -> None:
    empty = check(description.parse(sheet(load(name), 2)))
    assert set(empty.counts) == {"open"}
    assert empty.ok
    assert not any(item.exact for item in empty.checked)
    solved = check(description.parse(sheet(load(name), 2, solved=True)))
    assert solved.counts == {"exact": empty.counts["open"]}
    assert [i.name for i in solved.checked] == [i.name for i in empty.checked]


def test_every_step_is_asked_for_in_the_order_of_the_work() -> None:
    asked = [claim.quantity for claim in exercise(load("one_neuron")).claims]
    assert asked == (
        "z1 h y L dL/dy dy/dh dL/dh dh/dz1 dL/dz1 "
        "dL/dw1 dL/db1 dL/dw2 dL/db2 w1' b1' w2' b2'"
    ).split()  # fmt: skip
    asked = [claim.quantity for claim in exercise(load("kumar")).claims]
    assert asked.index("dy1out/dy1") < asked.index("dE/dy1") < asked.index("dE/dw5")
    assert "b1'" not in asked  # not trainable
    assert asked.index("dE/dw8") < asked.index("w1'")


def test_the_first_wrong_factor_is_named() -> None:
    solved = answers(exercise(load("kumar"), seed=7))
    right = {item.quantity: item for item in check(solved).checked}
    h = float(right["H1out"].exact)
    error = float(right["dE/dH1out"].exact)
    data = solved.data.samples
    slope = h  # h for h*(1 - h)
    back = error * slope
    changes = {
        "dH1out/dH1": f"{slope:.5f}",
        "dE/dH1": f"{back:.6f}",
        "dE/dw1": f"{back * float(data['x1'][0]):.6f}",
        "dE/dw2": f"{back * float(data['x2'][0]):.6f}",
    }
    report = marked(solved, changes)
    verdicts = {item.quantity: item.verdict for item in report.checked}
    assert report.first_wrong is not None
    assert report.first_wrong.quantity == "dH1out/dH1"
    assert report.first_wrong.formula == "dH1out/dH1 = H1out*(1 - H1out)"
    assert report.counts["wrong"] == 1
    assert [verdicts[name] for name in changes] == ["wrong", "follows", "follows", "follows"]
    assert verdicts["w1"] == "exact"  # the answer sheet's own, computed without the slip


def test_a_slip_in_a_tensor_network() -> None:
    solved = answers(exercise(load("two_hidden_layers"), seed=1))
    right = {item.quantity: item for item in check(solved).checked}
    wrong = float(right["dL/dz2[1]"].exact) + 0.05
    kept = [right[f"dL/dz2[{k}]"].printed for k in (0, 2)]
    a1 = [float(right[f"a1[{j}]"].exact) for j in range(2)]
    column = [f"{a * wrong:.5f}" for a in a1]
    W2 = [[right[f"dL/dW2[{j},{k}]"].printed for k in range(3)] for j in range(2)]
    changes: dict[str, Any] = {
        "dL/dz2": (kept[0], f"{wrong:.6f}", kept[1]),
        "dL/dW2": tuple((row[0], new, row[2]) for row, new in zip(W2, column, strict=True)),
    }
    report = marked(solved, changes)
    verdicts = {item.quantity: item.verdict for item in report.checked}
    assert report.first_wrong is not None
    assert report.first_wrong.quantity == "dL/dz2[1]"
    assert verdicts["dL/dz2[0]"] == verdicts["dL/dW2[0,0]"] == "exact"
    assert verdicts["dL/dW2[0,1]"] == verdicts["dL/dW2[1,1]"] == "follows"
    assert report.counts["wrong"] == 1


def test_coarse_work_is_carried_not_wrong() -> None:
    solved = answers(exercise(load("one_neuron"), seed=0))
    right = {item.quantity: float(item.exact) for item in check(solved).checked}
    h = round(right["h"], 2)
    w2 = next(float(np.ravel(p.init)[0]) for p in solved.parameters if p.name == "w2")
    b2 = next(float(np.ravel(p.init)[0]) for p in solved.parameters if p.name == "b2")
    y = w2 * h + b2
    assert abs(y - right["y"]) > 0.0001  # far enough off to matter in the fifth digit
    report = marked(solved, {"h": f"{h:.2f}", "y": f"{y:.5f}"})
    verdicts = {item.quantity: item.verdict for item in report.checked}
    assert (verdicts["h"], verdicts["y"]) == ("exact", "carried")
    assert report.ok


def test_what_data_a_network_has_is_kept_in_kind() -> None:
    net = Network("classes")
    i, k = net.index("i", 3), net.index("k", 4)
    x, t, flag = net.input("x", i), net.target("t", k), net.target("flag")
    W = net.parameter("W", i, k, init="glorot_uniform")
    net.define("z", Sum(W[i, k] * x[i], i), k)
    z = net.variable("z").symbol
    net.loss(-Sum(t[k] * log_softmax(z[k], k), k) * (1 + flag))
    samples = {"x": np.ones((2, 3)) * 7, "t": np.eye(4)[:2], "flag": np.array([0.0, 1.0])}
    net.data = Data(samples)
    found = {tuple(exercise(net, seed).data.samples["t"][0]) for seed in range(12)}
    assert all(sorted(t) == [0, 0, 0, 1] for t in found)
    assert len(found) > 1
    assert {float(exercise(net, seed).data.samples["flag"][0]) for seed in range(8)} == {0, 1}


@pytest.mark.parametrize("name", ["attention", "convolution", "embedding", "tied", "unreached"])
def test_networks_of_any_kind(name: str) -> None:
    solved = answers(exercise(ZOO[name]()))
    assert set(check(solved).counts) == {"exact"}
    example = Example(solved)
    reckoning = Reckoning(example, {})
    asked = [quantity for claim in solved.claims for quantity, _ in elements(claim, solved)]
    for quantity in asked[:: len(asked) // 20 + 1]:
        found = reckoning.formula(quantity, split=False)[0]
        assert abs(found - example.exact(quantity)) < MP.mpf(10) ** -50, quantity


def test_too_large_for_the_hand() -> None:
    with pytest.raises(DataError, match="2,410 weights and biases, more than the 100"):
        exercise(load("digits"))
    net = Network("nowhere")
    x, w = net.input("x"), net.parameter("w", init=1)
    net.loss(log(-(w**2) - 1) * x)
    with pytest.raises(DataError, match="do all equations have a value"):
        exercise(net)


def test_at_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sheet.toml"
    printed = run("exercise", "one_neuron", "--seed", "5")
    assert printed.exit_code == 0
    assert printed.stdout == sheet(load("one_neuron"), 5)
    written = run("exercise", "one_neuron", "--seed", "5", "-o", str(path))
    assert written.stdout.strip() == str(path)
    assert path.read_text() == printed.stdout
    marks = run("check", str(path), "--json")
    assert marks.exit_code == 0
    assert json.loads(marks.stdout)["counts"] == {"open": 17}

    solved = run("exercise", "one_neuron", "--seed", "5", "--answers").stdout
    assert solved.startswith("# one_neuron, answers to exercise 5\n")
    filled = path.read_text().replace('"h"\nprinted = ""', '"h"\nprinted = "0.9999"')
    path.write_text(filled)
    marks = run("check", str(path))
    assert marks.exit_code == 1
    assert "First wrong step\n  h = 0.9999" in marks.stdout

    with pytest.raises(SystemExit) as done:
        cli.main(["exercise", "one_neuron", "-o", str(path)])
    assert done.value.code == 2
    assert "exists already; give another name, or --force" in capsys.readouterr().err
    assert path.read_text() == filled
    assert run("exercise", "one_neuron", "-o", str(path), "--force").exit_code == 0
    assert path.read_text() == sheet(load("one_neuron"))
    with pytest.raises(SystemExit) as done:
        cli.main(["exercise", "digits"])
    assert done.value.code == 2
