"""`symprop show NET --kernel`: what was chosen for the kernels, and why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

import pytest
import zoo
from click.testing import CliRunner
from sympy import Piecewise, Sum

from symprop import Network, cli
from symprop.derivation import differentiate
from symprop.examples import load_example
from symprop.explain.kernels import _life, _Line, as_data, listing
from symprop.lower import lower
from symprop.lower.program import Loop, Statement
from symprop.lower.steps import Contract


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
    assert len(tiles) == 2 + 2 + 3 + 4 + 4  # forward twice, loss, gradient with sums for biases
    counted = r"\d+ multiply-adds >= 256"
    why = rf"tiles: ({counted}, \d+ rows|{counted} for 32 samples, \d+ columns|a sum over .*)$"
    assert all(re.search(why, line) for line in tiles)
    assert max(map(len, text.splitlines())) <= 100


def test_one_sample_a_step_is_in_rows() -> None:
    text = shown("kumar")
    assert text.startswith("layout rows")
    assert "steps of one sample" in text
    assert " |" not in text  # nothing but scalars: no product to explain


def test_a_tensor_lives_between_its_lines() -> None:
    """From a line that has it on the left to the last one that has it on the right."""
    data = json.loads(shown("digits", "--json"))
    for kernel in data["kernels"]:
        texts = [line["text"] for line in kernel["lines"]]
        for tensor in kernel["workspace"]:
            name, first, last = tensor["name"], tensor["first_write"], tensor["last_read"]
            assert 1 <= first < last <= len(texts), tensor
            assert texts[first - 1].startswith(f"{name}["), tensor
            assert f"{name}[" in texts[last - 1].split(" = ")[-1], tensor
            later = [words for words in texts[last:] if not words.startswith("#")]
            assert not any(re.search(rf"(?<![/\w]){name}\[", words) for words in later), tensor
    assert data["layout"] == "lanes"


def test_what_is_written_and_never_read_lives_on_one_line() -> None:
    lines = [_Line(0, "a[i] = 0", writes="a"), _Line(0, "b[i] = a[i]", frozenset("a"), "b")]
    assert _life("a", lines) == (1, 2)
    assert _life("b", lines) == (2, 2)


def contracts(statements: Iterable[Statement]) -> Iterator[Contract]:
    for statement in statements:
        if isinstance(statement, Loop):
            yield from contracts(statement.body)
        elif isinstance(statement, Contract):
            yield statement


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_contraction_has_a_reason_and_its_strides(name: str) -> None:
    program = lower(differentiate(zoo.ZOO[name]()), layout="lanes", products="tiles")
    data = as_data(program)
    for kernel, found in zip(program.kernels, data["kernels"], strict=True):
        tiles = [line for line in found["lines"] if "tiling" in line]
        expected = list(contracts(kernel.body))
        assert len(tiles) == len(expected)
        for line, contract in zip(tiles, expected, strict=True):
            assert contract.reason
            assert line["why"] == [f"register tiles: {contract.reason}", str(contract.tiling)]
            assert line["tiling"]["rows"]["count"] == contract.tiling.rows.count
            assert len(line["tiling"]["terms"]) == len(contract.tiling.terms)


def test_samples_are_told_from_an_index_s() -> None:
    """Attention has an index s of its own: its samples are called otherwise."""
    text = listing(lower(differentiate(zoo.ZOO["attention"]()), layout="lanes"))
    assert "H[a,s,e,sample] = Sum(A[a,s,r,sample]*V[a,r,e,sample], r)" in text
    assert "rows 4 (left 128, out 64), columns lanes (left 1, right 1, out 1)" in text


def test_matrix_products_are_sums_too() -> None:
    attention = differentiate(zoo.ZOO["attention"]())
    text = listing(lower(attention, layout="rows", products="blas"))
    assert "dL/dV[s,e] = Sum(A[a,s2,s]*dL/dH[s2,e], s2)" in text
    assert "BLAS, np.dot: asked for; 4 x 4 times 4 x 2" in text
    text = listing(lower(differentiate(load_example("digits")), layout="rows"))
    assert "dL/dW1[i,j] = Sum(x[s,i]*dL/dnet_h[s,j], s)" in text
    reason = "65536 multiply-adds >= 256 for 32 samples"
    assert f"register tiles: {reason}, 32 columns" in text
    assert "summed columns 10 (left 1, right 1)" in text  # of dL/dh
    text = listing(lower(differentiate(load_example("M3")), layout="rows"))
    reason = "12845056 multiply-adds >= 2048 for 32 samples"
    assert f"BLAS, np.dot: {reason}; samples x 784 times 784 x 512" in text


def chosen_by_data() -> Network:
    network = Network("chosen")
    i, j = network.index("i", 64), network.index("j", 40)
    x, t = network.input("x", i), network.target("t", j)
    w = network.parameter("w", i, j, init="glorot_uniform")
    some = Piecewise((w[i, j] * x[i], x[i] > 0), (0, True))
    y = network.output("y", Sum(some, i), j)
    network.loss(Sum((y[j] - t[j]) ** 2, j))
    return network


def test_loops_say_why_they_stayed() -> None:
    small = listing(lower(differentiate(zoo.ZOO["classifier"]()), layout="rows"))
    assert "loops: 96 multiply-adds < 256" in small
    assert "loops: no line of 4 or more, and 480 multiply-adds < 2048" in small
    chosen = differentiate(chosen_by_data())
    reasons = {
        way: listing(lower(chosen, layout="lanes", products=way)) for way in ("model", "loops")
    }
    assert "loops: what is added depends on a condition" in reasons["model"]
    assert "loops: asked for" not in reasons["model"]
    assert "loops: asked for" in reasons["loops"]
    assert "register tiles" not in reasons["loops"]


@pytest.mark.parametrize("name", zoo.ZOO)
@pytest.mark.parametrize("layout", ["rows", "lanes"])
def test_every_network_is_listed(name: str, layout: str) -> None:
    program = lower(differentiate(zoo.ZOO[name]()), layout=layout)
    text = listing(program)
    for equation in differentiate(zoo.ZOO[name]()).network.equations:
        assert equation.name in text
    assert max(map(len, text.splitlines())) <= 100
    json.dumps(as_data(program), allow_nan=False)


def test_it_shows_kernels_alone() -> None:
    for options in (["--expand"], ["--format", "html"]):
        done = CliRunner().invoke(cli.cli, ["show", "digits", "--kernel", *options])
        assert done.exit_code == 2
        assert "--kernel" in done.output
