"""Lowering: from the equations of a derivation to the loops of its kernels.

One idea a pass, one file a pass; each takes what the one before it gives:

    equations  --live-->         those that a kernel needs
               --expand-->       stable reductions written out
               --share-->        every value computed once
               --batch-->        steps, with the sample as an index
               --contract-->     large products as steps of their own
               --look up-->      rows of tables that the data choose (in lanes only)
               --accumulate-->   reductions as steps (in lanes only)
               --schedule-->     loops that are shared
               --localise-->     values that need no memory
               --defer-->        large weights that are updated part by part
               --place-->        one workspace for the others
               --statements-->   assignments, loops and branches
               --unroll-->       assignments alone (training steps of tiny networks)

What is chosen on the way (layout, block size, form of the products) is a `Strategy`, by the cost
model of `strategy`. The result, `Program`, is frozen and prints as pseudo-code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

from sympy.core.parameters import distribute

from symprop.indices import index_name, size
from symprop.lower.accumulate import accumulate
from symprop.lower.batch import batch
from symprop.lower.contraction import contract
from symprop.lower.expand import expand
from symprop.lower.initial import initial_value
from symprop.lower.lookups import look_up
from symprop.lower.memory import place
from symprop.lower.parts import defer
from symprop.lower.program import Branch, Kernel, Program, Statement
from symprop.lower.schedule import Nest, schedule
from symprop.lower.share import live, share
from symprop.lower.statements import statements
from symprop.lower.steps import WHOLE, Compute, Lane, Step
from symprop.lower.storage import localise
from symprop.lower.strategy import Layout, Products, Strategy, choose, few
from symprop.lower.tables import Table, tabulated
from symprop.lower.unroll import unroll
from symprop.lower.values import Values
from symprop.lower.vocabulary import Derived, Vocabulary, vocabulary
from symprop.network import Equation, Network, Variable

__all__ = ["Kernel", "Program", "Strategy", "lower"]


def lower(
    derivation: Derived,
    dtype: str = "float64",
    *,
    layout: Layout = "model",
    products: Products = "model",
) -> Program:
    """Return the kernels of `derivation` for numbers of type `dtype`.

    `layout` and `products` other than "model" overrule the cost model, for comparisons. Raises
    `LoweringError` where an equation has no form that a kernel can compute.
    """
    network = derivation.network
    words = vocabulary(derivation)
    batch_size = network.training.batch_size
    weights = sum(prod(parameter.shape) for parameter in network.parameters)
    strategy = choose(batch_size, _width(derivation), weights, dtype, layout, products)
    equations = (*derivation.forward, *derivation.backward)
    tables: tuple[Table, ...] = ()
    with distribute(False):  # keep 2*(y - t), which SymPy would write 2*y - 2*t
        if not strategy.scalars:  # else there is no memory, and all indices are numbers
            equations, tables = tabulated(equations, words.taken)
            words = words.with_tensors({table.name: table.indices for table in tables})
        requests = _requests(words, network, strategy)
        kernels = {
            request.name: _kernel(request, equations, words, network) for request in requests
        }
        gradient = kernels["gradient"]
        straight = unroll(gradient, words, network.parameters) if strategy.scalars else None
    return Program(
        forward=kernels["forward"],
        loss=kernels["loss"],
        gradient=gradient,
        strategy=strategy,
        identifiers=words.identifiers,
        taken=words.taken | (straight.names if straight else frozenset()),
        loss_sum=words.loss_sum,
        initial=tuple(initial_value(p, derivation.forward) for p in network.parameters),
        few=kernels.get("few"),
        straight=straight,
        tables=tables,
    )


def _width(derivation: Derived) -> int:
    """Return how many numbers one sample has at a time: adjoints take the place of values."""
    network = derivation.network
    given = sum(prod(v.shape) for v in (*network.inputs, *network.targets))
    return given + sum(prod(map(size, e.indices)) for e in derivation.forward)


@dataclass(frozen=True, slots=True)
class _Request:
    """A kernel that is wanted: how, what it is given, what it fills, which values it needs."""

    name: str
    strategy: Strategy
    data: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    wanted: tuple[str, ...]


def _requests(words: Vocabulary, network: Network, strategy: Strategy) -> tuple[_Request, ...]:
    outputs = tuple(map(network.variable, network.outputs))
    data = (*network.inputs, *network.targets)
    gradients = map(words.adjoint, words.parameters)
    forward = _Request("forward", strategy, network.inputs, outputs, network.outputs)
    beside = replace(forward, name="few", strategy=few(strategy))
    return (
        forward,
        *([beside] if strategy.lanes and outputs else []),
        _Request("loss", strategy, data, (), (words.loss,)),
        _Request("gradient", strategy, data, (), (words.loss, *gradients)),
    )


def _kernel(
    request: _Request, equations: tuple[Equation, ...], words: Vocabulary, network: Network
) -> Kernel:
    """Run the passes on the equations that a kernel needs."""
    strategy = request.strategy
    needed = live(equations, request.wanted)
    equations = live(_shared(needed, words), request.wanted)
    outside = {variable.name for variable in request.outputs}
    lanes = strategy.block if strategy.lanes else 0
    batched = batch(equations, words, outside, lanes)
    shapes = _shapes(equations, batched, words, lanes)
    taken = {*words.taken, *shapes}
    steps, shapes = contract(batched, shapes, taken, strategy)
    if lanes:
        steps, shapes = look_up(steps, shapes, taken, lanes)
        steps, shapes = accumulate(steps, shapes, taken, lanes)
    outside |= {words.adjoint(name) for name in words.parameters if words.indices[name]}
    nests, kept = localise(schedule(steps), shapes, outside)
    return _written(request, nests, kept, words, network)


def _written(
    request: _Request,
    nests: tuple[Nest | Step, ...],
    kept: Mapping[str, tuple[int | None, ...]],
    words: Vocabulary,
    network: Network,
) -> Kernel:
    """Return a kernel as statements, its values in their places."""
    strategy = request.strategy
    gradients = map(words.adjoint, words.parameters)
    shapes = {name: tuple(map(size, words.indices[name])) for name in gradients}
    weights = {words.adjoint(name): name for name in words.parameters}
    data = [variable.name for variable in request.data]
    batch_size = network.training.batch_size
    rest, deferred = defer(nests, shapes, weights, kept, data, strategy, batch_size)
    before = [part.reader for part in deferred if part.reader]
    after = [part.product for part in deferred]
    workspace, total = place(kept, (*before, *rest, *after), strategy.block, strategy.lanes)
    taken = {words.identifiers.get(name, name) for name in (*words.taken, *kept)}
    taken -= {words.sample, *map(index_name, network.indices)}
    first, middle, last = (
        statements(steps, taken, words.sample) for steps in (before, rest, after)
    )
    body = (*_when_whole(first), *middle, *_when_whole(last))
    variables = request.data, request.outputs
    return Kernel(request.name, strategy, *variables, workspace, total, body, deferred)


def _when_whole(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Return statements under the condition that whole gradients are wanted."""
    return (Branch(((WHOLE, body),)),) if body else ()


def _shapes(
    equations: Iterable[Equation], steps: Iterable[Compute], words: Vocabulary, lanes: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of numbers, with the samples where they are an axis."""
    shapes = {equation.name: _shape(equation) for equation in equations}
    shapes |= {name: tuple(map(size, found)) for name, found in words.indices.items()}
    shapes = {name: shape for name, shape in shapes.items() if name not in words.integers}
    accesses = (access for step in steps for access in step.accesses)
    sampled = {a.name for a in accesses if a.subscripts and isinstance(a.subscripts[-1], Lane)}
    return {n: (*shape, lanes) if n in sampled else shape for n, shape in shapes.items()}


def _shared(equations: tuple[Equation, ...], words: Vocabulary) -> tuple[Equation, ...]:
    expanded = Values({*words.taken}, {*words.data}, words.adjoints)
    expand(equations, expanded)
    shared = Values(expanded.taken, {*words.data}, words.adjoints)
    share(tuple(expanded.equations), shared)
    return tuple(shared.equations)


def _shape(equation: Equation) -> tuple[int, ...]:
    return tuple(map(size, equation.indices)) if not equation.accumulate else ()
