"""Formulas as MathML, which browsers show without any script or font from elsewhere."""

# ruff: noqa: N802 (SymPy dispatches on _print_CLASS)

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

import sympy
from sympy import Add, Basic, Expr, Idx, Indexed, Mul, Piecewise, Pow, Rational, Sum, Symbol
from sympy.printing.printer import Printer

from symprop.formulas import ordered_factors, ordered_terms
from symprop.functions import Normalisation, Reduction
from symprop.indices import branches, index_name
from symprop.network import Equation

__all__ = ["MathMLPrinter", "bracketed", "fraction", "identifier", "mathml", "operator", "row"]

_SIGNS = {">=": "≥", "<=": "≤", "==": "=", "!=": "≠", ">": ">", "<": "<"}
_TIMES = "<mo>&#x22C5;</mo>"
_MINUS = "−"
_UPRIGHT = frozenset("exp log sin cos tan sinh cosh tanh asin acos atan max min".split())


def mathml(formula: Equation | Basic) -> str:
    """Return an equation or expression as the content of a ``<math>`` element.

    >>> mathml(Symbol("w1") ** 2)
    '<mrow><msup><msub><mi>w</mi><mn>1</mn></msub><mn>2</mn></msup></mrow>'
    """
    printer = MathMLPrinter()
    if isinstance(formula, Equation):
        sign = operator("+=" if formula.accumulate else "=")
        return row(printer.doprint(formula.lhs), sign, printer.doprint(formula.rhs))
    return row(printer.doprint(formula))


def row(*parts: str) -> str:
    """Return `parts` as one group."""
    return f"<mrow>{''.join(parts)}</mrow>"


def operator(sign: str) -> str:
    """Return an operator, a bracket or a comma."""
    return f"<mo>{escape(sign)}</mo>"


def fraction(above: str, below: str) -> str:
    """Return a fraction."""
    return f"<mfrac>{above}{below}</mfrac>"


def identifier(name: str) -> str:
    """Return a variable's name: ``W1`` with the subscript 1, ``dL/dz`` as a partial derivative.

    >>> identifier("h1")
    '<msub><mi>h</mi><mn>1</mn></msub>'
    """
    if "/d" in name:
        above, below = name[1:].split("/d", 1)
        return partial(identifier(above), identifier(below))
    match = re.fullmatch(r"([A-Za-z]+?)(?:_(\w+)|(\d+)([A-Za-z]*))", name)
    if match is None:
        return f"<mi>{escape(name)}</mi>"
    if match[4]:
        below = row(f"<mn>{match[3]}</mn><mi>{match[4]}</mi>")
        return f"<msub><mi>{match[1]}</mi>{below}</msub>"
    below = match[2] or match[3]
    tag = "mn" if below.isdigit() else "mi"
    return f"<msub><mi>{match[1]}</mi><{tag}>{below}</{tag}></msub>"


def partial(above: str, below: str) -> str:
    """Return the partial derivative of `above` by `below`."""
    return fraction(row("<mi>∂</mi>", above), row("<mi>∂</mi>", below))


def bracketed(inside: str) -> str:
    """Return `inside` in brackets, which grow only around what is high."""
    tall = any(f"<{tag}" in inside for tag in ("mfrac", "munder", "mtable", "msqrt"))
    stretch = "" if tall else ' stretchy="false"'
    return row(f"<mo{stretch}>(</mo>", inside, f"<mo{stretch}>)</mo>")


