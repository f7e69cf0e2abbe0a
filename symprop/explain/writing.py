"""How a quantity, its formula and its numbers are written: as text, LaTeX or MathML.

One expression is written twice: with names, and with the numbers of a sample in
their places. Terms and factors keep their order, so that the second line can be read
against the first: ``y1out*(1 - y1out)``, then ``0.75136507*0.24863493``. A sum over an index is
spelled out, with an ellipsis where it is long.
"""

# ruff: noqa: N802 (SymPy dispatches on _print_CLASS)

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from sympy import (
    Add,
    Basic,
    Expr,
    Idx,
    Indexed,
    Mul,
    Pow,
    Symbol,
)
from sympy.core.parameters import distribute
from sympy.printing.precedence import PRECEDENCE

from symprop.explain.mathml import MathMLPrinter, identifier, operator, row
from symprop.explain.mathml import partial as mathml_partial
from symprop.explain.spelling import (
    Lookup,
    Partial,
    Quantity,
    Quoted,
    Slope,
    Terms,
    Words,
    number_text,
    numerical,
    spelled,
)
from symprop.formulas import LatexPrinter, TextPrinter, latex_name
from symprop.indices import (
    free_indices,
)

__all__ = ["ASCII", "LATEX", "MATHML", "UNICODE", "Writer", "latex_words"]

# Printers


class _Numbers:
    """Prints the names in `fixed` as numbers, and all others too where there is a `lookup`."""

    lookup: Lookup | None
    fixed: Mapping[str, Any]

    def number(self, leaf: Expr) -> Any:
        """Return the number to be printed for `leaf`; None where its name is."""
        if isinstance(leaf, Quoted):
            return self._worth(leaf.args[0])
        if isinstance(leaf, Symbol) and leaf.name in self.fixed:
            return self.fixed[leaf.name]
        if not isinstance(leaf, Symbol | Indexed) or isinstance(leaf, Idx):
            return None
        if self.lookup is None or free_indices(leaf):
            return None
        return self.lookup.value(leaf)

    def _worth(self, expression: Expr) -> Any:
        if self.lookup is None:
            return None
        return self.lookup.given(self.fixed).value(expression)

    def negative(self, leaf: Expr) -> bool:
        """Tell whether `leaf` is printed as a negative number."""
        number = self.number(leaf)
        return number is not None and number < 0


class _Text(_Numbers, TextPrinter):
    def __init__(self, lookup: Lookup | None, fixed: Mapping[str, Any], unicode: bool) -> None:
        super().__init__()
        self.lookup, self.fixed, self.unicode = lookup, fixed, unicode

    def _print_Symbol(self, expr: Symbol) -> str:
        number = self.number(expr)
        return self._name(expr.name) if number is None else number_text(number)

    def _print_Indexed(self, expr: Indexed) -> str:
        number = self.number(expr)
        return super()._print_Indexed(expr) if number is None else number_text(number)

    def _name(self, name: str) -> str:
        return f"∂{name[1:].replace('/d', '/∂', 1)}" if self.unicode and "/d" in name else name

    def _print_Quoted(self, expr: Quoted) -> str:
        return number_text(self.number(expr))

    def _print_Slope(self, expr: Slope) -> str:
        above, below = map(self._print, expr.args[:2])
        return f"∂{above}/∂{below}" if self.unicode else f"d{above}/d{below}"

    def _print_Mul(self, expr: Mul) -> str:
        slopes = [factor for factor in expr.args if isinstance(factor, Slope)]
        if not slopes:
            return super()._print_Mul(expr)
        return " * ".join(map(self._print, [*(f for f in expr.args if f not in slopes), *slopes]))

    def _print_Terms(self, expr: Terms) -> str:
        *first, last = map(self._print, expr.shown)
        return _signed([*first, "...", last] if expr.elided else [*first, last])

    def _factor(self, factor: Expr) -> str:
        inner = factor.base if isinstance(factor, Pow) and factor.exp == 1 else factor
        shown = super()._factor(factor)
        return f"({shown})" if self.negative(inner) else shown

    def _print_Pow(self, expr: Pow, rational: bool = False) -> str:
        if self.negative(expr.base) and expr.exp.is_negative:
            return f"1/{self._factor(Pow(expr.base, -expr.exp, evaluate=False))}"
        return str(super()._print_Pow(expr, rational))

    def parenthesize(self, item: Expr, level: int, strict: bool = False) -> str:
        shown = super().parenthesize(item, level, strict)
        bare = level >= PRECEDENCE["Pow"] and self.negative(item)
        return f"({shown})" if bare else str(shown)


def _signed(terms: list[str]) -> str:
    """Join printed terms, a leading minus becoming the sign between them."""
    joined = terms[0]
    for term in terms[1:]:
        joined += f" - {term[1:].lstrip()}" if term.startswith("-") else f" + {term}"
    return joined


