"""What Python code calls: quick for arguments of a known type, careful with all others.

The first call of a function checks and converts its arguments one by one; later ones hand them to
compiled code, which makes the same checks. Here both ways, and plain Python, are compared.
"""

from __future__ import annotations

import functools
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys
from sympy import Sum
from test_compiler import data, fresh, kernels, perturbed, plain

from symprop import Network
from symprop.compiler import compile
from symprop.loader import load

FUNCTIONS = ("forward", "loss", "backward")
WAYS = ("first", "known", "plain")


def called(name: str, dtype: str, way: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module that takes one way: as if nothing was called, everything, or uncompiled."""
    if way == "plain":
        return plain(name, dtype)
    module = fresh(name, dtype).module
    if way == "first":
        monkeypatch.setattr(module, "_known", {})
    else:
        for function in FUNCTIONS:
            getattr(module, function)(*arguments(name, dtype, function))
    return module


def arguments(name: str, dtype: str, function: str, samples: int = 5) -> list[Any]:
    """Return parameters and as many arrays as a function takes."""
    network = kernels(name, dtype).derivation.network
    arrays = data(network, samples, dtype)
    count = len(network.inputs) if function == "forward" else len(arrays)
    return [perturbed(kernels(name, dtype).module), *arrays[:count]]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the careful checks of all modules that are used here."""
    found: list[str] = []
    for name, dtype in (("digits", "float64"), ("digits", "float32"), ("kumar", "float64")):
        module = fresh(name, dtype).module
        for check in ("_weights", "_checked"):
            original = getattr(module, check)

            def counted(*given: Any, original: Any = original, check: str = check, **more: Any):
                found.append(check)
                return original(*given, **more)

            monkeypatch.setattr(module, check, counted)
    return found


def flat(result: Any) -> list[np.ndarray]:
    """Return all arrays and numbers of a result."""
    if isinstance(result, tuple):
        return [array for part in result for array in flat(part)]
    return [np.asarray(result)]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(flat(one), flat(other), strict=True))


