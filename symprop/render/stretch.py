"""The training loop of a tiny network: parameters, moments and gradients are local variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sympy import Idx, Indexed, Symbol

from symprop.formulas import text
from symprop.indices import index_name
from symprop.lower.program import (
    Assign,
    Loop,
    Note,
    Statement,
    Straight,
)
from symprop.lower.steps import element, is_sample, name_of
from symprop.network import Parameter
from symprop.printer import Printer
from symprop.render.frames import Frames
from symprop.render.lines import Lines
from symprop.render.rule import Rule, factored, rule
from symprop.render.texts import call, joined
from symprop.scalar import ALONE

__all__ = ["Stretch"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Writes the function that trains on a stretch of the samples in their order."""

    frames: Frames
    straight: Straight

    def context(self) -> dict[str, object]:
        """Return the signature and the body of the function."""
        return {
            "stretch_signature": joined(call("def _stretch(", self._arguments(), "):")),
            "stretch_body": joined(self._body()),
        }

    def called(self) -> Iterator[str]:
        """Yield the steps up to the end of the epoch, or as many as are left, in `_advance`."""
        n = self.frames.named
        left = f"-(-({n['n']} - {n['position']}) // {n['size']})"
        yield f"        {n['turns']} = min({n['steps']}, {left})"
        yield f"        {n['last']} = min({n['position']} + {n['turns']} * {n['size']}, {n['n']})"
        yield from call(f"{n['partial']} = _apart(", ["_stretch", *self._arguments()], depth=2)
        yield f"        {n['iteration']} += {n['turns']}"
        yield f"        {n['steps']} -= {n['turns']}"
        yield f"        {n['position']} = {n['last']}"

    def _arguments(self) -> list[str]:
        """Return the arguments, which `_advance` has under the same names."""
        n = self.frames.named
        names = ("values", "iteration", "permutation", "position", "last")
        data = [v.name for v in self.frames.data]
        return [
            *(n[name] for name in names),
            "batch_size",
            n["partial"],
            *data,
            *self.frames.rates.values(),
        ]

    def _body(self) -> Iterator[str]:
        n, straight = self.frames.named, self.straight
        yield from self._moved(out=False)
        yield f"    while {n['position']} < {n['last']}:"
        left = f"{n['last']} - {n['position']}"
        yield f"        {self.frames.samples} = _step_size(batch_size, {left})"
        yield from self._gradient(straight.kernel.body)
        yield f"        {n['iteration']} += 1"
        yield f"        {n['scale']} = 1.0 / {self.frames.samples}"
        yield from self._updated()
        yield f"        {n['partial']} += {self.frames.program.loss_sum}"
        yield f"        {n['position']} += {self.frames.samples}"
        yield from self._moved(out=True)
        yield f"    return {n['partial']}"

    def _gradient(self, body: Iterable[Statement]) -> Iterator[str]:
        """Yield the gradient's lines; the samples are read where they are.

        There are few in a step, so that each waits for the functions of the one before.
        """
        n, frames = self.frames.named, self.frames
        names = {**frames.program.identifiers, **ALONE[frames.options.dtype]}
        lines = Lines(replace(frames.printer, identifiers=names), frames.forms)
        for statement in body:
            if isinstance(statement, Loop) and is_sample(statement.index):
                order = f"range({n['position']}, {n['position']} + {self.frames.samples})"
                yield f"        for {n['row']} in {order}:"
                yield f"            {index_name(statement.index)} = {n['permutation']}[{n['row']}]"
                yield from lines.body(statement.body, 3)
            else:
                yield from lines.body([statement], 2)

    # ---------------------------------------------------------------- parameters and moments

    def _variables(self, parameter: Parameter) -> Iterator[tuple[int, str, list[str]]]:
        """Yield the place of each element in the flat vector, its variable and its moments'."""
        first, slots = self.frames.offset(parameter), self.frames.options.optimizer.slots
        for place, name in enumerate(self.straight.elements[parameter.name], first):
            yield place, name, [f"{self._moments[slot]}_{name}" for slot in slots]

    @property
    def _moments(self) -> dict[str, str]:
        """The beginnings of the moments' names, which no other name has."""
        frames = self.frames
        taken = {*frames.program.taken, *frames.named.values(), *frames.rates.values()}
        found = {}
        for slot in frames.options.optimizer.slots:
            head = slot
            while any(name.startswith(f"{head}_") for name in taken):
                head += "_of"
            found[slot] = head
        return found

    def _moved(self, *, out: bool) -> Iterator[str]:
        """Yield the lines that read the variables from the vectors, or write them back."""
        n = self.frames.named
        for parameter in self.frames.network.parameters:
            for place, name, moments in self._variables(parameter):
                pairs = [(name, f"{n['values']}[0, {place}]")]
                if parameter.trainable:
                    rows = enumerate(moments, 1)
                    pairs += [(slot, f"{n['values']}[{row}, {place}]") for row, slot in rows]
                elif out:
                    pairs = []
                for variable, memory in pairs:
                    yield f"    {memory} = {variable}" if out else f"    {variable} = {memory}"

    def _updated(self) -> Iterator[str]:
        """Yield the update of every variable; the rule's factors come first."""
        frames = self.frames
        update = rule(frames.options.optimizer, Idx("element", 1))
        factors, names = factored(update, frames)
        yield from (f"        {line}" for line in factors)
        for equation in frames.options.optimizer.equations:
            yield f"        # {text(equation)}"
        body = tuple(_of_one_element(update))
        loss = frames.network.equations[-1].name
        for parameter in (p for p in frames.network.parameters if p.trainable):
            slopes = self.straight.elements[f"d{loss}/d{parameter.name}"]
            for (_, name, moments), slope in zip(self._variables(parameter), slopes, strict=True):
                own = {"theta": name, "gradient": frames.printer.name(slope)}
                own |= dict(zip(frames.options.optimizer.slots, moments, strict=True))
                yield from Lines(Printer(frames.options.dtype, {**names, **own})).body(body, 2)


def _of_one_element(update: Rule) -> Iterator[Statement]:
    """Yield the assignments of a rule with scalars for the elements of vectors."""
    for line in update.body:
        if isinstance(line, Assign):
            target, value = (
                part.replace(lambda node: isinstance(node, Indexed), _scalar)
                for part in (line.target, line.value)
            )
            yield Assign(target, value)
        elif not isinstance(line, Note):
            raise TypeError(f"{type(line).__name__}: not part of an update rule")


def _scalar(leaf: Indexed) -> Symbol:
    return element(name_of(leaf))
