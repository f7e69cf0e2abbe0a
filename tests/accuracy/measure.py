"""Measure the accuracy and the speed of `symprop.scalar`; to be run by hand, from the root.

    PYTHONPATH=. nice python tests/accuracy/measure.py float32 [--stride N] [NAME ...]
    PYTHONPATH=. nice python tests/accuracy/measure.py float64 [--points N] [NAME ...]
    PYTHONPATH=. nice python tests/accuracy/measure.py alone [--points N] [NAME ...]
    PYTHONPATH=. python tests/accuracy/measure.py speed [NAME ...]

float32: every one of the 2^32 numbers (with ``--stride N`` every N-th), against the C library's
functions in float64 (with glibc 2.35 or later the vector ones). Their error is below 100 ULP of
float64, so the result is off by less than 100/2^29 ULP of float32. Half a minute a function.

float64: 10^8 points, a quarter each of all bit patterns, of normal and uniform numbers as they
occur in networks and of sizes from 2^-60 to 16. The reference is the C library's `long double`
(x87, 64 bits) and for the normal law, whose argument -z/sqrt(2) would be rounded,
`_Float128`. The worst points are computed once more by mpmath. alone: the same for the forms that
some functions have for one number.

Both need gcc. Prints a row for each function: largest error in ULP, where, and for speed the
nanoseconds an element in a loop over 1024, beside those of Python's math function.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import re
import subprocess
import tempfile
import time
from pathlib import Path

import mpmath
import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from symprop.loader import load
from symprop.scalar import ALONE, imports, machinery, requires, source

ALPHA = 1.5
CHUNK = 1 << 16
CIRCULAR = ("sin", "cos", "tan")
LIMIT = 4e8  # of the circular functions

PLAIN = ("exp", "expm1", "log", "log1p", "tanh", "sinh", "cosh", "atanh", "asinh", "acosh",
         "sin", "cos", "tan", "asin", "acos", "atan")  # fmt: skip
"""Functions that the C library and mpmath have by the same name."""
_CDF = "0.5Q*erfcf128(-(_Float128)z*0.707106781186547524400844362104849039284835937688Q)"
C = {  # in double, to which the C library's vector functions are slow beyond NEAR(z)
    **{name: f"{name}(z)" for name in PLAIN},
    **{name: f"{name}(NEAR(z))" for name in ("exp", "expm1", "tanh", "sinh", "cosh")},
    **{name: f"{name}(NEAR(z))" for name in ("erf", "erfc")},
    "sigmoid": "1/(1+exp(-NEAR(z)))",
    "softplus": "(z>0?z:0)+log1p(exp(-fabs(NEAR(z))))",
    "silu": "(z<-700?-700:z)/(1+exp(-NEAR(z)))",
    "elu": f"({{double e=expm1(NEAR(z)); z>0?z:{ALPHA}*e;}})",
    "normal_cdf": "0.5*erfc(NEAR(z)*-0.70710678118654752)",
    "gelu": "(z<-100?-100:z)*(0.5*erfc(NEAR(z)*-0.70710678118654752))",
}
EXTENDED = {  # where `extended` would not find the right text
    "silu": "z<0?expl(z)*z/(1+expl(z)):z/(1+expl(-z))",
    "elu": f"z>0?z:{ALPHA}L*expm1l(z)",
    "normal_cdf": _CDF,
    "gelu": f"z<-1e3?-0.0Q:z*{_CDF}",
}
DOMAIN = {
    "log": (0, math.inf), "log1p": (-1, math.inf), "acosh": (1, math.inf), "asin": (-1, 1),
    "acos": (-1, 1), "atanh": (-1, 1),
}  # fmt: skip
"""Outside the result must be NaN."""
MATH = {
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "softplus": lambda z: math.log1p(math.exp(z)),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "elu": lambda z: z if z > 0 else ALPHA * math.expm1(z),
    "normal_cdf": lambda z: math.erfc(-z * 0.7071067811865476) / 2,
    "gelu": lambda z: z * math.erfc(-z * 0.7071067811865476) / 2,
}
TRUE = {
    **{name: getattr(mpmath, name) for name in (*PLAIN, "erf", "erfc")},
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "elu": lambda z: z if z > 0 else ALPHA * mpmath.expm1(z),
    "normal_cdf": lambda z: mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
    "gelu": lambda z: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
}


@intrinsic
def wide_vectors(typing_context):
    """Let LLVM use 512-bit vectors in the calling function, whose arrays do not overlap."""

    def generate(context, builder, signature, arguments):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        for argument in builder.function.args:
            if argument.type.is_pointer:
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


def module(dtype: str, names: tuple[str, ...]):
    """Return a module with the functions as a generated module holds them."""
    parts = dict.fromkeys(part for n in names for part in (*requires(n, dtype), n))
    text = ["import math", imports(), f"real = np.{dtype}", *(source(n, dtype) for n in parts)]
    return load("\n".join([*text, machinery(parts)]), "accuracy")


def loop(function, extra: tuple = ()):
    """Return a compiled loop ``run(x, y, repeats)`` over `function`."""

    @numba.njit(fastmath={"contract", "nsz"}, error_model="numpy")
    def run(x, y, repeats):
        wide_vectors()
        for _ in range(repeats):
            for i in range(x.size):
                y[i] = function(x[i], *extra)

    return run


def extras(name: str, dtype: str) -> tuple:
    return (np.dtype(dtype).type(ALPHA),) if name == "elu" else ()


@numba.njit(error_model="numpy")
def errors_in_float32(got, true, errors):
    """Fill in the errors in ULP; infinite where one number is NaN or infinite and the other not."""
    for i in range(got.size):
        g, t = np.float64(got[i]), true[i]
        exponent = max((np.float64(abs(t)).view(np.int64) >> 52) - 1023, -126) - 23
        error = abs(g - t) / np.int64((exponent + 1023) << 52).view(np.float64)
        beyond = np.float64(np.float32(t))
        odd = t != t or g != g or abs(g) == np.inf or abs(beyond) == np.inf
        same = (t != t and g != g) or g == beyond
        near = abs(t) > 3.402823e38 and abs(g) > 3.402823e38  # rounded to infinity or not
        errors[i] = (0.0 if same else 0.5 if near else np.inf) if odd else error


@numba.njit(error_model="numpy")
def largest_error(got, true):
    """Return the largest error in ULP; infinite or NaN where a number is."""
    largest = np.int64(0)  # numbers above 0 are ordered as their bits
    for i in range(got.size):
        exponent = (np.float64(true[i]).view(np.int64) >> np.int64(52)) & np.int64(0x7FF)
        exponent = max(exponent, np.int64(1023 - 126))
        scale = np.int64((np.int64(2046 + 23) - exponent) << np.int64(52)).view(np.float64)
        error = np.float64(abs(np.float64(got[i]) - true[i]) * scale)
        largest = max(largest, np.float64(error).view(np.int64))
    return np.int64(largest).view(np.float64)


def compiled(text: str, flags: str) -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp())
    (folder / "reference.c").write_text(text)
    command = f"gcc {flags} -shared -fPIC -o reference.so reference.c -lm"
    subprocess.run(command.split(), check=True, cwd=folder)
    return ctypes.CDLL(str(folder / "reference.so"))


def address(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def double_reference(names: tuple[str, ...]) -> ctypes.CDLL:
    """Compile a C function for each name, which computes its values in float64 as vectors."""
    lines = ["#include <math.h>", "#define NEAR(z) ((z)>700?700:(z)<-700?-700:(z))"]
    lines += [f"""
