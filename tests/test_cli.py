"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from symprop import cli, description
from symprop.weights import load_parameters

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
batch_size = 2
epochs = 60
"""


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "line.toml"
    path.write_text(LINE)
    (tmp_path / "data.csv").write_text("x,t\n0,1\n1,3\n2,5\n3,7\n")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)


def symprop(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as a shell does."""
    return subprocess.run(
        [sys.executable, "-c", "from symprop.cli import main; main()", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )  # fmt: skip


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; import symprop.cli; "
        "print([m for m in ('sympy', 'numba', 'numpy', 'scipy', 'mpmath') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_list_names_the_bundled_networks() -> None:
    groups: dict[str, set[str]] = {}
    for row in json.loads(run("list", "--json").stdout):
        groups.setdefault(row["group"], set()).add(row["name"])
    assert groups == {
        "example": {"kumar", "lamsal", "two_hidden_layers", "relu", "one_neuron", "digits"},
        "bench": {"T1", "T2", "M0", "M1", "M3"},
    }
    examples, _, benches = run("list").stdout.partition("symprop bench")
    assert "digits" in examples
    assert "M3" in benches


def test_show_prints_equations_adjoints_and_gradients(line: Path) -> None:
    shown = run("show", str(line)).stdout
    for formula in ("y = w*x + b", "dL/dy = y - t", "dL/dw = x*dL/dy", "dL/db = dL/dy"):
        assert " ".join(formula.split()) in " ".join(shown.split())


def test_show_one_variable_with_its_chain(line: Path) -> None:
    shown = run("show", str(line), "--wrt", "w").stdout
    assert "dL/dw = x*dL/dy" in shown
    assert "dL/dy = y - t" in shown
    assert "dL/db" not in shown


def test_show_expanded_has_no_adjoints(line: Path) -> None:
    shown = run("show", str(line), "--wrt", "w", "--expand").stdout
    assert "dL/dw = x*(w*x + b - t)" in shown


def test_show_as_latex_and_json(line: Path) -> None:
    assert r"\begin{align*}" in run("show", str(line), "--format", "latex").stdout
    data = json.loads(run("show", str(line), "--json").stdout)
    assert data["sections"][2]["equations"][0]["text"] == "dL/dw = x*dL/dy"


def test_generate_writes_a_module_and_prints_its_path(line: Path) -> None:
    result = run("generate", str(line), "-o", "out")
    assert result.stdout.strip() == os.path.join("out", "line.py")
    assert "Parameters" in (line.parent / "out" / "line.py").read_text()


def test_train_writes_nothing_where_foreign_weights_stand(line: Path) -> None:
    target = line.parent / "generated" / "line.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    (line.parent / "data.csv").write_text("x,t\n1,2\n2,3\n")
    done = symprop("train", str(line), "--data", "data.csv", folder=line.parent)
    assert done.returncode == 2
    assert "holds no parameters of network 'line'" in done.stderr
    assert [path.name for path in target.parent.iterdir()] == ["line.safetensors"]
    assert target.read_bytes() == b"mine"


def test_generate_does_not_overwrite_a_foreign_file(line: Path) -> None:
    target = line.parent / "generated" / "line.py"
    target.parent.mkdir()
    target.write_text("mine = 1\n")
    done = symprop("generate", str(line), folder=line.parent)
    assert done.returncode == 2
    assert "line.py" in done.stderr
    assert "--force" in done.stderr
    assert target.read_text() == "mine = 1\n"
    assert run("generate", str(line), "--force").exit_code == 0
    assert target.read_text() != "mine = 1\n"


def test_verify_reports_every_parameter(line: Path) -> None:
    result = run("verify", str(line), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True


def test_train_on_a_csv_file(line: Path) -> None:
    result = run("train", str(line), "--data", "data.csv", "--epochs", "2000", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert report["loss"] < 1e-10
    assert Path(report["weights"]).exists()


def test_train_without_data_says_what_to_do(line: Path) -> None:
    done = symprop("train", str(line), folder=line.parent)
    assert done.returncode == 2
    assert "--data" in done.stderr
    assert not (line.parent / "generated").exists()


def test_numbers_come_from_a_file(line: Path) -> None:
    asked = ("show", str(line), "--wrt", "b", "--steps", "--numbers", "--sample", "1")
    shown = json.loads(run(*asked, "--data", "data.csv", "--json").stdout)
    assert shown["gradient"] == -2.5  # w*x + b - t = 0.5*1 + 0 - 3
    assert "(--data FILE)" in symprop(*asked, folder=line.parent).stderr


def test_divergence_exits_1_and_names_the_epoch(line: Path) -> None:
    done = symprop(
        "train", str(line), "--data", "data.csv", "--learning-rate", "1e6", folder=line.parent
    )
    assert done.returncode == 1
    assert "epoch" in done.stderr
    assert "Traceback" not in done.stderr
    weights = line.parent / "generated" / "line.safetensors"
    kept = load_parameters(weights, description.read(line))
    assert all(np.isfinite(value).all() for value in kept.values())


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["show", "nothing"], "expected a .toml file"),
        (["show", "missing.toml"], "missing.toml"),
        (["show", "missing.py:net"], "missing.py"),
        (["show", "line.toml", "--wrt", "q"], "no adjoint of 'q'"),
        (["train", "line.toml", "--data", "data.csv", "--set", "beta"], "NAME=NUMBER"),
        (["train", "line.toml", "--data", "data.csv", "--set", "beta=1"], "beta"),
        (["train", "line.toml", "--data", "missing.csv"], "missing.csv"),
        (["generate", "line.toml", "--optimizer", "adamm"], "adam"),
        (["frobnicate"], "No such command"),
    ],
)
def test_bad_usage_exits_2_with_one_message(line: Path, arguments: list[str], part: str) -> None:
    done = symprop(*arguments, folder=line.parent)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (line.parent / "generated").exists()


def test_a_network_in_python_code(line: Path) -> None:
    (line.parent / "mine.py").write_text(
        "import symprop\n"
        "net = symprop.Network('mine')\n"
        "x, w = net.input('x'), net.parameter('w')\n"
        "net.loss((w*x - 1)**2)\n"
    )
    assert "dL/dw" in run("show", "mine.py:net").stdout


def test_python_code_that_fails_gives_one_message(line: Path) -> None:
    (line.parent / "bad.py").write_text("1/0\n")
    done = symprop("show", "bad.py:net", folder=line.parent)
    assert done.returncode == 2
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
