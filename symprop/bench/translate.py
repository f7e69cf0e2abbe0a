"""From equations in index notation to a program of whole arrays, for any array library.

An expression becomes an array with named axes, the samples' first. A sum of products becomes
a matrix product or an ``einsum``, softmax and logsumexp the library's own stable ones, a piecewise
value ``where`` with both branches read in range, and subscripts such as ``x[c, 2*r + p]`` or
``E[token[s], d]`` advanced indexing. The program is Python text, one line an operation, so that it
costs a library no more than what a person would write::

    def loss(parameters, data):
        W, b, = parameters
        x, t, = data
        _n = x.shape[0]
        y = _affine(x, W, b)
        _1 = y - t
        ...
        return _mean(L)

Names that begin with an underscore are the library's functions (`symprop.bench.arrays`), constant
arrays ``_c1``, ... and intermediate values ``_1``, ...; a network's own names begin with a letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy import Add, Basic, Expr, Idx, Indexed, Mul, Piecewise, Pow, Rational, Sum, Symbol
from sympy.core.relational import Relational

from symprop.bench.counting import needed
from symprop.derivation import Derivation
from symprop.equation import Equation, name_of
from symprop.errors import SympropError
from symprop.functions import Normalisation, Reduction
from symprop.indices import accesses, bound_indices, branches, piecewise, size, substitute
from symprop.network import Network
from symprop.optimizers import Optimizer

__all__ = ["SAMPLES", "Program", "TranslationError", "translate", "translate_rule"]

SAMPLES = Idx("samples", 1)
"""The axis of the samples; its size is known when the program runs."""

Axes = tuple[Idx, ...]

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


@dataclass(frozen=True, slots=True)
class Program:
    """A translated function: its text, its name and the constant arrays that it reads."""

    name: str
    source: str
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def load(
        self, namespace: dict[str, Any], constant: Callable[[NDArray[Any]], Any]
    ) -> Callable[..., Any]:
        """Return the function, with the library's `namespace`; `constant` converts an array."""
        names = {f"_{name}": value for name, value in namespace.items()}
        names |= {name: constant(array) for name, array in self.constants.items()}
        exec(compile(self.source, f"<{self.name} as arrays>", "exec", dont_inherit=True), names)
        function: Callable[..., Any] = names[self.name]
        return function


@dataclass(frozen=True, slots=True)
class _Term:
    """An array by its name in the program (or a number by its digits), and its axes."""

    code: str
    axes: Axes = ()
    number: bool = False


def translate(derivation: Derivation) -> Program:
    """Return ``loss(parameters, data)``, the mean loss of the samples.

    `parameters` and `data` (inputs, then targets) come in the order of their declaration.
    Raises `TranslationError` for an expression that no array library knows.
    """
    network = derivation.network
    writer = _Writer(_shapes(network, derivation.forward))
    for parameter in network.parameters:
        writer.known[parameter.name] = _Term(parameter.name, parameter.indices)
    for variable in (*network.inputs, *network.targets):
        writer.known[variable.name] = _Term(variable.name, (SAMPLES, *variable.indices))
    for equation in needed(derivation.forward):
        writer.define(equation)
    loss = writer.known[derivation.loss_name]
    data = [variable.name for variable in (*network.inputs, *network.targets)]
    lines = ["def loss(parameters, data):"]
    lines += [_unpack([p.name for p in network.parameters], "parameters")]
    lines += [_unpack(data, "data")]
    lines += [f"    _n = {data[0]}.shape[0]"] if data else []
    lines += writer.lines
    lines += [f"    return {f'_mean({loss.code})' if loss.axes else loss.code}", ""]
    return Program("loss", "\n".join(lines), writer.constants)