void {name}_values(const float *x, double *true, long n) {{
  #pragma omp simd
  for (long i = 0; i < n; i++) {{ double z = x[i]; true[i] = {C[name]}; }}
}}""" for name in names]  # fmt: skip
    return compiled("\n".join(lines), "-O3 -march=native -fopenmp -fno-math-errno -D__FAST_MATH__")


def measure_float32(name: str, library: ctypes.CDLL, stride: int) -> tuple[float, float]:
    """Return the largest error and where it is."""
    run = loop(getattr(module("float32", (name,)), name), extras(name, "float32"))
    size = 1 << 15  # stays in the cache
    true, errors, got = np.empty(size), np.empty(size), np.empty(size, np.float32)
    low, high = DOMAIN.get(name, (-math.inf, math.inf))
    steps, worst = np.arange(0, size * stride, stride, dtype=np.uint32), (0.0, 0.0)
    for first in range(0, 2**32, size * stride):
        x = (steps + np.uint32(first)).view(np.float32)
        if name in CIRCULAR:
            x = np.where(abs(x) < LIMIT, x, np.float32(1))
        run(x, got, 1)
        if x.max() < low or x.min() > high:
            worst = worst if np.isnan(got).all() else (math.inf, float(x[0]))
            continue
        library[f"{name}_values"](address(x), address(true), size)
        if not largest_error(got, true) <= worst[0]:
            errors_in_float32(got, true, errors)
            at = int(np.argmax(errors))
            worst = max(worst, (float(errors[at]), float(x[at])))
    return worst


def extended(name: str) -> str:
    """Return the function's text in C in more than float64's precision."""
    return EXTENDED.get(name) or re.sub(r"\b([a-z]\w+)\(", r"\1l(", C[name])


def extended_reference(names: tuple[str, ...]) -> ctypes.CDLL:
    """Compile a C function for each name, which fills in the errors in ULP."""
    lines = ["#define _GNU_SOURCE", "#include <math.h>", "#define NEAR(z) (z)"]
    for name in names:
        kind = "_Float128" if "Q" in extended(name) else "long double"
        lines.append(f"""
