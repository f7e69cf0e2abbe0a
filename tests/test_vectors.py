"""The vector machinery against NumPy, on this processor, on lesser ones, and as plain loops."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from numpy.lib.stride_tricks import as_strided

from symprop import loader, vectors
from symprop.vectors import contraction, copies, modes

X86 = platform.machine() in {"x86_64", "AMD64"}
GUARD = 80  # elements before and behind each array; more than a vector

Rng = np.random.Generator


@dataclass
class Case:
    """The arguments of `_contraction` and what is needed to try it."""

    columns: tuple[int, int]
    rows: tuple[int, int, int, int]
    terms: tuple[tuple[int, int, int, int], ...]
    loops: tuple[tuple[int, int, int, int], ...] = ()
    guard: int = GUARD
    begun: str = ""  # what sums start from: nothing, one number for a row ("splat"), or "whole"
    dtype: str = "float32"
    runtime: str = ""  # what is counted when it runs: the "rows", first "terms" or "loops"
    over: bool = False
    dot: bool = False

    @property
    def offsets(self) -> tuple[int, ...]:
        return (self.guard,) * (4 if self.begun else 3)

    @property
    def start(self) -> list[int]:
        """The strides of a contiguous start: of the loops, the rows and the columns."""
        strides = [1 if self.begun == "whole" else 0]
        step = self.columns[0] if self.begun == "whole" else 1
        for count, *_ in (self.rows, *reversed(self.loops)):
            strides.insert(0, step)
            step *= count
        return strides

    @property
    def dimensions(self) -> list[tuple[int, ...]]:
        *loops, rows, columns = self.start
        width, lane = self.columns
        around = [(*loop, step) for loop, step in zip(self.loops, loops, strict=True)]
        terms = [(*term, 0) for term in self.terms]
        return [*around, (*self.rows, rows), *terms, (width, lane, 1, 1 - self.dot, columns)]

    @property
    def count(self) -> list[int]:
        """The count that is known when the code runs."""
        first = {"": [], "rows": [self.rows], "terms": self.terms[:1], "loops": self.loops[:1]}
        return [count for count, *_ in first[self.runtime]]

    def arguments(self) -> tuple[Any, ...]:
        around = [*self.dimensions[: len(self.loops) + 1], self.dimensions[-1]]
        *loops, rows, columns = around if self.begun else (dim[:-1] for dim in around)
        some = {"rows": (rows,), "terms": self.terms, "loops": tuple(loops)}
        if self.runtime:
            (_, *first), *others = some[self.runtime]
            some[self.runtime] = ((None, *first), *others)
        (rows,), terms, loops = some.values()
        return columns, rows, terms, loops, self.offsets, self.over

    def size(self, array: int) -> int:
        """Return how many elements an array has between its guards."""
        return 1 + sum((dim[0] - 1) * dim[1 + array] for dim in self.dimensions if dim[0])

    def view(self, data: np.ndarray, array: int) -> np.ndarray:
        """Return an array with an axis for each dimension, for out and start without the terms."""
        dims = self.dimensions
        if array >= 2:
            del dims[len(self.loops) + 1 : None if self.dot else -1]
        strides = [dim[1 + array] * data.itemsize for dim in dims]
        return as_strided(data[self.guard :], [dim[0] for dim in dims], strides)

    def operands(self, rng: Rng) -> list[np.ndarray]:
        """Return left, right, out, start: numbers where they are addressed, NaN elsewhere."""
        arrays = []
        for array in range(4 if self.begun else 3):
            data = np.full(self.size(array) + 2 * self.guard, np.nan, self.dtype)
            shown = self.view(data, array)
            shown[...] = rng.standard_normal(shown.shape)
            arrays.append(data)
        return arrays

    def expected(self, arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return what out becomes, in float64, and how far rounding may lead from it."""
        left, right = (self.view(data, n).astype(float) for n, data in enumerate(arrays[:2]))
        axes = tuple(len(self.loops) + 1 + n for n in range(len(self.terms) + self.dot))
        flat = self.view(np.arange(arrays[2].size), 2).reshape(-1)
        wanted = arrays[2].astype(float)
        sizes = np.zeros_like(wanted)
        wanted[flat] = self.view(arrays[3], 3).reshape(-1) if self.begun else 0.0
        np.add.at(sizes, flat, abs(wanted[flat]))
        np.add.at(wanted, flat, (left * right).sum(axes).reshape(-1))
        np.add.at(sizes, flat, abs(left * right).sum(axes).reshape(-1))
        summed = self.dimensions[-len(axes) :] if self.dot else self.terms
        count = 1 + np.prod([dim[0] for dim in (*summed, *self.loops)])
        return wanted, count * np.finfo(self.dtype).eps * sizes


