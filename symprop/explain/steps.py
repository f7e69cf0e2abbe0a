"""Backpropagation step by step: from the loss to one weight, factor by factor, with numbers.

`steps` turns a derivation into the pages of a worked example: the chain rule, each
local factor as a formula and with the numbers of a sample, their product, the sum over
all paths, and the update by the optimizer's rule. Every formula comes from the
derivation that the kernels are generated from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sympy import Basic, Expr, Indexed, Integer, Symbol
from sympy.core.parameters import distribute

from symprop.derivation import Derivation
from symprop.errors import OptionError
from symprop.explain.forward import needed_sections, reads
from symprop.explain.paths import Edge, Graph, Node, leaf
from symprop.explain.rows import (
    Chain,
    Line,
    Product,
    Remark,
    Row,
    Section,
    Total,
    html_fragment,
    latex_document,
    latex_rows,
    line_data,
    text_page,
)
from symprop.explain.rules import ChainRule, chain_rules
from symprop.explain.spelling import Literal, Lookup, Partial, Words
from symprop.explain.worked import Worked, decimals, hyperparameters
from symprop.explain.writing import ASCII, UNICODE, Writer
from symprop.indices import substitute
from symprop.network import Parameter, Variable
from symprop.optimizers import find

__all__ = [
    "Path",
    "Steps",
    "Update",
    "parse_target",
    "steps",
]

LIMIT = 8
"""So many paths are shown one by one; beyond that, chains start at an adjoint that sums them."""

_ROWS = 60
"""So many adjoints are listed before the chains that start at them."""


@dataclass(frozen=True, slots=True)
class Path:
    """One way from the loss to the target: its factors and their product."""

    nodes: tuple[Node, ...]
    factors: tuple[Line, ...]
    product: Product


@dataclass(frozen=True, slots=True)
class Update:
    """One step of the optimizer for the target: first its slots, last the target itself."""

    optimizer: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """Everything about the derivative of the loss by one variable or one of its elements.

    `rules` is the chain rule in index notation, for a tensor as a whole. For one number,
    `given` are the adjoints at which chains start and `paths` the ways from the loss;
    `gradient` is the exact derivative at the sample (None without numbers) and
    `update` what the optimizer makes of it (None for what is not trained).
    """

    derivation: Derivation
    target: str
    rules: tuple[ChainRule, ...] = ()
    given: tuple[Line, ...] = ()
    paths: tuple[Path, ...] = ()
    gradient: Any = None
    update: Update | None = None
    forward: tuple[Section, ...] = field(default=(), repr=False)
    node: Node | None = None

    @property
    def title(self) -> str:
        """What the steps are about, in words."""
        network, loss = self.derivation.network.name, self.derivation.loss_name
        return f"{network}: the derivative of {loss} by {self.target}"

    def sections(self, forward: bool = True) -> tuple[Section, ...]:
        """Return the steps as rows under titles, after the values of the forward pass."""
        return (*(self.forward if forward else ()), *_sections(self))

    def text(self, *, unicode: bool = False, forward: bool = True) -> str:
        """Return the steps as text, a row a line."""
        writer = UNICODE if unicode else ASCII
        return text_page(self.sections(forward), writer)

    def latex(self) -> str:
        """Return the steps as a LaTeX document that compiles as it stands."""
        return latex_document(self.title, self.sections())

    def html(self) -> str:
        """Return the steps as a fragment of HTML, formulas in MathML."""
        return html_fragment(self.sections())

    def as_dict(self) -> dict[str, Any]:
        """Return the steps as data for JSON: numbers as floats, formulas as text."""
        return _data(self)

    def __str__(self) -> str:
        """Return the steps as text in ASCII."""
        return self.text()

    def _repr_latex_(self) -> str:
        rows = " \\\\\n".join(filter(None, (latex_rows(part) for part in self.sections(False))))
        return f"$$\\begin{{aligned}}\n{rows}\n\\end{{aligned}}$$"

    def _repr_html_(self) -> str:
        return self.html()


def steps(
    derivation: Derivation, target: str, worked: Worked | None = None, limit: int = LIMIT
) -> Steps:
    """Return the steps from the loss to `target`: ``w5``, ``W1[0,1]``, or ``W1`` as a whole.

    With `worked` each step has its numbers; of a tensor as a whole, the element with the
    largest gradient is worked. At most `limit` paths are shown one by one. Raises
    `OptionError` where there is no such variable or element.
    """
    name, element = parse_target(derivation, target)
    variable = _variable(derivation, name)
    rules = chain_rules(derivation, name) if element is None and variable.indices else ()
    if element is None and variable.indices and worked is None:
        return Steps(derivation, target, rules)
    node = (name, _largest(derivation, name, worked) if element is None else element)
    lookup = None if worked is None else Lookup(worked.arrays)
    graph = Graph(derivation, None if lookup is None else lookup.integer)
    adjoint = leaf((derivation.adjoint_name(name), node[1]))
    paths = tuple(
        _path(derivation, node, edges, lookup, adjoint, number)
        for number, edges in enumerate(graph.ways(node, limit), start=1)
    )
    heads = [path.factors[0] for path in paths if isinstance(path.factors[0].quantity, Basic)]
    heads = [head for head in heads if _sums_ways(derivation, head)]
    given = _given(derivation, heads, lookup)
    lines = [*given, *(factor for path in paths for factor in path.factors)]
    passed = {name for path in paths for name, _ in path.nodes}
    return Steps(
        derivation,
        target,
        rules,
        given,
        paths,
        None if worked is None else worked.value(derivation.adjoint_name(name), node[1]),
        _update(derivation, variable, node, worked),
        needed_sections(derivation, lookup, lines, passed),
        node,
    )


def parse_target(derivation: Derivation, target: str) -> tuple[str, tuple[int, ...] | None]:
    """Return the name and the element in ``W1[0,1]``; None for the element of ``W1``.

    Raises `OptionError` for what is no variable with a derivative, and for an element
    that the variable does not have.
    """
    match = re.fullmatch(r"\s*([A-Za-z]\w*)\s*(?:\[([\d\s,]*)\])?\s*", target)
    if match is None:
        raise OptionError(f"{target!r}: expected a name such as w5, or an element such as W1[0,1]")
    name, inside = match[1], match[2]
    derivation.adjoint(name)  # raises for an unknown name
    shape = _variable(derivation, name).shape
    if inside is None:
        return name, None if shape else ()
    element = tuple(int(part) for part in inside.split(",") if part.strip())
    fits = len(element) == len(shape) and all(
        place < length for place, length in zip(element, shape, strict=True)
    )
    if not fits:
        raise OptionError(
            f"{target!r}: {name} has the shape {shape}, so expected "
            + (f"{name}[{','.join('0' for _ in shape)}]" if shape else f"{name} alone")
            + (f" to {name}[{','.join(str(n - 1) for n in shape)}]" if shape else "")
        )
    return name, element


def _variable(derivation: Derivation, name: str) -> Variable:
    for equation in derivation.forward:
        if equation.name == name:
            return Variable(name, equation.indices)
    return derivation.network.variable(name)


def _largest(derivation: Derivation, name: str, worked: Worked | None) -> tuple[int, ...]:
    """Return the element with the largest |gradient|."""
    if worked is None:
        return ()
    array = abs(worked.values(derivation.adjoint_name(name)))
    return tuple(int(place) for place in np.unravel_index(array.argmax(), array.shape))


# Paths


def _path(
    derivation: Derivation,
    node: Node,
    edges: tuple[Edge, ...],
    lookup: Lookup | None,
    adjoint: Symbol | Indexed,
    number: int,
) -> Path:
    start = edges[0].above if edges else node
    factors = [Line(Partial(leaf(e.above), leaf(e.below)), e.derivative, lookup) for e in edges]
    if start[0] != derivation.loss_name:
        factors.insert(0, _adjoint_line(derivation, start, lookup))
    elif edges:  # the derivative of the loss has the name of the adjoint
        factors[0] = Line(_loss_partial(derivation, edges[0]), edges[0].derivative, lookup)
    nodes = ((derivation.loss_name, ()), *((start,) if start[0] != derivation.loss_name else ()))
    return Path(
        (*nodes, *(edge.below for edge in edges)),
        tuple(factors),
        Product(adjoint, tuple(factors)),
    )


def _loss_partial(derivation: Derivation, edge: Edge) -> Symbol | Indexed:
    return leaf((derivation.adjoint_name(edge.below[0]), edge.below[1]))


def _sums_ways(derivation: Derivation, head: Line) -> bool:
    """Tell whether a chain's first factor is an adjoint that sums several ways."""
    return bool(_adjoints(head.expression))


