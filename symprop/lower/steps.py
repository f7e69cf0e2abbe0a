"""Steps: whole loop nests, which the passes reorder, fuse and move.

A step computes a tensor (`Compute`), a product of two tensors by BLAS (`Multiply`) or in register
tiles (`Contract`), or a copy with its axes exchanged (`Transpose`). All expressions are SymPy's.
Where each sample has its own value, tensors carry the sample as their first subscript ("rows") or
as their last ("lanes").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from sympy import Basic, Dummy, Expr, Idx, Indexed, IndexedBase, Symbol

from symprop.equation import name_of
from symprop.indices import accesses, free_indices, fresh, index_name, size

__all__ = [
    "ALL",
    "LANES",
    "SAMPLES",
    "WHOLE",
    "Access",
    "Axis",
    "Compute",
    "Contract",
    "Lane",
    "Matrix",
    "Multiply",
    "Shapes",
    "Step",
    "Tiling",
    "Transpose",
    "axis_lengths",
    "counts_samples",
    "element",
    "extent",
    "is_sample",
    "length",
    "name_of",
    "renewed",
]

SAMPLES = Symbol("number of samples", integer=True, positive=True)
"""How many samples a kernel is given; the range of the sample index."""

LANES = Symbol("number of lanes", integer=True, positive=True)
"""The number of samples rounded up to whole registers: what a kernel in lanes computes."""

WHOLE = Symbol("whole gradients are wanted")
"""The condition under which a kernel computes also what the training does part by part."""

ALL = Symbol(":")
"""Stands in an access for a whole axis, which a matrix product reads at once."""


Shapes = Mapping[str, tuple[int, ...]]
"""The shape of every tensor of floating-point numbers, in rows without the sample axis."""


class Lane(Idx):
    """An index over the lanes of a block, the last axis of a tensor; its range is their room."""


def is_sample(index: Basic) -> bool:
    """Tell whether an index runs over samples."""
    return isinstance(index, Lane) or (isinstance(index, Idx) and extent(index) is None)


def counts_samples(index: Basic) -> bool:
    """Tell whether an index runs over however many samples there are, in rows."""
    return is_sample(index) and not isinstance(index, Lane)


def extent(index: Idx) -> int | None:
    """Return how many values `index` takes; None for the sample index."""
    return None if index.upper.has(SAMPLES) else size(index)


def renewed(index: Idx, room: int = 0) -> Idx:
    """Return a new index like `index`; one over lanes runs over all there is `room` for, if given.

    What one sample has is computed for the whole block, which takes no longer.
    """
    if not is_sample(index):
        return fresh(index)
    label = Dummy("s", integer=True)
    if isinstance(index, Lane):
        return Lane(label, room or index.upper + 1)
    return Idx(label, SAMPLES)


def length(index: Idx) -> int | Symbol:
    """Return over how many values a loop over `index` runs."""
    count = extent(index)
    if count is None:
        return SAMPLES
    return LANES if isinstance(index, Lane) else count


@lru_cache(maxsize=4096)  # SymPy takes 50 us to work out what is known of an element
def element(name: str, subscripts: tuple[Expr, ...] = ()) -> Symbol | Indexed:
    """Return the scalar, or the element of the tensor, called `name`."""
    return IndexedBase(name, real=True)[subscripts] if subscripts else Symbol(name, real=True)


def axis_lengths(leaf: Indexed, shapes: Shapes) -> tuple[int, ...]:
    """Return the length of each axis of what is read; nothing where `shapes` does not have it.

    The samples of rows count as 1: they are the first axis, around which nothing lies.
    """
    shape = shapes.get(name_of(leaf))
    if shape is None:
        return ()
    return (1, *shape) if counts_samples(leaf.indices[0]) else shape


@dataclass(frozen=True, slots=True)
class Access:
    """One read or write of a variable by a step."""

    name: str
    subscripts: tuple[Basic, ...]
    writes: bool
    adds: bool = False


@dataclass(frozen=True, slots=True)
class Compute:
    """``target = value`` (or ``+=``) for all values of `loops`, outermost first."""

    target: Symbol | Indexed
    value: Expr
    loops: tuple[Idx, ...]
    accumulate: bool = False
    comment: str = ""

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Every read and write, the write last."""
        subscripts = tuple(self.target.indices) if isinstance(self.target, Indexed) else ()
        read = [*accesses(self.value), *(leaf for part in subscripts for leaf in accesses(part))]
        return (
            *(_access(leaf, False, False) for leaf in read),
            _access(self.target, True, self.accumulate),
        )

    def __str__(self) -> str:
        """Return the step in one line."""
        sign = "+=" if self.accumulate else "="
        return f"for {_names(self.loops)}: {self.target} {sign} {self.value}"


