"""The processes of the contestants, as the one who tells them what to do sees them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import symprop

__all__ = ["Process", "ProcessError"]


class ProcessError(Exception):
    """A contestant failed; the message is the reason in one line."""


class Process:
    """A running contestant; to be closed."""

    def __init__(self, folder: Path, name: str, threads: int) -> None:
        self.name = name
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as this
        self._process = subprocess.Popen(
            [sys.executable, "-m", "symprop.bench.worker", str(folder), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._messages, text=True,
            encoding="utf-8", env=_environment(folder, threads),
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, do: str, timeout: float = 600, **arguments: Any) -> dict[str, Any]:
        """Send a command and return the answer; raise `ProcessError` where it fails."""
        try:
            self._stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._stdin.flush()
            line = self._lines.get(timeout=timeout)
        except (OSError, ValueError):
            line = ""
        except queue.Empty:
            raise ProcessError(f"no answer to {do!r} within {timeout:.0f} s") from None
        if not line:
            raise ProcessError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ProcessError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._messages.close()

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def _read(self) -> None:
        """Pass the answers on, so that waiting for one can end; "" after the last."""
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")
        if self._process.stdout:
            self._process.stdout.close()

    def _last_words(self) -> str:
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        return f"its process ended: {lines[-1][:200]}" if lines else "its process ended"


def _environment(folder: Path, threads: int) -> dict[str, str]:
    """Return the environment in which every library uses so many threads and no old cache."""
    names = (
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS",
    )  # fmt: skip
    found = {**os.environ, **dict.fromkeys(names, str(threads))}
    found |= {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    found |= {"TORCHINDUCTOR_CACHE_DIR": str(folder / "torch")}
    found |= {"SYMPROP_CACHE_DIR": str(folder / "symprop")}
    if threads == 1:
        own = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        found["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {own}".strip()
    package = str(Path(symprop.__file__).parents[1])
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return found
