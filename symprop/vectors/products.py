"""Contractions whose vectors lie along the columns, as register tiles.

`symprop.vectors` says which parts are copied into generated modules.
"""

# ------------------------------------------------------------------------------ imports
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from llvmlite import ir

# ------------------------------------------------------------------------------ below
from symprop.vectors.modes import alloca_once
from symprop.vectors.tiling import _across, _counted, _Dimensions, _panels, _parts, _tile
from symprop.vectors.writer import _strips, _Writer

# ------------------------------------------------------------------------------ products
_PANEL = 32768  # bytes of right that are worked on at a time: they stay in the nearest cache
_LARGE = 16384  # elements of left that no longer do, so that they must be fetched ahead
_AHEAD = 16  # terms
_HEIGHTS = 4, 2, 1  # rows of a tile where it is not known before how many there are
_WAIT = 4  # cycles that a product takes
_NEAR = 2048  # elements: two pages; to find the memory of pages further ahead takes longer


class _Panel(NamedTuple):
    """Some vectors of right: the first element, the strides of a term and of a vector, widths."""

    array: Any
    start: Any
    stride: int
    step: int
    widths: list[int]


class _Product:
    """Writes one contraction.

    The vectors of a tile are neighbours along the columns, each times one number of left. Where
    left moves along the columns too, they lie along a loop in which it stands still (`across`): so
    a vector of left as well as one of right is loaded once for several products.
    """

    def __init__(self, dimensions: _Dimensions) -> None:
        self.dimensions, self.across = dimensions, None
        self.columns, self.rows, self.terms, loops, self.over, _ = dimensions
        size = (self.rows[0] or 0) * (self.terms[0][0] or 128)
        self.large = len(self.terms) == 1 and size >= _LARGE
        self.ahead = self.large and self.terms[0][1] * _AHEAD <= _NEAR
        if self.columns[1]:
            self.across, others = _across(loops)
            self.dimensions = dimensions._replace(loops=others)

    def write(self, w: _Writer, left: Any, right: Any, out: Any, *more: Any) -> None:
        """Write the loops around the panels: the outer ones and blocks of terms."""
        self.w, self.left, self.right, self.out, self.copy = w, left, right, out, None
        self.start, count, terms = self.dimensions.given(more)
        self.moves = self.columns[1:]
        # from one vector of a tile to the next: in left, right, out and start
        narrow = (0, 0, w.lanes, w.lanes, self.moves[3] * w.lanes)
        self.steps: tuple[int, ...] = (self.across or narrow)[1:]
        sections = [(section, *self.panels(section[2], count)) for section in self.sections(count)]
        wide = max(wide for *_, wide in sections)
        self.slots: dict[tuple[int, int], Any] = {}
        size = _PANEL // (wide * w.lanes * w.bytes)
        if self.large and self.terms[0][2] > wide * w.lanes:
            copy = alloca_once(w.builder, ir.ArrayType(w.vector, wide * size))
            self.copy = w.builder.bitcast(copy, right.type)
        around = w.nest(_counted(self.dimensions.loops, count), (0, 0, 0, 0))
        with around as outer, self.blocks(size, terms) as block:
            for section, panels, _ in sections:
                for start, stop, widths, tall in panels:
                    turn = len(widths) * (1 if self.across else w.lanes)
                    moves = self.steps if self.across else self.moves
                    with w.loop(start, stop, turn) as place:
                        starts = w.along(outer, place, moves)
                        for inner, width in self.lines(starts, count):
                            own = [width] * len(widths) if self.across else widths
                            self.panel(inner, own, section, tall, block)

    def sections(self, count: Any) -> list[tuple[Any, Any, int]]:
        """Return the sections of the rows: (start, stop, rows that are tiled together).

        Of rows that are counted when the code runs each section takes as many as it can.
        """
        w, rows = self.w, self.rows[0]
        if rows is not None:
            return [(0, rows, rows)]
        stops = [w.whole(0, count, tall) for tall in _HEIGHTS]
        return list(zip([0, *stops], stops, _HEIGHTS, strict=False))

    def lines(self, starts: list[Any], count: Any) -> Iterator[tuple[list[Any], int]]:
        """Write the loops along columns that are not those of a panel; gives starts and widths."""
        w, total = self.w, self.columns[0]
        if not self.across:
            yield starts, w.lanes
            return
        for first, end, width in (
            [(0, count, w.lanes)] if total is None else _strips(total, w.lanes)
        ):
            with w.loop(first, end, width) as column:
                yield w.along(starts, column, self.moves), width

    def panels(self, rows: int, count: Any) -> tuple[list[tuple[Any, Any, list[int], int]], int]:
        """Return the panels, (start, stop, widths, rows of a tile), and the widest in vectors.

        Columns that are counted when the code runs are whole vectors: pairs, and perhaps one more.
        """
        w = self.w
        if self.across:
            tall, wide = _tile(rows, self.across[0], w.registers)
            parts = _parts(self.across[0], wide)
            return [(start, stop, [w.lanes] * size, tall) for start, stop, size in parts], wide
        if self.columns[0] is not None:
            tall, wide = _tile(rows, -(-self.columns[0] // w.lanes), w.registers)
            return [(*part, tall) for part in _panels(self.columns[0], w.lanes, wide)], wide
        tall, wide = _tile(rows, 2, w.registers, widest=2)
        pairs = w.whole(0, count, wide * w.lanes)
        found = [(w.index(0), pairs, [w.lanes] * wide, tall)]
        single, _ = _tile(rows, 1, w.registers, widest=1)
        return [*found, (pairs, count, [w.lanes], single)][: wide + 1], wide

    @contextmanager
    def blocks(self, size: int, count: Any) -> Iterator[Any]:
        """Write the loop over the blocks of terms of a large contraction.

        Gives the first term, the end, and a flag for the blocks after the first if there are some.
        """
        w, b, total = self.w, self.w.builder, self.terms[0][0]
        if not self.large or (total is not None and total <= size):
            yield 0, count if total is None else total, None
            return
        size = size if total is None else _parts(total, size)[0][2]
        stop = w.index(count if total is None else total)
        some = b.select(b.icmp_signed(">", stop, w.index(1)), stop, w.index(1))
        with w.loop(0, some, size) as first:  # once for no terms too: their sum is 0
            end = b.add(first, w.index(size))
            end = b.select(b.icmp_signed("<", end, stop), end, stop)
            yield first, end, b.icmp_signed(">", first, w.index(0))

    def panel(
        self, starts: list[Any], widths: list[int], section: Any, most: int, block: Any
    ) -> None:
        """Write the loops over the rows of tiles of one panel."""
        first, stop, rows = section
        read = [self.w.size(width) for width in widths] if self.over else widths
        panel = _Panel(self.right, starts[1], self.terms[0][2], self.steps[1], read)
        if self.copy is not None:
            panel = self.copied(panel, *block[:2])
        with self.w.loop(first, stop, rows) as top:
            starts = self.w.along(starts, top, self.rows[1:])
            for begin, end, tall in _parts(rows, most):
                with self.w.loop(begin, end, tall) as row:
                    left, _, out, begun = self.w.along(starts, row, self.rows[1:])
                    self.tile(left, out, begun, panel, [widths] * tall, block)

    def copied(self, panel: _Panel, first: Any, end: Any) -> _Panel:
        """Write the copy of a panel in which the vectors of a term follow those of the last one.

        Lines that are a power of two apart, as the rows of right often are, evict each other.
        """
        w, size = self.w, len(panel.widths) * self.w.lanes
        start = w.at(0, (first, -size))
        with w.loop(first, end) as term:
            place = w.at(start, (term, size))
            for n, vector in enumerate(
                self.vectors(panel, w.at(panel.start, (term, panel.stride)))
            ):
                w.store(vector, self.copy, w.at(place, (n, w.lanes)), vector.type.count)
        return panel._replace(
            array=self.copy,
            start=start,
            stride=size,
            step=w.lanes,
            widths=[*map(w.size, panel.widths)],
        )

    def begin(self, start: Any, row: int, column: int, width: int) -> Any:
        """Return what an accumulator starts from."""
        w = self.w
        if self.start is None:
            return w.zeros(w.size(width))
        at = w.at(start, (row, self.rows[4]), (column, self.steps[3]))
        if self.columns[4]:
            return w.load(self.start, at, width)
        return w.splat(self.start, at, w.size(width))

    def accumulators(self, widths: list[int]) -> list[list[Any]]:
        """Return accumulators for the vectors of a tile; of few, several that take turns.

        A product waits `_WAIT` cycles for the one before it to be added, and two begin in each.
        """
        total = self.terms[0][0]
        chains = min(_WAIT, 1 << (2 * _WAIT // len(widths) | 1).bit_length() - 1)
        while total is not None and chains > 1 and _WAIT * chains > total:
            chains //= 2
        return [
            [self.slot(chain * len(widths) + n, width) for n, width in enumerate(widths)]
            for chain in range(chains)
        ]

    def slot(self, number: int, width: int) -> Any:
        """Return where an accumulator for so many elements is kept: in a register."""
        place = number, self.w.size(width)
        if place not in self.slots:
            kind = ir.VectorType(self.w.element, place[1])
            self.slots[place] = alloca_once(self.w.builder, kind)
        return self.slots[place]

    def tile(
        self, left: Any, out: Any, start: Any, panel: _Panel, widths: list[list[int]], block: Any
    ) -> None:
        """Write one tile: its accumulators are set, the terms of the block added, and stored."""
        w, (first, end, later) = self.w, block
        places = [(r, c, n) for r, row in enumerate(widths) for c, n in enumerate(row)]
        slots, *others = self.accumulators([width for *_, width in places])
        cells = [
            (slot, w.at(out, (r, self.rows[3]), (c, self.steps[2])), n)
            for slot, (r, c, n) in zip(slots, places, strict=True)
        ]
        for (slot, at, _), place in zip(cells, places, strict=True):
            w.builder.store(self.begin(start, *place), slot)
            if self.large:
                w.fetch(self.out, at, change=True)
        if later is not None:
            with w.builder.if_then(later):
                for slot, at, width in cells:
                    w.builder.store(w.load(self.out, at, width), slot)
        for chain in others:
            for slot in chain:
                w.builder.store(w.zeros(slot.type.pointee.count), slot)
        whole = w.whole(first, end, 1 + len(others))
        self.products(left, panel, widths, (first, whole), [slots, *others])
        if whole is not end:
            self.products(left, panel, widths, (whole, end), [slots])
        for chain in others:
            w.merge(chain, slots)
        for slot, at, width in cells:
            w.store(w.builder.load(slot), self.out, at, width)

    def products(
        self, left: Any, panel: _Panel, widths: list[list[int]], terms: Any, chains: list[list[Any]]
    ) -> None:
        """Write the loop over some terms: the products of each are added to one of the `chains`."""
        w, strides = self.w, (self.terms[0][1], panel.stride, 0)
        tall = len(widths) >= w.registers // 2  # of two turns of the loop, numbers would spill
        turns = 1 if tall or len(chains) > 1 else 2
        with w.loop(terms[0], terms[1], len(chains), turns) as group:
            for number, chain in enumerate(chains):
                starts = w.along((left, panel.start, 0), w.at(group, (number, 1)), strides)
                with w.nest(self.terms[1:], starts) as (one, other, _):
                    self.term(one, self.vectors(panel, other), widths, chain)

    def vectors(self, panel: _Panel, start: Any) -> list[Any]:
        """Return the vectors of a panel's term."""
        w = self.w
        return [
            w.load(panel.array, w.at(start, (n, panel.step)), m) for n, m in enumerate(panel.widths)
        ]

    def term(
        self, left: Any, vectors: list[Any], widths: list[list[int]], slots: list[Any]
    ) -> None:
        """Write one term: the vectors of right times a number of left for each row of the tile."""
        w, slot = self.w, iter(slots)
        starts = [w.at(left, (row, self.rows[1])) for row in range(len(widths))]
        if self.ahead:
            for start in {0: starts[0], 1: starts[-1]}.values():
                w.fetch(self.left, w.at(start, (_AHEAD, self.terms[0][1])), change=False)
        for start, row in zip(starts, widths, strict=True):
            if self.across:
                factor = w.load(self.left, start, row[0])
            else:
                factor = w.splat(self.left, start, w.size(row[0]))
            for vector in vectors:
                w.accumulate(w.head(factor, vector.type.count), vector, next(slot))
