"""The scalar functions against mpmath, compiled and as plain Python, in both dtypes."""

from __future__ import annotations

import inspect
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
from compiled import own_bodies

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

BOUND = 2
"""The largest error in ULP; measured on far more points, see tests/accuracy."""

CIRCULAR = {"sin", "cos", "tan"}
"""What is computed in float64 for float32."""


@cache
def module(dtype: type, jit: bool) -> ModuleType:
    """Return the functions as a generated module holds them."""
    name = np.dtype(dtype).name
    parts = scalar.functions(name)
    text = ["import math", scalar.imports(), f"real = np.{name}"]
    text += [scalar.source(part, name) for part in parts]
    return load("\n".join([*text, scalar.machinery(parts)]), "scalars", jit=jit)


def arity(name: str) -> int:
    return len(inspect.signature(scalar.functions("float64")[name]).parameters)


@cache
def function(name: str, dtype: type, jit: bool = True) -> Callable:
    """Return a function that is called from compiled code, or as plain Python."""
    called = getattr(module(dtype, jit), name)
    if not jit:
        return called
    one, two = (lambda a: called(a)), (lambda a, b: called(a, b))
    return numba.njit(error_model="numpy")(two if arity(name) == 2 else one)


def points(dtype: type) -> np.ndarray:
    """Return ordinary, large, tiny and subnormal points."""
    rng = np.random.default_rng(5)
    info = np.finfo(dtype)
    overflow = float(np.log(info.max))
    sizes = np.exp(rng.uniform(np.log(float(info.tiny)), 3, 40))
    large = np.exp(rng.uniform(3, overflow, 30))
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
        large,
        -large,
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
    error, where = worst_error(function(name, dtype, jit), name, dtype)
    assert error <= BOUND, f"{name}({where!r}): {error} ULP"


@pytest.mark.parametrize("name", scalar.ALONE["float64"])
@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_the_forms_for_one_number_are_right_too(name, jit):
    call = function(scalar.ALONE["float64"][name], np.float64, jit)
    error, where = worst_error(call, name, np.float64)
    assert error <= BOUND, f"{name}({where!r}): {error} ULP"
    truth, _ = TRUTH[name]
    with np.errstate(all="ignore"), mpmath.workprec(200):
        for z in (-746.1, -745.9, -710.1, 619.9, 620.1, 709.7, 746.1):  # about their limits
            assert error_in_ulp(call(z), truth(mpmath.mpf(z)), np.float64) <= BOUND, z
        assert (call(-np.inf), call(np.inf)) == LIMITS[name]
        assert math.isnan(call(np.nan))


