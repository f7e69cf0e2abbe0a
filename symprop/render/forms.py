"""The vector functions that the kernels of a module call, each made once from its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from symprop.lower.steps import Axis, Contract, Transpose
from symprop.render.texts import call, tupled

__all__ = ["Forms"]


@dataclass(slots=True)
class Forms:
    """Names for products, transposes and gathers; equal numbers have one name."""

    made: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    def product(self, contract: Contract) -> str:
        """Return the name of the function that computes `contract`."""
        return self._named("_product", "_contraction(", _contraction(contract))

    def transpose(self, step: Transpose) -> str:
        """Return the name of the function that makes a transposed copy."""
        parts = [str(step.rows), str(step.columns), str(step.batch), str(step.lanes)]
        while parts[-1] in ("1", "False"):
            parts.pop()
        return self._named("_exchange", "_transpose(", parts)

    def gather(self, width: int, block: int) -> str:
        """Return the name of the function that collects samples of `width` numbers."""
        return self._named("_collect", "_gather(", [str(width), str(block)])

    def _named(self, kind: str, maker: str, parts: list[str]) -> str:
        key = f"{maker}{', '.join(parts)}"
        if key not in self.made:
            number = 1 + sum(name.startswith(kind) for name, _ in self.made.values())
            self.made[key] = (f"{kind}_{number}", [maker, *parts])
        return self.made[key][0]

    def lines(self) -> Iterator[str]:
        """Yield the assignments that make the functions."""
        for name, (maker, *parts) in self.made.values():
            yield from call(f"{name} = {maker}", parts)

    def pieces(self) -> tuple[str, ...]:
        """Return which parts of the vector machinery the functions are made by."""
        makers = {maker for _, (maker, *_) in self.made.values()}
        return tuple(sorted(maker.strip("_(") for maker in makers))


def _contraction(contract: Contract) -> list[str]:
    """Return the arguments of ``_contraction``; with a start, the columns have a stride for it."""
    tiling = contract.tiling
    begun = contract.start is not None
    parts = [_axis(tiling.columns, begun), _axis(tiling.rows), _axes(tiling.terms)]
    if tiling.loops:
        parts.append(f"loops={_axes(tiling.loops)}")
    if any(tiling.offsets):
        parts.append(f"offsets={tiling.offsets}")
    if tiling.over:
        parts.append("over=True")
    return parts


def _axis(axis: Axis, begun: bool = False) -> str:
    start = (axis.start,) if begun or axis.start else ()
    return str((axis.count, axis.left, axis.right, axis.out, *start))


def _axes(axes: tuple[Axis, ...]) -> str:
    return tupled([_axis(axis) for axis in axes])
