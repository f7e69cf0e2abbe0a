"""Steps from the loss to a weight: the text of a textbook, from the derivation of the kernels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from classics import CLASSICS, dense, derived, kumar, lamsal, naive, one_neuron
from click.testing import CliRunner
from sympy import IndexedBase, Symbol
from zoo import ZOO

from symprop import cli
from symprop.derivation import Derivation, differentiate, local_derivatives
from symprop.errors import NetworkError, OptionError
from symprop.examples import load_example
from symprop.explain import steps
from symprop.explain.rows import Line, Section, latex_document
from symprop.explain.spelling import Lookup, number_text
from symprop.explain.worked import Worked, decimals, work
from symprop.explain.writing import ASCII, LATEX, MATHML, UNICODE
from symprop.network import Network
from symprop.verification.oracle import MP

W5 = """\
dE/dw5 = dE/dy1out * dy1out/dy1 * dy1/dw5
dE/dy1out = y1out - t1          = 0.75136507 - 0.01       = 0.74136507
dy1out/dy1 = y1out*(1 - y1out)  = 0.75136507*0.24863493   = 0.18681560
dy1/dw5 = H1out                                           = 0.59326999
dE/dw5 = 0.74136507*0.18681560*0.59326999                 = 0.08216704
w5 <- w5 - 0.5*dE/dw5 = 0.4 - 0.5*0.08216704              = 0.35891648"""

W1 = """\
Path 1 of 2: E_total <- E_1 <- output_o1 <- sum_o1 <- output_h1 <- sum_h1 <- w1

path 1 = dE_total/dE_1 * dE_1/doutput_o1 * doutput_o1/dsum_o1 * dsum_o1/doutput_h1 * \
doutput_h1/dsum_h1 * dsum_h1/dw1
dE_total/dE_1 = 1
dE_1/doutput_o1 = output_o1 - target_1          = 0.73492861 - 0.05       = 0.68492861
doutput_o1/dsum_o1 = output_o1*(1 - output_o1)  = 0.73492861*0.26507139   = 0.19480855
dsum_o1/doutput_h1 = w5                                                   = 0.5
doutput_h1/dsum_h1 = output_h1*(1 - output_h1)  = 0.60108788*0.39891212   = 0.23978124
dsum_h1/dw1 = i1                                                          = 0.1
path 1 = 0.68492861*0.19480855*0.5*0.23978124*0.1                         = 0.00159970

Path 2 of 2: E_total <- E_2 <- output_o2 <- sum_o2 <- output_h1 <- sum_h1 <- w1

path 2 = dE_total/dE_2 * dE_2/doutput_o2 * doutput_o2/dsum_o2 * dsum_o2/doutput_h1 * \
doutput_h1/dsum_h1 * dsum_h1/dw1
dE_total/dE_2 = 1
dE_2/doutput_o2 = output_o2 - target_2          = 0.77955388 - 0.95       = -0.17044612
doutput_o2/dsum_o2 = output_o2*(1 - output_o2)  = 0.77955388*0.22044612   = 0.17184963
dsum_o2/doutput_h1 = w7                                                   = 0.7
doutput_h1/dsum_h1 = output_h1*(1 - output_h1)  = 0.60108788*0.39891212   = 0.23978124
dsum_h1/dw1 = i1                                                          = 0.1
path 2 = -0.17044612*0.17184963*0.7*0.23978124*0.1                        = -0.00049164

The sum over the paths

dE_total/dw1 = 0.00159970 + (-0.00049164)            = 0.00110806
w1 <- w1 - 0.6*dE_total/dw1 = 0.1 - 0.6*0.00110806   = 0.09933517"""

DENSE = """\
dL/dz[k] = p[k] - t[k]

dL/dh[j] = Sum(dL/dz[k] * dz[k]/dh[j], k)
dz[k]/dh[j] = W2[j,k]
dL/dh[j] = Sum(W2[j,k]*dL/dz[k], k)

