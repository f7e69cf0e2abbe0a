"""Pages of quantities: aligned text, LaTeX, HTML and data from the same rows.

A row is a quantity, its formula, the formula with numbers and the value. A section is a
title with rows under it, a page a list of sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any, Protocol

from sympy import Expr, Indexed, Symbol

from symprop.explain.mathml import operator
from symprop.explain.spelling import Lookup, Quantity
from symprop.explain.writing import ASCII, LATEX, MATHML, Writer, latex_words

__all__ = ["Chain", "Line", "Parts", "Product", "Remark", "Row", "Section", "Total"]

_WIDE = 100
"""Rows of text with more characters are broken, and do not widen the columns of the others."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A row as it is written: cells are joined by equality signs, the value stands last.

    `free` rows keep their cells together; the cells of all others stand under each other.
    """

    name: str
    cells: tuple[str, ...] = ()
    value: str = ""
    sign: str = "="
    free: bool = False


class Row(Protocol):
    """One row of a page."""

    def parts(self, writer: Writer) -> Parts:
        """Return the row as `writer` writes it."""


@dataclass(frozen=True)
class Line:
    """A quantity with its formula and, where there is a `lookup`, with numbers.

    `fixed` gives numbers to symbols that are never shown by name (hyperparameters);
    `becomes` says that the line gives the quantity a new value, `general` that its sums
    stay as they are written in index notation.
    """

    quantity: Quantity
    expression: Expr
    lookup: Lookup | None = field(default=None, repr=False, compare=False)
    fixed: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    becomes: bool = False
    general: bool = False

    @cached_property
    def value(self) -> Any:
        """The exact value, an mpf; None without numbers."""
        if self.lookup is None:
            return None
        return self.lookup.given(self.fixed).value(self.expression)

    @property
    def trivial(self) -> bool:
        """Whether the formula is one name or number, so that numbers say nothing new."""
        return isinstance(self.expression, Symbol | Indexed) or not self.expression.args

    def substituted(self, writer: Writer) -> str | None:
        """Return the formula with numbers put in; None where there are none."""
        if self.lookup is None:
            return None
        if self.trivial:
            return writer.number(self.value)
        return writer.numbers(self.expression, self.lookup, self.fixed)

    def parts(self, writer: Writer) -> Parts:
        """Return name, formula, numbers and value."""
        cells = [writer.formula(self.expression, self.fixed, general=self.general)]
        value = ""
        if self.lookup is not None and self.expression == self.quantity:
            cells = [writer.number(self.value)]
        elif self.lookup is not None:
            value = writer.number(self.value)
            cells += [] if self.trivial else [self.substituted(writer) or ""]
            value = "" if value == cells[-1] else value
        sign = writer.arrow if self.becomes else "="
        return Parts(writer.quantity(self.quantity), tuple(cells), value, sign, self.becomes)


@dataclass(frozen=True)
class Chain:
    """The chain rule: a derivative as a product of derivatives by name."""

    quantity: Quantity
    factors: tuple[Quantity, ...]

    def parts(self, writer: Writer) -> Parts:
        """Return name and product."""
        product = writer.times.join(map(writer.quantity, self.factors))
        return Parts(writer.quantity(self.quantity), (product,), free=True)


@dataclass(frozen=True)
class Product:
    """The product of the factors of a chain, in numbers."""

    quantity: Quantity
    factors: tuple[Line, ...]

    @cached_property
    def value(self) -> Any:
        """The exact product; None without numbers."""
        product: Any = 1
        for factor in self.factors:
            if factor.value is None:
                return None
            product = product * factor.value
        return product

    def parts(self, writer: Writer) -> Parts:
        """Return name, product and value: of the formulas where there are no numbers."""
        name = writer.quantity(self.quantity)
        factors = [f for f in self.factors if f.expression != 1] or [*self.factors[:1]]
        if self.value is None:
            shown = [writer.formula(factor.expression) for factor in factors]
            loose = [factor.expression.is_Add for factor in factors]
        else:
            shown = [writer.number(factor.value) for factor in factors]
            loose = [factor.value < 0 and factor is not factors[0] for factor in factors]
        cells = [writer.bracket(s) if b else s for s, b in zip(shown, loose, strict=True)]
        value = "" if self.value is None else writer.number(self.value)
        return Parts(name, (writer.product.join(cells),), value, free=True)


@dataclass(frozen=True)
class Total:
    """The sum over several paths."""

    quantity: Quantity
    products: tuple[Product, ...]

    def parts(self, writer: Writer) -> Parts:
        """Return name, sum and value."""
        name = writer.quantity(self.quantity)
        labels = [writer.words(f"path {n}") for n in range(1, len(self.products) + 1)]
        if self.products[0].value is None:
            return Parts(name, (writer.plus.join(labels),), free=True)
        values = [product.value for product in self.products]
        numbers = [writer.number(value) for value in values]
        bracketed = [
            writer.bracket(shown) if value < 0 and place else shown
            for place, (value, shown) in enumerate(zip(values, numbers, strict=True))
        ]
        total = sum(values[1:], values[0])
        return Parts(name, (writer.plus.join(bracketed),), writer.number(total), free=True)


@dataclass(frozen=True)
class Remark:
    """A sentence between rows."""

    words: str

    def parts(self, writer: Writer) -> Parts:
        """Return the sentence."""
        return Parts(writer.words(self.words))


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a title, which may be empty."""

    title: str
    rows: tuple[Row, ...]