class MathMLPrinter(Printer):
    """Presentation MathML, with terms and factors in the order of `formulas`."""

    printmethod = "_sympropmathml"

    def doprint(self, expr: Basic) -> str:
        """Return `expr` as MathML."""
        return str(self._print(expr))

    def emptyPrinter(self, expr: Basic) -> str:
        """Print what has no rule of its own as SymPy writes it."""
        return f"<mi>{escape(str(expr))}</mi>"

    def _print_Symbol(self, expr: Symbol) -> str:
        return identifier(expr.name)

    def _print_Idx(self, expr: Idx) -> str:
        return identifier(index_name(expr))

    def _print_Indexed(self, expr: Indexed) -> str:
        name = str(expr.base.label)
        if "/d" in name:
            above, below = name[1:].split("/d", 1)
            return partial(identifier(above), self._subscripted(below, expr.indices))
        return self._subscripted(name, expr.indices)

    def _subscripted(self, name: str, indices: Iterable[Basic]) -> str:
        inside = operator(",").join(map(self.doprint, indices))
        match = re.fullmatch(r"<msub>(.*?</mi>)(.*)</msub>", identifier(name))
        if match:
            return f"<msub>{match[1]}{row(match[2], operator(','), inside)}</msub>"
        return f"<msub>{identifier(name)}{row(inside)}</msub>"

    def _print_Integer(self, expr: sympy.Integer) -> str:
        return row(operator(_MINUS), f"<mn>{-expr}</mn>") if expr < 0 else f"<mn>{expr}</mn>"

    def _print_Rational(self, expr: Rational) -> str:
        whole = fraction(f"<mn>{abs(expr.p)}</mn>", f"<mn>{expr.q}</mn>")
        return row(operator(_MINUS), whole) if expr < 0 else whole

    def _print_Float(self, expr: sympy.Float) -> str:
        number = f"<mn>{abs(float(expr))!r}</mn>"
        return row(operator(_MINUS), number) if expr < 0 else number

    def _print_Add(self, expr: Add) -> str:
        return self.joined([self.doprint(term) for term in ordered_terms(expr)])

    def joined(self, terms: list[str]) -> str:
        """Join printed terms by their signs."""
        minus = f"<mrow>{operator(_MINUS)}"
        parts = terms[:1]
        for term in terms[1:]:
            if term.startswith(minus):
                parts += [operator(_MINUS), "<mrow>" + term.removeprefix(minus)]
            else:
                parts += [operator("+"), term]
        return row(*parts)

    def _print_Mul(self, expr: Mul) -> str:
        number, rest = expr.as_coeff_Mul()
        top: list[Expr] = []
        bottom: list[Expr] = []
        for factor in Mul.make_args(rest):
            if isinstance(factor, Pow) and factor.exp.as_coeff_Mul()[0].is_negative:
                bottom.append(Pow(factor.base, -factor.exp, evaluate=False))
            else:
                top.append(factor)
        size = abs(number)
        if isinstance(size, Rational):
            top = [sympy.Integer(size.p), *top] if size.p != 1 else top
            bottom = [sympy.Integer(size.q), *bottom] if size.q != 1 else bottom
        else:
            top = [size, *top]
        alone = len(top) == 1 and not bottom
        whole = alone and isinstance(top[0], Sum)  # a minus before a sum needs no brackets
        shown = self.factor(top[0]) if alone and not whole else self._product(top)
        if bottom:
            shown = fraction(shown, self._product(bottom))
        return row(operator(_MINUS), shown) if number.is_negative else shown

    def _product(self, factors: list[Expr]) -> str:
        if len(factors) == 1:
            (factor,) = factors
            whole = isinstance(factor, Pow) and factor.exp == 1
            return row(self.doprint(factor.base if whole else factor))
        ordered = ordered_factors(factors)
        return row(_TIMES.join(map(self.factor, ordered))) if factors else "<mn>1</mn>"

    def factor(self, factor: Expr) -> str:
        """Return one factor of a product, bracketed where it has to be."""
        if isinstance(factor, Pow) and factor.exp == 1:
            factor = factor.base
        shown = self.doprint(factor)
        loose = self.loose(factor) or shown.startswith(f"<mrow>{operator(_MINUS)}")
        return bracketed(shown) if loose else shown

    def loose(self, factor: Expr) -> bool:
        """Tell whether a factor needs brackets."""
        return isinstance(factor, Add | Sum | Piecewise)

    def _print_Pow(self, expr: Pow) -> str:
        base, exponent = expr.args
        if exponent == Rational(1, 2):
            return f"<msqrt>{self.doprint(base)}</msqrt>"
        if exponent == 1:
            return self.doprint(base)
        if exponent.is_number and exponent.is_negative:
            return fraction("<mn>1</mn>", row(self.doprint(Pow(base, -exponent))))
        above = self.doprint(exponent)
        return f"<msup>{self.base(base)}{row(above) if exponent.args else above}</msup>"

    def base(self, base: Expr) -> str:
        """Return the base of a power, bracketed where it has to be."""
        shown = self.doprint(base)
        plain = isinstance(base, Symbol | Indexed) or (base.is_Integer and base >= 0)
        loose = "<mfrac>" in shown or shown.startswith(f"<mrow>{operator(_MINUS)}")
        return shown if plain and not loose else bracketed(shown)

    def _print_exp(self, expr: Expr) -> str:
        return f"<msup><mi>e</mi>{row(self.doprint(expr.args[0]))}</msup>"

    def _print_Exp1(self, expr: Expr) -> str:
        return "<mi>e</mi>"

    def _print_Pi(self, expr: Expr) -> str:
        return "<mi>π</mi>"

    def _print_Sum(self, expr: Sum) -> str:
        bound = operator(",").join(self.doprint(limit[0]) for limit in expr.limits)
        body = self.doprint(expr.function)
        if isinstance(expr.function, Add):
            body = bracketed(body)
        return row(f"<munder><mo>∑</mo>{row(bound)}</munder>", body)

    def _print_Function(self, expr: sympy.Function) -> str:
        return self._called(type(expr).__name__, expr.args)

    def _called(self, name: str, arguments: Iterable[Basic], below: str = "") -> str:
        shown = "σ" if name == "sigmoid" else name.replace("_", " ")
        tag = "mi" if name in _UPRIGHT or len(shown) == 1 else "mtext"
        head = f"<{tag}>{shown}</{tag}>"
        if below:
            head = f"<msub>{head}{below}</msub>"
        inside = operator(",").join(map(self.doprint, arguments))
        return row(head, "<mo>&#x2061;</mo>", bracketed(inside))

    def _print_Reduction(self, expr: Reduction) -> str:
        bound = row(operator(",").join(map(self.doprint, expr.bound)))
        return self._called(type(expr).__name__, [expr.body], bound)

    def _print_Normalisation(self, expr: Normalisation) -> str:
        body, index, at = expr.args
        shown = self._called(type(expr).__name__, [body], row(self.doprint(index)))
        return shown if at == index else f"<msub>{shown}{row(self.doprint(at))}</msub>"

    _print_logsumexp = _print_reduce_max = _print_reduce_min = _print_Reduction
    _print_softmax = _print_log_softmax = _print_Normalisation

    def _print_Abs(self, expr: Expr) -> str:
        return row(operator("|"), self.doprint(expr.args[0]), operator("|"))

    def _print_Max(self, expr: Expr) -> str:
        return self._called("max", sorted(expr.args, key=sympy.default_sort_key))

    def _print_Min(self, expr: Expr) -> str:
        return self._called("min", sorted(expr.args, key=sympy.default_sort_key))

    def _print_Piecewise(self, expr: Piecewise) -> str:
        rows = "".join(
            f"<mtr><mtd>{self.doprint(value)}</mtd><mtd>{self._case(condition)}</mtd></mtr>"
            for value, condition in branches(expr)
        )
        return row(operator("{"), f'<mtable columnalign="left">{rows}</mtable>')

    def _case(self, condition: Basic) -> str:
        if condition == sympy.true:
            return "<mtext>otherwise</mtext>"
        return row("<mtext>if&#160;</mtext>", self.doprint(condition))

    def _print_Relational(self, expr: Basic) -> str:
        sign = operator(_SIGNS.get(expr.rel_op, expr.rel_op))
        return row(self.doprint(expr.lhs), sign, self.doprint(expr.rhs))

    def _print_And(self, expr: Basic) -> str:
        return self._words(expr, "and")

    def _print_Or(self, expr: Basic) -> str:
        return self._words(expr, "or")

    def _words(self, expr: Basic, word: str) -> str:
        parts = sorted(expr.args, key=sympy.default_sort_key)
        return row(f"<mtext>&#160;{word}&#160;</mtext>".join(map(self.doprint, parts)))

    def _print_Not(self, expr: Basic) -> str:
        return row("<mtext>not&#160;</mtext>", self.doprint(expr.args[0]))
