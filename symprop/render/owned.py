"""Weights of which each thread has rows of its own, while the samples of a step are shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from sympy import Indexed

from symprop.lower.program import Deferred, Storage
from symprop.lower.steps import LANES, Contract, name_of
from symprop.render.batches import Batches
from symprop.render.frames import Frames
from symprop.render.texts import call, joined, times

__all__ = ["Owned"]


class _Sum(NamedTuple):
    """The product `reader` of a weight and inputs, and where a thread has what its rows contribute.

    `room` is the tensor for the sums of its own samples in the workspace, `first` the place of
    those of all samples among the sums of a thread.
    """

    part: Deferred
    reader: Contract
    room: Storage
    first: int

    @property
    def start(self) -> tuple[str, ...]:
        """The text of `first`, where it is not 0."""
        return (str(self.first),) if self.first else ()

    @property
    def rows(self) -> int:
        """How many sums each sample has."""
        return prod(self.room.shape[:-1])


@dataclass(frozen=True, slots=True)
class Owned:
    """Writes what the threads do before and after the kernel where they share its samples.

    Before it each computes the sums of all samples that its rows of a weight give, or what they
    contribute to them; then, of its own samples, it gathers the sums of all threads. After it each
    copies the adjoints of the others' samples, on which the gradients of its rows depend. Its own
    samples are the first in the arrays of a thread, then those of the next, and so on in a circle.
    """

    frames: Frames

    def context(self) -> dict[str, object]:
        """Return the function that computes a thread's sums; nothing where there is none."""
        signature = call("def _sum_parts(", self._given(self._inputs, self.frames.samples), "):")
        return {
            "sums_signature": joined(signature) if self.sums else "",
            "sums_body": joined(self._body()) if self.sums else "",
            "sums": sum(prod(each.room.shape) for each in self.sums),
            "zeros": max((prod(self._start(each)) for each in self.sums), default=0),
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
                found.append(_Sum(part, part.reader, room, first))
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
        yield from self.frames.met(depth)
        for each in self.sums:
            room = f"_view({n['workspace']}, {each.room.offset}, ({prod(each.room.shape)},))"
            part = each.part.owned if each.part.copy else 0
            given = ["_total", room, n["sums"], *map(str, (each.first, each.rows, part))]
            yield from call("_apart(", [*given, size, thread, threads], depth=depth)

    def after(self, depth: int) -> Iterator[str]:
        """Yield the lines after the kernel, before the gradients of the rows."""
        n, margin = self.frames.named, "    " * depth
        done = set()
        for each in self.sums:
            adjoint = each.part.product.left if each.part.copy else each.part.product.right
            room = self._room(adjoint)
            where = ["0", "1", "0", str(prod(room.shape[1:]))]  # the samples are the first axis
            if each.part.copy:
                share = self.frames.share(each.rows, n["thread"], each.part.owned)
                yield f"{margin}{n['begins']}, {n['ends']} = {share}"
                where = [n["begins"], n["ends"], str(room.shape[-1]), "1"]  # they are the last
            elif room.name in done:
                continue
            done.add(room.name)
            given = ["_exchange", n["workspaces"], str(room.offset), *where]
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
        lanes = name(str(LANES))
        yield "    _hot()"
        yield f"    {lanes} = _lanes({self.frames.samples}, {self.frames.program.strategy.lanes})"
        for each in self.sums:
            rows = each.part.product.tiling.rows.count or 1
            share = self.frames.share(rows, n["thread"], each.part.owned)
            yield f"    {n['low']}, {n['high']} = {share}"
            if not each.part.copy:
                yield from self._terms(each, lanes)
                continue
            for head, first, count in self.frames.in_parts(rows, each.part.owned):
                yield head
                yield from self._rows(each, count, first, lanes)
        yield "    _compact()"

    def _terms(self, each: _Sum, lanes: str) -> Iterator[str]:
        """Yield the product of a thread's rows, each a term of all sums."""
        n, tiling = self.frames.named, each.reader.tiling
        terms, low = tiling.terms[0], n["low"]
        moved = [self.frames.moved(each.reader.left, terms.left, low)]
        moved += [self.frames.moved(each.reader.right, terms.right, low)]
        given = [*moved, self.frames.own("sums", prod(each.room.shape), *each.start)]
        if each.reader.start is not None:
            start = self.frames.printer.name(name_of(each.reader.start))
            zeros = f"_view({n['zeros']}, 0, {self._start(each)})"
            given.append(f"{start} if {n['thread']} == 0 else {zeros}")
        some = replace(tiling, terms=(replace(terms, count=None),))
        yield f"    # {each.reader.comment}"
        function = self.frames.forms.product(replace(each.reader, tiling=some))
        yield from call(f"{function}(", [*given, lanes, f"{n['high']} - {low}"], depth=1)

    def _rows(self, each: _Sum, count: int, first: str, lanes: str) -> Iterator[str]:
        """Yield the product of some rows, each of which gives a sum."""
        rows = each.reader.tiling.rows
        place = self.frames.own("sums", rows.out * count, *each.start, times(rows.out, first))
        given = [self.frames.moved(each.reader.left, rows.left, first)]
        given += [self.frames.printer.name(name_of(each.reader.right)), place]
        if each.reader.start is not None:
            given.append(self.frames.moved(each.reader.start, rows.start, first))
        some = replace(each.reader.tiling, rows=replace(rows, count=count))
        yield f"        # {each.reader.comment}"
        function = self.frames.forms.product(replace(each.reader, tiling=some))
        yield from call(f"{function}(", [*given, lanes], depth=2)

    def _start(self, each: _Sum) -> tuple[int, ...]:
        """Return the shape of what sums start from in one thread; of no elements if in none."""
        shapes = {parameter.name: parameter.shape for parameter in self.frames.network.parameters}
        start = None if each.part.copy else each.reader.start
        return (0,) if start is None else shapes[name_of(start)]

    def _room(self, leaf: Indexed) -> Storage:
        workspace = self.frames.program.gradient.workspace
        return next(storage for storage in workspace if storage.name == name_of(leaf))
