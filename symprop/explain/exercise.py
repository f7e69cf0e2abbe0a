"""Exercises: a network with fresh friendly numbers, a sheet to fill in and its answers.

A sheet is a description like any other. Its sample and parameters are new, with one or two
decimals, and it claims every value, every factor of the chain rule, every gradient and every
updated parameter, with nothing printed yet; `claims.check` reads what was filled in.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symprop.derivation import differentiate
from symprop.description.toml import dump
from symprop.errors import DataError
from symprop.explain.claims import shown
from symprop.explain.reckoning import Example
from symprop.explain.worked import work
from symprop.network import Claim, Data, Network, Parameter, Variable
from symprop.quantities import elements
from symprop.verification.precise import MP

__all__ = ["MOST_PARAMETERS", "answers", "exercise", "sheet"]

MOST_PARAMETERS = 100
"""How many weights and biases an exercise may have: it is done by hand."""

_DRAWS = 60
_CLEAR = 0.002
"""A gradient above it leaves three digits or more of the six decimals of an answer."""
_DECIMALS = Decimal("0.000001")
_SOLVED = "# One update of all parameters that are trainable, by the rule of [training]."
_TASK = """\
# Write each number between its quotes, with as many digits as you have worked out. The last
# part is one update, by the rule of [training]. Then run: symprop check FILE"""


def exercise(network: Network, seed: int = 0) -> Network:
    """Return `network` with a fresh sample and fresh parameters, and claims to be filled in.

    The numbers depend on `network` and `seed` only. They are drawn until no gradient of a
    trainable parameter is too small to be seen, in a saturated or inactive unit, if that can be
    had. Raises `DataError` for a network that is too large to be worked by hand.
    """
    count = sum(prod(parameter.shape) for parameter in network.parameters)
    if count > MOST_PARAMETERS:
        raise DataError(
            f"network {network.name!r} has {count:,} weights and biases, more than the "
            f"{MOST_PARAMETERS} of an exercise; take a smaller network"
        )
    draw = _clearest(network, random.Random(f"{network.fingerprint} {seed}"))
    fresh = copy.copy(network)
    fresh.parameters = tuple(
        replace(parameter, init=_nested(draw.parameters[parameter.name]))
        for parameter in network.parameters
    )
    fresh.data = Data({name: np.asarray(array)[None] for name, array in draw.sample.items()})
    fresh.claims = tuple(_claims(fresh))
    return fresh


def answers(network: Network) -> Network:
    """Return `network` with the right number in every claim, to six decimals or four digits."""
    example = Example(network)
    solved = copy.copy(network)
    solved.claims = tuple(_answered(claim, network, example) for claim in network.claims)
    return solved


def sheet(network: Network, seed: int = 0, solved: bool = False) -> str:
    """Return the sheet of an exercise as the text of a description, or its answers."""
    fresh = exercise(network, seed)
    title = f"# {network.name}, {'answers to ' if solved else ''}exercise {seed}"
    task = _SOLVED if solved else _TASK
    return f"{title}\n{task}\n\n{dump(answers(fresh) if solved else fresh)}"


@dataclass(frozen=True, slots=True)
class _Draw:
    """Fresh numbers: how many gradients are 0 or lost, and the smallest of the others."""

    sample: Mapping[str, Any]
    parameters: Mapping[str, Any]
    lost: int
    smallest: float


def _clearest(network: Network, source: random.Random) -> _Draw:
    """Draw until every gradient is clear; return the clearest draw otherwise."""
    derivation = differentiate(network)
    best: _Draw | None = None
    for _ in range(_DRAWS):
        sample = {v.name: _datum(network, v, source) for v in (*network.inputs, *network.targets)}
        parameters = {p.name: _weights(p, source) for p in network.parameters}
        worked = work(derivation, sample=sample, parameters=parameters)
        numbers = [abs(float(number)) for array in worked.arrays.values() for number in array.flat]
        if not np.isfinite(numbers).all():
            continue
        sizes = [
            abs(float(number))
            for parameter in network.parameters
            if parameter.trainable
            for number in worked.values(derivation.adjoint_name(parameter.name)).flat
        ]
        seen = [size for size in sizes if size]
        draw = _Draw(sample, parameters, len(sizes) - len(seen), min(seen, default=0.0))
        if best is None or (draw.lost, -draw.smallest) < (best.lost, -best.smallest):
            best = draw
        if not draw.lost and draw.smallest >= _CLEAR:
            return draw
    if best is None:
        raise DataError(
            f"network {network.name!r}: at none of {_DRAWS} samples with numbers between 0 and 1 "
            "do all equations have a value; an exercise cannot be made of it"
        )
    return best


