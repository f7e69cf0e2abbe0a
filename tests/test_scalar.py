"""The scalar functions against mpmath, compiled and as plain Python, in both dtypes."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from functools import cache

import mpmath
import numba
import numpy as np
import pytest

from symprop import functions, scalar

DTYPES = (np.float64, np.float32)


def true_normal_cdf(z):
    if abs(z) > 1000:  # mpmath's erfc refuses huge arguments; here it is 0 or 1 in any dtype
        return mpmath.mpf(z > 0)
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


TRUTH: dict[str, tuple[Callable, float, tuple[float, ...]]] = {
    # name: the function in mpmath, the bound in ULP, further arguments
    "step": (lambda z: mpmath.mpf(z > 0), 0.5, ()),
    "sign": (mpmath.sign, 0.5, ()),
    "relu": (lambda z: max(z, mpmath.mpf(0)), 0.5, ()),
    "leaky_relu": (lambda z, slope: z if z > 0 else slope * z, 0.5, (0.25,)),
    "elu": (lambda z, alpha: z if z > 0 else alpha * mpmath.expm1(z), 3, (1.5,)),
    "sigmoid": (lambda z: 1 / (1 + mpmath.exp(-z)), 3, ()),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), 3, ()),
    "silu": (lambda z: z / (1 + mpmath.exp(-z)), 4, ()),
    "normal_cdf": (true_normal_cdf, 6, ()),
    "gelu": (lambda z: z * true_normal_cdf(z), 8, ()),
}
"""Bounds: exp, expm1, log1p and erfc of the C library are good to about 1, 1, 1 and 5 ULP
(glibc manual, "Errors in math functions"); each further operation adds half a unit."""


@cache
def namespace(dtype: type, jit: bool) -> dict:
    """Return the functions as a generated module holds them."""
    names: dict = {"math": math, "real": dtype}
    for name in scalar.SCALARS:
        exec(scalar.source(name), names)
        if jit:
            names[name] = numba.njit(error_model="numpy")(names[name])
    return names


def points(dtype: type) -> np.ndarray:
    """Return ordinary, large, tiny and subnormal points."""
    rng = np.random.default_rng(5)
    info = np.finfo(dtype)
    overflow = float(np.log(info.max))
    sizes = np.exp(rng.uniform(np.log(float(info.tiny)), 3, 60))
    edges = [0.0, 1.0, -1.0, 1e4, -1e4, float(info.max), -float(info.max), float(info.tiny)]
    subnormal = [float(info.smallest_subnormal), -8 * float(info.smallest_subnormal)]
    return np.concatenate(
        [
            rng.normal(0, 3, 100),
            rng.uniform(-1.1 * overflow, 1.1 * overflow, 60),
            rng.uniform(-39, 0, 100),
            sizes,
            -sizes,
            edges,
            subnormal,
        ]
    ).astype(dtype)


def error_in_ulp(got: float, true: mpmath.mpf, dtype: type) -> float:
    info = np.finfo(dtype)
    if math.isnan(got):
        return math.inf
    if abs(true) > float(info.max):
        return 0.0 if math.isinf(got) and (got > 0) == (true > 0) else math.inf
    exponent = mpmath.frexp(true)[1] if true else info.minexp
    ulp = mpmath.ldexp(1, max(exponent - info.nmant - 1, info.minexp - info.nmant))
    return float(abs(mpmath.mpf(float(got)) - true) / ulp)


def worst_error(function: Callable, name: str, dtype: type) -> tuple[float, float]:
    truth, _, further = TRUTH[name]
    errors = []
    with mpmath.workprec(200), warnings.catch_warnings():
        # NumPy says of its scalars that a tiny product is rounded; here it is expected
        warnings.filterwarnings("ignore", "underflow")
        for z in points(dtype):
            true = truth(mpmath.mpf(float(z)), *map(mpmath.mpf, further))
            if name == "gelu" and abs(true_normal_cdf(mpmath.mpf(float(z)))) < np.finfo(dtype).tiny:
                continue  # documented: |z| steps, see test_gelu_where_the_weight_is_subnormal
            got = function(z, *map(dtype, further))
            errors.append((error_in_ulp(dtype(got), true, dtype), float(z)))
    return max(errors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_right_over_the_whole_range(name, dtype, jit):
    error, where = worst_error(namespace(dtype, jit)[name], name, dtype)
    assert error <= TRUTH[name][1], f"{name}({where!r}): {error} ULP"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_naive_forms_would_fail(dtype):
    """Negative controls: what the stable forms are for."""
    with np.errstate(all="ignore"):
        assert worst_error(lambda z: 1 - 1 / (1 + np.exp(z)), "sigmoid", dtype)[0] > 100
        assert worst_error(lambda z: np.log(1 + np.exp(z)), "softplus", dtype)[0] > 100
    assert (
        worst_error(lambda z: math.erfc(-z * math.sqrt(0.5)) / 2, "normal_cdf", np.float64)[0] > 50
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_where_the_weight_is_subnormal(dtype):
    gelu, step = namespace(dtype, True)["gelu"], float(np.finfo(dtype).smallest_subnormal)
    first, last = (-38.6, -37.5) if dtype is np.float64 else (-14.2, -12.9)
    for z in np.linspace(first, last, 50).astype(dtype):
        with mpmath.workprec(200):
            true = mpmath.mpf(float(z)) * true_normal_cdf(mpmath.mpf(float(z)))
            assert abs(mpmath.mpf(float(gelu(z))) - true) <= abs(float(z)) * step


LIMITS = {  # at -infinity and +infinity
    "step": (0, 1), "sign": (-1, 1), "relu": (0, math.inf), "sigmoid": (0, 1),
    "softplus": (0, math.inf), "silu": (0, math.inf), "normal_cdf": (0, 1), "gelu": (0, math.inf),
    "elu": (-1.5, math.inf), "leaky_relu": (-math.inf, math.inf),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_limits_and_nan(dtype, jit):
    functions_here = namespace(dtype, jit)
    for name, limits in LIMITS.items():
        further = tuple(map(dtype, TRUTH[name][2]))
        call = functions_here[name]
        assert (call(dtype(-np.inf), *further), call(dtype(np.inf), *further)) == limits, name
        assert math.isnan(call(dtype(np.nan), *further)), name
        assert not math.isnan(call(dtype(-0.0), *further)), name


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_maximum_and_minimum(jit):
    maximum, minimum = namespace(np.float64, jit)["maximum"], namespace(np.float64, jit)["minimum"]
    assert (maximum(2.0, 3.0), maximum(3.0, 2.0), minimum(2.0, 3.0), minimum(3.0, 2.0)) == (
        3,
        3,
        2,
        2,
    )
    for pair in ((math.nan, 1.0), (1.0, math.nan)):
        assert math.isnan(maximum(*pair))
        assert math.isnan(minimum(*pair))


def machine_independent_body(function: Callable) -> str:
    """Return the LLVM text of the function itself, without Numba's wrappers for Python."""
    (text,) = function.inspect_llvm().values()
    bodies = re.findall(r"^define [^\n]*\{\n.*?^\}", text, re.MULTILINE | re.DOTALL)
    (own,) = [body for body in bodies if not re.search(r"cpython|cfunc", body.splitlines()[0])]
    return own


