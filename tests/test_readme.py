"""What README.md tells a newcomer to type is right, word for word."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import symprop
from symprop import cli, description
from symprop.examples import load_example
from symprop.explain import steps
from symprop.explain.worked import work

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return found


def test_the_two_commands() -> None:
    """The first line installs and runs the main job, the second installs and tests."""
    lines = block("sh").splitlines()
    assert lines == [
        "python -m pip install . && symprop train digits",
        "python -m pip install '.[test]' && python -m pytest",
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["symprop"] == "symprop.cli:main"
    assert "test" in project["optional-dependencies"]


def test_the_main_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.cli, ["train", "digits"], catch_exceptions=False)
    assert result.exit_code == 0
    accuracy = re.search(r"test .*accuracy ([\d.]+)", result.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.96
    assert sorted(path.name for path in (tmp_path / "generated").iterdir()) == [
        "digits.py",
        "digits.safetensors",
    ]


def test_the_example_description_is_a_network() -> None:
    network = description.parse(block("toml"))
    assert [str(equation.name) for equation in network.equations] == ["y", "L"]
    assert network.training.hyperparameters == {"learning_rate": 0.1}


def test_the_example_in_python_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("python"), {})
    assert capsys.readouterr().out.splitlines() == [
        "dL/dw[i] = x[i]*dL/dy",
        "b - t + Sum(w[i]*x[i], (i, 0, 2))",
    ]


def test_the_formulas_shown_are_those_derived() -> None:
    result = CliRunner().invoke(cli.cli, ["show", "digits"], catch_exceptions=False)
    shown = {" ".join(line.split()) for line in result.stdout.splitlines()}
    quoted = [line for line in README.splitlines() if line.startswith("    dL/d")]
    assert len(quoted) == 4
    for line in quoted:
        assert " ".join(line.split()) in shown


def test_the_worked_step_is_the_one_shown() -> None:
    asked = ["show", "kumar", "--wrt", "w5", "--steps", "--numbers", "--json"]
    assert CliRunner().invoke(cli.cli, asked).exit_code == 0
    derivation = symprop.differentiate(load_example("kumar"))
    shown = steps.steps(derivation, "w5", work(derivation)).text()
    block = shown[shown.index("dE/dw5 = ") :].splitlines()
    assert "".join(f"    {line}\n" for line in block) in README


def test_the_first_wrong_step_is_the_one_found() -> None:
    found = CliRunner().invoke(cli.cli, ["check", "two_hidden_layers", "--json"])
    first = json.loads(found.stdout)["first_wrong"]
    assert f"`{first['quantity']} = {first['printed']}`" in README


@pytest.mark.parametrize("command", ["show", "report", "check", "exercise", "explain"])
def test_options_of_the_commands_exist(command: str) -> None:
    typed = re.findall(rf"^    symprop {command} .*?(?=  |$)", README, flags=re.MULTILINE)
    known = CliRunner().invoke(cli.cli, [command, "--help"]).output
    assert typed
    for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", " ".join(typed)):
        assert option in known
