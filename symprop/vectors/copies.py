"""Transposed copies, and samples gathered into lanes.

`symprop.vectors` says which parts are copied into generated modules.
"""

# ------------------------------------------------------------------------------ imports
from typing import Any

from llvmlite import ir
from numba import njit

# ------------------------------------------------------------------------------ below
from symprop.vectors.modes import _WRITTEN
from symprop.vectors.writer import _FLAG, _WORD, _intrinsic, _strips, _Writer


# ------------------------------------------------------------------------------ blocks
def _grouped(w: _Writer, array: Any, starts: list[Any], width: int) -> Any:
    """Return a vector of groups of 16 bytes, one from each start, zeros behind its `width`."""
    group = 16 // w.bytes
    kind, result = ir.VectorType(w.vector.element, group), w.zero
    mask = ir.Constant(ir.VectorType(_FLAG, group), [int(n < width) for n in range(group)])
    for place, start in enumerate(starts):
        address = w.address(array, start, group)
        name = f"llvm.masked.load.v{group}f{8 * w.bytes}.p0"
        zero = ir.Constant(kind, [0.0] * group)
        part = w.call(name, kind, address, ir.Constant(_WORD, w.bytes), mask, zero)
        wide = w.shuffle(part, part, [n % group for n in range(w.lanes)])
        chosen = [n + w.lanes * (n // group == place) for n in range(w.lanes)]
        result = w.shuffle(result, wide, chosen)
    return result


def _columns(w: _Writer, array: Any, starts: list[Any], width: int) -> list[Any]:
    """Return the first `width` columns of the rows that begin at `starts`, as vectors.

    Groups of 16 bytes are loaded where they belong, which takes no shuffle; then the rows inside
    of them are interleaved until they are columns.
    """
    group = 16 // w.bytes
    half = group // 2
    low = [n % group // 2 + n // group * group + n % 2 * w.lanes for n in range(w.lanes)]
    high = [n + half for n in low]
    columns: list[Any] = []
    for first in range(0, width, group):
        moved = [w.at(start, (first, 1)) for start in starts]
        rows = [_grouped(w, array, moved[n::group], width - first) for n in range(group)]
        for _ in range(half):
            pairs = list(zip(rows[:half], rows[half:], strict=True))
            rows = [w.shuffle(a, b, order) for a, b in pairs for order in (low, high)]
        columns += rows
    return columns[:width]


# ------------------------------------------------------------------------------ transpose
def _transpose(rows: int, columns: int, count: int = 1, some: bool = False) -> Any:
    """Return f(source, target): target[n, c, r] = source[n, r, c] for n < count.

    With `some` it is f(source, target, used) for c < used, whole vectors. The arrays are
    C-contiguous of any shape, of one type, and do not overlap.
    """

    def write(w: _Writer, source: Any, target: Any, used: Any = None) -> None:
        strips = [(0, used, w.lanes)] if some else _strips(columns, w.lanes)
        square = ((count, rows * columns),)
        with w.nest(square, [0]) as (base,):
            for r0, r1, height in _strips(rows, w.lanes):
                with w.loop(r0, r1, height) as r:
                    for c0, c1, width in strips:
                        with w.loop(c0, c1, width) as c:
                            start = w.at(base, (r, columns), (c, 1))
                            lines = [w.at(start, (n, columns)) for n in range(height)]
                            start = w.at(base, (c, rows), (r, 1))
                            for n, line in enumerate(_columns(w, source, lines, width)):
                                w.store(line, target, w.at(start, (n, rows)), height)

    if _WRITTEN:
        return _intrinsic(f"transpose {rows} {columns} {count} {some}", write, 3 if some else 2)

    @njit
    def transpose(source: Any, target: Any, used: int = columns) -> None:
        source, target = source.reshape(-1), target.reshape(-1)
        for n in range(count):
            for row in range(rows):
                for column in range(used):
                    place = n * rows * columns + row * columns + column
                    target[(n * columns + column) * rows + row] = source[place]

    return transpose


# ------------------------------------------------------------------------------ gather
def _gather(width: int, block: int) -> Any:
    """Return f(data, order, first, count, batch): batch[i, s] = data[order[first + s], i].

    Shapes: data (n, width), order (n,) of int64, batch (width, block), all C-contiguous; count is
    1 to block. Lanes of batch from count on repeat the last sample, up to a whole number of 64
    bytes at least, so that what a kernel computes in them is harmless.
    """

    def write(w: _Writer, data: Any, order: Any, first: Any, count: Any, batch: Any) -> None:
        b = w.builder
        last, whole = b.sub(count, w.index(1)), 64 // w.bytes
        used = b.and_(b.add(last, w.index(whole)), w.index(-whole))
        for s0, s1, lanes in _strips(block, w.lanes):
            with w.loop(s0, s1, lanes) as s, b.if_then(b.icmp_signed("<", s, used)):
                starts = []
                for n in range(lanes):
                    sample = b.add(s, w.index(n))
                    valid = b.select(b.icmp_signed("<", sample, last), sample, last)
                    line = b.load(b.gep(order, [b.add(first, valid)]))
                    starts.append(b.mul(line, w.index(width)))
                for f0, f1, size in _strips(width, w.lanes):
                    with w.loop(f0, f1, size) as f:
                        lines = [b.add(start, f) for start in starts]
                        start = w.at(s, (f, block))
                        for n, line in enumerate(_columns(w, data, lines, size)):
                            w.store(line, batch, w.at(start, (n, block)), lanes)

    if _WRITTEN:
        return _intrinsic(f"gather {width} {block}", write, 5)

    @njit
    def gather(data: Any, order: Any, first: int, count: int, batch: Any) -> None:
        data, batch = data.reshape(-1), batch.reshape(-1)
        for i in range(width):
            for s in range(block):
                batch[i * block + s] = data[order[first + min(s, count - 1)] * width + i]

    return gather
