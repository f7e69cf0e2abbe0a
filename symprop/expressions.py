"""The language of descriptions: text to SymPy expressions, by an allow-list over `ast`.

A description may come from a stranger, so nothing is ever evaluated as code: Python's
parser gives a syntax tree, and each node that is allowed is turned into a SymPy object
here; every other node is refused. Cost is bounded as well: long, deep and exploding
expressions are refused before SymPy sees them. The way back, from SymPy to text, is
`symprop.notation`.

Numbers are exact: ``1/2`` is a rational number, ``0.1`` the float that Python reads.
Evaluation is SymPy's own, so ``2*x + x`` becomes ``3*x``.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import sympy
from sympy import Add, Basic, Expr, Float, Idx, Integer, Mul, Pow, Symbol

from symprop import functions
from symprop.errors import SympropError, nearest
from symprop.functions import ELEMENTWISE, REDUCTIONS, Normalisation
from symprop.indices import is_condition, piecewise, size, summation
from symprop.network import Variable

__all__ = ["BINDING", "FUNCTIONS", "ExpressionError", "parse_expression"]

FUNCTIONS: dict[str, Any] = {
    **{function.__name__: function for function in ELEMENTWISE},
    **{
        name: getattr(sympy, name)
        for name in (
            "exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
            "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "sign",
        )
    },
    "abs": sympy.Abs,
    "max": sympy.Max,
    "min": sympy.Min,
    "expm1": functions.expm1,
    "log1p": functions.log1p,
}  # fmt: skip
"""The functions of numbers that an expression may call."""

BINDING: dict[str, Any] = {
    "sum": summation,
    "mean": None,
    **{function.__name__: function for function in REDUCTIONS},
}
"""The functions that bind indices: ``sum(x[i], i)``; a mean is a sum divided by its size."""

_LENGTH = 10_000
_DEPTH = 60
_NODES = 4_000
_EXPONENT = 1_000
_BITS = 1_100
_TERMS = 500
_CHOICES = 16
_LEVELS = 4
_OVERFLOW = {"exp": 709.0, "expm1": 709.0, "sinh": 709.0, "cosh": 709.0}

_RELATIONS: dict[type[ast.cmpop], Any] = {
    ast.Lt: sympy.Lt,
    ast.LtE: sympy.Le,
    ast.Gt: sympy.Gt,
    ast.GtE: sympy.Ge,
    ast.Eq: sympy.Eq,
    ast.NotEq: sympy.Ne,
}

_REFUSED: dict[type[ast.AST], str] = {
    ast.Attribute: "attributes (a name after a dot) are not allowed",
    ast.Lambda: "lambda is not allowed",
    ast.JoinedStr: "strings are not allowed",
    ast.ListComp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.SetComp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.DictComp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.GeneratorExp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.NamedExpr: "':=' is not allowed; give the value an equation of its own",
    ast.Starred: "a starred argument is not allowed",
    ast.List: "lists are not allowed",
    ast.Tuple: "commas separate only arguments and subscripts",
    ast.Dict: "braces are not allowed",
    ast.Set: "braces are not allowed",
    ast.Slice: "slices are not allowed; use an index",
    ast.Await: "await is not allowed",
    ast.Yield: "yield is not allowed",
    ast.YieldFrom: "yield is not allowed",
}

T = TypeVar("T")
Names = Mapping[str, Variable | Idx | None]
"""What each name of an expression stands for; None for a name that was refused elsewhere."""


class ExpressionError(SympropError, ValueError):
    """An expression is refused; `problems` holds (column, message) pairs.

    The column counts from 1; it is 0 where the expression as a whole is meant. There are
    no problems where the expression only uses names that were refused elsewhere.
    """

    def __init__(self, problems: Iterable[tuple[int, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"column {column}: {text}" for column, text in self.problems))


def parse_expression(text: str, names: Names, later: Collection[str] = ()) -> Expr:
    """Return the SymPy expression that `text` writes; raise `ExpressionError` otherwise.

    `names` says what the names stand for, `later` which names are defined further down.

    >>> x, i = Variable("x", (Idx("i", 3),)), Idx("i", 3)
    >>> parse_expression("sum(x[i]**2, i)/2", {"x": x, "i": i})
    Sum(x[i]**2, (i, 0, 2))/2
    """
    line = re.sub(r"[\r\n\t]", " ", text)
    tree = _tree(line, any(used in names and names[used] is None for used in words(line)))
    converter = _Converter(line, names, later)
    try:
        return converter.number(tree)
    except _RefusedError:
        raise ExpressionError(converter.problems) from None


def words(text: str) -> set[str]:
    """Return every word of `text` that could be a name."""
    return set(re.findall(r"[A-Za-z_]\w*", text[: 10 * _LENGTH], re.ASCII))


def _tree(line: str, excused: bool) -> ast.expr:
    """Return the syntax tree of an expression whose length, characters and depth are bounded.

    `excused` says that a name which was refused elsewhere may be the only fault (``lambda``).
    """
    _check_text(line)
    indent = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(line.lstrip(), mode="eval").body
    except SyntaxError as error:
        column = (error.offset or 1) + indent
        problem = (column, f"not an expression: {error.msg}")
        raise ExpressionError(() if excused else [problem]) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError([(0, "too long a chain of operators; split it up")]) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            node.col_offset += indent
    _check_tree(tree)
    return tree


def _check_text(line: str) -> None:
    """Refuse what Python's parser should not see: length, characters and nesting."""
    if len(line) > _LENGTH:
        _fail(0, f"{len(line):,} characters, expected at most {_LENGTH:,}; split the equation")
    if not line.strip():
        _fail(0, "the expression is empty")
    foreign = re.search(r"[^ -~]|[#\\]", line)
    if foreign:
        _fail(foreign.start() + 1, f"the character {foreign[0]!r} is not allowed")
    depth = 0
    for column, character in enumerate(line, 1):
        depth += (character in "([{") - (character in ")]}")
        if depth > _DEPTH:
            _fail(column, f"more than {_DEPTH} nested parentheses; split the equation")


