"""The oracle: what equations are worth to 60 digits, and how far a kernel may be from it.

It evaluates `Equation`s, forward and adjoint, with mpmath on NumPy arrays of
`mpf`, one axis for each index, and shares no code with differentiation, lowering
and printing. Beside every value it carries two more numbers, in float64:

- the **magnitude** M, the sum of |terms|, all the way down to inputs and parameters:
  M(a + b) = M(a) + M(b), M(a*b) = M(a)*M(b), M(f(x)) = |f(x)| + |f'(x)|*M(x);
- the **error** E, a bound for what a floating-point evaluation may be off: each
  operation adds one machine epsilon, twice its rounding, times the sum of its
  |operands| (a sum of n terms n of them, whatever their order and what they are
  added to; a function its allowance) and hands the errors of its operands on by
  its derivatives (a running error analysis: Higham, "Accuracy and Stability of
  Numerical Algorithms", 2002, section 3.3).

The test is |kernel - value| <= E, and E/(epsilon*M) is the number of roundings that it
allows: about the number of operations on the way from the inputs to the value.

Three things besides rounding go into E. *Underflow*: each operation adds the
smallest normal number, for results below it may be flushed to zero. *Overflow*: an
intermediate that the floating-point format cannot hold makes E infinite, and so
does an operand whose error reaches a pole. *Kinks*: where a condition compares two
different values that are closer than their errors, either branch may be taken, so
E contains the difference of the branches, and the sample is marked undecided. Values
that are equal are equal in floating point too: they are reads of one value, or zeros.

The first axis of every array counts samples (or is 1 where all samples share it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sympy import Basic, Expr, Idx, Indexed, Piecewise, Sum, Symbol

from symprop.errors import VerificationError
from symprop.functions import log_softmax, logsumexp, reduce_max, reduce_min, softmax
from symprop.indices import bound_indices, size
from symprop.network import Equation
from symprop.verification.precise import (
    DIGITS,
    INF,
    MP,
    NAN,
    Arithmetic,
    Bools,
    Floats,
    Objects,
    Value,
    arithmetic,
    exact_sum,
    is_finite,
)
from symprop.verification.slopes import (
    POLES,
    POWER,
    RECIPROCAL,
    RULES,
    STEPS,
    Rule,
    Steps,
    map_exp,
    map_log,
)

__all__ = ["Evaluation", "Value", "evaluate", "known"]

Axes = tuple[Idx, ...]

_NOWHERE = -(1 << 40)
"""A subscript out of range of every tensor, whatever is added to it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All values by name; the samples in which a kink could not be decided, by equation."""

    values: dict[str, Value]
    undecided: dict[str, Bools] = field(default_factory=dict)

    def finite(self, name: str) -> Bools:
        """Return for each sample whether all of `name` is a finite number."""
        exact = self.values[name].exact
        finite = is_finite(exact).astype(bool)
        return finite.reshape(len(finite), -1).all(axis=1)


@dataclass(frozen=True, slots=True)
class _Condition:
    """A truth value at each point, and where rounding could turn it."""

    truth: Bools
    undecided: Bools


_RELATIONS: dict[type[Basic], Callable[[Any], Any]] = {
    sympy.Gt: lambda difference: difference > 0,
    sympy.Ge: lambda difference: difference >= 0,
    sympy.Lt: lambda difference: difference < 0,
    sympy.Le: lambda difference: difference <= 0,
    sympy.Eq: lambda difference: difference == 0,
    sympy.Ne: lambda difference: difference != 0,
}


def known(arrays: Mapping[str, ArrayLike], dtype: DTypeLike = np.float64) -> dict[str, Value]:
    """Return arrays of floating-point numbers as values; the first axis counts samples."""
    form = arithmetic(dtype)
    return {name: form.leaf(np.atleast_1d(array)) for name, array in arrays.items()}


def evaluate(
    equations: Iterable[Equation],
    values: Mapping[str, Value],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    dtype: DTypeLike = np.float64,
) -> Evaluation:
    """Evaluate `equations` in order, starting from `values`.

    `shapes` gives the shape of each tensor that is only ever accumulated into; it
    starts at zero. Raise `VerificationError` for a name without a value and for an
    expression that the oracle has no rule for.

    >>> x, y = Symbol("x"), Symbol("y")
    >>> result = evaluate([Equation(y, x**2 - 1)], known({"x": [3.0]}))
    >>> result.values["y"].approximate
    array([8.])
    """
    run = _Run(dict(values), arithmetic(dtype))
    with np.errstate(all="ignore"):
        for equation in equations:
            run.define(equation, shapes or {})
    return Evaluation(run.values, run.undecided)


def _free(expression: Basic) -> set[Idx]:
    """Return the free indices of `expression`."""
    if isinstance(expression, Idx):
        return {expression}
    bound = bound_indices(expression)
    if not bound:
        return set().union(*map(_free, expression.args))
    outside = expression.args[2:] if isinstance(expression, softmax | log_softmax) else ()
    return (_free(expression.args[0]) - set(bound)).union(*map(_free, outside))


class _Run:
    """One evaluation of a list of equations.

    Arrays inside an equation have one axis for the samples and then one for each
    index in scope (`axes`), of length 1 where nothing depends on that index.
    """

    def __init__(self, values: dict[str, Value], form: Arithmetic) -> None:
        self.values = values
        self.form = form
        self.undecided: dict[str, Bools] = {}
        self.name = ""
        self.cache: dict[tuple[Basic, Axes], Value] = {}

    def define(self, equation: Equation, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Evaluate one equation and store what it defines."""
        self.name = equation.name
        self.cache = {}
        if equation.accumulate:
            self._scatter(equation, shapes)
            return
        value = self._value(equation.rhs, equation.indices)
        shape = tuple(map(size, equation.indices))
        self.values[self.name] = value.map(lambda a: np.broadcast_to(a, (len(a), *shape)))

    def _scatter(self, equation: Equation, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Add the right side into the tensor at the subscripts of the left."""
        subscripts = equation.indices
        axes = tuple(sorted(_free(equation.rhs).union(*map(_free, subscripts)), key=str))
        value = self._value(equation.rhs, axes)
        places = [self._integers(subscript, axes) for subscript in subscripts]
        start = self.values.get(self.name)
        if start is None:
            if self.name not in shapes:
                raise VerificationError(
                    f"{self.name} is accumulated into, but its shape is not known"
                )
            start = self.form.leaf(np.zeros((1, *shapes[self.name])))
        samples = max(len(a) for a in (value.exact, start.exact, *places))
        grid = (samples, *map(size, axes))
        whole = start.map(lambda a: np.array(np.broadcast_to(a, (samples, *a.shape[1:]))))
        terms = value.map(lambda a: np.broadcast_to(a, grid))
        self.values[self.name] = self._add_at(
            whole, [np.broadcast_to(place, grid) for place in places], terms
        )

    def _add_at(self, whole: Value, places: list[NDArray[np.int64]], terms: Value) -> Value:
        """Add `terms` into `whole` in place; an error of one rounding for each term."""
        shape = whole.exact.shape[1:]
        inside = np.ones(terms.exact.shape, dtype=bool)
        for place, length in zip(places, shape, strict=True):
            inside &= (place >= 0) & (place < length)
        if not (terms.exact[~inside] == 0).all():
            raise VerificationError(f"{self.name} is accumulated into outside its shape {shape}")
        samples = np.broadcast_to(_first_axis(terms.exact), inside.shape)
        at = (samples[inside], *(place[inside] for place in places))
        sizes = np.abs(whole.approximate)
        for target, source in zip(whole.arrays, terms.arrays, strict=True):
            np.add.at(target, at, source[inside])
        count = np.zeros(whole.error.shape)
        np.add.at(count, at, 1.0)
        np.add.at(sizes, at, np.abs(terms.approximate[inside]))
        error = whole.error + count * self._rounding(sizes)
        return self.form.value(whole.exact, whole.magnitude, error)

    def _rounding(self, operands: Floats) -> Floats:
        """Return what one operation may be off, given the sum of its |operands| (or |result|)."""
        return self.form.epsilon * operands + self.form.tiny

    def _value(self, expression: Basic, axes: Axes) -> Value:
        key = (expression, axes)
        if key not in self.cache:
            self.cache[key] = self._evaluate(expression, axes)
        return self.cache[key]

    def _evaluate(self, expression: Basic, axes: Axes) -> Value:
        match expression:
            case Idx():
                return self.form.leaf(self._integers(expression, axes))
            case sympy.Mod() if all(part.is_integer for part in expression.args):
                return self.form.leaf(self._integers(expression, axes))
            case sympy.Number() | sympy.NumberSymbol():
                return self._number(expression, axes)
            case Symbol() | Indexed():
                return self._read(expression, axes)
            case sympy.Add():
                parts = [self._value(part, axes) for part in expression.args]
                return self._add(parts, list(map(_terms, expression.args)))
            case sympy.Mul():
                return self._multiply([self._value(part, axes) for part in expression.args])
            case sympy.Pow():
                return self._raise(expression, axes)
            case Piecewise():
                return self._choose(expression, axes)
            case sympy.Max() | sympy.Min():
                parts = [self._value(part, axes) for part in expression.args]
                return self._extremum(parts, isinstance(expression, sympy.Max))
            case _:
                return self._function_or_reduction(expression, axes)

    def _function_or_reduction(self, expression: Basic, axes: Axes) -> Value:
        match expression:
            case Sum():
                return self._sum(expression, axes)
            case logsumexp():
                return self._logsumexp(*self._open(expression, axes))
            case reduce_max() | reduce_min():
                body, _ = self._open(expression, axes)
                return self._extremum(_pieces(body), isinstance(expression, reduce_max))
            case softmax() | log_softmax():
                return self._normalise(expression, axes)
        name = type(expression).__name__
        arguments = [self._value(part, axes) for part in expression.args]
        if name in STEPS:
            return self._step(STEPS[name], arguments[0])
        if name in RULES:
            return self._apply(RULES[name], arguments)
        raise VerificationError(
            f"equation {self.name!r}: the oracle has no rule for {name!r}, so a kernel with it "
            f"cannot be verified; known functions: {', '.join(sorted((*RULES, *STEPS)))}"
        )

    # leaves

    def _number(self, number: Expr, axes: Axes) -> Value:
        if number.is_Rational:
            exact = MP.mpf(int(number.p)) / int(number.q)
        elif number.is_finite:
            exact = MP.make_mpf(sympy.N(number, DIGITS + 5)._mpf_)
        else:
            exact = INF if number is sympy.oo else -INF if number is -sympy.oo else NAN
        return self.form.leaf(np.full((1,) * (1 + len(axes)), exact, dtype=object))

    def _read(self, access: Symbol | Indexed, axes: Axes) -> Value:
        tensor = isinstance(access, Indexed)
        name = str(access.base.label if tensor else access)
        if name not in self.values:
            raise VerificationError(
                f"equation {self.name!r} reads {name!r}, which no equation above it defines"
            )
        stored = self.values[name]
        grids = [self._integers(s, axes) for s in access.indices] if tensor else []
        sample = np.arange(len(stored.exact)).reshape(-1, *(1,) * len(axes))
        inside = np.ones((1,) * sample.ndim, dtype=bool)
        for grid, length in zip(grids, stored.exact.shape[1:], strict=True):
            inside = inside & (grid >= 0) & (grid < length)
        lengths = stored.exact.shape[1:]
        at = (sample, *(g.clip(0, n - 1) for g, n in zip(grids, lengths, strict=True)))
        value = stored.map(lambda a: a[at])
        if inside.all():
            return value
        return Value(
            np.where(inside, value.exact, NAN),
            np.where(inside, value.approximate, np.nan),
            np.where(inside, value.magnitude, np.nan),
            np.where(inside, value.error, np.inf),
        )

    def _integers(self, subscript: Basic, axes: Axes) -> NDArray[np.int64]:
        """Return the values of a subscript; `_NOWHERE` where it is no integer."""
        match subscript:
            case Idx():
                return _grid(subscript, axes)
            case sympy.Integer():
                return np.full((1,) * (1 + len(axes)), int(subscript), dtype=np.int64)
            case sympy.Add():
                parts = [self._integers(part, axes) for part in subscript.args]
                return reduce(np.add, parts)
            case sympy.Mul() if all(part.is_integer for part in subscript.args):
                parts = [self._integers(part, axes) for part in subscript.args]
                return reduce(np.multiply, parts)
            case sympy.Mod() if all(part.is_integer for part in subscript.args):
                return np.mod(*(self._integers(part, axes) for part in subscript.args))
        numbers = self._value(subscript, axes).approximate
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**31)
        return np.where(whole, numbers, _NOWHERE).astype(np.int64)

    # arithmetic

    def _add(self, parts: Sequence[Value], terms: Sequence[int] = ()) -> Value:
        """Return the sum of some values, of which some are sums of so many terms themselves.

        A kernel may begin such a sum with the other values, so that each of its additions rounds a
        number that is as large as they are.
        """
        exact = reduce(np.add, [part.exact for part in parts])
        magnitude = reduce(np.add, [part.magnitude for part in parts])
        error = reduce(np.add, [part.error for part in parts])
        operands = reduce(np.add, [np.abs(part.approximate) for part in parts])
        error = error + (len(parts) - 1) * self._rounding(operands)
        for part, count in zip(parts, terms, strict=False):
            if count:
                error = error + count * self._rounding(operands - np.abs(part.approximate))
        return self.form.value(exact, magnitude, error)

    def _multiply(self, parts: Sequence[Value]) -> Value:
        ordered = sorted(parts, key=lambda part: part.exact.size)
        exact = reduce(np.multiply, [part.exact for part in ordered])
        _, magnitude, error = self._product_bounds(ordered)
        return self.form.value(exact, magnitude, error)

    def _product_bounds(self, parts: Sequence[Value]) -> tuple[Floats, Floats, Floats]:
        """Return |product|, its magnitude and its error: |a|Eb + |b|Ea + EaEb and a rounding."""
        first = parts[0]
        product, magnitude, error = np.abs(first.approximate), first.magnitude, first.error
        for part in parts[1:]:
            other = np.abs(part.approximate)
            magnitude = magnitude * part.magnitude
            error = product * part.error + (other + part.error) * error
            product = product * other
            error = error + self._rounding(product)
        return product, magnitude, error

    def _raise(self, power: sympy.Pow, axes: Axes) -> Value:
        base, exponent = self._value(power.base, axes), power.exp
        if exponent.is_Integer and 0 < int(exponent) <= 64:
            return self._multiply([base] * int(exponent))
        if exponent.is_Number and exponent.is_negative and not exponent.is_Integer:
            upper = self._value(sympy.Pow(power.base, -exponent), axes)
            return self._apply(RECIPROCAL, [upper])
        if exponent == -1:
            return self._apply(RECIPROCAL, [base])
        if exponent.is_Integer and exponent.is_negative:
            return self._apply(RECIPROCAL, [self._value(power.base**-exponent, axes)])
        if exponent == sympy.Rational(1, 2):
            return self._apply(RULES["Sqrt"], [base])
        return self._apply(POWER, [base, self._value(exponent, axes)])

    def _sum(self, node: Sum, axes: Axes) -> Value:
        bound = bound_indices(node)
        inner = (*axes, *bound)
        body, terms = node.args[0], _terms(node)
        parts = body.args if isinstance(body, sympy.Mul) else (body,)
        values = [self._value(part, inner) for part in parts]
        across = tuple(range(1 + len(axes), 1 + len(inner)))
        exact = exact_sum([value.exact for value in values], across)
        bounds = np.broadcast_arrays(*self._product_bounds(values))
        product, magnitude, error = (np.sum(a, axis=across) for a in bounds)
        # an index that no factor depends on has an axis of length 1: its terms are all equal
        lengths = np.broadcast_shapes(*(value.exact.shape for value in values))
        repeats = terms // int(np.prod([lengths[axis] for axis in across]))
        error = repeats * error + terms * self._rounding(repeats * product)
        return self.form.value(exact * MP.mpf(repeats), repeats * magnitude, error)

    # functions

    def _apply(self, rule: Rule, arguments: Sequence[Value]) -> Value:
        """Apply a continuous function.

        An error of the argument is handed on by the largest slope at the argument
        and at both ends of its error interval. One rounding of the argument itself
        is allowed (a mixed forward and backward error), for range reductions.
        """
        exact = rule.exact(*(argument.exact for argument in arguments))
        approximate = exact.astype(np.float64)
        magnitude = np.abs(approximate)
        error = rule.roundings * self.form.epsilon * magnitude + self.form.tiny
        for argument, slope in zip(arguments, self._slopes(rule, arguments), strict=True):
            moved = argument.error
            if rule.roundings:
                moved = moved + self.form.epsilon * np.abs(argument.approximate)
            reached = _times(slope[0], moved)
            error = error + (reached if rule.most is None else np.fmin(reached, rule.most(moved)))
            magnitude = magnitude + _times(slope[1], argument.magnitude)
        return self.form.value(exact, magnitude, error)

    def _slopes(self, rule: Rule, arguments: Sequence[Value]) -> list[tuple[Floats, Floats]]:
        """Return for each argument the largest |slope| nearby and that at the argument."""
        centre = [argument.approximate for argument in arguments]
        low = [argument.approximate - argument.error for argument in arguments]
        high = [argument.approximate + argument.error for argument in arguments]
        found = []
        for slope in rule.slopes:
            ends = [np.abs(slope(*where)) for where in (low, centre, high)]
            largest = np.where(np.isnan(ends).any(axis=0), np.inf, np.max(ends, axis=0))
            if slope in POLES:
                largest = np.where((low[0] <= 0) & (high[0] >= 0), np.inf, largest)
            found.append((largest, ends[1]))
        return found

    def _step(self, steps: Steps, argument: Value) -> Value:
        exact = steps.exact(argument.exact)
        low, high = (
            np.asarray(steps.approximate(argument.approximate + sign * argument.error), np.float64)
            for sign in (-1, 1)
        )
        jump = np.where(steps.at_step(argument.exact).astype(bool), 0.0, np.abs(high - low))
        self._mark(jump > 0)
        return self.form.value(exact, np.abs(exact.astype(np.float64)), jump)

    # conditions

    def _choose(self, node: Piecewise, axes: Axes) -> Value:
        """Evaluate every branch everywhere, then select: what is not taken may be NaN."""
        shape = (1,) * (1 + len(axes))
        chosen = self.form.leaf(np.full(shape, NAN, dtype=object))
        for pair in reversed(node.args):
            value = self._value(pair.args[0], axes)
            condition = self._condition(pair.args[1], axes)
            chosen = self._either(condition, value, chosen)
        return chosen

    def _either(self, condition: _Condition, value: Value, other: Value) -> Value:
        truth = condition.truth
        error = np.where(truth, value.error, other.error)
        if condition.undecided.any():
            larger = np.maximum(value.error, other.error)
            jump = np.abs((value.exact - other.exact).astype(np.float64))
            self._mark(condition.undecided & ~(jump <= value.error + other.error))
            error = np.where(condition.undecided, larger + jump, error)
        return self.form.value(
            np.where(truth, value.exact, other.exact),
            np.where(truth, value.magnitude, other.magnitude),
            error,
        )

    def _condition(self, node: Basic, axes: Axes) -> _Condition:
        match node:
            case sympy.logic.boolalg.BooleanTrue() | sympy.logic.boolalg.BooleanFalse():
                truth = np.full((1,) * (1 + len(axes)), bool(node))
                return _Condition(truth, np.zeros_like(truth))
            case sympy.Not():
                inner = self._condition(node.args[0], axes)
                return _Condition(~inner.truth, inner.undecided)
            case sympy.And() | sympy.Or():
                parts = [self._condition(part, axes) for part in node.args]
                return _combine(parts, isinstance(node, sympy.Or))
            case sympy.core.relational.Relational():
                return self._relation(node, axes)
        raise VerificationError(
            f"equation {self.name!r}: the oracle cannot decide the condition {node}; "
            "use comparisons, And, Or and Not"
        )

    def _relation(self, node: Basic, axes: Axes) -> _Condition:
        left, right = (self._value(side, axes) for side in node.args)
        difference = left.exact - right.exact
        truth = np.asarray(_RELATIONS[node.func](difference), dtype=bool)
        distance = np.abs(difference.astype(np.float64))
        equal = np.asarray(difference == 0, dtype=bool)
        return _Condition(truth, ~equal & ~(distance > left.error + right.error))

    def _extremum(self, parts: Sequence[Value], largest: bool) -> Value:
        """Return the largest or smallest; its error is that of all that could be it."""
        result = parts[0]
        for part in parts[1:]:
            difference = part.exact - result.exact
            better = np.asarray(difference > 0 if largest else difference < 0, dtype=bool)
            close = ~(np.abs(difference.astype(np.float64)) > part.error + result.error)
            error = np.where(better, part.error, result.error)
            error = np.where(close, np.maximum(part.error, result.error), error)
            either = np.isnan(part.approximate) | np.isnan(result.approximate)
            result = self.form.value(
                np.where(either, NAN, np.where(better, part.exact, result.exact)),
                np.where(better, part.magnitude, result.magnitude),
                error,
            )
        return result

    def _mark(self, undecided: Bools) -> None:
        """Note the samples in which the current equation has a kink that is not decided."""
        if undecided.any():
            rows = undecided.reshape(len(undecided), -1).any(axis=1)
            before = self.undecided.get(self.name, np.zeros(1, dtype=bool))
            self.undecided[self.name] = before | rows

    # normalisations

    def _open(self, node: Basic, axes: Axes) -> tuple[Value, int]:
        """Return the body with the bound indices as one last axis, and its length."""
        bound = bound_indices(node)
        body = self._value(node.args[0], (*axes, *bound))
        lengths = tuple(map(size, bound))
        length = int(np.prod(lengths))

        def flat(a: NDArray[Any]) -> NDArray[Any]:
            kept = a.shape[: 1 + len(axes)]
            return np.broadcast_to(a, (*kept, *lengths)).reshape(*kept, length)

        return body.map(flat), length

    def _logsumexp(self, body: Value, length: int) -> Value:
        """Return log(sum e^x); M = |value| + sum p*(M(x) + |x - max x|).

        The distance from the maximum belongs to the magnitude because the
        subtraction rounds before the exponential.
        """
        top = np.maximum.reduce(body.exact, axis=-1, keepdims=True)
        weights = map_exp(body.exact - top)
        total = np.add.reduce(weights, axis=-1)
        exact = top[..., 0] + map_log(total)
        p, distance = self._shares(body, weights, total, top)
        approximate = np.abs(exact.astype(np.float64))
        highest = np.abs(top[..., 0].astype(np.float64))
        magnitude = approximate + np.sum(_times(p, body.magnitude + distance), axis=-1)
        error = np.sum(_times(p, body.error + self.form.epsilon * distance), axis=-1)
        error = error * _growth(body.error) + self.form.epsilon * (
            length + 8 + 4 * approximate + 2 * highest
        )
        return self.form.value(exact, magnitude, error + self.form.tiny)

    def _shares(
        self, body: Value, weights: Objects, total: Objects, top: Objects
    ) -> tuple[Floats, Floats]:
        """Return softmax and the distances from the maximum, in float64."""
        p = (weights / total[..., None]).astype(np.float64)
        return p, np.abs((body.exact - top).astype(np.float64))

    def _normalise(self, node: Basic, axes: Axes) -> Value:
        body, length = self._open(node, axes)
        at = self._integers(node.at, axes)
        if isinstance(node, softmax):
            return _take(self._softmax(body, length), at)
        total = self._logsumexp(body, length)
        minus = self.form.leaf(np.full((1,) * (1 + len(axes)), -1))
        return self._add([_take(body, at), self._multiply([minus, total])])

    def _softmax(self, body: Value, length: int) -> Value:
        """Return p = e^x/sum e^x; M = p*(1 + M(x) + |x - max x| + the mean of both)."""
        top = np.maximum.reduce(body.exact, axis=-1, keepdims=True)
        weights = map_exp(body.exact - top)
        total = np.add.reduce(weights, axis=-1)
        p, distance = self._shares(body, weights, total, top)
        spread = body.magnitude + distance
        magnitude = p * (1 + spread + np.sum(_times(p, spread), axis=-1, keepdims=True))
        moved = body.error + self.form.epsilon * distance
        relative = moved + np.sum(_times(p, moved), axis=-1, keepdims=True)
        relative = (relative + self.form.epsilon * (length + 12)) * _growth(body.error)[..., None]
        exact = weights / total[..., None]
        return self.form.value(exact, magnitude, _times(p, relative) + 2 * self.form.tiny)


def _times(slope: Floats, amount: Floats) -> Any:
    """Return slope*amount, where nothing moved 0 however steep the slope is."""
    return np.where((amount == 0) | (slope == 0), 0.0, slope * amount)


def _terms(node: Expr) -> int:
    """Return how many terms a sum has; 0 for anything else."""
    return int(np.prod([size(i) for i in bound_indices(node)])) if isinstance(node, Sum) else 0


def _growth(error: Floats) -> Any:
    """Return e^(2E), by which the exponential of x exceeds its first-order error; capped."""
    return np.exp(np.minimum(2 * np.max(error, axis=-1), 700.0))


def _first_axis(array: NDArray[Any]) -> NDArray[np.int64]:
    return np.arange(len(array)).reshape(-1, *(1,) * (array.ndim - 1))


def _grid(index: Idx, axes: Axes) -> NDArray[np.int64]:
    """Return 0, 1, ... along the axis of `index`; the innermost where it is bound twice."""
    if index not in axes:
        raise VerificationError(f"index {index} is neither on the left nor summed over")
    axis = len(axes) - 1 - axes[::-1].index(index)
    return np.arange(size(index)).reshape(-1, *(1,) * (len(axes) - 1 - axis))[(None,) * (axis + 1)]


def _combine(parts: Sequence[_Condition], any_of: bool) -> _Condition:
    """Join conditions: undecided unless one that is certain settles it."""
    truth = reduce(np.logical_or if any_of else np.logical_and, [part.truth for part in parts])
    settled = [~part.undecided & (part.truth == any_of) for part in parts]
    undecided = reduce(np.logical_or, [part.undecided for part in parts])
    return _Condition(truth, undecided & ~reduce(np.logical_or, settled))


def _pieces(value: Value) -> list[Value]:
    """Return the elements along the last axis one by one."""
    columns = zip(*(np.moveaxis(a, -1, 0) for a in value.arrays), strict=True)
    return [Value(*arrays) for arrays in columns]


def _take(value: Value, at: NDArray[np.int64]) -> Value:
    """Return the elements `at` of the last axis."""
    length = value.exact.shape[-1]
    place = at.clip(0, length - 1)[..., None]

    def pick(a: NDArray[Any]) -> NDArray[Any]:
        shape = np.broadcast_shapes(a.shape[:-1], place.shape[:-1])
        whole = np.broadcast_to(a, (*shape, length))
        return np.take_along_axis(whole, np.broadcast_to(place, (*shape, 1)), axis=-1)[..., 0]

    return value.map(pick)


# Derivatives without `differentiate`
