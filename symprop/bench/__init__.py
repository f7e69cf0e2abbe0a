"""Times a network's kernels on this machine, beside other libraries that do the same work.

symprop, PyTorch (run line by line, and compiled), JAX and scikit-learn train the same network
on the same synthetic samples from the same parameters with the same batches, precision,
optimizer and number of threads. Their losses after one epoch in order are compared, which shows
that the work is the same; then they take turns, and the median of several rounds is shown.

The other libraries get the network's own equations, translated into whole-array operations
(`symprop.bench.translate`), differentiate them themselves and update by the same formula.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from symprop.errors import OptionError
from symprop.network import Network

if TYPE_CHECKING:
    from symprop.bench.report import Report

__all__ = ["bench", "check_plot"]


def bench(
    networks: Iterable[Network],
    *,
    peers: Iterable[str] | None = None,
    dtype: str | None = None,
    batch_size: int | None = None,
    samples: int | None = None,
    threads: int = 1,
    rounds: int = 5,
    say: Callable[[str], None] = lambda message: None,
) -> Report:
    """Time each of `networks` and return what was found.

    Without `peers`, all that are installed take part. `dtype`, `batch_size` and `samples` are
    the bench networks' own unless given; for other networks float64, the description's batch
    size and 10,000 samples. `say` is told what is going on. Raises `OptionError` for more
    threads than there are processors, `DataError` for a network without finite losses.
    """
    from symprop.bench import machine
    from symprop.bench.contestants import PEERS, available
    from symprop.bench.report import Report
    from symprop.bench.running import run_case
    from symprop.bench.workload import Settings

    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if threads > (count or threads):
        raise OptionError(f"threads: got {threads}, expected at most the {count} processors here")
    chosen = tuple(filter(available, PEERS)) if peers is None else tuple(dict.fromkeys(peers))
    cases = []
    for network in networks:
        settings = Settings.choose(network, dtype, samples, batch_size, threads)
        cases.append(run_case(network, settings, chosen, rounds=rounds, say=say))
    return Report(machine.name(), rounds, tuple(cases))


def check_plot(path: Path) -> None:
    """Raise `OptionError` where nothing could be drawn to `path`, before the work is done."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise OptionError("--plot needs matplotlib: python -m pip install 'symprop[plots]'")
    if not path.parent.is_dir():
        raise OptionError(f"--plot {path}: no folder {path.parent}; make it first")
