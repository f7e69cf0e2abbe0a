"""Pass 7: which weights the training updates part by part.

A large weight's gradient leaves the caches before the update reads it. Where it is one product
and nothing else, the training can do without all of it: it computes some rows, applies the update
to them, and writes the next ones to the same place, or, of one sample, element by element. So that
product is the last of a kernel, which leaves it out unless it is asked for whole gradients.

In lanes it is done for threads. Those that share the samples of a step exchange the gradients and
the new values of all weights, which takes longer than to compute them where a weight is large and
the samples are few. Of a weight that only multiplies inputs, which every thread can read, each has
rows of its own instead: their sums of all samples, or what they contribute to these, it computes
before the kernel, and their gradient and update after it. So the product that reads the weight is
the first of a kernel, which leaves it out, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from sympy import Indexed

from symprop.indices import size
from symprop.lower.program import Deferred
from symprop.lower.schedule import Nest, walk
from symprop.lower.steps import Contract, Step, Transpose, extent, is_sample, name_of
from symprop.lower.strategy import LARGE, OWN, OWNED, PART, Strategy

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
        found = [part for product in able if (part := owned.part(product))]
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

    def part(self, product: Contract) -> Deferred | None:
        """Return what threads do with the weight of which `product` is the gradient.

        None where it is not read by one product with inputs, or where threads would exchange about
        as much: sums of its rows, or of their products, and the adjoints of these.
        """
        reader = self._only(self.parameters[name_of(product.target)])
        alone = all(map(is_sample, product.summed)) and len(product.tiling.terms) == 1
        if not isinstance(reader, Contract) or not alone or not self._whole(reader):
            return None
        sums = self.kept[name_of(reader.target)]
        elements = prod(size(index) for index in product.target.indices)
        if elements < OWNED * prod(length or 1 for length in sums):
            return None
        copy = self._copy(product.right, reader.right)
        rows = _rows(product)
        if copy and self._sums(reader, product):
            return Deferred(product, rows, max(1, OWN // rows) * rows, reader, copy)
        if self._terms(reader, product) and is_sample(product.right.indices[0]):
            return Deferred(product, rows, rows, reader)
        return None

    def _only(self, name: str) -> Nest | Step | None:
        """Return what reads a tensor, if nothing else does and no loop is around it."""
        found = [step for _, step in walk(self.nests) if _reads(step, name)]
        return found[0] if len(found) == 1 and found[0] in self.nests else None

    def _whole(self, reader: Contract) -> bool:
        """Tell whether a product reads inputs and gives sums for all lanes, each row by itself."""
        sums, known = self.kept.get(name_of(reader.target)), {*self.parameters.values()}
        started = reader.start is None or name_of(reader.start) in known
        if not sums or not started or name_of(reader.right) not in self.data:
            return False
        tiling, (*rows, block) = reader.tiling, sums
        along = (tiling.rows.count, tiling.rows.out) == (prod(n or 1 for n in rows), block)
        return along and tiling.columns.count is None and not tiling.loops

    def _copy(self, leaf: Indexed, source: Indexed) -> Transpose | None:
        """Return the step that copies inputs to a tensor, if there is one."""
        names = name_of(leaf), name_of(source)
        steps = (step for step in self.nests if isinstance(step, Transpose))
        found = (s for s in steps if (name_of(s.target), name_of(s.source)) == names)
        return next(found, None)

    def _sums(self, reader: Contract, product: Contract) -> bool:
        """Tell whether each row of a weight gives a sum of its own."""
        sums, rows = reader.tiling.rows, product.tiling.rows
        adjoint = self.kept.get(name_of(product.left), ())
        same = (sums.count, sums.left, sums.out) == (rows.count, rows.out, rows.left)
        return same and adjoint == self.kept[name_of(reader.target)]

    def _terms(self, reader: Contract, product: Contract) -> bool:
        """Tell whether each row of a weight gives a term of all sums, and inputs one factor."""
        rows, read = product.tiling.rows, name_of(product.left) == name_of(reader.right)
        terms = [(term.count, term.left, term.right) for term in reader.tiling.terms]
        adjoint = name_of(product.right) in self.kept
        return read and adjoint and terms == [(rows.count, rows.out, rows.left)]


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
