"""What passes over steps in lanes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

from sympy import Idx

from symprop.lower.steps import Compute, Step, extent, is_sample
from symprop.lower.vocabulary import new_name

__all__ = ["LanePass"]


@dataclass(slots=True)
class LanePass(ABC):
    """A pass that changes what is computed for each sample; other steps are left as they are.

    It adds tensors to `shapes`, with room for a `block` of samples, and their names to `taken`.
    """

    shapes: dict[str, tuple[int, ...]]
    taken: set[str]
    block: int
    done: list[Step] = field(default_factory=list)

    @abstractmethod
    def add(self, step: Compute) -> None:
        """Append a step, after those that it needs."""

    def run(self, steps: Iterable[Step]) -> tuple[tuple[Step, ...], dict[str, tuple[int, ...]]]:
        """Return the steps after the pass, and the shapes of all tensors."""
        for step in steps:
            if isinstance(step, Compute) and any(map(is_sample, step.loops)):
                self.add(step)
            else:
                self.done.append(step)
        return tuple(self.done), self.shapes

    def tensor(self, hint: str, axes: Iterable[Idx]) -> str:
        """Return the name of a new tensor with these axes."""
        name = new_name(hint.replace("/", "_"), self.taken)
        self.shapes[name] = tuple(extent(index) or self.block for index in axes)
        return name