def translate_rule(optimizer: Optimizer) -> Program:
    """Return ``update(theta, gradient, t, slots, hyperparameters) -> (theta, slots)``.

    `slots` and `hyperparameters` are tuples in the optimizer's order.

    >>> from symprop.optimizers import find
    >>> print(translate_rule(find("sgd")).source)
    def update(theta, gradient, t, slots, hyperparameters):
        learning_rate, = hyperparameters
        _1 = gradient*learning_rate
        _2 = theta - _1
        return _2, ()
    <BLANKLINE>
    """
    writer = _Writer({})
    names = ("theta", "gradient", "t", *optimizer.slots, *optimizer.hyperparameters)
    writer.known = {name: _Term(name) for name in names}
    for equation in optimizer.equations:
        writer.known[equation.name] = writer.value(equation.rhs)
        writer.cache.clear()
    slots = [writer.known[slot].code for slot in optimizer.slots]
    lines = ["def update(theta, gradient, t, slots, hyperparameters):"]
    lines += [_unpack(optimizer.slots, "slots")] if slots else []
    lines += [_unpack(optimizer.hyperparameters, "hyperparameters")]
    lines += writer.lines
    lines += [f"    return {writer.known['theta'].code}, ({''.join(f'{s}, ' for s in slots)})", ""]
    return Program("update", "\n".join(lines))


def _unpack(names: Iterable[str], source: str) -> str:
    listed = list(names)
    return f"    {', '.join(listed)}, = {source}" if listed else f"    assert not {source}"


def _shapes(network: Network, forward: Iterable[Equation]) -> dict[str, tuple[int, ...]]:
    shapes = {variable.name: variable.shape for variable in network.variables}
    return shapes | {eq.name: tuple(map(size, eq.indices)) for eq in forward}