class _Latex(_Numbers, LatexPrinter):
    def __init__(self, lookup: Lookup | None, fixed: Mapping[str, Any]) -> None:
        super().__init__({"mul_symbol": "dot"} if lookup else {})
        self.lookup, self.fixed = lookup, fixed

    def _print_Symbol(self, expr: Symbol, style: str = "plain") -> str:
        number = self.number(expr)
        return super()._print_Symbol(expr) if number is None else latex_number(number)

    def _print_Indexed(self, expr: Indexed) -> str:
        number = self.number(expr)
        if number is not None:
            return latex_number(number)
        if any(isinstance(subscript, Idx) for subscript in expr.indices):
            return str(super()._print_Indexed(expr))
        return latex_element(expr)

    def _print_Quoted(self, expr: Quoted, exp: str | None = None) -> str:
        shown = latex_number(self.number(expr))
        return shown if exp is None else rf"\left({shown}\right)^{{{exp}}}"

    def _print_Slope(self, expr: Slope) -> str:
        above, below = map(self._print, expr.args[:2])
        return rf"\frac{{\partial {above}}}{{\partial {below}}}"

    def _print_Terms(self, expr: Terms, exp: str | None = None) -> str:
        *first, last = map(self._print, expr.shown)
        shown = _signed([*first, r"\cdots", last] if expr.elided else [*first, last])
        return shown if exp is None else rf"\left({shown}\right)^{{{exp}}}"

    def _print_Add(self, expr: Add, order: str | None = None) -> str:
        return _signed([str(self._print(term)) for term in self._as_ordered_terms(expr)])

    def _print_Pow(self, expr: Pow) -> str:
        loose = self.negative(expr.base) or (self.lookup is None and "/d" in str(expr.base))
        if loose and isinstance(expr.base, Symbol | Indexed) and expr.exp.is_positive:
            return rf"\left({self._print(expr.base)}\right)^{{{expr.exp}}}"
        return str(super()._print_Pow(expr))

    def _needs_mul_brackets(self, expr: Expr, first: bool = False, last: bool = False) -> bool:
        if self.negative(expr):
            return not first
        return isinstance(expr, Terms) or super()._needs_mul_brackets(expr, first, last)


def latex_number(value: Any) -> str:
    r"""Return a number in LaTeX: ``1.2\cdot 10^{-7}``."""
    mantissa, _, exponent = number_text(value).partition("e")
    return rf"{mantissa}\cdot 10^{{{exponent}}}" if exponent else mantissa


def latex_element(expr: Indexed) -> str:
    """Return an element in brackets, for W_{1,0,1} could be anything: ``W_{1}[0,1]``."""
    inside = ",".join(latex_name(str(part)) for part in expr.indices)
    name = str(expr.base.label)
    if "/d" in name:
        above, below = name[1:].split("/d", 1)
        return rf"\frac{{\partial {latex_name(above)}}}{{\partial {latex_name(below)}[{inside}]}}"
    return f"{latex_name(name)}[{inside}]"


def latex_words(words: str) -> str:
    r"""Return words for LaTeX.

    >>> latex_words("output_h1 <- w1 & 50 %")
    'output\\_h1 $\\leftarrow$ w1 \\& 50 \\%'
    """
    escaped = {"\\": r"\textbackslash{}", "<-": r"$\leftarrow$", "<": "$<$", ">": "$>$"}
    escaped |= {"^": r"\^{}", "~": r"\~{}", "*": r"$\cdot$"}
    escaped |= {sign: f"\\{sign}" for sign in "_&%#{}$"}
    done, place = "", 0
    while place < len(words):
        key = next((key for key in escaped if words.startswith(key, place)), words[place])
        done += escaped.get(key, key)
        place += len(key)
    return done


class _MathML(_Numbers, MathMLPrinter):
    def __init__(self, lookup: Lookup | None, fixed: Mapping[str, Any]) -> None:
        super().__init__()
        self.lookup, self.fixed = lookup, fixed

    def _print_Symbol(self, expr: Symbol) -> str:
        number = self.number(expr)
        return super()._print_Symbol(expr) if number is None else mathml_number(number)

    def _print_Indexed(self, expr: Indexed) -> str:
        number = self.number(expr)
        if number is not None:
            return mathml_number(number)
        if any(isinstance(subscript, Idx) for subscript in expr.indices):
            return super()._print_Indexed(expr)
        return mathml_element(expr)

    def _print_Quoted(self, expr: Quoted) -> str:
        return mathml_number(self.number(expr))

    def _print_Slope(self, expr: Slope) -> str:
        above, below = map(self.doprint, expr.args[:2])
        return mathml_partial(above, below)

    def _print_Terms(self, expr: Terms) -> str:
        *first, last = map(self.doprint, expr.shown)
        return self.joined([*first, operator("⋯"), last] if expr.elided else [*first, last])

    def loose(self, factor: Expr) -> bool:
        return isinstance(factor, Terms) or super().loose(factor)

    def base(self, base: Expr) -> str:
        return self.doprint(base) if isinstance(base, Quoted) else super().base(base)


