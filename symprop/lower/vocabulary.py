"""Every name of a network, and those that its kernels add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from sympy import Idx

from symprop.indices import numbered
from symprop.lower.steps import LANES, SAMPLES, WHOLE
from symprop.network import RESERVED, Equation, Network

__all__ = ["Derived", "Vocabulary", "new_name", "vocabulary"]


class Derived(Protocol):
    """What lowering reads of a `Derivation`."""

    @property
    def network(self) -> Network:
        """The network."""

    @property
    def forward(self) -> tuple[Equation, ...]:
        """The equations of the values, the loss last."""

    @property
    def backward(self) -> tuple[Equation, ...]:
        """The equations of the adjoints, named ``dL/dname``."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the passes know of a network's names.

    `data` holds the inputs and targets, `integers` those inputs that are subscripts,
    `parameters` the parameters; `adjoints` gives the variable of each adjoint,
    `indices` the indices of every variable and adjoint. `identifiers` gives the
    Python names; `taken` holds all names in use.
    """

    loss: str
    data: frozenset[str]
    integers: frozenset[str]
    parameters: tuple[str, ...]
    adjoints: Mapping[str, str]
    indices: Mapping[str, tuple[Idx, ...]]
    identifiers: Mapping[str, str]
    taken: frozenset[str]
    sample: str
    loss_sum: str

    def with_tensors(self, indices: Mapping[str, tuple[Idx, ...]]) -> Vocabulary:
        """Return the names with those of more tensors, whose indices are given."""
        return replace(self, indices={**self.indices, **indices}, taken=self.taken | {*indices})

    def adjoint(self, name: str) -> str:
        """Return the name of the adjoint of `name`."""
        return f"d{self.loss}/d{name}"


def vocabulary(derivation: Derived) -> Vocabulary:
    """Return the names of `derivation` and of its kernels, none of them used twice."""
    network = derivation.network
    loss = derivation.forward[-1].name
    given = (*network.inputs, *network.targets, *network.parameters)
    indices = {v.name: v.indices for v in given}
    indices |= {equation.name: equation.indices for equation in derivation.forward}
    parameters = tuple(parameter.name for parameter in network.parameters)
    taken = {*network.names, *indices, *RESERVED}
    identifiers = {name: name for name in indices}
    adjoints = {f"d{loss}/d{name}": name for name in indices}
    for adjoint, name in adjoints.items():
        identifiers[adjoint] = new_name(f"{'g' if name in parameters else 'd'}_{name}", taken)
    identifiers[str(SAMPLES)] = new_name("samples", taken)
    identifiers[str(LANES)] = new_name("lanes", taken)
    identifiers[str(WHOLE)] = new_name("whole", taken)
    return Vocabulary(
        loss=loss,
        data=frozenset(variable.name for variable in (*network.inputs, *network.targets)),
        integers=frozenset(network.index_inputs),
        parameters=parameters,
        adjoints=adjoints,
        indices=indices | {adjoint: indices[name] for adjoint, name in adjoints.items()},
        identifiers=identifiers,
        loss_sum=new_name("loss_sum", taken),
        sample="s" if "s" not in taken else new_name("sample", taken),
        taken=frozenset(taken),
    )


def new_name(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, or it with a number where it is taken, and take it."""
    name = next(name for name in numbered(wanted) if name not in taken)
    taken.add(name)
    return name
