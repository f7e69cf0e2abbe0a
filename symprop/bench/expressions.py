"""The rules by which each kind of expression becomes operations on whole arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
from sympy import Add, Basic, Expr, Idx, Indexed, Mul, Piecewise, Pow, Rational, Sum, Symbol
from sympy.core.relational import Relational

from symprop.bench.lines import SAMPLES, Axes, Lines, Term, union
from symprop.equation import Equation, name_of
from symprop.errors import SympropError
from symprop.functions import Normalisation, Reduction
from symprop.indices import accesses, bound_indices, branches, guarded, size, where
from symprop.ranges import grid

__all__ = ["TranslationError", "Writer"]

_FUNCTIONS = {
    name: name.lower()
    for name in (
        "exp log tanh sigmoid softplus relu leaky_relu elu normal_cdf gelu silu step sin cos tan "
        "asin acos atan sinh cosh asinh acosh atanh atan2 erf erfc sign floor ceiling expm1 log1p "
        "Abs"
    ).split()
}
_INVERSES = {
    sympy.sec: sympy.cos, sympy.csc: sympy.sin, sympy.cot: sympy.tan,
    sympy.sech: sympy.cosh, sympy.csch: sympy.sinh, sympy.coth: sympy.tanh,
}  # fmt: skip
_RELATIONS = {
    sympy.Gt: ">", sympy.Ge: ">=", sympy.Lt: "<", sympy.Le: "<=", sympy.Eq: "==", sympy.Ne: "!=",
}  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class TranslationError(SympropError, ValueError):
    """An expression has no form in an array library."""


class Writer(Lines):
    """The lines of a program, written from equations."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes = shapes
        self.known: dict[str, Term] = {}
        self.cache: dict[Basic, Term] = {}

    def define(self, equation: Equation) -> None:
        """Write an equation of the network, its value under its own name."""
        term = self.value(equation.rhs)
        samples = (SAMPLES,) if SAMPLES in term.axes else ()
        term = self.spread(term, (*samples, *equation.indices))
        if self.lines and self.lines[-1].startswith(f"    {term.code} = "):
            self.lines[-1] = self.lines[-1].replace(term.code, equation.name, 1)
            self.cache = {k: v for k, v in self.cache.items() if v.code != term.code}
        else:
            self.lines.append(f"    {equation.name} = {term.code}")
        self.known[equation.name] = Term(equation.name, term.axes)

    def value(self, node: Basic) -> Term:
        """Return the value of an expression, written once."""
        if node not in self.cache:
            self.cache[node] = self._value(node)
        return self.cache[node]

    def _value(self, node: Basic) -> Term:
        if isinstance(node, Symbol | Indexed) and not isinstance(node, Idx):
            return self._leaf(node)
        if not accesses(node) and node.atoms(Idx) and not _binds(node):
            return self._grid(node)
        if not accesses(node) and not node.atoms(Idx) and not node.free_symbols:
            return Term(_digits(node), number=True)
        for kind, rule in self._rules().items():
            if isinstance(node, kind):
                return rule(node)
        raise TranslationError(f"{node}: no array library is known to have {type(node).__name__}")

    def _rules(self) -> dict[Any, Callable[[Any], Term]]:
        return {
            Sum: lambda node: self._contraction(node.function, bound_indices(node)),
            Normalisation: self._normalisation,
            Reduction: self._reduction,
            Piecewise: self._piecewise,
            Relational | sympy.And | sympy.Or | sympy.Not: self._condition,
            Add: self._addition,
            Mul: self._multiplication,
            Pow: self._power,
            sympy.Max | sympy.Min: self._extremum,
            Basic: self._function,
        }

    def _leaf(self, leaf: Expr) -> Term:
        term = self.known[name_of(leaf)]
        if not isinstance(leaf, Indexed):
            return term
        return self.read(term, self.shapes[name_of(leaf)], leaf.indices)

    def _grid(self, node: Basic) -> Term:
        """Return a value that depends on indices alone."""
        axes = tuple(sorted(node.atoms(Idx), key=lambda index: index.sort_key()))
        values = np.array(grid(node, axes))  # PyTorch takes none that cannot be written
        return self.constant(values if values.dtype == bool else values.astype(np.float64), axes)

    def _addition(self, node: Add) -> Term:
        fused = self._affine(node)
        terms = [] if fused is None else [(False, fused[0])]
        for part in node.args if fused is None else fused[1]:
            minus = part.as_coeff_Mul()[0] == -1
            terms.append((minus, self.value(-part if minus else part)))
        terms.sort(key=lambda signed: signed[0])
        axes = union(term.axes for _, term in terms)
        if len(terms) == 1 and not terms[0][0]:
            return terms[0][1]
        code = "".join(
            f" {'-' if minus else '+'} {self.aligned(term, axes)}" for minus, term in terms
        )
        return self.emit(code.removeprefix(" + ").strip(), axes)

    def _affine(self, node: Add) -> tuple[Term, list[Expr]] | None:
        """Return a matrix product with its bias as one operation, and the other terms."""
        for part in node.args:
            product = self._matrix_product(part) if isinstance(part, Sum) else None
            for bias in node.args if product else ():
                term = self.value(bias) if isinstance(bias, Indexed) else None
                if product and term and term.axes == product[1][1:]:
                    rest = [other for other in node.args if other not in (part, bias)]
                    (left, right), axes = product
                    return self.emit(f"_affine({left}, {right}, {term.code})", axes), rest
        return None

    def _matrix_product(self, node: Sum) -> tuple[tuple[str, str], Axes] | None:
        factors = Mul.make_args(node.function)
        if len(factors) != 2 or not all(isinstance(factor, Indexed) for factor in factors):
            return None
        return _matmul([self.value(factor) for factor in factors], bound_indices(node))

    def _multiplication(self, node: Mul) -> Term:
        above, below = [], []
        for part in node.args:
            if isinstance(part, Pow) and part.exp.is_Integer and part.exp.is_negative:
                below.append(self.value(1 / part))
            elif part != -1:
                above.append(self.value(part))
        terms = (*above, *below)
        axes = union(term.axes for term in terms)
        code = "*".join(self.aligned(term, axes) for term in above) or "1.0"
        code += "".join(f"/{self.aligned(term, axes)}" for term in below)
        return self.emit(f"-{code}" if -1 in node.args else code, axes)

    def _contraction(self, body: Expr, bound: Axes) -> Term:
        """Return the sum of `body` over `bound`."""
        if isinstance(body, Add) and any(map(self._spans, body.args)):
            terms = [self._contraction(part, bound) for part in body.args]
            axes = union(term.axes for term in terms)
            return self.emit(" + ".join(self.aligned(term, axes) for term in terms), axes)
        terms = [self.value(part) for part in _factors(body)]
        arrays = [term for term in terms if term.axes]
        scalars = [term.code for term in terms if not term.axes]
        absent = set(bound).difference(*(term.axes for term in arrays))
        scalars += [f"{float(np.prod([size(index) for index in absent]))}"] if absent else []
        present = tuple(index for index in bound if index not in absent)
        total = self._products(arrays, present) if arrays else None
        if total is None:
            return self.emit("*".join(scalars))
        return self.emit("*".join((*scalars, total.code)), total.axes) if scalars else total

    def _spans(self, part: Expr) -> bool:
        """Tell whether a term is a product of arrays that do not all have the same axes."""
        axes = [set(self.value(f).axes) for f in Mul.make_args(part) if accesses(f)]
        return any(other != axes[0] for other in axes)

    def _products(self, arrays: list[Term], bound: Axes) -> Term:
        axes = union(term.axes for term in arrays)
        kept = tuple(axis for axis in axes if axis not in bound)
        if all(set(term.axes) == set(axes) for term in arrays):
            code = "*".join(self.aligned(term, axes) for term in arrays)
            term = self.emit(code, axes) if len(arrays) > 1 else arrays[0]
            places = tuple(term.axes.index(index) for index in bound)
            return self.emit(f"_sum({term.code}, {places})", kept) if bound else term
        pair = _matmul(arrays, bound)
        if pair:
            return self.emit(f"{pair[0][0]} @ {pair[0][1]}", pair[1])
        letters = dict(zip(axes, _LETTERS, strict=False))
        read = ",".join("".join(letters[axis] for axis in term.axes) for term in arrays)
        written = "".join(letters[axis] for axis in kept)
        codes = ", ".join(term.code for term in arrays)
        return self.emit(f"_einsum('{read}->{written}', {codes})", kept)

    def _power(self, node: Pow) -> Term:
        base, exponent = node.args
        if exponent == Rational(1, 2):
            term = self.value(base)
            return self.emit(f"_sqrt({self.array(term).code})", term.axes)
        if exponent.is_number and exponent.is_negative:
            below = self.value(base**-exponent)
            return self.emit(f"1.0/{below.code}", below.axes)
        term = self.value(base)
        if exponent == 2:
            return self.emit(f"{term.code}*{term.code}", term.axes)
        if exponent.is_Integer:
            return self.emit(f"{term.code}**{exponent}", term.axes)
        power = self.value(exponent)
        axes = union((term.axes, power.axes))
        return self.emit(f"{self.aligned(term, axes)}**{self.aligned(power, axes)}", axes)

    def _extremum(self, node: Expr) -> Term:
        name = "maximum" if isinstance(node, sympy.Max) else "minimum"
        result, *others = (self.array(self.value(part)) for part in node.args)
        for term in others:
            axes = union((result.axes, term.axes))
            pair = f"{self.aligned(result, axes)}, {self.aligned(term, axes)}"
            result = self.emit(f"_{name}({pair})", axes)
        return result

    def _function(self, node: Basic) -> Term:
        if type(node) in _INVERSES:
            return self.value(1 / _INVERSES[type(node)](*node.args))
        if isinstance(node, sympy.Mod):
            first, second = (self.value(part) for part in node.args)
            axes = union((first.axes, second.axes))
            return self.emit(f"{self.aligned(first, axes)} % {self.aligned(second, axes)}", axes)
        name = _FUNCTIONS.get(type(node).__name__)
        if name is None:
            raise TranslationError(
                f"{node}: no array library is known to have {type(node).__name__}"
            )
        terms = [self.array(self.value(part)) for part in node.args]
        axes = union(term.axes for term in terms)
        codes = ", ".join(self.aligned(term, axes) for term in terms)
        return self.emit(f"_{name}({codes})", axes)

    def _piecewise(self, node: Piecewise) -> Term:
        *others, (last, certain) = branches(node)
        if certain != sympy.true:
            raise TranslationError(f"{node}: no value where none of its conditions holds")
        result = self.value(last)
        for value, condition in reversed(others):
            test, chosen = self.value(condition), self.value(value)
            if chosen.number and result.number:
                chosen = self.array(chosen)
            axes = union((test.axes, chosen.axes, result.axes))
            parts = ", ".join(self.aligned(term, axes) for term in (test, chosen, result))
            result = self.emit(f"_where({parts})", axes)
        return result

    def _condition(self, node: Basic) -> Term:
        terms = [self.value(part) for part in node.args]
        axes = union(term.axes for term in terms)
        codes = [self.aligned(term, axes) for term in terms]
        if isinstance(node, sympy.Not):
            return self.emit(f"~{codes[0]}", axes)
        sign = {sympy.And: "&", sympy.Or: "|"}.get(type(node)) or _RELATIONS[type(node)]
        return self.emit(f" {sign} ".join(codes), axes)

    def _reduction(self, node: Reduction) -> Term:
        body, bound = self.value(node.body), bound_indices(node)
        body = self.spread(body, union((body.axes, bound)))
        places = tuple(body.axes.index(index) for index in bound)
        kept = (axis for axis in body.axes if axis not in bound)
        return self.emit(f"_{type(node).__name__}({body.code}, {places})", kept)

    def _normalisation(self, node: Normalisation) -> Term:
        body, (index,) = self.value(node.body), bound_indices(node)
        body = self.spread(body, union((body.axes, (index,))))
        shares = self.emit(
            f"_{type(node).__name__}({body.code}, {body.axes.index(index)})", body.axes
        )
        own = [axis for axis in body.axes if axis != SAMPLES]
        at = [node.at if axis == index else axis for axis in own]
        return self.read(shares, [size(axis) for axis in own], at)