def stacked(rng: Rng, counts: list[int], gap: int) -> list[int]:
    """Return strides of a random order of axes; the last axis is contiguous."""
    strides = [0] * len(counts)
    order = [*rng.permutation(len(counts) - 1), len(counts) - 1]
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step = step * counts[axis] + (gap if axis == len(counts) - 1 else 0)
    return strides


def random_case(seed: int) -> Case:
    """Return a case with a random number of dimensions, sizes, orders and gaps."""
    rng = np.random.default_rng(seed)
    rows, width = int(rng.integers(1, 26)), int(rng.integers(1, 71))
    lane = int(rng.integers(4) == 0)
    depth = int(rng.integers(3))
    terms = [int(n) for n in rng.integers(1, (60, 8, 5)[depth], depth + 1)]
    loops = [int(n) for n in rng.integers(1, 4, rng.integers(3))]
    gap = int(rng.integers(4))
    left = stacked(rng, [*loops, rows, *terms, width if lane else 1], gap)
    right = stacked(rng, [*loops, *terms, width], gap)
    out = stacked(rng, [*loops, rows, width], gap)
    n = len(loops)
    splits = zip(terms, left[n + 1 : -1], right[n:-1], strict=True)
    return Case(
        (width, lane),
        (rows, left[n], 0, out[n]),
        tuple((count, a, b, 0) for count, a, b in splits),
        tuple(zip(loops, left[:n], right[:n], out[:n], strict=True)),
        begun=("", "splat", "whole")[rng.integers(3)],
        dtype=("float32", "float64")[seed % 2],
        runtime=("", "rows", "terms", "loops" if loops else "")[rng.integers(4)],
        over=bool(rng.integers(2)),
    )


def random_dots(seed: int) -> Case:
    """Return a case whose columns are summed, as often without more terms, loops or rows."""
    rng = np.random.default_rng(seed)
    rows, width = int(rng.integers(1, 40)), int(rng.integers(1, 71))
    terms = [int(n) for n in rng.integers(1, 6, rng.integers(1, 3))]
    loops = [int(n) for n in rng.integers(1, 4, rng.integers(3))]
    gap = int(rng.integers(4))
    left = stacked(rng, [*loops, rows, *terms, width], gap)
    right = stacked(rng, [*loops, *terms, width], gap)
    out = stacked(rng, [*loops, rows, 1], 0)
    n = len(loops)
    splits = zip(terms, left[n + 1 : -1], right[n:-1], strict=True)
    return Case(
        (width, 1),
        (rows, left[n], 0, out[n]),
        tuple((count, a, b, 0) for count, a, b in splits),
        tuple(zip(loops, left[:n], right[:n], out[:n], strict=True)),
        begun=("", "splat")[rng.integers(2)],
        dtype=("float32", "float64")[seed % 2],
        runtime=("terms", "loops" if loops else "")[rng.integers(2)],
        dot=True,
    )


def matrix(rows: int, terms: int, width: int, *, across: bool, **more: Any) -> Case:
    """Return a product of matrices; `across`: the rows of left are contiguous."""
    a, b = (1, rows) if across else (terms, 1)
    return Case((width, 0), (rows, a, 0, width), ((terms, b, width, 0),), **more)


def convolution(dtype: str, begun: str) -> Case:
    """Return y[o, r, q, s] = sum of W[o, c, u, v] x[c, r + u, q + v, s], 33 samples wide."""
    C, U, V, R, Q, S = 3, 2, 3, 4, 2, 33
    H, L = R + U - 1, Q + V - 1
    return Case(
        (S, 0),
        (5, C * U * V, 0, R * Q * S),
        ((C, U * V, H * L * S, 0), (U, V, L * S, 0), (V, 1, S, 0)),
        ((R, 0, L * S, Q * S), (Q, 0, S, S)),
        dtype=dtype,
        begun=begun,
    )


