"""Sums of products of two tensors as offsets into flat memory, for register tiles.

Every tensor is contiguous and every subscript is affine in the indices, so moving one index by
one moves each operand by a fixed number of elements. That is all that a tile needs to
know: an index is one of its

    columns   contiguous in the result and in one operand (`right`); the other operand
              (`left`) stands still, or is contiguous too
    rows      moves the result and `left`, not `right`
    terms     moves no element of the result: it is summed
    loops     anything else

whether the equation is a dense layer, a convolution or attention. In lanes the samples are the
columns of every value of one sample. In the gradient of a weight the samples are summed; then
the last axis of the weight makes the columns, and the operand that has it is read from a
transposed copy.

A tile may also run along a sum: its columns are the elements of two lines, each contiguous, whose
products are added up (a dot product), and the result stands still. So do tiles in rows, and sums
over the samples of which there are few beside each other.

A sum may start from an element of a third tensor, as that of a layer does from its bias, if along
the columns this tensor stands still or is contiguous too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import prod

from sympy import Expr, Idx, Indexed, Integer

from symprop.indices import free_indices
from symprop.lower.steps import (
    Axis,
    Contract,
    Lane,
    Shapes,
    Tiling,
    Transpose,
    axis_lengths,
    counts_samples,
    element,
    extent,
    name_of,
)

__all__ = [
    "contracted",
    "dotted",
    "started",
    "transposable",
    "transposed",
    "transposed_axes",
]


@dataclass(frozen=True, slots=True)
class _Affine:
    """The flat offset of an element: a constant, and a stride for each index."""

    constant: int
    strides: dict[Idx, int]


def _affine(leaf: Indexed, shapes: Shapes) -> _Affine | None:
    """Return the offset of an element; None where a subscript is not affine in the indices."""
    shape = axis_lengths(leaf, shapes)
    if len(shape) != len(leaf.indices):
        return None
    constant, strides = 0, dict.fromkeys(free_indices(leaf), 0)
    for axis, subscript in enumerate(leaf.indices):
        step = prod(shape[axis + 1 :])
        for term in subscript.as_ordered_terms():
            factor, rest = term.as_coeff_Mul()
            if not isinstance(factor, Integer):
                return None
            if rest == 1:
                constant += int(factor) * step
            elif isinstance(rest, Idx):
                strides[rest] += int(factor) * step
            else:
                return None
    return _Affine(constant, strides)


def contracted(
    target: Indexed, first: Expr, second: Expr, summed: Iterable[Idx], shapes: Shapes
) -> Contract | None:
    """Return ``target = Sum(first*second, summed)`` for tiles; None where it has no columns."""
    return next(_contracts(target, first, second, summed, shapes, _Moves.tiling), None)


def dotted(
    target: Indexed,
    first: Expr,
    second: Expr,
    summed: Iterable[Idx],
    shapes: Shapes,
    lanes: bool = False,
) -> Contract | None:
    """Return ``target = Sum(first*second, summed)`` as dot products; None where it is none.

    Along one summed index, in `lanes` the samples, both operands are contiguous. Of the two, `left`
    is the one that has more rows.
    """
    along = partial(_Moves.dots, lanes=lanes)
    found = _contracts(target, first, second, summed, shapes, along)
    return max(found, key=lambda product: product.tiling.rows.count or 0, default=None)


def _contracts(
    target: Indexed,
    first: Expr,
    second: Expr,
    summed: Iterable[Idx],
    shapes: Shapes,
    tiled: Callable[[_Moves], Tiling | None],
) -> Iterator[Contract]:
    """Yield the product with either operand as `left`, where it can be `tiled`."""
    summed = tuple(summed)
    for left, right in ((first, second), (second, first)):
        moves = _moves((left, right, target), summed, shapes)
        tiling = None if moves is None else tiled(moves)
        if tiling is not None:
            yield Contract(target, left, right, tiling)


def started(contract: Contract, start: Expr, shapes: Shapes) -> Contract | None:
    """Return the product whose sums start from `start`; None where that takes other tiles."""
    leaves = (contract.left, contract.right, contract.target, start)
    moves = _moves(leaves, contract.summed, shapes)
    if moves is None:
        return None
    columns = contract.tiling.columns
    found = moves.tiling() if columns.out else moves.dots(columns.count is None)
    if found is None:
        return None
    found = replace(found, over=contract.tiling.over)
    same = found.unstarted == contract.tiling
    return replace(contract, tiling=found, start=start) if same else None


@dataclass(frozen=True, slots=True)
class _Moves:
    """How a product moves along the indices of its target, outermost first, and the summed ones."""

    own: dict[Idx, Axis]
    summed: tuple[Axis, ...]
    offsets: tuple[int, ...]

    def tiling(self) -> Tiling | None:
        """Return the tiling along the last indices of the target; None where it has no columns."""
        columns = _columns(self.own)
        if columns is None or not self.summed:
            return None
        lanes = isinstance(columns[-1], Lane)
        width = None if lanes else prod(self.own[index].count or 1 for index in columns)
        rows, loops = self._around(columns, samples=True)
        along = replace(self.own[columns[-1]], count=width)
        return Tiling(along, rows, self.summed, loops, self.offsets)

    def dots(self, lanes: bool = False) -> Tiling | None:
        """Return the tiling along a summed index, in `lanes` the samples, of which all are read.

        None where not both operands are contiguous.
        """
        lines = (axis for axis in self.summed if (axis.left, axis.right) == (1, 1))
        line = next((axis for axis in lines if (axis.count is None) == lanes), None)
        if line is None:
            return None
        others = tuple(axis for axis in self.summed if axis is not line) or (Axis(1, 0, 0, 0),)
        rows, loops = self._around()
        return Tiling(line, rows, others, loops, self.offsets)

    def _around(
        self, columns: tuple[Idx, ...] = (), samples: bool = False
    ) -> tuple[Axis, tuple[Axis, ...]]:
        """Return the rows, and the loops around them, of a product with these columns.

        The `samples`, of which there may be one, are rows where nothing else is.
        """
        rest = [axis for index, axis in self.own.items() if index not in columns]
        able = [axis for axis in rest if samples or axis.count]
        rows = [axis for axis in able if axis.left and axis.out and not axis.right]
        loops = [axis for axis in rest if axis not in rows]
        rows = sorted(_merged(rows), key=lambda axis: axis.count or 0)
        chosen = rows.pop() if rows else Axis(1, 0, 0, 0)
        return chosen, (*rows, *_merged(loops))


def _moves(leaves: tuple[Expr, ...], summed: tuple[Idx, ...], shapes: Shapes) -> _Moves | None:
    """Return the moves of left, right, target and perhaps start; None where not regular."""
    indexed = (leaf for leaf in leaves if isinstance(leaf, Indexed))
    places = [place for leaf in indexed if (place := _affine(leaf, shapes)) is not None]
    own = leaves[2].indices if len(places) == len(leaves) else ()
    if not own or not all(isinstance(part, Idx) for part in own) or len(set(own)) < len(own):
        return None

    def axis(index: Idx) -> Axis:
        return Axis(extent(index), *(place.strides.get(index, 0) for place in places))

    offsets = (*(place.constant for place in places), 0)[:4]
    return _Moves({index: axis(index) for index in own}, _terms(map(axis, summed)), offsets)


def _columns(moves: dict[Idx, Axis]) -> tuple[Idx, ...] | None:
    """Return the trailing indices of the target along which the operands are contiguous."""
    found: tuple[Idx, ...] = ()
    length = 1
    for index, axis in reversed(moves.items()):
        inner = moves[found[-1]] if found else axis
        alike = (bool(axis.left), bool(axis.start)) == (bool(inner.left), bool(inner.start))
        still = {axis.left, axis.start} <= {0, length}
        beside = (axis.right, axis.out) == (length, length)
        if not (beside and still and alike) or counts_samples(index):
            break
        found = (index, *found)
        length *= axis.count or 1
        if isinstance(index, Lane):  # a register of samples is wide enough
            break
    return found or None


def _terms(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Return the summed dimensions, the samples first."""
    axes = tuple(axes)
    samples = [axis for axis in axes if axis.count is None]
    return (*samples, *_merged([axis for axis in axes if axis.count is not None]))


