"""What lowering produces: kernels as loops over statements, frozen and printable.

Two layers share this file. `Compute`, `Multiply`, `Contract` and `Transpose` are *steps*: whole
loop nests that the passes reorder, fuse and move. `Assign`, `Product`, `Fill`, `Note`,
`Loop` and `Branch` are *statements*, what a kernel's text is printed from; a `Contract` and a
`Transpose` are statements as they are. All expressions are SymPy's. Where each sample has its own
value, tensors carry the sample as their first subscript ("rows") or as their last ("lanes").
Names are those of the formulas (``dL/dz``); `Program.identifiers` gives the Python names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from sympy import Basic, Expr, Function, Idx, Indexed, IndexedBase, Symbol

from symprop.equation import name_of
from symprop.indices import accesses, free_indices, index_name, size
from symprop.lower.strategy import Strategy
from symprop.network import Value, Variable

__all__ = [
    "ALL",
    "LANES",
    "SAMPLES",
    "Access",
    "Assign",
    "Axis",
    "Branch",
    "Compute",
    "Contract",
    "Fill",
    "Initial",
    "Kernel",
    "Lane",
    "Loop",
    "Matrix",
    "Multiply",
    "Note",
    "Product",
    "Program",
    "Statement",
    "Step",
    "Storage",
    "Straight",
    "Tiling",
    "Transpose",
    "element",
    "extent",
    "is_sample",
    "length",
    "name_of",
]

SAMPLES = Symbol("number of samples", integer=True, positive=True)
"""How many samples a kernel is given; the range of the sample index."""

LANES = Symbol("number of lanes", integer=True, positive=True)
"""The number of samples rounded up to whole registers: what a kernel in lanes computes."""

ALL = Symbol(":")
"""Stands in an access for a whole axis, which a matrix product reads at once."""


class Lane(Idx):
    """An index over the lanes of a block, the last axis of a tensor; its range is their room."""


def is_sample(index: Basic) -> bool:
    """Tell whether an index runs over samples."""
    return isinstance(index, Lane) or (isinstance(index, Idx) and extent(index) is None)


def extent(index: Idx) -> int | None:
    """Return how many values `index` takes; None for the sample index."""
    return None if index.upper.has(SAMPLES) else size(index)


def length(index: Idx) -> int | Symbol:
    """Return over how many values a loop over `index` runs."""
    count = extent(index)
    if count is None:
        return SAMPLES
    return LANES if isinstance(index, Lane) else count


def element(name: str, subscripts: tuple[Expr, ...] = ()) -> Symbol | Indexed:
    """Return the scalar, or the element of the tensor, called `name`."""
    return IndexedBase(name, real=True)[subscripts] if subscripts else Symbol(name, real=True)


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
    without a count are the lanes. `offsets` are those of left, right, out and start. With `over`
    the last vector of `right` may be read whole though there are fewer columns: it lies in the
    workspace, which something follows.
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
        if self.columns.count is None:
            return LANES
        counts = [axis.count for axis in (*self.terms, *self.loops)]
        return SAMPLES if None in counts else None

    def __str__(self) -> str:
        """Return the dimensions with their strides: ``rows 32 (left 1, out 32), terms ...``."""
        count, whole = self.columns.count, " read in whole vectors" if self.over else ""
        kind = "columns" if self.columns.out else "summed columns"
        parts = [
            f"rows {self.rows}" if self.rows.out else "no rows",
            f"{kind} {'lanes' if count is None else count} ({self.columns.moved}){whole}",
            "terms " + " x ".join(map(str, self.terms)),
        ]
        return ", ".join(parts + ["loops " + " x ".join(map(str, self.loops))] * bool(self.loops))


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


@dataclass(frozen=True, slots=True)
class Assign:
    """``target = value`` or ``target += value``."""

    target: Symbol | Indexed
    value: Expr
    accumulate: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """``target = left @ right`` into the memory of `target`."""

    target: Matrix
    left: Matrix
    right: Matrix


@dataclass(frozen=True, slots=True)
class Note:
    """The equation that the statements after it compute."""

    text: str


@dataclass(frozen=True, slots=True)
class Fill:
    """Set a tensor, or the part of it at some leading subscripts, to 0."""

    name: str
    subscripts: tuple[Basic, ...] = ()


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over all values of an index."""

    index: Idx
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """The first body whose condition holds; a last condition of True is the ``else``."""

    cases: tuple[tuple[Basic, tuple[Statement, ...]], ...]


Statement = Assign | Product | Contract | Transpose | Fill | Note | Loop | Branch


