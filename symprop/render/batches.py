"""How a block of samples gets into a kernel and out of it, for each layout.

In rows a kernel reads rows of the user's arrays where they lie together, and a copy of them
where a permutation scatters them. In lanes it always works on copies with the samples last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from symprop.lower.program import Kernel
from symprop.lower.vocabulary import new_name
from symprop.network import Variable
from symprop.render.frames import Frames
from symprop.render.texts import call

__all__ = ["Batches"]


@dataclass(frozen=True, slots=True)
class Batches:
    """Writes the lines that fill and empty the arrays of one block."""

    frames: Frames

    def room(self, variables: Iterable[Variable], rows: str) -> Iterator[tuple[str, str]]:
        """Yield the array for a block of each variable, and the text that makes it.

        `rows` is how many samples a block has in rows.
        """
        for variable in variables:
            kind = "np.int64" if variable.name in self.frames.network.index_inputs else "real"
            lengths = [str(length) for length in variable.shape]
            axes = [*lengths, "_BLOCK"] if self.frames.lanes else [rows, *lengths]
            shape = f"({', '.join(axes)})" if len(axes) > 1 else axes[0]
            maker = "zeros" if self.frames.lanes else "empty"
            yield self.frames.batches[variable.name], f"np.{maker}({shape}, {kind})"

    def shared(self, kernel: Kernel) -> Iterator[str]:
        """Yield the lines that make room for a kernel's values and one block, in lanes.

        It is one piece of memory, taken anew by each call; only subscripts have their own, which
        are 0 where there is no sample.
        """
        integers, frames = self.frames.network.index_inputs, self.frames
        numbers = [v for v in (*kernel.data, *kernel.outputs) if v.name not in integers]
        lanes, block = frames.program.strategy.lanes, frames.program.strategy.block
        low = -(-kernel.size // lanes) * lanes
        sizes = [prod(variable.shape) * block for variable in numbers]
        if low + sum(sizes):
            yield f"    {frames.named['workspace']} = {frames.memory(low + sum(sizes))}"
        for variable, size in zip(numbers, sizes, strict=True):
            shape = (*variable.shape, block)
            if kernel.size:  # the kernel reads the workspace, so that it outlives its parts
                part = f"_view({frames.named['workspace']}, {low}, {shape})"
            else:
                part = f"{frames.named['workspace']}[{low}:{low + size}].reshape({shape})"
            yield f"    {frames.batches[variable.name]} = {part}"
            low += size
        for name, made in self.room([v for v in kernel.data if v.name in integers], ""):
            yield f"    {name} = {made}"

    def block(self, variable: Variable) -> str:
        """Return the text of a block of a variable's samples, which lie together."""
        first = self.frames.named["first"]
        return f"{variable.name}[{first} : {first} + _BLOCK]"

    def read(self, kernel: Kernel) -> Iterator[str]:
        """Yield the lines that copy a block of samples, which lie together, into lanes."""
        frames, first = self.frames, self.frames.named["first"]
        row, rows = self.frames.named["row"], self.frames.named["rows"]
        for variable in kernel.data:
            batch = frames.batches[variable.name]
            if variable.name in frames.network.index_inputs:
                yield f"        for {row} in range({rows}):"
                yield from self._moved(variable, batch, variable.name, row, f"{first} + {row}", 3)
            else:
                collect, part = self._gather(variable), self.block(variable)
                yield from call(f"{collect}(", [part, "_IN_ORDER", "0", rows, batch], depth=2)

    def collected(
        self, kernel: Kernel, order: str, place: str, depth: int, count: str
    ) -> Iterator[str]:
        """Yield the lines that copy the samples of a block into their arrays.

        They are those whose numbers stand in the array `order` from `place` on, `count` of them.
        """
        integers = self.frames.network.index_inputs
        plain = [v for v in kernel.data if not self.frames.lanes or v.name in integers]
        for variable in kernel.data:
            if variable not in plain:
                parts = [variable.name, order, place, count, self.frames.batches[variable.name]]
                yield from call(f"{self._gather(variable)}(", parts, depth=depth)
        if plain:
            row, origin = self.frames.named["row"], self.frames.named["origin"]
            yield f"{'    ' * depth}for {row} in range({count}):"
            yield f"{'    ' * (depth + 1)}{origin} = {order}[{place} + {row}]"
            for variable in plain:
                batch = self.frames.batches[variable.name]
                yield from self._moved(variable, batch, variable.name, row, origin, depth + 1)

    def behind(
        self, names: Iterable[str], order: str, place: str, count: str, column: str, depth: int
    ) -> Iterator[str]:
        """Yield the lines that copy `count` samples of some variables to a block, from `column` on.

        In lanes; their numbers stand in the array `order` from `place` on.
        """
        for variable in map(self.frames.network.variable, names):
            block = self.frames.program.strategy.block
            shape, collect = (*variable.shape, block), self._gather(variable)
            batch = f"_view({self.frames.batches[variable.name]}, {column}, {shape})"
            yield from call(f"{collect}(", [variable.name, order, place, count, batch], depth=depth)

    def _gather(self, variable: Variable) -> str:
        """Return the function that copies samples of a variable to a block."""
        return self.frames.forms.gather(prod(variable.shape), self.frames.program.strategy.block)

    def returned(self, kernel: Kernel, depth: int) -> Iterator[str]:
        """Yield the lines that copy a block of outputs in lanes to the user's arrays."""
        row, first = self.frames.named["row"], self.frames.named["first"]
        if not kernel.outputs:
            return
        yield f"{'    ' * depth}for {row} in range({self.frames.named['rows']}):"
        for output in kernel.outputs:
            margin, axes = "    " * (depth + 1), self._axes(output)
            for axis, length in zip(axes, output.shape, strict=True):
                yield f"{margin}for {axis} in range({length}):"
                margin += "    "
            target = ", ".join([f"{first} + {row}", *axes])
            source = ", ".join([*axes, row])
            yield f"{margin}{output.name}[{target}] = {self.frames.batches[output.name]}[{source}]"

    def _moved(
        self, variable: Variable, target: str, source: str, row: str, origin: str, depth: int
    ) -> Iterator[str]:
        """Yield the loops that copy one sample of a variable."""
        margin, axes = "    " * depth, self._axes(variable)
        for axis, length in zip(axes, variable.shape, strict=True):
            yield f"{margin}for {axis} in range({length}):"
            margin += "    "
        place = [*axes, row] if self.frames.lanes else [row, *axes]
        yield f"{margin}{target}[{', '.join(place)}] = {source}[{', '.join([origin, *axes])}]"

    def _axes(self, variable: Variable) -> list[str]:
        """Return names for the axes of a variable that nothing else has."""
        frames = self.frames
        taken = {*frames.program.taken, *frames.named.values(), *frames.rates.values()}
        return [new_name("axis", taken) for _ in variable.shape]
