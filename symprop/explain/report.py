"""The report: one self-contained HTML page about a network, to be printed and handed out.

The network as a drawing, its equations, every gradient, a worked step with the numbers
of a sample, what was rewritten for stability, whether the kernels were verified, and how
training went. Nothing on the page is loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sympy import Basic

from symprop.derivation import Derivation
from symprop.errors import OutputError
from symprop.explain.drawing import chart, network_drawing
from symprop.explain.forward import function_sections
from symprop.explain.mathml import mathml
from symprop.explain.pages import Block, html_page
from symprop.explain.rows import Line, Section, html_fragment
from symprop.explain.show import formula_page
from symprop.explain.spelling import number_text
from symprop.explain.steps import Steps, steps
from symprop.explain.worked import Worked
from symprop.network import Variable

__all__ = ["History", "Report", "history", "report", "write"]

_MARKER = 'name="generator" content="symprop'
"""What shows that a file is a report, which may be overwritten."""


@dataclass(frozen=True, slots=True)
class History:
    """A training as it is drawn: loss and norm of the gradient after each of `epochs` epochs."""

    epochs: tuple[int, ...]
    losses: tuple[float, ...]
    norms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The page as HTML; a notebook shows its parts without the frame."""

    title: str
    subtitle: str
    blocks: tuple[Block, ...]

    @property
    def html(self) -> str:
        """The whole document."""
        return html_page(self.title, self.subtitle, self.blocks)

    def _repr_html_(self) -> str:
        parts = (f"<h2>{escape(part.heading)}</h2>{part.html}" for part in self.blocks)
        return f"<h1>{escape(self.title)}</h1>{''.join(parts)}"


def report(
    derivation: Derivation,
    *,
    worked: Worked | None = None,
    wrt: str | None = None,
    verification: Any = None,
    training: History | None = None,
) -> Report:
    """Return the report of a derivation.

    `worked` adds numbers and a worked step: for `wrt`, or for the parameters nearest to and
    farthest from the loss. `verification` is a `verify.Report`, `training` a `History`.
    """
    network = derivation.network
    weights = sum(prod(parameter.shape) for parameter in network.parameters)
    equations = _count(len(network.equations), "equation")
    subtitle = f"{equations}, {_count(weights, 'weight')} and biases"
    blocks = [
        Block("network", "The network", _network(derivation, worked)),
        Block("equations", "Equations", _equations(derivation)),
        Block("gradients", "Gradients", _gradients(derivation)),
    ]
    if worked is not None:
        blocks.append(Block("step", "A worked step", _worked_step(derivation, worked, wrt)))
    blocks.append(Block("stability", "Numerical stability", _rewrites(derivation)))
    if verification is not None:
        blocks.append(Block("verification", "Verification", _verification(verification)))
    if training is not None:
        blocks.append(Block("training", "Training", _training(derivation, training)))
    return Report(network.name, subtitle, tuple(blocks))


def write(done: Report, path: str | Path, *, force: bool = False) -> Path:
    """Write the report to `path`; only a report, or with `force` anything, is overwritten.

    Raises `OutputError` where that is not possible.
    """
    path = Path(path)
    try:
        if path.exists() and not force and _MARKER not in path.read_text(errors="replace")[:1000]:
            raise OutputError(
                f"{path}: the file is no report of symprop, so it is left alone; choose another "
                "name, or overwrite it with force (--force)"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(done.html, encoding="utf-8", newline="\n")
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); choose another name"
        ) from error
    return path


