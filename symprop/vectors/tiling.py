"""How a contraction is cut into tiles, by its dimensions.

`symprop.vectors` says which parts are copied into generated modules.
"""

# ------------------------------------------------------------------------------ imports
from collections.abc import Iterator
from typing import Any, NamedTuple


# ------------------------------------------------------------------------------ tiling
def _parts(total: int, most: int) -> list[tuple[int, int, int]]:
    """Split evenly into parts of at most `most`: (start, stop, size) for each size.

    >>> _parts(13, 12), _parts(20, 7)
    ([(0, 7, 7), (7, 13, 6)], [(0, 14, 7), (14, 20, 6)])
    """
    count = -(-total // most)
    size = -(-total // count)
    middle = (total - count * (size - 1)) * size
    return [(0, middle, size), *([(middle, total, size - 1)] if middle < total else [])]


def _panels(columns: int, lanes: int, wide: int) -> Iterator[tuple[Any, Any, list[int]]]:
    """Split the columns into panels: (start, stop, widths of the vectors of one panel).

    >>> list(_panels(70, 16, 3))
    [(0, 48, [16, 16, 16]), (48, 80, [16, 6])]
    """
    for start, stop, size in _parts(-(-columns // lanes), wide):
        rest = min(lanes, columns - (stop - 1) * lanes)
        full = stop if rest == lanes else stop - size
        if full > start:
            yield start * lanes, full * lanes, [lanes] * size
        if full < stop:
            yield full * lanes, stop * lanes, [lanes] * (size - 1) + [rest]


def _tile(rows: int, vectors: int, registers: int, widest: int = 6) -> tuple[int, int]:
    """Return the rows and vectors of the tile of accumulators that takes the fewest cycles a term.

    A term of an r x c tile takes r c / 2 cycles for its products and 5/8 (r + c) for its loads, and
    no fewer than the 4 that a product waits for the one before it (measured).
    """

    def cost(tall: int, wide: int) -> tuple[int, int]:
        down, across = -(-rows // tall), -(-vectors // wide)
        loads = across * rows + down * vectors
        return max(4 * rows * vectors, 32 * down * across, 5 * loads) + down * across, loads

    tiles = [(r, c) for c in range(1, widest + 1) for r in range(1, registers * 3 // 4 // c + 1)]
    fitting = [(r, c) for r, c in tiles if r * c + c < registers]  # with a splat
    return min(fitting, key=lambda tile: cost(*tile))


class _Dimensions(NamedTuple):
    """Those of a contraction, each with a stride in left, right, out and, but for terms, start."""

    columns: Any
    rows: Any
    terms: Any
    loops: Any
    over: bool
    begun: bool  # whether there is a start

    @property
    def counts(self) -> tuple[bool, bool]:
        """Tell whether a count is given, and one more for the terms."""
        others = None in (self.columns[0], self.rows[0], *(loop[0] for loop in self.loops))
        terms = self.terms[0][0] is None
        return others or terms, others and terms

    def given(self, more: Any) -> tuple[Any, Any, Any]:
        """Return the start, the count and that of the terms; None for what is not given."""
        start, count, terms = (*[None][self.begun :], *more, None, None)[:3]
        return start, count, terms if self.counts[1] else count


def _across(loops: Any) -> tuple[Any, list[Any]]:
    """Return the longest loop in which left stands still, of one turn if there is none; the others.

    Along it one vector of left serves several products.
    """
    still = [loop for loop in loops if loop[0] is not None and not loop[1]]
    across = max(still, default=(1, 0, 0, 0, 0))
    return across, [loop for loop in loops if loop is not across]


def _counted(dimensions: Any, count: Any) -> list[Any]:
    """Return dimensions with `count` for the turns that are known when the code runs."""
    return [(count if turns is None else turns, *moves) for turns, *moves in dimensions]