def _check_tree(tree: ast.expr) -> None:
    """Refuse trees that are too large or too deep; long sums and products are not deep."""
    count, stack = 0, [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > _DEPTH:
            _fail(node.col_offset + 1, f"nested more than {_DEPTH} deep; split the equation")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                stack.append((child, depth + (not _continues(node, child))))
    if count > _NODES:
        _fail(0, f"{count:,} operations and names, expected at most {_NODES:,}; split the equation")


def _fail(column: int, message: str) -> NoReturn:
    raise ExpressionError([(column, message)])


_SUM, _PRODUCT = (ast.Add, ast.Sub), (ast.Mult, ast.Div)


def _continues(node: ast.expr, child: ast.expr) -> bool:
    """Tell whether `child` is the rest of the sum, product or choice that `node` begins."""
    if isinstance(node, ast.IfExp):
        return isinstance(child, ast.IfExp) and child is node.orelse
    if not (isinstance(node, ast.BinOp) and isinstance(child, ast.BinOp) and child is node.left):
        return False
    return any(isinstance(node.op, ops) and isinstance(child.op, ops) for ops in (_SUM, _PRODUCT))


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
                raise self._refused(node, _REFUSED.get(type(node), "this is not allowed here"))

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
            problem = _problem(value)
        except (TypeError, ValueError, ArithmeticError, NotImplementedError):
            problem = "not a real number"
        except RecursionError:
            problem = "nested too deeply; split the equation"
        if problem:
            raise self._refused(node, problem)
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
        subscripts = self._each(inside, self._affine)
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
            raise self._refused(
                node, "only a name can have subscripts, and softmax(z[k], k)[j] one"
            )
        return value.func(value.body, *value.bound, self._affine(inside[0]))

    def _affine(self, node: ast.expr) -> Expr:
        """Return a subscript: a sum of indices and data times whole numbers."""
        whole = all(
            isinstance(part, ast.Name | ast.Subscript)
            or (isinstance(part, ast.Constant) and type(part.value) is int)
            or (isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub | ast.UAdd))
            or (isinstance(part, ast.BinOp) and _linear(part))
            for part in _outer(node)
        )
        value = self.number(node)
        if not whole:
            raise self._refused(
                node, "a subscript is a sum of indices times whole numbers, as in x[2*r + p - 1]"
            )
        return value

    def _call(self, node: ast.Call) -> Expr:
        if not isinstance(node.func, ast.Name):
            raise self._refused(
                node.func, _REFUSED.get(type(node.func), "only a name can be called")
            )
        name = node.func.id
        if name not in FUNCTIONS and name not in BINDING:
            self._unknown_function(node.func, name)
        if node.keywords:
            raise self._refused(node.keywords[0], "keyword arguments are not allowed")
        if name in BINDING:
            return self._binding(node, name)
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self._refused(argument, _REFUSED[ast.Starred])
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
        raise self._refused(
            node, f"unknown function {name!r}{nearest(name, (*FUNCTIONS, *BINDING))}"
        )

    def _check_call(self, node: ast.Call, name: str, values: list[Expr]) -> None:
        if name in _OVERFLOW and abs(_value(values[0]) or 0.0) > _OVERFLOW[name]:
            raise self._refused(node, f"{name}({values[0]}) is too large for a float")
        if name in ("max", "min"):
            if any(isinstance(value, Idx) for value in values[1:]):
                raise self._refused(node, f"over an index, write reduce_{name}({values[0]}, ...)")
            choices = sum(len(v.args) if isinstance(v, FUNCTIONS[name]) else 1 for v in values)
            if choices > _CHOICES:
                raise self._refused(node, f"more than {_CHOICES} values nested in {name}")
            if max(map(_levels, values)) >= _LEVELS:
                raise self._refused(
                    node, f"max and min nested more than {_LEVELS} deep; split the equation"
                )

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
                return self._chain(node, _SUM, Add, lambda value: -value)
            case ast.Mult() | ast.Div():
                return self._chain(node, _PRODUCT, Mul, lambda value: Pow(value, -1))
            case ast.Pow():
                base, exponent = self._each((node.left, node.right), self.number)
                self._check_power(node, base, exponent)
                return self._build(node, Pow, base, exponent)
            case ast.BitXor():
                raise self._refused(node, "'^' is not allowed; a power is written **")
            case _:
                raise self._refused(node, "this operator is not allowed; there are + - * / **")

    def _chain(self, node: ast.BinOp, ops: Any, make: Any, invert: Callable[[Expr], Expr]) -> Expr:
        """Read a sum or a product of any length without recursion."""
        parts: list[tuple[ast.operator, ast.expr]] = []
        rest: ast.expr = node
        while isinstance(rest, ast.BinOp) and isinstance(rest.op, ops):
            parts.append((rest.op, rest.right))
            rest = rest.left
        parts.append((ops[0](), rest))
        parts.reverse()
        values = self._each([part for _, part in parts], self.number)
        plain = [isinstance(op, ops[0]) for op, _ in parts]
        return self._build(
            node,
            lambda: make(*(v if p else invert(v) for v, p in zip(values, plain, strict=True))),
        )

    def _check_power(self, node: ast.BinOp, base: Expr, exponent: Expr) -> None:
        """Refuse powers of numbers that would not end or not fit a float."""
        power = _value(exponent)
        if power is not None and abs(power) > _EXPONENT:
            raise self._refused(node, f"the exponent is beyond {_EXPONENT}")
        value = _value(base)
        if power and value and abs(power * math.log2(abs(value))) > _BITS:
            raise self._refused(node, "the power is too large or too small for a float")

    def _comparison(self, node: ast.Compare) -> Basic:
        for op in node.ops:
            if type(op) not in _RELATIONS:
                raise self._refused(node, "only < <= > >= == != compare")
        values = self._each((node.left, *node.comparators), self.number)
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


