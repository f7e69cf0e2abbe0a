"""What was measured, as a table, as JSON and as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from symprop.bench.counting import Work, floor_seconds
from symprop.bench.workload import Settings
from symprop.errors import OutputError

__all__ = ["Case", "Report", "Row"]

_ALIKE = {"float64": 1e-6, "float32": 1e-3}
"""Losses after an epoch that differ by more than this share come from other work.

An epoch of some hundred steps multiplies roundings, 1e-16 and 6e-8, by a few thousand at most.
"""

_HEAD = (
    "network", "contestant", "us/step", "ns/sample", "x symprop", "GF/s", "% peak", "% floor",
    "loss", "first s",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant on one network.

    `seconds` has the time of a step in each round, `first` is the time of the first epoch with
    everything that has to be compiled for it. `difference` is how far the loss of the parameters
    after one epoch in order is from that of symprop's, as a share. `problem` says why there is
    nothing of all this.
    """

    name: str
    version: str = ""
    seconds: tuple[float, ...] = ()
    epochs: int = 0
    first: float | None = None
    loss: float | None = None
    difference: float | None = None
    problem: str = ""

    @property
    def step(self) -> float | None:
        """The median time of a step in seconds."""
        return median(self.seconds) if self.seconds else None


@dataclass(frozen=True, slots=True)
class Case:
    """One network with its settings, its work, the machine's figures and all contestants."""

    network: str
    settings: Settings
    work: Work
    machine: dict[str, float]
    rows: tuple[Row, ...]

    @property
    def floor(self) -> float | None:
        """The time below which no step gets on this machine, in seconds."""
        if not self.machine:
            return None
        return floor_seconds(self.work, self.machine, self.settings.threads)

    def figures(self, row: Row) -> dict[str, float | None]:
        """Return what the table shows of a row."""
        step, own = row.step, self.rows[0].step
        if step is None:
            return dict.fromkeys(("us", "ns", "ratio", "gflops", "peak", "floor"))
        per_sample = step * self.settings.steps / self.settings.samples
        rate = self._flops_a_sample / per_sample * 1e-9
        peak = self.machine.get("peak", 0) * self.settings.threads
        return {
            "us": step * 1e6,
            "ns": per_sample * 1e9,
            "ratio": step / own if own else None,
            "gflops": rate,
            "peak": 100 * rate / peak if peak else None,
            "floor": 100 * self.floor / step if self.floor else None,
        }

    @property
    def _flops_a_sample(self) -> float:
        return self.work.flops / self.settings.batch_size

    def differs(self, row: Row) -> bool:
        """Tell whether a row's loss says that it did other work than symprop."""
        return row.difference is not None and row.difference > _ALIKE[self.settings.dtype]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        rows = [
            {**asdict(row), "seconds": list(row.seconds), **self.figures(row)} for row in self.rows
        ]
        return {
            "network": self.network,
            **asdict(self.settings),
            "steps": self.settings.steps,
            "work": {**asdict(self.work), "flops": self.work.flops},
            "machine": self.machine,
            "floor_seconds": self.floor,
            "contestants": rows,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All cases."""

    processor: str
    rounds: int
    cases: tuple[Case, ...]

    @property
    def ok(self) -> bool:
        """Whether symprop's kernels ran on every network."""
        return all(case.rows[0].step is not None for case in self.cases)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        cases = [case.as_dict() for case in self.cases]
        return {"processor": self.processor, "rounds": self.rounds, "networks": cases}

    def __str__(self) -> str:
        """Return the table, and below it what each network and the machine is."""
        lines: list[tuple[str, ...]] = [_HEAD]
        for case in self.cases:
            lines += [_cells(case, row) for row in case.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
        table = [_line(line, widths) for line in lines]
        return "\n".join([*table, "", *(_legend(case) for case in self.cases), self.processor])

    def problems(self) -> list[str]:
        """Return a line for each contestant that could not run or did other work."""
        found = []
        for case in self.cases:
            for row in case.rows:
                if row.problem:
                    found.append(f"{case.network}, {row.name}: {row.problem}")
                if case.differs(row):
                    found.append(
                        f"{case.network}, {row.name}: its loss after one epoch differs by "
                        f"{row.difference:.1e} from symprop's; it did not do the same work"
                    )
        return found

    def plot(self, path: Path) -> None:
        """Draw the times relative to symprop's, a group for each network.

        Raises `OutputError` where the file cannot be written.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        names = list(dict.fromkeys(row.name for case in self.cases for row in case.rows))
        width = 0.8 / len(names)
        for place, name in enumerate(names):
            found = [_ratio(case, name) for case in self.cases]
            shown = [(n, ratio) for n, ratio in enumerate(found) if ratio]
            places = [n + (place - (len(names) - 1) / 2) * width for n, _ in shown]
            axes.bar(places, [ratio for _, ratio in shown], width, label=name)
        axes.set_yscale("log")
        axes.set_xticks(range(len(self.cases)), [case.network for case in self.cases])
        axes.set_ylabel("time of a step, symprop = 1")
        axes.legend()
        try:
            figure.savefig(path)
        except (OSError, ValueError) as error:
            raise OutputError(f"{path}: cannot be written: {error}") from error


def _ratio(case: Case, name: str) -> float | None:
    return next((case.figures(row)["ratio"] for row in case.rows if row.name == name), None)


def _cells(case: Case, row: Row) -> tuple[str, ...]:
    figures = case.figures(row)
    loss = _text(row.difference, ".0e") if row is not case.rows[0] else _text(row.loss, ".5g")
    return (
        case.network,
        row.name,
        _text(figures["us"], ".4g"),
        _text(figures["ns"], ".4g"),
        _text(figures["ratio"], ".3g"),
        _text(figures["gflops"], ".3g"),
        _text(figures["peak"], ".2g"),
        _text(figures["floor"], ".2g"),
        loss + ("!" if case.differs(row) else ""),
        _text(row.first, ".1f"),
    )


def _text(value: float | None, form: str) -> str:
    """Return a number with so many digits, without an exponent where it is long; "-" for none."""
    if value is None:
        return "-"
    text = format(value, form)
    return f"{value:.0f}" if "e+" in text and form.endswith("g") else text


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _legend(case: Case) -> str:
    settings, work = case.settings, case.work
    parts = [
        f"{case.network}: {settings.samples} samples in batches of {settings.batch_size}",
        settings.dtype,
        f"{settings.threads} thread{'s' if settings.threads > 1 else ''}",
        f"{work.products:,} + {work.elementwise:,} flops and "
        f"{work.transcendentals:,} transcendentals a step",
    ]
    if case.floor is not None:
        parts.append(
            f"floor {case.floor * 1e6:.4g} us (a core: {case.machine['peak']:.0f} GF/s, "
            f"{case.machine['transcendental']:.2f} ns a transcendental, "
            f"{case.machine['bandwidth']:.0f} GB/s)"
        )
    return ", ".join(parts)
