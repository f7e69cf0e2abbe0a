"""The language of descriptions: text to SymPy expressions, by an allow-list over `ast`.

A description may come from a stranger, so nothing is ever evaluated as code: Python's
parser gives a syntax tree, and each node that is allowed is turned into a SymPy object
here; every other node is refused. Cost is bounded as well: long, deep and exploding
expressions are refused before SymPy sees them. The way back, from SymPy to text, is
`symprop.description.notation`.

Numbers are exact: ``1/2`` is a rational number, ``0.1`` the float that Python reads.
Evaluation is SymPy's own, so ``2*x + x`` becomes ``3*x``.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import sympy
from sympy import Add, Basic, Expr, Float, Idx, Integer, Mul, Pow, Symbol

from symprop.description.bounds import call_problem, power_problem, problem, simple_problem
from symprop.description.syntax import PRODUCT, REFUSED, SUM, ExpressionError, syntax_tree, words
from symprop.errors import nearest
from symprop.functions import FUNCTIONS, REDUCTIONS, Normalisation
from symprop.indices import is_condition, piecewise, size, summation
from symprop.network import Variable

__all__ = ["BINDING", "parse_expression"]

BINDING: dict[str, Any] = {
    "sum": summation,
    "mean": None,
    **{function.__name__: function for function in REDUCTIONS},
}
"""The functions that bind indices: ``sum(x[i], i)``; a mean is a sum divided by its size."""

_RELATIONS: dict[type[ast.cmpop], Any] = {
    ast.Lt: sympy.Lt,
    ast.LtE: sympy.Le,
    ast.Gt: sympy.Gt,
    ast.GtE: sympy.Ge,
    ast.Eq: sympy.Eq,
    ast.NotEq: sympy.Ne,
}

T = TypeVar("T")
Names = Mapping[str, Variable | Idx | None]
"""What each name of an expression stands for; None for a name that was refused elsewhere."""


def parse_expression(text: str, names: Names, later: Collection[str] = ()) -> Expr:
    """Return the SymPy expression that `text` writes; raise `ExpressionError` otherwise.

    `names` says what the names stand for, `later` which names are defined further down.

    >>> x, i = Variable("x", (Idx("i", 3),)), Idx("i", 3)
    >>> parse_expression("sum(x[i]**2, i)/2", {"x": x, "i": i})
    Sum(x[i]**2, (i, 0, 2))/2
    """
    line = re.sub(r"[\r\n\t]", " ", text)
    tree = syntax_tree(line, any(used in names and names[used] is None for used in words(line)))
    converter = _Converter(line, names, later)
    try:
        return converter.number(tree)
    except _RefusedError:
        raise ExpressionError(converter.problems) from None


class _RefusedError(Exception):
    """The node under conversion is refused; why is in the converter's problems."""


