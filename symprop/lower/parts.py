"""Pass 7: which weights the training updates part by part.

A large weight's gradient leaves the caches before the update reads it. Where it is one product
and nothing else, the training can do without all of it: it computes some rows, applies the update
to them, and writes the next ones to the same place, or, of one sample, element by element. So that
product is the last of a kernel, which leaves it out unless it is asked for whole gradients.

In lanes it is done for threads. Those that share the samples of a step exchange the gradients and
the new values of all weights, which takes longer than to compute them where a weight is large and
the samples are few. Of a weight that only multiplies inputs, which every thread can read, each has
rows of its own instead: what these contribute to the sums of all samples it computes before the
kernel, and their gradient and update after it. So the product that reads the weight is the first of
a kernel, which leaves it out, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from symprop.indices import size
from symprop.lower.program import Deferred
from symprop.lower.schedule import Nest, walk
from symprop.lower.steps import Contract, Step, extent, is_sample, name_of
from symprop.lower.strategy import LARGE, OWNED, PART, Strategy

__all__ = ["defer"]


def defer(
    nests: Iterable[Nest | Step],
    gradients: Mapping[str, tuple[int, ...]],
    parameters: Mapping[str, str],
    kept: Mapping[str, tuple[int | None, ...]],
    data: Iterable[str],
    strategy: Strategy,
    batch: int,
) -> tuple[tuple[Nest | Step, ...], tuple[Deferred, ...]]:
    """Return what stays where it is, and the products that are left to the end.

    `gradients` are the shapes of what the optimizer is given, `parameters` the names of what they
    belong to, `kept` the tensors that the kernel computes itself, `data` what it is given. A step
    has `batch` samples.
    """
    nests = tuple(nests)
    writes = Counter(a.name for _, step in walk(nests) for a in step.accesses if a.writes)
    inside = frozenset((*kept, *data))
    able = [
        part
        for part in nests
        if isinstance(part, Contract)
        and part.start is None
        and inside.issuperset(map(name_of, part.read))
        and writes[name_of(part.target)] == 1
        and _in_rows(part, gradients.get(name_of(part.target), ()))
    ]
    if not strategy.lanes:
        found = [Deferred(p, 0 if batch == 1 and _of_two_numbers(p) else _rows(p)) for p in able]
    elif batch <= strategy.block:
        owned = _Owned(nests, parameters, kept, frozenset(data))
        found = [Deferred(p, _rows(p), first) for p in able if (first := owned.reader(p))]
    else:
        found = []
    apart = {step for part in found for step in (part.product, part.reader)}
    return tuple(part for part in nests if part not in apart), tuple(found)


@dataclass(frozen=True, slots=True)
class _Owned:
    """Finds the weights of which each thread may have rows of its own."""

    nests: tuple[Nest | Step, ...]
    parameters: Mapping[str, str]
    kept: Mapping[str, tuple[int | None, ...]]
    data: frozenset[str]

    def reader(self, product: Contract) -> Contract | None:
        """Return the product of a weight and inputs of which `product` is the gradient.

        None where something else reads the weight, or threads would exchange about as much: the
        sums, and the adjoints of them.
        """
        weight = self.parameters[name_of(product.target)]
        readers = [step for _, step in walk(self.nests) if _reads(step, weight)]
        adjoint = product.right
        if len(readers) != 1 or readers[0] not in self.nests or name_of(adjoint) not in self.kept:
            return None
        reader = readers[0]
        if not isinstance(reader, Contract) or not self._along_rows(reader, product):
            return None
        alone = is_sample(adjoint.indices[0]) and all(map(is_sample, product.summed))
        elements = prod(size(index) for index in product.target.indices)
        sums = prod(length or 1 for length in self.kept[name_of(reader.target)])
        return reader if alone and elements >= OWNED * sums else None

    def _along_rows(self, reader: Contract, product: Contract) -> bool:
        """Tell whether a product reads a weight and inputs row by row, as its gradient does."""
        known = {*self.parameters.values()}
        source = name_of(reader.right)
        started = reader.start is None or name_of(reader.start) in known
        if not started or source not in self.data or source != name_of(product.left):
            return False
        terms, rows = reader.tiling.terms, product.tiling.rows
        moves = [(term.count, term.left, term.right) for term in terms]
        whole = reader.tiling.columns.count is None and not reader.tiling.loops
        return whole and moves == [(rows.count, rows.out, rows.left)]


def _reads(step: Step, name: str) -> bool:
    return any(access.name == name and not access.writes for access in step.accesses)


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
