"""Numbers of a worked example, exact or as its reader gets them from the numbers printed before.

`Example` gives the exact value of any quantity: of values and updated parameters from the
derivation worked at the sample, of derivatives from `differentiate` on the part of the
network between the two. `reckon` computes a quantity as the reader of a document does:
by its own equation, by the update rule or by the chain rule, one factor at a time,
with the printed number wherever one was printed. Each of those is known only to within
its digits, so the result is an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sympy import Symbol

from symprop.derivation import Derivation, differentiate
from symprop.equation import name_of
from symprop.explain.worked import Worked, decimal, decimals, hyperparameters, work
from symprop.indices import accesses, summation
from symprop.network import Equation, Network, Variable
from symprop.optimizers import find
from symprop.quantities import Element, Quantity
from symprop.verification.oracle import evaluate
from symprop.verification.precise import DIGITS, MP, Value

__all__ = ["Example", "Interval", "Reckoned", "reckon"]

Objects = NDArray[np.object_]
"""Numbers of type `symprop.verification.precise.MP.mpf`; the first axis counts points, or is 1."""

_SPLIT = 64
_NEAR = 3
_NOISE = MP.mpf(10) ** (10 - DIGITS)
"""Relative change of a result that is only rounding: it does not depend on that number."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number that is known to lie between `low` and `high`; `value` is the one printed."""

    value: Any
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class Reckoned:
    """What the `operands`, printed numbers, give for a quantity: a value and its interval."""

    value: Any
    low: Any
    high: Any
    operands: tuple[Quantity, ...]


