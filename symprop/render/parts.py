"""The update of large weights, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sympy import Integer, Symbol

from symprop.indices import index_name, size, substitute
from symprop.lower.program import Deferred
from symprop.lower.steps import Transpose, name_of
from symprop.network import Parameter
from symprop.printer import Printer
from symprop.render.frames import Frames
from symprop.render.lines import Lines
from symprop.render.rule import factored, rule
from symprop.render.texts import call, joined, times

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """Writes the function that computes gradients in parts and applies the rule to each."""

    frames: Frames

    def context(self) -> dict[str, object]:
        """Return the function; nothing where no gradient is deferred."""
        if not self.weights:
            return {"parts_signature": "", "parts_body": ""}
        given = self._given(self._data, self.frames.samples, self.frames.named["scale"])
        signature = call("def _update_parts(", given, "):")
        return {"parts_signature": joined(signature), "parts_body": joined(self._body())}

    @property
    def weights(self) -> dict[Parameter, Deferred]:
        """The weights that are updated so; one that is not trained needs no gradient."""
        frames = self.frames
        found = {name_of(part.product.target): part for part in frames.program.gradient.deferred}
        names = {p: frames.adjoint(p) for p in frames.network.parameters if p.trainable}
        return {parameter: found[name] for parameter, name in names.items() if name in found}

    @property
    def most(self) -> str:
        """How many samples a step may have, to be done so."""
        alone = any(not part.rows for part in self.frames.program.gradient.deferred)
        return "1" if alone else "_BLOCK"

    def called(self, depth: int) -> Iterator[str]:
        """Yield the call, for a step that has few enough samples."""
        size, batches = self.frames.named["size"], self.frames.batches
        data = [batches[name] for name in self._data]
        given = self._given(data, size, f"1.0 / {size}")
        yield from call("_apart(", ["_update_parts", *given], depth=depth)

    def _given(self, data: list[str], samples: str, scale: str) -> list[str]:
        n = self.frames.named
        workspace = [n["workspace"]] if self.frames.program.gradient.size else []
        given = [*data, samples, *workspace, n["gradient"], n["values"], scale, *self._rest]
        return [*given, n["thread"], n["threads"]] if self.frames.lanes else given

    @property
    def _rest(self) -> list[str]:
        """What the rule depends on, but for the scale of the gradient."""
        return [self.frames.named["iteration"], *self.frames.rates.values()]

    @property
    def _read(self) -> set[str]:
        """The names of the products' operands."""
        parts = self.weights.values()
        leaves = (leaf for part in parts for leaf in part.product.read)
        copied = (part.copy.source for part in parts if part.copy)
        return {name_of(leaf) for leaf in (*leaves, *copied)}

    @property
    def _data(self) -> list[str]:
        return [variable.name for variable in self.frames.data if variable.name in self._read]

    def _body(self) -> Iterator[str]:
        frames, read = self.frames, self._read
        yield "    _hot()"
        for storage in frames.program.gradient.workspace:
            if storage.name in read:
                yield frames.storage(storage)
        if any(not part.rows for part in self.weights.values()):
            factors, _ = factored(rule(frames.options.optimizer), frames)
            yield from (f"    {line}" for line in factors)
        for parameter, part in self.weights.items():
            write = self._by_rows if part.rows else self._by_elements
            yield from write(parameter, part)

    def _starts(self, parameter: Parameter) -> list[int]:
        """Return where a weight and what the optimizer keeps of it begin among all values."""
        frames = self.frames
        rows = range(1 + len(frames.options.optimizer.slots))
        return [row * frames.size + frames.offset(parameter) for row in rows]

    def _by_elements(self, parameter: Parameter, part: Deferred) -> Iterator[str]:
        """Yield the loops over the elements of a weight: gradient and rule, for one sample."""
        frames, n, optimizer = self.frames, self.frames.named, self.frames.options.optimizer
        slope = Symbol(frames.adjoint(parameter), real=True)
        update = rule(optimizer, *parameter.indices, slope=slope)
        _, names = factored(update, frames)
        for name, start in zip(("theta", *optimizer.slots), self._starts(parameter), strict=True):
            yield f"    {n[name]} = _view({n['values']}, {start}, {parameter.shape})"
        for depth, index in enumerate(parameter.indices, 1):
            yield f"{'    ' * depth}for {index_name(index)} in range({size(index)}):"
        depth = 1 + len(parameter.indices)
        named = frames.printer.name(slope.name)
        yield f"{'    ' * depth}# {part.product.comment}"
        yield f"{'    ' * depth}{named} = {self._slope(parameter, part)}"
        printer = Printer(frames.options.dtype, {**n, **names, slope.name: named})
        yield from Lines(printer).body(update.body, depth)

    def _slope(self, parameter: Parameter, part: Deferred) -> str:
        """Return the text of an element of a gradient, for the only sample."""
        own = dict(zip(part.product.target.indices, parameter.indices, strict=True))
        first = {index: Integer(0) for index in part.product.summed}
        value = part.product.left * part.product.right
        return self.frames.printer.expression(substitute(value, {**own, **first}))

    def _by_rows(self, parameter: Parameter, part: Deferred) -> Iterator[str]:
        """Yield the loop over the parts of a weight, and what is left of its rows."""
        n = self.frames.named
        rows = part.product.tiling.rows.count or 1
        if self.frames.lanes:
            share = self.frames.share(rows, n["thread"], part.owned)
            yield f"    {n['low']}, {n['high']} = {share}"
        if part.copy:
            yield from self._copied(part.copy)
        for head, first, count in self.frames.in_parts(rows, part.rows):
            yield from [head] if head else []
            yield from self._part(parameter, replace(part, rows=count), first, 2 if head else 1)

    def _copied(self, copy: Transpose) -> Iterator[str]:
        """Yield the call that copies the inputs of all samples: the kernel does it of its own."""
        name, lanes = self.frames.printer.name, self.frames.program.strategy.lanes
        given = [name(name_of(copy.source)), name(name_of(copy.target))]
        given += [f"_lanes({self.frames.samples}, {lanes})"]
        yield from call(f"{self.frames.forms.transpose(copy)}(", given, depth=1)

    def _part(self, parameter: Parameter, part: Deferred, first: str, depth: int) -> Iterator[str]:
        """Yield the lines for the rows of a part, from row `first` on."""
        frames, n, product = self.frames, self.frames.named, part.product
        rows, width = product.tiling.rows, product.tiling.columns.count or 1
        some = replace(product, tiling=replace(product.tiling, rows=replace(rows, count=part.rows)))
        starts, length = self._starts(parameter), part.rows * width
        right = frames.printer.name(name_of(product.right))
        operands = [frames.moved(product.left, rows.left, first), right]
        gradient = f"_view({n['gradient']}, {starts[0]}, ({length},))"
        counted = [frames.samples] if some.tiling.counted else []
        yield f"{'    ' * depth}# {product.comment}"
        given = [*operands, gradient, *counted]
        yield from call(f"{frames.forms.product(some)}(", given, depth=depth)
        places = [times(width, first, start) for start in starts]
        views = [f"_view({n['values']}, {place}, ({length},))" for place in places]
        given = ["_update", *views, gradient, n["scale"], *self._rest]
        yield from call("_apart(", given, depth=depth)
