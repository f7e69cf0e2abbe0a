"""Products under conditions of indices, as products without conditions.

A tile runs over whole ranges. What a condition leaves out is a term of 0, which it also is where
one factor is 0: so a condition on no more than where a factor is read becomes zeros in a copy of
that factor. Padding is such a condition (around an image, the copy has margins), a causal mask is
one, and so is the range of what is read backwards: a convolution scatters its adjoint,
``dx[i + p] += w[p]*dy[i]``, which as a sum is ``Sum((w[p]*dy[u - p] where 0 <= u - p < n), p)``:

    padded_dy[v] = (dy[v - 2] where 2 <= v < n + 2)
    dx[u] = Sum(w[p]*padded_dy[u - p + 2], p)

Subscripts that are not affine, as those of what is periodic or repeated, ``x[Mod(i + p, n)]``, are
affine in such a copy, too: ``placed_x[v] = x[Mod(v, n)]``; what is added at them is first added up
where it lies in the copy.

Zero times infinity is not 0: the other factors must be read somewhere where the condition holds, so
that no number counts that the formula does not have. Where a condition holds seldom, the loop that
asks it is faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import lcm, prod

import numpy as np
import sympy
from sympy import And, Basic, Dummy, Expr, Idx, Indexed, Mul, Symbol

from symprop.derivation.contributions import summed
from symprop.indices import (
    free_indices,
    guarded,
    index_name,
    size,
    substitute,
    where,
)
from symprop.lower.steps import (
    Compute,
    Shapes,
    axis_lengths,
    element,
    extent,
    is_sample,
    name_of,
    renewed,
)
from symprop.lower.values import appearing
from symprop.ranges import decided, grid, is_affine, is_arithmetic, solved, subscript_range, within

__all__ = ["Copied", "bent", "gathered", "often", "readable", "spread", "unguarded"]

_COMBINATIONS = 1_000_000
"""How many values of the indices of a condition are tried; each takes about 10 ns."""

_SHARE = 0.25
"""The least share of terms that are not left out: a tile is that much faster than a loop."""

_GATHERED = 0.5
"""The same where without the gather the products are tiles, too, and what follows them a loop."""


def often(condition: Basic, share: float = _SHARE) -> bool:
    """Tell whether a condition is one of indices alone that holds for a `share` of their values."""
    if not is_arithmetic(condition):
        return False
    indices = free_indices(condition)
    return prod(map(size, indices)) <= _COMBINATIONS and grid(condition, indices).mean() >= share


def readable(expression: Expr, shapes: Shapes) -> bool:
    """Tell whether all that is read exists whatever the indices are."""
    leaves = expression.atoms(Indexed)
    reads = [_Read.of(leaf, shapes) for leaf in leaves]
    return all(read is not None and not read.margins for read in reads)


def bent(expression: Expr) -> bool:
    """Tell whether a tensor is read at a subscript of indices that is not affine in them."""
    subscripts = {part for leaf in expression.atoms(Indexed) for part in leaf.indices}
    made = [part for part in subscripts if not isinstance(part, Idx) and is_arithmetic(part)]
    return not all(map(is_affine, made))


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of a tensor for one factor of a product, 0 where a condition does not hold.

    ``copy[axes] = value``; the factor is ``copy[subscripts]``, which are affine. Its `kind` is
    "padded" where it has margins around the tensor that is its `source`, "placed" where it has
    other places for the same values, "masked" where only the zeros are new.
    """

    kind: str
    source: str
    value: Expr
    axes: tuple[Idx, ...]
    subscripts: tuple[Expr, ...]

    @property
    def reason(self) -> str:
        """What the copy is for."""
        if isinstance(self.value, Indexed):
            return f"{self.source} where affine subscripts read it"
        return f"zeros in {self.source} take the place of a condition"

    @property
    def key(self) -> Basic:
        """The value with numbered indices: equal where two copies are."""
        numbers = {axis: Idx(f"_{n}", extent(axis) or 0) for n, axis in enumerate(self.axes)}
        return substitute(self.value, numbers)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Along one axis of a tensor, what its copy has: a place for every value of what is `affine`.

    The first place is for the value `low`; at a `place` the copy holds what the tensor has at
    `source`.
    """

    affine: Expr
    place: Idx
    low: int
    source: Expr

    @classmethod
    def of(cls, subscript: Expr) -> _Axis | None:
        """Return the axis of a copy; None where a subscript depends on several affine terms."""
        free = set(free_indices(subscript))
        for part in sympy.preorder_traversal(subscript):
            if isinstance(part, Expr) and set(free_indices(part)) == free:
                parts = 1 if is_affine(part) else _parts(part)
                affine = sympy.expand(parts * part)
                if is_affine(affine):
                    low, high = subscript_range(affine)
                    place = Idx(Dummy(_name(affine), integer=True), high - low + 1)
                    source = subscript.xreplace({part: (place + low) / parts})
                    still = free.isdisjoint(free_indices(source))
                    return cls(affine, place, low, source) if still else None
        return None

    def margins(self, length: int) -> Iterator[Basic]:
        """Yield the conditions under which the tensor, which has a `length`, has what is read."""
        low, high = subscript_range(self.source)
        moved = self.source == self.place + self.low
        value, shift = (self.place, self.low) if moved else (self.source, 0)
        if low < 0:
            yield value >= -shift
        if high >= length:
            yield value < length - shift


@dataclass(frozen=True, slots=True)
class _Read:
    """Where a tensor is read: the axes of a copy by the subscripts, but for the samples.

    `solved` gives some index of each subscript by its place. `margins` are the conditions under
    which the places exist.
    """

    leaf: Indexed
    axes: dict[Expr, _Axis]
    solved: dict[Idx, Expr]
    margins: tuple[Basic, ...]

    @classmethod
    def of(cls, leaf: Indexed, shapes: Shapes) -> _Read | None:
        """Return how `leaf` is read; None where subscripts are not made of indices alone."""
        lengths = axis_lengths(leaf, shapes)
        if len(lengths) != len(leaf.indices):
            return None
        axes: dict[Expr, _Axis] = {}
        margins: list[Basic] = []
        for subscript, length in zip(leaf.indices, lengths, strict=True):
            if is_sample(subscript):
                continue
            axis = _Axis.of(subscript) if is_arithmetic(subscript) else None
            if axis is None or subscript in axes:
                return None
            axes[subscript] = axis
            margins += axis.margins(length)
        places = [axis.place for axis in axes.values()]
        found = solved((axis.affine for axis in axes.values()), places, free_indices(leaf))
        moved = {axis.place: axis.place + axis.low for axis in axes.values() if axis.low}
        found = {index: substitute(value, moved) for index, value in found.items()}
        return cls(leaf, axes, found, tuple(margins))

    @property
    def whole(self) -> bool:
        """Whether a tile can read the tensor itself."""
        return not self.margins and all(axis.affine == part for part, axis in self.axes.items())

    def expresses(self, condition: Basic) -> bool:
        """Tell whether a condition depends on no more than where the tensor is read."""
        places = {axis.place for axis in self.axes.values()}
        return set(free_indices(self._placed(condition))) <= places

    def _placed(self, condition: Basic) -> Basic:
        return decided(substitute(condition, self.solved))

    def copied(self, conditions: Iterable[Basic], room: int) -> Copied:
        """Return the copy that is 0 where one of `conditions` does not hold, and in the margins."""
        needed = _needed((*self.margins, *map(self._placed, conditions)))
        source, axes, subscripts = [], [], []
        for index in self.leaf.indices:
            axis = self.axes.get(index)
            axes.append(renewed(index, room) if axis is None else axis.place)
            source.append(axes[-1] if axis is None else axis.source)
            subscripts.append(index if axis is None else axis.affine - axis.low)
        name = name_of(self.leaf)
        value = where(element(name, tuple(source)), And(*needed))
        kind = "padded" if self.margins else "placed" if not self.whole else "masked"
        return Copied(kind, name, value, tuple(axes), tuple(subscripts))


def _parts(expression: Expr) -> int:
    """Return by what an expression must be multiplied for its terms to have integer factors."""
    terms = sympy.expand(expression).as_ordered_terms()
    factors = [term.as_coeff_Mul()[0] for term in terms]
    return lcm(*(int(factor.q) for factor in factors if factor.is_Rational))


def _name(subscript: Expr) -> str:
    """Return the name of the longest index of a subscript."""
    return index_name(max(free_indices(subscript), key=size, default=Idx("place", 1)))


def _needed(tests: Sequence[Basic]) -> list[Basic]:
    """Return some of the conditions that hold together where all of them do."""
    indices = free_indices(And(*tests))
    held = {test: grid(test, indices) for test in dict.fromkeys(tests)}
    for test in tuple(held):
        others = [values for other, values in held.items() if other != test]
        if (np.logical_and.reduce(others) <= held[test]).all():
            del held[test]
    return list(held)


def unguarded(body: Expr, shapes: Shapes, room: int) -> tuple[Indexed | Copied, ...] | None:
    """Return the factors of a product under a condition, 0 where the condition does not hold.

    All are read at affine subscripts. Copies in lanes have `room` for so many samples. None where
    no factor can express the condition, or where it does not pay.
    """
    names = {index: _numbered(index, n) for n, index in enumerate(appearing(body))}
    read = {name_of(leaf) for leaf in body.atoms(Indexed)}
    known = tuple((name, shapes[name]) for name in sorted(read) if name in shapes)
    found = _unguarded(substitute(body, names), known, room)
    back = {new: old for old, new in names.items()}
    return None if found is None else tuple(_renamed(factor, back) for factor in found)


def _numbered(index: Idx, number: int) -> Idx:
    """Return an index that is the same for all products alike."""
    label = Symbol(f"{index_name(index)}_{number}", integer=True)
    return type(index)(label, index.upper + 1)


def _renamed(factor: Indexed | Copied, names: Mapping[Basic, Basic]) -> Indexed | Copied:
    if isinstance(factor, Indexed):
        return substitute(factor, names)
    return replace(factor, subscripts=tuple(substitute(s, names) for s in factor.subscripts))


@lru_cache(maxsize=256)
def _unguarded(
    body: Expr, known: tuple[tuple[str, tuple[int, ...]], ...], room: int
) -> tuple[Indexed | Copied, ...] | None:
    """Return the factors as `unguarded` does; the kernels of a network have the same products."""
    shapes = dict(known)
    value, condition = guarded(body)
    pairs = [guarded(factor) for factor in Mul.make_args(value)]
    factors = [factor for factor, _ in pairs]
    condition = And(condition, *(test for _, test in pairs))
    if not often(condition) or not all(isinstance(factor, Indexed) for factor in factors):
        return None
    reads = [read for f in factors if (read := _Read.of(f, shapes)) is not None]
    if len(reads) < len(factors):
        return None
    parts = _needed(And.make_args(condition))
    tests: list[list[Basic]] = [[] for _ in factors]
    small = sorted(range(len(factors)), key=lambda n: prod(shapes[name_of(factors[n])]))
    for part in parts:
        place = next((n for n in small if reads[n].expresses(part)), None)
        if place is None:
            return None
        tests[place].append(part)
    for factor, own in zip(factors, tests, strict=True):
        others = [part for part in parts if part not in own]
        if not _used(factor, And(*others)):
            return None
    return tuple(
        read.copied(own, room) if own or not read.whole else read.leaf
        for read, own in zip(reads, tests, strict=True)
    )


def _used(factor: Indexed, condition: Basic) -> bool:
    """Tell whether the condition holds somewhere for all values of the factor's indices."""
    indices = free_indices(condition)
    own = free_indices(factor)
    others = tuple(axis for axis, index in enumerate(indices) if index not in own)
    return bool(grid(condition, indices).any(axis=others).all())


