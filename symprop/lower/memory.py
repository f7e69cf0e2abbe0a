"""Pass 8: where the tensors of a kernel lie in its workspace.

A tensor lives from the first part of the kernel that writes it to the last that reads it; two that
never live at once may have the same place. What is computed element by element from a tensor
that is not needed any more takes over its memory (``h[j,s] = tanh(net_h[j,s])``): the
smaller the workspace, the more of it stays in the nearest cache. So it is in lanes, where a tensor
begins at a known place and the compiler sees that both are one; in rows, where the number of
samples decides about it, the loop would not be vectorised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from sympy import Basic, Idx

from symprop.lower.program import Storage
from symprop.lower.schedule import Nest, walk
from symprop.lower.steps import Step

__all__ = ["place"]

Lengths = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class _Use:
    """An access: which step makes it, in which part of the kernel, and inside of which loops."""

    part: int
    step: int
    loops: frozenset[Idx]
    subscripts: tuple[Basic, ...]

    @property
    def elementwise(self) -> bool:
        """Whether every turn of the loops has an element of its own."""
        return len(set(self.subscripts)) == len(self.subscripts) and (
            set(self.subscripts) == self.loops
        )


@dataclass(slots=True)
class _Tensor:
    """A tensor of the workspace: its uses, and where it lies from `offset` on."""

    name: str
    lengths: Lengths
    size: int
    uses: list[_Use] = field(default_factory=list)
    offset: int = 0

    @property
    def birth(self) -> int:
        return self.uses[0].part

    @property
    def death(self) -> int:
        return self.uses[-1].part

    def meets(self, other: _Tensor) -> bool:
        """Tell whether both live at once."""
        return self.birth <= other.death and other.birth <= self.death

    def overlaps(self, offset: int, size: int) -> bool:
        """Tell whether it has a number in common with `size` numbers from `offset` on."""
        return self.offset < offset + size and offset < self.offset + self.size


def place(
    kept: Mapping[str, Lengths], nests: Iterable[Nest | Step], block: int, lanes: int = 0
) -> tuple[tuple[Storage, ...], int]:
    """Return the place of every tensor in the workspace of `nests`, and the workspace's size.

    `kept` gives the length of each axis, None for the samples; `block` is how many
    samples there are at most. In lanes each tensor begins at a multiple of their number.
    """
    tensors = {
        name: _Tensor(name, lengths, _size(lengths, block, lanes or 1))
        for name, lengths in kept.items()
        if lengths
    }
    for name, use in _uses(nests):
        if name in tensors:
            tensors[name].uses.append(use)
    placed: list[_Tensor] = []
    for tensor in sorted(tensors.values(), key=lambda t: (t.birth, -t.size)):
        _put(tensor, placed, inherit=lanes > 0)
        placed.append(tensor)
    total = max((t.offset + t.size for t in placed), default=0)
    return tuple(_storage(tensor) for tensor in tensors.values()), total


def _size(lengths: Lengths, block: int, line: int) -> int:
    """Return the room for a tensor: in lanes whole lines, and one more.

    Layers of a power of two would else all begin in the same lines of the nearest cache, and a loop
    over several of them would find only some of them there (2 to 6 % of a step).
    """
    count = prod(block if length is None else length for length in lengths)
    return (-(-count // line) + 1) * line if line > 1 else count


def _storage(tensor: _Tensor) -> Storage:
    shape = tuple(length for length in tensor.lengths if length is not None)
    return Storage(tensor.name, shape, None in tensor.lengths, tensor.offset)


def _put(tensor: _Tensor, placed: list[_Tensor], *, inherit: bool) -> None:
    """Give a tensor the memory of one that it follows, or the first that is free."""
    for before in placed * inherit:
        if _succeeds(tensor, before):
            others = [t for t in placed if t is not before and t.meets(tensor)]
            if not any(t.overlaps(before.offset, tensor.size) for t in others):
                tensor.offset = before.offset
                return
    living = [t for t in placed if t.meets(tensor)]
    starts = sorted({0, *(t.offset + t.size for t in living)})
    tensor.offset = next(
        start for start in starts if not any(t.overlaps(start, tensor.size) for t in living)
    )


def _succeeds(tensor: _Tensor, before: _Tensor) -> bool:
    """Tell whether each element of `tensor` may be written where one of `before` was read last."""
    if tensor.lengths != before.lengths or tensor.birth != before.death:
        return False
    reads = [use for use in before.uses if use.part == before.death]
    writes = [use for use in tensor.uses if use.part == tensor.birth]
    alike = len({use.subscripts for use in (*reads, *writes)}) == 1
    elementwise = all(use.elementwise for use in (*reads, *writes))
    return alike and elementwise and reads[-1].step <= writes[0].step


def _uses(nests: Iterable[Nest | Step]) -> Iterator[tuple[str, _Use]]:
    """Yield every access of every step in their order."""
    count = 0
    for part, nest in enumerate(nests):
        for loops, step in walk((nest,)):
            count += 1
            for access in step.accesses:
                yield access.name, _Use(part, count, frozenset(loops), access.subscripts)
