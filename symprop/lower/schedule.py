"""Pass 5: the order of the steps and the loops that they share.

Steps are put in an order that their reads and writes allow and that lets
neighbours share a loop; above all one loop over the samples for everything that is
not a matrix product of the whole batch. Two nests share a loop where every tensor
that one of them writes and the other touches is subscripted by the loop's index at
the same place: then one iteration reads what the same iteration wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from sympy import Basic, Idx

from symprop.indices import substitute
from symprop.lower.steps import (
    Access,
    Compute,
    Matrix,
    Multiply,
    Step,
    extent,
    is_sample,
)

__all__ = ["Nest", "schedule", "walk"]


@dataclass(frozen=True, slots=True)
class Nest:
    """A loop over `index`, around nests and steps whose own loops lie further inside."""

    index: Idx
    body: tuple[Nest | Step, ...]


def walk(
    parts: Iterable[Nest | Step], loops: tuple[Idx, ...] = ()
) -> Iterator[tuple[tuple[Idx, ...], Step]]:
    """Yield every step in its order, with the loops around it, outermost first."""
    for part in parts:
        if isinstance(part, Nest):
            yield from walk(part.body, (*loops, part.index))
        else:
            yield loops, part


def schedule(steps: Sequence[Step]) -> tuple[Nest | Step, ...]:
    """Return `steps` as loops, in an order that shares as many of them as it can."""
    return _nested(tuple(steps), 0)


def _nested(steps: tuple[Step, ...], depth: int) -> tuple[Nest | Step, ...]:
    """Order the steps of one loop body and gather those that can share the next loop."""
    groups: list[list[Step]] = []
    before, waiting = _before(steps), dict(enumerate(steps))
    while waiting:
        ready = [place for place in waiting if before[place].isdisjoint(waiting)]
        group = groups[-1] if groups else []
        place = next((place for place in ready if _joins(waiting[place], group, depth)), None)
        if place is not None:
            step = waiting.pop(place)
            group.append(_renamed(step, step.loops[depth], group[0].loops[depth]))
        else:
            place = min(ready, key=lambda place: _rank(waiting[place], depth))
            groups.append([waiting.pop(place)])
    return tuple(part for group in groups for part in _loop(group, depth))


def _before(steps: Sequence[Step]) -> list[set[int]]:
    """Return for each step which of those that stand before it must come before it."""
    found: list[set[int]] = []
    touched: dict[str, list[tuple[int, Access]]] = {}
    for place, step in enumerate(steps):
        own = _accesses(step)
        found.append({p for a in own for p, b in touched.get(a.name, ()) if _conflict(a, b)})
        for access in own:
            touched.setdefault(access.name, []).append((place, access))
    return found


def _loop(group: list[Step], depth: int) -> tuple[Nest | Step, ...]:
    if len(group[0].loops) == depth:
        return tuple(group)
    return (Nest(group[0].loops[depth], _nested(tuple(group), depth + 1)),)


def _rank(step: Step, depth: int) -> int:
    """Put start values first, then what is outside of sums over the samples: loops gather more."""
    if isinstance(step, Compute) and step.value.is_number and not step.accumulate:
        return 0
    return 1 + int(len(step.loops) > depth and extent(step.loops[depth]) is None)


def _joins(step: Step, group: list[Step], depth: int) -> bool:
    """Tell whether `step` may run in the loop of `group`."""
    if not group or min(len(step.loops), len(group[0].loops)) <= depth:
        return False
    ours, theirs = step.loops[depth], group[0].loops[depth]
    if extent(ours) != extent(theirs) or is_sample(ours) != is_sample(theirs):
        return False
    if not is_sample(ours) and any(map(_clears, (step, *group))):
        return False
    return all(_aligned(step, ours, other, theirs) for other in group)


@lru_cache(maxsize=8192)
def _accesses(step: Step) -> tuple[Access, ...]:
    return step.accesses


def _aligned(later: Step, ours: Idx, earlier: Step, theirs: Idx) -> bool:
    pairs = ((a, b) for a in _accesses(later) for b in _accesses(earlier) if _conflict(a, b))
    return all(
        any(s == ours and t == theirs for s, t in zip(a.subscripts, b.subscripts, strict=True))
        for a, b in pairs
    )


def _clears(step: Step) -> bool:
    """Tell whether a step only sets a tensor to 0, which is a statement without loops."""
    return isinstance(step, Compute) and step.value == 0


def _conflict(one: Access, other: Access) -> bool:
    """Tell whether the order of two accesses matters; that of two additions does not."""
    if one.name != other.name or not (one.writes or other.writes):
        return False
    return not (one.adds and other.adds)


def _renamed(step: Step, old: Idx, new: Idx) -> Step:
    mapping: dict[Basic, Basic] = {old: new}
    loops = tuple(new if index == old else index for index in step.loops)
    if isinstance(step, Multiply):
        target, left, right = (_moved(m, mapping) for m in (step.target, step.left, step.right))
        return Multiply(target, left, right, loops, step.comment)
    if not isinstance(step, Compute):  # the others have no loops
        return step
    return replace(
        step,
        target=substitute(step.target, mapping),
        value=substitute(step.value, mapping),
        loops=loops,
    )


def _moved(matrix: Matrix, mapping: dict[Basic, Basic]) -> Matrix:
    return replace(matrix, loops=tuple(mapping.get(index, index) for index in matrix.loops))
