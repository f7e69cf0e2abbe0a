"""Threads of a training beside other threads, forks and workers: the numbers of a training alone.

What could wait for ever instead of failing runs under a watchdog, which ends the process.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import crews
import numpy as np
import pytest
import zoo

from symprop.derivation import differentiate
from symprop.lower import lower
from symprop.optimizers import find
from symprop.options import Options
from symprop.render import render

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux")
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

PATIENCE = 120
"""Seconds after which what takes one or two is taken for waiting."""


@functools.cache
def text(name: str) -> str:
    """The text of the kernels of a network, with threads."""
    made = differentiate(zoo.ZOO[name]())
    return render(made, lower(made, "float64", layout="lanes"), Options("float64", find("adam")))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text of kernels whose training is compiled; other processes find it in the cache."""
    path = tmp_path_factory.mktemp("threads") / "classifier.py"
    path.write_text(text("classifier"))
    crews.in_worker(path)
    return path


@pytest.fixture(scope="module")
def kernels(path: Path) -> ModuleType:
    """These kernels."""
    return crews.kernels(path)


@pytest.fixture(scope="module")
def alone(kernels: ModuleType) -> str:
    """What a training on two threads ends with while nothing else happens."""
    return crews.trained(kernels)


@pytest.fixture(autouse=True)
def watchdog(kernels: ModuleType) -> Iterator[None]:
    """End the process, with a traceback, where a test waits for ever."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def play(scene: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Play a scene in a process of its own."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", crews.__file__, scene, str(path)]
    root = str(Path(__file__).parents[1])
    return subprocess.run(
        command,
        env=dict(os.environ, PYTHONPATH=root),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def lines(scene: str, path: Path) -> list[str]:
    """What a scene printed; nothing may have gone wrong."""
    result = play(scene, path)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split("\n")[:-1]


def test_other_numbers_are_seen(kernels: ModuleType, alone: str) -> None:
    assert crews.trained(kernels) == alone
    others = [crews.trained(kernels, 1), crews.trained(kernels, learning_rate=0.0010000001)]
    assert alone not in others


# ------------------------------------------------------------------------------- Python's threads


def test_two_trainings_at_once(kernels: ModuleType, alone: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(crews.trained, [kernels] * 6))
    assert found == [alone] * 6


def test_two_modules_at_once(kernels: ModuleType, alone: str) -> None:
    """Nothing of the second one is compiled when both begin."""
    other = crews.load(text("unreached"), "unreached")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(crews.trained, [other, kernels, other, kernels]))
    assert found[1::2] == [alone] * 2
    assert found[::2] == [crews.trained(other)] * 2


def test_a_training_beside_an_endless_one(kernels: ModuleType, alone: str) -> None:
    with crews.Endless(kernels) as other:
        assert crews.trained(kernels) == alone
    assert other.right()


def test_a_training_inside_a_callback(kernels: ModuleType, alone: str) -> None:
    found: list[str] = []

    def callback(done: int, losses: np.ndarray) -> None:
        found.append(crews.trained(kernels))

    assert crews.trained(kernels, callback=callback) == alone
    assert set(found) == {alone}


def test_more_threads_than_processors(kernels: ModuleType) -> None:
    threads = 3 * (os.cpu_count() or 1)
    assert crews.trained(kernels, threads) == crews.trained(kernels, threads)


# ------------------------------------------------------------------------------ how many are chosen

WORK = 10**7
"""Samples of a step that have work for any number of threads."""


@pytest.fixture
def eight(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have eight processors and no limit."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(kernels, "_QUOTA", "/nowhere")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("limit", "threads"), [("", 8), ("3", 3), ("2,1", 2), ("0", 8), ("many", 8), ("99", 8)]
)
def test_no_more_threads_than_openmp_may_have(
    limit: str, threads: int, kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert kernels._crew(None, WORK).threads == threads
    assert kernels._crew(5, WORK).threads == 5  # who gives a number gets it


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("quota", "threads"),
    [("300000 100000", 3), ("150000 100000", 1), ("20000 100000", 1), ("max 100000", 8), ("", 8)],
)
def test_no_more_threads_than_a_container_may_keep_busy(
    quota: str, threads: int, kernels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(f"{quota}\n")
    monkeypatch.setattr(kernels, "_QUOTA", str(path))
    assert kernels._crew(None, WORK).threads == threads


# --------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("thread", [0, 1, 2])
def test_no_thread_waits_for_one_that_failed(
    thread: int, error: type[BaseException], kernels: ModuleType, alone: str
) -> None:
    """As where memory ends, or Ctrl-C comes while the loop is compiled."""
    advance = kernels._advance

    def failing(*arguments: Any) -> Any:
        if arguments[-1] == thread:
            raise error("mine")
        return advance(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_advance", failing)
        with pytest.raises(error, match="mine"):
            crews.trained(kernels, 3)
    assert crews.trained(kernels) == alone


@pytest.mark.parametrize("last", [0, 1])
def test_a_thread_that_cannot_start(last: int, kernels: ModuleType, alone: str) -> None:
    started: list[Any] = []

    class Thread(threading.Thread):
        def start(self) -> None:
            if len(started) == last:
                raise RuntimeError("can't start new thread")
            super().start()
            started.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "Thread", Thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            crews.trained(kernels, 3)
    for thread in started:
        thread.join()
    assert crews.trained(kernels) == alone


def test_an_error_of_a_callback(kernels: ModuleType, alone: str) -> None:
    def callback(done: int, losses: np.ndarray) -> None:
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        crews.trained(kernels, callback=callback)
    assert crews.trained(kernels) == alone


def test_a_thread_that_waits_for_ever_is_seen(path: Path) -> None:
    result = play("waits", path)
    assert result.returncode != 0
    assert "Timeout" in result.stderr


# --------------------------------------------------------------------------------- other processes


@FORK
def test_a_fork_after_a_training(path: Path, alone: str) -> None:
    assert lines("forked_after", path) == [alone, "threads left: 0", *[alone] * 3]


@FORK
def test_a_fork_during_a_training(path: Path, alone: str) -> None:
    assert lines("forked_during", path) == [alone, alone, "undisturbed: True"]


@FORK
def test_a_fork_in_a_callback(path: Path, alone: str) -> None:
    assert lines("forked_in_callback", path) == [alone, alone]


@pytest.mark.skipif(sys.platform == "win32", reason="no process can send itself Ctrl-C")
def test_an_interrupt(path: Path, alone: str) -> None:
    names = ["one thread", "two threads", "backward"]
    assert lines("interrupted", path) == [*names, "threads left: 0", alone]


def test_a_training_outlives_the_main_thread(path: Path, alone: str) -> None:
    assert lines("outlives_main", path) == [alone]


@LINUX
def test_threads_on_one_processor(path: Path, alone: str) -> None:
    assert lines("one_processor", path) == [alone, "the same: True", "chosen: 1"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # from Python 3.12
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(backend: str, path: Path, alone: str) -> None:
    joblib = pytest.importorskip("joblib")
    with joblib.Parallel(2, backend=backend) as parallel:
        found = parallel(joblib.delayed(crews.in_worker)(path) for _ in range(4))
        assert found == [alone] * 4
        if backend == "loky":
            assert parallel([joblib.delayed(crews.chosen)(path)]) == [1]


@pytest.mark.parametrize("processes", [True, False])
def test_dask(processes: bool, path: Path, alone: str) -> None:
    distributed = pytest.importorskip("distributed")
    kind = {"n_workers": 2 - (not processes), "threads_per_worker": 2 - processes}
    with (
        distributed.LocalCluster(processes=processes, dashboard_address=None, **kind) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = client.gather([client.submit(crews.in_worker, path, pure=False) for _ in range(4)])
        assert found == [alone] * 4
        if processes:
            assert client.submit(crews.chosen, path).result() == 1