class _Converter:
    """Turns syntax nodes into SymPy objects and notes down each one that it refuses."""

    def __init__(self, line: str, names: Names, later: Collection[str]) -> None:
        self.line, self.names, self.later = line, names, later
        self.problems: list[tuple[int, str]] = []

    def number(self, node: ast.expr) -> Expr:
        """Return the number-valued expression at `node`."""
        value = self._convert(node)
        if _is_truth(value):
            raise self._refused(node, "a condition is no number; write 1 if condition else 0")
        return value

    def condition(self, node: ast.expr) -> Basic:
        """Return the condition at `node`."""
        value = self._convert(node)
        if not _is_truth(value):
            raise self._refused(node, f"expected a condition such as x > 0, got {value}")
        return value

    def _convert(self, node: ast.expr) -> Basic:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.Compare():
                return self._comparison(node)
            case ast.BoolOp(op=op, values=values):
                joined = sympy.And if isinstance(op, ast.And) else sympy.Or
                return self._build(node, joined, *self._each(values, self.condition))
            case ast.IfExp():
                return self._choice(node)
            case _:
                raise self._refused(node, REFUSED.get(type(node), "this is not allowed here"))

    def _refused(self, node: ast.AST, message: str) -> _RefusedError:
        """Note down the problem at `node`; return what is to be raised."""
        column = getattr(node, "col_offset", -1) + 1
        if (column, message) not in self.problems:
            self.problems.append((column, message))
        return _RefusedError()

    def _each(self, nodes: Iterable[ast.expr], convert: Callable[[ast.expr], T]) -> list[T]:
        """Convert all nodes, so that the problems of each are noted, before giving up."""
        results, refused = [], False
        for node in nodes:
            try:
                results.append(convert(node))
            except _RefusedError:
                refused = True
        if refused:
            raise _RefusedError
        return results

    def _build(self, node: ast.AST, make: Callable[..., Basic], *parts: Any) -> Basic:
        """Make a SymPy object and check that it is a real number of bearable size."""
        try:
            value = make(*parts)
            reason = problem(value)
        except Exception as error:  # SymPy raises KeyError, PolynomialError and many more
            reason = f"SymPy cannot make a real number of it ({type(error).__name__})"
        if reason:
            raise self._refused(node, reason)
        return value

    def _constant(self, node: ast.Constant) -> Expr:
        value = node.value
        if isinstance(value, str | bytes):
            raise self._refused(node, "strings are not allowed")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(node, f"{value!r} is not allowed; expected a number")
        if isinstance(value, int):
            return self._build(node, Integer, value)
        if not math.isfinite(value):
            raise self._refused(node, "the number is too large for a float")
        return Float(value)

    def _name(self, node: ast.Name) -> Basic:
        found = self._find(node)
        if isinstance(found, Variable) and found.indices:
            raise self._refused(node, f"{node.id!r} needs its subscripts: {_declared(found)}")
        return found.symbol if isinstance(found, Variable) else found

    def _find(self, node: ast.Name) -> Variable | Idx | Expr:
        """Return what a name stands for."""
        name = node.id
        if name == "pi":
            return sympy.pi
        if name in self.names:
            found = self.names[name]
            if found is None:
                raise _RefusedError
            return found
        if name in FUNCTIONS or name in BINDING:
            raise self._refused(node, f"{name!r} is a function; call it: {name}(...)")
        if name in self.later:
            raise self._refused(
                node, f"name {name!r} is used before it is defined; move its equation up"
            )
        raise self._refused(node, f"unknown name {name!r}{nearest(name, self.names)}")

    def _subscript(self, node: ast.Subscript) -> Expr:
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if isinstance(node.value, ast.Call):
            return self._position(node, inside)
        if not isinstance(node.value, ast.Name):
            raise self._refused(node, "only a name can have subscripts")
        subscripts = self._each(inside, self._whole)
        found = self._find(node.value)
        if not isinstance(found, Variable) or not found.indices:
            raise self._refused(
                node, f"{node.value.id!r} has no indices; write it without subscripts"
            )
        if len(subscripts) != len(found.indices):
            raise self._refused(
                node,
                f"{node.value.id!r} has {len(subscripts)} subscripts here, expected "
                f"{len(found.indices)} as in {_declared(found)}",
            )
        return self._build(node, found.symbol.__getitem__, tuple(subscripts))

    def _position(self, node: ast.Subscript, inside: list[ast.expr]) -> Expr:
        """Read ``softmax(z[k], k)[j]``: the value at position j."""
        value = self.number(node.value)
        if not isinstance(value, Normalisation) or len(inside) != 1:
            raise self._refused(node, "only a name and softmax(z[k], k)[j] can have subscripts")
        return value.func(value.body, *value.bound, self._whole(inside[0]))

    def _whole(self, node: ast.expr) -> Expr:
        """Return a subscript; that it is an integer in range is checked by the network."""
        value = self.number(node)
        if value.has(Float):
            raise self._refused(node, "a subscript cannot hold a decimal number")
        return value

    def _call(self, node: ast.Call) -> Expr:
        if not isinstance(node.func, ast.Name):
            raise self._refused(
                node.func, REFUSED.get(type(node.func), "only a name can be called")
            )
        name = node.func.id
        if name not in FUNCTIONS and name not in BINDING:
            self._unknown_function(node.func, name)
        if node.keywords:
            raise self._refused(node.keywords[0], "keyword arguments are not allowed")
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self._refused(argument, REFUSED[ast.Starred])
        if name in BINDING:
            return self._binding(node, name)
        few, many = _arity(name)
        if not few <= len(node.args) <= many:
            expected = str(few) if few == many else f"{few} to {many}"
            raise self._refused(node, f"{name} has {len(node.args)} arguments, expected {expected}")
        values = self._each(node.args, self.number)
        self._check_call(node, name, values)
        return self._build(node, FUNCTIONS[name], *values)

    def _unknown_function(self, node: ast.Name, name: str) -> NoReturn:
        if isinstance(self.names.get(name), Variable):
            raise self._refused(
                node, f"{name!r} is no function; multiply with *, subscripts are written [...]"
            )
        if name == "Piecewise":
            raise self._refused(node, "no Piecewise here; write VALUE if CONDITION else OTHER")
        raise self._refused(
            node, f"unknown function {name!r}{nearest(name, (*FUNCTIONS, *BINDING))}"
        )

    def _check_call(self, node: ast.Call, name: str, values: list[Expr]) -> None:
        if name in ("max", "min") and any(
            isinstance(value, Idx) and values[0].has(value) for value in values[1:]
        ):
            raise self._refused(node, f"over an index, write reduce_{name}({values[0]}, ...)")
        reason = call_problem(name, values)
        if reason:
            raise self._refused(node, reason)

    def _binding(self, node: ast.Call, name: str) -> Expr:
        """Read a call that binds indices: an expression, then one or more indices."""
        bound = node.args[1:]
        single = name in ("softmax", "log_softmax")
        if not bound or (single and len(bound) > 1):
            wanted = "an index" if single else "one or more indices"
            raise self._refused(node, f"{name} needs an expression and {wanted}: {name}(z[k], k)")
        body, *indices = self._each(node.args, self._part_of(node.args[0]))
        if len(set(indices)) < len(indices):
            raise self._refused(node, f"{name} runs over the same index twice")
        if name in ("sum", "mean"):
            count = math.prod(map(size, indices)) if name == "mean" else 1
            return self._build(node, lambda: summation(body, indices) / count)
        return self._build(node, BINDING[name], body, *indices)

    def _part_of(self, body: ast.expr) -> Callable[[ast.expr], Expr]:
        return lambda node: self.number(node) if node is body else self._index(node)

    def _index(self, node: ast.expr) -> Idx:
        found = self._find(node) if isinstance(node, ast.Name) else None
        if not isinstance(found, Idx):
            raise self._refused(node, "expected the name of an index after the expression")
        return found

    def _unary(self, node: ast.UnaryOp) -> Basic:
        match node.op:
            case ast.USub():
                return self._build(node, Mul, -1, self.number(node.operand))
            case ast.UAdd():
                return self.number(node.operand)
            case ast.Not():
                return self._build(node, sympy.Not, self.condition(node.operand))
            case _:
                raise self._refused(node, "'~' is not allowed; negate a condition with not")

    def _binary(self, node: ast.BinOp) -> Expr:
        match node.op:
            case ast.Add() | ast.Sub():
                return self._sum(node)
            case ast.Mult() | ast.Div():
                return self._product(node)
            case ast.Pow():
                base, exponent = self._each((node.left, node.right), self.number)
                reason = power_problem(base, exponent)
                if reason:
                    raise self._refused(node, reason)
                return self._build(node, Pow, base, exponent)
            case ast.FloorDiv() | ast.Mod():
                above, below = self._each((node.left, node.right), self.number)
                if isinstance(node.op, ast.Mod):
                    return self._build(node, sympy.Mod, above, below)
                return self._build(node, lambda: sympy.floor(above / below))
            case ast.BitXor():
                raise self._refused(node, "'^' is not allowed; a power is written **")
            case _:
                raise self._refused(node, "this operator is not allowed; there are + - * / // % **")

    def _sum(self, node: ast.BinOp) -> Expr:
        """Read a sum of any length without recursion."""
        parts = [(operand, inverted) for operand, inverted in _operands(node, SUM)]
        values = self._each([part for part, _ in parts], self.number)
        signs = [inverted for _, inverted in parts]
        return self._build(
            node,
            lambda: Add(*(-v if minus else v for v, minus in zip(values, signs, strict=True))),
        )

    def _product(self, node: ast.BinOp) -> Expr:
        """Read a product of any length without recursion.

        The minus of ``-(a + b)*c`` and the 3 of ``a/(3*(b + c))`` are factors of the whole, or
        SymPy would multiply the parentheses out.
        """
        parts = list(_operands(node, PRODUCT))
        first, _ = parts[0]
        minus = False
        if isinstance(first, ast.UnaryOp) and isinstance(first.op, ast.USub):
            minus, parts[0] = True, (first.operand, False)
        values = self._each([part for part, _ in parts], self.number)
        below = [inverted for _, inverted in parts]
        return self._build(
            node,
            lambda: Mul(
                -1 if minus else 1,
                *(Pow(v, -1) if inverse else v for v, inverse in zip(values, below, strict=True)),
            ),
        )

    def _comparison(self, node: ast.Compare) -> Basic:
        for op in node.ops:
            if type(op) not in _RELATIONS:
                raise self._refused(node, "only < <= > >= == != compare")
        values = self._each((node.left, *node.comparators), self.number)
        reason = simple_problem(values)
        if reason:
            raise self._refused(node, reason)
        pairs = zip(node.ops, values, values[1:], strict=False)
        relations = [self._build(node, _RELATIONS[type(op)], a, b) for op, a, b in pairs]
        return self._build(node, sympy.And, *relations)

    def _choice(self, node: ast.IfExp) -> Expr:
        """Read ``a if c else b if d else e`` as one piecewise expression."""
        pieces = list(self._pieces(node))
        values = self._each([value for value, _ in pieces], self.number)
        conditions = self._each([test for _, test in pieces if test is not None], self.condition)
        pairs = zip(values, (*conditions, sympy.true), strict=True)
        return self._build(node, piecewise, *pairs)

    def _pieces(self, node: ast.expr) -> Iterator[tuple[ast.expr, ast.expr | None]]:
        """Yield values with their conditions; in parentheses, a nested choice stays nested."""
        while isinstance(node, ast.IfExp):
            yield node.body, node.test
            node = node.orelse
            if self.line[: node.col_offset].rstrip().endswith("("):
                break
        yield node, None