def _adjoint_line(derivation: Derivation, node: Node, lookup: Lookup | None) -> Line:
    """Return the adjoint of one element by its own equation."""
    name, element = node
    equation = derivation.adjoint(name)
    mapping = dict(zip(equation.indices, map(Integer, element), strict=True))
    with distribute(False):
        expression = substitute(equation.rhs, mapping)
    return Line(leaf((equation.name, element)), expression, lookup)


def _adjoints(expression: Expr) -> list[Node]:
    """Return the adjoint elements read in `expression`; those that a short enough sum reads."""
    return [node for node in reads(expression) if "/d" in node[0]]


def _given(
    derivation: Derivation, heads: Iterable[Line], lookup: Lookup | None
) -> tuple[Line, ...]:
    """Return the adjoints that the heads of chains are made of, from the loss on."""
    found: dict[Node, Line | None] = {}

    def follow(expression: Expr) -> None:
        for adjoint in _adjoints(expression):
            if adjoint not in found and len(found) < _ROWS:
                found[adjoint] = None
                node = (adjoint[0].split("/d", 1)[1], adjoint[1])
                line = _adjoint_line(derivation, node, lookup)
                follow(line.expression)
                del found[adjoint]
                found[adjoint] = line

    for head in heads:
        follow(head.expression)
    return tuple(line for line in found.values() if line is not None)