def test_what_they_look_up():
    with mpmath.workprec(200):
        for j in range(256):
            exact = mpmath.mpf(2) ** (mpmath.mpf(j) / 256)
            nearest, rest = scalar.functions("float64")["_power"](j)
            assert nearest == float(exact)
            assert abs(nearest * (1 + mpmath.mpf(rest)) - exact) < 2.0**-104


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
            call = function(name, dtype, jit)
            if name in LIMITS:
                ends = call(dtype(-np.inf), *further), call(dtype(np.inf), *further)
                assert ends == LIMITS[name], name
            assert math.isnan(call(dtype(np.nan), *further)), name
            if name in ODD:
                for zero in (0.0, -0.0):
                    got = call(dtype(zero), *further)
                    assert (got, math.copysign(1, got)) == (0, math.copysign(1, zero)), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_at_the_ends_of_the_domain(dtype, jit):
    def value(name: str, z: float) -> float:
        return function(name, dtype, jit)(dtype(z))

    outside = {"log": -1, "log1p": -1.5, "asin": 1.5, "acos": -2, "acosh": 0.5, "atanh": 2}
    outside |= dict.fromkeys(CIRCULAR, np.inf)
    with np.errstate(all="ignore"):
        assert all(math.isnan(value(name, z)) for name, z in outside.items())
        assert math.isnan(value("acosh", -1e30))
        assert all(math.isnan(value(name, 5e8)) for name in CIRCULAR)  # too large to be reduced
        assert value("log", 0) == value("log1p", -1) == -math.inf
        assert value("log", np.inf) == value("log1p", np.inf) == math.inf
        assert value("atanh", 1) == value("acosh", np.inf) == math.inf
        assert value("atan", np.inf) == dtype(math.pi / 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("jit", [True, False], ids=["compiled", "plain"])
def test_maximum_and_minimum(dtype, jit):
    maximum, minimum = (function(name, dtype, jit) for name in ("maximum", "minimum"))
    assert (maximum(2.0, 3.0), maximum(3.0, 2.0)) == (3, 3)
    assert (minimum(2.0, 3.0), minimum(3.0, 2.0)) == (2, 2)
    for pair in ((math.nan, 1.0), (1.0, math.nan)):
        assert math.isnan(maximum(*pair))
        assert math.isnan(minimum(*pair))


def loop(called: Callable, further: tuple, flags: set[str] | bool) -> Callable:
    """Return a compiled loop over one array, as kernels have it."""

    @numba.njit(error_model="numpy", fastmath=flags)
    def run(x, y):
        for i in range(x.size):
            y[i] = called(x[i], *further)

    return run


def own_body(compiled: Callable) -> str:
    """Return the LLVM text of a function with one signature."""
    (own,) = own_bodies(compiled)
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
    further = (dtype(0.5),) * (arity(name) - 1)
    assert vectorised(loop(getattr(module(dtype, True), name), further, flags), dtype)


@x86
def test_a_loop_over_the_c_library_is_not():
    """Negative control of the test above."""
    assert not vectorised(loop(numba.njit(lambda z: math.tanh(z)), (), True), np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "tanh", "log", "sin", "sigmoid", "gelu", "expm1"])
def test_the_flags_of_the_caller_do_not_reach_it(name, dtype):
    """Where additions may be reordered, rounding by adding a large number would be removed."""
    flags = {"contract", "nsz", "arcp", "reassoc", "afn"}
    run = loop(getattr(module(dtype, True), name), (), flags)

    def one(z):
        x = np.full(40, z)
        run(x, y := np.empty_like(x))
        assert len({v for v in y.tolist() if v == v}) <= 2  # vector and remainder
        return y[0]

    assert worst_error(one, name, dtype)[0] <= BOUND


@pytest.mark.parametrize("name", sorted(set(scalar.SCALARS) - CIRCULAR))
def test_float32_stays_float32(name):
    compiled = function(name, np.float32)
    compiled(*[np.float32(1)] * arity(name))
    assert "double" not in own_body(compiled)


@pytest.mark.parametrize("name", scalar.SCALARS)
def test_takes_and_returns_numbers_of_its_type(name):
    for dtype, kind in ((np.float32, numba.float32), (np.float64, numba.float64)):
        compiled = function(name, dtype)
        for argument in (np.float32(1), np.float64(1), np.int64(1)):
            compiled(*[argument] * arity(name))
        assert len(compiled.overloads) == 3
        assert {o.signature.return_type for o in compiled.overloads.values()} == {kind}


def test_a_jump_is_refused():
    """Else the first branch would be taken always."""
    text = ["import math", scalar.imports(), "real = np.float64"]
    text += ["def jumping(z):", "    return -z if z < real(0.0) else z"]
    text += [scalar.machinery(["jumping"])]
    jumping = load("\n".join(text), "jumping").jumping
    assert jumping(-1.0) == 1
    with pytest.raises(TypeError, match=r"known once the code runs; _where\(condition, a, b\)"):
        numba.njit(lambda z: jumping(z))(-1.0)


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
        z = -0.5 if name == "atanh" else 1.0
        assert math.isfinite(names[name](*[z] * arity(name)))
    assert "_scaled_exp" in scalar.requires("exp", dtype)


def test_no_name_of_a_user_collides():
    assert set(scalar.SCALARS) <= RESERVED
    for dtype in ("float32", "float64"):
        assert all(n in scalar.SCALARS or n.startswith("_") for n in scalar.functions(dtype))


def test_both_dtypes_have_every_function_of_symprop():
    for dtype in ("float32", "float64"):
        assert set(scalar.SCALARS) <= set(scalar.functions(dtype))
    assert {function.__name__ for function in functions.ELEMENTWISE} <= set(scalar.SCALARS)
