"""How one sum of products of two tensors is computed: in register tiles, by BLAS, or in loops.

Cost rule: a product costs a call and a few vectors of remainders whatever it computes, a plain
loop about one nanosecond for each multiply-add (a tenth where it is vectorised). So a product is
worth its call from `MINIMUM` multiply-adds on, counted for `NOMINAL_BATCH` samples in rows. In
lanes a tile whose operand is computed for it also needs rows, values that are read once and used
for several sums: without, one loop does as well. In rows it needs `COLUMNS`, so that there are
vectors. It reads weights for each sample: where these stay in no cache, a product of matrices is
left to BLAS, as it is where there are too few columns, but for small ones (`BLAS`). Measured with
networks of three to eight units and steps of 1, 4 and 32 samples: from 256 multiply-adds on,
instead of 2048, they take 0.5 to 1.04 of the time; with small products of matrices up to 8 times.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

from sympy import Basic, Expr, Idx, Indexed, Mul, Piecewise, Pow, Sum

from symprop.indices import accesses, bound_indices, free_indices, size, substitute
from symprop.lower.guards import Copied, bent, unguarded
from symprop.lower.matrices import matched
from symprop.lower.steps import (
    Compute,
    Contract,
    Step,
    Tiling,
    Transpose,
    element,
    extent,
    is_sample,
    name_of,
    renewed,
)
from symprop.lower.strategy import Strategy
from symprop.lower.tiles import contracted, dotted, transposable, transposed, transposed_axes
from symprop.lower.values import as_read
from symprop.lower.vocabulary import new_name

__all__ = [
    "BLAS",
    "COLUMNS",
    "MINIMUM",
    "NOMINAL_BATCH",
    "REUSED",
    "WEIGHTS",
    "Group",
    "Products",
    "counted",
]

MINIMUM = 256
"""The least number of multiply-adds for which a product is called."""

BLAS = 2048
"""The least number of multiply-adds for which a product of matrices is left to BLAS."""

COLUMNS = 4
"""The least number of columns of a tile in rows: the vector of the narrowest registers."""

REUSED = 4
"""How often one sample reads a weight of which a copy with exchanged axes is made in rows."""

WEIGHTS = 2**17
"""The greatest number of weights that tiles in rows read for each sample: they stay in a cache."""

NOMINAL_BATCH = 32
"""The number of samples for which multiply-adds are counted."""

Group = tuple[Idx, ...]
"""Some indices, in the order of the axes that they are for."""


def counted(index: Idx, strategy: Strategy) -> int:
    """Return how many values an index has where multiply-adds are counted."""
    samples = strategy.block if strategy.lanes else NOMINAL_BATCH
    return samples if is_sample(index) else extent(index) or samples


@dataclass
class Products:
    """Makes the steps of products; what they need beside their operands is added to `shapes`.

    `copies` and `zeroed` name the tensors that were made for a product and may serve another one.
    """

    shapes: dict[str, tuple[int, ...]]
    taken: set[str]
    strategy: Strategy
    copies: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)
    zeroed: dict[Basic, str] = field(default_factory=dict)

    def product(self, target: Expr, total: Expr) -> list[Step] | None:
        """Return the steps of a product, itself the last; None where it is none or small."""
        if not isinstance(total, Sum) or not isinstance(target, Indexed):
            return None
        summed = frozenset(bound_indices(total))
        factors = Mul.make_args(total.function)
        copies: dict[Basic, Compute] = {}
        conditional = total.function.has(Piecewise)
        if conditional or bent(total.function):
            found = unguarded(total.function, self.shapes, self.strategy.block)
            if found is not None:
                factors = tuple(self._read(factor, copies) for factor in found)
            elif conditional:
                return None
        product = None
        if len(factors) == 2 and all(map(self.readable, factors)):
            product = self._pair(target, factors[0], factors[1], summed)
        elif len(factors) > 1:
            product = self._grouped(target, factors, summed)
        names = {key: name_of(copy.target) for key, copy in copies.items()}
        if product is None:
            for name in names.values():
                self.forget(name)
            return None
        self.zeroed |= names
        return [*copies.values(), *product]

    def temporary(self, hint: str, indices: Group) -> str:
        """Return the name of a new tensor with an axis for each index."""
        name = new_name(hint.replace("/", "_"), self.taken)
        lengths = (extent(index) for index in indices)
        block = self.strategy.block if self.strategy.lanes else None
        self.shapes[name] = tuple(n for length in lengths if (n := length or block) is not None)
        return name

    def forget(self, name: str) -> None:
        """Take back a tensor that was added and is not needed."""
        self.taken.remove(name)
        del self.shapes[name]

    def over(self, contract: Contract, copy: str) -> Contract:
        """Let a product read whole vectors of a copy, which lies in the workspace."""
        count, lanes = contract.tiling.columns.count or 0, self.strategy.lanes
        over = name_of(contract.right) == copy and lanes > 0 and count % lanes > 0
        return replace(contract, tiling=replace(contract.tiling, over=over))

    def readable(self, factor: Expr) -> bool:
        """Tell whether a factor is an element of a tensor of numbers."""
        return isinstance(factor, Indexed) and name_of(factor) in self.shapes

    def _read(self, factor: Indexed | Copied, copies: dict[Basic, Compute]) -> Indexed:
        """Return a factor of a product; what it reads is in `copies` where it must be made."""
        if isinstance(factor, Indexed):
            return factor
        name = self.zeroed.get(factor.key)
        if name is None and factor.key in copies:
            name = name_of(copies[factor.key].target)
        if name is None:
            name = self.temporary(f"{factor.kind}_{factor.source}", factor.axes)
            copy = element(name, factor.axes)
            copies[factor.key] = Compute(copy, factor.value, factor.axes, comment=factor.reason)
        return element(name, factor.subscripts)

    def _pair(
        self, target: Indexed, first: Expr, second: Expr, summed: frozenset[Idx], rows: int = 1
    ) -> list[Step] | None:
        """Return the steps of a product of two tensors, in the form that the strategy allows.

        In lanes a tile has so many `rows` at least.
        """
        forced, lanes = self.strategy.products, self.strategy.lanes
        indices = {*target.indices, *free_indices(first), *free_indices(second)}
        work = prod(counted(index, self.strategy) for index in indices)
        if forced == "loops" or (forced == "model" and work < MINIMUM):
            return None
        tiles = None
        if lanes or forced != "blas":
            tiles = self._tiles(target, first, second, summed, work, rows)
        if lanes or forced == "tiles" or (tiles is not None and not self._streams(tiles[-1])):
            return tiles
        small = forced == "model" and work < BLAS
        found = None if small else matched(target, first, second, summed, self.shapes)
        return tiles if found is None else [found]

    def _tiles(
        self,
        target: Indexed,
        first: Expr,
        second: Expr,
        summed: frozenset[Idx],
        work: int,
        rows: int,
    ) -> list[Step] | None:
        """Return the steps of a product of register tiles; None where that reads too much."""
        forced = self.strategy.products == "tiles"
        order = tuple(sorted(summed, key=lambda index: _places(index, (first, second))))
        before: list[Transpose] = []
        found = contracted(target, first, second, order, self.shapes)
        if self.strategy.lanes:
            found = found or self._over_samples(target, first, second, order, before)
        elif found is None or not self._worth(found, rows):
            found = dotted(target, first, second, order, self.shapes) or found
            if found is None or not self._worth(found, rows):
                found = self._with_copy(target, first, second, order, before) or found
        if found is None or not (forced or self._worth(found, rows)):
            return None
        for step in before:
            self.copies[_plan(step.source, step.target)] = name_of(step.target)
        return [*before, replace(found, reason="forced" if forced else self._reason(work, found))]

    def _over_samples(
        self, target: Indexed, first: Expr, second: Expr, order: Group, before: list[Transpose]
    ) -> Contract | None:
        """Return the product that sums over the samples: along a copy, or lane by lane."""
        dots = dotted(target, first, second, order, self.shapes, lanes=True)
        copied = self._with_copy(target, first, second, order, before)
        if dots is None or (copied is not None and not self._narrow(copied.tiling)):
            return copied
        for step in before:
            self.forget(name_of(step.target))
        before.clear()
        return dots

    def _narrow(self, tiling: Tiling) -> bool:
        """Tell whether lane by lane such a product over the samples takes less than with columns.

        The lanes of a sum are added up in the end, which takes as long as two vectors of terms; of
        columns a register is filled at least by half. Measured with float32, the form that this
        chooses takes 0.2 (64 x 1, 32 samples) to 1.05 of the time of the other.
        """
        lanes, columns = self.strategy.lanes, tiling.columns.count or 1
        terms = self.strategy.block * prod(axis.count or 1 for axis in tiling.terms)
        half = lanes // 2
        return columns * (terms + 2 * lanes) < -(-columns // half) * half * terms

    def _reason(self, work: int, tile: Contract) -> str:
        enough = f"{work} multiply-adds >= {MINIMUM}"
        if self.strategy.lanes:
            return f"{enough}, {tile.tiling.rows.count} rows"
        return f"{enough} for {NOMINAL_BATCH} samples, {tile.tiling.columns.count} columns"

    def _worth(self, tile: Contract, rows: int) -> bool:
        """Tell whether a tile reads less than a loop does or, in rows, more at a time."""
        if self.strategy.lanes:
            return (tile.tiling.rows.count or 0) >= rows
        return (tile.tiling.columns.count or 0) >= COLUMNS

    def _streams(self, product: Step) -> bool:
        """Tell whether a tile in rows reads weights for each sample that stay in no cache."""
        read = product.read if isinstance(product, Contract) else ()
        weights = [leaf for leaf in read if not any(map(is_sample, leaf.indices))]
        return any(prod(self.shapes[name_of(leaf)]) > WEIGHTS for leaf in weights)

    def _with_copy(
        self, target: Indexed, first: Expr, second: Expr, order: Group, before: list[Transpose]
    ) -> Contract | None:
        """Return the product that reads one operand from a transposed copy; `before` makes it."""
        for left, right in ((first, second), (second, first)):
            group = transposable(target, right, self.shapes)
            if group is None or not set(group).isdisjoint(free_indices(left)):
                continue
            if not self.strategy.lanes and not self._reused(right, target, order):
                continue
            axes = transposed_axes(right, group)
            known = self.copies.get(_plan(right, element("", axes)))
            name = known or self.temporary(f"{name_of(right)}_T", axes)
            found = contracted(target, left, element(name, axes), order, self.shapes)
            if found is not None:
                before += [] if known else [transposed(right, group, name, self.shapes)]
                return self.over(found, name)
            if not known:
                self.forget(name)
        return None

    def _reused(self, weights: Indexed, target: Indexed, summed: Group) -> bool:
        """Tell whether a sample reads every weight so often that a copy of them is little work."""
        used = prod(size(i) for i in {*target.indices, *summed} if not is_sample(i))
        sampled = any(map(is_sample, weights.indices))
        return not sampled and used >= REUSED * prod(self.shapes[name_of(weights)])

    def _grouped(
        self, target: Indexed, factors: tuple[Expr, ...], summed: frozenset[Idx]
    ) -> list[Step] | None:
        """Compute all factors but one as a tensor first, where the rest is a product then."""
        for factor in factors:
            others = Mul(*(other for other in factors if other is not factor))
            if not self.readable(factor) or others.has(Sum, Piecewise) or not accesses(others):
                continue
            if isinstance(others, Pow) and others.exp.could_extract_minus_sign():
                continue  # a quotient is no product with the reciprocal: that may overflow
            free = set(free_indices(others))
            order = [index for index in target.indices if index in free]
            order += [index for index in as_read(others) if index in free - set(order)]
            # last in lanes, first in rows: where all tensors have the samples
            order.sort(key=lambda index: is_sample(index) == bool(self.strategy.lanes))
            if set(order) != free or not order:
                continue
            name = self.temporary(f"factor_{name_of(target)}", tuple(order))
            found = self._pair(target, factor, element(name, tuple(order)), summed, rows=2)
            if found is not None:
                return [self._composite(name, others, tuple(order)), *found]
            self.forget(name)
        return None

    def _composite(self, name: str, others: Expr, order: Group) -> Compute:
        renamed = {index: renewed(index, self.strategy.block) for index in order}
        loops = tuple(renamed.values())
        return Compute(element(name, loops), substitute(others, renamed), loops)


def _plan(source: Indexed, copy: Indexed) -> tuple[str, tuple[int, ...]]:
    """Return what tells a transposed copy from others: the tensor, and where each axis goes."""
    return name_of(source), tuple(source.indices.index(index) for index in copy.indices)


def _places(index: Idx, factors: tuple[Expr, ...]) -> tuple[int, ...]:
    """Return where each factor first has an index, so that sums run through memory in order."""
    return tuple(
        next((n for n, part in enumerate(factor.indices) if index in free_indices(part)), 99)
        for factor in factors
    )
