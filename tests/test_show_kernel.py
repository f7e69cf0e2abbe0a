"""`symprop show NET --kernel`: what was chosen for the kernels, and why."""

from __future__ import annotations

import json

import pytest
import zoo
from click.testing import CliRunner

from symprop import cli
from symprop.derivation import differentiate
from symprop.explain.kernels import as_data, listing
from symprop.lower import lower


def shown(*options: str) -> str:
    done = CliRunner().invoke(cli.cli, ["show", *options, "--kernel"])
    assert done.exit_code == 0, done.output
    return done.output


def test_digits_are_in_lanes_and_every_product_says_why() -> None:
    text = shown("digits", "--dtype", "float32")
    assert text.startswith("layout lanes")
    assert "steps of 32 samples: 1 of 32, 16 to a register" in text
    assert "net_h[j,s] = Sum(W1[i,j]*x[i,s], i)" in text
    assert "dL/dW1[i,j] = Sum(x[i,s]*dL_dnet_h_T[s,j], s)" in text
    tiles = [line for line in text.splitlines() if "register tiles:" in line]
    assert len(tiles) == 2 + 2 + 3 + 4  # forward, loss, gradient with the two sums for biases
    assert all(";" in line and not line.rstrip().endswith(";") for line in tiles)
    assert max(map(len, text.splitlines())) <= 100


def test_one_sample_a_step_is_in_rows() -> None:
    text = shown("kumar")
    assert text.startswith("layout rows")
    assert "fill no register" in text


def test_a_tensor_lives_between_its_lines() -> None:
    data = json.loads(shown("digits", "--json"))
    (gradient,) = (kernel for kernel in data["kernels"] if kernel["name"] == "gradient")
    for tensor in gradient["workspace"]:
        first, last = tensor["lines"]
        assert 1 <= first < last <= len(gradient["lines"]), tensor
        assert tensor["name"] in gradient["lines"][first - 1]["text"]
        assert tensor["name"] in gradient["lines"][last - 1]["text"]
    assert data["layout"] == "lanes"


@pytest.mark.parametrize("name", zoo.ZOO)
@pytest.mark.parametrize("layout", ["rows", "lanes"])
def test_every_network_is_listed(name: str, layout: str) -> None:
    program = lower(differentiate(zoo.ZOO[name]()), layout=layout)
    text = listing(program)
    for equation in differentiate(zoo.ZOO[name]()).network.equations:
        assert equation.name in text
    json.dumps(as_data(program), allow_nan=False)


def test_it_shows_kernels_alone() -> None:
    for options in (["--expand"], ["--format", "html"]):
        done = CliRunner().invoke(cli.cli, ["show", "digits", "--kernel", *options])
        assert done.exit_code == 2
        assert "--kernel" in done.output
