"""The functions that run the kernels over any number of samples, and what Python code calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from symprop.lower.program import Kernel
from symprop.render.batches import Batches
from symprop.render.frames import Frames
from symprop.render.texts import call, joined

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
        """Return the functions that refuse shapes, and subscripts, outside the arrays."""
        inputs = [variable.name for variable in self.frames.network.inputs]
        targets = [variable.name for variable in self.frames.network.targets]
        given = ["parameters", *inputs]
        return {
            "inputs_signature": joined(call("def _fit_inputs(", given, "):")),
            "inputs_fit": joined([*self._fit_parameters(), *self._fit("input")]),
            "targets_signature": joined(call("def _fit_targets(", [inputs[0], *targets], "):")),
            "targets_fit": joined(self._fit("target")),
        }

    def _fit_parameters(self) -> Iterator[str]:
        for parameter in self.frames.network.parameters:
            if parameter.shape:
                yield f"    if parameters.{parameter.name}.shape != {parameter.shape}:"
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
                yield f"    if {name}.shape[1:] != {shape}:"
                yield _refusal(kind, name, f"expected shape (n, {', '.join(map(str, shape))})")
            bound = network.index_inputs.get(name)
            if bound:
                yield f"    if {name}.min() < 0 or {name}.max() >= {bound}:"
                yield _refusal(kind, name, f"got a subscript outside 0 to {bound - 1}")

    def _entry(self, name: str, result: str, data: list[str]) -> dict[str, object]:
        """Return the signatures of what a kernel is called through, from Python and compiled."""
        plain = ["parameters", *data]
        typed = ["parameters: Parameters", *(f"{each}: np.ndarray" for each in data)]
        keywords = ", ".join(f"{each}={each}" for each in data)
        checked = ["_weights(parameters)", f"*_checked({keywords})"]
        return {
            f"{name}_runner": joined(call(f"def _{name}(", plain, "):")),
            f"{name}_public": joined(call(f"def {name}(", typed, f") -> {result}:")),
            f"{name}_checked": joined(call(f"return _{name}(", checked, depth=1)),
            f"{name}_overload": joined(call(f"def _compiled_{name}(", plain, "):")),
            f"{name}_typed": joined(call("_typed(", [f"{v}={v}" for v in data], depth=1)).strip(),
        }

    def _values(self, vector: str) -> Iterator[str]:
        """Yield the fields of `Parameters`, read from a flat vector."""
        name = self.frames.named[vector]
        for parameter in self.frames.network.parameters:
            value = self.frames.slice(vector, parameter).replace(name, vector, 1)
            shown = value if parameter.shape else f"float({value})"
            yield f"        {parameter.name}={shown},"

    def _block_arguments(self, kernel: Kernel, *extra: str) -> list[str]:
        """Return the arguments of a kernel's call inside the loop over the blocks."""
        frames, first = self.frames, self.frames.named["first"]
        weights = [
            f"parameters.{p.name}" if p.shape else f"real(parameters.{p.name})"
            for p in frames.parameters(kernel)
        ]
        variables = (*kernel.data, *kernel.outputs)
        part = f"[{first} : {first} + _BLOCK]"
        arrays = [frames.batches[v.name] if frames.lanes else f"{v.name}{part}" for v in variables]
        counted = [frames.named["rows"]] if frames.lanes else []
        workspace = [frames.named["workspace"]] if kernel.size else []
        return [*weights, *arrays, *counted, *extra, *workspace]

    def _start(self, kernel: Kernel) -> Iterator[str]:
        frames, inputs = self.frames, [v.name for v in self.frames.network.inputs]
        yield from call("_fit_inputs(", ["parameters", *inputs], depth=1)
        if frames.network.targets and kernel.name != "forward":
            targets = [v.name for v in frames.network.targets]
            yield from call("_fit_targets(", [inputs[0], *targets], depth=1)
        yield f"    {frames.named['n']} = {kernel.data[0].name}.shape[0]"
        if frames.lanes:
            yield f"    {frames.named['order']} = np.arange({frames.named['n']})"
            yield from self.batches.arrays((*kernel.data, *kernel.outputs), "")
        if kernel.size:
            yield f"    {frames.named['workspace']} = {frames.memory(kernel.size)}"

    def _loop(self, kernel: Kernel) -> Iterator[str]:
        """Yield the head of the loop over the blocks."""
        n = self.frames.named
        yield f"    for {n['first']} in range(0, {n['n']}, _BLOCK):"
        if self.frames.lanes:
            yield f"        {n['rows']} = min(_BLOCK, {n['n']} - {n['first']})"
            yield from self.batches.collected(kernel, n["order"], n["first"], 2, n["rows"])

    def _made(self) -> dict[str, object]:
        """Return what makes the arrays that the loops over the blocks fill, and their heads."""
        outputs = [output.name for output in self.frames.program.forward.outputs]
        inputs = [variable.name for variable in self.frames.network.inputs]
        data, gradient = [v.name for v in self.frames.data], self.frames.named["gradient"]
        forward = ["parameters", *inputs, *outputs]
        backward = ["parameters", *data, gradient]
        return {
            "forward_blocks": joined(call("def _forward_blocks(", forward, "):")),
            "forward_made": joined(self._outputs(forward)),
            "backward_blocks": joined(call("def _gradient_blocks(", backward, "):")),
            "backward_made": joined(self._gradients(backward)),
        }

    def _outputs(self, arguments: list[str]) -> Iterator[str]:
        kernel, first = self.frames.program.forward, self.frames.data[0].name
        for output in kernel.outputs:
            shape = ", ".join([f"{first}.shape[0]", *map(str, output.shape)])
            yield f"    {output.name} = np.empty({f'({shape})' if output.shape else shape}, real)"
        yield from call("_forward_blocks(", arguments, depth=1)
        names = ", ".join(output.name for output in kernel.outputs)
        yield f"    return {names if len(kernel.outputs) == 1 else f'Outputs({names})'}"

    def _gradients(self, arguments: list[str]) -> Iterator[str]:
        n = self.frames.named
        yield f"    {n['gradient']} = np.zeros({self.frames.size}, real)"
        yield from call(f"{n['total']} = _gradient_blocks(", arguments, depth=1)
        yield f"    return {n['total']}, Parameters("
        for line in self._values("gradient"):
            yield line.replace("=gradient[", f"={n['gradient']}[").replace(
                "(gradient[", f"({n['gradient']}["
            )
        yield "    )"

    def _forward(self) -> Iterator[str]:
        kernel = self.frames.program.forward
        yield from self._start(kernel)
        yield from self._loop(kernel)
        yield from call("_forward_block(", self._block_arguments(kernel), depth=2)
        if self.frames.lanes:
            yield from self.batches.returned(kernel, depth=2)

    def _loss(self) -> Iterator[str]:
        kernel, total = self.frames.program.loss, self.frames.named["total"]
        yield from self._start(kernel)
        yield f"    {total} = 0.0"
        yield from self._loop(kernel)
        yield from call(f"{total} += _loss_block(", self._block_arguments(kernel), depth=2)
        yield f"    return {total} / {self.frames.named['n']}"

    def _backward(self) -> Iterator[str]:
        kernel, n = self.frames.program.gradient, self.frames.named
        yield from self._start(kernel)
        yield f"    {n['part']} = np.empty({self.frames.size}, real)"
        yield f"    {n['total']} = 0.0"
        yield from self._loop(kernel)
        arguments = self._block_arguments(kernel, n["part"])
        yield from call(f"{n['total']} += _gradient_block(", arguments, depth=2)
        yield f"        _add({n['gradient']}, {n['part']})"
        yield f"    _scale({n['gradient']}, real(1.0 / {n['n']}))"
        yield f"    return {n['total']} / {n['n']}"


def _refusal(kind: str, name: str, reason: str) -> str:
    """Return the statement that refuses an array; its message is static, as Numba needs it."""
    return f"        raise ValueError(\"{kind} '{name}': {reason}\")"