def history(
    kernels: Any, data: Mapping[str, NDArray[Any]], *, epochs: int, points: int = 60
) -> History:
    """Train for `epochs` epochs as the network's description says, and look at it on the way.

    Loss and norm of the gradient, over all of `data`, are taken before training and after
    each epoch; at most at about `points` epochs evenly spread.
    """
    training = kernels.derivation.network.training
    arrays = tuple(data.values())
    state = kernels.start(kernels.initialize(training.seed), training.seed)
    stride = max(1, epochs // points)
    at, losses, norms = [], [], []
    done = 0
    while True:
        loss, gradients = kernels.backward(state.parameters, *arrays)
        at.append(done)
        losses.append(float(loss))
        norms.append(float(np.sqrt(sum(np.sum(np.square(part)) for part in gradients))))
        if done >= epochs or not np.isfinite(loss):
            return History(tuple(at), tuple(losses), tuple(norms))
        more = min(stride, epochs - done)
        state, _ = kernels.resume(state, *arrays, epochs=more)
        done += more


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


# Parts


def _network(derivation: Derivation, worked: Worked | None) -> str:
    values = {}
    if worked is not None:
        scalars = ((name, array) for name, array in worked.arrays.items() if not array.ndim)
        values = {name: number_text(array.flat[0], 4) for name, array in scalars}
    picture = network_drawing(derivation, values)
    tensors = any(equation.indices for equation in derivation.forward)
    caption = "Values and their shapes" if tensors else "Units and weights"
    numbers = " with the numbers of the worked sample" if values and not tensors else ""
    return (
        f'<figure class="card"><div class="scroll">{picture}</div>'
        f"<figcaption>{caption}{numbers}.</figcaption>"
        f"</figure>{_declarations(derivation)}"
    )


def _declarations(derivation: Derivation) -> str:
    """Return a list of the variables, with shapes and how parameters start."""
    network = derivation.network
    groups: tuple[tuple[str, tuple[Variable, ...]], ...] = (
        ("Inputs", network.inputs),
        ("Targets", network.targets),
        ("Parameters", tuple(p for p in network.parameters if p.trainable)),
        ("Not trained", tuple(p for p in network.parameters if not p.trainable)),
    )
    parts = []
    for title, variables in groups:
        if variables:
            shown = ", ".join(map(_declared, variables))
            parts.append(f"<dt>{title}</dt><dd>{shown}</dd>")
    return f'<dl class="declared">{"".join(parts)}</dl>'


def _declared(variable: Variable) -> str:
    shape = " × ".join(map(str, variable.shape))
    start = _start(getattr(variable, "init", None))
    if not variable.shape:
        return _math(variable.access) + (f" = {start}" if start else "")
    details = ", ".join(part for part in (shape, f"starts as {start}" if start else "") if part)
    return f"{_math(variable.access)} ({details})"


def _start(init: Any) -> str:
    if init is None:
        return ""
    if isinstance(init, str):
        return init.replace("_", " ")
    return f"{init:g}" if isinstance(init, float | int) else "given values"


def _equations(derivation: Derivation) -> str:
    lines = tuple(Line(equation.lhs, equation.rhs, general=True) for equation in derivation.forward)
    parts = html_fragment([Section("", lines), *function_sections(derivation)])
    loss = _math(derivation.forward[-1].lhs)
    return (
        f"{parts}<p class='note'>The equations hold for one sample; the loss {loss} of a batch is "
        "the mean over its samples.</p>"
    )


def _gradients(derivation: Derivation) -> str:
    parts = formula_page(derivation).sections
    return html_fragment(part for part in parts if part.title != "Forward pass")


def _worked_step(derivation: Derivation, worked: Worked, wrt: str | None) -> str:
    targets = [wrt] if wrt else _instructive(derivation, worked)
    pages = [steps(derivation, target, worked) for target in targets]
    forward = max((page.forward for page in pages), key=lambda part: sum(len(s.rows) for s in part))
    shown = [html_fragment(section for section in forward if section.title != "Where")]
    for page in pages:
        shown.append(f"<h3>{escape(_headline(page))}</h3>")
        parts = page.sections(forward=False)
        shown.append(html_fragment(parts if len(parts) > 1 else [Section("", parts[0].rows)], 4))
    rule = derivation.network.training.optimizer
    note = (
        f"<p class='note'>Numbers are exact and rounded to 8 decimals where they are printed; "
        f"the update is one step of {escape(rule)}.</p>"
    )
    return "\n".join([*shown, _updates(worked), note])


def _headline(page: Steps) -> str:
    return f"The derivative of {page.derivation.loss_name} by {page.target}"


def _instructive(derivation: Derivation, worked: Worked) -> list[str]:
    """Return the trained parameters with the shortest and with the longest chain."""
    lengths = {}
    for parameter in derivation.network.parameters:
        if parameter.trainable:
            done = steps(derivation, parameter.name, worked)
            longest = max((len(path.factors) for path in done.paths), default=0)
            lengths[parameter.name] = (longest, len(done.paths))
    if not lengths:
        return []
    ends = (min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__))
    return list(dict.fromkeys(ends))


