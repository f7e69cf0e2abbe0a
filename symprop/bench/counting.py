"""How much work a training step is, counted from its equations.

Every node of every equation is computed once for each value of its free indices, and once for each
sample of the batch where it reads one: a sum ``Sum(W[i,j]*x[i], i)`` over 64 inputs for 32
units and 32 samples is 64*32*32 multiplications and as many additions. Equal nodes count
once, whichever equations they stand in. Only what the loss and the gradients of the trainable
parameters need is counted; a gradient is also added up over the samples.

A **product** is a multiplication under a sum whose factors have different indices (a matrix
product, a convolution), or of factors of which none has all the indices (an outer product), with
the additions over it; other arithmetic is **elementwise**, a comparison, a division and a square
root one operation each. An exponential, logarithm, ... is a **transcendental**; an exponential
that several reductions share, such as that of ``softmax`` and ``logsumexp`` of the same values,
counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import sympy
from sympy import Add, Basic, Expr, Idx, Indexed, Mul, Piecewise, Pow, Rational, Sum, Symbol
from sympy.core.relational import Relational

from symprop.derivation import Derivation
from symprop.equation import Equation, name_of
from symprop.functions import Normalisation, Reduction, log_softmax, logsumexp
from symprop.indices import accesses, bound_indices, canonical, free_indices, size, summation
from symprop.optimizers import Optimizer

__all__ = ["Work", "count_step", "count_update", "floor_seconds", "needed"]

_COSTS = {
    "step": (0, 1), "relu": (0, 1), "leaky_relu": (0, 2), "elu": (1, 2), "sigmoid": (1, 2),
    "softplus": (2, 2), "silu": (1, 3), "normal_cdf": (1, 1), "gelu": (1, 2), "Abs": (0, 1),
    "sign": (0, 1), "floor": (0, 1), "ceiling": (0, 1), "Mod": (0, 2),
}  # fmt: skip
"""Transcendentals and other operations of a function; (1, 0) for those not named here."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one training step computes and moves, all samples of the batch together.

    `products` and `elementwise` are floating-point operations, `transcendentals` function
    values. `parameter_bytes` are the parameters and what the optimizer keeps of them, read and
    written once; `data_bytes` the inputs and targets, read once.
    """

    products: int = 0
    elementwise: int = 0
    transcendentals: int = 0
    parameter_bytes: int = 0
    data_bytes: int = 0

    @property
    def flops(self) -> int:
        """All floating-point operations."""
        return self.products + self.elementwise


def count_step(derivation: Derivation, optimizer: Optimizer, batch_size: int, dtype: str) -> Work:
    """Return the work of one step of `batch_size` samples with `optimizer`."""
    network = derivation.network
    adjoints = [derivation.adjoint_name(p.name) for p in network.parameters if p.trainable]
    equations = needed((*derivation.forward, *derivation.backward), adjoints)
    equations = tuple({**dict.fromkeys(needed(derivation.forward)), **dict.fromkeys(equations)})
    step = _Count(_Extents(derivation, equations, batch_size))
    for equation in equations:
        step.add(equation, gradient=equation.name in adjoints)
    weights = sum(prod(p.shape) for p in network.parameters if p.trainable)
    update = count_update(optimizer, weights)
    item = np.dtype(dtype).itemsize
    sample = sum(
        prod(v.shape) * (8 if v.name in network.index_inputs else item)
        for v in (*network.inputs, *network.targets)
    )
    return Work(
        step.products,
        step.elementwise + update.elementwise,
        step.transcendentals + update.transcendentals,
        2 * weights * (1 + len(optimizer.slots)) * item,
        batch_size * sample,
    )


def count_update(optimizer: Optimizer, weights: int) -> Work:
    """Return the work of one update of so many weights; what is equal for all counts nothing.

    >>> from symprop.optimizers import find
    >>> count_update(find("sgd"), 10).elementwise
    20
    """
    own = {"theta", "gradient", *optimizer.slots}
    count = _Count(lambda node: weights if own & {str(s) for s in node.free_symbols} else 0)
    for equation in optimizer.equations:
        count.visit(equation.rhs)
        count.seen.clear()  # a slot's name means its new value from here on
    return Work(elementwise=count.products + count.elementwise,
                transcendentals=count.transcendentals)  # fmt: skip


def needed(equations: Iterable[Equation], names: Iterable[str] = ()) -> tuple[Equation, ...]:
    """Return the equations that `names` need, in order; without names, the last one's.

    >>> x, y, z = sympy.symbols("x y z")
    >>> [str(e) for e in needed([Equation(y, x), Equation(z, x), Equation(x, 2 * z)])]
    ['z = x', 'x = 2*z']
    """
    listed = tuple(equations)
    wanted = set(names) or {listed[-1].name}
    kept = []
    for equation in reversed(listed):
        if equation.name in wanted:
            kept.append(equation)
            wanted |= {name_of(leaf) for leaf in _leaves(equation)}
    return tuple(reversed(kept))


def _leaves(equation: Equation) -> Iterator[Expr]:
    """Yield every variable that an equation reads, those in its subscripts too."""
    yield from accesses(equation.rhs)
    for subscript in equation.indices:
        yield from accesses(subscript)


class _Extents:
    """How often a node is computed: for all its free indices, and samples where it reads one."""

    def __init__(
        self, derivation: Derivation, equations: Iterable[Equation], batch_size: int
    ) -> None:
        network = derivation.network
        self.batch_size = batch_size
        self.batched = {v.name for v in (*network.inputs, *network.targets)}
        for equation in equations:
            if any(name_of(leaf) in self.batched for leaf in _leaves(equation)):
                self.batched.add(equation.name)

    def __call__(self, node: Basic) -> int:
        return self.within(node, ())

    def within(self, node: Basic, indices: Iterable[Idx]) -> int:
        """Return the extent of `node` over its own free indices and `indices`."""
        samples = self.batch_size if self.axes(node) - set(free_indices(node)) else 1
        return samples * prod(map(size, {*free_indices(node), *indices}))

    def axes(self, node: Basic) -> set[Any]:
        """Return the free indices of `node`, and the samples where it reads one."""
        reads = any(name_of(leaf) in self.batched for leaf in accesses(node))
        return {*free_indices(node), *(("samples",) if reads else ())}


class _Count:
    """The operations met so far."""

    def __init__(self, extent: Any) -> None:
        self.extent = extent
        self.products = 0
        self.elementwise = 0
        self.transcendentals = 0
        self.seen: set[Any] = set()
        self.contracted: set[Basic] = set()

    def add(self, equation: Equation, *, gradient: bool) -> None:
        """Count an equation; a `gradient` is added up over the samples, a scatter in its place."""
        self.visit(equation.rhs)
        if equation.accumulate:
            subscripts = [i for s in equation.indices for i in free_indices(s)]
            self.elementwise += self.extent.within(equation.rhs, subscripts)
        elif gradient and "samples" in self.extent.axes(equation.rhs):
            self._sum(equation.rhs, self.extent.within(equation.rhs, equation.indices))

    def visit(self, node: Basic) -> None:
        """Count `node` and what is below it, unless it was met before."""
        key = canonical(node)
        if not node.args or isinstance(node, Symbol | Indexed | Idx) or key in self.seen:
            return
        self.seen.add(key)
        if isinstance(node, Sum):
            self.contracted |= {canonical(part) for part in Add.make_args(node.function)}
        inner = node.args[:1] if bound_indices(node) else node.args
        for part in inner:
            self.visit(part)
        if isinstance(node, Piecewise):
            self._piecewise(node)
        elif isinstance(node, Sum):
            self._sum(node.function, self.extent.within(node.function, bound_indices(node)))
        elif isinstance(node, Reduction | Normalisation):
            self._reduction(node)
        elif isinstance(node, Mul):
            self._multiplication(node)
        else:
            self._function(node)

    def _piecewise(self, node: Piecewise) -> None:
        chosen = [pair for pair in node.args if accesses(pair.cond)]
        self.elementwise += len(chosen) * self.extent(node)

    def _sum(self, body: Expr, additions: int) -> None:
        if any(self._is_product(term) for term in Add.make_args(body)):
            self.products += additions
        else:
            self.elementwise += additions

    def _multiplication(self, node: Mul) -> None:
        factors = [part for part in node.args if part not in (sympy.S.NegativeOne, sympy.S.One)]
        once = sum(self.extent(part) == 0 for part in factors)  # multiplied beforehand
        count = (len(factors) - max(once, 1)) * self.extent(node)
        if self._is_product(node):
            self.products += count
        else:
            self.elementwise += count

    def _is_product(self, node: Expr) -> bool:
        """Tell whether a multiplication contracts or spans indices, the samples' among them."""
        if not isinstance(node, Mul) or not isinstance(self.extent, _Extents):
            return False
        whole = self.extent.axes(node)
        complete = [self.extent.axes(f) == whole for f in node.args if not f.is_number]
        return not any(complete) or (canonical(node) in self.contracted and not all(complete))

    def _reduction(self, node: Reduction | Normalisation) -> None:
        body, bound = node.body, bound_indices(node)
        every = self.extent.within(body, bound)
        if not isinstance(node, Normalisation | logsumexp):  # a maximum or minimum
            self.elementwise += every
            return
        shared = ("exponentials", canonical(summation(body, bound)))
        if shared not in self.seen:  # of the difference from the maximum, added up
            self.seen.add(shared)
            self.transcendentals += every
            self.elementwise += 3 * every
        if isinstance(node, Normalisation):
            self.elementwise += every
        if isinstance(node, logsumexp | log_softmax):
            self.transcendentals += self.extent.within(body, bound) // prod(map(size, bound))

    def _function(self, node: Basic) -> None:
        transcendentals, operations = _cost(node)
        extent = self.extent(node)
        self.transcendentals += transcendentals * extent
        self.elementwise += operations * extent