def compiled(case: Case, module: Any = contraction) -> Any:
    """Return the contraction of a case as a function that can be called."""
    made = module._contraction(*case.arguments())
    return njit(lambda *arguments: made(*arguments))


def check(case: Case, function: Any, place: Any = lambda data: data) -> None:
    """Compare with NumPy: the sums within their rounding errors, everything else unchanged."""
    arrays = [place(data) for data in case.operands(np.random.default_rng(0))]
    wanted, tolerance = case.expected(arrays)
    before = [data.copy() for data in arrays]
    function(*arrays, *case.count)
    untouched = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(arrays[2]), untouched)
    inside = ~untouched
    assert (abs(arrays[2] - wanted)[inside] <= tolerance[inside]).all()
    for data, kept in zip([*arrays[:2], *arrays[3:]], [*before[:2], *before[3:]], strict=True):
        np.testing.assert_array_equal(data, kept)


@pytest.mark.parametrize("seed", range(26))
def test_contraction(seed: int) -> None:
    case = random_case(seed)
    check(case, compiled(case))


@pytest.mark.parametrize("seed", range(16))
def test_dots(seed: int) -> None:
    case = random_dots(seed)
    check(case, compiled(case))


@pytest.mark.parametrize("begun", ["", "splat", "whole"])
def test_convolution(begun: str) -> None:
    case = convolution("float64" if begun else "float32", begun)
    check(case, compiled(case))


def of_each_sample(others: int, width: int, dtype: str, begun: str) -> Case:
    """Return y[n, i, j, s] = sum of a[n, k, i, s] b[n, k, j, s]: a product for each column."""
    N, R, K, J = 2, 7, 9, others
    return Case(
        (width, 1),
        (R, width, 0, J * width),
        ((K, R * width, J * width, 0),),
        ((N, K * R * width, K * J * width, R * J * width), (J, 0, width, width)),
        dtype=dtype,
        begun=begun,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("others", "width"), [(1, 48), (5, 16), (13, 37)])
def test_products_of_each_sample(others: int, width: int, dtype: str) -> None:
    """Tiles go along rows of the result and a loop: fewer than a tile, several, with a rest."""
    case = of_each_sample(others, width, dtype, {1: "", 5: "splat", 13: "whole"}[others])
    check(case, compiled(case))


@pytest.mark.parametrize(
    ("shape", "across", "begun", "dtype"),
    [
        ((131, 300, 70), True, "", "float32"),  # copied panels, blocks, all remainders
        ((67, 300, 133), False, "whole", "float64"),
        ((70, 500, 64), True, "splat", "float32"),  # one panel: no copy
        ((1, 600, 1), False, "", "float64"),
        ((25, 1, 64), True, "whole", "float32"),
    ],
)
def test_matrices(shape: tuple[int, int, int], across: bool, begun: str, dtype: str) -> None:
    case = matrix(*shape, across=across, begun=begun, dtype=dtype)
    check(case, compiled(case))


@pytest.mark.parametrize("runtime", ["", "terms"])
@pytest.mark.parametrize(("rows", "width"), [(1, 5), (1, 37), (2, 16), (3, 8)])
def test_few_sums_have_several_accumulators(rows: int, width: int, runtime: str) -> None:
    """These take turns; then come the terms that are left, or none."""
    cases = [
        matrix(rows, terms, width, across=True, begun="splat", runtime=runtime)
        for terms in (37, 0, 1, 3, 4, 15, 16, 17)
    ]
    function = compiled(cases[0])
    for case in cases if runtime else cases[:1] + cases[2:]:
        check(case, function if runtime else compiled(case))


@pytest.mark.parametrize(("rows", "width"), [(13, 20), (130, 90)])
@pytest.mark.parametrize("begun", ["", "splat", "whole"])
def test_count_is_known_when_it_runs(rows: int, width: int, begun: str) -> None:
    case = matrix(rows, 200, width, across=True, begun=begun, runtime="terms")
    function = compiled(case)
    for terms in (0, 1, 7, 129, 200):
        check(matrix(rows, terms, width, across=True, begun=begun, runtime="terms"), function)


