"""The scalar functions against mpmath, compiled and as plain Python, in both dtypes."""

from __future__ import annotations

import math
import platform
import re
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType

import mpmath
import numba
import numpy as np
import pytest

from symprop import functions, scalar
from symprop.loader import load
from symprop.network import RESERVED

DTYPES = (np.float64, np.float32)


def true_normal_cdf(z):
    if abs(z) > 1000:  # mpmath's erfc refuses huge arguments; here it is 0 or 1 in any dtype
        return mpmath.mpf(z > 0)
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def true_erfc(z):
    return mpmath.mpf(2 * (z < 0)) if abs(z) > 1000 else mpmath.erfc(z)


TRUTH: dict[str, tuple[Callable, tuple[float, ...]]] = {
    # name: the function in mpmath, further arguments
    "step": (lambda z: mpmath.mpf(z > 0), ()),
    "sign": (mpmath.sign, ()),
    "relu": (lambda z: max(z, mpmath.mpf(0)), ()),
    "leaky_relu": (lambda z, slope: z if z > 0 else slope * z, (0.25,)),
    "elu": (lambda z, alpha: z if z > 0 else alpha * mpmath.expm1(z), (1.5,)),
    "sigmoid": (lambda z: 1 / (1 + mpmath.exp(-z)), ()),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), ()),
    "silu": (lambda z: z / (1 + mpmath.exp(-z)), ()),
    "normal_cdf": (true_normal_cdf, ()),
    "gelu": (lambda z: z * true_normal_cdf(z), ()),
    "erf": (lambda z: 1 - true_erfc(z) if abs(z) > 1000 else mpmath.erf(z), ()),
    "erfc": (true_erfc, ()),
    **{
        name: (getattr(mpmath, name), ())
        for name in (
            "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan",
            "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
        )
    },
}  # fmt: skip

BOUNDS = {
    np.float32: {"acosh": 2.1},
    np.float64: {"acosh": 2.1, "erfc": 2.2, "gelu": 2.6},
}
"""Errors in ULP, where they exceed 2; as measured on far more points, see tests/accuracy."""

CIRCULAR = {"sin", "cos", "tan"}
WIDE = CIRCULAR | {"erfc", "normal_cdf", "gelu"}
"""What is computed in float64 for float32."""


@cache
def module(dtype: type, jit: bool) -> ModuleType:
    """Return the functions as a generated module holds them."""
    name = np.dtype(dtype).name
    text = [
        "import math\nimport numpy as np\nfrom numba import njit", f"real = np.{name}",
        'options = {"error_model": "numpy", "forceinline": True}',
        '_scalar = njit(fastmath={"contract", "nsz"}, **options)',
    ]  # fmt: skip
    for part in dict.fromkeys(p for n in scalar.SCALARS for p in (*scalar.requires(n, name), n)):
        text += ["@_scalar", scalar.source(part, name)]
    return load("\n".join(text), "scalars", jit=jit)


def points(dtype: type) -> np.ndarray:
    """Return ordinary, large, tiny and subnormal points."""
    rng = np.random.default_rng(5)
    info = np.finfo(dtype)
    overflow = float(np.log(info.max))
    sizes = np.exp(rng.uniform(np.log(float(info.tiny)), 3, 40))
    edges = [0.0, 0.5, 0.55, 0.6, 0.85, 1.0, 2.0, 10.0, 20.0, 40.0, 80.0, 1e4]
    edges += [float(info.max), float(info.tiny)]
    subnormal = [float(info.smallest_subnormal), 8 * float(info.smallest_subnormal)]
    parts = [
        rng.normal(0, 3, 60),
        rng.uniform(-1.1 * overflow, 1.1 * overflow, 40),
        rng.uniform(-39, 0, 60),
        rng.uniform(-1, 1, 40),
        sizes,
        -sizes,
        edges,
        subnormal,
    ]
    found = np.concatenate([*parts, np.negative(edges), np.negative(subnormal)])
    return found.astype(dtype)


def error_in_ulp(got: float, true: mpmath.mpf, dtype: type) -> float:
    info = np.finfo(dtype)
    if isinstance(true, mpmath.mpc) or mpmath.isnan(true):
        return 0.0 if math.isnan(got) else math.inf
    if math.isnan(got):
        return math.inf
    if abs(true) > float(info.max):
        return 0.0 if math.isinf(got) and (got > 0) == (true > 0) else math.inf
    exponent = mpmath.frexp(true)[1] if true else info.minexp
    ulp = mpmath.ldexp(1, max(exponent - info.nmant - 1, info.minexp - info.nmant))
    return float(abs(mpmath.mpf(float(got)) - true) / ulp)