@dataclass(frozen=True, slots=True)
class Storage:
    """A tensor in the workspace, from `offset` on; with a leading sample axis if `sampled`."""

    name: str
    shape: tuple[int, ...]
    sampled: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """One compiled function: it works on a block of at most `Strategy.block` samples.

    `strategy` is how it goes about that, `data` are the inputs (and targets) that it reads,
    `outputs` the arrays that it fills. `workspace` lies in one flat array of `size` numbers.
    """

    name: str
    strategy: Strategy
    data: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    workspace: tuple[Storage, ...]
    size: int
    body: tuple[Statement, ...]

    def __str__(self) -> str:
        """Return the kernel as indented pseudo-code."""
        lines = [f"{storage.name}: {storage.shape}" for storage in self.workspace]
        return "\n".join([f"kernel {self.name}", *lines, *_listing(self.body, 1)])


@dataclass(frozen=True, slots=True)
class Straight:
    """The gradient of a tiny network without loops (but over samples) and tensors (but the data).

    `elements` names the variables of each parameter and of its adjoint, the last axis fastest;
    `names` are all those that stand for elements of tensors.
    """

    kernel: Kernel
    elements: Mapping[str, tuple[str, ...]]
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Initial:
    """How a parameter starts: literal `value`, or a draw from a `distribution`.

    `distribution` is "uniform" (between -scale and scale), "normal" (with standard
    deviation `scale`) or "" for the value.
    """

    name: str
    shape: tuple[int, ...]
    distribution: str
    scale: float
    value: Value | None
    comment: str


@dataclass(frozen=True, slots=True)
class Program:
    """All kernels of a network.

    `forward` fills the outputs, and so does `few` in rows where the others are in lanes; `loss`
    returns the sum of the samples' losses, `gradient` returns it too and fills the sum of the
    samples' gradients. `strategy` is that of all but `few`. `taken` holds
    all names in use, `loss_sum` is the scalar in which losses are added up. `straight` is the
    gradient as a training step uses it where its values are variables.
    """

    forward: Kernel
    loss: Kernel
    gradient: Kernel
    strategy: Strategy
    identifiers: Mapping[str, str]
    taken: frozenset[str]
    loss_sum: str
    initial: tuple[Initial, ...]
    few: Kernel | None = None
    straight: Straight | None = None

    @property
    def work(self) -> int:
        """Operations of the gradient for one sample, about: a function counts as ten."""
        block = self.strategy.block
        return _work(self.gradient.body, block) // (block if self.strategy.lanes else 1)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels in the order of the generated text."""
        few = (self.few,) if self.few else ()
        step = (self.straight.kernel,) if self.straight else ()
        return (self.forward, *few, self.loss, self.gradient, *step)

    def __str__(self) -> str:
        """Return the kernels as indented pseudo-code."""
        return "\n\n".join(map(str, self.kernels))


def _work(statements: Iterable[Statement], block: int) -> int:
    """Return about how many operations some statements are, for `block` samples in lanes."""
    total = 0
    for statement in statements:
        match statement:
            case Loop(index, body):
                samples = 1 if extent(index) is None and not isinstance(index, Lane) else block
                total += (extent(index) or samples) * _work(body, block)
            case Branch(cases):
                total += max(_work(body, block) for _, body in cases)
            case Contract():
                tiling = statement.tiling
                axes = (tiling.columns, tiling.rows, *tiling.terms, *tiling.loops)
                total += 2 * prod(axis.count or block for axis in axes)
            case Product(_, left, right):
                indices = {*left.rows, *left.columns, *right.rows, *right.columns}
                total += 2 * prod(extent(index) or 1 for index in indices)
            case Assign(_, value):
                total += 1 + value.count_ops() + 9 * len(value.atoms(Function))
    return total


def _listing(statements: tuple[Statement, ...], depth: int) -> Iterator[str]:
    margin = "    " * depth
    for statement in statements:
        match statement:
            case Loop(index, body):
                yield f"{margin}for {index_name(index)} in {length(index)}:"
                yield from _listing(body, depth + 1)
            case Branch(cases):
                for condition, body in cases:
                    yield f"{margin}where {condition}:"
                    yield from _listing(body, depth + 1)
            case Assign(target, value, accumulate):
                yield f"{margin}{target} {'+=' if accumulate else '='} {value}"
            case Product(target, left, right):
                yield f"{margin}{target} = {left} @ {right}"
            case Contract() | Transpose():
                yield f"{margin}{statement}"
            case Note(text):
                yield f"{margin}# {text}"
            case Fill(name, subscripts):
                yield f"{margin}{name}{list(subscripts)} = 0"