@pytest.mark.parametrize("begun", ["", "splat", "whole"])
@pytest.mark.parametrize(("terms", "width"), [(20, 13), (784, 128)])
def test_rows_are_known_when_it_runs(terms: int, width: int, begun: str) -> None:
    case = matrix(9, terms, width, across=False, begun=begun, runtime="rows")
    function = compiled(case)
    for rows in range(10):
        check(matrix(rows, terms, width, across=False, begun=begun, runtime="rows"), function)


@pytest.mark.parametrize(("rows", "terms", "dtype"), [(13, 20, "float32"), (130, 150, "float64")])
def test_columns_are_known_when_it_runs(rows: int, terms: int, dtype: str) -> None:
    block = 96
    strides = (rows, terms, 0, block), ((terms, 1, block, 0),)
    made = contraction._contraction((None, 0, 1, 1), *strides, offsets=(GUARD, GUARD, GUARD))
    function = njit(lambda left, right, out, count: made(left, right, out, count))
    vector = lanes(1, dtype)
    for width in (vector, 2 * vector, 5 * vector, 48, 96):
        case = Case((width, 0), *strides, dtype=dtype)
        check(case, lambda left, right, out, width=width: function(left, right, out, width))


@pytest.mark.parametrize("begun", ["", "splat"])
@pytest.mark.parametrize(("rows", "dtype"), [(13, "float32"), (130, "float64")])
def test_columns_and_terms_are_known_when_it_runs(rows: int, dtype: str, begun: str) -> None:
    """Some terms of some columns, as a thread has them that owns rows of a weight."""
    block, most = 48, 150
    own = rows, 1, 0, block, *([1] if begun else [])
    columns = None, 0, 1, 1, *([0] if begun else [])
    offsets = (GUARD,) * 4 if begun else (GUARD,) * 3
    made = contraction._contraction(columns, own, ((None, rows, block, 0),), offsets=offsets)
    function = njit(lambda *arguments: made(*arguments))
    for width in (lanes(1, dtype), 48):
        for terms in (0, 1, 33, most):
            case = Case((width, 0), own[:4], ((terms, rows, block, 0),), dtype=dtype, begun=begun)
            check(case, lambda *given, w=width, t=terms: function(*given, w, t))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("rows", "others", "terms"), [(1, 1, 1), (13, 1, 1), (9, 7, 1), (6, 3, 4)])
def test_sums_over_the_samples_stop_at_the_last_one(
    rows: int, others: int, terms: int, begun: bool, dtype: str
) -> None:
    """What is in the lanes behind it is not a number and does not count."""
    rng, block = np.random.default_rng(0), 48
    around = (terms, block, block, 0), (others, 0, terms * block, 1, 1)
    made = contraction._contraction(
        (None, 1, 1, 0, *([0] if begun else [])),
        (rows, terms * block, 0, others, others),
        around[:1],
        around[1:],
    )
    if begun:
        function = njit(lambda a, b, c, start, count: made(a, b, c, start, count))
    else:
        function = njit(lambda a, b, c, start, count: made(a, b, c, count))
    for count in (0, 1, 5, 16, 31, 48):
        left, right = (rng.standard_normal((n, terms, block)).astype(dtype) for n in (rows, others))
        left[:, :, count:] = right[:, :, count:] = np.nan
        out = np.full((rows + 1, others), np.nan, dtype)
        start = rng.standard_normal((rows, others)).astype(dtype)
        function(left, right, out, start, count)
        parts = left[:, None, :, :count].astype(float) * right[None, :, :, :count].astype(float)
        wanted = parts.sum(axis=(2, 3)) + (start if begun else 0)
        sizes = abs(parts).sum(axis=(2, 3)) + abs(start)
        tolerance = (2 + terms * count) * np.finfo(dtype).eps * sizes
        assert (abs(out[:rows] - wanted) <= tolerance).all()
        assert np.isnan(out[rows]).all()


def lanes(samples: int, dtype: str) -> int:
    """Return a number of samples rounded up to whole vectors."""
    most, rounded = 64 // np.dtype(dtype).itemsize, modes._lanes
    return int(njit(lambda count: rounded(count, most))(samples))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_are_rounded_up_to_whole_vectors(dtype: str) -> None:
    vector = lanes(1, dtype)
    assert vector * np.dtype(dtype).itemsize in (16, 32, 64)
    assert [lanes(n, dtype) // vector for n in range(2 * vector + 2)] == [
        0, *[1] * vector, *[2] * vector, 3,
    ]  # fmt: skip


