"""The functions of a generated module around its statements: signatures, views, calls.

What the machinery adds (a workspace, a counter) is named here, so that no name of
the network is used twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

from sympy import Idx

from symprop.errors import LoweringError
from symprop.lower.program import SAMPLES, Kernel, Program, Storage
from symprop.lower.vocabulary import new_name
from symprop.network import Network, Parameter, Variable
from symprop.options import Options, hyperparameters
from symprop.printer import Printer
from symprop.render.lines import Lines, call
from symprop.render.rule import rule

__all__ = ["Frames"]

_MACHINERY = (
    "iteration", "epoch", "position", "partial", "permutation", "random", "theta", "moments",
    "gradient", "part", "workspace", "first", "last", "rows", "row", "origin", "size", "total",
    "scale", "element", "good", "counts", "losses", "begin", "steps", "n",
)  # fmt: skip
"""Helper names of the generated functions, as they are where the network leaves them free."""


@dataclass(slots=True)
class Frames:
    """The text of every function of a module that depends on the network."""

    network: Network
    program: Program
    options: Options
    printer: Printer = field(init=False)
    named: dict[str, str] = field(init=False)
    rates: dict[str, str] = field(init=False)
    batches: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        integers = frozenset(self.network.index_inputs)
        self.printer = Printer(self.options.dtype, self.program.identifiers, integers)
        taken = set(self.program.taken)
        optimizer = self.options.optimizer
        self.named = {name: new_name(name, taken) for name in _MACHINERY}
        self.named |= {slot: new_name(slot, taken) for slot in optimizer.slots}
        self.rates = {name: new_name(name, taken) for name in optimizer.hyperparameters}
        self.batches = {v.name: new_name(f"{v.name}_batch", taken) for v in self.data}

    @property
    def data(self) -> tuple[Variable, ...]:
        """The inputs and targets."""
        return (*self.network.inputs, *self.network.targets)

    # ---------------------------------------------------------------- kernels

    def kernels(self) -> dict[str, object]:
        """Return the signature and the body of each kernel."""
        found: dict[str, object] = {}
        for kernel in self.program.kernels:
            head = f"def _{kernel.name}_block("
            found[f"{kernel.name}_signature"] = _text(call(head, self._arguments(kernel), "):"))
            found[f"{kernel.name}_body"] = _text(self._body(kernel))
        small = not self.program.gradient.size
        return {**found, "gradient_decorator": "_inlined" if small else "_kernel"}

    def _statements(self, kernel: Kernel) -> list[str]:
        return list(Lines(self.printer).body(kernel.body))

    def _parameters(self, kernel: Kernel) -> list[Parameter]:
        """Return the parameters that a kernel reads."""
        words = {word for line in self._statements(kernel) for word in _words(line)}
        return [p for p in self.network.parameters if p.name in words]

    def _arguments(self, kernel: Kernel) -> list[str]:
        given = (*self._parameters(kernel), *kernel.data, *kernel.outputs)
        extra = ["gradient"] if kernel.name == "gradient" else []
        extra += ["workspace"] if kernel.size else []
        return [*(v.name for v in given), *(self.named[name] for name in extra)]

    def _body(self, kernel: Kernel) -> Iterator[str]:
        statements = self._statements(kernel)
        samples = self.printer.name(str(SAMPLES))
        yield f"    {samples} = {kernel.data[0].name}.shape[0]"
        for storage in kernel.workspace:
            yield self._view(storage, samples)
        if kernel.name == "gradient":
            tensors = (p for p in self.network.parameters if p.shape)
            for parameter in tensors:
                yield f"    {self._gradient(parameter)} = {self._slice('gradient', parameter)}"
        yield from statements
        if kernel.name == "gradient":
            for parameter in self.network.parameters:
                if not parameter.shape:
                    place = f"{self.named['gradient']}[{self._offset(parameter)}]"
                    yield f"    {place} = {self._gradient(parameter)}"
        if kernel.name != "forward":
            yield f"    return {self.program.loss_sum}"

    def _view(self, storage: Storage, samples: str) -> str:
        name, low = self.printer.name(storage.name), storage.offset
        width = prod(storage.shape)
        workspace = self.named["workspace"]
        if not storage.sampled:
            view = f"{workspace}[{low}:{low + width}]"
            return f"    {name} = {view}{_reshape(storage.shape)}"
        high = samples if width == 1 else f"{width} * {samples}"
        view = f"[{low} : {low} + {high}]" if low else f"[: {high}]" if width > 1 else f"[:{high}]"
        shape = f".reshape(({', '.join([samples, *map(str, storage.shape)])}))"
        return f"    {name} = {workspace}{view}{shape if storage.shape else ''}"

    def _gradient(self, parameter: Parameter) -> str:
        loss = self.network.equations[-1].name
        return self.printer.name(f"d{loss}/d{parameter.name}")

    def _offset(self, parameter: Parameter) -> int:
        place = self.network.parameters.index(parameter)
        return sum(prod(before.shape) for before in self.network.parameters[:place])

    def _slice(self, vector: str, parameter: Parameter) -> str:
        """Return the text of a parameter's part of a flat vector."""
        low = self._offset(parameter)
        name = self.named[vector]
        if not parameter.shape:
            return f"{name}[{low}]"
        return f"{name}[{low}:{low + prod(parameter.shape)}]{_reshape(parameter.shape)}"

    # ---------------------------------------------------------------- functions around them

    def calls(self) -> dict[str, object]:
        """Return the functions that run the kernels block by block, and their signatures."""
        outputs = self.network.outputs
        several = len(outputs) != 1
        array = "Outputs" if several else "np.ndarray"
        found: dict[str, object] = {
            "output_doc": "the outputs" if several else f"the output `{outputs[0]}`",
            "forward_call": _text(self._forward()),
            "loss_call": _text(self._loss()),
            "backward_call": _text(self._backward()),
            "named_values": _text(self._values("theta")),
            "data_keywords": ", ".join(f"{v.name}={v.name}" for v in self.data),
        }
        for name, result in (
            ("forward", array), ("loss", "float"), ("backward", "tuple[float, Parameters]"),
        ):  # fmt: skip
            variables = self.network.inputs if name == "forward" else self.data
            found |= self._entry(name, result, [v.name for v in variables])
        return found | self._fits()

    def _fits(self) -> dict[str, object]:
        """Return the functions that refuse shapes, and subscripts, outside the arrays."""
        inputs = [variable.name for variable in self.network.inputs]
        targets = [variable.name for variable in self.network.targets]
        given = ["parameters", *inputs]
        return {
            "inputs_signature": _text(call("def _fit_inputs(", given, "):")),
            "inputs_fit": _text([*self._fit_parameters(), *self._fit("input")]),
            "targets_signature": _text(call("def _fit_targets(", [inputs[0], *targets], "):")),
            "targets_fit": _text(self._fit("target")),
        }

    def _fit_parameters(self) -> Iterator[str]:
        for parameter in self.network.parameters:
            if parameter.shape:
                yield f"    if parameters.{parameter.name}.shape != {parameter.shape}:"
                yield _refusal("parameter", parameter.name, f"expected shape {parameter.shape}")

    def _fit(self, kind: str) -> Iterator[str]:
        """Yield the checks of the inputs or the targets; the first input counts the samples."""
        first = self.data[0].name
        for variable in self.network.inputs if kind == "input" else self.network.targets:
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
            bound = self.network.index_inputs.get(name)
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
            f"{name}_runner": _text(call(f"def _{name}(", plain, "):")),
            f"{name}_public": _text(call(f"def {name}(", typed, f") -> {result}:")),
            f"{name}_checked": _text(call(f"return _{name}(", checked, depth=1)),
            f"{name}_overload": _text(call(f"def _compiled_{name}(", plain, "):")),
            f"{name}_typed": _text(call("_typed(", [f"{v}={v}" for v in data], depth=1)).strip(),
        }

    def _values(self, vector: str) -> Iterator[str]:
        """Yield the fields of `Parameters`, read from a flat vector."""
        name = self.named[vector]
        for parameter in self.network.parameters:
            value = self._slice(vector, parameter).replace(name, vector, 1)
            shown = value if parameter.shape else f"float({value})"
            yield f"        {parameter.name}={shown},"

    def _block_arguments(self, kernel: Kernel, *extra: str) -> list[str]:
        """Return the arguments of a kernel's call inside the loop over the blocks."""
        part = f"[{self.named['first']} : {self.named['first']} + _BLOCK]"
        weights = [
            f"parameters.{p.name}" if p.shape else f"real(parameters.{p.name})"
            for p in self._parameters(kernel)
        ]
        arrays = [f"{v.name}{part}" for v in (*kernel.data, *kernel.outputs)]
        workspace = [self.named["workspace"]] if kernel.size else []
        return [*weights, *arrays, *extra, *workspace]

    def _start(self, kernel: Kernel) -> Iterator[str]:
        inputs = [v.name for v in self.network.inputs]
        yield from call("_fit_inputs(", ["parameters", *inputs], depth=1)
        if self.network.targets and kernel.name != "forward":
            targets = [v.name for v in self.network.targets]
            yield from call("_fit_targets(", [inputs[0], *targets], depth=1)
        yield f"    {self.named['n']} = {kernel.data[0].name}.shape[0]"
        if kernel.size:
            yield f"    {self.named['workspace']} = np.empty({kernel.size}, real)"

    def _loop(self) -> str:
        return f"    for {self.named['first']} in range(0, {self.named['n']}, _BLOCK):"

    def _forward(self) -> Iterator[str]:
        kernel = self.program.forward
        yield from self._start(kernel)
        for output in kernel.outputs:
            shape = ", ".join([self.named["n"], *map(str, output.shape)])
            yield f"    {output.name} = np.empty({f'({shape})' if output.shape else shape}, real)"
        yield self._loop()
        yield from call("_forward_block(", self._block_arguments(kernel), depth=2)
        names = ", ".join(output.name for output in kernel.outputs)
        yield f"    return {names if len(kernel.outputs) == 1 else f'Outputs({names})'}"

    def _loss(self) -> Iterator[str]:
        kernel, total = self.program.loss, self.named["total"]
        yield from self._start(kernel)
        yield f"    {total} = 0.0"
        yield self._loop()
        yield from call(f"{total} += _loss_block(", self._block_arguments(kernel), depth=2)
        yield f"    return {total} / {self.named['n']}"

    def _backward(self) -> Iterator[str]:
        kernel, n = self.program.gradient, self.named
        yield from self._start(kernel)
        yield f"    {n['gradient']} = np.zeros({self.size}, real)"
        yield f"    {n['part']} = np.empty({self.size}, real)"
        yield f"    {n['total']} = 0.0"
        yield self._loop()
        arguments = self._block_arguments(kernel, n["part"])
        yield from call(f"{n['total']} += _gradient_block(", arguments, depth=2)
        yield f"        _add({n['gradient']}, {n['part']})"
        yield f"    _scale({n['gradient']}, real(1.0 / {n['n']}))"
        yield f"    return {n['total']} / {n['n']}, Parameters("
        for line in self._values("gradient"):
            yield line.replace("=gradient[", f"={n['gradient']}[").replace(
                "(gradient[", f"({n['gradient']}["
            )
        yield "    )"

    @property
    def size(self) -> int:
        """The number of values of all parameters."""
        return sum(prod(parameter.shape) for parameter in self.network.parameters)

    # ---------------------------------------------------------------- training

    def training(self) -> dict[str, object]:
        """Return the update rule, the training loop and the functions that start it."""
        return {
            "update_signature": _text(call("def _update(", self._update_arguments(), "):")),
            "update_body": _text(self._update()),
            "step_name": self.named["iteration"],
            "advance_signature": _text(call("def _advance(", self._advance_arguments(), "):")),
            "advance_body": _text(self._advance()),
            "resume_signature": self._public("resume", "state: State", False),
            "train_signature": self._public("train", "parameters: Parameters", True),
            "train_call": _text(self._train()),
            "rates": self._checked_rates(),
        }

    def _update_arguments(self) -> list[str]:
        n = self.named
        moments = [n["moments"]] if self.options.optimizer.slots else []
        return [
            n["theta"],
            *moments,
            n["gradient"],
            n["scale"],
            n["iteration"],
            *self.rates.values(),
        ]

    def _update(self) -> Iterator[str]:
        optimizer, n = self.options.optimizer, self.named
        update = rule(optimizer, Idx(n["element"], max(self.size, 1)))
        once = Printer("float64", {"t": n["iteration"], **self.rates})
        taken = {*self.program.taken, *n.values(), *self.rates.values()}
        factors = {name: new_name(name, taken) for name, _ in update.factors}
        for row, slot in enumerate(optimizer.slots):
            yield f"    {n[slot]} = {n['moments']}[{row}]"
        for name, value in update.factors:
            yield f"    {factors[name]} = real({once.expression(value)})"
        slope = new_name("slope", taken)
        rates = self.rates
        if self.options.dtype != "float64":
            rates = {name: f"real({shown})" for name, shown in rates.items()}
        each = Printer(
            self.options.dtype, {**n, **rates, **factors, "gradient": slope, "t": n["iteration"]}
        )
        depth = 2
        ranges = self._trainable()
        if len(ranges) == 1:
            ((low, high),) = ranges
            span = f"{low}, {high}" if low else f"{high}"
            yield f"    for {n['element']} in range({span}):"
        elif ranges:
            spans = ", ".join(f"({low}, {high})" for low, high in ranges)
            yield f"    for {n['first']}, {n['last']} in ({spans}):"
            yield f"        for {n['element']} in range({n['first']}, {n['last']}):"
            depth = 3
        else:
            yield "    pass"
            return
        yield f"{'    ' * depth}{slope} = {n['scale']} * {n['gradient']}[{n['element']}]"
        yield from Lines(each).body(update.body, depth)

    def _trainable(self) -> list[tuple[int, int]]:
        """Return the parts of the flat vector that training changes."""
        ranges: list[tuple[int, int]] = []
        for parameter in self.network.parameters:
            low = self._offset(parameter)
            high = low + prod(parameter.shape)
            if not parameter.trainable:
                continue
            if ranges and ranges[-1][1] == low:
                ranges[-1] = (ranges[-1][0], high)
            else:
                ranges.append((low, high))
        return ranges

    def _advance_arguments(self) -> list[str]:
        n = self.named
        given = ["state", n["good"], n["counts"], n["losses"], n["begin"], "batch_size", "shuffle"]
        return [*given, n["steps"], *(v.name for v in self.data), *self.rates.values()]

    def _advance(self) -> Iterator[str]:
        n, kernel = self.named, self.program.gradient
        for name in ("theta", "moments", "permutation", "random"):
            yield f"    {n[name]} = state.{name}"
        yield f"    {n['iteration']} = state.step"
        for name in ("epoch", "position", "partial"):
            yield f"    {n[name]} = state.{name}"
        yield f"    {n['n']} = {self.data[0].name}.shape[0]"
        for parameter in self._parameters(kernel):
            if parameter.shape:
                yield f"    {parameter.name} = {self._slice('theta', parameter)}"
        yield f"    {n['rows']} = min(batch_size, _BLOCK)"
        for variable in self.data:
            yield f"    {self._gathered(variable)} = {self._buffer(variable)}"
        yield f"    {n['gradient']} = np.zeros({self.size}, real)"
        yield f"    {n['part']} = np.zeros({self.size}, real)"
        if kernel.size:
            yield f"    {n['workspace']} = np.empty({kernel.size}, real)"
        yield f"    for _ in range({n['steps']}):"
        yield from self._step()
        fields = ("theta", "moments", "iteration", "epoch", "position", "permutation", "random")
        values = [*(n[name] for name in fields), n["partial"]]
        yield from call("return State(", values, depth=1)

    def _gathered(self, variable: Variable) -> str:
        return self.batches[variable.name]

    def _buffer(self, variable: Variable) -> str:
        kind = "np.int64" if variable.name in self.network.index_inputs else "real"
        shape = ", ".join([self.named["rows"], *map(str, variable.shape)])
        return f"np.empty({f'({shape})' if variable.shape else shape}, {kind})"

    def _step(self) -> Iterator[str]:
        """Yield one step: its batch, its gradient block by block, its update."""
        n = self.named
        yield f"        if {n['position']} == 0:"
        yield f"            _copy({n['good']}.theta, {n['theta']})"
        for slot in range(len(self.options.optimizer.slots)):
            yield f"            _copy({n['good']}.moments[{slot}], {n['moments']}[{slot}])"
        yield f"            _copy({n['good']}.permutation, {n['permutation']})"
        yield f"            {n['good']}.random[0] = {n['random']}[0]"
        yield f"            {n['counts']}[0], {n['counts']}[1] = {n['iteration']}, {n['epoch']}"
        yield f"            _arrange({n['permutation']}, {n['random']}, shuffle)"
        yield f"        {n['size']} = min(batch_size, {n['n']} - {n['position']})"
        yield f"        {n['total']} = 0.0"
        yield f"        for {n['first']} in range(0, {n['size']}, _BLOCK):"
        yield f"            {n['rows']} = min(_BLOCK, {n['size']} - {n['first']})"
        yield from self._gather()
        yield from self._block_gradient()
        yield from self._finish()

    def _gather(self) -> Iterator[str]:
        n = self.named
        yield f"            for {n['row']} in range({n['rows']}):"
        source = f"{n['position']} + {n['first']} + {n['row']}"
        yield f"                {n['origin']} = {n['permutation']}[{source}]"
        taken = {*self.program.taken, *n.values(), *self.rates.values()}
        for variable in self.data:
            margin = " " * 16
            axes: list[str] = []
            for length in variable.shape:
                axis = new_name("axis", {*taken, *axes})
                yield f"{margin}for {axis} in range({length}):"
                margin += "    "
                axes.append(axis)
            target = ", ".join([n["row"], *axes])
            read = ", ".join([n["origin"], *axes])
            yield f"{margin}{self._gathered(variable)}[{target}] = {variable.name}[{read}]"

    def _block_gradient(self) -> Iterator[str]:
        n, kernel = self.named, self.program.gradient
        weights = [p.name if p.shape else self._slice("theta", p) for p in self._parameters(kernel)]
        batches = [f"{self._gathered(v)}[:{n['rows']}]" for v in kernel.data]
        workspace = [n["workspace"]] if kernel.size else []
        yield f"            if {n['first']} == _BLOCK:"
        yield f"                _copy({n['part']}, {n['gradient']})"
        yield f"            elif {n['first']} > _BLOCK:"
        yield f"                _add({n['part']}, {n['gradient']})"
        arguments = [*weights, *batches, n["gradient"], *workspace]
        yield from call(f"{n['total']} += _gradient_block(", arguments, depth=3)
        yield f"        if {n['size']} > _BLOCK:"
        yield f"            _add({n['gradient']}, {n['part']})"

    def _finish(self) -> Iterator[str]:
        n = self.named
        yield f"        {n['iteration']} += 1"
        given = dict(zip(self._update_arguments(), self._update_arguments(), strict=True))
        given[n["scale"]] = f"real(1.0 / {n['size']})"
        yield from call("_update(", list(given.values()), depth=2)
        yield f"        {n['partial']} += {n['total']}"
        yield f"        {n['position']} += {n['size']}"
        yield f"        if not _is_finite({n['partial']}):"
        yield f"            {n['partial']} = math.nan"
        yield "            break"
        yield f"        if {n['position']} == {n['n']}:"
        yield f"            if not _finite({n['theta']}):"
        yield f"                {n['partial']} = math.nan"
        yield "                break"
        place = f"{n['losses']}[{n['epoch']} - {n['begin']}]"
        yield f"            {place} = {n['partial']} / {n['n']}"
        yield f"            {n['epoch']} += 1"
        yield f"            {n['position']}, {n['partial']} = 0, 0.0"
        yield f"            if {n['epoch']} - {n['begin']} == {n['losses']}.size:"
        yield "                break"

    # ---------------------------------------------------------------- what Python code calls

    def _public(self, name: str, first: str, seeded: bool) -> str:
        training = self.network.training
        values = hyperparameters(self.options.optimizer, training)
        clash = sorted({v.name for v in self.data} & values.keys())
        if clash:
            raise LoweringError(
                f"{clash[0]!r} names both an input or target and a hyperparameter of "
                f"{self.options.optimizer.name!r}; rename the input or target"
            )
        parts = [first, *(f"{v.name}: np.ndarray" for v in self.data), "*"]
        parts += [f"epochs: int = {training.epochs}", f"batch_size: int = {training.batch_size}"]
        parts += [f"seed: int = {training.seed}"] if seeded else []
        parts += [f"shuffle: bool = {training.shuffle}", "callback: Any = None"]
        parts += [f"{rate}: float = {value!r}" for rate, value in values.items()]
        result = "State" if name == "resume" else "Parameters"
        return _text(call(f"def {name}(", parts, f") -> tuple[{result}, np.ndarray]:"))

    def _checked_rates(self) -> str:
        rates = [f'_rate("{name}", {name})' for name in self.options.optimizer.hyperparameters]
        comma = "," if len(rates) == 1 else ""
        return "\n".join(call("rates = (", rates, f"{comma})", 1)).removeprefix("    ")

    def _train(self) -> Iterator[str]:
        passed = ["epochs", "batch_size", "shuffle", "callback"]
        passed += self.options.optimizer.hyperparameters
        arguments = ["start(parameters, seed)", *(v.name for v in self.data)]
        arguments += [f"{name}={name}" for name in passed]
        yield from call("state, losses = resume(", arguments, depth=1)


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _reshape(shape: tuple[int, ...]) -> str:
    return f".reshape({shape})" if len(shape) > 1 else ""


def _refusal(kind: str, name: str, reason: str) -> str:
    """Return the statement that refuses an array; its message is static, as Numba needs it."""
    return f"        raise ValueError(\"{kind} '{name}': {reason}\")"


def _words(line: str) -> list[str]:
    return [] if line.lstrip().startswith("#") else re.findall(r"[A-Za-z_]\w*", line)