# Text


def text_page(sections: Iterable[Section], writer: Writer) -> str:
    """Return sections as aligned text."""
    pages = []
    for section in sections:
        body = "\n".join(_text_rows([row.parts(writer) for row in section.rows]))
        title = writer.polish(section.title)
        pages.append("\n\n".join(part for part in (title, body) if part))
    return "\n\n".join(pages)


def _text_rows(rows: Sequence[Parts]) -> list[str]:
    """Put the first equality signs after the longest formula, the values after everything."""
    lefts = [_left(row) for row in rows]
    narrow = [(left, row) for left, row in zip(lefts, rows, strict=True) if not _wide(left, row)]
    first = max((len(left) for left, row in narrow if not row.free), default=0)
    second = max((_numbers_width(row) for _, row in narrow if not row.free), default=0)
    columns = first + (2 + second if second else 0)
    free = max((len(left) for left, row in narrow if row.free and row.value), default=0)
    width = max(columns, free)
    return [
        line
        for left, row in zip(lefts, rows, strict=True)
        for line in _text_row(left, row, first, width)
    ]


def _left(row: Parts) -> str:
    """Return what stands left of the columns: everything but the value in a free row."""
    cells = row.cells if row.free else row.cells[:1]
    return f"{row.name} {row.sign} {' = '.join(cells)}" if cells else row.name


def _numbers_width(row: Parts) -> int:
    return len(row.cells[1]) + 2 if len(row.cells) > 1 else 0


def _wide(left: str, row: Parts) -> bool:
    return len(left) + (0 if row.free else _numbers_width(row)) > _WIDE


def _text_row(left: str, row: Parts, first: int, width: int) -> list[str]:
    if not row.value:
        return [left]
    if _wide(left, row):
        head = f"{row.name} {row.sign} {row.cells[0]}"
        return [head, *(f"    = {cell}" for cell in (*row.cells[1:], row.value))]
    if not row.free and len(row.cells) > 1:
        left = f"{left:{first}}  = {row.cells[1]}"
    return [f"{left:{width}}   = {row.value}"]


# LaTeX


def latex_rows(section: Section) -> str:
    """Return the rows of a section for an ``align*`` environment or an ``aligned`` block."""
    return " \\\\\n".join(_latex_row(row.parts(LATEX)) for row in section.rows)


def _latex_row(row: Parts) -> str:
    if not row.cells:
        return rf"& {row.name}"
    first, *more = [*row.cells, *([row.value] if row.value else [])]
    sign = LATEX.arrow if row.sign != "=" else "="
    whole = f"{row.name} &{sign} {first}"
    short = sum(map(len, more)) + len(first) < 150
    joint = " = " if short else " \\\\\n &= "
    return joint.join([whole, *more])