def _cost(node: Basic) -> tuple[int, int]:
    """Return the transcendentals and other operations of one value of a node."""
    if isinstance(node, Add | sympy.Max | sympy.Min):
        return 0, len(node.args) - 1
    if isinstance(node, Pow):
        return _power_cost(node.exp)
    if isinstance(node, Relational):
        return 0, 1 if accesses(node) else 0
    if isinstance(node, sympy.logic.boolalg.Boolean | sympy.Tuple) or not accesses(node):
        return 0, 0
    return _COSTS.get(type(node).__name__, (1, 0))


def _power_cost(exponent: Expr) -> tuple[int, int]:
    """Return the cost of a power; that of a reciprocal is the division it is part of."""
    if exponent.is_Integer:
        power = abs(int(exponent))
        return 0, power.bit_length() - 1 + power.bit_count() - 1
    if isinstance(exponent, Rational) and exponent.q == 2:
        return 0, 1 + _power_cost(sympy.Integer((abs(exponent.p) - 1) // 2 or 1))[1]
    return 2, 1


def floor_seconds(work: Work, machine: Mapping[str, float], threads: int = 1) -> float:
    """Return the time below which no step of this work gets on this machine.

    ``flops/peak + transcendentals*cost + bytes/bandwidth``, with the figures of
    `symprop.bench.machine` for one core and as many cores as threads: each kind of work at
    the speed it would have alone.
    """
    seconds = work.flops / (machine["peak"] * 1e9)
    seconds += work.transcendentals * machine["transcendental"] * 1e-9
    seconds += (work.parameter_bytes + work.data_bytes) / (machine["bandwidth"] * 1e9)
    return seconds / threads
