"""Sums of products: as one of two kinds of register tiles, or as plain loops.

`symprop.vectors` says which parts are copied into generated modules.
"""

# ------------------------------------------------------------------------------ imports
from typing import Any

import numpy as np
from numba import njit

# ------------------------------------------------------------------------------ below
from symprop.vectors.dots import _Dots
from symprop.vectors.modes import _WRITTEN
from symprop.vectors.products import _Product
from symprop.vectors.tiling import _Dimensions
from symprop.vectors.writer import _intrinsic


# ------------------------------------------------------------------------------ contraction
def _contraction(
    columns: tuple[int | None, ...],
    rows: tuple[int | None, ...],
    terms: tuple[tuple[int | None, int, int, int], ...],
    loops: tuple[tuple[int | None, ...], ...] = (),
    offsets: tuple[int, ...] = (0, 0, 0),
    over: bool = False,
) -> Any:
    """Return f(left, right, out): out[o] = sum over the terms of left[l] * right[r].

    A dimension is (count, stride in left, in right, in out) in elements; o, l, r are `offsets`
    plus subscript * stride for all dimensions. `loops` are around everything, `rows` has no stride
    in right, `terms` have none in out. The columns are contiguous in right and out, and have stride
    0 or 1 in left; or they are summed, contiguous in left and right, and out stands still. If they
    have one more stride, 0 or 1, it is f(left, right, out, start), where the sum starts from
    start[s], and `rows`, `loops` and `offsets` may have one more number for it too. With None for
    the count of the columns, of the rows, of the first terms or of a loop one more argument is that
    count, for columns that are whole vectors; where they are summed, their last vector is read
    whole. With None for the first terms and for one of the others there are two, the last for the
    terms. The arrays are C-contiguous, of one type, and out overlaps none of the others. With
    `over` the last vector of the columns is read whole: there is memory for as much behind right.
    """
    begun = len(columns) > 4
    wide, own, *around = ((*numbers, 0)[:5] for numbers in (columns, rows, *loops))
    dimensions = _Dimensions(wide, own, terms, around, over, begun)
    if not _WRITTEN:
        return _plain_contraction(dimensions, (*offsets, 0)[:4])
    writer = _Product(dimensions) if columns[3] else _Dots(dimensions)
    arguments = 3 + begun + sum(dimensions.counts)
    return _intrinsic(f"contraction {dimensions}", writer.write, arguments, offsets)


def _offsets(dimensions: Any, axis: int) -> Any:
    """Return subscript * stride, summed, for all subscripts of the dimensions."""
    total = np.zeros(1, np.int64)
    for count, *strides in dimensions:
        total = np.add.outer(total, np.arange(count) * strides[axis]).ravel()
    return total


def _plain_contraction(dimensions: _Dimensions, offsets: tuple[int, ...]) -> Any:
    """Return the function of `_contraction` as plain loops."""
    (fixed, lane, right, out, along), rows, terms, loops, _, begun = dimensions
    if not out:  # one column, and one more term
        line = fixed, lane, right, out
        terms, fixed, lane = ((line, *terms) if fixed is None else (*terms, line)), 1, 0
    splat = 1 - lane
    around = (*loops, rows)
    counted = next((each for each in around if each[0] is None), None)  # over the samples
    outer = [each for each in around if each is not counted]
    lefts, rights, outs, starts = (_offsets(outer, axis) + offsets[axis] for axis in range(4))
    inner_left, inner_right = _offsets(terms[1:], 0), _offsets(terms[1:], 1)
    total, step_left, step_right, _ = terms[0]
    both = dimensions.counts[1]
    _, move_left, move_right, move_out, move_start = counted or (1, 0, 0, 0, 0)

    @njit
    def sums(left: Any, right: Any, out: Any, start: Any, count: int = 0, own: int = 0) -> None:
        left, right, out = left.reshape(-1), right.reshape(-1), out.reshape(-1)
        width = count if fixed is None else fixed
        for s, n in np.ndindex(1 if counted is None else count, lefts.size):
            first = outs[n] + s * move_out
            result = out[first : first + width]
            if begun:
                first = starts[n] + s * move_start
                result[:] = start.reshape(-1)[first : first + (width if along else 1)]
            else:
                result[:] = 0
            for k in range(own if both else count if total is None else total):
                for m in range(inner_left.size):
                    at = lefts[n] + s * move_left + k * step_left + inner_left[m]
                    place = rights[n] + s * move_right + k * step_right + inner_right[m]
                    factor = left[at : at + splat + width * lane]
                    result += factor * right[place : place + width]

    if begun:
        return sums
    return njit(lambda left, right, out, count=0, own=0: sums(left, right, out, out, count, own))