@cache
def true_values(name: str, dtype: type) -> list:
    truth, further = TRUTH[name]
    with mpmath.workprec(200):
        return [
            (z, truth(mpmath.mpf(float(z)), *map(mpmath.mpf, further)))
            for z in points(dtype)
            if not (name in CIRCULAR and abs(z) > 4e8)
        ]


def worst_error(function: Callable, name: str, dtype: type) -> tuple[float, float]:
    errors = []
    with mpmath.workprec(200), warnings.catch_warnings():
        # NumPy says of its scalars that a result is rounded or infinite; here it is expected
        warnings.simplefilter("ignore", RuntimeWarning)
        for z, true in true_values(name, dtype):
            got = function(z, *map(dtype, TRUTH[name][1]))
            errors.append((error_in_ulp(dtype(got), true, dtype), float(z)))
    return max(errors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_right_over_the_whole_range(name, dtype, jit):
    error, where = worst_error(getattr(module(dtype, jit), name), name, dtype)
    assert error <= BOUNDS[dtype].get(name, 2), f"{name}({where!r}): {error} ULP"


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_naive_forms_would_fail(dtype):
    """Negative controls: what the stable forms are for."""
    with np.errstate(all="ignore"):
        assert worst_error(lambda z: 1 - 1 / (1 + np.exp(z)), "sigmoid", dtype)[0] > 100
        assert worst_error(lambda z: np.log(1 + np.exp(z)), "softplus", dtype)[0] > 100
        assert worst_error(lambda z: 1 - 2 / (np.exp(2 * z) + 1), "tanh", dtype)[0] > 100
    naive = worst_error(lambda z: math.erfc(-z * math.sqrt(0.5)) / 2, "normal_cdf", np.float64)
    assert naive[0] > 50


LIMITS = {  # at -infinity and +infinity
    "step": (0, 1), "sign": (-1, 1), "relu": (0, math.inf), "sigmoid": (0, 1),
    "softplus": (0, math.inf), "silu": (0, math.inf), "normal_cdf": (0, 1), "gelu": (0, math.inf),
    "elu": (-1.5, math.inf), "leaky_relu": (-math.inf, math.inf), "erf": (-1, 1), "erfc": (2, 0),
    "exp": (0, math.inf), "expm1": (-1, math.inf), "tanh": (-1, 1), "sinh": (-math.inf, math.inf),
    "cosh": (math.inf, math.inf), "asinh": (-math.inf, math.inf),
}  # fmt: skip
ODD = ["expm1", "log1p", "tanh", "sinh", "sin", "tan", "asin", "atan", "asinh", "atanh", "erf",
       "elu", "silu", "gelu", "leaky_relu"]  # fmt: skip
"""Functions that are 0 at 0 and rise."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_limits_and_nan(dtype, jit):
    with np.errstate(all="ignore"):
        for name in TRUTH:
            further = tuple(map(dtype, TRUTH[name][1]))
            call = getattr(module(dtype, jit), name)
            if name in LIMITS:
                ends = call(dtype(-np.inf), *further), call(dtype(np.inf), *further)
                assert ends == LIMITS[name], name
            assert math.isnan(call(dtype(np.nan), *further)), name
            if name in ODD:
                for zero in (0.0, -0.0):
                    got = call(dtype(zero), *further)
                    assert (got, math.copysign(1, got)) == (0, math.copysign(1, zero)), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_the_ends_of_the_domain(dtype):
    here = module(dtype, True)
    nan = [
        here.log(dtype(-1)), here.log1p(dtype(-1.5)), here.asin(dtype(1.5)), here.acos(dtype(-2)),
        here.acosh(dtype(0.5)), here.acosh(dtype(-1e30)), here.atanh(dtype(2)),
        *(getattr(here, name)(dtype(np.inf)) for name in CIRCULAR),
        *(getattr(here, name)(dtype(5e8)) for name in CIRCULAR),  # too large for the reduction
    ]  # fmt: skip
    assert all(map(math.isnan, nan))
    assert here.log(dtype(0)) == here.log1p(dtype(-1)) == -math.inf
    assert here.log(dtype(np.inf)) == here.log1p(dtype(np.inf)) == math.inf
    assert here.atanh(dtype(1)) == here.acosh(dtype(np.inf)) == math.inf
    assert here.atan(dtype(np.inf)) == dtype(math.pi / 2)


@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_maximum_and_minimum(jit):
    maximum, minimum = module(np.float64, jit).maximum, module(np.float64, jit).minimum
    assert (maximum(2.0, 3.0), maximum(3.0, 2.0)) == (3, 3)
    assert (minimum(2.0, 3.0), minimum(3.0, 2.0)) == (2, 2)
    for pair in ((math.nan, 1.0), (1.0, math.nan)):
        assert math.isnan(maximum(*pair))
        assert math.isnan(minimum(*pair))


def loop(function: Callable, dtype: type, flags: set[str] | bool) -> Callable:
    """Return a compiled loop over one array, as kernels have it."""
    further = tuple(
        map(dtype, (0.5,) * (function.py_func.__code__.co_argcount - 1))
    )  # the same for all

    @numba.njit(error_model="numpy", fastmath=flags)
    def run(x, y):
        for i in range(x.size):
            y[i] = function(x[i], *further)

    return run


def own_body(function: Callable) -> str:
    """Return the LLVM text of the function itself, without Numba's wrappers for Python."""
    (text,) = function.inspect_llvm().values()
    bodies = re.findall(r"^define [^\n]*\{\n.*?^\}", text, re.MULTILINE | re.DOTALL)
    (own,) = [body for body in bodies if not re.search(r"cpython|cfunc|NRT_", body.splitlines()[0])]
    return own


def vectorised(run: Callable, dtype: type) -> bool:
    run(np.ones(4, dtype), np.ones(4, dtype))
    body = own_body(run)
    called = set(re.findall(r"call [^@\n]*@([\w.\"$]+)", body))
    kind = "float" if dtype is np.float32 else "double"
    packed = re.search(rf"<\d+ x {kind}>", body)
    allowed = {"sqrt", "sqrtf"}  # an instruction too
    return bool(packed) and all(name.startswith("llvm.") for name in called - allowed)


x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="what LLVM vectorises elsewhere differs"
)


