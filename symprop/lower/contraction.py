"""Pass 4: sums of products of two tensors, as whole products.

They are made of register tiles (`tiles`), which may read affine subscripts. Of several that are
added, each goes on where another ends. In lanes tiles run along the samples; where a product sums
over the samples, one operand is copied with its axes exchanged first, or the lanes of each sum are
added up in the end, if there are few columns. In rows they run along a layer, or along a sum; there
a product may also be one of matrices (`matrices`), which is BLAS's business. Products under
conditions become such without (`guards`). How one of them is computed, and whether that pays, is
decided in `products`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import sympy
from sympy import Add, Basic, Expr, Idx, Indexed, Mul, Piecewise, Sum, Symbol

from symprop.indices import (
    bound_indices,
    free_indices,
    guarded,
    rebuild,
    size,
    substitute,
    summation,
    where,
)
from symprop.lower.guards import gathered, often, readable, spread
from symprop.lower.products import COLUMNS, Group, Products
from symprop.lower.steps import (
    Compute,
    Contract,
    Lane,
    Multiply,
    Step,
    Transpose,
    axis_lengths,
    element,
    extent,
    is_sample,
    name_of,
    renewed,
)
from symprop.lower.strategy import Strategy
from symprop.lower.tiles import contracted, started
from symprop.lower.vocabulary import new_name

__all__ = ["contract"]


def contract(
    steps: Iterable[Compute],
    shapes: Mapping[str, tuple[int, ...]],
    taken: set[str],
    strategy: Strategy,
) -> tuple[tuple[Step, ...], dict[str, tuple[int, ...]]]:
    """Return `steps` with large products as steps of their own.

    `shapes` gives the shape of every tensor of floating-point numbers, in rows without the
    sample axis; it is returned with the tensors that were added, whose names are
    added to `taken`.
    """
    pass_ = _Contraction(Products(dict(shapes), taken, strategy))
    for step in steps:
        pass_.add(step)
    return _column_sums(pass_), pass_.shapes


def _column_sums(pass_: _Contraction) -> tuple[Step, ...]:
    """Let sums over the samples of what has a transposed copy be products of the copy with 1.

    ``g[j] += d[j,s]`` would reduce a register for each j; ``d_T[s,j]`` is added up register by
    register. They come last, so nothing else may touch their target later.
    """
    steps = pass_.done
    copies = {name_of(s.source): s for s in steps if isinstance(s, Transpose) and s.batch == 1}
    kept: list[Step] = []
    moved: list[tuple[Compute, Transpose]] = []
    touched: set[str] = set()
    for step in reversed(steps):
        copy = None
        if isinstance(step, Compute) and _adds_rows(step) and name_of(step.target) not in touched:
            copy = copies.get(name_of(step.value))
        if isinstance(step, Compute) and copy is not None:
            moved.insert(0, (step, copy))
        else:
            kept.insert(0, step)
            touched |= {access.name for access in step.accesses}
    pass_.done = [Compute(pass_.one, sympy.S.One, ()), *kept] if moved else kept
    for step, copy in moved:
        pass_.add_rows(step, copy)
    return tuple(pass_.done)


def _touches(step: Step, name: str) -> bool:
    return any(access.name == name for access in step.accesses)


def _adds_rows(step: Compute) -> bool:
    """Tell whether a step is ``g[j] += d[j,s]``, summed over the samples."""
    if not step.accumulate or not isinstance(step.value, Indexed):
        return False
    if not isinstance(step.target, Indexed):
        return False
    *own, last = step.value.indices
    plain = isinstance(last, Lane) and extent(last) is None
    return plain and tuple(own) == tuple(step.target.indices) == step.loops[:-1]


@dataclass
class _Contraction:
    products: Products
    done: list[Step] = field(default_factory=list)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, with those that were added."""
        return self.products.shapes

    def add(self, step: Compute) -> None:
        """Append `step`, preceded by the products that are in it."""
        if step.accumulate:
            self._accumulated(step)
            return
        rest, filled = step.value, False
        for term in Add.make_args(step.value):
            product = self.products.product(step.target, term) if _alike(step, term) else None
            if product is None:
                continue
            rest -= term
            *before, whole = product
            self.done += before
            if not filled:  # in the memory of the result
                whole, rest = self._started(whole, rest)
                filled = True
            elif (continued := self._continued(step.target, whole)) is not None:
                whole = continued
            else:
                name = self.products.temporary(f"product_{name_of(step.target)}", _own(step.target))
                whole, rest = _into(whole, name), rest + element(name, _own(step.target))
            self.done.append(replace(whole, comment=step.comment))
        if not filled:
            self._rest(step, step.value)
        elif rest != 0:
            value = step.target + self._inside(rest, step)
            self.done.append(replace(step, value=value, comment=""))

    def _rest(self, step: Compute, value: Expr) -> None:
        """Append a step, preceded by the products inside its value, of which the first says why."""
        before = len(self.done)
        value = self._inside(value, step)
        comment = step.comment if len(self.done) == before else ""
        self.done.append(replace(step, value=value, comment=comment))

    def _started(self, product: Step, rest: Expr) -> tuple[Step, Expr]:
        """Let the sums of a product start from one of the terms to be added; return the others.

        What the tiles begin with takes no time; a loop after them would read the target again.
        """
        if isinstance(product, Contract):
            for term in Add.make_args(rest):
                if self.products.readable(term) and name_of(term) != name_of(product.target):
                    found = started(product, term, self.shapes)
                    if found is not None:
                        return found, rest - term
        return product, rest

    def _continued(self, target: Expr, product: Step) -> Step | None:
        """Let a product go on from what another step has put into the target; None if it cannot.

        Zeros are left out; else that step gets a memory of its own, which the tiles read as they
        begin.
        """
        name = name_of(target)
        places = reversed(range(len(self.done)))
        place = next((n for n in places if _touches(self.done[n], name)), -1)
        before = self.done[place] if place >= 0 else None
        if not self._whole(target) or not isinstance(before, Contract | Compute):
            return None
        if not self._fills(before, name):
            return None
        if isinstance(before, Compute) and before.value == 0:
            del self.done[place]
            return product
        if not isinstance(product, Contract):
            return None
        own = _own(product.target)
        memory = self.products.temporary(f"product_{name}", own)
        found = started(product, element(memory, own), self.shapes)
        if found is None:
            self.products.forget(memory)
            return None
        self.done[place] = _into(before, memory)
        return found

    def _fills(self, step: Contract | Compute, name: str) -> bool:
        """Tell whether a step sets every element of a tensor, whatever it was before."""
        sets = name_of(step.target) == name and self._whole(step.target)
        if isinstance(step, Contract):
            return sets
        return sets and not step.accumulate and set(_own(step.target)) == set(step.loops)

    def _whole(self, target: Expr) -> bool:
        """Tell whether the subscripts of a target are indices of the length of their axes."""
        own = _own(target)
        if not own or len(set(own)) < len(own):
            return False
        axes = zip(own, axis_lengths(target, self.shapes), strict=True)
        return all(extent(index) in (None, length) for index, length in axes)

    def _accumulated(self, step: Compute) -> None:
        """Take the products out of a sum over the samples, or into affine subscripts."""
        rest = []
        value, condition = guarded(step.value)
        for term in Add.make_args(value):
            number, bare = term.as_independent(Indexed, as_Add=False)
            part = replace(step, value=where(bare, condition))
            whole = self._summed(part)
            product = None if whole is None else self.products.product(whole.target, whole.value)
            if whole is not None and product is not None:
                self._add_product(whole, number, product)
            elif whole is None:
                if not self._spread(part, number):
                    rest.append(term)
            elif not (
                self._reordered(whole, number) or self._partly(step, number, bare, condition)
            ):
                rest.append(term)
        if rest:
            self._rest(step, where(Add(*rest), condition))

    def _summed(self, step: Compute) -> Compute | None:
        """Return a step that adds once to each element: all that it adds there, as one sum."""
        own = _own(step.target)
        if not own:
            return gathered(step, self.shapes)
        summed = tuple(index for index in step.loops if index not in own)
        if not summed:
            return None
        inner = bound_indices(step.value) if isinstance(step.value, Sum) else ()
        body = step.value.function if inner else step.value
        return replace(step, value=summation(body, (*inner, *summed)))

    def _add_product(self, step: Compute, number: Expr, product: list[Step]) -> None:
        """Append a product: into the target if it can go on there, else through its own memory."""
        name = name_of(step.target)
        continued = self._continued(step.target, product[-1]) if number == 1 else None
        if continued is not None:
            self.done += [*product[:-1], replace(continued, comment=step.comment)]
            return
        temporary = self.products.temporary(f"product_{name}", _own(step.target))
        product[-1] = _into(product[-1], temporary)
        self._add_temporary(step, number * element(temporary, _own(step.target)), product)

    def _add_temporary(self, step: Compute, value: Expr, product: list[Step]) -> None:
        """Append a product into a memory of its own, and what adds it to the target of a step."""
        self.done += [*product[:-1], replace(product[-1], comment=step.comment)]
        axes = dict.fromkeys(i for part in step.target.indices for i in free_indices(part))
        renamed = {index: renewed(index, self.products.strategy.block) for index in axes}
        target, value = substitute(step.target, renamed), substitute(value, renamed)
        self.done.append(Compute(target, value, tuple(renamed.values()), True))

    def _spread(self, step: Compute, number: Expr) -> bool:
        """Append a product that is added at subscripts that are not affine; False if it is none.

        It is added up where they would be, and from there to where they lead.
        """
        copy = spread(step.target, self.shapes, self.products.strategy.block)
        if copy is None:
            return False
        name = self.products.temporary(f"product_{copy.source}", copy.axes)
        whole = gathered(replace(step, target=element(name, copy.subscripts)), self.shapes)
        product = None if whole is None else self.products.product(whole.target, whole.value)
        if product is None:
            self.products.forget(name)
            return False
        target, condition = guarded(copy.value)
        value = where(number * element(name, copy.axes), condition)
        self._add_temporary(replace(step, target=target), value, product)
        return True

    def _partly(self, step: Compute, number: Expr, value: Expr, condition: Basic) -> bool:
        """Append a product of which only part is added to the target; False if there is none."""
        own = _own(step.target)
        if condition is sympy.true or not set(free_indices(condition)) <= set(own):
            return False
        if not often(condition) or not readable(value, self.shapes):
            return False
        whole = self._summed(replace(step, value=value))
        found = None if whole is None else self._apart(step, own, whole.value)
        if found is not None:
            self._add_temporary(step, where(number * found[0], condition), found[1])
        return found is not None

    def _reordered(self, step: Compute, number: Expr) -> bool:
        """Append a product with its axes in an order in which it is a tile; False if there is none.

        The gradient of ``w[o,c,p]`` has no columns along p if ``dy[o,i]`` is the operand that can
        be copied; as ``[c,p,o]`` it has. With fewer columns than lanes, as much is read as where
        the samples are the columns. In rows only ``dy[o]`` has columns.
        """
        own = _own(step.target)
        if not isinstance(step.value, Sum):
            return False
        columns = self.products.strategy.lanes or COLUMNS
        for factor in Mul.make_args(guarded(step.value.function)[0]):
            axes = factor.indices if isinstance(factor, Indexed) else ()
            last = tuple(i for i in axes if i in own and not is_sample(i))
            order = (*(index for index in own if index not in last), *last)
            if order == own or prod(map(size, last)) < columns:
                continue
            found = self._apart(step, order, step.value)
            if found is not None:
                self._add_temporary(step, number * found[0], found[1])
                return True
        return False

    def _inside(self, value: Expr, step: Compute) -> Expr:
        """Give every product inside `value` a tensor of its own; branches are left alone."""
        if not value.args or isinstance(value, Indexed | Symbol | Idx):
            return value
        if isinstance(value, Piecewise):
            return self._guarded(value, step)
        if isinstance(value, Sum):
            free = tuple(index for index in step.loops if index in free_indices(value))
            found = self._apart(step, free, value)
            if found is None:
                return value
            memory, product = found
            self.done += [*product[:-1], replace(product[-1], comment=step.comment)]
            return memory
        if bound_indices(value):
            return value
        return rebuild(value, (self._inside(part, step) for part in value.args))

    def _guarded(self, value: Piecewise, step: Compute) -> Expr:
        """Give a product a tensor also where only part of it is wanted, if it is much of it."""
        product, condition = guarded(value)
        if product is value or not often(condition) or not readable(product, self.shapes):
            return value
        inside = self._inside(product, step)
        return value if inside == product else where(inside, condition)

    def _apart(self, step: Compute, axes: Group, total: Expr) -> tuple[Expr, list[Step]] | None:
        """Return an element of a memory for a product, and its steps; None where it is none."""
        name = self.products.temporary(f"product_{name_of(step.target)}", axes)
        memory = element(name, axes)
        product = self.products.product(memory, total)
        if product is None:
            self.products.forget(name)
            return None
        return memory, product

    @cached_property
    def one(self) -> Indexed:
        """The left operand of a plain sum: a tensor that holds a 1."""
        name = new_name("one", self.products.taken)
        self.shapes[name] = (1,)
        return element(name, (sympy.S.Zero,))

    def add_rows(self, step: Compute, copy: Transpose) -> None:
        """Append the product that adds up the rows of a transposed copy."""
        *own, sample = step.value.indices
        right = element(name_of(copy.target), (sample, *own))
        found = contracted(step.target, self.one, right, (sample,), self.shapes)
        if found is None:
            raise TypeError(f"{step}: not a sum of rows")
        found = self.products.over(found, name_of(copy.target))
        self._add_product(step, sympy.S.One, [replace(found, reason="a sum over the samples")])


def _alike(step: Compute, term: Expr) -> bool:
    """Tell whether a term has the indices of the target, which are all loops of the step."""
    own = _own(step.target)
    return len(own) == len(step.loops) and set(own) <= set(free_indices(term))


def _own(target: Expr) -> Group:
    """Return the subscripts of a target where they are plain indices, else nothing."""
    subscripts = tuple(target.indices) if isinstance(target, Indexed) else ()
    return subscripts if all(isinstance(part, Idx) for part in subscripts) else ()


def _into(product: Step, name: str) -> Step:
    """Return a step whose result is called `name`."""
    if isinstance(product, Contract | Compute):
        return replace(product, target=element(name, tuple(product.target.indices)))
    if isinstance(product, Multiply):
        return replace(product, target=replace(product.target, name=name))
    raise TypeError(f"{type(product).__name__}: not a product")