def _merged(axes: list[Axis]) -> tuple[Axis, ...]:
    """Join neighbouring dimensions that every operand runs through in one stride."""
    found: list[Axis] = []
    for axis in axes:
        before = found[-1] if found else None
        if before is not None and before.count and axis.count and _continues(before, axis):
            found[-1] = replace(axis, count=before.count * axis.count)
        else:
            found.append(axis)
    return tuple(found)


def _continues(outer: Axis, inner: Axis) -> bool:
    count = inner.count or 1
    return (outer.left, outer.right, outer.out, outer.start) == (
        inner.left * count,
        inner.right * count,
        inner.out * count,
        inner.start * count,
    )


def transposable(target: Indexed, factor: Expr, shapes: Shapes) -> tuple[Idx, ...] | None:
    """Return the trailing indices of `target` that `factor` has as neighbouring axes of its own.

    None where it has none. A copy of the factor with these axes last has the columns that
    a product into `target` needs.
    """
    if not isinstance(factor, Indexed) or not all(isinstance(s, Idx) for s in factor.indices):
        return None
    if len(set(factor.indices)) < len(factor.indices) or name_of(factor) not in shapes:
        return None
    found: tuple[Idx, ...] = ()
    for index in reversed(target.indices):
        group = (index, *found)
        places = [factor.indices.index(i) for i in group if i in factor.indices]
        if len(places) < len(group) or any(b != a + 1 for a, b in pairwise(places)):
            break
        found = group
    return found or None


def transposed_axes(factor: Indexed, group: tuple[Idx, ...]) -> tuple[Idx, ...]:
    """Return the subscripts of a copy of `factor` that has those of `group` last."""
    return (*(index for index in factor.indices if index not in group), *group)


def transposed(factor: Indexed, group: tuple[Idx, ...], name: str, shapes: Shapes) -> Transpose:
    """Return the step that copies `factor` into `name` with the axes of `group` last."""
    begin = factor.indices.index(group[0])
    end = begin + len(group)
    lengths = shapes[name_of(factor)]
    target = element(name, transposed_axes(factor, group))
    batch, rows, columns = lengths[:begin], lengths[begin:end], lengths[end:]
    lanes = len(columns) == 1 and isinstance(factor.indices[-1], Lane)
    return Transpose(target, factor, prod(batch), prod(rows), prod(columns), lanes)
