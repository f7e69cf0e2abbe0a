"""What this machine can do: its peak of multiply-adds, an exponential's cost, its bandwidth.

Figures of one core, measured beside the runs that they are compared with, each the best of a few
repetitions of some milliseconds: a bound is what can be reached at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["measure", "name"]

_CHAINS = 12
"""Independent multiply-adds in flight; two units of four cycles' latency need eight."""

_LENGTH = 4096
"""Numbers whose exponential is taken."""


def name() -> str:
    """Return the processor's name, as far as the system tells it."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            found = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        found = []
    return found[0] if found else platform.processor() or platform.machine()


def measure(dtype: str, size: int) -> dict[str, float]:
    """Return the figures of one core for numbers of `dtype`.

    ``peak`` in 10^9 floating-point operations a second, a multiply-add being two;
    ``transcendental`` in ns an exponential; ``bandwidth`` in 10^9 bytes a
    second, reading and writing `size` bytes again and again.
    """
    return {
        "peak": _peak(dtype),
        "transcendental": _exponential(dtype),
        "bandwidth": _bandwidth(dtype, size),
    }


def _best(function: Callable[[], Any], repetitions: int = 5) -> float:
    """Return the shortest time of a call in seconds; the first one, that compiles, aside."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return max(min(times), 1e-9)


def _peak(dtype: str) -> float:
    steps = 500_000
    try:
        chains, lanes = _multiply_adds(dtype)
    except Exception:  # no llvmlite that knows these instructions: what BLAS reaches
        return _blas(dtype)
    return 2 * lanes * _CHAINS * steps / _best(lambda: chains(steps)) * 1e-9


def _blas(dtype: str) -> float:
    a = np.ones((512, 512), dtype)
    return 2 * 512**3 / _best(lambda: a @ a) * 1e-9


_compiled: dict[str, tuple[Callable[[int], float], int]] = {}


def _multiply_adds(dtype: str) -> tuple[Callable[[int], float], int]:
    """Return a function that runs `_CHAINS` chains of vector multiply-adds, and their width."""
    if dtype not in _compiled:
        width = _vector_bytes() // np.dtype(dtype).itemsize
        _compiled[dtype] = _chains(dtype, width), width
    return _compiled[dtype]


def _vector_bytes() -> int:
    from llvmlite import binding

    features: Mapping[str, bool] = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx") else 16


def _chains(dtype: str, lanes: int) -> Callable[[int], float]:
    """Compile a loop of independent chains ``a = a*x + y`` on vectors that stay in registers."""
    from llvmlite import ir
    from numba import njit, types
    from numba.extending import intrinsic

    element = ir.FloatType() if dtype == "float32" else ir.DoubleType()
    vector, integer = ir.VectorType(element, lanes), ir.IntType(64)
    suffix = f"v{lanes}f{32 if dtype == 'float32' else 64}"

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # without this LLVM splits 512-bit vectors on processors that it takes for slow at them
        set.add(builder.function.attributes, '"min-legal-vector-width"="512"')
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        fma = builder.module.declare_intrinsic(
            f"llvm.fma.{suffix}", fnty=ir.FunctionType(vector, [vector] * 3)
        )
        entry = builder.block
        loop, done = (builder.append_basic_block(label) for label in ("loop", "done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(integer)
        count.add_incoming(ir.Constant(integer, 0), entry)
        values = [builder.phi(vector) for _ in range(_CHAINS)]
        following = builder.add(count, ir.Constant(integer, 1))
        count.add_incoming(following, loop)
        factor, term = (ir.Constant(vector, [number] * lanes) for number in (0.999, 0.001))
        for chain, value in enumerate(values):
            value.add_incoming(ir.Constant(vector, [1.0 + chain] * lanes), entry)
            value.add_incoming(builder.call(fma, [value, factor, term]), loop)
        results = [value.incomings[1][0] for value in values]
        builder.cbranch(builder.icmp_signed("<", following, arguments[0]), loop, done)
        builder.position_at_end(done)
        total = results[0]
        for result in results[1:]:
            total = builder.fadd(total, result)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    @intrinsic  # type: ignore[untyped-decorator]
    def chains(typing: Any, steps: Any) -> Any:
        real = types.float32 if dtype == "float32" else types.float64
        return real(types.int64), generate

    def run(steps: int) -> float:
        value: float = chains(steps)
        return value

    compiled: Callable[[int], float] = njit(f"{dtype}(int64)")(run)
    return compiled


def _exponential(dtype: str) -> float:
    """Return the time in ns of an exponential's arithmetic in a vector loop.

    Range reduction, a polynomial that is as accurate as the format (degree 6, in float64 12) and
    the product with a power of two; no library is asked, for some take one number at a time.
    """
    values = np.linspace(-4, 4, _LENGTH, dtype=dtype)
    out = np.empty_like(values)
    loop = _polynomial(dtype)
    repetitions = 50
    return _best(lambda: loop(values, out, repetitions)) / repetitions / _LENGTH * 1e9


def _polynomial(dtype: str) -> Callable[..., None]:
    """Compile the loop that `_exponential` times."""
    key = f"polynomial {dtype}"
    if key in _loops:
        return _loops[key]
    from numba import njit

    real = np.dtype(dtype).type
    magic = real(1.5 * 2.0 ** (23 if dtype == "float32" else 52))  # adding it rounds
    inverse, ln2, one = real(1.4426950408889634), real(0.6931471805599453), real(1)
    c2, c3, c4, c5, c6 = (real(1 / n) for n in (2, 6, 24, 120, 720))
    wide, more = _widest(), dtype == "float64"

    def loop(values: Any, out: Any, repetitions: int) -> None:
        wide()
        for _ in range(repetitions):
            for place in range(values.size):
                x = values[place]
                k = (x * inverse + magic) - magic
                r = x - k * ln2
                p = c6
                if more:
                    p = (((((c6 * r + c5) * r + c4) * r + c3) * r + c2) * r + c6) * r + c6
                p = (((((p * r + c5) * r + c4) * r + c3) * r + c2) * r + one) * r + one
                out[place] = p * k

    _loops[key] = njit(error_model="numpy", fastmath={"contract"})(loop)
    return _loops[key]


_loops: dict[str, Callable[..., None]] = {}
"""Compiled loops by name, for a figure is measured in every round."""


def _widest() -> Callable[[], None]:
    """Return a function that lets the loops around its call use the widest vectors."""
    from numba import types
    from numba.extending import intrinsic

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def wide(typing: Any) -> Any:
        return types.void(), generate

    found: Callable[[], None] = wide
    return found


def _bandwidth(dtype: str, size: int) -> float:
    """Return how many bytes a second are read and written in an array of `size` bytes."""
    length = max(size, 4096) // np.dtype(dtype).itemsize
    values = np.ones(length, dtype)
    scale = _scaling()
    repetitions = max(1, 4_000_000 // (length * values.itemsize))
    one = values.dtype.type(1)
    seconds = _best(lambda: scale(values, one, repetitions))
    return 2 * values.nbytes * repetitions / seconds * 1e-9


def _scaling() -> Callable[..., None]:
    """Compile the loop that multiplies an array by a number again and again."""
    if "scaling" not in _loops:
        from numba import njit

        wide = _widest()

        def scale(values: Any, factor: Any, repetitions: int) -> None:
            wide()
            for _ in range(repetitions):
                for place in range(values.size):
                    values[place] *= factor

        _loops["scaling"] = njit(error_model="numpy")(scale)
    return _loops["scaling"]
