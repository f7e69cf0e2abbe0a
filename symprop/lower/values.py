"""Value numbering: every intermediate value has one name, whatever its indices are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import sympy
from sympy import Basic, Expr, Idx, Indexed, Sum, Symbol

from symprop.functions import Normalisation
from symprop.indices import (
    accesses,
    canonical,
    free_indices,
    index_name,
    name_bound,
    numbered,
    size,
    where,
)
from symprop.lower.steps import element, name_of
from symprop.network import Equation

__all__ = ["Values", "appearing", "as_read", "key", "scopes"]


def appearing(value: Basic) -> tuple[Idx, ...]:
    """Return the free indices of `value` in the order in which they are met."""
    free = set(free_indices(value))
    return tuple(dict.fromkeys(n for n in sympy.preorder_traversal(value) if n in free))


def as_read(value: Expr) -> tuple[Idx, ...]:
    """Return the indices that are subscripts of tensors, in the order of those that have most."""
    reads = [leaf for leaf in sympy.preorder_traversal(value) if isinstance(leaf, Indexed)]
    reads.sort(key=lambda leaf: -len(leaf.indices))
    return tuple(dict.fromkeys(i for leaf in reads for i in leaf.indices if isinstance(i, Idx)))


def key(value: Expr, indices: tuple[Idx, ...]) -> Basic:
    """Return `value` with its free and bound indices numbered: equal up to names is equal.

    >>> i, j = Idx("i", 3), Idx("j", 3)
    >>> z = sympy.IndexedBase("z")
    >>> key(sympy.exp(z[i]), (i,)) == key(sympy.exp(z[j]), (j,))
    True
    """
    places = {index: Idx(f"_at{n}", size(index)) for n, index in enumerate(indices)}
    return canonical(value, places)


def scopes(node: Basic) -> tuple[Basic, ...]:
    """Return the body of a binding node and what its bound indices do not reach."""
    if isinstance(node, Sum):
        return (node.function, *(edge for limit in node.limits for edge in limit.args[1:]))
    if isinstance(node, Normalisation):
        return (node.body, node.at)
    return (node.args[0],)


@dataclass(slots=True)
class Values:
    """Equations in order, and which value each of them names.

    `sampled` holds the names whose value differs from sample to sample; it grows
    with the equations. `adjoints` gives the variable of each adjoint: the adjoint of
    what does not differ will be a sum over the samples, so its name stands for no
    other value.
    """

    taken: set[str]
    sampled: set[str]
    adjoints: Mapping[str, str] = field(default_factory=dict)
    equations: list[Equation] = field(default_factory=list)
    known: dict[Basic, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def varies(self, value: Basic) -> bool:
        """Tell whether `value` differs from sample to sample."""
        return any(name_of(leaf) in self.sampled for leaf in accesses(value))

    def add(self, equation: Equation) -> None:
        """Append an equation; its value is known by its name from here on."""
        self.equations.append(equation)
        if self.varies(equation.rhs) or any(map(self.varies, equation.indices)):
            self.sampled.add(equation.name)
        if equation.name in self.adjoints and self.adjoints[equation.name] not in self.sampled:
            return
        indices = appearing(equation.rhs)
        plain = all(isinstance(subscript, Idx) for subscript in equation.indices)
        if plain and not equation.accumulate and set(indices) == set(equation.indices):
            order = tuple(indices.index(index) for index in equation.indices)
            self.known.setdefault(key(equation.rhs, indices), (equation.name, order))

    def name(self, value: Expr, hint: str, guards: Iterable[Basic] = ()) -> Expr:
        """Return the name of `value` at its own indices, with a new equation if it has none.

        Where `guards` hold conditions on these indices, the value is computed only where
        they hold and is 0 elsewhere: it may read what does not exist there.
        """
        if isinstance(value, Symbol | Indexed) or not accesses(value):
            return value
        indices = appearing(value)
        guard = sympy.And(*(g for g in guards if set(free_indices(g)) <= set(indices)))
        if guard is not sympy.true:
            value = where(value, guard)
            indices = appearing(value)
        found = key(value, indices)
        if found not in self.known:
            self._define(value, hint, indices)
        name, order = self.known[found]
        return element(name, tuple(indices[place] for place in order))

    def _define(self, value: Expr, hint: str, indices: tuple[Idx, ...]) -> None:
        name = next(name for name in numbered(hint) if name not in self.taken)
        self.taken.add(name)
        read = as_read(value)  # memory is run through as it lies
        ordered = [index for index in read if index in indices]
        ordered += sorted(set(indices) - set(read), key=lambda index: index.sort_key())
        rhs = name_bound(value, map(index_name, ordered))
        self.add(Equation(element(name, tuple(ordered)), rhs))
        self.known[key(value, indices)] = (name, tuple(indices.index(i) for i in ordered))