def _factors(body: Expr) -> tuple[Expr, ...]:
    """Return the factors of a body; a condition on indices goes to one that has them all.

    >>> i, p = Idx("i", 4), Idx("p", 3)
    >>> x, w = sympy.IndexedBase("x"), sympy.IndexedBase("w")
    >>> _factors(Piecewise((w[p] * x[i + p - 1], i + p > 0), (0, True)))
    (w[p], Piecewise((x[i + p - 1], i + p > 0), (0, True)))
    """
    value, condition = guarded(body)
    factors = list(Mul.make_args(value))
    if condition is sympy.true:
        return tuple(factors)
    for place, factor in enumerate(factors):
        if not accesses(condition) and condition.atoms(Idx) <= factor.atoms(Idx):
            return (*factors[:place], where(factor, condition), *factors[place + 1 :])
    return (body,)


def _matmul(terms: Sequence[Term], bound: Axes) -> tuple[tuple[str, str], Axes] | None:
    """Return the factors of a plain matrix product, rows first, and its axes; else None."""
    if len(terms) != 2 or len(bound) != 1 or any(len(term.axes) != 2 for term in terms):
        return None
    left, right = sorted(terms, key=lambda term: SAMPLES not in term.axes)
    shared = set(left.axes) & set(right.axes)
    if shared != set(bound):
        return None
    (index,) = bound
    rows = left.code if left.axes[1] == index else f"{left.code}.T"
    columns = right.code if right.axes[0] == index else f"{right.code}.T"
    return (rows, columns), tuple(a for t in (left, right) for a in t.axes if a != index)


def _binds(node: Basic) -> bool:
    return any(bound_indices(part) for part in sympy.preorder_traversal(node))


def _digits(node: Basic) -> str:
    """Return a number as Python writes it; truth values too."""
    if node in (sympy.true, sympy.false):
        return str(bool(node))
    text = repr(float(node))
    return f"({text})" if text.startswith("-") else text
