"""Pass 7: which weights the training updates part by part.

A large weight's gradient leaves the caches before the update reads it. Where it is one product
and nothing else, the training can do without all of it: it computes some rows, applies the update
to them, and writes the next ones to the same place, or, of one sample, element by element. So that
product is the last of a kernel, which leaves it out unless it is asked for whole gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from symprop.lower.program import Deferred
from symprop.lower.schedule import Nest, walk
from symprop.lower.steps import Contract, Step, extent, is_sample, name_of
from symprop.lower.strategy import LARGE, PART, Strategy

__all__ = ["defer"]


def defer(
    nests: Iterable[Nest | Step],
    gradients: Mapping[str, tuple[int, ...]],
    inside: Iterable[str],
    strategy: Strategy,
    batch: int,
) -> tuple[tuple[Nest | Step, ...], tuple[Deferred, ...]]:
    """Return what stays where it is, and the products that are left to the end.

    `gradients` are the shapes of what the optimizer is given, `inside` the names of what the
    kernel is given or computes itself. Parameters, which the update changes, are not among them.
    A step has `batch` samples.
    """
    nests, inside = tuple(nests), frozenset(inside)
    if strategy.lanes:
        return nests, ()
    writes = Counter(a.name for _, step in walk(nests) for a in step.accesses if a.writes)
    found = {
        part: Deferred(part, 0 if batch == 1 and _of_two_numbers(part) else _rows(part))
        for part in nests
        if isinstance(part, Contract)
        and part.start is None
        and inside.issuperset(map(name_of, part.read))
        and writes[name_of(part.target)] == 1
        and _in_rows(part, gradients.get(name_of(part.target), ()))
    }
    return tuple(part for part in nests if part not in found), tuple(found.values())


def _in_rows(product: Contract, shape: tuple[int, ...]) -> bool:
    """Tell whether some rows of a product are neighbouring elements of a large weight."""
    rows, columns = product.tiling.rows, product.tiling.columns
    if prod(shape) < LARGE or rows.count is None or columns.count is None or product.tiling.loops:
        return False
    return rows.out == columns.count and rows.count * columns.count == prod(shape)


def _rows(product: Contract) -> int:
    """Return how many rows are a part."""
    rows, columns = product.tiling.rows.count or 1, product.tiling.columns.count or 1
    return min(rows, max(1, PART // columns))


def _of_two_numbers(product: Contract) -> bool:
    """Tell whether only the samples are summed, and vectors lie along the last axis."""
    last = extent(product.target.indices[-1])
    return all(map(is_sample, product.summed)) and product.tiling.columns.count == last
