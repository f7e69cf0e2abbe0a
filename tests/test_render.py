"""The text of generated modules: a pure function, well formed, its templates only frames."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import classics
import jinja2
import jinja2.meta
import pytest
import zoo
from sympy import Sum, sin

from symprop import Network
from symprop.derivation import differentiate
from symprop.errors import LoweringError
from symprop.examples import load_example
from symprop.lower import lower
from symprop.optimizers import OPTIMIZERS
from symprop.options import Options
from symprop.render import TEMPLATE, module_context, render, template_source
from symprop.render.lines import call

ADAM = Options()
LONG = {"convolution_2d", "functions", "padding", "pooling", "skip"}
"""Networks with a statement so long that only the formatter itself could break it its way."""

BUILDERS = {**zoo.ZOO, **{build.__name__: build for build in classics.CLASSICS}}


def text(network: Network, options: Options = ADAM) -> str:
    derivation = differentiate(network)
    return render(derivation, lower(derivation, options.dtype), options)


def crowded() -> Network:
    """Every name that the machinery would like to have is taken by the network."""
    net = Network("crowded")
    s, axis = net.index("s", 3), net.index("axis", 2)
    samples, workspace = net.input("samples", s), net.input("n")
    total, gradient = net.target("total", axis), net.parameter("gradient", s, axis)
    theta, m, v = net.parameter("theta"), net.parameter("m", axis), net.parameter("v")
    rows = net.define("rows", Sum(gradient[s, axis] * samples[s], s) + m[axis] * workspace, axis)
    first = net.output("first", sin(theta * rows[axis]) + v, axis)
    net.loss(Sum((first[axis] - total[axis]) ** 2, axis), name="loss_sum")
    return net


def test_a_template_reads_exactly_its_context() -> None:
    derivation = differentiate(classics.dense())
    context = module_context(derivation, lower(derivation), ADAM)
    tree = jinja2.Environment().parse(template_source(TEMPLATE))
    assert jinja2.meta.find_undeclared_variables(tree) == set(context)


def test_the_text_does_not_depend_on_the_process() -> None:
    """Two processes with different hash seeds write the same bytes."""
    script = (
        "import zoo, classics, test_render as r, hashlib\n"
        "for build in (zoo.ZOO['attention'], zoo.ZOO['functions'], classics.kumar):\n"
        "    print(hashlib.sha256(r.text(build()).encode()).hexdigest())"
    )
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_text_parses_and_imports_only_what_it_may(build) -> None:
    source = text(build())
    tree = ast.parse(source)
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    always = {"math", "threading", "time", "typing", "numpy", "numba"}
    vectors = {"collections", "contextlib", "functools", "llvmlite", "operator", "os", "warnings"}
    scalars = {"functools", "llvmlite"}
    lanes, traced = "_hot()" in source, "_scalar(" in source
    assert names <= always | (vectors if lanes else set()) | (scalars if traced else set())
    assert ast.get_docstring(tree).splitlines()[0].endswith(".")


def test_text_is_formatted_and_linted_like_written_code(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    folder.mkdir()
    dtypes = cycle(("float64", "float32"))
    for (name, build), dtype in zip({**BUILDERS, "crowded": crowded}.items(), dtypes, strict=False):
        (folder / f"{name}.py").write_text(text(build(), Options(dtype)))  # type: ignore[arg-type]
    config = Path(__file__).parent.parent / "pyproject.toml"
    kept = [arg for name in sorted(LONG) for arg in ("--exclude", f"{name}.py")]
    ignored = ["--extend-ignore", "D,E501,N,PT,RUF,SIM"]  # as for the folder generated/
    for command in (["format", "--check", "--diff", *kept], ["check", *ignored]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", config, folder, "--no-cache"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_docstring_states_the_mathematics() -> None:
    docstring = ast.get_docstring(ast.parse(text(classics.dense())))
    lines = [line.strip() for line in docstring.splitlines()]
    assert re.fullmatch(r"dense: kernels generated by symprop \S+\.", lines[0])
    for line in (
        "net_h[j] = Sum(W1[i,j]*x[i], i) + b1[j]",
        "dL/dh[j] = Sum(W2[j,k]*dL/dz[k], k)",
        "dL/dW2[j,k] = h[j]*dL/dz[k]",
    ):
        assert line in lines
    assert any(line.startswith("theta = theta - ") for line in lines)


def test_every_equation_stands_above_its_statement() -> None:
    lines = [line.strip() for line in text(classics.kumar()).splitlines()]
    place = lines.index("# dE/dw5 = H1out*dE/dy1")
    assert lines[place + 1] == "g_w5 += H1out * d_y1"


def test_scalar_functions_come_along_only_where_they_are_called() -> None:
    assert "def sigmoid(" in text(classics.kumar())
    assert "def sigmoid(" not in text(classics.dense())


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_update_rule_has_text(optimizer) -> None:
    source = text(load_example("digits"), Options("float32", optimizer))
    body = source[source.index("def _update(") : source.index("# ----", source.index("def _upd"))]
    assert "theta[element] " in body
    literals = re.findall(r"(?<![\w.(\[])\d+\.\d+(?!\w)", body.split("for element")[1])
    assert not literals, "a bare literal in a float32 loop"


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_update_rule_has_text_for_variables(optimizer) -> None:
    source = text(classics.one_neuron(), Options("float32", optimizer))
    body = source[source.index("def _stretch(") : source.index("# ----", source.index("def _str"))]
    update = body[body.index("scale = ") :]
    for name in ("w1", "w2", "b1", "b2"):
        assert re.search(rf"^        {name} [-+]?= ", update, re.MULTILINE), name
        for slot in optimizer.slots:
            assert re.search(rf"^        {slot}_{name} [-+]?= ", update, re.MULTILINE)
    literals = re.findall(r"(?<![\w.(\[])\d+\.\d+(?!\w)", re.split(r"#.*", update)[-1])
    assert not literals, "a bare literal in a float32 loop"


def test_what_is_not_trainable_is_left_alone() -> None:
    net = Network("fixed")
    x, t = net.input("x"), net.target("t")
    a, b, c = (net.parameter(name, trainable=name != "b") for name in "abc")
    y = net.output("y", a * x + b * x**2 + c)
    net.loss((y - t) ** 2)
    steps = text(net)[text(net).index("def _advance(") :]
    share = "_share(1, 8, thread, threads2)"
    parts = re.findall(r"lower, upper = (.+)\n", steps)
    assert parts == ["0, 1", share, "2, 3", share, "2 + lower, 2 + upper"]
    assert steps.count(" _update,") == 2


def test_a_network_without_inputs_is_refused() -> None:
    net = Network("empty")
    t, w = net.target("t"), net.parameter("w")
    y = net.output("y", w * 2)
    net.loss((y - t) ** 2)
    with pytest.raises(LoweringError, match="has no inputs"):
        text(net)


def test_an_input_named_like_a_hyperparameter_is_refused() -> None:
    net = Network("clash")
    x, t, w = net.input("beta1"), net.target("t"), net.parameter("w")
    y = net.output("y", w * x)
    net.loss((y - t) ** 2)
    with pytest.raises(LoweringError, match="'beta1' names both an input or target and a hyper"):
        text(net)


def test_long_calls_are_broken_as_the_formatter_breaks_them() -> None:
    assert call("f(", ["a"] * 3, depth=1) == ["    f(a, a, a)"]
    parts = ["a" * 30] * 3
    assert call("function(", parts) == ["function(", f"    {', '.join(parts)}", ")"]
    assert call("f(", ["a" * 50] * 2) == ["f(", *[f"    {'a' * 50},"] * 2, ")"]
