"""The language of claims: which quantity of a worked example a printed number is meant for.

A quantity is written like the formulas that symprop prints, and never evaluated as code:

- ``H1out``, ``a1[0]``: a value, an input, a target, a parameter or the loss;
- ``dE/dw5``, ``dL/dW2[0,1]``, ``dy1out/dy1``: the derivative of a number by another, with
  everything between them taken along. By a value: as if that value could be chosen freely;
- ``w5'``: a parameter after one update more than the claim's `after` says;
- ``a1``, ``dL/dW2``: all elements of a tensor, the printed numbers in nested lists.

A printed number is the string in the document, for its digits count: 0.0820 is not 0.082.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from symprop.errors import DescriptionError, nearest
from symprop.network import Claim, Network

__all__ = ["MOST_UPDATES", "Element", "Printed", "Quantity", "elements"]

MOST_UPDATES = 1_000
"""The largest `after` of a claim: every update before it is worked to 60 digits."""

_ELEMENT = r"([A-Za-z][A-Za-z0-9_]*)\s*(?:\[\s*([0-9]{1,9}(?:\s*,\s*[0-9]{1,9})*)\s*\])?"
_VALUE = re.compile(rf"\s*{_ELEMENT}\s*('{{0,9}})\s*")
_DERIVATIVE = re.compile(rf"\s*d{_ELEMENT}\s*/\s*d{_ELEMENT}\s*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|(\.[0-9]+))(?:[eE]([+-]?[0-9]{1,3}))?")
_LONGEST = 60
_MOST_ELEMENTS = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """A scalar, or the element of a tensor at `place`.

    >>> print(Element("W2", (0, 1)))
    W2[0,1]
    """

    name: str
    place: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the element as it is written in a claim."""
        return f"{self.name}[{','.join(map(str, self.place))}]" if self.place else self.name


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a worked example, after a number of updates.

    That is the value of `top`, or its derivative by `by`.
    """

    top: Element
    by: Element | None = None
    after: int = 0

    def __str__(self) -> str:
        """Return the quantity as it is written in a claim, without the updates."""
        return f"d{self.top}/d{self.by}" if self.by else str(self.top)


@dataclass(frozen=True)
class Printed:
    """A number as it is printed; raise `DescriptionError` where `text` is none.

    >>> number = Printed("-0.0820")
    >>> number.value, number.unit
    (Decimal('-0.0820'), Decimal('0.0001'))
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > _LONGEST or not _NUMBER.fullmatch(self._plain):
            shown = repr(self.text[:_LONGEST])
            raise DescriptionError(
                f"printed is {shown}, expected a number as the document prints it, "
                'such as "0.0820", or "" where it is still to be filled in'
            )

    @property
    def _plain(self) -> str:
        return self.text.strip().replace("\N{MINUS SIGN}", "-")

    @cached_property
    def value(self) -> Decimal:
        """The number."""
        return Decimal(self._plain)

    @cached_property
    def unit(self) -> Decimal:
        """One unit of the last printed digit."""
        return Decimal((0, (1,), int(self.value.as_tuple().exponent)))

    @property
    def digits(self) -> int:
        """How many digits are printed from the first that is not 0."""
        return len(self.value.as_tuple().digits) if self.value else 0

    @property
    def negative(self) -> bool:
        """Whether a minus is printed, as in -0.0000."""
        return self._plain.startswith("-")


def elements(claim: Claim, network: Network) -> tuple[tuple[Quantity, Printed | None], ...]:
    """Return what `claim` says: each number it is about, and the number printed for it.

    None stands for a number still to be filled in. Raises `DescriptionError` where the
    quantity is none of the network's, or the printed numbers do not fit it.

    >>> net = Network("line")
    >>> x, w = net.input("x"), net.parameter("w", init=2)
    >>> net.loss(w * x, name="E")
    >>> [(quantity, number)] = elements(Claim("dE/dw", "0.50"), net)
    >>> print(quantity, number.value)
    dE/dw 0.50
    """
    if not 0 <= claim.after <= MOST_UPDATES:
        raise DescriptionError(
            f"after is {claim.after}, expected a number of updates from 0 to {MOST_UPDATES:,}"
        )
    derivative = _DERIVATIVE.fullmatch(claim.quantity)
    value = _VALUE.fullmatch(claim.quantity)
    if derivative:
        top, by = _element(network, *derivative.group(1, 2)), derivative.group(3, 4)
        if len(top) > 1:
            raise DescriptionError(
                f"the derivative of a tensor: write which element, d{top[0]}/d{by[0]}"
            )
        quantities = [Quantity(top[0], e, claim.after) for e in _element(network, *by)]
    elif value:
        updates = claim.after + len(value[3])
        if value[3] and value[1] not in {parameter.name for parameter in network.parameters}:
            raise DescriptionError(f"{value[1]!r} is no parameter, so it has no updated value")
        quantities = [Quantity(e, None, updates) for e in _element(network, *value.group(1, 2))]
    else:
        raise DescriptionError(
            "expected a name, an element, a derivative or an updated parameter: "
            "h1out, a1[0], dE/dw5, w5'"
        )
    return tuple(zip(quantities, _numbers(claim.printed, _shape(quantities)), strict=True))


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    shapes = {variable.name: variable.shape for variable in network.variables}
    return shapes if network.objective is None else {**shapes, network.objective.name: ()}


def _element(network: Network, name: str, inside: str | None) -> list[Element]:
    """Return the element that is named, or all of a tensor."""
    shapes = _shapes(network)
    if name not in shapes:
        raise DescriptionError(f"unknown name {name!r}{nearest(name, shapes)}")
    shape = shapes[name]
    if inside is None:
        if prod(shape) > _MOST_ELEMENTS:
            raise DescriptionError(f"{name} has {prod(shape):,} elements; write which one")
        return [Element(name, place) for place in product(*map(range, shape))]
    place = tuple(map(int, inside.split(",")))
    fits = len(place) == len(shape) and all(a < n for a, n in zip(place, shape, strict=True))
    if not fits:
        raise DescriptionError(
            f"{Element(name, place)} is no element: {name} has the shape {shape}"
            if shape
            else f"{name} is a number; write it without subscripts"
        )
    return [Element(name, place)]


def _shape(quantities: list[Quantity]) -> tuple[int, ...]:
    """Return the shape of the nested lists in which the quantities are printed."""
    if len(quantities) == 1:
        return ()
    last = quantities[-1]
    return tuple(place + 1 for place in (last.by or last.top).place)


def _numbers(printed: Any, shape: tuple[int, ...]) -> Iterator[Printed | None]:
    """Return the printed numbers in order; raise where they are not nested as `shape` is."""
    if not shape and isinstance(printed, tuple) and len(printed) == 1:
        (printed,) = printed  # a tensor of one element is printed in brackets, too
    if not shape:
        if isinstance(printed, tuple):
            raise DescriptionError("printed is a list, expected one number")
        yield Printed(printed) if printed.strip() else None
        return
    if not isinstance(printed, tuple) or len(printed) != shape[0]:
        got = f"a list of {len(printed)}" if isinstance(printed, tuple) else "one number"
        raise DescriptionError(f"printed is {got}, expected a list of {shape[0]}")
    for part in printed:
        yield from _numbers(part, shape[1:])