def mathml_number(value: Any) -> str:
    """Return a number in MathML."""
    mantissa, _, exponent = number_text(abs(value)).partition("e")
    shown = f"<mn>{mantissa}</mn>"
    if exponent:
        power = f"<mn>{abs(int(exponent))}</mn>"
        power = row(operator("−"), power) if exponent.startswith("-") else power
        shown = row(shown, operator("×"), f"<msup><mn>10</mn>{power}</msup>")
    return row(operator("−"), shown) if value < 0 else shown


def mathml_element(expr: Indexed) -> str:
    """Return an element of a tensor in MathML, its subscripts in brackets."""
    inside = ",".join(map(str, expr.indices))
    name = str(expr.base.label)
    brackets = f"<mo stretchy='false'>[</mo><mn>{inside}</mn><mo stretchy='false'>]</mo>"
    if "/d" in name:
        above, below = name[1:].split("/d", 1)
        return mathml_partial(identifier(above), row(identifier(below), brackets))
    return row(identifier(name), brackets)


# Writers


@dataclass(frozen=True)
class Writer:
    """One way of writing; `printer` makes the printer for a lookup and fixed numbers.

    `times` stands between derivatives that are multiplied, `product` between numbers.
    """

    name: str
    printer: Callable[[Lookup | None, Mapping[str, Any]], Any]
    partial: Callable[[str, str], str]
    number: Callable[[Any], str]
    words: Callable[[str], str]
    times: str
    product: str
    plus: str
    arrow: str
    brackets: tuple[str, str] = ("(", ")")
    polish: Callable[[str], str] = str

    def formula(
        self,
        expression: Basic,
        fixed: Mapping[str, Any] | None = None,
        *,
        general: bool = False,
    ) -> str:
        """Return an expression with names; those in `fixed` are numbers.

        Sums are spelled out as far as they have no free index, unless `general`.
        """
        with distribute(False):
            inner = expression if general else spelled(expression)
            shown = self.printer(None, fixed or {}).doprint(inner)
        return self.polish(str(shown))

    def numbers(
        self, expression: Expr, lookup: Lookup, fixed: Mapping[str, Any] | None = None
    ) -> str:
        """Return an expression with numbers in the place of names."""
        with distribute(False):
            inner = numerical(spelled(expression), lookup)
            return self.polish(str(self.printer(lookup, fixed or {}).doprint(inner)))

    def quantity(self, quantity: Quantity) -> str:
        """Return the name of a number or of a derivative."""
        if isinstance(quantity, Words):
            return self.words(quantity.words)
        if isinstance(quantity, Partial):
            return self.partial(self.formula(quantity.above), self.formula(quantity.below))
        return self.formula(quantity)

    def bracket(self, shown: str) -> str:
        """Return what is shown in brackets."""
        return shown.join(self.brackets)


_SIGNS = {"**": "^", "*": "·", "Sum(": "Σ(", "...": "…", "<=": "≤", ">=": "≥", "!=": "≠", "<-": "←"}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _polished(shown: str) -> str:
    """Return text with the signs that a person would write."""
    raised = re.sub(r"\*\*(\d+)(?![\d.])", lambda power: power[1].translate(_RAISED), shown)
    for old, new in _SIGNS.items():
        raised = raised.replace(old, new)
    return raised


ASCII = Writer(
    "text",
    lambda lookup, fixed: _Text(lookup, fixed, False),
    lambda above, below: f"d{above}/d{below}",
    number_text,
    str,
    " * ",
    "*",
    " + ",
    "<-",
)
UNICODE = Writer(
    "unicode",
    lambda lookup, fixed: _Text(lookup, fixed, True),
    lambda above, below: f"∂{above}/∂{below}",
    number_text,
    _polished,
    " · ",
    "·",
    " + ",
    "←",
    polish=_polished,
)
LATEX = Writer(
    "latex",
    _Latex,
    lambda above, below: rf"\frac{{\partial {above}}}{{\partial {below}}}",
    latex_number,
    lambda words: rf"\text{{{latex_words(words)}}}",
    r" \cdot ",
    r" \cdot ",
    " + ",
    r"\leftarrow",
    (r"\left(", r"\right)"),
)
MATHML = Writer(
    "mathml",
    _MathML,
    mathml_partial,
    mathml_number,
    lambda words: f"<mtext>{escape(words)}</mtext>",
    operator("⋅"),
    operator("⋅"),
    operator("+"),
    "←",
    ('<mrow><mo stretchy="false">(</mo>', '<mo stretchy="false">)</mo></mrow>'),
)
