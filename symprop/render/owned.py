"""Weights of which each thread has rows of its own, while the samples of a step are shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from sympy import Indexed

from symprop.lower.program import Storage
from symprop.lower.steps import LANES, Contract, name_of
from symprop.render.batches import Batches
from symprop.render.frames import Frames
from symprop.render.texts import call, joined

__all__ = ["Owned"]


class _Sum(NamedTuple):
    """The product of a weight and inputs, and where a thread adds up what its rows contribute.

    `rows` are those that a thread has at least, `room` is the tensor for the sums of its samples
    in the workspace, `first` the place of those of all samples among the sums of a thread.
    """

    reader: Contract
    rows: int
    room: Storage
    first: int


@dataclass(frozen=True, slots=True)
class Owned:
    """Writes what the threads do before and after the kernel where they share its samples.

    Before it each adds up what its rows of the weights contribute to the sums of all samples, and
    then, of its own samples, the contributions of all threads. After it each copies the adjoints of
    the others' samples, on which the gradients of its rows depend. Its own samples are the first in
    the arrays of a thread, then come those of the next one, and so on in a circle.
    """

    frames: Frames

    def context(self) -> dict[str, object]:
        """Return the function that computes a thread's sums; nothing where there is none."""
        signature = call("def _sum_parts(", self._given(self._inputs, self.frames.samples), "):")
        return {
            "sums_signature": joined(signature) if self.sums else "",
            "sums_body": joined(self._body()) if self.sums else "",
            "sums": sum(prod(each.room.shape) for each in self.sums),
            "zeros": max((prod(self._start(each.reader)) for each in self.sums), default=0),
            "workspace": self.frames.program.gradient.size,
        }

    @property
    def sums(self) -> tuple[_Sum, ...]:
        """The products of such weights."""
        found: list[_Sum] = []
        first = 0
        for part in self.frames.program.gradient.deferred:
            if part.reader:
                room = self._room(part.reader.target)
                found.append(_Sum(part.reader, part.rows, room, first))
                first += prod(room.shape)
        return tuple(found)

    def before(self, depth: int) -> Iterator[str]:
        """Yield the lines before the kernel; the thread's own samples are collected."""
        n, margin = self.frames.named, "    " * depth
        size, thread, threads = n["size"], n["thread"], n["threads"]
        begins, ends = n["begins"], n["ends"]
        yield f"{margin}for {n['other']} in range({thread} + 1, {thread} + {threads}):"
        share = self.frames.share(size, f"{n['other']} % {threads}")
        yield f"{margin}    {begins}, {ends} = {share}"
        order = n["permutation"], f"{n['position']} + {begins}", f"{ends} - {begins}"
        column = f"({begins} - {n['low']}) % {size}"
        yield from Batches(self.frames).behind(self._inputs, *order, column, depth + 1)
        batches = [self.frames.batches[name] for name in self._inputs]
        yield from call("_apart(", ["_sum_parts", *self._given(batches, size)], depth=depth)
        yield f"{margin}{n['phase']} += {threads}"
        yield f"{margin}_meet({n['arrived']}, {n['phase']})"
        for each in self.sums:
            *rows, _ = each.room.shape
            room = f"_view({n['workspace']}, {each.room.offset}, ({prod(each.room.shape)},))"
            given = ["_total", room, n["sums"], str(each.first), str(prod(rows))]
            yield from call("_apart(", [*given, size, thread, threads], depth=depth)

    def after(self, depth: int) -> Iterator[str]:
        """Yield the lines after the kernel, before the gradients of the rows."""
        n = self.frames.named
        products = (d.product for d in self.frames.program.gradient.deferred if d.reader)
        for room in dict.fromkeys(self._room(product.right) for product in products):
            _, *width = room.shape
            given = ["_exchange", n["workspaces"], str(room.offset), str(prod(width))]
            yield from call("_apart(", [*given, n["size"], n["thread"], n["threads"]], depth=depth)

    def _given(self, data: Iterable[str], samples: str) -> list[str]:
        n, read = self.frames.named, {name_of(r) for each in self.sums for r in each.reader.read}
        weights = [p.name for p in self.frames.network.parameters if p.name in read]
        return [*weights, *data, samples, n["zeros"], n["sums"], n["thread"], n["threads"]]

    @property
    def _inputs(self) -> list[str]:
        names = {name_of(each.reader.right) for each in self.sums}
        return [variable.name for variable in self.frames.data if variable.name in names]

    def _body(self) -> Iterator[str]:
        """Yield the products, each of a thread's rows of a weight."""
        n, name = self.frames.named, self.frames.printer.name
        lanes, low, high = name(str(LANES)), n["low"], n["high"]
        yield "    _hot()"
        yield f"    {lanes} = _lanes({self.frames.samples}, {self.frames.program.strategy.lanes})"
        for reader, rows, room, first in self.sums:
            terms = reader.tiling.terms[0]
            yield f"    # {reader.comment}"
            yield f"    {low}, {high} = {self.frames.share(terms.count or 1, n['thread'], rows)}"
            given = []
            for leaf, step in ((reader.left, terms.left), (reader.right, terms.right)):
                place = low if step == 1 else f"{step} * {low}"
                operand = name(name_of(leaf))
                given.append(f"_view({operand}, {place}, ({operand}.size - {place},))")
            place = f"{n['thread']} * {n['sums']}.shape[1]" + (f" + {first}" if first else "")
            given.append(f"_view({n['sums']}, {place}, ({prod(room.shape)},))")
            if reader.start is not None:
                zeros = f"_view({n['zeros']}, 0, {self._start(reader)})"
                given.append(f"{name(name_of(reader.start))} if {n['thread']} == 0 else {zeros}")
            some = replace(reader.tiling, terms=(replace(terms, count=None),))
            function = self.frames.forms.product(replace(reader, tiling=some))
            yield from call(f"{function}(", [*given, lanes, f"{high} - {low}"], depth=1)
        yield "    _compact()"

    def _start(self, reader: Contract) -> tuple[int, ...]:
        """Return the shape of what the sums start from; of no elements where that is 0."""
        shapes = {parameter.name: parameter.shape for parameter in self.frames.network.parameters}
        return (0,) if reader.start is None else shapes[name_of(reader.start)]

    def _room(self, leaf: Indexed) -> Storage:
        workspace = self.frames.program.gradient.workspace
        return next(storage for storage in workspace if storage.name == name_of(leaf))
