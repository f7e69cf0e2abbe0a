"""Loops that a kernel has several times, of other tensors: functions that are compiled once.

A recurrent network has a loop once for each of its steps, of which each may read its own part of a
tensor, ``x[3,i]``; a deep one of equal layers has one for each layer. To compile the loops of one
function takes a time that grows with the square of their number. A call takes some nanoseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sympy import Basic, Expr, Idx, Indexed, Integer, Symbol

from symprop.indices import index_name
from symprop.lower.program import Assign, Branch, Kernel, Loop, Note, Statement, nested
from symprop.lower.steps import SAMPLES, Lane, element, length, name_of
from symprop.lower.vocabulary import new_name

__all__ = ["Call", "Function", "Repeats"]

_ENOUGH = 6
"""How often a kernel must have a loop: to compile a function takes as long as two loops in one.

The calls have their price, too: a GRU of twelve steps, whose code is compiled in half the time,
takes 2 % more for a step.
"""


@dataclass(frozen=True, slots=True)
class Function:
    """A loop, with the names that it has where it stands first.

    It is given `arguments`: tensors, subscripts, numbers, and with `lanes`, which are those of the
    kernel's strategy, the number of samples. `inherited` are pairs of a tensor and the one among
    these whose place it takes.
    """

    name: str
    loop: Loop
    arguments: tuple[str, ...]
    inherited: tuple[tuple[str, str], ...]
    lanes: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call of `function` instead of a loop, and the equations that this computes."""

    function: Function
    arguments: tuple[str, ...]
    notes: tuple[Note, ...]


@dataclass(slots=True)
class Repeats:
    """The functions that loops of the kernels have become so far."""

    made: dict[Hashable, Function] = field(default_factory=dict)

    def calls(self, kernel: Kernel, lasting: Iterable[str]) -> Iterator[Statement | Call]:
        """Yield the body of a kernel, in lanes with a call for each loop that it has several times.

        In rows, where one loop runs over the samples of all equations that it can, it has none. The
        numbers `lasting` are used after the body.
        """
        if not kernel.strategy.lanes:
            yield from kernel.body
            return
        places = {storage.name: f"from {storage.offset}" for storage in kernel.workspace}
        patterns = [_Pattern(statement, places) for statement in kernel.body]
        counts = Counter(pattern.key for pattern in patterns)
        outside = {*lasting}.union(*(pattern.given for pattern in patterns))
        for statement, pattern in zip(kernel.body, patterns, strict=True):
            apart = pattern.loops and outside.isdisjoint(pattern.set)
            if isinstance(statement, Loop) and apart and counts[pattern.key] >= _ENOUGH:
                yield self._call(statement, pattern, kernel.strategy.lanes)
            else:
                yield statement

    def _call(self, loop: Loop, pattern: _Pattern, lanes: int) -> Call:
        name, inherited = f"_loop_{len(self.made) + 1}", tuple(pattern.inherited.items())
        named, arguments = pattern.named(loop)
        new = Function(name, named, arguments, inherited, lanes * pattern.lanes)
        notes = (statement for statement in nested(loop.body) if isinstance(statement, Note))
        return Call(self.made.setdefault(pattern.key, new), pattern.arguments, tuple(notes))


