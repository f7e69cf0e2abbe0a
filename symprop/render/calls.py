"""The functions that run the kernels over any number of samples, and what Python code calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from symprop.lower.program import Kernel
from symprop.render.batches import Batches
from symprop.render.frames import Frames
from symprop.render.texts import WIDTH, call, joined

__all__ = ["Calls"]


@dataclass(frozen=True, slots=True)
class Calls:
    """Writes the functions around the kernels."""

    frames: Frames

    @property
    def batches(self) -> Batches:
        """What fills the arrays of a block."""
        return Batches(self.frames)

    def context(self) -> dict[str, object]:
        """Return the functions that run the kernels block by block, and their signatures."""
        outputs = self.frames.network.outputs
        several = len(outputs) != 1
        array = "Outputs" if several else "np.ndarray"
        found: dict[str, object] = {
            "output_doc": "the outputs" if several else f"the output `{outputs[0]}`",
            "forward_call": joined(self._forward()),
            "loss_call": joined(self._loss()),
            "backward_call": joined(self._backward()),
            **self._made(),
            "named_values": joined(self._values("theta")),
            "data_keywords": ", ".join(f"{v.name}={v.name}" for v in self.frames.data),
        }
        for name, result in (
            ("forward", array), ("loss", "float"), ("backward", "tuple[float, Parameters]"),
        ):  # fmt: skip
            variables = self.frames.network.inputs if name == "forward" else self.frames.data
            found |= self._entry(name, result, [v.name for v in variables])
        return found | self._fits()

    def _fits(self) -> dict[str, object]:
        """Return the functions that find wrong arguments before a kernel reads them."""
        network = self.frames.network
        inputs = [variable.name for variable in network.inputs]
        targets = [variable.name for variable in network.targets]
        given, wrong = [*self._tensors, *inputs], self.frames.named["wrong"]
        before = [
            *call(f"{wrong} = _fit_inputs(", given, depth=1),
            f"    if {wrong}:",
            f"        return {wrong}",
        ]
        return {
            "subscripts": bool(network.index_inputs),
            "inputs_signature": joined(call("def _fit_inputs(", given, "):")),
            "inputs_fit": joined([*self._fit_parameters(), *self._fit("input"), _FITS]),
            "data_signature": joined(call("def _fit_data(", [*given, *targets], "):")),
            "data_fit": joined([*before, *self._fit("target"), _FITS]) if targets else "",
        }

    @property
    def _tensors(self) -> list[str]:
        """The names of the parameters that are arrays."""
        return [p.name for p in self.frames.network.parameters if p.shape]

    def _fit_parameters(self) -> Iterator[str]:
        for parameter in self.frames.network.parameters:
            if parameter.shape:
                yield f"    if {parameter.name}.shape != {parameter.shape}:"
                yield _refusal("parameter", parameter.name, f"expected shape {parameter.shape}")

    def _fit(self, kind: str) -> Iterator[str]:
        """Yield the checks of the inputs or the targets; the first input counts the samples."""
        network, first = self.frames.network, self.frames.data[0].name
        for variable in network.inputs if kind == "input" else network.targets:
            name, shape = variable.name, variable.shape
            if name == first:
                yield f"    if not len({name}):"
                yield _refusal(kind, name, "got no samples, expected at least one")
            else:
                yield f"    if len({name}) != len({first}):"
                yield _refusal(kind, name, f"expected as many samples as in '{first}'")
            if shape:
                lengths = ", ".join(map(str, shape))
                yield f"    if {name}.shape != (len({name}), {lengths}):"
                yield _refusal(kind, name, f"expected shape (n, {lengths})")
            bound = network.index_inputs.get(name)
            if bound:
                yield f"    if not _within({name}, {bound}):"
                yield _refusal(kind, name, f"got a subscript outside 0 to {bound - 1}")
            else:
                yield f"    if not _finite({name}):"
                yield _refusal(kind, name, "got NaN or infinity; remove these samples")

    def _entry(self, name: str, result: str, data: list[str]) -> dict[str, object]:
        """Return the signatures of what a kernel is called through, from Python and compiled."""
        plain = ["parameters", *data]
        typed = ["parameters: Parameters", *(f"{each}: np.ndarray" for each in data)]
        given = [f"{each}={each}" for each in data]
        called = [f'"{name}"', f"_{name}", "parameters", *given]
        return {
            f"{name}_blocks": joined(call(f"def _{name}_blocks(", self._plain(name), "):")),
            f"{name}_runner": joined(call(f"def _{name}(", plain, "):")),
            f"{name}_public": joined(call(f"def {name}(", typed, f") -> {result}:")),
            f"{name}_known": joined(self._known(name, data)),
            f"{name}_called": joined(call("return _called(", called, depth=1)),
            f"{name}_overload": joined(call(f"def _compiled_{name}(", plain, "):")),
            f"{name}_typed": joined(call("_typed(", ["parameters", *given], depth=1)),
        }

    def _plain(self, name: str) -> list[str]:
        """Return the arguments of a loop over the blocks: parameters, data and what is filled."""
        network, frames = self.frames.network, self.frames
        variables = network.inputs if name == "forward" else frames.data
        outputs = [output.name for output in frames.program.forward.outputs]
        filled = {"forward": outputs, "loss": [], "backward": [frames.named["gradient"]]}
        given = (*network.parameters, *variables)
        return [*(variable.name for variable in given), *filled[name]]

    def _made(self) -> dict[str, object]:
        """Return what makes the arrays that the loops over the blocks fill, for compiled callers.

        They may pass arrays of any layout, but vectors are read from contiguous ones.
        """
        parameters = [parameter.name for parameter in self.frames.network.parameters]
        data = [variable.name for variable in self.frames.data]
        form = "np.ascontiguousarray({})" if self.frames.vectors else "{}"
        named = {name: f"parameters.{name}" for name in parameters}
        named |= {name: form.format(name) for name in data}
        found: dict[str, object] = {}
        for name in ("forward", "loss", "backward"):
            arguments = [named.get(each, each) for each in self._plain(name)]
            found[f"{name}_made"] = joined(self._filled(name, f"_{name}_blocks(", arguments, 1))
        return found

    def _filled(self, name: str, head: str, arguments: list[str], depth: int) -> Iterator[str]:
        """Yield the lines that make arrays, call what fills them, and return them."""
        n, margin = self.frames.named, "    " * depth
        outputs = self.frames.program.forward.outputs
        if name == "forward":
            for output in outputs:
                lengths = [f"len({self.frames.data[0].name})", *map(str, output.shape)]
                shape = f"({', '.join(lengths)})" if output.shape else lengths[0]
                yield f"{margin}{output.name} = np.empty({shape}, real)"
            yield from call(head, arguments, depth=depth)
            names = ", ".join(output.name for output in outputs)
            yield f"{margin}return {names if len(outputs) == 1 else f'Outputs({names})'}"
        elif name == "loss":
            yield from call(f"return {head}", arguments, depth=depth)
        else:
            yield f"{margin}{n['gradient']} = np.empty({self.frames.size}, real)"
            yield from call(f"{n['total']} = {head}", arguments, depth=depth)
            yield f"{margin}return {n['total']}, _named({n['gradient']})"

    def _known(self, name: str, data: list[str]) -> Iterator[str]:
        """Yield the lines that call what is compiled, if the bytes of all arrays are native."""
        yield from _unpacked([parameter.name for parameter in self.frames.network.parameters])
        yield from _condition(self._native(data))
        yield from self._filled(name, f'_known["{name}"](', self._plain(name), 3)

    def _native(self, data: list[str]) -> list[str]:
        """Return the condition that no array has another type of numbers, or another byte order.

        Numba tells types apart by itself, but not the order of bytes where it has met a masked
        array before: then it takes any for the native one.
        """
        integers = self.frames.network.index_inputs
        numbers = [*self._tensors, *(name for name in data if name not in integers)]
        parts = [*(f"{name}.dtype" for name in numbers), "_REAL"] if numbers else []
        parts[1:] = [f"== {part}" for part in parts[1:]]
        for name in data:
            if name in integers:
                parts.append(f"{'and ' if parts else ''}{name}.dtype.isnative")
        return parts

    def _values(self, vector: str) -> Iterator[str]:
        """Yield the fields of `Parameters`, read from a flat vector."""
        name = self.frames.named[vector]
        for parameter in self.frames.network.parameters:
            value = self.frames.slice(vector, parameter).replace(name, vector, 1)
            shown = value if parameter.shape else f"float({value})"
            yield f"        {parameter.name}={shown},"

    def _block_arguments(self, kernel: Kernel, *extra: str) -> list[str]:
        """Return the arguments of a kernel's call inside the loop over the blocks."""
        frames, variables = self.frames, (*kernel.data, *kernel.outputs)
        if frames.lanes:
            arrays = [frames.batches[variable.name] for variable in variables]
            return self._arguments(kernel, arrays, frames.named["rows"], *extra)
        return self._arguments(kernel, map(self.batches.block, variables), *extra)

    def _arguments(self, kernel: Kernel, arrays: Iterable[str], *extra: str) -> list[str]:
        """Return the arguments of a kernel's call with some arrays of samples."""
        frames = self.frames
        weights = [p.name if p.shape else f"real({p.name})" for p in frames.parameters(kernel)]
        workspace = [frames.named["workspace"]] if kernel.size else []
        return [*weights, *arrays, *extra, *workspace, *["True"] * bool(kernel.deferred)]

    def _fitted(self, kernel: Kernel) -> Iterator[str]:
        """Yield the checks, before any room is made: a refusal would not free it."""
        network, named = self.frames.network, self.frames.named
        aimed = network.targets and kernel.name != "forward"
        data = self.frames.data if aimed else network.inputs
        check = f"{named['wrong']} = _fit_{'data' if aimed else 'inputs'}("
        yield from call(check, [*self._tensors, *(v.name for v in data)], depth=1)
        yield f"    if {named['wrong']}:"
        yield f"        raise ValueError({named['wrong']})"
        yield f"    {named['n']} = {kernel.data[0].name}.shape[0]"

    def _workspace(self, kernel: Kernel, depth: int) -> Iterator[str]:
        """Yield the line that makes room for what a kernel in rows computes."""
        if kernel.size:
            place = self.frames.named["workspace"]
            yield f"{'    ' * depth}{place} = {self.frames.memory(kernel.size)}"

    def _room(self, kernel: Kernel) -> Iterator[str]:
        """Yield the lines that make room for a block."""
        yield from self.batches.shared(kernel) if self.frames.lanes else self._workspace(kernel, 1)

    def _loop(self, kernel: Kernel) -> Iterator[str]:
        """Yield the head of the loop over the blocks."""
        n = self.frames.named
        yield f"    for {n['first']} in range(0, {n['n']}, _BLOCK):"
        if self.frames.lanes:
            yield f"        {n['rows']} = min(_BLOCK, {n['n']} - {n['first']})"
            yield from self.batches.read(kernel)

    def _forward(self) -> Iterator[str]:
        kernel, few = self.frames.program.forward, self.frames.program.few
        yield from self._fitted(kernel)
        if few:
            yield f"    if {self.frames.named['n']} <= {few.strategy.block}:"
            yield from self._workspace(few, 2)
            arrays = [variable.name for variable in (*few.data, *few.outputs)]
            yield from call("_few_block(", self._arguments(few, arrays), depth=2)
            yield "        return"
        yield from self._room(kernel)
        yield from self._loop(kernel)
        yield from call("_forward_block(", self._block_arguments(kernel), depth=2)
        if self.frames.lanes:
            yield from self.batches.returned(kernel, depth=2)

    def _loss(self) -> Iterator[str]:
        kernel, total = self.frames.program.loss, self.frames.named["total"]
        yield from self._fitted(kernel)
        yield from self._room(kernel)
        yield f"    {total} = 0.0"
        yield from self._loop(kernel)
        yield from call(f"{total} += _loss_block(", self._block_arguments(kernel), depth=2)
        yield f"    return {total} / {self.frames.named['n']}"

    def _backward(self) -> Iterator[str]:
        kernel, n = self.frames.program.gradient, self.frames.named
        yield from self._fitted(kernel)
        yield from self._room(kernel)
        yield f"    {n['part']} = {self.frames.memory(self.frames.size)}"
        yield f"    {n['total']} = 0.0"
        yield from self._loop(kernel)
        yield f"        {n['into']} = {n['part']} if {n['first']} else {n['gradient']}"
        arguments = self._block_arguments(kernel, n["into"])
        yield from call(f"{n['total']} += _gradient_block(", arguments, depth=2)
        yield f"        if {n['first']}:"
        yield f"            _add({n['gradient']}, {n['part']})"
        yield f"    _scale({n['gradient']}, real(1.0 / {n['n']}))"
        yield f"    return {n['total']} / {n['n']}"


_FITS = '    return ""'


def _refusal(kind: str, name: str, reason: str) -> str:
    """Return the statement that says why an array is refused."""
    return f"        return \"{kind} '{name}': {reason}\""


def _unpacked(names: list[str]) -> Iterator[str]:
    """Yield the statement that unpacks the parameters."""
    whole = f"        {', '.join(names)} = parameters"
    if len(names) == 1:
        yield f"        ({names[0]},) = parameters"
    elif len(whole) <= WIDTH:
        yield from [whole] if names else []
    else:
        yield from (
            "        (",
            *(f"            {name}," for name in names),
            "        ) = parameters",
        )


def _condition(parts: list[str]) -> Iterator[str]:
    """Yield the head of an if statement, broken as the formatter does it."""
    whole = f"        if {' '.join(parts)}:"
    if len(whole) <= WIDTH:
        yield whole
    else:
        yield from ("        if (", *(f"            {part}" for part in parts), "        ):")
