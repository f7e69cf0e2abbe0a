"""The training loop: the update rule, a compiled slice of steps, and what starts it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from sympy import Idx

from symprop.errors import LoweringError
from symprop.network import Parameter
from symprop.options import hyperparameters
from symprop.printer import Printer
from symprop.render.batches import Batches
from symprop.render.frames import Frames
from symprop.render.lines import Lines
from symprop.render.owned import Owned
from symprop.render.parts import Parts
from symprop.render.rule import factored, rule
from symprop.render.stretch import Stretch
from symprop.render.texts import call, joined

__all__ = ["Loop"]


_KEPT = ("values", "permutation", "random", "good_values", "good_permutation", "good_random")
"""What training changes, and where it is kept as it was when the epoch began."""

_CREW = ("threads", "gradients", "workspaces", "arrived", "totals", "sums", "zeros")
"""What the threads share: the fields of a `Crew`, a named tuple that Numba takes 0.5 ms to type."""

_OWNED = {"workspaces", "sums", "zeros"}
"""Those of them that there are only where each has rows of the weights."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Writes the functions that train."""

    frames: Frames

    def context(self) -> dict[str, object]:
        """Return the update rule, the training loop and the functions that start it."""
        stretch = self._stretch
        return {
            "straight": stretch is not None,
            "update_signature": joined(call("def _update(", self._update_arguments(), "):")),
            "update_body": joined(self._update()),
            **Parts(self.frames).context(),
            **Owned(self.frames).context(),
            "step_name": self.frames.named["iteration"],
            "scale_name": self.frames.named["scale"],
            **(stretch.context() if stretch else {"stretch_signature": "", "stretch_body": ""}),
            "advance_signature": joined(call("def _advance(", self._advance_arguments(), "):")),
            "advance_body": joined(self._advance()),
            "values": self.frames.memory((1 + len(self._slots)) * self.frames.size),
            "room": joined(f"        {made}," for _, made in self._room()),
            "resume_signature": self._public("resume", "state: State", False),
            "train_signature": self._public("train", "parameters: Parameters", True),
            "train_call": joined(self._train()),
            "rates": self._checked_rates(),
        }

    @property
    def _stretch(self) -> Stretch | None:
        """What writes the steps of a network without tensors; None for others."""
        straight = self.frames.program.straight
        return Stretch(self.frames, straight) if straight else None

    @property
    def _deferred(self) -> bool:
        return bool(self.frames.program.gradient.deferred)

    def _update_arguments(self) -> list[str]:
        n = self.frames.named
        vectors = [n[name] for name in ("theta", *self._slots, "gradient")]
        rest = [n[name] for name in ("scale", "iteration")]
        return [*vectors, *rest, *self.frames.rates.values()]

    def _update(self) -> Iterator[str]:
        optimizer, n = self.frames.options.optimizer, self.frames.named
        update = rule(optimizer, Idx(n["element"], max(self.frames.size, 1)))
        factors, names = factored(update, self.frames)
        if self.frames.vectors:
            yield "    _hot()"
        yield from (f"    {line}" for line in factors)
        yield f"    for {n['element']} in range({n['theta']}.size):"
        yield from Lines(Printer(self.frames.options.dtype, {**n, **names})).body(update.body, 2)

    def _updated(self) -> Iterator[str]:
        """Yield the calls that apply the update rule to what is trainable."""
        parts, owned = Parts(self.frames), Owned(self.frames)
        if not parts.weights:
            yield from self._applied((), 2)
            return
        yield f"        if {self.frames.whole}:"
        yield from self._applied((), 3)
        if owned.sums:
            yield f"        elif {self.frames.together}:"
            yield from owned.after(3)
        else:
            yield "        else:"
        yield from parts.called(3)
        yield from self._applied(parts.weights, 3)

    def _applied(self, done: Iterable[Parameter], depth: int) -> Iterator[str]:
        """Yield the calls that apply it to all but the parameters that are `done`."""
        frames, n = self.frames, self.frames.named
        rest = [f"1.0 / {n['size']}", n["iteration"], *frames.rates.values()]
        rows = range(1 + len(self._slots))
        for low, high in self._trainable(done):
            if frames.lanes:
                yield from self._summed(low, high, depth)
                bounds = n["lower"], n["upper"]
                parts = [frames.row(n["values"], row, *bounds) for row in rows]
                parts.append(frames.row(n["gradients"], 0, *bounds))
            else:
                some = "" if (low, high) == (0, frames.size) else f"[{low}:{high}]"
                parts = [frames.row(n["values"], row) + some for row in rows]
                parts.append(n["gradient"] + some)
            yield from self._called("", "_update", [*parts, *rest], depth)

    def _called(self, result: str, function: str, arguments: list[str], depth: int) -> list[str]:
        """Return the lines of a large function's call, with vectors where its code is."""
        if self.frames.vectors:
            return call(f"{result}_apart(", [function, *arguments], depth=depth)
        return call(f"{result}{function}(", arguments, depth=depth)

    @property
    def _slots(self) -> tuple[str, ...]:
        return self.frames.options.optimizer.slots

    def _trainable(self, done: Iterable[Parameter]) -> list[tuple[int, int]]:
        """Return the parts of the flat vector that training changes, but for what is `done`."""
        ranges: list[tuple[int, int]] = []
        for parameter in self.frames.network.parameters:
            low = self.frames.offset(parameter)
            high = low + prod(parameter.shape)
            if not parameter.trainable or parameter in done:
                continue
            if ranges and ranges[-1][1] == low:
                ranges[-1] = (ranges[-1][0], high)
            else:
                ranges.append((low, high))
        return ranges

    def _advance_arguments(self) -> list[str]:
        n = self.frames.named
        names = ("iteration", "epoch", "position", "partial", *_KEPT, "counts", "losses", "begin")
        without = set() if Owned(self.frames).sums else _OWNED
        given = [*(n[name] for name in names), "batch_size", "shuffle"]
        shared = [n[name] for name in (*_CREW, "thread") if name not in without]
        crew = shared if self.frames.lanes else []
        data = [v.name for v in self.frames.data]
        room = [name for name, _ in self._room()]
        return [*given, n["steps"], *data, *self.frames.rates.values(), *room, *crew]

    def _room(self) -> Iterator[tuple[str, str]]:
        """Yield the arrays that a thread works in, each with the text that makes it.

        Python makes them: to compile NumPy's functions for it takes longer than the mathematics.
        """
        frames, n = self.frames, self.frames.named
        if self._stretch:
            return
        yield from Batches(frames).room(frames.data, "rows")
        yield n["part"], frames.memory(frames.size)
        if not frames.lanes:
            yield n["gradient"], frames.memory(frames.size)
        if frames.program.gradient.size and not Owned(frames).sums:
            yield n["workspace"], frames.memory(frames.program.gradient.size)

    def _advance(self) -> Iterator[str]:
        n = self.frames.named
        yield f"    {n['n']} = {self.frames.data[0].name}.shape[0]"
        yield f"    {n['theta']} = {self.frames.row(n['values'], 0)}"
        yield from self._by_stretches(self._stretch) if self._stretch else self._by_steps()
        reached = ("iteration", "epoch", "position", "partial")
        yield f"    return {', '.join(n[name] for name in reached)}"

    def _by_stretches(self, stretch: Stretch) -> Iterator[str]:
        """Yield the loop over stretches of steps, each inside one epoch."""
        n = self.frames.named
        yield f"    {n['size']} = _step_size(batch_size, {n['n']})"
        yield f"    while {n['steps']} > 0:"
        yield f"        if {n['position']} == 0:"
        yield from self._begun(n["size"], 3)
        yield from stretch.called()
        yield from self._checked()

    def _by_steps(self) -> Iterator[str]:
        """Yield the views of the parameters and the loop over the steps."""
        frames, n = self.frames, self.frames.named
        for parameter in frames.parameters(frames.program.gradient):
            if parameter.shape:
                yield f"    {parameter.name} = {frames.view('theta', parameter)}"
        if frames.lanes:
            yield f"    {n['gradient']} = {frames.row(n['gradients'], n['thread'])}"
            if Owned(frames).sums:
                own = frames.own("workspaces", frames.program.gradient.size)
                yield f"    {n['workspace']} = {own}"
            yield f"    {n['phase']} = 0"
            yield f"    {n['mode']} = _flush()"
        yield f"    while {n['steps']} > 0:"
        yield f"        {n['steps']} -= 1"
        yield from self._step()
        if self.frames.lanes:
            yield f"    _restore({n['mode']})"

    def _step(self) -> Iterator[str]:
        """Yield one step: its batch, its gradient block by block, its update."""
        n, lanes = self.frames.named, self.frames.lanes
        yield f"        if {n['position']} == 0:"
        if lanes:
            yield f"            if {n['thread']} == 0:"
        yield from self._begun("batch_size", 4 if lanes else 3)
        if lanes:
            yield from self.frames.met_if_together(3)
        yield f"        {n['size']} = min(batch_size, {n['n']} - {n['position']})"
        low, high = "0", n["size"]
        if lanes:
            low, high = n["low"], n["high"]
            yield f"        {low}, {high} = 0, {n['size']}"
            yield f"        if {self.frames.together}:"
            yield f"            {low}, {high} = {self.frames.share(n['size'], n['thread'])}"
        end = high
        if Owned(self.frames).sums:
            end = f"max({high}, {low} + 1)"  # a thread without samples has rows, too
            alone = f"{n['threads']} is None or {n['size']} > _BLOCK"
            yield f"        {self.frames.whole} = {alone}"
        elif self._deferred:
            yield f"        {self.frames.whole} = {n['size']} > {Parts(self.frames).most}"
        yield f"        {n['total']} = 0.0"
        yield f"        for {n['first']} in range({low}, {end}, _BLOCK):"
        yield f"            {n['rows']} = min(_BLOCK, {high} - {n['first']})"
        yield from self._block_gradient(low)
        if lanes:
            yield from self._totals()
        yield from self._finish()

    def _begun(self, size: str, depth: int) -> Iterator[str]:
        """Yield what an epoch begins with: the state is kept, the samples are put in order.

        A step has `size` samples.
        """
        n = self.frames.named
        names = [n[name] for name in _KEPT]
        shuffled = f"shuffle and {size} < {n['n']}"
        yield f"{'    ' * depth}{n['counts']}[0], {n['counts']}[1] = {n['iteration']}, {n['epoch']}"
        yield from call("_apart(", ["_begin", *names, shuffled], depth=depth)

    def _totals(self) -> Iterator[str]:
        """Yield the lines that add up the losses of all threads."""
        n = self.frames.named
        other, totals = n["other"], n["totals"]
        yield f"        if {self.frames.together}:"
        yield f"            {totals}[{n['thread']}] = {n['total']}"
        yield from self.frames.met(3)
        yield f"            {n['total']} = {totals}[0]"
        yield f"            for {other} in range(1, {n['threads']}):"
        yield f"                {n['total']} += {totals}[{other}]"

    def _summed(self, low: int, high: int, depth: int) -> Iterator[str]:
        """Yield the lines that add up a thread's part of the gradients, of these elements."""
        n, margin, share = self.frames.named, "    " * depth, self.frames.share
        other, gradients, lower, upper = n["other"], n["gradients"], n["lower"], n["upper"]
        yield f"{margin}{lower}, {upper} = {low}, {high}"
        yield f"{margin}if {self.frames.together}:"
        yield f"{margin}    {lower}, {upper} = {share(high - low, n['thread'])}"
        if low:
            yield f"{margin}    {lower}, {upper} = {low} + {lower}, {low} + {upper}"
        place, length = n["origin"], f"({upper} - {lower},)"
        parts = [f"_view({gradients}, {start}, {length})" for start in (lower, place)]
        yield f"{margin}    for {other} in range(1, {n['threads']}):"
        yield f"{margin}        {n['begins']}, {n['ends']} = {share(n['size'], other)}"
        yield f"{margin}        if {n['begins']} < {n['ends']}:  # else it had no samples"
        yield f"{margin}            {place} = {other} * {gradients}.shape[1] + {lower}"
        yield from call("_apart(", ["_add", *parts], depth=depth + 3)

    def _block_gradient(self, low: str) -> Iterator[str]:
        frames, n = self.frames, self.frames.named
        kernel = frames.program.gradient
        place = f"{n['position']} + {n['first']}"
        yield from Batches(frames).collected(kernel, n["permutation"], place, 3, n["rows"])
        owned = Owned(frames)
        if owned.sums:
            yield f"            if {frames.together} and not {frames.whole}:"
            yield from owned.before(4)
        weights = [
            p.name if p.shape else frames.slice("theta", p) for p in frames.parameters(kernel)
        ]
        batches = [frames.batches[variable.name] for variable in kernel.data]
        if not frames.lanes:
            batches = [f"{batch}[:{n['rows']}]" for batch in batches]
        batches += [n["rows"]] if frames.lanes else []
        rest = [n["workspace"]] if kernel.size else []
        rest += [frames.whole] if self._deferred else []
        yield f"            {n['into']} = {n['gradient']} if {n['first']} == {low} else {n['part']}"
        arguments = [*weights, *batches, n["into"], *rest]
        yield from self._called(f"{n['total']} += ", "_gradient_block", arguments, 3)
        yield f"            if {n['first']} > {low}:"
        yield f"                _apart(_add, {n['gradient']}, {n['part']})"

    def _finish(self) -> Iterator[str]:
        n, lanes = self.frames.named, self.frames.lanes
        yield f"        {n['iteration']} += 1"
        yield from self._updated()
        if lanes:
            yield from self.frames.met_if_together(2)
        yield f"        {n['partial']} += {n['total']}"
        yield f"        {n['position']} += {n['size']}"
        yield from self._checked()

    def _checked(self) -> Iterator[str]:
        """Yield what follows the steps: a test for divergence, and the end of an epoch.

        The loop has one exit: at each, Numba would write the end of every array's life.
        """
        n = self.frames.named
        yield f"        if {n['position']} == {n['n']} and not _finite({n['theta']}):"
        yield f"            {n['partial']} = math.nan"
        yield f"        if not -math.inf < {n['partial']} < math.inf:"
        yield f"            {n['partial']}, {n['steps']} = math.nan, 0"
        yield f"        elif {n['position']} == {n['n']}:"
        place = f"{n['losses']}[{n['epoch']} - {n['begin']}]"
        yield f"            {place} = {n['partial']} / {n['n']}"
        yield f"            {n['epoch']} += 1"
        yield f"            {n['position']}, {n['partial']} = 0, 0.0"
        yield f"            if {n['epoch']} - {n['begin']} == {n['losses']}.size:"
        yield f"                {n['steps']} = 0"

    # ---------------------------------------------------------------- what Python code calls

    def _public(self, name: str, first: str, seeded: bool) -> str:
        training = self.frames.network.training
        values = hyperparameters(self.frames.options.optimizer, training)
        clash = sorted({v.name for v in self.frames.data} & values.keys())
        if clash:
            raise LoweringError(
                f"{clash[0]!r} names both an input or target and a hyperparameter of "
                f"{self.frames.options.optimizer.name!r}; rename the input or target"
            )
        parts = [first, *(f"{v.name}: np.ndarray" for v in self.frames.data), "*"]
        parts += [f"epochs: int = {training.epochs}", f"batch_size: int = {training.batch_size}"]
        parts += [f"seed: int = {training.seed}"] if seeded else []
        parts += [f"shuffle: bool = {training.shuffle}", "callback: Any = None"]
        parts += ["threads: int | None = None"]
        parts += [f"{rate}: float = {value!r}" for rate, value in values.items()]
        result = "State" if name == "resume" else "Parameters"
        return joined(call(f"def {name}(", parts, f") -> tuple[{result}, np.ndarray]:"))

    def _checked_rates(self) -> str:
        rates = [
            f'_rate("{name}", {name})' for name in self.frames.options.optimizer.hyperparameters
        ]
        comma = "," if len(rates) == 1 else ""
        return "\n".join(call("rates = (", rates, f"{comma})", 1)).removeprefix("    ")

    def _train(self) -> Iterator[str]:
        passed = ["epochs", "batch_size", "shuffle", "callback", "threads"]
        passed += self.frames.options.optimizer.hyperparameters
        arguments = ["start(parameters, seed)", *(v.name for v in self.frames.data)]
        arguments += [f"{name}={name}" for name in passed]
        yield from call("state, losses = resume(", arguments, depth=1)
