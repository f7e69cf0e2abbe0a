"""Pass in lanes: rows of a table that the data choose are read, and added to, along the table.

``m[d,s] = Sum(E[token[n,s],d], n)`` for neighbouring samples s reads numbers from all over the
table ``E``, one by one; for neighbouring d they lie together. So what is read is computed sample by
sample, as ``rows_m[s,d]``, and copied with its axes exchanged. What is added to rows of a table,
``dL/dE[token[n,s],d] += dL/dm[d,s]``, is read from such a copy. An embedding is trained in half the
time so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sympy import Basic, Expr, Idx, Indexed, Piecewise, Sum, Symbol

from symprop.indices import (
    accesses,
    bound_indices,
    free_indices,
    rebuild,
    substitute,
)
from symprop.lower.passes import LanePass
from symprop.lower.steps import Compute, Step, element, extent, is_sample, name_of, renewed
from symprop.lower.tiles import transposed

__all__ = ["look_up"]

WIDTH = 8
"""The least length of a table's rows: fewer numbers fill no register."""


def look_up(
    steps: Iterable[Step], shapes: Mapping[str, tuple[int, ...]], taken: set[str], block: int
) -> tuple[tuple[Step, ...], dict[str, tuple[int, ...]]]:
    """Return `steps` with reads and writes along tables, and the shapes of all tensors.

    The names of the copies are added to `taken`; each has room for `block` samples.
    """
    return _Lookups(dict(shapes), taken, block).run(steps)


class _Lookups(LanePass):
    def add(self, step: Compute) -> None:
        """Append a step, after the copies that it reads."""
        if _column(step.target) is not None:
            self.done.append(self._along(step, step.target.indices[-1]))
        else:
            self.done.append(replace(step, value=self._read(step.value, step)))

    def _along(self, step: Compute, column: Idx) -> Compute:
        """Return a step that adds to chosen rows of a table with the samples outermost."""
        *others, lane = step.loops
        if column not in others:
            return step
        others.remove(column)
        free = {*free_indices(step.value)}
        value = step.value
        if {column, lane} <= free:
            group = (*(index for index in others if index in free), column)
            source = self._tensor(step, (*group, lane))
            name = self.tensor(f"{name_of(source)}_T", (lane, *group))
            self.done.append(transposed(source, group, name, self.shapes))
            value = element(name, (lane, *group))
        return replace(step, value=value, loops=(lane, *others, column))

    def _tensor(self, step: Compute, axes: tuple[Idx, ...]) -> Indexed:
        """Return the value of a step as a tensor, which is computed unless it is one."""
        if isinstance(step.value, Indexed) and step.value.indices == axes:
            return step.value
        name = self.tensor(f"added_{name_of(step.target)}", axes)
        renamed = {index: renewed(index, self.block) for index in axes}
        loops = tuple(renamed.values())
        self.add(Compute(element(name, loops), substitute(step.value, renamed), loops))
        return element(name, axes)

    def _read(self, node: Basic, step: Compute) -> Basic:
        """Return `node` with copies for what it reads of chosen rows."""
        if isinstance(node, Sum | Indexed):
            return self._copied(node, step)
        if isinstance(node, Piecewise | Symbol | Idx) or not node.args or bound_indices(node):
            return node
        return rebuild(node, (self._read(part, step) for part in node.args))

    def _copied(self, node: Expr, step: Compute) -> Expr:
        """Return a copy of a sum, or of an element, for which the samples are neighbours."""
        reads = accesses(node)
        columns = {column for leaf in reads if (column := _column(leaf)) is not None}
        *others, lane = step.loops
        own = [index for index in others if index in free_indices(node)]
        if len(columns) != 1 or not columns <= {*own} or node.has(Piecewise):
            return node
        (column,) = columns
        if any(_has(leaf, column, lane) for leaf in reads):
            return node
        own.remove(column)
        renamed = {index: renewed(index, self.block) for index in (lane, *own, column)}
        loops = tuple(renamed.values())
        rows = element(self.tensor(f"rows_{name_of(step.target)}", loops), loops)
        copy = self.tensor(f"read_{name_of(step.target)}", (*loops[1:], loops[0]))
        self.done.append(Compute(rows, substitute(node, renamed), loops, comment=step.comment))
        self.done.append(transposed(rows, loops[:1], copy, self.shapes))
        return element(copy, (*own, column, lane))


def _column(leaf: Expr) -> Idx | None:
    """Return the last subscript of an element of a table whose row the data choose, else None."""
    if not isinstance(leaf, Indexed) or len(leaf.indices) < 2:
        return None
    *rows, last = leaf.indices
    if not isinstance(last, Idx) or is_sample(last) or (extent(last) or 0) < WIDTH:
        return None
    chosen = any(accesses(part) for part in rows)
    still = all(last not in free_indices(part) for part in rows)
    return last if chosen and still else None


def _has(leaf: Expr, column: Idx, lane: Idx) -> bool:
    """Tell whether an element is another one for each column and each sample."""
    return isinstance(leaf, Indexed) and {column, lane} <= {*leaf.indices}
