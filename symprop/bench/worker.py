"""A contestant in a process of its own, told line by line what to do.

Started as ``python -m symprop.bench.worker FOLDER NAME``. Each line of standard input is a
command in JSON, ``{"do": "first"}``, ``{"do": "run", "epochs": 3}``, ``{"do": "measure"}``; each is
answered by one line of JSON, ``{"error": "..."}`` where it fails. What libraries print goes
to standard error.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from symprop.errors import SympropError

__all__: list[str] = []


def main(folder: str, name: str) -> None:
    """Answer commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    settings = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))
    _bind(settings["threads"])
    served = _Served(Path(folder), name)
    for line in sys.stdin:
        try:
            answer = served.answer(**json.loads(line))
        except Exception as error:
            answer = {"error": _reason(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _reason(error: Exception) -> str:
    """Return the first line of an error; for those that symprop has no words for, its type too."""
    text = next(iter(str(error).strip().splitlines()), "")
    return (text if isinstance(error, SympropError) else f"{type(error).__name__}: {text}")[:300]


def _bind(threads: int) -> None:
    """Keep this process to as many processors as it may have threads: the last ones."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[-threads:])


class _Served:
    """The contestant and what it can be asked."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.contestant: Any = None

    def answer(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "start":
            return self._start()
        if do == "first":
            return self._first()
        if do == "run":
            return {"seconds": self.contestant.run(**arguments)}
        if do == "measure":
            return dict(self.contestant.measure())
        raise ValueError(f"unknown command {do!r}")

    def _start(self) -> dict[str, Any]:
        from symprop.bench import workload
        from symprop.bench.contestants import CONTESTANTS

        self.contestant = CONTESTANTS[self.name](workload.read(self.folder))
        return {"version": self.contestant.version}

    def _first(self) -> dict[str, Any]:
        """Train the first epoch; tell its time, its loss and that of the parameters after it."""
        from symprop.bench import workload
        from symprop.bench.translate import TranslationError
        from symprop.derivation import differentiate

        start = time.perf_counter()
        parameters, loss = self.contestant.first()
        seconds = time.perf_counter() - start
        task = workload.read(self.folder)
        try:
            after = workload.mean_loss(differentiate(task.network), task, parameters)
        except TranslationError:
            after = math.nan
        return {"seconds": seconds, "loss": _number(loss), "after": _number(after)}


def _number(value: float) -> float | None:
    """Return a number that JSON has; None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


if __name__ == "__main__":
    main(*sys.argv[1:])