def _updates(worked: Worked) -> str:
    """Return a table of all scalar parameters: value, gradient, value after the step."""
    derivation = worked.derivation
    rows = []
    for parameter in derivation.network.parameters:
        if parameter.shape:
            continue
        before = worked.value(parameter.name)
        gradient = worked.value(derivation.adjoint_name(parameter.name))
        after = worked.updated(parameter.name)["theta"].flat[0] if parameter.trainable else before
        numbers = (number_text(v).replace("-", "−") for v in (before, gradient, after))
        rows.append((_math(parameter.access), *numbers))
    if not rows:
        return ""
    return "<h3>All updates</h3>" + _table(("", "before", "gradient", "after"), rows)


def _rewrites(derivation: Derivation) -> str:
    if not derivation.rewrites:
        return "<p>Nothing was rewritten: every formula is computed as it stands.</p>"
    items = [
        f'<div class="card"><p>In <b>{escape(rewrite.equation)}</b>: '
        f"{_math(rewrite.before)} became "
        f"{_math(rewrite.after)}</p><p class='note'>{escape(rewrite.reason)}</p></div>"
        for rewrite in derivation.rewrites
    ]
    intro = "These forms were replaced, before differentiation, by equal ones that cannot overflow."
    return f"<p>{intro}</p>{''.join(items)}"


def _verification(found: Any) -> str:
    style, words = ("ok", "verified") if found.ok else ("wrong", "NOT verified")
    state = f'<span class="{style}">{words}</span>'
    rows = [
        (
            f"{escape(row.kind)} <b>{escape(row.name)}</b>",
            f"{row.error:.2f}",
            f"{row.allowed:.1f}",
            f"{row.checked:,}",
            "ok" if row.ok else "wrong",
        )
        for row in found.rows
    ]
    agreements = "".join(f"<li>{line}</li>" for line in _agreements(found))
    return (
        f"<p>The compiled kernels ({escape(found.dtype)}) are {state}: at {len(found.points)} "
        "random points, extreme ones among them, each result was compared with the equations "
        "evaluated with 60 digits, by code that shares nothing with the differentiation.</p>"
        f"<ul>{agreements}</ul>"
        + _table(("quantity", "largest error", "allowed", "numbers compared", ""), rows)
        + "<p class='note'>Errors in units of the machine's epsilon times the sum of |terms|.</p>"
    )


def _agreements(found: Any) -> Iterator[str]:
    for method in dict.fromkeys(part.method for part in found.agreements):
        parts = [part for part in found.agreements if part.method == method]
        worst = max(part.difference for part in parts)
        yield (
            f"{_count(len(parts), 'derivative')} compared with {escape(method)}: they agree to "
            f"{worst:.1e} relative"
        )


def _training(derivation: Derivation, training: History) -> str:
    plan = derivation.network.training
    loss = derivation.loss_name
    before, after = training.losses[0], training.losses[-1]
    sizes = f"batches of {plan.batch_size}" if plan.batch_size > 1 else "one sample at a time"
    charts = "".join(
        f'<div class="card">{picture}</div>'
        for picture in (
            chart(training.losses, f"Loss {loss}", epochs=training.epochs),
            chart(training.norms, "Norm of the gradient", epochs=training.epochs, second=True),
        )
    )
    return (
        f"<p>{_count(training.epochs[-1], 'epoch')} of {escape(plan.optimizer)}, {sizes}: the mean "
        f"loss went from {before:.6g} to {after:.6g}.</p><div class='charts'>{charts}</div>"
        "<p class='note'>Both over all training samples, with the parameters as they are after "
        "each epoch.</p>"
    )


def _math(expression: Basic) -> str:
    xmlns = "http://www.w3.org/1998/Math/MathML"
    return f'<math xmlns="{xmlns}" displaystyle="true">{mathml(expression)}</math>'


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="data"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