def spread(target: Indexed, shapes: Shapes, room: int) -> Copied | None:
    """Return the tensor in which what is added to `target` lies at affine subscripts.

    Its `value` is the element of the target to which one of its own is added, under a condition
    where there are more. None where the target's subscripts are affine, or of no use.
    """
    if not bent(target):
        return None
    read = _Read.of(target, shapes)
    return None if read is None else read.copied((), room)


def gathered(step: Compute, shapes: Shapes) -> Compute | None:
    """Return what a step adds at affine subscripts, as sums into each element; None if it is none.

    Of the indices in a subscript the longest is solved for; sums run over the others.
    """
    if not isinstance(step.target, Indexed):
        return None
    own = step.target.indices
    axes = list(zip(own, axis_lengths(step.target, shapes), strict=True))
    moved = [subscript for subscript in own if not isinstance(subscript, Idx)]
    if not all(map(is_arithmetic, moved)):
        return None
    places = [Idx(Dummy(_name(s), integer=True), n) for s, n in axes if s in moved]
    fixed = [subscript for subscript in own if isinstance(subscript, Idx)]
    loops = [index for index in step.loops if index not in fixed]
    mapping = solved(moved, places, [i for i in loops if not is_sample(i)])
    conditions = within(mapping)
    if len(mapping) < len(moved) or not often(And(*conditions), _GATHERED):
        return None
    names = dict(zip(moved, places, strict=True))
    subscripts = tuple(names.get(subscript, subscript) for subscript in own)
    value = summed(
        substitute(step.value, mapping), conditions, [i for i in loops if i not in mapping]
    )
    return replace(
        step, target=element(name_of(step.target), subscripts), value=value, loops=subscripts
    )
