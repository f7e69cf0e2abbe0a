"""Formulas for people: equations as text, as LaTeX and in the order a person writes them.

SymPy sorts the terms of a sum by its own rules (``b1[j] + Sum(...)``, ``-t[k] + p[k]``).
Here products and sums come first, biases after them, and a negative term never
leads where a positive one could.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

import sympy
from sympy import Add, Basic, Expr, Idx, Indexed, Mul, Piecewise, Pow, Rational, Sum, Symbol
from sympy.printing.latex import LatexPrinter as SympyLatexPrinter
from sympy.printing.precedence import PRECEDENCE, precedence
from sympy.printing.str import StrPrinter

from symprop.functions import Normalisation, Reduction
from symprop.indices import branches, free_indices, index_name

__all__ = [
    "Formula",
    "LatexPrinter",
    "TextPrinter",
    "aligned",
    "latex",
    "latex_name",
    "ordered_factors",
    "ordered_terms",
    "text",
]


class Formula(Protocol):
    """An equation, as far as printing goes."""

    @property
    def lhs(self) -> Expr:
        """What is defined."""

    @property
    def rhs(self) -> Expr:
        """What it is equal to."""

    @property
    def accumulate(self) -> bool:
        """Whether the right side is added to the left."""


def text(formula: Formula | Basic) -> str:
    """Return an equation or expression as plain text.

    >>> from sympy import IndexedBase
    >>> from symprop.equation import Equation
    >>> i, j = Idx("i", 3), Idx("j", 2)
    >>> W, x, b, h = map(IndexedBase, "Wxbh")
    >>> text(Equation(h[j], sympy.tanh(b[j] + Sum(W[i, j] * x[i], i))))
    'h[j] = tanh(Sum(W[i,j]*x[i], i) + b[j])'
    """
    printer = TextPrinter()
    if not isinstance(formula, Basic):
        sign = "+=" if formula.accumulate else "="
        return f"{printer.doprint(formula.lhs)} {sign} {printer.doprint(formula.rhs)}"
    return str(printer.doprint(formula))


def latex(formula: Formula | Basic) -> str:
    r"""Return an equation or expression as LaTeX, ready for math mode.

    >>> from symprop.equation import Equation
    >>> latex(Equation(Symbol("dL/dw1"), Symbol("x1") * Symbol("dL/dnet_h1")))
    '\\frac{\\partial L}{\\partial w_{1}} = \\frac{\\partial L}{\\partial \\mathit{net}_{h1}} x_{1}'
    """
    printer = LatexPrinter()
    if not isinstance(formula, Basic):
        sign = r"\mathrel{+}=" if formula.accumulate else "="
        return f"{printer.doprint(formula.lhs)} {sign} {printer.doprint(formula.rhs)}"
    return str(printer.doprint(formula))


def aligned(equations: Iterable[Formula]) -> str:
    r"""Return equations as LaTeX for a notebook, their signs under each other.

    >>> from symprop.equation import Equation
    >>> aligned([Equation(Symbol("y"), 2 * Symbol("x"))])
    '$$\\begin{aligned}\ny &= 2 x\n\\end{aligned}$$'
    """
    rows = " \\\\\n".join(latex(equation).replace("=", "&=", 1) for equation in equations)
    return f"$$\\begin{{aligned}}\n{rows}\n\\end{{aligned}}$$"


def ordered_terms(node: Add) -> list[Expr]:
    """Return the terms of a sum as a person writes them.

    Sums first, then the rest; a bare number first in ``1 - h**2`` and ``1 + exp(-z)``, last
    in ``x + 1``; negative terms after positive ones.
    """
    terms = list(Add(*node.args, evaluate=False).args)
    lone = [term for term in terms if term.is_number]
    others = [term for term in terms if not term.is_number]
    others.sort(key=_term_rank)
    following = all(_is_negative(term) or isinstance(term, sympy.exp) for term in others)
    leads = bool(lone) and following and not _is_negative(lone[0])
    return [*lone, *others] if leads else [*others, *lone]


def _term_rank(term: Expr) -> tuple[bool, int, int]:
    has_sum = term.has(Sum, Reduction, Normalisation)
    adjoint = _is_adjoint(term)
    product = not term.is_Atom and not isinstance(term, Indexed)
    return (_is_negative(term), -2 * has_sum - adjoint, -int(product))


def ordered_factors(factors: list[Expr]) -> list[Expr]:
    """Return factors as a person writes them.

    Numbers, then weights (more indices first), values, adjoints and sums:
    ``W2[j,k]*dL/dz[k]``; an adjoint leads where a local derivative follows it:
    ``dL/dh[j]*(1 - h[j]**2)``.
    """
    local = any(_is_local_derivative(factor) for factor in factors)
    return sorted(factors, key=lambda factor: _factor_rank(factor, local))


def _is_local_derivative(factor: Expr) -> bool:
    return isinstance(factor, Add | sympy.Function) and not _is_adjoint(factor)


def _is_adjoint(factor: Expr) -> bool:
    return any("/d" in symbol.name for symbol in factor.atoms(Symbol))


def _factor_rank(factor: Expr, local: bool) -> tuple[int, int]:
    if factor.is_number:
        return (0, 0)
    if isinstance(factor, Indexed | Symbol):
        rank = len(factor.indices) if isinstance(factor, Indexed) else 0
        return ((1 if local else 3) if _is_adjoint(factor) else 2, -rank)
    return (5 if factor.has(Sum, Piecewise) else 4, int(isinstance(factor, Add)))


def _is_negative(term: Expr) -> bool:
    return bool(term.as_coeff_Mul()[0].is_negative)


class _Ordered(sympy.printing.printer.Printer):
    """Decides the order of terms; the subclasses decide their look."""

    def _as_ordered_terms(self, expr: Add, order: str | None = None) -> list[Expr]:
        return ordered_terms(expr)


class TextPrinter(_Ordered, StrPrinter):
    """Plain text close to the description's own language."""

    printmethod = "_symproptext"  # Indexed and softmax bring their own _sympystr

    def _print_Indexed(self, expr: Indexed) -> str:
        inside = ",".join(self._print(subscript) for subscript in expr.indices)
        return f"{self._print(expr.base.label)}[{inside}]"

    def _print_Idx(self, expr: Idx) -> str:
        return index_name(expr)

    def _print_Sum(self, expr: Sum) -> str:
        bound = ", ".join(index_name(limit[0]) for limit in expr.limits)
        return f"Sum({self._print(expr.function)}, {bound})"

    def _print_Mul(self, expr: Mul) -> str:
        number, rest = expr.as_coeff_Mul()
        sign = "-" if number.is_negative else ""
        number = abs(number)
        top, bottom = [], []
        for factor in Mul.make_args(rest):
            if isinstance(factor, Pow) and _is_negative(factor.exp):
                bottom.append(Pow(factor.base, -factor.exp, evaluate=False))
            else:
                top.append(factor)
        if isinstance(number, Rational):
            top = [sympy.Integer(number.p), *top] if number.p != 1 else top
            bottom = [sympy.Integer(number.q), *bottom] if number.q != 1 else bottom
        elif number != 1:
            top = [number, *top]
        upper = "*".join(self._factor(factor) for factor in ordered_factors(top)) or "1"
        if not bottom:
            return sign + upper
        lower = "*".join(self._factor(factor) for factor in ordered_factors(bottom))
        bracketed = len(bottom) > 1
        return f"{sign}{upper}/({lower})" if bracketed else f"{sign}{upper}/{lower}"

    def _factor(self, factor: Expr) -> str:
        if isinstance(factor, Pow) and factor.exp == 1:
            factor = factor.base
        return str(self.parenthesize(factor, PRECEDENCE["Mul"], strict=False))

    def _print_Pow(self, expr: Pow, rational: bool = False) -> str:
        base, exponent = expr.args
        if exponent == Rational(1, 2):
            return f"sqrt({self._print(base)})"
        if exponent.is_number and exponent.is_negative:
            below = self._print(Pow(base, -exponent))
            if precedence(Pow(base, -exponent)) <= PRECEDENCE["Mul"]:
                below = f"({below})"
            return f"1/{below}"
        return (
            f"{self.parenthesize(base, PRECEDENCE['Pow'])}"
            f"**{self.parenthesize(exponent, PRECEDENCE['Pow'])}"
        )

    def _print_Float(self, expr: sympy.Float) -> str:
        return repr(float(expr))

    def _print_Piecewise(self, expr: Piecewise) -> str:
        pairs = branches(expr)
        if len(pairs) == 2 and pairs[1] == (0, True):
            return f"({self._print(pairs[0][0])} where {self._print(pairs[0][1])})"
        shown = [
            f"{self._print(value)} otherwise"
            if condition is sympy.true
            else f"{self._print(value)} if {self._print(condition)}"
            for value, condition in pairs
        ]
        return "{" + ", ".join(shown) + "}"

    def _print_And(self, expr: Basic) -> str:
        parts = _sorted(expr.args)
        shown = []
        while parts:
            first = parts.pop(0)
            ends = [first]
            for part in parts:
                if interval := _interval(first, part):
                    parts.remove(part)
                    ends = [*interval]
                    break
            text = " <= ".join(map(self._print, ends))
            shown.append(f"({text})" if isinstance(first, sympy.Or) else text)
        return " and ".join(shown)

    def _print_Or(self, expr: Basic) -> str:
        return " or ".join(self._print(part) for part in _sorted(expr.args))

    def _print_Relational(self, expr: Basic) -> str:
        sign = {"Eq": "=", "Ne": "!="}.get(expr.rel_op, expr.rel_op)
        sign = "=" if sign == "==" else sign
        return f"{self._print(expr.lhs)} {sign} {self._print(expr.rhs)}"

    def _print_Function(self, expr: sympy.Function) -> str:
        # SymPy's dispatch skips the classes between a function and Function itself
        if isinstance(expr, Normalisation):
            return self._normalisation(expr)
        return f"{type(expr).__name__}({', '.join(map(self._print, expr.args))})"

    def _normalisation(self, expr: Normalisation) -> str:
        body, index, at = expr.args
        shown = f"{type(expr).__name__}({self._print(body)}, {self._print(index)})"
        return shown if at == index else f"{shown}[{self._print(at)}]"

    def _print_Abs(self, expr: Basic) -> str:
        return f"abs({self._print(expr.args[0])})"

    def _print_Max(self, expr: Basic) -> str:
        return f"max({', '.join(self._print(part) for part in _sorted(expr.args))})"

    def _print_Min(self, expr: Basic) -> str:
        return f"min({', '.join(self._print(part) for part in _sorted(expr.args))})"