def _access(leaf: Expr, writes: bool, adds: bool) -> Access:
    subscripts = tuple(leaf.indices) if isinstance(leaf, Indexed) else ()
    return Access(name_of(leaf), subscripts, writes, adds)


def _names(indices: tuple[Idx, ...]) -> str:
    return ", ".join(map(index_name, indices)) or "()"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A tensor read as a matrix: fixed leading `loops`, then two groups of axes.

    The tensor has the shape ``(*loops, *rows, *columns)``, and is contiguous.
    """

    name: str
    loops: tuple[Idx, ...]
    rows: tuple[Idx, ...]
    columns: tuple[Idx, ...]
    transposed: bool = False

    @property
    def access(self) -> tuple[Basic, ...]:
        """The subscripts, with `ALL` for the axes that are read at once."""
        return (*self.loops, *(ALL for _ in (*self.rows, *self.columns)))

    def __str__(self) -> str:
        """Return the matrix as ``W[i; j]``."""
        text = f"{self.name}[{_names(self.loops)}; {_names(self.rows)}; {_names(self.columns)}]"
        return text + (".T" if self.transposed else "")


@dataclass(frozen=True, slots=True)
class Multiply:
    """``target = left @ right``, a matrix product for all values of `loops`."""

    target: Matrix
    left: Matrix
    right: Matrix
    loops: tuple[Idx, ...]
    comment: str = ""

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Every read and write, the write last."""
        return (
            Access(self.left.name, self.left.access, False),
            Access(self.right.name, self.right.access, False),
            Access(self.target.name, self.target.access, True),
        )

    def __str__(self) -> str:
        """Return the step in one line."""
        return f"for {_names(self.loops)}: {self.target} = {self.left} @ {self.right}"


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of a contraction: how often, and by how many elements each operand moves.

    A `count` of None is the number of samples that the kernel is given.
    """

    count: int | None
    left: int
    right: int
    out: int
    start: int = 0

    def __str__(self) -> str:
        """Return the dimension with the operands that it moves: ``64 (left 32, right 1)``."""
        return f"{'samples' if self.count is None else self.count} ({self.moved})"

    @property
    def moved(self) -> str:
        """The operands that it moves, with their strides: ``left 32, right 1``."""
        names = ("left", "right", "out", "start")
        steps = zip(names, (self.left, self.right, self.out, self.start), strict=True)
        return ", ".join(f"{name} {step}" for name, step in steps if step)


@dataclass(frozen=True, slots=True)
class Tiling:
    """A contraction as offsets into flat memory, for register tiles.

    For all values of `loops`, `rows` and `columns` the sum over `terms` of a product of two
    elements. Along the columns `right` and `out` are contiguous; `left` stands still (stride 0, its
    element is spread over a vector) or moves with them (1), and so does what the sums start from.
    Or the columns are summed, too: `left` and `right` are contiguous, `out` stands still. Columns
    without a count are the lanes, or the samples where they are summed. `offsets` are those of
    left, right, out and start. With `over` the last vector of `right` may be read whole though
    there are fewer columns: it lies in the workspace, which something follows.
    """

    columns: Axis
    rows: Axis
    terms: tuple[Axis, ...]
    loops: tuple[Axis, ...]
    offsets: tuple[int, ...]
    over: bool = False

    @property
    def unstarted(self) -> Tiling:
        """The tiling of a sum that starts from 0."""
        return replace(
            self,
            columns=replace(self.columns, start=0),
            rows=replace(self.rows, start=0),
            loops=tuple(replace(axis, start=0) for axis in self.loops),
            offsets=(*self.offsets[:3], 0),
        )

    @property
    def counted(self) -> Symbol | None:
        """What is known only when the kernel runs: the lanes, the samples or nothing."""
        if self.columns.count is None and self.columns.out:
            return LANES
        counts = [axis.count for axis in (self.columns, self.rows, *self.terms, *self.loops)]
        return SAMPLES if None in counts else None

    def __str__(self) -> str:
        """Return the dimensions with their strides: ``rows 32 (left 1, out 32), terms ...``."""
        whole = " read in whole vectors" if self.over else ""
        kind, every = ("columns", "lanes") if self.columns.out else ("summed columns", "samples")
        parts = [
            f"rows {self.rows}" if self.rows.out else "no rows",
            f"{kind} {self.columns.count or every} ({self.columns.moved}){whole}",
        ]
        for name, axes in (("terms", self.terms), ("loops", self.loops)):
            moving = [str(axis) for axis in axes if axis.moved]
            parts += [f"{name} {' x '.join(moving)}"] if moving else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Contract:
    """``target = start + sum of left*right`` over the indices that `target` does not have.

    Subscripts are affine in the indices; `reason` says why register tiles were chosen. Without
    `start` the sum starts from 0.
    """

    target: Indexed
    left: Indexed
    right: Indexed
    tiling: Tiling
    reason: str = ""
    comment: str = ""
    start: Indexed | None = None

    @property
    def loops(self) -> tuple[Idx, ...]:
        """No loops that others could share: a contraction is done whole."""
        return ()

    @property
    def read(self) -> tuple[Indexed, ...]:
        """What is read: left, right, and the start where there is one."""
        return (self.left, self.right, *([] if self.start is None else [self.start]))

    @property
    def summed(self) -> tuple[Idx, ...]:
        """The indices that the operands have and the target has not, in their order."""
        read = (*self.left.indices, *self.right.indices)
        found = dict.fromkeys(index for part in read for index in free_indices(part))
        return tuple(index for index in found if index not in free_indices(self.target))

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Every read and write, the write last."""
        return (*(_whole(leaf, False) for leaf in self.read), _whole(self.target, True))

    def __str__(self) -> str:
        """Return the step in one line."""
        begun = "" if self.start is None else f" + {self.start}"
        return f"{self.target} = Sum({self.left}*{self.right}, {_names(self.summed)}){begun}"


@dataclass(frozen=True, slots=True)
class Transpose:
    """``target[b, c, r] = source[b, r, c]`` for tensors seen as (batch, rows, columns).

    With `lanes` the columns are the lanes, of which only those in use are copied.
    """

    target: Indexed
    source: Indexed
    batch: int
    rows: int
    columns: int
    lanes: bool
    comment: str = ""

    @property
    def loops(self) -> tuple[Idx, ...]:
        """No loops that others could share."""
        return ()

    @property
    def accesses(self) -> tuple[Access, ...]:
        """The read and the write."""
        return (_whole(self.source, False), _whole(self.target, True))

    def __str__(self) -> str:
        """Return the step in one line."""
        return f"{self.target} = transpose {self.source}"


def _whole(leaf: Indexed, writes: bool) -> Access:
    return Access(name_of(leaf), tuple(ALL for _ in leaf.indices), writes)


Step = Compute | Multiply | Contract | Transpose