void {name}_errors(const double *x, const double *got, double *err, long n) {{
  for (long i = 0; i < n; i++) {{
    {kind} z = x[i], t = {extended(name)};
    long double l = t; double d = l, g = got[i];
    if (isnan(d) || isnan(g)) {{ err[i] = isnan(d) && isnan(g) ? 0 : INFINITY; continue; }}
    if (isinf(d) || isinf(g)) {{
      int near = fabsl(l) > 1.7976931348623155e308L && fabs(g) > 1.7976931348623155e308;
      err[i] = d == g ? 0 : near ? 0.5 : INFINITY; continue; }}
    int e = -2000; if (l != 0) frexpl(l, &e);
    e = e < -1021 ? -1074 : e - 53;
    err[i] = ldexpl(fabsl(t - ({kind})g), -e);
  }}
}}""")
    return compiled("\n".join(lines), "-O2 -fno-builtin")


def points(random: np.random.Generator) -> np.ndarray:
    n = CHUNK // 4
    sizes = np.exp2(random.uniform(-60, 4, n))
    return np.concatenate([
        random.integers(0, 2**64, n, dtype=np.uint64).view(np.float64),
        random.normal(0, 3, n),
        random.uniform(-40, 40, n) * np.exp2(random.integers(-12, 6, n)),
        np.where(random.random(n) < 0.5, sizes, -sizes),
    ])  # fmt: skip


def true_error(name: str, x: float, got: float) -> float:
    """Return the error in ULP by mpmath."""
    with mpmath.workprec(400):
        true = TRUE[name](mpmath.mpf(x))
        exponent = max(mpmath.frexp(true)[1] - 53, -1074)
        return float(abs(mpmath.mpf(got) - true) * mpmath.mpf(2) ** -exponent)


def measure_float64(name: str, form: str, library: ctypes.CDLL, count: int) -> tuple[float, float]:
    """Return the largest error of a form of a function and where it is."""
    run = loop(getattr(module("float64", (form,)), form), extras(name, "float64"))
    random, worst = np.random.default_rng(1), (0.0, 0.0, 0.0)
    got, errors = np.empty(CHUNK), np.empty(CHUNK)
    for _ in range(0, count, CHUNK):
        x = points(random)
        if name in CIRCULAR:
            x = np.where(abs(x) < LIMIT, x, 1.0)
        run(x, got, 1)
        library[f"{name}_errors"](*map(address, (x, got, errors)), CHUNK)
        at = int(np.argmax(errors))
        worst = max(worst, (float(errors[at]), float(x[at]), float(got[at])))
    error, x, got = worst
    return (true_error(name, x, got), x) if math.isfinite(error) else (error, x)


def nanoseconds(function, x: np.ndarray, extra: tuple) -> float:
    run, y = loop(function, extra), np.empty_like(x)
    run(x, y, 1)
    times = []
    for _ in range(25):
        start = time.perf_counter()
        run(x, y, 100)
        times.append((time.perf_counter() - start) / 100 / x.size * 1e9)
    return min(times)


def python_twin(name: str):
    """Return the function as Python's math module has it."""
    if name in MATH:
        return MATH[name]
    function = getattr(math, name)
    return lambda z: function(z)


def measure_speed(name: str) -> list[float]:
    """Return nanoseconds in float32, of math in float32, in float64, of math in float64."""
    random, found = np.random.default_rng(0), []
    x = random.uniform(*((0.1, 0.9) if name in ("asin", "acos", "atanh") else (1.1, 5)), 1024)
    if name not in ("asin", "acos", "atanh", "log", "acosh"):
        x = random.normal(0, 2, 1024)
    for dtype in ("float32", "float64"):
        function = getattr(module(dtype, (name,)), name)
        found.append(nanoseconds(function, x.astype(dtype), extras(name, dtype)))
        twin = numba.njit(error_model="numpy")(python_twin(name))
        found.append(nanoseconds(twin, x.astype(dtype), ()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("what", choices=["float32", "float64", "alone", "speed"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--points", type=int, default=10**8)
    options = parser.parse_intermixed_args()
    forms = ALONE["float64"] if options.what == "alone" else {name: name for name in C}
    names = tuple(options.names or forms)
    references = {
        "float32": double_reference, "float64": extended_reference, "alone": extended_reference,
    }  # fmt: skip
    library = references[options.what](names) if options.what in references else None
    for name in names:
        if library is None:
            print(f"| {name} |", *(f"{t:.2f} |" for t in measure_speed(name)), flush=True)
            continue
        if options.what == "float32":
            error, x = measure_float32(name, library, options.stride)
        else:
            error, x = measure_float64(name, forms[name], library, options.points)
        print(f"| {name} | {error:.2f} | {x!r} |", flush=True)


if __name__ == "__main__":
    main()
