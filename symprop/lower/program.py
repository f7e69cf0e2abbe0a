"""What lowering produces: kernels as loops over statements, frozen and printable.

A kernel's text is printed from its statements: `Assign`, `Product`, `Note`, `Loop` and `Branch`,
and of the steps `Contract` and `Transpose` as they are. Names are those of the formulas
(``dL/dz``); `Program.identifiers` gives the Python names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from sympy import Basic, Expr, Function, Idx, Indexed, Symbol

from symprop.indices import index_name
from symprop.lower.steps import Contract, Matrix, Transpose, extent, length
from symprop.lower.strategy import Strategy
from symprop.lower.tables import Table
from symprop.network import Value, Variable
from symprop.ranges import is_arithmetic

__all__ = [
    "Assign",
    "Branch",
    "Deferred",
    "Initial",
    "Kernel",
    "Loop",
    "Note",
    "Product",
    "Program",
    "Statement",
    "Storage",
    "Straight",
    "nested",
]


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
class Loop:
    """A loop over all values of an index."""

    index: Idx
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """The first body whose condition holds; a last condition of True is the ``else``."""

    cases: tuple[tuple[Basic, tuple[Statement, ...]], ...]


Statement = Assign | Product | Contract | Transpose | Note | Loop | Branch


@dataclass(frozen=True, slots=True)
class Storage:
    """A tensor in the workspace, from `offset` on; with a leading sample axis if `sampled`."""

    name: str
    shape: tuple[int, ...]
    sampled: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Deferred:
    """A weight's gradient that the training computes some `rows` at a time, to apply each part.

    With no rows it is computed element by element: for one sample it is a product of two numbers.
    Where threads have rows of their own, `owned` or a multiple of it, `reader` is the product that
    reads the weight. Of that each row gives a sum, if there is a `copy` of the inputs that
    `product` reads, or else a term of all sums.
    """

    product: Contract
    rows: int
    owned: int = 0
    reader: Contract | None = None
    copy: Transpose | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """One compiled function: it works on a block of at most `Strategy.block` samples.

    `strategy` is how it goes about that, `data` are the inputs (and targets) that it reads,
    `outputs` the arrays that it fills. `workspace` lies in one flat array of `size` numbers.
    What is `deferred` is the body's end, which is done where whole gradients are wanted; so are the
    products that read these weights, if any, which are its beginning.
    """

    name: str
    strategy: Strategy
    data: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    workspace: tuple[Storage, ...]
    size: int
    body: tuple[Statement, ...]
    deferred: tuple[Deferred, ...] = ()

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
    gradient as a training step uses it where its values are variables. `tables` are the constant
    tensors that the kernels read.
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
    tables: tuple[Table, ...] = ()

    @property
    def work(self) -> int:
        """Operations of the gradient for one sample, about: a function of data counts as ten."""
        samples = self.strategy.block if self.strategy.lanes else 1
        return _work(self.gradient.body, samples) // samples

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels in the order of the generated text."""
        few = (self.few,) if self.few else ()
        step = (self.straight.kernel,) if self.straight else ()
        return (self.forward, *few, self.loss, self.gradient, *step)

    def __str__(self) -> str:
        """Return the kernels as indented pseudo-code."""
        return "\n\n".join(map(str, self.kernels))


def nested(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Yield every statement, and behind a loop or a branch those inside of it."""
    for statement in statements:
        yield statement
        match statement:
            case Loop(_, body):
                yield from nested(body)
            case Branch(cases):
                yield from nested(inner for _, body in cases for inner in body)


def _work(statements: Iterable[Statement], samples: int) -> int:
    """Return about how many operations some statements are, for so many samples."""
    total = 0
    for statement in statements:
        match statement:
            case Loop(index, body):
                total += (extent(index) or samples) * _work(body, samples)
            case Branch(cases):
                total += max(_work(body, samples) for _, body in cases)
            case Contract():
                tiling = statement.tiling
                axes = (tiling.columns, tiling.rows, *tiling.terms, *tiling.loops)
                total += 2 * prod(axis.count or samples for axis in axes)
            case Product(_, left, right):
                indices = {*left.rows, *left.columns, *right.rows, *right.columns}
                total += 2 * prod(extent(index) or samples for index in indices)
            case Assign(_, value):
                functions = (f for f in value.atoms(Function) if not is_arithmetic(f))
                total += 1 + value.count_ops() + 9 * sum(1 for _ in functions)
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