class Example:
    """The worked example of a network: its first sample, step after step.

    Raises `DataError` for a network that comes without a sample.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.derivation = differentiate(network)
        self.equations = {equation.name: equation for equation in network.equations}
        self.loss = self.derivation.loss_name
        self.shapes = {variable.name: variable.shape for variable in network.variables}
        self.shapes[self.loss] = ()
        self.reads = {name: _read(equation) for name, equation in self.equations.items()}
        self.sources: dict[str, frozenset[str]] = {}
        for name, reads in self.reads.items():
            below = (self.sources.get(read, frozenset()) for read in reads)
            self.sources[name] = frozenset(reads).union(*below)
        self.trainable = tuple(p.name for p in network.parameters if p.trainable)
        self._states = [work(self.derivation)]
        self.slope = cache(self._slope)

    def state(self, after: int) -> Worked:
        """Return all numbers after so many updates."""
        while len(self._states) <= after:
            self._states.append(self._states[-1].after_step())
        return self._states[after]

    def exact(self, quantity: Quantity) -> Any:
        """Return the value of a quantity to more than 50 digits, an mpf."""
        state = self.state(quantity.after)
        top, by = quantity.top, quantity.by
        if by is None:
            return state.value(top.name, top.place)
        if by == top:
            return MP.mpf(1)
        if by.name == top.name or not self.depends(top.name, by.name):
            return MP.mpf(0)
        adjoint = self.derivation.adjoint_name(by.name)
        if top.name == self.loss and adjoint in state.names and self._is_safe(by.name):
            return state.value(adjoint, by.place)
        slope = self.slope(top.name, by.name)
        operands = {name: state.values(name)[None] for name in slope.reads}
        return slope.pull(operands, self.seed(top))[by.name][(0, *by.place)]

    def _is_safe(self, name: str) -> bool:
        """Tell whether the derivation's own adjoint of `name` takes all ways to the loss.

        A stable form may go past a value: the cross-entropy is computed from z, not from a
        = sigmoid(z), so that the adjoint of a is 0 there. Those of the leaves are complete.
        """
        return name not in self.equations or not self.derivation.rewrites

    def is_given(self, quantity: Quantity) -> bool:
        """Tell whether the quantity is not computed: data, or a parameter before any update."""
        if quantity.by is not None or quantity.top.name in self.equations:
            return False
        return quantity.after == 0 or quantity.top.name not in self.trainable

    def depends(self, top: str, name: str) -> bool:
        """Tell whether the value of `top` depends on `name`, or is it."""
        return top == name or name in self.sources.get(top, ())

    def seed(self, element: Element) -> Objects:
        """Return 1 at the element and 0 elsewhere, an array of one point."""
        seed = np.full((1, *self.shapes[element.name]), MP.mpf(0), dtype=object)
        seed[(0, *element.place)] = MP.mpf(1)
        return seed

    def readers(self, name: str, top: str) -> list[str]:
        """Return the values that `name` reaches `top` by: they read it."""
        return [
            reader
            for reader, reads in self.reads.items()
            if name in reads and self.depends(top, reader)
        ]

    def _slope(self, top: str, by: str | None = None) -> _Slope:
        """Return the derivative of `top` by what it is computed from.

        With `by`, its equations reach down to that value and to the leaves; without, there
        is only the equation of `top` itself, whose operands are taken as they are.
        """
        if by is None:
            return _Slope.of(self.network, [self.equations[top]])
        wanted = [
            equation
            for name, equation in self.equations.items()
            if name != by and self.depends(top, name)
        ]
        return _Slope.of(self.network, wanted)


@dataclass(frozen=True, slots=True)
class _Slope:
    """The derivatives of the last of some equations by all that they read.

    They are the adjoints of the sum of its elements times given seeds.
    """

    loss: str
    seed: str
    reads: Mapping[str, tuple[int, ...]]
    forward: tuple[Equation, ...]
    backward: tuple[Equation, ...]

    @classmethod
    def of(cls, network: Network, equations: Sequence[Equation]) -> _Slope:
        last = equations[-1]
        defined = {equation.name for equation in equations}
        names = {name: None for equation in equations for name in _read(equation)}
        part = Network(network.name)
        part.indices = network.indices
        part.inputs = tuple(network.variable(name) for name in names if name not in defined)
        seed, loss = _unused("seed", network.names), _unused("slope", network.names)
        variable = Variable(seed, last.indices)
        part.definitions = tuple(equations)
        body = variable.access * last.lhs
        total = summation(body, last.indices) if last.indices else body
        part.inputs += (variable,)
        part.objective = Equation(Symbol(loss, real=True), total)
        derivation: Derivation = differentiate(part)
        reads = {variable.name: variable.shape for variable in part.inputs[:-1]}
        forward = tuple(map(decimal, derivation.forward))
        return cls(loss, seed, reads, forward, tuple(map(decimal, derivation.backward)))

    def pull(self, operands: Mapping[str, Objects], seed: Objects) -> dict[str, Objects]:
        """Return the derivatives by all that is read, at `operands` and for that `seed`.

        Where `operands` has a value that an equation defines, that is taken instead.
        """
        known = {name: _known(array) for name, array in operands.items()}
        known[self.seed] = _known(seed)
        forward = [equation for equation in self.forward if equation.name not in operands]
        values = evaluate(forward, known).values
        shapes = {f"d{self.loss}/d{name}": shape for name, shape in self.reads.items()}
        found = evaluate(self.backward, values, shapes).values
        return {
            name: found[f"d{self.loss}/d{name}"].exact
            if f"d{self.loss}/d{name}" in found
            else np.full((1, *shape), MP.mpf(0), dtype=object)  # by whole numbers: subscripts
            for name, shape in self.reads.items()
        }


def _known(exact: Objects) -> Value:
    """Return numbers for the oracle, whose error bounds are of no interest here."""
    approximate = exact.astype(np.float64)
    return Value(exact, approximate, np.abs(approximate), np.zeros(exact.shape))


def _unused(name: str, taken: Iterable[str]) -> str:
    return next(new for n in count() if (new := f"{name}{n or ''}") not in taken)


def _read(equation: Equation) -> tuple[str, ...]:
    """Return the names that the right side reads."""
    leaves = accesses(equation.rhs)
    names = map(name_of, leaves)
    return tuple(dict.fromkeys(names))


class Reckoning:
    """One pass of a reader who takes the `printed` numbers for granted and computes the rest.

    Each printed number is an array of points, so that a pass computes with many choices of
    them at once. `read` collects those that were needed.
    """

    def __init__(self, example: Example, printed: Mapping[Quantity, Objects]) -> None:
        self.example = example
        self.printed = printed
        self.read: set[Quantity] = set()
        self.done: dict[tuple[Any, ...], Any] = {}
        self.names = {(q.top.name, q.by and q.by.name, q.after) for q in printed}

    def formula(self, quantity: Quantity, split: bool) -> Objects:
        """Return the quantity by its formula, at all points.

        A derivative is split behind its last factor, ``dE/dy * dy/dw``, or with `split`
        behind its first, ``dE/dE1 * dE1/dw + dE/dE2 * dE2/dw``.
        """
        top, by, after = quantity.top, quantity.by, quantity.after
        for step in range(1, after if after > _NEAR else 0):  # from below: no deep recursion
            for name in self.example.trainable:
                self.value(name, step)
        if by is None:
            return self._compute(top.name, after)[_at(top.place)]
        if split:
            return self._split(top, by, after)
        return self._chain(top, by.name, after)[_at(by.place)]

    def value(self, name: str, after: int) -> Objects:
        """Return all elements of a value, parameter or input."""
        return self._with_printed(
            (name, None, after),
            lambda place: Quantity(Element(name, place), None, after),
            lambda: self._compute(name, after),
        )

    def adjoint(self, top: Element, name: str, after: int) -> Objects:
        """Return the derivatives of `top` by all elements of `name`."""
        if name == top.name:
            return self.example.seed(top)
        return self._with_printed(
            (top.name, name, after),
            lambda place: Quantity(top, Element(name, place), after),
            lambda: self._chain(top, name, after),
            top.place,
        )

    def _with_printed(
        self,
        key: tuple[str, str | None, int],
        quantity: Callable[[tuple[int, ...]], Quantity],
        compute: Callable[[], Objects],
        place: tuple[int, ...] = (),
    ) -> Objects:
        """Return a tensor, computed unless all of it is printed, with what is printed in place."""
        if (*key, place) in self.done:
            return self.done[*key, place]
        shape = self.example.shapes[key[1] or key[0]]
        places = np.ndindex(shape) if key in self.names else ()
        given = {p: q for p in places if (q := quantity(p)) in self.printed}
        self.read.update(given.values())
        whole = len(given) == prod(shape)
        result = np.full((1, *shape), MP.mpf(0), dtype=object) if whole else compute()
        for p, q in given.items():
            result = _replaced(result, p, self.printed[q])
        self.done[*key, place] = result
        return result

    def _compute(self, name: str, after: int) -> Objects:
        if name in self.example.equations:
            equation = decimal(self.example.equations[name])
            operands = {read: self.value(read, after) for read in self.example.reads[name]}
            known = {read: _known(array) for read, array in operands.items()}
            return evaluate([equation], known).values[name].exact
        if after and name in self.example.trainable:
            return self._update(name, after)["theta"]
        return self.example.state(0).values(name)[None]

    def _update(self, name: str, after: int) -> dict[str, Objects]:
        """Return the parameter and the optimizer's slots after an update."""
        key = ("update", name, after)
        if key not in self.done:
            network = self.example.network
            rule = find(network.training.optimizer)
            theta = self.value(name, after - 1)
            slots = self._update(name, after - 1) if after > 1 and rule.slots else {}
            zero = np.full(theta.shape, MP.mpf(0), dtype=object)
            given = {slot: slots.get(slot, zero) for slot in rule.slots}
            given |= {"theta": theta, "t": decimals(after)}
            given["gradient"] = self.adjoint(Element(self.example.loss), name, after - 1)
            given |= {k: decimals(v) for k, v in hyperparameters(network, rule).items()}
            self.done[key] = _evaluated(map(decimal, rule.equations), given, rule.slots)
        return self.done[key]

    def _chain(self, top: Element, name: str, after: int) -> Objects:
        """Return the sum, over all values that read `name`, of their adjoint times their slope."""
        total = np.full((1, *self.example.shapes[name]), MP.mpf(0), dtype=object)
        for reader in self.example.readers(name, top.name):
            total = total + self._through(reader, name, self.adjoint(top, reader, after), after)
        return total

    def _split(self, top: Element, by: Element, after: int) -> Objects:
        total = np.full(1, MP.mpf(0), dtype=object)
        seed = self.example.seed(top)
        for name in self.example.reads.get(top.name, ()):
            if not self.example.depends(name, by.name) or prod(self.example.shapes[name]) > _SPLIT:
                continue
            slopes = self._through(top.name, name, seed, after)
            for place in np.ndindex(self.example.shapes[name]):
                slope = slopes[_at(place)]
                if any(number != 0 for number in slope):
                    inner = self.adjoint(Element(name, place), by.name, after)
                    total = total + slope * inner[_at(by.place)]
        return total

    def _through(self, reader: str, name: str, seed: Objects, after: int) -> Objects:
        """Return what `name` gets by way of `reader`: the seed times the local derivative."""
        slope = self.example.slope(reader)
        operands = {read: self.value(read, after) for read in slope.reads}
        operands[reader] = self.value(reader, after)
        result = slope.pull(operands, seed)[name]
        for q in self._local(reader, name, after):
            self.read.add(q)
            computed = slope.pull(operands, self.example.seed(q.top))[name]
            place = q.by.place if q.by else ()
            change = self.printed[q] - computed[_at(place)]
            weight = seed[_at(q.top.place)]
            result = _replaced(result, place, result[_at(place)] + weight * change)
        return result

    def _local(self, reader: str, name: str, after: int) -> Iterator[Quantity]:
        """Return the printed derivatives of `reader` by `name`, where they are factors.

        That is where `name` does not reach the reader by other values as well.
        """
        if (reader, name, after) not in self.names:
            return
        others = [read for read in self.example.reads[reader] if read != name]
        if any(self.example.depends(other, name) for other in others):
            return
        for q in self.printed:
            if q.by and (q.top.name, q.by.name, q.after) == (reader, name, after):
                yield q