def _is_truth(value: Basic) -> bool:
    """Tell whether `value` is a condition; to SymPy a plain symbol may be one too."""
    return is_condition(value) and not isinstance(value, Symbol)


def _operands(
    node: ast.BinOp, ops: tuple[type[ast.operator], type[ast.operator]]
) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the operands of a chain of `ops`, and whether each is subtracted or divided by."""
    parts: list[tuple[ast.expr, bool]] = []
    rest: ast.expr = node
    while isinstance(rest, ast.BinOp) and isinstance(rest.op, ops):
        inverted = isinstance(rest.op, ops[1])
        divisor = rest.right
        if (
            ops is PRODUCT
            and inverted
            and isinstance(divisor, ast.BinOp)
            and isinstance(divisor.op, PRODUCT)
        ):
            parts += [(part, not below) for part, below in _operands(divisor, PRODUCT)][::-1]
        else:
            parts.append((divisor, inverted))
        rest = rest.left
    yield rest, False
    yield from reversed(parts)


def _arity(name: str) -> tuple[int, int]:
    if name in ("max", "min"):
        return 2, 16
    if name == "atan2":
        return 2, 2
    return (1, 2) if name in ("leaky_relu", "elu") else (1, 1)


def _declared(variable: Variable) -> str:
    return str(variable.access).replace(", ", ",")
