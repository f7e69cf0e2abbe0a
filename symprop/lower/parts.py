"""Pass 7: which weights the training updates part by part.

A large weight's gradient leaves the caches before the update reads it. Where it is one product, the
training can do without all of it: it computes some rows, applies the update to them, and writes
the next ones to the same place. So that product is the last of a kernel, which leaves it out
unless it is asked for whole gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from symprop.lower.program import Deferred
from symprop.lower.schedule import Nest, walk
from symprop.lower.steps import Contract, Step, name_of
from symprop.lower.strategy import LARGE, PART, Strategy

__all__ = ["defer"]


def defer(
    nests: Iterable[Nest | Step],
    gradients: Mapping[str, tuple[int, ...]],
    inside: Iterable[str],
    strategy: Strategy,
) -> tuple[tuple[Nest | Step, ...], tuple[Deferred, ...]]:
    """Return what stays where it is, and the products that are left to the end.

    `gradients` are the shapes of what the optimizer is given, `inside` the names of what the
    kernel is given or computes itself. Parameters, which the update changes, are not among them.
    """
    nests, inside = tuple(nests), frozenset(inside)
    if strategy.lanes:
        return nests, ()
    writes = Counter(a.name for _, step in walk(nests) for a in step.accesses if a.writes)
    found = {
        part: Deferred(part, rows)
        for part in nests
        if isinstance(part, Contract)
        and inside.issuperset(map(name_of, part.read))
        and writes[name_of(part.target)] == 1
        and (rows := _rows(part, gradients.get(name_of(part.target), ())))
    }
    return tuple(part for part in nests if part not in found), tuple(found.values())


def _rows(product: Contract, shape: tuple[int, ...]) -> int:
    """Return how many rows of a large weight are a part; 0 where they are not neighbours."""
    rows, columns = product.tiling.rows, product.tiling.columns
    if prod(shape) < LARGE or rows.count is None or not columns.count or product.tiling.loops:
        return 0
    whole = rows.out == columns.count and rows.count * columns.count == prod(shape)
    return min(rows.count, max(1, PART // columns.count)) if whole else 0
