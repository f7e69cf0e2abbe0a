"""The kernels of a generated module, and the names that all of its functions share.

What the machinery adds (a workspace, a counter) is named here, so that no name of
the network is used twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

from sympy import Indexed

from symprop.lower.program import Kernel, Program, Storage
from symprop.lower.steps import LANES, SAMPLES, WHOLE, name_of
from symprop.lower.vocabulary import new_name
from symprop.network import Network, Parameter, Variable
from symprop.options import Options
from symprop.printer import Printer
from symprop.render.forms import Forms
from symprop.render.lines import Lines
from symprop.render.repeats import Repeats
from symprop.render.texts import call, joined, times, tupled

__all__ = ["Frames"]

_MACHINERY = (
    "iteration", "epoch", "position", "partial", "permutation", "random", "theta", "values",
    "gradient", "part", "workspace", "first", "last", "rows", "row", "origin", "size",
    "total", "scale", "element", "good_values", "good_permutation", "good_random", "counts",
    "losses", "begin", "steps", "turns", "n", "mode", "low", "high", "lower", "upper",
    "threads", "arrived", "totals", "gradients", "thread", "other", "phase", "into", "wrong",
    "workspaces", "sums", "zeros", "begins", "ends",
)  # fmt: skip
"""Helper names of the generated functions, as they are where the network leaves them free."""


@dataclass(slots=True)
class Frames:
    """What the text of every function of a module depends on.

    `named` gives the names of the machinery, `rates` those of the hyperparameters, `batches`
    those of the arrays that hold one block of an input, target or output.
    """

    network: Network
    program: Program
    options: Options
    forms: Forms = field(default_factory=Forms)
    repeats: Repeats = field(default_factory=Repeats)
    printer: Printer = field(init=False)
    named: dict[str, str] = field(init=False)
    rates: dict[str, str] = field(init=False)
    batches: dict[str, str] = field(init=False)
    written: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        integers = frozenset(self.network.index_inputs)
        self.printer = Printer(self.options.dtype, self.program.identifiers, integers)
        taken = set(self.program.taken)
        optimizer = self.options.optimizer
        self.named = {name: new_name(name, taken) for name in _MACHINERY}
        self.named |= {slot: new_name(slot, taken) for slot in optimizer.slots}
        self.rates = {name: new_name(name, taken) for name in optimizer.hyperparameters}
        outputs = self.program.forward.outputs
        variables = (*self.data, *outputs)
        self.batches = {v.name: new_name(f"{v.name}_batch", taken) for v in variables}
        self.written = {k.name: list(self._written(k)) for k in self.program.kernels}

    @property
    def data(self) -> tuple[Variable, ...]:
        """The inputs and targets."""
        return (*self.network.inputs, *self.network.targets)

    @property
    def lanes(self) -> bool:
        """Whether the samples are the last axis inside the kernels."""
        return bool(self.program.strategy.lanes)

    @property
    def vectors(self) -> bool:
        """Whether the kernels need the vector machinery: all in lanes do, and all tiles."""
        return self.lanes or bool(self.forms.made)

    @property
    def samples(self) -> str:
        """The name of the number of samples that a kernel is given."""
        return self.printer.name(str(SAMPLES))

    @property
    def whole(self) -> str:
        """The name of the condition that a kernel fills whole gradients."""
        return self.printer.name(str(WHOLE))

    @property
    def size(self) -> int:
        """The number of values of all parameters."""
        return sum(prod(parameter.shape) for parameter in self.network.parameters)

    def share(self, count: int | str, thread: str, part: int = 0) -> str:
        """Return the call for a thread's share of `count`: so many at once, or whole vectors."""
        part = part or self.program.strategy.lanes
        return f"_share({count}, {part}, {thread}, {self.named['threads']})"

    @property
    def together(self) -> str:
        """The text of the condition under which there is what several threads do."""
        return f"{self.named['threads']} is not None"

    def met(self, depth: int) -> Iterator[str]:
        """Yield the lines in which the threads wait for each other."""
        n, margin = self.named, "    " * depth
        yield f"{margin}{n['phase']} += {n['threads']}"
        yield f"{margin}_meet({n['arrived']}, {n['phase']})"

    def met_if_together(self, depth: int) -> Iterator[str]:
        """Yield them under that condition."""
        yield f"{'    ' * depth}if {self.together}:"
        yield from self.met(depth + 1)

    def own(self, matrix: str, size: int, *places: str) -> str:
        """Return the text of `size` elements of a thread's row of a matrix, from a place on."""
        matrix = self.named[matrix]
        start = " + ".join([f"{self.named['thread']} * {matrix}.shape[1]", *places])
        return f"_view({matrix}, {start}, ({size},))"

    def moved(self, leaf: Indexed, step: int, index: str) -> str:
        """Return an operand from a row on; each is `step` elements behind the one before."""
        name, place = self.printer.name(name_of(leaf)), times(step, index)
        return f"_view({name}, {place}, ({name}.size - {place},))" if step else name

    def in_parts(self, rows: int, part: int) -> Iterator[tuple[str, str, int]]:
        """Yield how one goes through rows part by part: a head, the first row of a part, its rows.

        What is left comes last: in rows without a head, in lanes, where a thread has the rows from
        ``low`` to ``high``, under the condition that it has these.
        """
        n, rest = self.named, rows % part
        low, high, end = "0", str(rows), str(rows - rest)
        if self.lanes:
            low, high = n["low"], n["high"]
            end = high + (f" - {high} % {part}" if rest else "")
        yield f"    for {n['first']} in range({low}, {end}, {part}):", n["first"], part
        if rest:
            last = f"    if {low} < {high} == {rows}:" if self.lanes else ""
            yield last, str(rows - rest), rest

    def memory(self, count: int) -> str:
        """Return the call that makes room for `count` numbers, for vectors from a cache line on."""
        return f"_aligned({count})" if self.vectors else f"np.empty({count}, real)"

    # ---------------------------------------------------------------- kernels

    def kernels(self) -> dict[str, object]:
        """Return the signature and the body of each kernel."""
        program = self.program
        found: dict[str, object] = {"few_signature": "", "few_body": ""}
        for kernel in filter(None, (program.forward, program.few, program.loss, program.gradient)):
            head = f"def _{kernel.name}_block("
            found[f"{kernel.name}_signature"] = joined(call(head, self._arguments(kernel), "):"))
            found[f"{kernel.name}_body"] = joined(self._body(kernel))
        inlined = not self.program.gradient.size and not self.vectors
        lines = Lines(self.printer, self.forms)
        repeated = [joined(lines.function(function)) for function in self.repeats.made.values()]
        return {**found, "repeated": repeated, "inlined": inlined, "counted": self._counted()}

    def _written(self, kernel: Kernel) -> Iterator[str]:
        scalars = (parameter for parameter in self.network.parameters if not parameter.shape)
        lasting = (self.program.loss_sum, *map(self.adjoint, scalars))
        return Lines(self.printer, self.forms).body(self.repeats.calls(kernel, lasting))

    def _counted(self) -> str:
        """Return the condition that a kernel is given back an array, so that Numba counts users."""
        if any(map(_multiplies, self.written.values())):
            return "True"
        return "for_range_slice is None" if self.vectors else "False"  # `_view` is plain then

    def parameters(self, kernel: Kernel) -> list[Parameter]:
        """Return the parameters that a kernel reads."""
        words = {word for line in self.written[kernel.name] for word in _words(line)}
        return [p for p in self.network.parameters if p.name in words]

    def _arguments(self, kernel: Kernel) -> list[str]:
        given = (*self.parameters(kernel), *kernel.data, *kernel.outputs)
        extra = [self.samples] if kernel.strategy.lanes else []
        extra += [self.named["gradient"]] if kernel.name == "gradient" else []
        extra += [self.named["workspace"]] if kernel.size else []
        extra += [self.whole] if kernel.deferred else []
        return [*(v.name for v in given), *extra]

    def _body(self, kernel: Kernel) -> Iterator[str]:
        if self.vectors:
            yield "    _hot()"
        if kernel.strategy.lanes:
            counted = f"_lanes({self.samples}, {kernel.strategy.lanes})"
            yield f"    {self.printer.name(str(LANES))} = {counted}"
        else:
            yield f"    {self.samples} = {kernel.data[0].name}.shape[0]"
        maker = "_view" if _multiplies(self.written[kernel.name]) else "_tensor"
        for storage in kernel.workspace:
            yield self.storage(storage, maker)
        if kernel.name == "gradient":
            tensors = (p for p in self.network.parameters if p.shape)
            for parameter in tensors:
                view = self.view("gradient", parameter, maker)
                yield f"    {self._gradient(parameter)} = {view}"
        yield from self.written[kernel.name]
        if kernel.name == "gradient":
            for parameter in self.network.parameters:
                if not parameter.shape:
                    place = f"{self.named['gradient']}[{self.offset(parameter)}]"
                    yield f"    {place} = {self._gradient(parameter)}"
        if kernel.strategy.lanes:
            yield "    _compact()"
        if kernel.name not in ("forward", "few"):
            yield f"    return {self.program.loss_sum}"

    def storage(self, storage: Storage, maker: str = "_view") -> str:
        """Return the line that makes a tensor of its part of the workspace."""
        name, low = self.printer.name(storage.name), storage.offset
        width = prod(storage.shape)
        workspace = self.named["workspace"]
        if self.vectors:
            lengths = [self.samples] if storage.sampled else []
            shape = tupled([*lengths, *map(str, storage.shape)])
            return f"    {name} = {maker}({workspace}, {low}, {shape})"
        if not storage.sampled:
            view = f"{workspace}[{low}:{low + width}]"
            return f"    {name} = {view}{_reshape(storage.shape)}"
        samples = self.samples
        high = samples if width == 1 else f"{width} * {samples}"
        view = f"[{low} : {low} + {high}]" if low else f"[: {high}]" if width > 1 else f"[:{high}]"
        shape = f".reshape(({', '.join([samples, *map(str, storage.shape)])}))"
        return f"    {name} = {workspace}{view}{shape if storage.shape else ''}"

    def adjoint(self, parameter: Parameter) -> str:
        """Return the name of a parameter's gradient."""
        return f"d{self.network.equations[-1].name}/d{parameter.name}"

    def _gradient(self, parameter: Parameter) -> str:
        return self.printer.name(self.adjoint(parameter))

    def offset(self, parameter: Parameter) -> int:
        """Return where a parameter begins in a flat vector of all."""
        place = self.network.parameters.index(parameter)
        return sum(prod(before.shape) for before in self.network.parameters[:place])

    def slice(self, vector: str, parameter: Parameter) -> str:
        """Return the text of a parameter's part of a flat vector."""
        low = self.offset(parameter)
        name = self.named[vector]
        if not parameter.shape:
            return f"{name}[{low}]"
        return f"{name}[{low}:{low + prod(parameter.shape)}]{_reshape(parameter.shape)}"

    def row(self, matrix: str, row: int | str, low: str = "0", high: str = "") -> str:
        """Return the text of a row of a matrix of all values, for vectors from `low` to `high`."""
        if not self.vectors:
            return f"{matrix}[{row}]"
        start = f"{row} * {matrix}.shape[1]" if isinstance(row, str) else str(row * self.size)
        places = [place for place in (start, low) if place != "0"]
        size = f"{high} - {low}" if high else self.size
        return f"_view({matrix}, {' + '.join(places) or 0}, ({size},))"

    def view(self, vector: str, parameter: Parameter, maker: str = "_view") -> str:
        """Return the text of a parameter's part of a flat vector, for use inside one kernel."""
        if self.vectors and parameter.shape:
            return f"{maker}({self.named[vector]}, {self.offset(parameter)}, {parameter.shape})"
        return self.slice(vector, parameter)


def _reshape(shape: tuple[int, ...]) -> str:
    return f".reshape({shape})" if len(shape) > 1 else ""


def _multiplies(lines: Iterable[str]) -> bool:
    """Tell whether a kernel gives arrays to BLAS, through NumPy."""
    return any("np.dot(" in line for line in lines)


def _words(line: str) -> list[str]:
    return [] if line.lstrip().startswith("#") else re.findall(r"[A-Za-z_]\w*", line)
