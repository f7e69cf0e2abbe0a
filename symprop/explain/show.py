"""Whole pages of formulas: what ``symprop show`` prints, as text, LaTeX or JSON data.

A page is built from a `Derivation` alone, so what is read here is what the
kernels are generated from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sympy import Expr

from symprop.derivation import Derivation
from symprop.equation import name_of
from symprop.explain.forward import forward_sections
from symprop.explain.pages import Page
from symprop.explain.rows import Line, Section, section_data
from symprop.explain.steps import steps
from symprop.explain.worked import Worked
from symprop.formulas import latex, text
from symprop.indices import accesses, index_name, size
from symprop.network import Equation, Network, Variable

__all__ = ["as_data", "explanation", "formula_page", "latex_page", "text_page"]

Headed = tuple[str, tuple[Equation, ...]]


def sections(derivation: Derivation, wrt: str | None = None) -> tuple[Headed, ...]:
    """Return the headed lists of equations of a page.

    All equations, the adjoints of all values, the gradients of all parameters; with
    `wrt` only the adjoint of that variable and those that it is made of.
    """
    parameters = [parameter.name for parameter in derivation.network.parameters]
    values = [equation.name for equation in derivation.forward[:-1]]
    if wrt is not None:
        chain = _chain(derivation, wrt)
        return ((f"From the loss back to {wrt}", chain),)
    adjoints = [derivation.adjoint(name) for name in reversed(values)]
    return (
        ("Forward pass", derivation.forward),
        ("Adjoints, from the loss backwards", tuple(eq for eq in adjoints if eq.rhs != 0)),
        ("Gradients", tuple(derivation.gradient(name) for name in parameters)),
    )


def _chain(derivation: Derivation, wrt: str) -> tuple[Equation, ...]:
    """Return the adjoint of `wrt` preceded by all adjoints that it is made of."""
    found: dict[str, Equation] = {}

    def follow(equation: Equation) -> None:
        for leaf in accesses(equation.rhs):
            name = name_of(leaf)
            if "/d" in name and name not in found:
                follow(derivation.adjoint(name.split("/d", 1)[1]))
        found[equation.name] = equation

    follow(derivation.adjoint(wrt))
    return tuple(found.values())


def closed_form(derivation: Derivation, name: str) -> Equation:
    """Return the gradient of `name` in inputs, targets and parameters only."""
    return Equation(derivation.adjoint(name).lhs, derivation.closed_form(name))


def page(derivation: Derivation, wrt: str | None, expand: bool) -> tuple[Headed, ...]:
    """Return the sections of a page, with the gradients expanded where asked for."""
    if not expand:
        return sections(derivation, wrt)
    names = [parameter.name for parameter in derivation.network.parameters]
    wanted = names if wrt is None else [wrt]
    forms = tuple(closed_form(derivation, name) for name in wanted)
    return (("Gradients in inputs, targets and parameters", forms),)


def text_page(derivation: Derivation, wrt: str | None = None, expand: bool = False) -> str:
    """Return a page of plain text that reads like one of a textbook."""
    parts = [] if wrt is not None or expand else [_introduction(derivation.network)]
    for title, equations in page(derivation, wrt, expand):
        parts.append(f"{title}\n\n{_aligned(equations)}")
    if wrt is None and not expand:
        parts += _notes(derivation)
    return "\n\n".join(parts)


def _introduction(network: Network) -> str:
    """Return what the network consists of, without its equations."""
    rows = [
        ("inputs", _declared(network.inputs)),
        ("targets", _declared(network.targets)),
        ("parameters", _declared(network.parameters)),
        ("outputs", ", ".join(network.outputs)),
        ("indices", ", ".join(f"{index_name(i)} = 0..{size(i) - 1}" for i in network.indices)),
    ]
    width = max(len(label) for label, _ in rows)
    lines = [f"  {label:{width}}  {value}" for label, value in rows if value]
    return "\n".join([network.name, "", *lines])


def _declared(variables: Iterable[Variable]) -> str:
    return ", ".join(
        text(variable.access) + ("" if getattr(variable, "trainable", True) else " (fixed)")
        for variable in variables
    )


def _aligned(equations: Sequence[Equation]) -> str:
    """Return one equation a line with the equality signs under each other."""
    pairs = [text(equation).split(" = ", 1) for equation in equations]
    width = max((len(pair[0]) for pair in pairs), default=0)
    return "\n".join(f"  {left:{width}} = {right}" for left, right in pairs)


def _notes(derivation: Derivation) -> list[str]:
    notes = []
    if derivation.rewrites:
        lines = [
            f"  {rewrite.equation}: {text(rewrite.before)} became {text(rewrite.after)}\n"
            f"    {rewrite.reason}"
            for rewrite in derivation.rewrites
        ]
        notes.append("Rewritten for numerical stability\n\n" + "\n".join(lines))
    notes.append(
        "These are the derivatives for one sample; the gradient of a batch is their mean "
        "over its samples."
    )
    return notes


def latex_page(derivation: Derivation, wrt: str | None = None, expand: bool = False) -> str:
    """Return a complete LaTeX document with the formulas of the page."""
    parts = [
        r"\documentclass{article}",
        r"\usepackage{amsmath}",
        r"\allowdisplaybreaks",
        r"\begin{document}",
        rf"\section*{{{_escaped(derivation.network.name)}}}",
    ]
    for title, equations in page(derivation, wrt, expand):
        rows = [latex(equation).replace(" = ", " &= ", 1) for equation in equations]
        if rows:
            body = " \\\\\n".join(rows)
            parts.append(
                f"\\subsection*{{{_escaped(title)}}}\n\\begin{{align*}}\n{body}\n\\end{{align*}}"
            )
    return "\n".join([*parts, r"\end{document}"])


def _escaped(words: str) -> str:
    return words.replace("_", r"\_")


def as_data(derivation: Derivation, wrt: str | None = None, expand: bool = False) -> dict[str, Any]:
    """Return the page as data for JSON: every formula as text and as LaTeX."""
    network = derivation.network
    return {
        "name": network.name,
        "fingerprint": network.fingerprint,
        "inputs": [text(variable.access) for variable in network.inputs],
        "targets": [text(variable.access) for variable in network.targets],
        "parameters": [
            {
                "name": parameter.name,
                "shape": list(parameter.shape),
                "trainable": parameter.trainable,
            }
            for parameter in network.parameters
        ],
        "outputs": list(network.outputs),
        "indices": {index_name(index): size(index) for index in network.indices},
        "loss": derivation.loss_name,
        "sections": [
            {"title": title, "equations": [_formula(equation) for equation in equations]}
            for title, equations in page(derivation, wrt, expand)
        ],
        "rewrites": [
            {
                "equation": rewrite.equation,
                "before": _both(rewrite.before),
                "after": _both(rewrite.after),
                "reason": rewrite.reason,
            }
            for rewrite in derivation.rewrites
        ],
    }


def explanation(
    derivation: Derivation,
    wrt: str | None = None,
    worked: Worked | None = None,
    *,
    forward: bool = False,
) -> Page:
    """Return the page of the steps from the loss to `wrt`, with numbers where `worked`.

    With `forward` the whole forward pass comes first; without `wrt` it is the page.
    """
    whole = forward_sections(derivation, worked) if forward else ()
    name = derivation.network.name
    data: dict[str, Any] = {"network": name}
    if forward:
        data["forward"] = section_data(whole)
    if wrt is None:
        return Page(f"{name}: the forward pass", whole, data)
    done = steps(derivation, wrt, worked)
    return Page(done.title, (*whole, *done.sections(not forward)), data | done.as_dict())


def formula_page(derivation: Derivation, wrt: str | None = None, expand: bool = False) -> Page:
    """Return what `text_page` shows as a page that can be written as HTML."""
    shown = tuple(
        Section(title, tuple(Line(eq.lhs, eq.rhs, general=True) for eq in equations))
        for title, equations in page(derivation, wrt, expand)
    )
    title = derivation.network.name if wrt is None else f"{derivation.network.name}: {wrt}"
    return Page(title, shown, as_data(derivation, wrt, expand))


def _formula(equation: Equation) -> dict[str, str]:
    return {"name": equation.name, **_both(equation)}


def _both(formula: Equation | Expr) -> dict[str, str]:
    return {"text": text(formula), "latex": latex(formula)}
