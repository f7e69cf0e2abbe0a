"""Contractions whose columns are summed, as register tiles.

`symprop.vectors` says which parts are copied into generated modules.
"""

# ------------------------------------------------------------------------------ imports
from typing import Any

import numpy as np

# ------------------------------------------------------------------------------ below
from symprop.vectors.modes import alloca_once
from symprop.vectors.tiling import _across, _counted, _Dimensions, _parts, _tile
from symprop.vectors.writer import _strips, _Writer


# ------------------------------------------------------------------------------ dots
class _Dots:
    """Writes one contraction whose columns are summed.

    A tile is some rows times some turns of a loop in which left stands still (`across`): so a
    vector of left as well as one of right is loaded once for several sums.
    """

    def __init__(self, dimensions: _Dimensions) -> None:
        self.dimensions = dimensions
        self.columns, self.rows, self.terms, loops, *_ = dimensions
        self.across, self.loops = _across(loops)

    def write(self, w: _Writer, left: Any, right: Any, out: Any, *more: Any) -> None:
        """Write the loops around the tiles."""
        self.w, self.left, self.right, self.out = w, left, right, out
        self.start, self.count, _ = self.dimensions.given(more)
        high, wide = _tile(self.rows[0], self.across[0], w.registers)
        around = w.nest(_counted(self.loops, self.count), (0, 0, 0, 0))
        with around as outer:
            for top, bottom, tall in _parts(self.rows[0], high):
                with w.loop(top, bottom, tall) as row:
                    line = w.along(outer, row, self.rows[1:])
                    for begin, end, size in _parts(self.across[0], wide):
                        with w.loop(begin, end, size) as turn:
                            self.tile(w.along(line, turn, self.across[1:]), tall, size)

    def tile(self, starts: list[Any], tall: int, wide: int) -> None:
        """Write one tile: its accumulators are set, the terms added, and their lanes summed."""
        w = self.w
        slots = [[alloca_once(w.builder, w.vector) for _ in range(wide)] for _ in range(tall)]
        every = [slot for line in slots for slot in line]
        for slot in every:
            w.builder.store(w.zero, slot)
        with w.nest(_counted(self.terms, self.count), starts[:3]) as (left, right, _):
            for first, end, width in self.strips():
                with w.loop(first, end, w.lanes) as column:
                    self.term(w.at(left, (column, 1)), w.at(right, (column, 1)), width, slots)
        totals = w.totals([w.builder.load(slot) for slot in every])
        for (row, turn), total in zip(np.ndindex(tall, wide), totals, strict=True):
            places = w.along(w.along(starts, row, self.rows[1:]), turn, self.across[1:])
            if self.start is not None:
                total = w.builder.fadd(w.read(self.start, places[3]), total)
            w.builder.store(total, w.builder.gep(self.out, [places[2]]))

    def strips(self) -> list[tuple[Any, Any, Any]]:
        """Return the columns as whole vectors and a rest: (start, stop, size)."""
        w, columns = self.w, self.columns[0]
        if columns is not None:
            return list(_strips(columns, w.lanes))
        whole = w.whole(0, self.count, w.lanes)
        return [(0, whole, w.lanes), (whole, self.count, w.builder.sub(self.count, whole))]

    def term(self, left: Any, right: Any, width: Any, slots: list[list[Any]]) -> None:
        """Write the products of one vector for each row with one for each turn across."""
        w = self.w
        rights = [
            self.vector(self.right, w.at(right, (turn, self.across[2])), width)
            for turn in range(len(slots[0]))
        ]
        for row, line in enumerate(slots):
            factor = self.vector(self.left, w.at(left, (row, self.rows[1])), width)
            for vector, slot in zip(rights, line, strict=True):
                w.accumulate(factor, vector, slot)

    def vector(self, array: Any, start: Any, width: Any) -> Any:
        """Return so many elements; where that is counted, whole vectors lie there."""
        if isinstance(width, int):
            return self.w.load(array, start, width, self.w.lanes)
        return self.w.first(self.w.load(array, start, self.w.lanes), width)