def _sorted(parts: tuple[Basic, ...]) -> list[Basic]:
    return sorted(parts, key=lambda part: part.sort_key())


def _interval(*parts: Basic) -> tuple[Expr, Expr, Expr] | None:
    """Return (low, middle, high) of ``low <= middle <= high``; the middle has all the indices."""
    lows = [part for part in parts if isinstance(part, sympy.Ge)]
    highs = [part for part in parts if isinstance(part, sympy.Le)]
    if len(lows) != 1 or len(highs) != 1:
        return None
    (low,), (high,) = lows, highs
    shift = low.lhs - high.lhs
    if not (low.rhs.is_Integer and high.rhs.is_Integer and shift.is_Integer):
        return None
    if not free_indices(low.lhs):
        return None
    lower, upper = low.rhs - shift, high.rhs
    if lower + upper < 0:  # SymPy turned -2 <= 2*q - r <= 0 around
        return -upper, -high.lhs, -lower
    return lower, high.lhs, upper


class LatexPrinter(_Ordered, SympyLatexPrinter):
    """LaTeX with subscripted indices, partial derivatives and sums without bounds."""

    def _print_Symbol(self, expr: Symbol, style: str = "plain") -> str:
        return latex_name(expr.name)

    def _print_Idx(self, expr: Idx) -> str:
        return latex_name(index_name(expr))

    def _print_Indexed(self, expr: Indexed) -> str:
        inside = " ".join(
            self._print(subscript) if isinstance(subscript, Idx) else f"{self._print(subscript)},"
            for subscript in expr.indices
        ).rstrip(",")
        name = str(expr.base.label)
        if "/d" in name:
            loss, variable = name[1:].split("/d", 1)
            below = _subscripted(latex_name(variable), inside)
            return rf"\frac{{\partial {latex_name(loss)}}}{{\partial {below}}}"
        return _subscripted(latex_name(name), inside)

    def _print_Sum(self, expr: Sum) -> str:
        bound = ",".join(self._print(limit[0]) for limit in expr.limits)
        body = self._print(expr.function)
        if isinstance(expr.function, Add):
            body = rf"\left({body}\right)"
        return rf"\sum_{{{bound}}} {body}"

    def _print_Function(self, expr: sympy.Function, exp: str | None = None) -> str:
        if isinstance(expr, Normalisation):
            shown = self._normalisation(expr)
        elif isinstance(expr, Reduction):
            shown = self._reduction(expr)
        else:
            return str(super()._print_Function(expr, exp))
        return shown if exp is None else rf"\left({shown}\right)^{{{exp}}}"

    def _normalisation(self, expr: Normalisation) -> str:
        body, index, at = expr.args
        name = type(expr).__name__.replace("_", r"\_")
        return (
            rf"\operatorname{{{name}}}_{{{self._print(index)}}}"
            rf"\left({self._print(body)}\right)_{{{self._print(at)}}}"
        )

    def _reduction(self, expr: Reduction) -> str:
        name = type(expr).__name__.replace("_", r"\_")
        bound = ",".join(self._print(index) for index in expr.bound)
        return rf"\operatorname{{{name}}}_{{{bound}}} \left({self._print(expr.body)}\right)"


def _subscripted(name: str, inside: str) -> str:
    """Add subscripts to a name that may have one already: b_1 becomes b_{1,j}."""
    match = re.fullmatch(r"(.*)_\{(.*)\}", name)
    return f"{match[1]}_{{{match[2]},{inside}}}" if match else f"{name}_{{{inside}}}"


def latex_name(name: str) -> str:
    r"""Return a variable's name in LaTeX: ``W1`` is W_{1}, ``dL/dz`` a partial derivative."""
    if "/d" in name:
        loss, variable = name[1:].split("/d", 1)
        above, below = latex_name(loss), latex_name(variable)
        return rf"\frac{{\partial {above}}}{{\partial {below}}}"
    match = re.fullmatch(r"([A-Za-z]+?)(?:_(\w+)|(\d+)([A-Za-z]*))", name)
    if match is None:
        return name if len(name) == 1 else rf"\mathit{{{name}}}".replace("_", r"\_")
    stem = match[1] if len(match[1]) == 1 else rf"\mathit{{{match[1]}}}"
    below = (match[2] or match[3]).replace("_", r"\_")
    below += rf"\mathit{{{match[4]}}}" if match[4] else ""
    return rf"{stem}_{{{below}}}"