def latex_document(title: str, sections: Iterable[Section], notes: Sequence[str] = ()) -> str:
    """Return a complete LaTeX document; it needs amsmath and nothing else."""
    parts = [
        r"\documentclass[a4paper]{article}",
        r"\usepackage{amsmath}",
        r"\setlength{\oddsidemargin}{-10mm}\setlength{\textwidth}{180mm}",
        r"\setlength{\topmargin}{-15mm}\setlength{\textheight}{245mm}",
        r"\setlength{\parindent}{0pt}\allowdisplaybreaks",
        r"\begin{document}",
        rf"\section*{{{latex_words(title)}}}",
    ]
    for section in sections:
        parts += [rf"\subsection*{{{latex_words(section.title)}}}"] if section.title else []
        if section.rows:
            parts.append(f"\\begin{{align*}}\n{latex_rows(section)}\n\\end{{align*}}")
    parts += [f"{latex_words(note)}\n" for note in notes]
    return "\n".join([*parts, r"\end{document}"])


# HTML


def html_rows(section: Section) -> str:
    """Return the rows of a section as a table of MathML; long rows go over several lines."""
    rows = "\n".join(_html_row(row.parts(MATHML), _broad(row.parts(ASCII))) for row in section.rows)
    return f'<div class="scroll"><table class="steps">\n{rows}\n</table></div>' if rows else ""


def _broad(row: Parts) -> bool:
    return len(row.cells) > 1 and _wide(_left(row), row)


def _html_row(row: Parts, broad: bool) -> str:
    if not row.cells:
        return f'<tr><td colspan="5" class="remark">{_math(row.name)}</td></tr>'
    first, *more = [*row.cells, *([row.value] if row.value else [])]
    start = f'<td class="name">{_math(row.name)}</td>{_sign("←" if row.sign != "=" else "=")}'
    if broad:
        lines = [f'{start}<td colspan="3">{_math(first)}</td>']
        lines += [f'<td></td>{_sign("=")}<td colspan="3">{_math(cell)}</td>' for cell in more]
        return "".join(f"<tr>{line}</tr>" for line in lines)
    if row.free:
        whole = " ".join([_math(first), *map(_equal, more)])
        return f'<tr class="free">{start}<td colspan="3">{whole}</td></tr>'
    second = _equal(row.cells[1]) if len(row.cells) > 1 else ""
    value = _equal(row.value) if row.value else ""
    return f'<tr>{start}<td>{_math(first)}</td><td>{second}</td><td class="value">{value}</td></tr>'


def _sign(sign: str) -> str:
    return f'<td class="sign">{_math(operator(sign))}</td>'


def _equal(cell: str) -> str:
    return _math(operator("=") + cell)


def _math(inside: str) -> str:
    xmlns = "http://www.w3.org/1998/Math/MathML"
    return f'<math xmlns="{xmlns}" displaystyle="true">{inside}</math>'


def html_fragment(sections: Iterable[Section], level: int = 3) -> str:
    """Return sections as HTML, with headings of the given level."""
    parts = []
    for section in sections:
        title = escape(section.title.replace("<-", "←"))
        parts += [f"<h{level}>{title}</h{level}>"] if title else []
        parts.append(html_rows(section))
    return "\n".join(filter(None, parts))


# Data


def line_data(line: Line, writer: Writer) -> dict[str, Any]:
    """Return a line for JSON: name, formula, formula with numbers, value."""
    return {
        "name": writer.quantity(line.quantity),
        "formula": writer.formula(line.expression, line.fixed, general=line.general),
        "substituted": line.substituted(writer),
        "value": None if line.value is None else float(line.value),
    }


def section_data(sections: Iterable[Section]) -> list[dict[str, Any]]:
    """Return the lines of sections for JSON."""
    return [
        {
            "title": section.title,
            "lines": [line_data(row, ASCII) for row in section.rows if isinstance(row, Line)],
        }
        for section in sections
    ]
