"""The committed kernels are those that symprop generates today, and need no symprop."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import symprop
from symprop import examples
from symprop.compiler import source_text
from symprop.optimizers import find
from symprop.options import Options

ROOT = Path(__file__).parents[1]


def generated(name: str) -> str:
    network = examples.load_example(name)
    options = Options("float64", find(network.training.optimizer))
    return source_text(symprop.differentiate(network), options)


@pytest.mark.parametrize("name", examples.names())
def test_committed_kernels_are_reproduced_byte_for_byte(name: str) -> None:
    committed = (ROOT / "generated" / f"{name}.py").read_bytes().decode()
    now = generated(name)
    difference = "".join(
        difflib.unified_diff(
            committed.splitlines(True), now.splitlines(True), "committed", "generated now", n=1
        )
    )
    assert committed == now, f"\n{difference}\nif this is right: symprop generate {name}"


def test_nothing_else_is_committed() -> None:
    files = {path.name for path in (ROOT / "generated").glob("*.py")}
    assert files == {f"{name}.py" for name in examples.names()}


def test_kernels_run_without_symprop() -> None:
    code = (
        "import sys; sys.modules['symprop'] = None\n"
        "import numpy as np\n"
        "from generated.kumar import backward, forward, initialize, train\n"
        "x1, x2, t1, t2 = (np.array([v]) for v in (0.05, 0.1, 0.01, 0.99))\n"
        "loss, gradients = backward(initialize(), x1, x2, t1, t2)\n"
        "parameters, losses = train(initialize(), x1, x2, t1, t2, epochs=1)\n"
        "assert losses[0] == loss\n"
        "print(f'{parameters.w5:.9f}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert done.stdout.strip() == "0.358916480"
