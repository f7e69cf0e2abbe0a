"""A notebook runs, and every object that it ends a cell with shows itself."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from classics import dense, derived, kumar

from symprop.explain.steps import steps
from symprop.explain.worked import work

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")


def shown(value: Any) -> dict[str, str]:
    """Return what a notebook would show of `value`, by the protocol of rich display."""
    found = {}
    for kind, method in (("text/html", "_repr_html_"), ("text/latex", "_repr_latex_")):
        if hasattr(value, method):
            found[kind] = getattr(value, method)()
    return found


def run(cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Execute code cells one after the other; return what the last expression of each shows."""
    space: dict[str, Any] = {}
    results = []
    for cell in cells:
        tree = ast.parse("".join(cell["source"]))
        *body, last = tree.body
        exec(compile(ast.Module(body, []), "cell", "exec"), space)
        assert isinstance(last, ast.Expr)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), space)
        results.append(shown(value))
    return results


def code_cells() -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_shows_formulas() -> None:
    network, derivation, w1, w5, page = run(code_cells())
    assert r"\begin{aligned}" in network["text/latex"]
    assert r"\mathit{output}_{h1} &=" in network["text/latex"]
    assert r"\frac{\partial E_{total}}{\partial w_{1}} &= " in derivation["text/latex"]
    assert "0.00110806" in w1["text/html"]
    assert r"\text{path 1}" in w1["text/latex"]
    assert "Path 1 of 2" in w1["text/html"]
    assert "0.45187" in run(code_cells()[:4])[3]["text/html"]  # the weight before the second step
    assert w5["text/html"] != w1["text/html"]
    assert "<svg" in page["text/html"]


def test_ipython_takes_the_same_representations() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(derived(kumar))
    assert data["text/latex"] == derived(kumar)._repr_latex_()


def test_latex_for_notebooks_is_balanced() -> None:
    for value in (derived(dense), derived(dense).network, steps(derived(dense), "W1[0,1]",
                                                                work(derived(dense)))):  # fmt: skip
        shown_latex = value._repr_latex_()
        assert shown_latex.startswith("$$")
        assert shown_latex.endswith("$$")
        assert shown_latex.count("{") == shown_latex.count("}")
        assert shown_latex.count(r"\begin{aligned}") == 1


def test_html_for_notebooks_is_well_formed() -> None:
    html = steps(derived(kumar), "w1", work(derived(kumar)))._repr_html_()
    assert ElementTree.fromstring(f"<div>{html}</div>") is not None
