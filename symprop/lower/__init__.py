"""Lowering: from the equations of a derivation to the loops of its kernels.

One idea a pass, one file a pass; each takes what the one before it gives:

    equations  --live-->         those that a kernel needs
               --expand-->       stable reductions written out
               --share-->        every value computed once
               --batch-->        steps, with the sample as an index
               --contract-->     large matrix products as steps of their own
               --schedule-->     loops that are shared
               --localise-->     values that need no memory
               --statements-->   assignments, loops and branches

The result, `Program`, is frozen and prints as pseudo-code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from sympy.core.parameters import distribute

from symprop.indices import index_name, size
from symprop.lower.batch import batch
from symprop.lower.contraction import contract
from symprop.lower.expand import expand
from symprop.lower.initial import initial_value
from symprop.lower.program import Kernel, Program, Step
from symprop.lower.schedule import Nest, schedule
from symprop.lower.share import live, share
from symprop.lower.statements import statements
from symprop.lower.storage import block_size, localise, place
from symprop.lower.values import Values
from symprop.lower.vocabulary import Derived, Vocabulary, vocabulary
from symprop.network import Equation, Network, Variable

__all__ = ["Kernel", "Program", "lower"]

_ITEMSIZES = {"float64": 8, "float32": 4}


def lower(derivation: Derived, dtype: str = "float64") -> Program:
    """Return the kernels of `derivation` for numbers of type `dtype`.

    Raises `LoweringError` where an equation has no form that a kernel can compute.
    """
    network = derivation.network
    words = vocabulary(derivation)
    with distribute(False):  # keep 2*(y - t), which SymPy would write 2*y - 2*t
        plans = tuple(_planned(request, derivation, words) for request in _requests(words, network))
        block = _block(network, plans, _ITEMSIZES[dtype])
        forward, loss, gradient = (_kernel(plan, words, network, block) for plan in plans)
    initial = tuple(initial_value(p, derivation.forward) for p in network.parameters)
    return Program(
        forward, loss, gradient, block, words.identifiers, words.taken, words.loss_sum, initial
    )


@dataclass(frozen=True, slots=True)
class _Request:
    """A kernel that is wanted: what it is given, what it fills, which values it needs."""

    name: str
    data: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A kernel but for its block size; `kept` are the axes of the values that need memory."""

    request: _Request
    nests: tuple[Nest | Step, ...]
    kept: Mapping[str, tuple[int | None, ...]]


def _requests(words: Vocabulary, network: Network) -> tuple[_Request, ...]:
    outputs = tuple(map(network.variable, network.outputs))
    data = (*network.inputs, *network.targets)
    gradients = map(words.adjoint, words.parameters)
    return (
        _Request("forward", network.inputs, outputs, network.outputs),
        _Request("loss", data, (), (words.loss,)),
        _Request("gradient", data, (), (words.loss, *gradients)),
    )


def _planned(request: _Request, derivation: Derived, words: Vocabulary) -> _Plan:
    """Run the passes on the equations that a kernel needs."""
    needed = live((*derivation.forward, *derivation.backward), request.wanted)
    equations = live(_shared(needed, words), request.wanted)
    shapes = {equation.name: _shape(equation) for equation in equations}
    shapes |= {name: tuple(map(size, found)) for name, found in words.indices.items()}
    floats = {name: shape for name, shape in shapes.items() if name not in words.integers}
    outside = {variable.name for variable in request.outputs}
    steps, shapes = contract(batch(equations, words, outside), floats, {*words.taken, *shapes})
    outside |= {words.adjoint(name) for name in words.parameters if words.indices[name]}
    return _Plan(request, *localise(schedule(steps), shapes, outside))


def _shared(equations: tuple[Equation, ...], words: Vocabulary) -> tuple[Equation, ...]:
    expanded = Values({*words.taken}, {*words.data}, words.adjoints)
    expand(equations, expanded)
    shared = Values(expanded.taken, {*words.data}, words.adjoints)
    share(tuple(expanded.equations), shared)
    return tuple(shared.equations)


def _shape(equation: Equation) -> tuple[int, ...]:
    return tuple(map(size, equation.indices)) if not equation.accumulate else ()


def _block(network: Network, plans: Iterable[_Plan], itemsize: int) -> int:
    """Return the block size at which the arrays of the largest kernel stay in the cache."""
    given = [prod(v.shape) for v in (*network.inputs, *network.targets)]
    widths = (
        [prod(length for length in kept if length) for kept in plan.kept.values() if None in kept]
        for plan in plans
    )
    return block_size([*given, *max(widths, key=sum)], itemsize)


def _kernel(plan: _Plan, words: Vocabulary, network: Network, block: int) -> Kernel:
    workspace, total = place(plan.kept, block)
    taken = {words.identifiers.get(name, name) for name in (*words.taken, *plan.kept)}
    taken -= {words.sample, *map(index_name, network.indices)}
    body = statements(plan.nests, taken, words.sample)
    request = plan.request
    return Kernel(request.name, request.data, request.outputs, workspace, total, body)
