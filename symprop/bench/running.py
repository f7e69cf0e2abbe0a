"""One network after the other, all contestants in turn, round after round.

Each contestant lives in a process of its own, bound to the same processors. In every round each of
them trains for about the same time while the others wait, so that a machine that
slows down does so for all; medians are shown.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from symprop.bench.contestants import available
from symprop.bench.counting import count_step
from symprop.bench.processes import Process, ProcessError
from symprop.bench.report import Case, Row
from symprop.bench.workload import Settings, make, write
from symprop.derivation import differentiate
from symprop.network import Network
from symprop.optimizers import find

__all__ = ["run_case"]

_SECONDS = 0.25
"""How long a contestant trains in a round, about."""

_EPOCHS = 1_000_000
"""How many epochs it trains at most, each of which has its mean loss in memory."""

_BEST: dict[str, Callable[[Iterable[float]], float]] = {
    "peak": max, "transcendental": min, "bandwidth": max,
}  # fmt: skip
"""Which of a figure's rounds counts: what the machine can do at all."""


@dataclass(slots=True)
class _Entrant:
    """A contestant as it comes along."""

    name: str
    process: Process | None = None
    version: str = ""
    epochs: int = 1
    first: float | None = None
    loss: float | None = None
    after: float | None = None
    seconds: list[float] = field(default_factory=list)
    problem: str = ""

    def start(self, folder: Path, threads: int) -> None:
        """Start the process and train the first epoch, then see how fast another one is."""
        self.process = Process(folder, self.name, threads)
        self.version = self.process.ask("start")["version"]
        if self.name == "machine":
            return
        answer = self.process.ask("first")
        self.first, self.loss, self.after = (answer[key] for key in ("seconds", "loss", "after"))
        self.process.ask("run", epochs=1)
        seconds = self.process.ask("run", epochs=1)["seconds"]
        while seconds < _SECONDS / 3 and self.epochs < _EPOCHS:  # a short run tells little
            more = _SECONDS / max(seconds, _SECONDS / 100)
            self.epochs = min(_EPOCHS, math.ceil(self.epochs * more))
            seconds = self.process.ask("run", epochs=self.epochs)["seconds"]

    def row(self, own: float | None) -> Row:
        """Return what is reported; `own` is symprop's loss after the first epoch."""
        difference = None
        if own is not None and self.after is not None:
            difference = abs(self.after - own) / max(abs(own), 1e-30)
        return Row(
            self.name, self.version, tuple(self.seconds), self.epochs, self.first, self.after,
            difference, self.problem,
        )  # fmt: skip


def run_case(
    network: Network,
    settings: Settings,
    peers: Iterable[str],
    *,
    rounds: int = 5,
    say: Callable[[str], None] = lambda message: None,
) -> Case:
    """Time symprop and `peers` on `network`; a contestant that fails is a row with the reason."""
    derivation = differentiate(settings.described(network))
    workload = make(derivation, settings)
    optimizer = find(network.training.optimizer)
    work = count_step(derivation, optimizer, settings.batch_size, settings.dtype)
    entrants = [_Entrant(name) for name in ("symprop", *peers)]
    machine = _Entrant("machine")
    figures: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="symprop-bench-") as folder, ExitStack() as stack:
        write(workload, Path(folder))
        stack.callback(_close, [*entrants, machine])
        for entrant in (*entrants, machine):
            say(f"{network.name}: {entrant.name} prepares")
            _start(entrant, Path(folder), settings.threads)
        for number in range(rounds):
            say(f"{network.name}: round {number + 1} of {rounds}")
            _round(entrants, machine, figures, settings.steps)
    own = entrants[0].after
    found = {key: _BEST[key](entry[key] for entry in figures) for key in (figures or [{}])[0]}
    return Case(network.name, settings, work, found, tuple(e.row(own) for e in entrants))


def _start(entrant: _Entrant, folder: Path, threads: int) -> None:
    if entrant.name not in ("symprop", "machine") and not available(entrant.name):
        entrant.problem = "not installed"
        return
    try:
        entrant.start(folder, threads)
    except ProcessError as error:
        entrant.problem = str(error)


def _round(
    entrants: Sequence[_Entrant], machine: _Entrant, figures: list[dict[str, float]], steps: int
) -> None:
    """Let each contestant that still runs train once, and measure the machine."""
    for entrant in (*entrants, machine):
        if entrant.problem or entrant.process is None:
            continue
        try:
            if entrant is machine:
                figures.append(entrant.process.ask("measure"))
            else:
                seconds = entrant.process.ask("run", epochs=entrant.epochs)["seconds"]
                entrant.seconds.append(seconds / entrant.epochs / steps)
        except ProcessError as error:
            entrant.problem, entrant.seconds = str(error), []


def _close(entrants: Iterable[_Entrant]) -> None:
    for entrant in entrants:
        if entrant.process is not None:
            entrant.process.close()