dL/dnet_h[j] = dL/dh[j] * dh[j]/dnet_h[j]
dh[j]/dnet_h[j] = 1 - h[j]**2
dL/dnet_h[j] = dL/dh[j]*(1 - h[j]**2)

dL/dW1[i,j] = dL/dnet_h[j] * dnet_h[j]/dW1[i,j]
dnet_h[j]/dW1[i,j] = x[i]
dL/dW1[i,j] = x[i]*dL/dnet_h[j]"""


def sampled(build: Callable[[], Network]) -> tuple[Derivation, Worked]:
    """Work a network of the zoo at a fixed random sample, with fixed random parameters."""
    derivation = differentiate(build())
    network, random = derivation.network, np.random.default_rng(3)
    sample: dict[str, Any] = {}
    for variable in (*network.inputs, *network.targets):
        whole = network.index_inputs.get(variable.name)
        sample[variable.name] = (
            random.integers(0, whole, variable.shape)
            if whole
            else np.round(random.uniform(0.1, 0.9, variable.shape), 3)
        )
    start = {p.name: np.round(random.normal(size=p.shape), 3) for p in network.parameters}
    return derivation, work(derivation, sample=sample, parameters=start)


def test_an_output_weight_reads_like_a_worked_example() -> None:
    derivation = differentiate(load_example("kumar"))
    shown = steps.steps(derivation, "w5", work(derivation)).text(forward=False)
    assert shown == f"From E to w5\n\n{W5}"


def test_a_hidden_weight_is_the_sum_over_its_paths() -> None:
    derivation = differentiate(load_example("lamsal"))
    done = steps.steps(derivation, "w1", work(derivation))
    assert done.text(forward=False) == W1
    first = done.text().split("\n\n")
    assert first[0] == "Forward pass, as far as it is needed"
    assert "sum_h1 = i1*w1 + i2*w3 + b1                = 0.1*0.1 + 0.5*0.3 + 0.25" in first[1]
    assert "sigmoid(z) = 1/(1 + exp(-z))" in done.text()
    assert first[1].endswith("E_2 = (target_2 - output_o2)**2/2\nE_total = E_1 + E_2")


def test_without_numbers_only_formulas() -> None:
    shown = steps.steps(derived(kumar), "w5").text()
    assert "0.75" not in shown
    assert "dE/dw5 = (y1out - t1)*y1out*(1 - y1out)*H1out\n" in shown
    assert shown.endswith("w5 <- w5 - 0.5*dE/dw5")


def test_a_tensor_in_index_notation() -> None:
    shown = steps.steps(derived(dense), "W1").text()
    assert shown == f"From L back to W1, in index notation\n\n{DENSE}"


def test_an_element_has_concrete_subscripts() -> None:
    done = steps.steps(derived(dense), "W1[0,1]", work(derived(dense)))
    shown = done.text()
    assert "Path 2 of 2: L <- z[1] <- h[1] <- net_h[1] <- W1[0,1]" in shown
    assert "dh[1]/dnet_h[1] = 1 - h[1]**2  = 1 - (-0.24491866)**2   = 0.94001485" in shown
    assert "m_W1[0,1] <- (1 - 0.9)*dL/dW1[0,1] + 0.9*m_W1[0,1]" in shown
    assert done.as_dict()["update"]["value"] == pytest.approx(-0.2 - 0.01, abs=1e-6)


def test_many_ways_start_at_an_adjoint() -> None:
    derivation = derived(dense)
    done = steps.steps(derivation, "W1[0,1]", work(derivation), limit=1)
    (path,) = done.paths
    assert [ASCII.quantity(factor.quantity) for factor in path.factors] == [
        "dL/dh[1]", "dh[1]/dnet_h[1]", "dnet_h[1]/dW1[0,1]",
    ]  # fmt: skip
    assert [ASCII.quantity(line.quantity) for line in done.given] == ["dL/dz[0]", "dL/dz[1]"]


def test_long_sums_are_elided_but_exact() -> None:
    derivation, worked = sampled(ZOO["tied"])
    shown = steps.steps(derivation, "W[0,1]", worked, limit=1).text()
    assert "W[0,0]*h[0]" in shown or "..." in shown
    assert " + ... + " in shown


def test_every_value_that_is_put_in_is_listed() -> None:
    derivation, worked = sampled(ZOO["attention"])
    done = steps.steps(derivation, "Wq[1,2,0]", worked)
    values = next(section for section in done.forward if section.title.startswith("Forward"))
    listed = {ASCII.quantity(row.quantity) for row in values.rows if isinstance(row, Line)}
    lines = [*done.given, *(factor for path in done.paths for factor in path.factors)]
    formulas = " ".join(ASCII.formula(line.expression) for line in lines)
    put_in = set(re.findall(r"(?<![a-z])[AHKVY]\[[\d,]*\]", formulas))
    assert {f"A[1,{s},{r}]" for s in range(4) for r in range(4)} <= put_in <= listed


def test_of_many_long_sums_two_are_worked_and_the_values_of_the_others_listed() -> None:
    derivation, worked = sampled(ZOO["tied"])
    shown = steps.steps(derivation, "W[0,1]", worked).text()
    assert re.search(r"^net_h\[1\] = W\[0,1\].*\n    = .*\n    = -?[\d.]+$", shown, re.MULTILINE)
    assert re.search(r"^net_h\[2\] = -?[\d.]+$", shown, re.MULTILINE)


def test_powers_in_unicode() -> None:
    y, a = Symbol("y", real=True), Symbol("a", real=True)
    assert UNICODE.formula(y**12 + y**a) == "y¹² + y^a"
    assert UNICODE.numbers(y**a, Lookup({"y": decimals(2), "a": decimals(0.5)})) == "2^0.5"


def test_functions_of_slopes_are_explained() -> None:
    derivation, worked = sampled(ZOO["convolution"])
    shown = steps.steps(derivation, "w[0,1,2]", worked).text()
    assert "drelu(z)/dz = step(z)\nstep(z) = (1 where z > 0)" in shown


@pytest.mark.parametrize("build", CLASSICS)
def test_products_and_sums_are_the_gradient_exactly(build: Callable[[], Network]) -> None:
    derivation = derived(build)
    worked = work(derivation)
    for parameter in derivation.network.parameters:
        done = steps.steps(derivation, parameter.name, worked)
        total = sum(path.product.value for path in done.paths)
        assert abs(total - done.gradient) <= MP.mpf(10) ** -50
        for path in done.paths:
            product = MP.mpf(1)
            for factor in path.factors:
                product *= factor.value
            assert product == path.product.value


CASES = [(name, 8) for name in sorted(set(ZOO) - {"unreached"})] + [("gates", 1), ("tied", 1)]


@pytest.mark.parametrize(("name", "limit"), CASES)
def test_paths_of_every_kind_of_network_add_up(name: str, limit: int) -> None:
    derivation, worked = sampled(ZOO[name])
    for parameter in derivation.network.parameters[:1]:
        done = steps.steps(derivation, parameter.name, worked, limit)
        assert 1 <= len(done.paths) <= limit
        total = sum(path.product.value for path in done.paths)
        assert abs(total - done.gradient) <= MP.mpf(10) ** -45 * (1 + abs(done.gradient))
        for writer in (LATEX, MATHML):
            for section in done.sections(forward=False):
                assert all(row.parts(writer).name for row in section.rows)


def test_a_changed_factor_is_noticed() -> None:
    done = steps.steps(derived(kumar), "w5", work(derived(kumar)))
    first, *rest = done.paths[0].factors
    wrong = Line(first.quantity, -first.expression, first.lookup)
    product = type(done.paths[0].product)(done.paths[0].product.quantity, (wrong, *rest))
    assert product.value != done.gradient


def test_paths_come_from_the_engine_of_the_kernels() -> None:
    for equation in derived(kumar).forward:
        for parts in local_derivatives(derived(kumar), equation).values():
            assert all(part.loops == () for part in parts)
    y1out = derived(kumar).forward[5]
    (part,) = local_derivatives(derived(kumar), y1out)["y1"]
    out = Symbol("y1out", real=True)
    assert part.value == out * (1 - out)


def test_what_the_loss_does_not_read_has_gradient_zero() -> None:
    derivation, worked = sampled(ZOO["unreached"])
    done = steps.steps(derivation, "v", worked)
    assert done.paths == ()
    assert done.gradient == 0
    assert "L does not depend on v: dL/dv = 0" in done.text()


def test_a_parameter_that_is_not_trained_has_no_update() -> None:
    done = steps.steps(derived(lamsal), "b1", work(derived(lamsal)))
    assert len(done.paths) == 4
    assert done.update is None
    assert "b1 is not trained: it keeps its value" in done.text()


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(NetworkError, match="no adjoint of 'w9'"):
        steps.steps(derived(kumar), "w9")
    with pytest.raises(OptionError, match=r"W1 has the shape \(3, 2\), so expected W1\[0,0\]"):
        steps.steps(derived(dense), "W1[3,0]")
    with pytest.raises(OptionError, match=r"w5 has the shape .* expected w5 alone"):
        steps.steps(derived(kumar), "w5[0]")
    with pytest.raises(OptionError, match="expected a name such as w5"):
        steps.steps(derived(kumar), "w5 + 1")


def test_data_has_stable_keys() -> None:
    data = json.loads(json.dumps(steps.steps(derived(kumar), "w5", work(derived(kumar))).as_dict()))
    assert data["target"] == "w5"
    assert data["gradient"] == pytest.approx(0.0821670406, abs=1e-10)
    assert data["paths"][0]["factors"][0] == {
        "name": "dE/dy1out",
        "formula": "y1out - t1",
        "substituted": "0.75136507 - 0.01",
        "value": pytest.approx(0.7413650696),
    }
    assert data["update"]["formula"] == "w5 - 0.5*dE/dw5"
    assert data["update"]["substituted"] == "0.4 - 0.5*0.08216704"
    assert data["update"]["value"] == pytest.approx(0.3589164797)


def test_unicode_has_the_signs_of_mathematics() -> None:
    shown = steps.steps(derived(kumar), "w5", work(derived(kumar))).text(unicode=True)
    assert "∂E/∂w5 = ∂E/∂y1out · ∂y1out/∂y1 · ∂y1/∂w5" in shown
    assert "w5 ← w5 - 0.5·∂E/∂w5 = 0.4 - 0.5·0.08216704" in shown
    assert "*" not in shown


def test_numbers_as_people_write_them() -> None:
    assert number_text(MP.mpf("0.4")) == "0.4"
    assert number_text(MP.mpf(1) / 3) == "0.33333333"
    assert number_text(MP.mpf("0.186815601")) == "0.18681560"
    assert number_text(MP.mpf("-0.99999999999")) == "-1.00000000"
    assert number_text(MP.mpf("123456789.25")) == "1.2345679e8"
    assert number_text(MP.mpf(0)) == "0"


def test_signs_and_brackets_of_numbers() -> None:
    a, b, x = (Symbol(name, real=True) for name in "abx")
    values = {"a": -2, "b": 3, "x": -0.5}
    lookup = Lookup({name: np.array(MP.mpf(value)) for name, value in values.items()})
    cases = {
        a * b: "(-2)*3", b - a: "3 - (-2)", a + x: "-2 - 0.5", a**2: "(-2)**2",
        b * (x - a): "3*1.5", 1 / a: "1/(-2)", (b - a) ** 2 / 2: "(3 - (-2))**2/2",
    }  # fmt: skip
    for expression, expected in cases.items():
        assert ASCII.numbers(expression, lookup) == expected, expression
    assert LATEX.numbers(a * b, lookup).replace(" ", "") in (r"-2\cdot3", r"\left(-2\right)\cdot3")
    assert ElementTree.fromstring(MATHML.numbers(b - a, lookup)) is not None


def test_mathml_is_well_formed() -> None:
    for build in CLASSICS:
        name = "w" if build is naive else "W1" if build is dense else "w1"
        html = steps.steps(derived(build), name, work(derived(build))).html()
        root = ElementTree.fromstring(f"<div>{html}</div>")
        assert len(list(root.iter("{http://www.w3.org/1998/Math/MathML}math"))) > 5
        assert "http" not in html.replace("http://www.w3.org/1998/Math/MathML", "")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
@pytest.mark.parametrize("build", [lamsal, dense])
def test_latex_compiles(build: Callable[[], Network], tmp_path: Path) -> None:
    derivation = derived(build)
    name = "W1" if build is dense else "w1"
    (tmp_path / "steps.tex").write_text(steps.steps(derivation, name, work(derivation)).latex())
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "steps.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_latex_is_balanced_and_escaped() -> None:
    page = latex_document("50 % of a_b", [Section("x <- y", ())], ["$5 & {more}"])
    assert r"50 \% of a\_b" in page
    assert r"x $\leftarrow$ y" in page
    assert r"\$5 \& \{more\}" in page
    whole = steps.steps(derived(dense), "W1", work(derived(dense))).latex()
    assert whole.count("{") == whole.count("}")
    assert whole.count(r"\left") - whole.count(r"\leftarrow") == whole.count(r"\right")


def test_elements_in_latex_have_brackets() -> None:
    W = IndexedBase("W1", real=True)
    assert LATEX.formula(W[0, 1]) == "W_{1}[0,1]"
    assert LATEX.formula(IndexedBase("dL/dz")[3]) == r"\frac{\partial L}{\partial z[3]}"


def show(*arguments: str) -> Any:
    return CliRunner().invoke(cli.cli, ["show", *arguments], catch_exceptions=False)


def test_the_command_prints_every_format() -> None:
    common = ("kumar", "--wrt", "w5", "--steps", "--numbers")
    assert "w5 ← w5 - 0.5·∂E/∂w5" in show(*common).output
    assert show(*common, "--format", "latex").output.startswith(r"\documentclass")
    assert show(*common, "--format", "html").output.startswith("<!DOCTYPE html>")
    assert json.loads(show(*common, "--json").output)["update"]["optimizer"] == "sgd"
    forward = show("kumar", "--forward", "--numbers").output
    assert "H1 = w1·x1 + w2·x2 + b1                = 0.15·0.05 + 0.2·0.1 + 0.35" in forward
    assert "x1 = 0.05\n" in forward
    second = show(*common, "--iteration", "2").output
    assert "= 0.35891648 - 0.5·" in second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps",), "--steps needs --wrt"),
        (("--numbers",), "--numbers goes with"),
        (("--wrt", "w5", "--steps", "--expand"), "--expand shows one formula"),
        (("--wrt", "W1[0,1]"), "add --steps"),
        (("--forward", "--numbers", "--sample", "5"), "the samples 0 to 0"),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...], message: str) -> None:
    done = show("kumar", *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_one_neuron_step_by_step_gives_the_derivatives_of_the_text() -> None:
    derivation = derived(one_neuron)
    expected = {"w1": -0.0083, "b1": -0.0167, "b2": -0.2277}
    for name, value in expected.items():  # the text prints dL/db1 = -0.0166, carried rounding
        done = steps.steps(derivation, name, work(derivation))
        assert float(done.gradient) == pytest.approx(value, abs=6e-5)