# The update


def _update(
    derivation: Derivation, variable: Variable, node: Node, worked: Worked | None
) -> Update | None:
    """Return the optimizer's rule for one parameter, with numbers where there are any."""
    network = derivation.network
    parameter = next((p for p in network.parameters if p.name == variable.name), None)
    if parameter is None or not parameter.trainable:
        return None
    rule = find(network.training.optimizer)
    names = {slot: f"{slot}_{variable.name}" for slot in rule.slots}
    shown: dict[Basic, Basic] = {
        Symbol("theta", real=True): leaf(node),
        Symbol("gradient", real=True): leaf((derivation.adjoint_name(variable.name), node[1])),
    }
    shown |= {Symbol(slot, real=True): leaf((name, node[1])) for slot, name in names.items()}
    step = 1 if worked is None else worked.step + 1
    settings = {**hyperparameters(network, rule), "t": step}
    shown |= {Symbol(name, real=True): Literal(name, positive=True) for name in settings}
    fixed = {name: decimals(value).flat[0] for name, value in settings.items()}
    lookup, after = _slots(worked, parameter, names)
    lines = []
    for equation in rule.equations:
        slot = str(equation.lhs)
        with distribute(False):
            expression = substitute(equation.rhs, shown)
        lines.append(Line(shown[equation.lhs], expression, lookup, fixed, becomes=True))
        if lookup is not None and slot in names:
            lookup = lookup.including({names[slot]: after[slot]})
    return Update(rule.name, tuple(lines))


def _slots(
    worked: Worked | None, parameter: Parameter, names: dict[str, str]
) -> tuple[Lookup | None, dict[str, Any]]:
    """Return the values before the update, slots included, and the slots after it."""
    if worked is None:
        return None, {}
    zeros = worked.values(parameter.name) * 0
    before = worked.slots.get(parameter.name, {})
    slots = {name: before.get(slot, zeros) for slot, name in names.items()}
    return Lookup({**worked.arrays, **slots}), worked.updated(parameter.name)


# Pages


def _sections(done: Steps) -> Iterator[Section]:
    loss, target = done.derivation.loss_name, done.target
    if done.rules:
        title = f"From {loss} back to {target}, in index notation"
        for number, rule in enumerate(done.rules):
            yield Section("" if number else title, tuple(rule.rows()))
    if done.node is None:
        return
    name = leaf_text(done.node)
    if done.given:
        yield Section("Derivatives at which the chain starts", done.given)
    if not done.paths:
        yield Section("", (Remark(f"{loss} does not depend on {name}: d{loss}/d{name} = 0"),))
        return
    if len(done.paths) == 1:
        rows = (*_path_rows(done.paths[0], None), *_update_rows(done))
        yield Section(f"From {loss} to {name}", rows)
        return
    count = len(done.paths)
    for number, path in enumerate(done.paths, start=1):
        way = " <- ".join(map(leaf_text, path.nodes))
        yield Section(f"Path {number} of {count}: {way}", _path_rows(path, number))
    total = Total(done.paths[0].product.quantity, tuple(path.product for path in done.paths))
    yield Section("The sum over the paths", (total, *_update_rows(done)))


def leaf_text(node: Node) -> str:
    """Return the name of an element as text."""
    return ASCII.formula(leaf(node))


def _path_rows(path: Path, number: int | None) -> tuple[Row, ...]:
    quantity = path.product.quantity if number is None else Words(f"path {number}")
    single = len(path.factors) == 1 and path.factors[0].quantity == path.product.quantity
    if single:
        return path.factors
    chain = Chain(quantity, tuple(factor.quantity for factor in path.factors))
    return (chain, *path.factors, Product(quantity, path.factors))


def _update_rows(done: Steps) -> tuple[Row, ...]:
    if done.update:
        return done.update.lines
    fixed = [p.name for p in done.derivation.network.parameters if not p.trainable]
    name = done.node[0] if done.node else ""
    return (Remark(f"{name} is not trained: it keeps its value"),) if name in fixed else ()


def _data(done: Steps) -> dict[str, Any]:
    writer: Writer = ASCII
    update = None
    if done.update:
        *slots, last = (line_data(line, writer) for line in done.update.lines)
        update = {"optimizer": done.update.optimizer, **last, "slots": slots}
    return {
        "target": done.target if done.node is None else leaf_text(done.node),
        "loss": done.derivation.loss_name,
        "rules": [rule.as_dict(writer) for rule in done.rules],
        "given": [line_data(line, writer) for line in done.given],
        "paths": [
            {
                "nodes": [leaf_text(node) for node in path.nodes],
                "factors": [line_data(line, writer) for line in path.factors],
                "product": None if path.product.value is None else float(path.product.value),
            }
            for path in done.paths
        ],
        "gradient": None if done.gradient is None else float(done.gradient),
        "update": update,
    }
