"""Pass 9: from steps to statements.

Sums and extrema become loops with an accumulator, conditions around a sum become
branches, and loop variables get the names that they have in the equations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import sympy
from sympy import Basic, Expr, Idx, Indexed, Piecewise, Sum, Symbol

from symprop.functions import reduce_max, reduce_min
from symprop.indices import bound_indices, branches, index_name, numbered, rebuild, substitute
from symprop.lower.program import (
    Assign,
    Branch,
    Loop,
    Note,
    Product,
    Statement,
)
from symprop.lower.schedule import Nest
from symprop.lower.steps import (
    Compute,
    Contract,
    Matrix,
    Multiply,
    Step,
    Transpose,
    element,
    is_sample,
)

__all__ = ["statements"]

_ACCUMULATORS = {Sum: "total", reduce_max: "largest", reduce_min: "smallest"}


def statements(
    nests: Iterable[Nest | Step], taken: Iterable[str], sample: str
) -> tuple[Statement, ...]:
    """Return the statements of a kernel; `taken` are the names that its variables have."""
    return _Scope(frozenset(taken), sample).body(nests)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is known inside some loops: the printed index of each loop index."""

    taken: frozenset[str]
    sample: str
    indices: dict[Basic, Basic] = field(default_factory=dict)

    def body(self, nests: Iterable[Nest | Step]) -> tuple[Statement, ...]:
        return tuple(s for part in nests for s in self._statements(part))

    def _statements(self, part: Nest | Step) -> Iterator[Statement]:
        if isinstance(part, Nest):
            scope = self.inside(part.index)
            yield Loop(scope.indices[part.index], scope.body(part.body))
        elif isinstance(part, Multiply):
            target, left, right = map(self._matrix, (part.target, part.left, part.right))
            yield from _commented([Product(target, left, right)], part.comment)
        elif isinstance(part, Contract | Transpose):
            yield from _commented([part], part.comment)
        elif isinstance(part, Compute):
            yield from self._computed(part)
        else:
            raise TypeError(f"{type(part).__name__}: not a step")

    def inside(self, index: Idx) -> _Scope:
        """Return the scope of a loop over `index`, under a name that nothing else has."""
        used = self.taken | {index_name(named) for named in self.indices.values()}
        wanted = self.sample if is_sample(index) else index_name(index)
        name = next(n for n in numbered(wanted) if n not in used)
        named = index.func(Symbol(name, integer=True), index.upper + 1)
        return _Scope(self.taken, self.sample, {**self.indices, index: named})

    def _matrix(self, matrix: Matrix) -> Matrix:
        loops = tuple(self.indices[index] for index in matrix.loops)
        return Matrix(matrix.name, loops, matrix.rows, matrix.columns, matrix.transposed)

    def _computed(self, step: Compute) -> Iterator[Statement]:
        target = substitute(step.target, self.indices)
        lines = list(_Writer(self).assigned(target, step.value, step.accumulate))
        yield from _commented(lines, step.comment)


def _commented(lines: list[Statement], comment: str) -> Iterator[Statement]:
    """Put the comment in front of the first statement, whatever it is."""
    if comment:
        yield Note(comment)
    yield from lines


class _Writer:
    """Writes one assignment; its accumulators get names that differ from each other."""

    def __init__(self, scope: _Scope, names: set[str] | None = None) -> None:
        self.scope = scope
        self.names = set() if names is None else names

    def assigned(
        self, target: Symbol | Indexed, value: Expr, accumulate: bool
    ) -> Iterator[Statement]:
        """Yield the statements of ``target = value`` or ``target += value``."""
        pairs = branches(value) if isinstance(value, Piecewise) else ()
        guard = len(pairs) == 2 and pairs[1] == (0, True)
        if accumulate and guard:
            body = tuple(self.assigned(target, pairs[0][0], True))
            yield Branch(((self._named(pairs[0][1]), body),))
        elif pairs and any(_reduces(part) for part, _ in pairs):
            cases = (
                (self._named(test), tuple(self.assigned(target, part, accumulate)))
                for part, test in pairs
            )
            yield Branch(tuple(cases))
        elif isinstance(target, Symbol) and type(value) in _ACCUMULATORS:
            yield from self._accumulated(target, value, start=not accumulate)
        else:
            before: list[Statement] = []
            final = self._reduced(value, before)
            yield from before
            yield Assign(target, self._named(final), accumulate)

    def _named(self, node: Basic) -> Basic:
        return substitute(node, self.scope.indices)

    def _reduced(self, node: Basic, before: list[Statement]) -> Basic:
        """Return `node` with an accumulator for each reduction, which `before` computes."""
        if not _reduces(node) or isinstance(node, Idx | Indexed):
            return node
        if not bound_indices(node):
            return rebuild(node, (self._reduced(part, before) for part in node.args))
        kind = type(node)
        if kind not in _ACCUMULATORS:
            raise TypeError(f"{kind.__name__}: not a reduction that has loops")
        accumulator = element(self._fresh(_ACCUMULATORS[kind]))
        before += self._accumulated(accumulator, node, start=True)
        return accumulator

    def _accumulated(self, accumulator: Symbol, node: Expr, *, start: bool) -> Iterator[Statement]:
        """Yield the loops of a reduction, after its start value."""
        scope = self.scope
        for index in bound_indices(node):
            scope = scope.inside(index)
        inner = _Writer(scope, self.names)
        if isinstance(node, Sum):
            first, body = sympy.S.Zero, list(inner.assigned(accumulator, node.function, True))
        else:
            first, body = inner._extremum(accumulator, node)
        for index in reversed(bound_indices(node)):
            body = [Loop(scope.indices[index], tuple(body))]
        yield from [Assign(accumulator, first)] * start + body

    def _extremum(self, accumulator: Symbol, node: Expr) -> tuple[Expr, list[Statement]]:
        largest = isinstance(node, reduce_max)
        choice = sympy.Function("maximum" if largest else "minimum")
        lines: list[Statement] = []
        value = self._named(self._reduced(node.body, lines))
        first = -sympy.oo if largest else sympy.oo
        return first, [*lines, Assign(accumulator, choice(accumulator, value))]

    def _fresh(self, hint: str) -> str:
        used = self.scope.taken | self.names
        name = next(n for n in numbered(hint) if n not in used)
        self.names.add(name)
        return name


def _reduces(node: Basic) -> bool:
    return node.has(Sum, reduce_max, reduce_min)