@x86
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", scalar.SCALARS)
def test_a_loop_is_vectorised(name, dtype):
    flags = {"contract", "nsz", "arcp", "reassoc"}
    assert vectorised(loop(getattr(module(dtype, True), name), dtype, flags), dtype)


@x86
def test_a_loop_over_the_c_library_is_not():
    """Negative control of the test above."""
    assert not vectorised(loop(numba.njit(lambda z: math.tanh(z)), np.float64, True), np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "tanh", "log", "sin", "sigmoid", "gelu", "expm1"])
def test_the_flags_of_the_caller_do_not_reach_it(name, dtype):
    """Where additions may be reordered, rounding by adding a large number would be removed."""
    run = loop(
        getattr(module(dtype, True), name), dtype, {"contract", "nsz", "arcp", "reassoc", "afn"}
    )

    def one(z):
        x = np.full(40, z)
        run(x, y := np.empty_like(x))
        assert len({v for v in y.tolist() if v == v}) <= 2  # vector and remainder
        return y[0]

    assert worst_error(one, name, dtype)[0] <= BOUNDS[dtype].get(name, 2)


@pytest.mark.parametrize("name", sorted(set(scalar.SCALARS) - WIDE))
def test_float32_stays_float32(name):
    function = getattr(module(np.float32, True), name)
    arguments = (numba.float32,) * function.py_func.__code__.co_argcount
    fresh = numba.njit(error_model="numpy")(function.py_func)
    fresh.compile(arguments)
    assert fresh.overloads[arguments].signature.return_type == numba.float32
    assert "double" not in own_body(fresh)


@pytest.mark.parametrize("name", sorted(WIDE))
def test_what_is_computed_in_float64_returns_float32(name):
    function = getattr(module(np.float32, True), name)
    function(np.float32(1))
    assert {o.signature.return_type for o in function.overloads.values()} == {numba.float32}


def test_a_bare_literal_would_be_seen():
    """Negative control of the test above."""
    widened = numba.njit(lambda z: 0.5 * z)
    widened.compile((numba.float32,))
    assert "double" in own_body(widened)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_requirements_come_first_and_suffice(dtype):
    for name in scalar.SCALARS:
        names: dict = {"math": math, "np": np, "real": np.dtype(dtype).type}
        for needed in (*scalar.requires(name, dtype), name):
            exec(scalar.source(needed, dtype), names)
        count = scalar.functions(dtype)[name].__code__.co_argcount
        assert math.isfinite(names[name](*[-0.5 if name == "atanh" else 1.0] * count))
    assert "_scaled_exp" in scalar.requires("exp", dtype)


def test_no_name_of_a_user_collides():
    assert set(scalar.SCALARS) <= RESERVED
    for dtype in ("float32", "float64"):
        assert all(n in scalar.SCALARS or n.startswith("_") for n in scalar.functions(dtype))


def test_both_dtypes_have_every_function_of_symprop():
    for dtype in ("float32", "float64"):
        assert set(scalar.SCALARS) <= set(scalar.functions(dtype))
    assert {function.__name__ for function in functions.ELEMENTWISE} <= set(scalar.SCALARS)