# ------------------------------------------------------------------------------------ quick calls


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("name", "dtype"), [("digits", "float64"), ("digits", "float32"), ("kumar", "float64")]
)
def test_only_the_first_call_is_checked_in_python(
    name: str, dtype: str, function: str, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = called(name, dtype, "first", monkeypatch)
    run = getattr(module, function)
    parameters, *arrays = arguments(name, dtype, function)
    found = run(parameters, *arrays)
    assert sorted(checks) == ["_checked", "_weights"]
    checks.clear()
    assert same(found, run(parameters, *arrays))
    assert same(found, run(tuple(parameters), *arrays))
    assert same(found, run(list(parameters), *arrays))
    many = arguments(name, dtype, function, 3 * module._BLOCK + 1)
    run(*many)
    assert not checks


def test_a_type_is_learned_once_and_wrong_ones_never(monkeypatch: pytest.MonkeyPatch) -> None:
    module = called("digits", "float64", "known", monkeypatch)
    parameters, x = arguments("digits", "float64", "forward")
    kept = x.copy()
    kept.flags.writeable = False
    module.forward(parameters, kept)
    before = len(module._forward_blocks.overloads)
    wrong: list[Any] = [x.astype("f4"), x.astype(int), x[0], x.astype(complex), None, "x", {}]
    for value in wrong:
        with pytest.raises((TypeError, ValueError)):
            module.forward(parameters, value)
    for value in (x.tolist(), np.asfortranarray(x), np.repeat(x, 2, 0)[::2], kept):
        module.forward(parameters, value)
    assert len(module._forward_blocks.overloads) == before
    assert len(module._known["forward"].overloads) == before


def test_threads_that_call_first_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(kernels("kumar").source + "# called by threads\n", "kumar")
    given = arguments("kumar", "float64", "forward")
    wanted = fresh("kumar", "float64").module.forward(*given)
    found: list[Any] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        found.extend(module.forward(*given) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(same(one, wanted) for one in found)
    assert len(module._known["forward"].overloads) == 1
    monkeypatch.setattr(module, "_called", None)
    assert same(module.forward(*given), wanted)


def test_a_delegated_function_is_that_of_the_module() -> None:
    module = kernels("digits")
    for function in FUNCTIONS:
        assert getattr(module, function) is getattr(module.module, function)


# ------------------------------------------------------------------------- what can be converted


def aside(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array that begins at an odd address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def kept(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array that cannot be written to."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


FORMS = {
    "lists": lambda array: array.tolist(),
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: array[::-1].copy()[::-1],
    "fortran": np.asfortranarray,
    "kept": kept,
    "aside": aside,
    "masked": np.ma.array,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["digits", "kumar", "embedding"])
@pytest.mark.parametrize("form", FORMS)
def test_arrays_in_other_forms_are_read_right(
    name: str, way: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = called(name, "float64", way, monkeypatch)
    convert: Any = FORMS[form]
    compiled = name == "digits" and form in ("kept", "aside")  # anew: some seconds each
    for function in FUNCTIONS[:1] if compiled else FUNCTIONS:
        parameters, *arrays = arguments(name, "float64", function)
        run = getattr(module, function)
        wanted = run(parameters, *arrays)
        copies = [array.copy() for array in (*parameters, *arrays) if np.ndim(array)]
        assert same(run(parameters, *map(convert, arrays)), wanted)
        weights = [convert(value) if np.ndim(value) else value for value in parameters]
        assert same(run(type(parameters)(*weights), *arrays), wanted)
        assert same(run(tuple(weights), *map(convert, arrays)), wanted)
        given = [array for array in (*parameters, *arrays) if np.ndim(array)]
        assert all(map(np.array_equal, copies, given)), "what is passed in stays"


@pytest.mark.parametrize("way", WAYS)
def test_numbers_of_any_type_are_parameters(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = called("kumar", "float64", way, monkeypatch)
    _, *arrays = arguments("kumar", "float64", "backward")
    count = len(module.Parameters._fields)
    wanted = module.backward(module.Parameters(*[2.0] * count), *arrays)
    for number in (2, np.float32(2), np.int8(2), np.array(2.0), np.float64(2)):
        assert same(module.backward((number,) * count, *arrays), wanted)
    assert same(module.backward(np.full(count, 2.0), *arrays), wanted)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["int8", "int32", "uint8", "uint64", "int64"])
def test_subscripts_of_any_type(way: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = called("embedding", "float64", way, monkeypatch)
    parameters, *arrays = arguments("embedding", "float64", "backward")
    wanted = module.backward(parameters, *arrays)
    changed = [a.astype(kind) if a.dtype.kind == "i" else a for a in arrays]
    assert same(module.backward(parameters, *changed), wanted)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_any_number_of_samples(dtype: str) -> None:
    """A sample has the same outputs whatever stands beside it, up to some roundings."""
    module = fresh("digits", dtype).module
    block = module._BLOCK
    parameters, x = arguments("digits", dtype, "forward", 3 * block)
    wanted = module.forward(parameters, x)
    tolerance = 20 * np.finfo(dtype).eps
    for count in (1, 2, 7, 8, 9, 16, 17, block - 1, block, block + 1, 2 * block + 3):
        found = module.forward(parameters, x[block : block + count])
        expected = wanted[block : block + count]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# ------------------------------------------------------------------------------- what is refused


def refused(run: Any, *given: Any) -> Exception:
    with pytest.raises((TypeError, ValueError)) as caught:
        run(*given)
    assert type(caught.value) in (TypeError, ValueError)
    assert caught.value.__context__ is None, "the reason stands alone"
    return caught.value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_reason_is_the_same_each_time(
    way: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = called("digits", "float64", way, monkeypatch)
    parameters, x, *t = arguments("digits", "float64", function)
    cases: list[tuple[Any, Any, type, str]] = [
        (parameters, x[:0], ValueError, "input 'x': got no samples, expected at least one"),
        (parameters, x[0], ValueError,
         "input 'x': got shape (64,), expected (n, 64); the first axis counts the samples"),
        (parameters, x[:, 1:].copy(), ValueError,
         "input 'x': got shape (5, 63), expected (n, 64); the first axis counts the samples"),
        (parameters, x[..., None], ValueError,
         "input 'x': got shape (5, 64, 1), expected (n, 64); the first axis counts the samples"),
        (parameters, 1.0, ValueError,
         "input 'x': got shape (), expected (n, 64); the first axis counts the samples"),
        (parameters, [], ValueError,
         "input 'x': got shape (0,), expected (n, 64); the first axis counts the samples"),
        (parameters, None, TypeError, "input 'x': got object, expected float64; use .astype"),
        *(
            (parameters, x.astype(kind), TypeError,
             f"input 'x': got {np.dtype(kind)}, expected float64; use .astype")
            for kind in ("f2", "f4", "i8", "?", "c16", "O", ">f8" if sys.byteorder == "little"
                         else "<f8")
        ),
        (parameters._replace(W1=parameters.W1.T.copy()), x, ValueError,
         "parameter 'W1': got shape (32, 64), expected (64, 32)"),
        (parameters._replace(b1=parameters.b1[:, None]), x, ValueError,
         "parameter 'b1': got shape (32, 1), expected (32,)"),
        (parameters._replace(b2=1.0), x, ValueError,
         "parameter 'b2': got shape (), expected (10,)"),
        (parameters._replace(W2=parameters.W2.astype("f4")), x, TypeError,
         "parameter 'W2': got float32, expected float64"),
        (parameters[:3], x, ValueError, "parameters: got 3, expected 4"),
        ((*parameters, parameters[0]), x, ValueError, "parameters: got 5, expected 4"),
        ((), x, ValueError, "parameters: got 0, expected 4"),
    ]  # fmt: skip
    for weights, value, kind, message in cases:
        error = refused(getattr(module, function), weights, value, *t)
        assert (type(error), str(error)) == (kind, message)


@pytest.mark.parametrize("name", ["digits", "kumar", "embedding"])
def test_bytes_in_another_order_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba takes them for native ones where a masked array was the first one of an odd kind."""
    module = called(name, "float64", "known", monkeypatch)
    for function in FUNCTIONS:
        parameters, *arrays = arguments(name, "float64", function)
        run = getattr(module, function)
        masked = [np.ma.array(value) if np.ndim(value) else value for value in parameters]
        wanted = run(parameters, *arrays)
        assert same(run(masked, *map(np.ma.array, arrays)), wanted)
        given = [*parameters, *arrays]
        for place, value in enumerate(given):
            if np.ndim(value):
                changed = [*given]
                changed[place] = value.astype(value.dtype.newbyteorder())
                split = len(parameters)
                if value.dtype.kind == "i":
                    assert same(run(changed[:split], *changed[split:]), wanted)
                else:
                    error = refused(run, changed[:split], *changed[split:])
                    assert "8, expected float64" in str(error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("function", ["loss", "backward"])
def test_a_reason_names_the_target(
    way: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = called("digits", "float64", way, monkeypatch)
    parameters, x, t = arguments("digits", "float64", function)
    for value, message in (
        (t[:4], "'t': got 4 samples, expected 5 as in 'x'"),
        (t[:, :9].copy(), "target 't': got shape (5, 9), expected (n, 10); the first axis counts "
         "the samples"),
        (t.astype("f4"), "target 't': got float32, expected float64; use .astype"),
    ):  # fmt: skip
        assert str(refused(getattr(module, function), parameters, x, value)) == message


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "dtype"), [("digits", "float64"), ("digits", "float32"), ("kumar", "float64")]
)
def test_a_number_that_is_not_finite_is_found_anywhere(
    name: str, dtype: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind the last whole vector, and behind the first block."""
    module = called(name, dtype, way, monkeypatch)
    samples = 5 if way == "plain" else 40
    for function in FUNCTIONS:
        parameters, *arrays = arguments(name, dtype, function, samples)
        for number, array in enumerate(arrays):
            title = [*module._DATA][number]
            kind = module._DATA[title][0]
            step = max(1, array.size // 50)
            for place in {*range(0, array.size, step), array.size - 1}:
                given = [each.copy() for each in arrays]
                given[number].flat[place] = (np.nan, np.inf, -np.inf)[place % 3]
                error = refused(getattr(module, function), parameters, *given)
                assert str(error) == f"{kind} {title!r}: got NaN or infinity; remove these samples"


def test_large_numbers_are_finite() -> None:
    """Their sum is not."""
    module = fresh("kumar", "float64").module
    parameters, *arrays = arguments("kumar", "float64", "forward")
    largest = np.finfo(float).max
    outputs = module.forward(parameters, *(np.full_like(array, largest) for array in arrays))
    assert all((output >= 0).all() and (output <= 1).all() for output in outputs)


@pytest.mark.parametrize("way", WAYS)
def test_a_parameter_may_be_anything_of_its_type(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only data are looked at; a loss that is NaN says what happened to the parameters."""
    module = called("digits", "float64", way, monkeypatch)
    parameters, *arrays = arguments("digits", "float64", "loss")
    with np.errstate(all="ignore"):
        assert np.isnan(module.loss(parameters._replace(b2=np.full(10, np.nan)), *arrays))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_subscript_outside_is_found_anywhere(
    function: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = called("embedding", "float64", way, monkeypatch)
    parameters, *arrays = arguments("embedding", "float64", function)
    number = next(n for n, array in enumerate(arrays) if array.dtype.kind == "i")
    title = [*module._DATA][number]
    bound = module._DATA[title][2]
    for place in range(arrays[number].size):
        for value in (-1, bound, 2**40, -(2**63)):
            given = [each.copy() for each in arrays]
            given[number].flat[place] = value
            error = refused(getattr(module, function), parameters, *given)
            assert str(error) == f"input {title!r}: got a subscript outside 0 to {bound - 1}"


@pytest.mark.parametrize("name", ["digits", "kumar"])
def test_refused_arguments_are_not_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that passes through a compiled function leaves behind what that one holds."""
    module = called(name, "float64", "known", monkeypatch)
    for function in FUNCTIONS:
        parameters, *arrays = arguments(name, "float64", function)
        wrong = [arrays[0] * np.nan, arrays[0][:0]]
        _nrt_python.memsys_enable_stats()
        before = rtsys.get_allocation_stats()
        for value in wrong * 5:
            refused(getattr(module, function), parameters, value, *arrays[1:])
        after = rtsys.get_allocation_stats()
        _nrt_python.memsys_disable_stats()
        assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free > 0


# -------------------------------------------------------------------------------- compiled callers


@functools.cache
def inside(name: str, function: str) -> Any:
    """Return a user's compiled function around one of a module's."""
    run = getattr(kernels(name).module, function)
    return njit(lambda parameters, arrays: run(parameters, *arrays))


@pytest.mark.parametrize("name", ["digits", "online", "kumar"])
def test_compiled_callers_get_what_python_gets(name: str) -> None:
    for function in FUNCTIONS:
        parameters, *arrays = arguments(name, "float64", function)
        wanted = getattr(kernels(name), function)(parameters, *arrays)
        assert same(inside(name, function)(parameters, tuple(arrays)), wanted)
        wide = tuple(np.repeat(array, 2, axis=0)[::2] for array in arrays)
        for one, other in zip(
            flat(inside(name, function)(parameters, wide)), flat(wanted), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_compiled_callers_learn_which_array_is_not_finite(function: str) -> None:
    for name in ("digits", "kumar"):
        parameters, *arrays = arguments(name, "float64", function)
        for number, title in enumerate([*kernels(name).module._DATA][: len(arrays)]):
            given = [array.copy() for array in arrays]
            given[number].flat[-1] = np.nan
            with pytest.raises(ValueError, match=f"'{title}': got NaN or infinity; remove these"):
                inside(name, function)(parameters, tuple(given))


def test_a_refusal_keeps_no_array() -> None:
    """What raised, and all that called it, let go of the arrays they were given."""
    parameters, *arrays = arguments("digits", "float64", "backward")
    run = kernels("digits").backward
    run(parameters, *arrays)  # compiled from here on
    held = [parameters.W1, *arrays]
    before = [sys.getrefcount(array) for array in held]
    for number in range(len(arrays)):
        given = list(arrays)
        given[number] = np.full_like(arrays[number], np.nan)
        for _ in range(10):
            with pytest.raises(ValueError, match="got NaN or infinity"):
                run(parameters, *given)
    del given
    assert [sys.getrefcount(array) for array in held] == before


def test_compiled_callers_learn_which_parameter_has_the_wrong_type() -> None:
    parameters, x = arguments("digits", "float64", "forward")
    with pytest.raises(TypingError, match=r"parameter 'b1': got .*, expected an array of float64"):
        inside("digits", "forward")(parameters._replace(b1=parameters.b1.astype("f4")), (x,))


# ----------------------------------------------------------------------------------- odd networks


def test_names_of_the_functions_around_the_kernels_are_free() -> None:
    net = Network("names")
    a = net.index("a", 2)
    name, kernel, known = net.input("name", a), net.input("kernel"), net.target("known")
    run, array = net.parameter("run", a, init=[0.5, -1]), net.parameter("array", init=2)
    value = net.output("code", Sum(run[a] * name[a], a) + array * kernel)
    net.loss((value - known) ** 2)
    module = compile(net)
    parameters, arrays = module.initialize(), data(net, 3)
    wanted = arrays[0] @ parameters.run + 2 * arrays[1]
    forward = module.module.forward
    compiled = njit(lambda parameters, name, kernel: forward(parameters, name, kernel))
    for function in (module.forward, module.forward, compiled):
        np.testing.assert_allclose(function(parameters, *arrays[:2]), wanted, rtol=1e-14)
    loss, _ = module.backward(parameters, *arrays)
    assert loss == pytest.approx(((wanted - arrays[2]) ** 2).mean())