def _at(place: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the subscripts of an element at all points."""
    return (slice(None), *place)


def _replaced(array: Objects, place: tuple[int, ...], numbers: Objects) -> Objects:
    """Return a copy of `array`, points first, with `numbers` at one place."""
    points = max(len(array), len(numbers))
    result = np.array(np.broadcast_to(array, (points, *array.shape[1:])))
    result[_at(place)] = numbers
    return result


def _evaluated(
    equations: Iterable[Equation], given: Mapping[str, Objects], slots: Iterable[str]
) -> dict[str, Objects]:
    """Evaluate an update rule for every element of a parameter, at all points."""
    points = max(len(given["theta"]), len(given["gradient"]))
    shape = (points, *given["theta"].shape[1:])
    flat = {name: _known(np.ravel(np.broadcast_to(array, shape))) for name, array in given.items()}
    values = evaluate(equations, flat).values
    return {name: values[name].exact.reshape(shape) for name in ("theta", *slots)}


def reckon(
    example: Example, quantity: Quantity, printed: Mapping[Quantity, Interval]
) -> Iterator[Reckoned]:
    """Yield what the printed numbers give for a quantity, by each formula that there is for it.

    The interval is that of all choices of the printed numbers within their own intervals;
    the quantity is taken to rise or fall with each of them, whose intervals are small.
    """
    others = {q: interval for q, interval in printed.items() if q != quantity}
    yield _reckon(example, quantity, others, split=False)
    if quantity.by is not None and any(
        q.by is not None and q.by.name == quantity.by.name and q.top.name in reads
        for q in others
        for reads in (example.reads.get(quantity.top.name, ()),)
    ):
        yield _reckon(example, quantity, others, split=True)


def _reckon(
    example: Example, quantity: Quantity, printed: Mapping[Quantity, Interval], split: bool
) -> Reckoned:
    def at(points: Mapping[Quantity, list[Any]]) -> tuple[Objects, set[Quantity]]:
        arrays = {q: np.array(numbers, dtype=object) for q, numbers in points.items()}
        pass_ = Reckoning(example, arrays)
        return pass_.formula(quantity, split), pass_.read

    (value, *_), read = at({q: [interval.value] for q, interval in printed.items()})
    known = {q: interval for q, interval in printed.items() if q in read}
    if not known:
        return Reckoned(value, value, value, ())
    points = {q: [interval.value] * (1 + 2 * len(known)) for q, interval in known.items()}
    for number, (q, interval) in enumerate(known.items()):
        points[q][1 + 2 * number : 3 + 2 * number] = [interval.low, interval.high]
    results, _ = at(points)
    results = np.broadcast_to(results, 1 + 2 * len(known))
    corners: dict[Quantity, list[Any]] = {}
    used = []
    for number, (q, interval) in enumerate(known.items()):
        low, high = results[1 + 2 * number], results[2 + 2 * number]
        if max(abs(low - value), abs(high - value)) > _NOISE * abs(value):
            used.append(q)
        rising = bool(low <= high)
        corners[q] = [interval.low, interval.high] if rising else [interval.high, interval.low]
    ends, _ = at(corners)
    found = [*results, *ends]
    return Reckoned(value, min(found), max(found), tuple(used))
