"""From a SymPy expression to Python text that Numba compiles well and a person can read.

Minimal parentheses; ``x * x`` and divisions instead of powers; the terms in the
order of the formulas. In float32 every literal is written ``real(0.5)``: Numba
computes a float32 with a bare literal in float64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import sympy
from sympy import Add, Basic, Expr, Idx, Indexed, Mul, Piecewise, Pow, Rational, Symbol

from symprop.errors import LoweringError
from symprop.formulas import ordered_factors, ordered_terms
from symprop.indices import accesses, branches, index_name
from symprop.scalar import SCALARS

__all__ = ["Printer"]

_MATH = {"atan2": "atan2", "gamma": "gamma", "loggamma": "lgamma"}
"""SymPy's functions that `symprop.scalar` has not, but Python's math module has."""

_ROUNDING = {"floor": "floor", "ceiling": "ceil"}

_RECIPROCALS = {
    "sec": sympy.cos, "csc": sympy.sin, "cot": sympy.tan,
    "sech": sympy.cosh, "csch": sympy.sinh, "coth": sympy.tanh,
}  # fmt: skip

_SIGNS = {"==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

_CHOICE, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _MINUS, _POWER, _ATOM = range(10)


@dataclass(frozen=True, slots=True)
class _Text:
    """A piece of text and how strongly it binds."""

    text: str
    strength: int = _ATOM

    def within(self, strength: int) -> str:
        """Return the text, in parentheses if it binds less than `strength`."""
        return self.text if self.strength >= strength else f"({self.text})"


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints expressions over numbers of type `dtype`.

    `identifiers` gives the Python names of the formulas' names (a name that is not in
    it prints as it is), `integers` the names of tensors that hold integers. Functions are those of
    `module`, if one is given.
    """

    dtype: str = "float64"
    identifiers: Mapping[str, str] | None = None
    integers: frozenset[str] = frozenset()
    module: str = ""

    def expression(self, node: Expr) -> str:
        """Return the text of a number-valued expression.

        Raises `LoweringError` for a node that has no Python text.

        >>> h = Symbol("h")
        >>> Printer().expression(1 - h**2), Printer("float32").expression(1 - h**2)
        ('1 - h * h', 'real(1) - h * h')
        """
        return self.value(node).text if not node.is_number else self._literal(node).text

    def condition(self, node: Basic) -> str:
        """Return the text of a condition."""
        return self._condition(node).text

    def name(self, name: str) -> str:
        """Return the Python name of a formula's name."""
        return (self.identifiers or {}).get(name, name)

    def subscript(self, node: Expr) -> str:
        """Return the text of integer arithmetic: the subscript of a tensor."""
        return self._integer(node).text

    def target(self, node: Symbol | Indexed) -> str:
        """Return the text of a left side."""
        return self._read(node).text

    def value(self, node: Expr) -> _Text:
        """Return the text of a number-valued expression and how strongly it binds."""
        if isinstance(node, Idx):
            return _Text(f"real({index_name(node)})")
        if isinstance(node, Symbol | Indexed):
            return self._leaf(node)
        if node.is_number:
            return self._number(node)
        match node:
            case Add():
                return self._sum(node)
            case Mul():
                return self._product(node)
            case Pow():
                return self._power(node.base, node.exp)
            case Piecewise():
                return self._choice(node)
            case sympy.Function() | sympy.Max() | sympy.Min():
                return self._call(node)
        raise LoweringError(
            f"{type(node).__name__}: no kernel can compute {node}; use sums, products, powers, "
            "Piecewise and the functions that a description may call"
        )

    def _leaf(self, node: Symbol | Indexed) -> _Text:
        """Print a variable; Numba would compute with integers in float64, so they are converted."""
        read = self._read(node)
        name = node.base.label.name if isinstance(node, Indexed) else node.name
        return _Text(f"real({read.text})") if node.is_integer or name in self.integers else read

    def _read(self, node: Symbol | Indexed) -> _Text:
        if isinstance(node, Symbol):
            return _Text(self.name(node.name))
        inside = ", ".join(map(self.subscript, node.indices))
        return _Text(f"{self.name(node.base.label.name)}[{inside}]")

    def _number(self, number: Expr) -> _Text:
        """Print a literal inside an expression: bare integers do no harm in float64."""
        if number.is_Integer and self.dtype == "float64" and abs(number) < 2**53:
            return _Text(str(number), _MINUS if number < 0 else _ATOM)
        return self._literal(number)

    def _literal(self, number: Expr) -> _Text:
        """Print a number of type `real`."""
        text = _decimal(number)
        if self.dtype == "float64":
            return _Text(text, _MINUS if text.startswith("-") else _ATOM)
        whole = text[:-2] if text.endswith(".0") else text
        return _Text(f"real({whole})")

    def _sum(self, node: Add) -> _Text:
        first, *others = ordered_terms(node)
        text = self.value(first).within(_SUM)
        for term in others:
            if _negative(term):
                text += f" - {self.value(-term).within(_PRODUCT)}"
            else:
                text += f" + {self.value(term).within(_PRODUCT)}"
        return _Text(text, _SUM)

    def _product(self, node: Mul) -> _Text:
        numbers = [factor for factor in node.args if factor.is_number]
        number = Mul(*numbers)
        if number.is_negative:
            rest = Mul(-number, *(f for f in node.args if not f.is_number), evaluate=False)
            return _Text(f"-{self._positive(rest).within(_PRODUCT)}", _MINUS)
        return self._positive(node)

    def _positive(self, node: Mul) -> _Text:
        """Print a product without a minus sign, as one fraction."""
        number = Mul(*(factor for factor in node.args if factor.is_number))
        above: list[Expr] = []
        below: list[Expr] = []
        for factor in node.args:
            if factor.is_number:
                continue
            base, exponent = factor.as_base_exp()
            if not isinstance(factor, sympy.exp) and exponent.is_number and exponent.is_negative:
                below.append(Pow(base, -exponent, evaluate=False) if exponent != -1 else base)
            else:
                above.append(factor)
        if isinstance(number, Rational) and number.q != 1 and number.q < 1000:
            below = [sympy.Integer(number.q), *below]
            number = sympy.Integer(number.p)
        if number != 1:
            above = [number, *above]
        return self._fraction(ordered_factors(above), ordered_factors(below))

    def _fraction(self, above: list[Expr], below: list[Expr]) -> _Text:
        upper = self._factors(above) if above else self._number(sympy.Integer(1))
        if not below:
            return upper
        lower = self._factors(below)
        return _Text(f"{upper.within(_PRODUCT)} / {lower.within(_MINUS)}", _PRODUCT)

    def _factors(self, factors: list[Expr]) -> _Text:
        first, *others = map(self.value, factors)
        if not others:
            return first
        text = " * ".join([first.within(_PRODUCT), *(other.within(_MINUS) for other in others)])
        return _Text(text, _PRODUCT)

    def _power(self, base: Expr, exponent: Expr) -> _Text:
        if exponent.is_number and exponent.is_negative:
            return self._fraction([], [Pow(base, -exponent, evaluate=False)])
        inner = self.value(base)
        if exponent == 1:
            return inner
        if exponent == Rational(1, 2):
            return _Text(f"math.sqrt({inner.text})")
        if exponent == 2 and inner.strength == _ATOM and isinstance(base, Symbol | Indexed):
            return _Text(f"{inner.text} * {inner.text}", _PRODUCT)
        if exponent == 2:  # the power of a float is x * x at once; that of an int, a loop for Numba
            shown = self._literal(exponent)
        else:
            whole = exponent.is_Integer and exponent < 64
            shown = _Text(str(exponent)) if whole else self.value(exponent)
        parts = (inner.within(_ATOM), shown.within(_POWER))
        sign = "**" if all(re.fullmatch(r"-?[\w.]+", part) for part in parts) else " ** "
        return _Text(sign.join(parts), _POWER)

    def _choice(self, node: Piecewise) -> _Text:
        """Print a conditional expression: only the branch that is taken is evaluated."""
        pairs = branches(node)
        if pairs[-1][1] is not sympy.true:
            raise LoweringError(f"{node}: no branch holds otherwise; end it with (value, True)")
        text = self._branch(pairs[-1][0]).within(_CHOICE)
        for value, condition in reversed(pairs[:-1]):
            text = (
                f"{self._branch(value).within(_OR)} if "
                f"{self._condition(condition).within(_OR)} else {text}"
            )
        return _Text(text, _CHOICE if len(pairs) > 1 else _OR)

    def _branch(self, value: Expr) -> _Text:
        """Print a branch; its numbers are of type `real`, so that both branches have one type."""
        return self._literal(value) if value.is_number else self.value(value)

    def _call(self, node: Expr) -> _Text:
        name = type(node).__name__
        if isinstance(node, sympy.Max | sympy.Min):
            return self._extremum(node)
        inside = ", ".join(self._branch(part).text for part in node.args)
        if name == "Abs":
            return _Text(f"abs({inside})")
        if name in _RECIPROCALS:
            return self._fraction([], [_RECIPROCALS[name](*node.args)])
        if name in SCALARS:
            called = f"{self.module}.{name}" if self.module else self.name(name)
            return _Text(f"{called}({inside})")
        if name in _ROUNDING:
            return _Text(f"real(math.{_ROUNDING[name]}({inside}))")
        if name not in _MATH:
            raise LoweringError(
                f"function {name}: no kernel can compute {node}; known are "
                f"{', '.join(sorted({*SCALARS, *_MATH}))}"
            )
        return _Text(f"math.{_MATH[name]}({inside})")

    def _extremum(self, node: Expr) -> _Text:
        name = "maximum" if isinstance(node, sympy.Max) else "minimum"
        parts = sorted(node.args, key=lambda part: (part.is_number, part.sort_key()))
        texts = [self._branch(part).text for part in parts]
        text = texts.pop()
        while texts:
            text = f"{name}({texts.pop()}, {text})"
        return _Text(text)

    def _condition(self, node: Basic) -> _Text:
        if node in (sympy.true, sympy.false):
            return _Text(str(bool(node)))
        if isinstance(node, Symbol):
            return _Text(self.name(node.name))
        if isinstance(node, sympy.Not):
            return _Text(f"not {self._condition(node.args[0]).within(_COMPARE)}", _NOT)
        if isinstance(node, sympy.And | sympy.Or):
            word, strength = ("and", _AND) if isinstance(node, sympy.And) else ("or", _OR)
            parts = sorted(node.args, key=lambda part: part.sort_key())
            joined = f" {word} ".join(self._condition(part).within(_NOT) for part in parts)
            return _Text(joined, strength)
        if isinstance(node, sympy.core.relational.Relational):
            show = self._integer if self._is_integer(node) else self._branch
            left, right = show(node.lhs), show(node.rhs)
            sign = _SIGNS[node.rel_op]
            return _Text(f"{left.within(_SUM)} {sign} {right.within(_SUM)}", _COMPARE)
        raise LoweringError(f"{node}: not a condition that a kernel can test")

    def _is_integer(self, node: Basic) -> bool:
        """Tell whether a comparison is one of indices and integer inputs."""
        numbers = (part for part in sympy.preorder_traversal(node) if part.is_number)
        reads = (leaf for leaf in accesses(node) if isinstance(leaf, Indexed | Symbol))
        return all(part.is_integer for part in numbers if part.is_number) and all(
            self._holds_integers(leaf) for leaf in reads
        )

    def _holds_integers(self, leaf: Expr) -> bool:
        name = leaf.base.label.name if isinstance(leaf, Indexed) else leaf.name
        return name in self.integers

    def _integer(self, node: Expr) -> _Text:
        match node:
            case Idx():
                return _Text(index_name(node))
            case sympy.Integer():
                return _Text(str(node), _MINUS if node < 0 else _ATOM)
            case Symbol() | Indexed():
                return self._read(node)
            case Add():
                return self._integer_sum(node)
            case Mul():
                number = node.as_coeff_Mul()[0]
                if number.is_Rational and number.q == 1 and number < 0:
                    return _Text(f"-{self._integer(-node).within(_PRODUCT)}", _MINUS)
                parts = (self._integer(part).within(_MINUS) for part in node.args)
                return _Text(" * ".join(parts), _PRODUCT)
            case sympy.Mod():
                low, high = (self._integer(part).within(_MINUS) for part in node.args)
                return _Text(f"{low} % {high}", _PRODUCT)
            case sympy.floor():
                above, below = node.args[0].as_numer_denom()
                if below.is_Integer:
                    return _Text(f"{self._integer(above).within(_MINUS)} // {below}", _PRODUCT)
        raise LoweringError(
            f"subscript {node}: expected sums and products of indices and whole numbers"
        )

    def _integer_sum(self, node: Add) -> _Text:
        terms = sorted(node.args, key=lambda t: (t.is_number, _negative(t), t.sort_key()))
        text = self._integer(terms[0]).within(_SUM)
        for term in terms[1:]:
            sign, shown = ("-", -term) if _negative(term) else ("+", term)
            text += f" {sign} {self._integer(shown).within(_PRODUCT)}"
        return _Text(text, _SUM)


def _negative(term: Expr) -> bool:
    return bool(term.as_coeff_Mul()[0].is_negative)


def _decimal(number: Expr) -> str:
    """Return the shortest decimal text of the double that is nearest to `number`."""
    if number in (sympy.oo, -sympy.oo):
        return "math.inf" if number is sympy.oo else "-math.inf"
    try:
        value = float(number.evalf(40))
    except (TypeError, ValueError) as error:
        raise LoweringError(f"{number}: not a real number ({error})") from None
    return repr(value)
