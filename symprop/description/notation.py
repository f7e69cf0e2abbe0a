"""SymPy expressions as text in the language of descriptions, the inverse of `expressions`."""

# ruff: noqa: N802, N815 (SymPy dispatches on _print_CLASS)

from __future__ import annotations

from collections.abc import Iterable

import sympy
from sympy import Add, Basic, Expr, Float, Idx, Indexed, Mul, Piecewise, Pow, Sum, Symbol
from sympy.core.relational import Relational
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from symprop.errors import DescriptionError
from symprop.functions import FUNCTIONS, REDUCTIONS, Normalisation

__all__ = ["expression_text"]

_NAMES = {function: name for name, function in FUNCTIONS.items() if name != "sqrt"}
_KNOWN = (
    Add, Mul, Pow, sympy.Mod, sympy.Rational, Float, type(sympy.pi), type(sympy.E), Symbol, Idx,
    Indexed, sympy.IndexedBase, Sum, Piecewise, sympy.functions.elementary.piecewise.ExprCondPair,
    sympy.Tuple, Relational, sympy.And, sympy.Or, sympy.Not, type(sympy.true),
    *_NAMES, *REDUCTIONS,
)  # fmt: skip


def expression_text(expression: Expr) -> str:
    """Return `expression` as a description writes it; `parse_expression` reads it back.

    Raises `DescriptionError` where the language has no word for a part of it.

    >>> i, j = Idx("i", 3), Idx("j", 2)
    >>> W, x, b = map(sympy.IndexedBase, "Wxb")
    >>> expression_text(sympy.tanh(Sum(W[i, j] * x[i], i) + b[j]))
    'tanh(sum(W[i,j]*x[i], i) + b[j])'
    """
    for node in sympy.preorder_traversal(expression):
        if not isinstance(node, _KNOWN):
            raise DescriptionError(
                f"{node} cannot be written in a description, which has no {type(node).__name__}"
            )
    return _Printer()._inside(expression)


class _Printer(StrPrinter):
    """SymPy's text printer with the words of the language."""

    printmethod = "_describe"  # no class has it: every node is printed by the methods below

    def _inside(self, node: Basic) -> str:
        """Print what parentheses, commas or nothing surround."""
        text = str(self._print(node))
        return text[1:-1] if isinstance(node, Piecewise) or _quotient(node) else text

    def _list(self, nodes: Iterable[Basic]) -> str:
        return ", ".join(map(self._inside, nodes))

    def _as_ordered_terms(self, expr: Add, order: str | None = None) -> list[Expr]:
        """Return sums first, then products, then the rest; what is subtracted last."""
        terms = super()._as_ordered_terms(expr, order=order)
        return sorted(
            terms,
            key=lambda term: (
                term.could_extract_minus_sign(),
                not term.has(Sum),
                not isinstance(term, Mul | Pow),
            ),
        )

    def _print_Float(self, node: Float) -> str:
        return repr(float(node))

    def _print_Exp1(self, node: Expr) -> str:
        return "exp(1)"

    def _print_Idx(self, node: Idx) -> str:
        return str(node.label.name)

    def _print_Indexed(self, node: Indexed) -> str:
        return f"{node.base.label}[{','.join(map(self._inside, node.indices))}]"

    def _print_Sum(self, node: Sum) -> str:
        return f"sum({self._list((node.function, *(limit[0] for limit in node.limits)))})"

    def _print_floor(self, node: Expr) -> str:
        if not _quotient(node):
            return self._print_Function(node)
        above, below = node.args[0].as_numer_denom()
        return f"({self.parenthesize(above, PRECEDENCE['Pow'])}//{below})"

    def _print_Mod(self, node: Expr) -> str:
        above, below = (self.parenthesize(part, PRECEDENCE["Pow"]) for part in node.args)
        return f"{above} % {below}"

    def _print_Normalisation(self, node: Normalisation) -> str:
        text = f"{type(node).__name__}({self._list((node.body, *node.bound))})"
        return text if node.at == node.bound[0] else f"{text}[{self._inside(node.at)}]"

    _print_softmax = _print_log_softmax = _print_Normalisation

    def _print_Function(self, node: Expr) -> str:
        args = node.args
        if len(args) == 2 and args[1] == getattr(type(node), "default", None):
            args = args[:1]
        return f"{_NAMES.get(type(node), type(node).__name__)}({self._list(args)})"

    _print_Abs = _print_Function

    def _print_Max(self, node: Expr) -> str:
        """Print indices first: ``max(x[i], i)`` would look like a maximum over i."""
        args = sorted(node.args, key=lambda arg: (not isinstance(arg, Idx), arg.sort_key()))
        return f"{_NAMES[type(node)]}({self._list(args)})"

    _print_Min = _print_Max

    def _print_Piecewise(self, node: Piecewise) -> str:
        *pairs, (last, otherwise) = (pair.args for pair in node.args)
        if otherwise != sympy.true:
            raise DescriptionError(
                f"{node} has no value where no condition holds; end it with (value, True)"
            )
        pieces = (f"{self._print(value)} if {self._print(test)} else " for value, test in pairs)
        return f"({''.join(pieces)}{self._print(last)})"

    def _print_Relational(self, node: Relational) -> str:
        return f"{self._print(node.lhs)} {node.rel_op} {self._print(node.rhs)}"

    def _print_And(self, node: sympy.And) -> str:
        return self._joined(" and ", node)

    def _print_Or(self, node: sympy.Or) -> str:
        return self._joined(" or ", node)

    def _print_Not(self, node: sympy.Not) -> str:
        return f"not ({self._print(node.args[0])})"

    def _joined(self, word: str, node: Basic) -> str:
        parts = sorted(node.args, key=sympy.default_sort_key)
        texts = [
            f"({self._print(part)})"
            if isinstance(part, sympy.And | sympy.Or)
            else str(self._print(part))
            for part in parts
        ]
        return word.join(texts)


def _quotient(node: Basic) -> bool:
    """Tell whether `node` is written with ``//``."""
    if not isinstance(node, sympy.floor):
        return False
    below = node.args[0].as_numer_denom()[1]
    return bool(below.is_Integer and below != 1)
