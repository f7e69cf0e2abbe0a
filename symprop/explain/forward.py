"""The forward pass with numbers: every equation, or only those behind given values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from sympy import Expr, Integer, Symbol, ordered
from sympy.core.parameters import distribute

from symprop.derivation import Derivation
from symprop.equation import name_of
from symprop.explain.paths import Node, leaf
from symprop.explain.rows import Line, Remark, Row, Section
from symprop.explain.spelling import Lookup, Partial, Terms, opened
from symprop.explain.worked import Worked
from symprop.functions import ELEMENTWISE, Normalisation, Reduction, reduce_max, reduce_min
from symprop.indices import accesses, size, substitute
from symprop.network import Equation, Variable

__all__ = ["forward_sections", "function_sections", "needed_sections", "reads"]

ELEMENTS = 16
"""So many elements of a tensor are listed; of more, those that are used, or a few."""

_MANY = 8
"""So many elements of a tensor are all worked."""

_WORKED = 2
"""So many elements are worked where there are more, or their sums too long to be written out."""

_LISTED = 64
"""So many elements of a tensor have their values listed."""


def forward_sections(derivation: Derivation, worked: Worked | None = None) -> tuple[Section, ...]:
    """Return the forward pass: the data, then every equation, with numbers where worked."""
    if worked is None:
        rows = tuple(Line(eq.lhs, eq.rhs, general=True) for eq in derivation.forward)
        return (Section("Forward pass", rows), *function_sections(derivation))
    lookup = Lookup(worked.arrays)
    return (
        *_data_sections(derivation, lookup),
        Section("Forward pass", tuple(_forward_rows(derivation, lookup, None))),
        *function_sections(derivation),
    )


def _data_sections(derivation: Derivation, lookup: Lookup) -> Iterator[Section]:
    network = derivation.network
    groups: tuple[tuple[str, tuple[Variable, ...]], ...] = (
        ("The sample", (*network.inputs, *network.targets)),
        ("Parameters", network.parameters),
    )
    for title, variables in groups:
        rows = tuple(row for variable in variables for row in _values(variable, lookup))
        if rows:
            yield Section(title, rows)


def _values(variable: Variable, lookup: Lookup) -> Iterator[Row]:
    """Return the values of data; of a large tensor the first ones only."""
    elements = _elements(variable.shape)
    shown = elements if len(elements) <= ELEMENTS else elements[:3]
    for element in shown:
        yield Line(leaf((variable.name, element)), leaf((variable.name, element)), lookup)
    yield from _omitted(elements[len(shown) :], variable.name)


def _omitted(elements: list[tuple[int, ...]], name: str) -> Iterator[Remark]:
    if elements:
        yield Remark(f"... and {len(elements)} more values of {name}")


def _elements(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for length in shape:
        found = [(*element, place) for element in found for place in range(length)]
    return found


def _forward_rows(derivation: Derivation, lookup: Lookup, used: set[Node] | None) -> Iterator[Row]:
    """Yield the equations with numbers: of all values, or only of those behind `used`."""
    reached = set(used or ())
    found: list[list[Row]] = []
    for equation in reversed(derivation.forward):
        elements = _elements(tuple(map(size, equation.indices)))
        wanted = sorted(element for name, element in reached if name == equation.name)
        if used is not None and not wanted:
            continue
        whole = len(elements) <= ELEMENTS
        if used is not None:
            elements = wanted
        elif not whole:
            elements = wanted or [elements[0], elements[1], elements[-1]]
        lines = _forward_lines(equation, elements[:_LISTED], lookup)
        rows: list[Row] = []
        if not whole or lines[-1].expression == lines[-1].quantity:
            rows.append(Line(equation.lhs, equation.rhs, general=True))
        reached.update(read for line in lines for read in reads(line.expression))
        found.append([*rows, *lines, *_omitted(elements[_LISTED:], equation.name)])
    return (row for rows in reversed(found) for row in rows)


def reads(expression: Expr) -> Iterator[Node]:
    """Yield the elements that an expression reads; of a long sum only those that are shown."""
    with distribute(False):
        shown = opened(expression, ELEMENTS)
    for access in accesses(shown):
        if isinstance(access, Symbol):
            yield str(access), ()
        elif all(subscript.is_Integer for subscript in access.indices):
            yield name_of(access), tuple(map(int, access.indices))


def _forward_lines(
    equation: Equation, elements: list[tuple[int, ...]], lookup: Lookup
) -> list[Line]:
    """Return a line an element: two worked and the values of the others, where they are many."""
    lines = [_forward_line(equation, element, lookup) for element in elements[:_WORKED]]
    rest = elements[_WORKED:]
    with distribute(False):
        long = any(sums.elided for line in lines for sums in opened(line.expression).atoms(Terms))
    if not long and len(elements) <= _MANY:
        return lines + [_forward_line(equation, element, lookup) for element in rest]
    names = [leaf((equation.name, element)) for element in rest]
    return lines + [Line(name, name, lookup) for name in names]


def _forward_line(equation: Equation, element: tuple[int, ...], lookup: Lookup) -> Line:
    mapping = dict(zip(equation.indices, map(Integer, element), strict=True))
    with distribute(False):
        expression = substitute(equation.rhs, mapping)
    return Line(leaf((equation.name, element)), expression, lookup)


def needed_sections(
    derivation: Derivation,
    lookup: Lookup | None,
    lines: Iterable[Line],
    passed: Collection[str] = (),
) -> tuple[Section, ...]:
    """Return the part of the forward pass that gives the values in `lines`.

    The equations of the values `passed` on the way from the loss, which are differentiated
    there, follow as formulas where their values are not needed.
    """
    if lookup is None:
        return ()
    used = {read for line in lines for read in reads(line.expression)}
    rows = tuple(_forward_rows(derivation, lookup, used))
    names = {name_of(row.quantity) for row in rows if isinstance(row, Line)}
    others = [eq for eq in derivation.forward if eq.name in passed and eq.name not in names]
    rows += tuple(Line(equation.lhs, equation.rhs, general=True) for equation in others)
    names.update(equation.name for equation in others)
    title = "Forward pass, as far as it is needed"
    return (Section(title, rows), *function_sections(derivation, names)) if rows else ()


def function_sections(derivation: Derivation, names: set[str] | None = None) -> tuple[Section, ...]:
    """Return what each function of neural networks means, and its derivative.

    The functions that derivatives are made of follow by their definitions.
    """
    shown = [eq.rhs for eq in derivation.forward if names is None or eq.name in names]
    found: dict[type, tuple[Line, ...]] = {}
    for node in _functions(shown):
        found.setdefault(node.func, _meaning(node))
    for node in _functions([line.expression for lines in found.values() for line in lines]):
        found.setdefault(node.func, _meaning(node)[:1])
    rows = tuple(line for lines in found.values() for line in lines)
    return (Section("Where", rows),) if rows else ()


def _functions(expressions: Iterable[Expr]) -> Iterator[Expr]:
    for expression in expressions:
        yield from ordered(expression.atoms(*ELEMENTWISE, Reduction, Normalisation))


def _meaning(node: Expr) -> tuple[Line, ...]:
    """Return the definition of a function, and the derivative of one of a single number."""
    if isinstance(node, reduce_max | reduce_min):
        return ()  # their names say what they are
    if isinstance(node, Reduction | Normalisation):
        return (Line(node, node.definition(), general=True),)
    z, a = Symbol("z", real=True), Symbol("a", real=True)
    call = node.func(z, *(a if accesses(part) else part for part in node.args[1:]))
    with distribute(False):
        slope = call.fdiff(1)
    return Line(call, call.definition()), Line(Partial(call, z), slope)