@pytest.mark.parametrize("name", scalar.SCALARS)
def test_float32_stays_float32(name):
    count = scalar.SCALARS[name].__code__.co_argcount
    function = namespace(np.float32, True)[name]
    function.compile((numba.float32,) * count)
    arguments = (numba.float32,) * count
    assert function.overloads[arguments].signature.return_type == numba.float32
    fresh = numba.njit(error_model="numpy")(function.py_func)
    fresh.compile(arguments)
    assert "double" not in machine_independent_body(fresh)


def test_a_bare_literal_would_be_seen():
    """Negative control of the test above."""
    widened = numba.njit(lambda z: 0.5 * z)
    widened.compile((numba.float32,))
    assert "double" in machine_independent_body(widened)


def test_requirements_come_first_and_suffice():
    for name in scalar.SCALARS:
        names: dict = {"math": math, "real": float}
        for needed in (*scalar.requires(name), name):
            exec(scalar.source(needed), names)
        count = scalar.SCALARS[name].__code__.co_argcount
        assert math.isfinite(names[name](*[-2.0] * count))
    assert scalar.requires("gelu") == ("normal_cdf",)


def test_every_function_of_symprop_has_its_scalar():
    assert {function.__name__ for function in functions.ELEMENTWISE} <= set(scalar.SCALARS)