def _friendly(source: random.Random) -> float:
    """Return one of 0.05, 0.1, ..., 0.95."""
    return source.randrange(1, 20) * 5 / 100


def _datum(network: Network, variable: Variable, source: random.Random) -> NDArray[Any]:
    """Return a fresh input or target of the kind that the network's own samples have."""
    shape, whole = variable.shape, network.index_inputs.get(variable.name)
    if whole:
        return np.array([source.randrange(whole) for _ in range(prod(shape))]).reshape(shape)
    known = np.asarray(network.data.samples.get(variable.name, 0.5), dtype=np.float64)
    if not np.isin(known, (0, 1)).all():
        return np.array([_friendly(source) for _ in range(prod(shape))]).reshape(shape)
    flat = [float(source.randrange(2)) for _ in range(prod(shape))]
    if shape and (known.reshape(len(known), -1).sum(axis=1) == 1).all():  # a class
        flat = [0.0] * prod(shape)
        flat[source.randrange(prod(shape))] = 1.0
    return np.array(flat).reshape(shape)


def _weights(parameter: Parameter, source: random.Random) -> NDArray[Any]:
    """Return fresh values with the signs of the parameter's own, where it has numbers."""
    init = None if isinstance(parameter.init, str) else parameter.init
    signs = np.sign(np.broadcast_to(np.asarray(init or 0, dtype=np.float64), parameter.shape))
    flat = [
        _friendly(source) * (sign or source.choice((1, 1, 1, -1)))
        for sign in signs.ravel().tolist()
    ]
    return np.array(flat).reshape(parameter.shape)


def _nested(array: NDArray[Any]) -> Any:
    return tuple(map(_nested, array)) if array.ndim else float(array)


def _claims(network: Network) -> Iterator[Claim]:
    """Yield what is to be worked out, in the order in which it can be."""
    example = Example(network)
    loss, definitions = example.loss, network.definitions
    for equation in network.equations:
        yield Claim(equation.name, _blank(equation.indices), "forward pass")
    for equation in reversed(definitions):
        name = equation.name
        for reader in reversed(example.readers(name, loss)):
            if reader != loss and not (equation.indices or example.shapes[reader]):
                yield Claim(f"d{reader}/d{name}", "", "backward pass, factor")
        if example.depends(loss, name):
            yield Claim(f"d{loss}/d{name}", _blank(equation.indices), "backward pass")
    trainable = [parameter for parameter in network.parameters if parameter.trainable]
    for parameter in trainable:
        yield Claim(f"d{loss}/d{parameter.name}", _blank(parameter.indices), "gradient")
    for parameter in trainable:
        yield Claim(f"{parameter.name}'", _blank(parameter.indices), "update")


def _blank(indices: tuple[Any, ...]) -> Any:
    if not indices:
        return ""
    return (_blank(indices[1:]),) * (int(indices[0].upper) + 1)


def _answered(claim: Claim, network: Network, example: Example) -> Claim:
    texts = iter([_answer(example.exact(quantity)) for quantity, _ in elements(claim, network)])

    def fill(printed: Any) -> Any:
        return tuple(map(fill, printed)) if isinstance(printed, tuple) else next(texts)

    return replace(claim, printed=fill(claim.printed))


def _answer(value: Any) -> str:
    """Return a number with six decimals, or with four digits where those would be fewer."""
    if not value or abs(value) >= 0.001:
        return shown(value, _DECIMALS)
    return shown(value, Decimal(1).scaleb(int(MP.floor(MP.log10(abs(value)))) - 3))