def test_more_rows_and_terms_are_no_more_code() -> None:
    """LLVM must not unroll loops over tiles: the code would not fit into the nearest cache."""
    sizes = []
    for rows, terms in ((24, 32), (96, 128)):
        function = compiled(matrix(rows, terms, 32, across=True))
        function(*(np.zeros(2**15, np.float32) for _ in range(3)))
        (text,) = function.inspect_asm().values()
        sizes.append(len(text.splitlines()))
    assert max(sizes) < 1.1 * min(sizes)


def test_products_that_begin_elsewhere_are_one_code() -> None:
    """Steps of a recurrent network read their inputs from other places of one array."""
    cases = [replace(matrix(7, 30, 21, across=True), guard=guard) for guard in (80, 91, 200)]
    first, second, third = (contraction._contraction(*case.arguments()) for case in cases)

    @njit
    def product(number: int, left: Any, right: Any, out: Any) -> None:
        if number == 0:
            first(left, right, out)
        elif number == 1:
            second(left, right, out)
        else:
            third(left, right, out)

    for number, case in enumerate(cases):
        check(case, lambda *arrays, number=number: product(number, *arrays))
    (text,) = product.inspect_llvm().values()
    assert len(re.findall(r"define .*contraction", text)) == 1


def test_sums_of_other_numbers_are_seen() -> None:
    case = matrix(7, 30, 21, across=True)
    wrong = compiled(matrix(7, 29, 21, across=True))
    with pytest.raises(AssertionError):
        check(case, wrong)


def test_a_result_in_another_place_is_seen() -> None:
    case = matrix(7, 30, 21, across=True)
    arguments = list(case.arguments())
    arguments[4] = GUARD, GUARD, GUARD + 1
    shifted = contraction._contraction(*arguments)
    with pytest.raises(AssertionError):
        check(case, njit(lambda left, right, out: shifted(left, right, out)))


def test_arrays_of_two_types_are_refused() -> None:
    case = matrix(7, 30, 21, across=True)
    left, right, out = case.operands(np.random.default_rng(0))
    with pytest.raises(TypingError):
        compiled(case)(left.astype(float), right, out)


@pytest.mark.parametrize("seed", range(8))
def test_transpose(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (rng.integers(1, 4), *rng.integers(1, 70, 2)))
    transposed = copies._transpose(shape[1], shape[2], shape[0])
    data = rng.standard_normal(shape).astype(("float32", "float64")[seed % 2])
    guarded = np.full(data.size + 2 * GUARD, np.nan, data.dtype)
    njit(lambda a, b: transposed(a, b))(data, guarded[GUARD:-GUARD])
    inside = guarded[GUARD:-GUARD].reshape(shape[0], shape[2], shape[1])
    np.testing.assert_array_equal(inside, data.transpose(0, 2, 1))
    assert np.isnan(guarded[:GUARD]).all()
    assert np.isnan(guarded[-GUARD:]).all()


@pytest.mark.parametrize("rows", [5, 33])
def test_transpose_of_some_columns(rows: int) -> None:
    transposed = copies._transpose(rows, 64, some=True)
    function = njit(lambda source, target, used: transposed(source, target, used))
    source = np.random.default_rng(0).standard_normal((rows, 64))
    for used in (16, 48, 64):
        target = np.full((64, rows), np.nan)
        function(source, target, used)
        np.testing.assert_array_equal(target[:used], source.T[:used])
        assert np.isnan(target[used:]).all()


