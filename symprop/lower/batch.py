"""Pass 3: from one sample to a batch.

What differs from sample to sample gets the sample as its first subscript ("rows"), or as its
last ("lanes"). In lanes the sample is an axis like any other, as long as the block: a line
that computes a value for each sample does so for whole registers, while a sum over the samples
stops at those that there are. The adjoint of what does not differ (a parameter, or a value
computed from parameters only) is the sum over the samples. The reverse mode is linear, so such sums
pass through the equations between them: a term that reads one is not summed
again, and a term that depends on no sample counts once for each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sympy
from sympy import Add, Basic, Dummy, Expr, Idx, Indexed, Mul, Sum, Symbol

from symprop.errors import LoweringError
from symprop.formulas import text
from symprop.indices import (
    accesses,
    bound_indices,
    free_indices,
    fresh,
    freshen,
    rebind,
    rebuild,
    substitute,
    summation,
)
from symprop.lower.steps import (
    SAMPLES,
    Compute,
    Lane,
    element,
    name_of,
)
from symprop.lower.values import scopes
from symprop.lower.vocabulary import Vocabulary
from symprop.network import Equation

__all__ = ["batch"]


class _MixedError(Exception):
    """A value depends on a sample and on a sum over the samples."""


def batch(
    equations: Iterable[Equation], words: Vocabulary, outputs: Iterable[str] = (), block: int = 0
) -> tuple[Compute, ...]:
    """Return the steps that compute `equations` for a batch, in rows or in lanes of `block`.

    Where the loss is among them, the last step adds up the losses of the samples. The
    `outputs` have a row for each sample even where all rows are equal. Raises
    `LoweringError` for a gradient that is no sum over the samples.
    """
    equations, outputs = tuple(equations), frozenset(outputs)
    try:  # also the adjoints of values that are computed from parameters are sums
        found = _Batch(equations, words, frozenset(words.adjoints.values()), outputs, block)
    except _MixedError:
        try:
            found = _Batch(equations, words, frozenset(words.parameters), outputs, block)
        except _MixedError as error:
            raise LoweringError(
                f"{error}: it mixes values of one sample with sums over all samples; give "
                "what depends on parameters only an equation of its own"
            ) from None
    return tuple(found.done)


class _Batch:
    """One pass over the equations of a kernel; `owners` may have adjoints that are sums."""

    def __init__(
        self,
        equations: tuple[Equation, ...],
        words: Vocabulary,
        owners: frozenset[str],
        outputs: frozenset[str],
        block: int,
    ) -> None:
        self.words = words
        self.owners = owners
        self.outputs = outputs
        self.block = block
        self.sampled = set(words.data)
        self.summed: set[str] = set()
        self.started: set[str] = set()
        self.done: list[Compute] = []
        for equation in equations:
            self._add(equation)
            if equation.name == words.loss:
                self._add_up(words.loss, element(words.loss_sum))

    def _add_up(self, loss: str, total: Symbol) -> None:
        """Add the losses of all samples up."""
        if loss not in self.sampled:
            self.done.append(Compute(total, SAMPLES * element(loss), ()))
            return
        sample = self._sample(summed=True)
        self.done.append(Compute(total, sympy.S.Zero, ()))
        self.done.append(Compute(total, element(loss, (sample,)), (sample,), True))

    def _add(self, equation: Equation) -> None:
        variable = self.words.adjoints.get(equation.name, "")
        if variable in self.owners and variable not in self.sampled:
            self.summed.add(equation.name)
            self._add_sum(equation)
            return
        reads = [*_names(equation.rhs), *(n for part in equation.indices for n in _names(part))]
        if not self.summed.isdisjoint(reads):
            if not self.sampled.isdisjoint(reads):
                raise _MixedError(equation.name)
            self.summed.add(equation.name)
        elif not self.sampled.isdisjoint(reads) or equation.name in self.outputs:
            self.sampled.add(equation.name)
        own = equation.name in self.sampled
        if equation.accumulate:
            self._start(equation.name, own)
        self.started.add(equation.name)
        self._emit(equation, equation.rhs, inside=own, target=own, add=equation.accumulate)

    def _add_sum(self, equation: Equation) -> None:
        """Add an adjoint that is a sum over the samples."""
        scattered = any(self._varies(part) for part in equation.indices)
        parts = _Parts(sampled=equation.rhs) if scattered else self._parted(equation.rhs)
        once = SAMPLES * parts.constant + parts.summed
        if once != 0 and not equation.accumulate and equation.name not in self.started:
            self._emit(equation, once)
        else:
            self._start(equation.name, False)
            if once != 0:
                self._emit(equation, once, add=True)
        self.started.add(equation.name)
        if parts.sampled != 0:
            self._emit(equation, parts.sampled, inside=True, add=True)

    def _varies(self, expression: Basic) -> bool:
        return not self.sampled.isdisjoint(_names(expression))

    def _parted(self, value: Expr) -> _Parts:
        """Split a value into its constant, summed and sampled terms."""
        varies = self._varies(value)
        sums = not self.summed.isdisjoint(_names(value))
        if isinstance(value, Add):
            return _added(map(self._parted, value.args))
        if not sums:
            return _Parts(sampled=value) if varies else _Parts(constant=value)
        if not varies:
            return _Parts(summed=value)
        if isinstance(value, Mul):
            known = self.sampled | self.summed
            mixed = [factor for factor in value.args if not known.isdisjoint(_names(factor))]
            outer = Mul(*(factor for factor in value.args if factor not in mixed))
            if len(mixed) == 1 and isinstance(mixed[0], Add | Sum):
                return self._parted(mixed[0]).map(lambda part: outer * part)
        if isinstance(value, Sum):
            return self._parted(value.function).map(
                lambda part: summation(part, bound_indices(value))
            )
        raise _MixedError(str(value))

    def _start(self, name: str, sampled: bool) -> None:
        """Set a tensor to 0, unless an equation has set it already."""
        if name not in self.started:
            own = self.words.indices[name]
            lhs = element(name, own)
            start = Equation(lhs, sympy.S.Zero)
            self._emit(start, start.rhs, inside=sampled, target=sampled, quiet=True)

    def _emit(
        self,
        equation: Equation,
        value: Expr,
        *,
        inside: bool = False,
        target: bool = False,
        add: bool = False,
        quiet: bool = False,
    ) -> None:
        """Append a step: `inside` the loop over the samples; `target` has a value for each."""
        sample = self._sample(summed=not target)
        subscripts = equation.indices
        loops = dict.fromkeys(i for part in subscripts for i in free_indices(part))
        loops |= dict.fromkeys(free_indices(value))
        renamed = {index: fresh(index) for index in loops}
        own = [self._sampled_reads(substitute(part, renamed), sample) for part in subscripts]
        self.done.append(
            Compute(
                element(equation.name, self._with_sample(own, sample) if target else tuple(own)),
                self._sampled_reads(freshen(value, renamed), sample),
                self._with_sample(renamed.values(), sample) if inside else tuple(renamed.values()),
                add,
                "" if quiet else text(equation),
            )
        )

    def _sample(self, *, summed: bool) -> Idx:
        """Return a new index over the samples: those that are there, or all that have room."""
        label = Dummy("s", integer=True)
        if not self.block:
            return Idx(label, SAMPLES)
        return Lane(label, SAMPLES if summed else self.block)

    def _with_sample(self, subscripts: Iterable[Expr], sample: Idx) -> tuple[Expr, ...]:
        """Return subscripts, or loops, with the sample where this layout has it."""
        return (*subscripts, sample) if self.block else (sample, *subscripts)

    def _sampled_reads(self, node: Basic, sample: Idx) -> Basic:
        """Return `node` with the sample as a subscript of what has a value for each."""
        if isinstance(node, Idx) or not (node.args or isinstance(node, Symbol)):
            return node
        if isinstance(node, Symbol | Indexed):
            subscripts = node.indices if isinstance(node, Indexed) else ()
            inner = tuple(self._sampled_reads(part, sample) for part in subscripts)
            if node == SAMPLES:
                return node
            name = name_of(node)
            return element(
                name, self._with_sample(inner, sample) if name in self.sampled else inner
            )
        bound = bound_indices(node)
        if bound:
            body, *outside = (self._sampled_reads(part, sample) for part in scopes(node))
            return rebind(node, body, bound, outside)
        return rebuild(node, (self._sampled_reads(part, sample) for part in node.args))


@dataclass(frozen=True, slots=True)
class _Parts:
    """A value for one sample, in three terms; each is 0 where there is none."""

    constant: Expr = sympy.S.Zero
    summed: Expr = sympy.S.Zero
    sampled: Expr = sympy.S.Zero

    def map(self, change: Callable[[Expr], Expr]) -> _Parts:
        """Return the terms after `change`; those that are 0 stay 0."""
        terms = (self.constant, self.summed, self.sampled)
        return _Parts(*(change(term) if term != 0 else term for term in terms))


def _added(parts: Iterable[_Parts]) -> _Parts:
    found = tuple(parts)
    return _Parts(
        Add(*(part.constant for part in found)),
        Add(*(part.summed for part in found)),
        Add(*(part.sampled for part in found)),
    )


def _names(expression: Basic) -> set[str]:
    return {name_of(leaf) for leaf in accesses(expression)}