class _Pattern:
    """A statement but for its names: `key` has numbers for them, in the order in which they stand.

    So it has for `constants`, subscripts of one axis at a place. Tensors at one place have one
    number, so those that a function is given are disjoint. Of the
    variables that are no tensors, `given` have a value before, and `set` get one. Some of its
    loops run over `lanes`; it is made of `loops` alone, or of what is a function already.
    """

    def __init__(self, statement: Statement, places: Mapping[str, str]) -> None:
        self.places = places
        self.tensors: dict[str, str] = {}
        self.inherited: dict[str, str] = {}
        self.constants: dict[tuple[str, int, Integer], int] = {}
        self.given: dict[str, None] = {}
        self.set: dict[str, None] = {}
        self.lanes = False
        self.numbers: dict[object, int] = {}
        self.loops = True
        self.key = self._statement(statement)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What a function must be given."""
        return self._arguments(str(value) for _, _, value in self.constants)

    def _arguments(self, subscripts: Iterable[str]) -> tuple[str, ...]:
        counted = (str(SAMPLES),) if self.lanes else ()
        return (*self.tensors.values(), *subscripts, *self.given, *counted)

    def named(self, loop: Loop) -> tuple[Loop, tuple[str, ...]]:
        """Return the loop with names for the constants, and what a function of it is given."""
        taken = {*self.tensors.values(), *self.inherited, *self.given, *self.set}
        taken |= {index_name(index) for index in self.numbers if isinstance(index, Idx)}
        names = {each: Symbol(new_name("at", taken), integer=True) for each in self.constants}
        leaves: dict[Basic, Basic] = {}
        for leaf in (leaf for part in nested(loop.body) for leaf in _elements(part)):
            place, parts = self._place(name_of(leaf)), enumerate(leaf.indices)
            subscripts = (names.get((place, axis, part), part) for axis, part in parts)
            leaves[leaf] = element(name_of(leaf), tuple(subscripts))
        body = tuple(_renamed(part, leaves) for part in loop.body)
        return Loop(loop.index, body), self._arguments(map(str, names.values()))

    def _statement(self, statement: Statement) -> Hashable:
        match statement:
            case Loop(index, body):
                self.lanes |= isinstance(index, Lane)
                return ("loop", self._number(index), str(length(index)), *self._body(body))
            case Branch(cases):
                parts = ((self._node(test), *self._body(body)) for test, body in cases)
                return ("branch", *parts)
            case Assign(target, value, accumulate):
                computed = self._node(value)
                return ("assign", accumulate, computed, self._target(target, accumulate))
            case _:
                self.loops = False
                return statement

    def _body(self, body: Iterable[Statement]) -> Iterator[Hashable]:
        return (self._statement(part) for part in body if not isinstance(part, Note))

    def _target(self, target: Symbol | Indexed, accumulate: bool) -> Hashable:
        if isinstance(target, Indexed):
            return self._node(target)
        name = str(target)
        if accumulate and name not in self.set:
            self.given[name] = None
        self.set[name] = None
        return self._number(name)

    def _node(self, node: Basic) -> Hashable:
        if isinstance(node, Indexed):
            name = name_of(node)
            parts = (self._subscript(name, axis, part) for axis, part in enumerate(node.indices))
            return ("element", self._tensor(name), *parts)
        if isinstance(node, Idx):
            return ("index", self._number(node))
        if isinstance(node, Symbol):
            name = str(node)
            if name not in self.set:
                self.given[name] = None
            return ("variable", self._number(name))
        return (node.func, *map(self._node, node.args)) if node.args else node

    def _subscript(self, name: str, axis: int, part: Expr) -> Hashable:
        if not isinstance(part, Integer):
            return self._node(part)
        found = self.constants.setdefault((self._place(name), axis, part), len(self.constants))
        return ("constant", found)

    def _place(self, name: str) -> str:
        return self.places.get(name, name)

    def _tensor(self, name: str) -> int:
        place = self._place(name)
        first = self.tensors.setdefault(place, name)
        if first != name:
            self.inherited[name] = first
        return self._number(place)

    def _number(self, name: object) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


def _elements(statement: Statement) -> Iterator[Indexed]:
    """Yield the tensor elements in a statement, but not in those inside of it."""
    match statement:
        case Assign(target, value):
            yield from (target.atoms(Indexed) | value.atoms(Indexed))
        case Branch(cases):
            yield from (leaf for test, _ in cases for leaf in test.atoms(Indexed))


def _renamed(statement: Statement, leaves: Mapping[Basic, Basic]) -> Statement:
    """Return a statement with other tensor elements."""
    match statement:
        case Loop(index, body):
            return Loop(index, tuple(_renamed(part, leaves) for part in body))
        case Branch(cases):
            return Branch(
                tuple(
                    (test.xreplace(leaves), tuple(_renamed(part, leaves) for part in body))
                    for test, body in cases
                )
            )
        case Assign(target, value, accumulate):
            return Assign(target.xreplace(leaves), value.xreplace(leaves), accumulate)
    return statement
