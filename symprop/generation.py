"""Write verified kernels: nothing that has not passed is written."""

from __future__ import annotations

from pathlib import Path

from symprop.compiler import compile, place, write
from symprop.network import Network
from symprop.optimizers import Optimizer
from symprop.verification import check

__all__ = ["generate"]


def generate(
    network: Network,
    folder: str | Path,
    *,
    dtype: str = "float64",
    optimizer: str | Optimizer | None = None,
    force: bool = False,
    verify: bool = True,
) -> Path:
    """Derive, compile and verify the kernels of `network` and write ``folder/NAME.py``.

    Returns the path. Raises `VerificationError` where a kernel is wrong, and `OutputError`
    where a file that symprop did not generate stands in the way, unless `force`.
    """
    place(network, folder, force=force)
    kernels = compile(network, dtype=dtype, optimizer=optimizer)
    if verify:
        check(kernels)
    return write(kernels, folder, force=force)
