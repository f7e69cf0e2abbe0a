"""Pass 6: which values need memory.

An axis that every access to a tensor subscripts by the index of one loop, which runs
around all of them, needs no memory: each iteration reads only what it wrote
itself. A value without axes left is a local variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sympy import Basic, Expr, Idx, Indexed, Symbol

from symprop.indices import bound_indices, rebind, rebuild
from symprop.lower.schedule import Nest, walk
from symprop.lower.steps import (
    Contract,
    Matrix,
    Multiply,
    Step,
    Transpose,
    element,
    name_of,
)
from symprop.lower.values import scopes

__all__ = ["localise"]


@dataclass(frozen=True, slots=True)
class _Use:
    loops: tuple[Idx, ...]
    subscripts: tuple[Basic, ...]


def localise(
    nests: tuple[Nest | Step, ...], shapes: Mapping[str, tuple[int, ...]], kept: Iterable[str]
) -> tuple[tuple[Nest | Step, ...], dict[str, tuple[int | None, ...]]]:
    """Drop the axes that need no memory, except of the tensors `kept` outside.

    Also returns the length of each axis that the other values keep, None for the
    samples; `shapes` are those of the values without the samples.
    """
    kept = set(kept)
    uses: dict[str, list[_Use]] = {}
    for loops, step in walk(nests):
        for access in step.accesses:
            uses.setdefault(access.name, []).append(_Use(loops, access.subscripts))
    written = {step.accesses[-1].name for _, step in walk(nests)}
    axes = {name: _axes(found) for name, found in uses.items() if name in written - kept}
    lengths = {name: _lengths(shapes.get(name, ()), uses[name][0], axes[name]) for name in axes}
    return tuple(_without(part, axes) for part in nests), lengths


def _lengths(shape: tuple[int, ...], use: _Use, axes: tuple[int, ...]) -> tuple[int | None, ...]:
    whole: tuple[int | None, ...] = shape
    if len(use.subscripts) > len(shape):
        whole = (None, *shape)
    return tuple(whole[axis] for axis in axes)


def _axes(uses: list[_Use]) -> tuple[int, ...]:
    """Return the axes that need memory."""
    common = set(uses[0].loops).intersection(*(use.loops for use in uses))
    rank = len(uses[0].subscripts)
    return tuple(
        axis
        for axis in range(rank)
        if len({use.subscripts[axis] for use in uses}) > 1 or uses[0].subscripts[axis] not in common
    )


def _without(part: Nest | Step, axes: Mapping[str, tuple[int, ...]]) -> Nest | Step:
    if isinstance(part, Nest):
        return Nest(part.index, tuple(_without(inner, axes) for inner in part.body))
    if isinstance(part, Contract | Transpose):  # they use every axis
        return part
    if isinstance(part, Multiply):
        target, left, right = (_reduced(m, axes) for m in (part.target, part.left, part.right))
        return Multiply(target, left, right, part.loops, part.comment)
    return replace(part, target=_reads(part.target, axes), value=_reads(part.value, axes))


def _reduced(matrix: Matrix, axes: Mapping[str, tuple[int, ...]]) -> Matrix:
    if matrix.name not in axes:
        return matrix
    keep = axes[matrix.name]
    return replace(matrix, loops=tuple(i for axis, i in enumerate(matrix.loops) if axis in keep))


def _reads(node: Basic, axes: Mapping[str, tuple[int, ...]]) -> Expr:
    if isinstance(node, Indexed):
        subscripts = tuple(_reads(part, axes) for part in node.indices)
        name = name_of(node)
        if name in axes:
            subscripts = tuple(subscripts[axis] for axis in axes[name])
        return element(name, subscripts)
    if isinstance(node, Idx | Symbol) or not node.args:
        return node
    bound = bound_indices(node)
    if bound:
        body, *outside = (_reads(part, axes) for part in scopes(node))
        return rebind(node, body, bound, outside)
    return rebuild(node, (_reads(part, axes) for part in node.args))
