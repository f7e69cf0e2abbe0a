"""Whole networks on processors with wide vectors, narrow ones and none, and without machinery."""

from __future__ import annotations

import ast
import functools
import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import forced
import numpy as np
import pytest
from sympy import Sum

from symprop import Network, vectors
from symprop.derivation import Derivation, differentiate
from symprop.loader import load
from symprop.lower import lower
from symprop.options import Options
from symprop.render import render
from symprop.verification.points import draw
from symprop.verification.replay import replay, replay_long

X86 = pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="x86")


@functools.cache
def found(processor: str, what: str, *networks: str) -> list[dict[str, Any]]:
    """Return what a process finds that takes this one for another processor."""
    root = str(Path(__file__).parents[1])
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "PYTHONPATH": root}
    result = subprocess.run(
        [sys.executable, "-W", "error", forced.__file__, what, *networks],
        env={**os.environ, **environment, "SYMPROP_CACHE_DIR": "off"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (result.returncode, result.stderr) == (0, "")
    answers: list[dict[str, Any]] = json.loads(result.stdout)
    return answers


@X86
@pytest.mark.parametrize(
    ("processor", "bits", "networks"),
    [
        ("haswell", "256", ["classifier float32 lanes", "scalars float64 rows"]),
        ("generic", "128", ["attention float64 lanes", "convolution float32 lanes"]),
    ],
)
def test_kernels_are_right_on_narrower_vectors(
    processor: str, bits: str, networks: list[str]
) -> None:
    for answer in found(processor, "run", *networks):
        assert answer["wrong"] == []
        assert answer["an error is seen"]
        for function, widths in answer["widths"].items():
            assert set(widths) == {bits}, function


@X86
def test_registers_of_512_bits_are_used_whole() -> None:
    """In tiles, in the lines between them and in the update; nothing is executed."""
    (answer,) = found("skylake-avx512", "compile", "classifier float32 lanes")
    for function in ("tiles", "_gradient_block", "_update"):
        widths = answer["widths"][function]
        assert 2 * widths["512"] >= sum(widths.values()), function  # the rest: what is left over


# ---------------------------------------------------------------- where Numba is not what it was


def private() -> list[tuple[str, str]]:
    """The names that the machinery imports, if it can, from where Numba promises nothing."""
    guarded = next(node for node in ast.parse(vectors.imports()).body if isinstance(node, ast.Try))
    froms = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    names = [(str(node.module), alias.name) for node in froms for alias in node.names]
    return [place for place in names if place[0].startswith(("numba.core", "numba.np"))]


@functools.cache
def line() -> tuple[Derivation, str]:
    """The equations of a linear layer and the text of its kernels, whose products are tiles."""
    net = Network("line")
    i, k = net.index("i", 7), net.index("k", 3)
    x, t, W = net.input("x", i), net.target("t", k), net.parameter("W", i, k, init="he_normal")
    y = net.output("y", Sum(W[i, k] * x[i], i), k)
    net.loss(Sum((y[k] - t[k]) ** 2, k))
    derivation = differentiate(net)
    program = lower(derivation, "float64", layout="lanes", products="tiles")
    return derivation, render(derivation, program, Options("float64", forced.RULE))


@functools.cache
def without(module: str, name: str) -> ModuleType:
    """Return kernels that were imported when Numba had not this name."""
    text = f"{line()[1]}\n# without {name}\n"
    missing = f"cannot import name '{name}' .*: plain loops are used, far slower ones"
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(f"{module}.{name}")
        with pytest.warns(UserWarning, match=missing):
            return load(text, "line")


@pytest.mark.parametrize(("module", "name"), private())
def test_any_private_name_may_be_gone(module: str, name: str) -> None:
    kernels = without(module, name)
    assert not kernels._WRITTEN
    assert kernels._crew(7, 100).threads == 1  # threads meet in machinery
    with pytest.raises(ValueError, match="threads"):
        kernels._crew(0, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(f"{line()[1]}\n# with {name}\n", "line")._WRITTEN


def test_plain_loops_are_right() -> None:
    """A whole network without the machinery: a step in blocks, ten steps."""
    kernels, derivation = without(*private()[0]), line()[0]
    point = draw(derivation, "moderate", 2, "float64", np.random.default_rng(0))
    assert point is not None
    rows = replay(derivation, kernels, forced.RULE, *point, 10)
    rows += replay_long(derivation, kernels, forced.RULE, *point, forced.LONG)
    assert not [str(row) for row in rows if not row.ok]


def test_kernels_whose_machine_code_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are compiled in every process, and say so."""
    monkeypatch.delitem(sys.modules, "symprop.machine_code", raising=False)
    monkeypatch.delattr("numba.core.caching._Cache")
    with pytest.warns(UserWarning, match=r"_Cache.*: kernels are compiled anew in every process"):
        kernels = load("from numba import njit\nhalf = njit(lambda x: x / 2)\n", "half")
    assert kernels.half(3.0) == 1.5