class _Writer:
    """The lines of a program as they are written."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.known: dict[str, _Term] = {}
        self.cache: dict[Basic, _Term] = {}
        self.lines: list[str] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.count = 0

    # lines

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
        self.known[equation.name] = _Term(equation.name, term.axes)

    def emit(self, code: str, axes: Iterable[Idx] = ()) -> _Term:
        """Write one operation and return its value."""
        self.count += 1
        name = f"_{self.count}"
        self.lines.append(f"    {name} = {code}")
        return _Term(name, tuple(axes))

    def constant(self, array: NDArray[Any], axes: Iterable[Idx] = ()) -> _Term:
        """Return a constant array."""
        name = f"_c{len(self.constants) + 1}"
        self.constants[name] = array
        return _Term(name, tuple(axes))

    # axes

    def aligned(self, term: _Term, axes: Axes) -> str:
        """Return the code of `term` so that it broadcasts against arrays with `axes`."""
        own = [axis for axis in axes if axis in term.axes]
        code = term.code
        if own != list(term.axes):
            code = f"_permute({code}, {tuple(term.axes.index(axis) for axis in own)})"
        if not own:
            return code
        shown = axes[axes.index(own[0]) :]
        if len(shown) == len(own):
            return code
        return f"{code}[{', '.join(':' if axis in own else 'None' for axis in shown)}]"

    def spread(self, term: _Term, axes: Axes) -> _Term:
        """Return `term` with exactly these axes, repeated along those that it has not."""
        if term.axes == axes:
            return term
        code = self.aligned(term, axes)
        if set(term.axes) == set(axes):
            return self.emit(code, axes)
        shape = ", ".join("_n" if axis == SAMPLES else str(size(axis)) for axis in axes)
        code = f"_number({code})" if term.number else code
        return self.emit(f"_broadcast({code}, ({shape},))", axes)

    def array(self, term: _Term) -> _Term:
        """Return a number as an array without axes."""
        return self.emit(f"_number({term.code})") if term.number else term

    # expressions

    def value(self, node: Basic) -> _Term:
        """Return the value of an expression, written once."""
        if node not in self.cache:
            self.cache[node] = self._value(node)
        return self.cache[node]

    def _value(self, node: Basic) -> _Term:
        if isinstance(node, Symbol | Indexed) and not isinstance(node, Idx):
            return self._leaf(node)
        if not accesses(node) and node.atoms(Idx) and not _binds(node):
            return self._grid(node)
        if not accesses(node) and not node.atoms(Idx) and not node.free_symbols:
            return _Term(_digits(node), number=True)
        for kind, rule in self._rules().items():
            if isinstance(node, kind):
                return rule(node)
        raise TranslationError(f"{node}: no array library is known to have {type(node).__name__}")

    def _rules(self) -> dict[Any, Callable[[Any], _Term]]:
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

    def _leaf(self, leaf: Expr) -> _Term:
        term = self.known[name_of(leaf)]
        if not isinstance(leaf, Indexed):
            return term
        return self.read(term, self.shapes[name_of(leaf)], leaf.indices)

    def _grid(self, node: Basic) -> _Term:
        """Return a value that depends on indices alone."""
        axes = tuple(sorted(node.atoms(Idx), key=lambda index: index.sort_key()))
        values = grid(node, axes)
        return self.constant(values if values.dtype == bool else values.astype(np.float64), axes)

    def _addition(self, node: Add) -> _Term:
        fused = self._affine(node)
        terms = [] if fused is None else [(False, fused[0])]
        for part in node.args if fused is None else fused[1]:
            minus = part.as_coeff_Mul()[0] == -1
            terms.append((minus, self.value(-part if minus else part)))
        terms.sort(key=lambda signed: signed[0])
        axes = _union(term.axes for _, term in terms)
        if len(terms) == 1 and not terms[0][0]:
            return terms[0][1]
        code = "".join(
            f" {'-' if minus else '+'} {self.aligned(term, axes)}" for minus, term in terms
        )
        return self.emit(code.removeprefix(" + ").strip(), axes)

    def _affine(self, node: Add) -> tuple[_Term, list[Expr]] | None:
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

    def _multiplication(self, node: Mul) -> _Term:
        above, below = [], []
        for part in node.args:
            if isinstance(part, Pow) and part.exp.is_Integer and part.exp.is_negative:
                below.append(self.value(1 / part))
            elif part != -1:
                above.append(self.value(part))
        terms = (*above, *below)
        axes = _union(term.axes for term in terms)
        code = "*".join(self.aligned(term, axes) for term in above) or "1.0"
        code += "".join(f"/{self.aligned(term, axes)}" for term in below)
        return self.emit(f"-{code}" if -1 in node.args else code, axes)

    def _contraction(self, body: Expr, bound: Axes) -> _Term:
        """Return the sum of `body` over `bound`."""
        if isinstance(body, Add) and any(map(self._spans, body.args)):
            terms = [self._contraction(part, bound) for part in body.args]
            axes = _union(term.axes for term in terms)
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

    def _products(self, arrays: list[_Term], bound: Axes) -> _Term:
        axes = _union(term.axes for term in arrays)
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

    def _power(self, node: Pow) -> _Term:
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
        axes = _union((term.axes, power.axes))
        return self.emit(f"{self.aligned(term, axes)}**{self.aligned(power, axes)}", axes)

    def _extremum(self, node: Expr) -> _Term:
        name = "maximum" if isinstance(node, sympy.Max) else "minimum"
        result, *others = (self.array(self.value(part)) for part in node.args)
        for term in others:
            axes = _union((result.axes, term.axes))
            pair = f"{self.aligned(result, axes)}, {self.aligned(term, axes)}"
            result = self.emit(f"_{name}({pair})", axes)
        return result

    def _function(self, node: Basic) -> _Term:
        if type(node) in _INVERSES:
            return self.value(1 / _INVERSES[type(node)](*node.args))
        if isinstance(node, sympy.Mod):
            first, second = (self.value(part) for part in node.args)
            axes = _union((first.axes, second.axes))
            return self.emit(f"{self.aligned(first, axes)} % {self.aligned(second, axes)}", axes)
        name = _FUNCTIONS.get(type(node).__name__)
        if name is None:
            raise TranslationError(
                f"{node}: no array library is known to have {type(node).__name__}"
            )
        terms = [self.array(self.value(part)) for part in node.args]
        axes = _union(term.axes for term in terms)
        codes = ", ".join(self.aligned(term, axes) for term in terms)
        return self.emit(f"_{name}({codes})", axes)

    def _piecewise(self, node: Piecewise) -> _Term:
        *others, (last, certain) = branches(node)
        if certain != sympy.true:
            raise TranslationError(f"{node}: no value where none of its conditions holds")
        result = self.value(last)
        for value, condition in reversed(others):
            test, chosen = self.value(condition), self.value(value)
            if chosen.number and result.number:
                chosen = self.array(chosen)
            axes = _union((test.axes, chosen.axes, result.axes))
            parts = ", ".join(self.aligned(term, axes) for term in (test, chosen, result))
            result = self.emit(f"_where({parts})", axes)
        return result

    def _condition(self, node: Basic) -> _Term:
        terms = [self.value(part) for part in node.args]
        axes = _union(term.axes for term in terms)
        codes = [self.aligned(term, axes) for term in terms]
        if isinstance(node, sympy.Not):
            return self.emit(f"~{codes[0]}", axes)
        sign = {sympy.And: "&", sympy.Or: "|"}.get(type(node)) or _RELATIONS[type(node)]
        return self.emit(f" {sign} ".join(codes), axes)

    def _reduction(self, node: Reduction) -> _Term:
        body, bound = self.value(node.body), bound_indices(node)
        body = self.spread(body, _union((body.axes, bound)))
        places = tuple(body.axes.index(index) for index in bound)
        kept = (axis for axis in body.axes if axis not in bound)
        return self.emit(f"_{type(node).__name__}({body.code}, {places})", kept)

    def _normalisation(self, node: Normalisation) -> _Term:
        body, (index,) = self.value(node.body), bound_indices(node)
        body = self.spread(body, _union((body.axes, (index,))))
        shares = self.emit(
            f"_{type(node).__name__}({body.code}, {body.axes.index(index)})", body.axes
        )
        own = [axis for axis in body.axes if axis != SAMPLES]
        at = [node.at if axis == index else axis for axis in own]
        return self.read(shares, [size(axis) for axis in own], at)

    # subscripts

    def read(self, term: _Term, shape: Sequence[int], subscripts: Sequence[Expr]) -> _Term:
        """Return an array at subscripts: the whole, a slice of it, or what stands there."""
        samples = tuple(axis for axis in term.axes if axis == SAMPLES)
        simple = [_is_simple(subscript, subscripts) for subscript in subscripts]
        if all(simple):
            return self._apart(term, samples, shape, subscripts)
        return self._together(term, samples, shape, subscripts, simple)

    def _apart(
        self, term: _Term, samples: Axes, shape: Sequence[int], subscripts: Sequence[Expr]
    ) -> _Term:
        """Read at subscripts that share no index, axis by axis from the last."""
        axes: Axes = ()
        for place in reversed(range(len(shape))):
            subscript, before = subscripts[place], (":, " * (len(samples) + place))
            if isinstance(subscript, Idx):
                axes = (subscript, *axes)
                if size(subscript) != shape[place]:
                    term = self.emit(f"{term.code}[{before}:{size(subscript)}]")
            elif subscript.is_Integer:
                term = self.emit(f"{term.code}[{before}{subscript}]")
            else:
                own = tuple(sorted(subscript.atoms(Idx), key=lambda index: index.sort_key()))
                where = self.constant(_places(subscript, own, shape[place]))
                term = self.emit(f"{term.code}[{before}{where.code}]")
                axes = (*own, *axes)
        return _Term(term.code, (*samples, *axes))

    def _together(
        self, term: _Term, samples: Axes, shape: Sequence[int], subscripts: Sequence[Expr],
        simple: Sequence[bool],
    ) -> _Term:  # fmt: skip
        """Read at subscripts that share indices or are data, by one advanced indexing."""
        values = {s: self.value(s) for s in subscripts if accesses(s)}
        joined = [not plain or not isinstance(s, Idx) or size(s) != length
                  for plain, s, length in zip(simple, subscripts, shape, strict=True)]  # fmt: skip
        first, last = joined.index(True), len(joined) - joined[::-1].index(True)
        batched = bool(samples) or any(SAMPLES in value.axes for value in values.values())
        if (samples and any(values)) or not all(joined[first:last]) or (samples and first):
            first, last = 0, len(joined)
        found: list[Idx] = []
        for s in subscripts[first:last]:
            found += values[s].axes if s in values else sorted(s.atoms(Idx), key=str)
        axes = _union([(SAMPLES,) if batched and (samples or values) else (), tuple(found)])
        indexed = bool(samples) and SAMPLES in axes
        parts = [self.aligned(_Term("_arange(_n)", (SAMPLES,)), axes)] if indexed else []
        parts += [":"] * first
        for s, length in zip(subscripts[first:last], shape[first:last], strict=True):
            parts.append(self._place(s, length, axes, values))
        before = tuple(subscripts[:first])
        after = tuple(subscripts[last:])
        return self.emit(f"{term.code}[{', '.join(parts)}]", (*before, *axes, *after))

    def _place(self, subscript: Expr, length: int, axes: Axes, values: dict[Any, _Term]) -> str:
        if subscript in values:
            return self.aligned(values[subscript], axes)
        own = tuple(axis for axis in axes if axis in subscript.atoms(Idx))
        return self.aligned(self.constant(_places(subscript, own, length), own), axes)


def grid(node: Basic, axes: Axes) -> NDArray[Any]:
    """Return the values of an expression of indices, an axis for each of `axes`.

    >>> i, j = Idx("i", 2), Idx("j", 3)
    >>> grid(2 * i + j, (i, j)).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    plain = {axis: Symbol(f"q{number}", integer=True) for number, axis in enumerate(axes)}
    function = sympy.lambdify(list(plain.values()), substitute(node, plain), "numpy")
    open_grid = np.ix_(*(np.arange(size(axis)) for axis in axes))
    values = np.asarray(function(*open_grid))
    return np.array(np.broadcast_to(values, tuple(map(size, axes))))