@pytest.mark.parametrize(("width", "block"), [(37, 21), (3, 64), (64, 16), (1, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gather(width: int, block: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((90, width)).astype(dtype)
    order = rng.permutation(90)
    gathered = copies._gather(width, block)
    function = njit(
        lambda data, order, first, count, batch: gathered(data, order, first, count, batch)
    )
    for count in {1, block // 2 + 1, block}:
        guarded = np.full(width * block + 2 * GUARD, np.nan, dtype)
        batch = guarded[GUARD:-GUARD].reshape(width, block)
        function(data, order, 90 - count, count, batch)
        np.testing.assert_array_equal(batch[:, :count], data[order[90 - count :]].T)
        rest = batch[:, count:]
        last = batch[:, count - 1 : count]
        assert (np.isnan(rest) | (rest == last)).all()
        whole = 64 // batch.itemsize  # lanes of a register, or of several narrower ones
        assert (rest[:, : -count % whole] == last).all()
        assert np.isnan(guarded[:GUARD]).all()
        assert np.isnan(guarded[-GUARD:]).all()


def elements(module: Any) -> tuple[Any, Any]:
    """Return functions that read and write the elements of parts of an array."""
    tensor = module._tensor

    @njit
    def write(memory: Any, count: int) -> None:
        line, table = tensor(memory, 1, (4,)), tensor(memory, 7, (3, 5))
        block = tensor(memory, 30, (count, 2, 3))
        for i in range(4):
            line[i] = i
        for i in range(3):
            for j in range(5):
                table[i, j] = 100 + 10 * i + j
        for n in range(count):
            for i in range(3):
                block[n, 0, i] = table[i, n]
                block[n, 1, i] -= line[i + 1] * 2

    def wanted(memory: Any, count: int) -> None:
        memory[1:5] = np.arange(4)
        memory[7:22] = (100 + 10 * np.arange(3)[:, None] + np.arange(5)).ravel()
        block = memory[30 : 30 + 6 * count].reshape(count, 2, 3)
        block[:, 0] = memory[7:22].reshape(3, 5)[:, :count].T
        block[:, 1] -= 2 * memory[2:5]

    return write, wanted


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tensor_is_a_part_of_an_array(dtype: str) -> None:
    write, wanted = elements(modes)
    found = np.random.default_rng(0).integers(0, 9, 60).astype(dtype)
    expected = found.copy()
    write(found, 4)
    wanted(expected, 4)
    np.testing.assert_array_equal(found, expected)


def test_a_tensor_of_other_lengths_is_another_type() -> None:
    """Else code that is compiled for one would be called for the other."""
    element, other = (modes._Tensor(modes.types.float32, shape) for shape in ((2, 3), (3, 2)))
    assert element != other
    assert element == modes._Tensor(modes.types.float32, (2, 3))
    assert element != modes._Tensor(modes.types.float64, (2, 3))
    assert element != modes.types.Array(modes.types.float32, 2, "C")


def test_flush_and_restore() -> None:
    flush, restore, hot = modes._flush, modes._restore, modes._hot

    @njit
    def half(x: Any) -> Any:
        hot()
        return x * np.float32(0.5)

    tiny = np.finfo(np.float32).tiny
    half(tiny)
    mode = njit(lambda: flush())()
    flushed = half(tiny)
    njit(lambda mode: restore(mode))(mode)
    assert half(tiny) == tiny / 2
    assert flushed == (0.0 if X86 else tiny / 2)


def products_of_vectors(mark: Any) -> int:
    """Return how many instructions multiply vectors where five lines are doubled."""
    hot, rounded = modes._hot, modes._lanes

    @njit
    def double(data: Any, samples: int) -> None:
        hot()
        for line in range(5):
            for sample in range(rounded(samples, 16)):
                data[line, sample] *= np.float32(2)
        mark()

    data = np.ones((5, 64), np.float32)
    double(data, 33)
    assert (data[:, :33] == 2).all()
    (text,) = double.inspect_llvm().values()
    return len(re.findall(r"= f(?:mul|add).* <", text))


def test_a_loop_over_lanes_is_one_instruction_for_each_operation() -> None:
    """LLVM alone would write several registers a turn, a rest, and all of it for each line."""
    assert products_of_vectors(modes._compact) == 1
    assert products_of_vectors(njit(lambda: None)) > 1


def plain(source: str) -> ModuleType:
    return loader.load(source, "machinery", jit=False)


def test_plain_python() -> None:
    cases = [
        *map(random_case, (1, 5, 9, 14)),
        *map(random_dots, range(3)),
        convolution("float64", "splat"),
    ]
    lines = [f"products = [_contraction(*c) for c in {[c.arguments() for c in cases]}]"]
    lines += ["transpose, gather = _transpose(3, 5, 2), _gather(3, 2)"]
    module = plain("\n".join([vectors.imports(), vectors.text(), *lines]))
    for case, function in zip(cases, module.products, strict=True):
        check(case, function)
    source, target = np.arange(2 * 3 * 5.0), np.zeros(2 * 3 * 5)
    module.transpose(source, target)
    wanted = source.reshape(2, 3, 5).transpose(0, 2, 1)
    np.testing.assert_array_equal(target.reshape(2, 5, 3), wanted)
    module.transpose(source, target := np.zeros(2 * 3 * 5), 4)
    np.testing.assert_array_equal(target.reshape(2, 5, 3)[:, :4], wanted[:, :4])
    assert not target.reshape(2, 5, 3)[:, 4].any()
    data, batch = np.arange(12.0).reshape(4, 3), np.zeros((3, 2))
    module.gather(data, np.array([3, 1, 0, 2]), 1, 2, batch)
    np.testing.assert_array_equal(batch, data[[1, 0]].T)
    module.gather(data, np.array([3, 1, 0, 2]), 2, 1, batch)
    np.testing.assert_array_equal(batch, data[[0, 0]].T)
    write, wanted = elements(module)
    found, expected = np.zeros(60), np.zeros(60)
    write.py_func(found, 4)
    wanted(expected, 4)
    np.testing.assert_array_equal(found, expected)
    module._hot()
    module._compact()
    module._restore(module._flush())


def test_without_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    with monkeypatch.context() as patch:  # Numba needs it, too, when it first compiles
        patch.setitem(sys.modules, "numba.core.cgutils", ModuleType("numba.core.cgutils"))
        with pytest.warns(UserWarning, match=r"alloca_once.*plain loops are used"):
            exec(vectors.imports() + "\n\n" + vectors.text(), names)
    case = random_case(3)
    check(case, names["_contraction"](*case.arguments()))


def test_pieces() -> None:
    for pieces in ([], ["modes"], ["contraction"], ["transpose"], ["gather", "modes"]):
        text = vectors.text(*pieces)
        for piece in vectors.PIECES[1:]:
            assert (f"def _{piece}(" in text) == (piece in pieces or not pieces)
        module = plain(vectors.imports() + "\n\n" + text)
        assert module._flush() == 0


def test_an_unknown_piece() -> None:
    with pytest.raises(ValueError, match=r"vector machinery: got 'dot', expected one of"):
        vectors.text("contraction", "dot")


FENCED = """
import ctypes, mmap, sys
import numpy as np
sys.path.insert(0, {tests!r})
import test_vectors as t

def fenced(data):
    # The last element stands before a page that cannot be read.
    page = mmap.PAGESIZE
    size = -(-data.nbytes // page) * page
    pages = mmap.mmap(-1, size + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + size), page, 0) == 0
    array = np.frombuffer(pages, data.dtype, data.size, size - data.nbytes)
    array[...] = data
    return array

for case in [*map(t.random_case, range(30, 36)), t.convolution("float32", "splat"),
             t.matrix(131, 300, 70, across=True), t.matrix(67, 300, 133, across=False)]:
    case.guard, case.over = 0, False
    t.check(case, t.compiled(case), lambda data: fenced(data[: data.size - {cut}]))
t.test_transpose(1), t.test_transpose(2), t.test_gather(37, 21, "float32")
print(t.modes._registers.cache_info().currsize, end="")
"""


def fenced(cpu: str | None, cut: int = 0) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parent
    environment = dict(os.environ, PYTHONPATH=str(tests.parent))
    if cpu:
        environment |= {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    script = FENCED.format(tests=str(tests), cut=cut)
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(not (X86 and sys.platform == "linux"), reason="x86 under Linux")
@pytest.mark.parametrize("cpu", [None, "haswell", "generic"])
def test_processors(cpu: str | None) -> None:
    result = fenced(cpu)
    assert (result.returncode, result.stdout) == (0, "1"), result.stderr


@pytest.mark.skipif(not (X86 and sys.platform == "linux"), reason="x86 under Linux")
def test_a_read_behind_an_array_is_seen() -> None:
    assert fenced(None, cut=1).returncode < 0


@pytest.mark.skipif(not X86, reason="x86")
@pytest.mark.parametrize(
    ("cpu", "registers"),
    [("skylake-avx512", (64, 32)), ("haswell", (32, 16)), ("generic", (16, 16))],
)
def test_registers(cpu: str, registers: tuple[int, int]) -> None:
    njit(lambda: 0)()  # LLVM knows its targets once Numba has compiled
    assert modes._registers("x86_64-unknown-linux-gnu", cpu, "") == registers
