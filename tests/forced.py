"""Whole networks on the processor that NUMBA_CPU_NAME names; a script for a process of its own.

It prints as JSON what it found of the kernels of each network: whether they are right, and in how
wide vectors they multiply. `compile` instead of `run` executes nothing of them, so it
can be done for a processor that this one is not.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import zoo
from numba import from_dtype, types

from symprop.derivation import Derivation, differentiate
from symprop.loader import load
from symprop.lower import lower
from symprop.optimizers import find
from symprop.options import Options
from symprop.render import render
from symprop.verification.comparison import merge
from symprop.verification.points import draw
from symprop.verification.replay import replay, replay_long

RULE = find("adam")
"""Its first moment after one step is a tenth of the gradient: compared, too."""

LONG = 69
"""Samples that are more than a block, and no whole number of registers."""

Widths = dict[str, dict[int, int]]


def made(name: str, dtype: Any, layout: Any) -> tuple[Derivation, ModuleType]:
    """Return a network's equations and kernels."""
    derivation = differentiate(zoo.ZOO[name]())
    products = "tiles" if layout == "lanes" else "model"
    program = lower(derivation, dtype, layout=layout, products=products)
    return derivation, load(render(derivation, program, Options(dtype, RULE)), name)


def run(name: str, dtype: str, layout: str) -> dict[str, Any]:
    """Compare ten steps of training, and a long one, with the mathematics."""
    derivation, kernels = made(name, dtype, layout)
    found = draw(derivation, "moderate", 2, dtype, np.random.default_rng(0))
    assert found is not None
    rows = replay(derivation, kernels, RULE, *found, 10)
    rows += replay_long(derivation, kernels, RULE, *found, LONG)

    def inexact(state: Any, *data: Any, **settings: Any) -> Any:
        after, losses = kernels.resume(state, *data, **settings)
        factor = after.moments.dtype.type(1 + 1000 * np.finfo(dtype).eps)
        return after._replace(moments=after.moments * factor), losses

    others = SimpleNamespace(**vars(kernels) | {"resume": inexact})
    wrong = replay(derivation, others, RULE, *found, 1)
    return {
        "wrong": [str(row) for row in merge(rows) if not row.ok],
        "an error is seen": not all(row.ok for row in wrong),
        "widths": widths(kernels),
    }


def only_compile(name: str, dtype: str, layout: str) -> dict[str, Any]:
    """Compile the gradient of a block, and the update."""
    derivation, kernels = made(name, dtype, layout)
    network, real = derivation.network, from_dtype(np.dtype(dtype))
    tensors = (*network.parameters, *network.inputs, *network.targets)
    axes = {tensor.name: len(tensor.shape) for tensor in network.parameters}
    axes |= {tensor.name: 1 + len(tensor.shape) for tensor in tensors[len(axes) :]}
    axes |= dict.fromkeys(["gradient", "workspace", "theta", *RULE.slots], 1)
    numbers = {"iteration": types.int64, "n": types.int64, "scale": real}
    for function in (kernels._gradient_block, kernels._update):
        function.compile(
            tuple(
                types.Array(real, axes[argument], "C")
                if argument in axes
                else numbers.get(argument, types.float64)
                for argument in inspect.signature(function.py_func).parameters
            )
        )
    return {"widths": widths(kernels)}


def widths(kernels: ModuleType) -> Widths:
    """Count the bits of vectors in the multiplications of the kernels' functions: the tiles, the
    rest of a block's gradient, and the update.
    """
    found: dict[str, Counter[int]] = {}
    for name in ("_gradient_block", "_update"):
        function = name
        for assembly in getattr(kernels, name).inspect_asm().values():
            for line in assembly.splitlines():
                label = re.match(r'"?(\w+)[^:]*:$', line)
                if label:
                    tile = label[1] == "contraction"
                    function = "tiles" if tile else name
                vector = re.match(r"\s+v?(?:mul|fmadd\d+)p[sd]\s.*%([xyz])mm\d+$", line)
                if vector:
                    found.setdefault(function, Counter())[128 << "xyz".index(vector[1])] += 1
    return {function: dict(counts) for function, counts in found.items()}


if __name__ == "__main__":
    work = {"run": run, "compile": only_compile}[sys.argv[1]]
    print(json.dumps([work(*networks.split()) for networks in sys.argv[2:]]))