def _places(subscript: Expr, axes: Axes, length: int) -> NDArray[np.int64]:
    """Return the values of a subscript; one out of range is only read where it does not count."""
    return np.clip(grid(subscript, axes), 0, length - 1).astype(np.int64)


def _is_simple(subscript: Expr, others: Sequence[Expr]) -> bool:
    """Tell whether a subscript is made of indices that no other one has."""
    if accesses(subscript):
        return False
    own = subscript.atoms(Idx)
    return not any(own & other.atoms(Idx) for other in others if other is not subscript) and (
        sum(other == subscript for other in others) == 1 or not own
    )


def _factors(body: Expr) -> tuple[Expr, ...]:
    """Return the factors of a body; a condition on indices goes to one that has them all.

    >>> i, p = Idx("i", 4), Idx("p", 3)
    >>> x, w = sympy.IndexedBase("x"), sympy.IndexedBase("w")
    >>> _factors(Piecewise((w[p] * x[i + p - 1], i + p > 0), (0, True)))
    (w[p], Piecewise((x[i + p - 1], i + p > 0), (0, True)))
    """
    if not isinstance(body, Piecewise) or len(body.args) != 2 or body.args[1].expr != 0:
        return tuple(Mul.make_args(body))
    value, condition = body.args[0].args
    factors = list(Mul.make_args(value))
    for place, factor in enumerate(factors):
        if not accesses(condition) and condition.atoms(Idx) <= factor.atoms(Idx):
            masked = piecewise((factor, condition), (sympy.Integer(0), sympy.true))
            return (*factors[:place], masked, *factors[place + 1 :])
    return (body,)


def _matmul(terms: Sequence[_Term], bound: Axes) -> tuple[tuple[str, str], Axes] | None:
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


def _union(groups: Iterable[Axes]) -> Axes:
    """Return the axes of all groups, that of the samples first."""
    axes = tuple(dict.fromkeys(axis for group in groups for axis in group))
    return tuple(sorted(axes, key=lambda axis: axis != SAMPLES))


def _binds(node: Basic) -> bool:
    return any(bound_indices(part) for part in sympy.preorder_traversal(node))


def _digits(node: Basic) -> str:
    """Return a number as Python writes it; truth values too."""
    if node in (sympy.true, sympy.false):
        return str(bool(node))
    text = repr(float(node))
    return f"({text})" if text.startswith("-") else text