def _problem(value: Basic) -> str:
    """Return what is wrong with a new SymPy object; '' where nothing is."""
    if value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo, sympy.I):
        return "not a finite real number"
    if any(max(abs(int(q.p)), int(q.q)).bit_length() > _BITS for q in value.atoms(sympy.Rational)):
        return "a number is too large or too small for a float"
    if isinstance(value, Expr) and not value.atoms(Symbol):
        if value.is_extended_real is False:
            return "not a real number"
        number = _value(value)
        if number is not None and not math.isfinite(number):
            return "a number is too large for a float"
    if isinstance(value, Add | Mul | Pow) and _terms(value) > _TERMS:
        return f"multiplied out it has over {_TERMS} terms; give its parts equations of their own"
    return ""


def _value(expression: Expr) -> float | None:
    """Return the value of a constant; infinity where it overflows, None where it is none."""
    if expression.atoms(Symbol):
        return None
    try:
        return float(expression)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def _terms(expression: Expr) -> int:
    """Estimate how many terms `expression` has when multiplied out.

    SymPy multiplies out to find the sign of an expression, whose cost this bounds.
    """
    if isinstance(expression, Add):
        return sum(map(_terms, expression.args))
    if isinstance(expression, Mul):
        return math.prod(map(_terms, expression.args))
    if isinstance(expression, Pow) and expression.exp.is_Integer:
        terms, power = _terms(expression.base), abs(int(expression.exp))
        return math.comb(terms + power - 1, power) if terms <= _TERMS else terms
    return 1


def _levels(expression: Basic) -> int:
    """Return how deep maxima and minima are nested; SymPy compares each with every other."""
    inside = max(map(_levels, expression.args), default=0)
    return inside + isinstance(expression, sympy.Max | sympy.Min)


def _outer(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the nodes of a subscript, but not those of subscripts inside it."""
    yield node
    if not isinstance(node, ast.Subscript):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from _outer(child)


def _linear(node: ast.BinOp) -> bool:
    """Tell whether an operation keeps a subscript affine."""
    if isinstance(node.op, ast.Mult):
        return any(
            not any(isinstance(part, ast.Name) for part in ast.walk(side))
            for side in (node.left, node.right)
        )
    return isinstance(node.op, _SUM)


def _arity(name: str) -> tuple[int, int]:
    if name in ("max", "min"):
        return 2, _CHOICES
    return (1, 2) if name in ("leaky_relu", "elu") else (1, 1)


def _declared(variable: Variable) -> str:
    return str(variable.access).replace(", ", ",")
