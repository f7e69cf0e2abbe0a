"""Sums of products of two tensors as products of matrices, in rows, for BLAS.

A sum over products ``A[...]*B[...]`` with plain distinct subscripts is a matrix product when its
indices fall into groups that lie together in each tensor:

    M   in A and the result,      N   in B and the result,
    K   in A and B, summed,       L   in all three, leading: a loop around the product

so that A is (L, M, K) or (L, K, M), B is (L, K, N) or (L, N, K), and the result is
(L, M, N) or (L, N, M). Tensors are contiguous, so a group of axes is one axis of a
matrix without copying, and a transposed operand is BLAS's business. The sample is
an index like any other: a dense layer has it in M, a weight's gradient in K.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sympy import Idx, Indexed

from symprop.lower.steps import Matrix, Multiply, extent, name_of

__all__ = ["matched"]

Group = tuple[Idx, ...]


def matched(
    target: Indexed,
    first: Indexed,
    second: Indexed,
    summed: frozenset[Idx],
    shapes: Mapping[str, tuple[int, ...]],
) -> Multiply | None:
    """Return the matrix product ``target = Sum(first*second, summed)``; None where it is none.

    `shapes` are those of all tensors, without the sample axis.
    """
    if not all(_plain(leaf, shapes) for leaf in (first, second)):
        return None
    out, a, b = (tuple(leaf.indices) for leaf in (target, first, second))
    if any(len(set(group)) < len(group) for group in (out, a, b)):
        return None
    shared = set(out) & set(a) & set(b)
    m, n, k = set(out) - set(b), set(out) - set(a), set(summed)
    if not (m and n and k) or set(a) != shared | m | k or set(b) != shared | n | k:
        return None
    if set(out) != shared | m | n:
        return None
    depth = len(shared)
    loops = out[:depth]
    if set(loops) != shared or a[:depth] != loops or b[:depth] != loops:
        return None
    out, a, b = out[depth:], a[depth:], b[depth:]
    if set(out[: len(m)]) != m:  # the result is (N, M): exchange the operands
        first, second, a, b, m, n = second, first, b, a, n, m
    rows, columns = out[: len(m)], out[len(m) :]
    inner = tuple(index for index in a if index in k)
    left = _operand(name_of(first), loops, a, rows, inner)
    right = _operand(name_of(second), loops, b, inner, columns)
    if left is None or right is None:
        return None
    return Multiply(Matrix(name_of(target), loops, rows, columns), left, right, loops)


def _operand(
    name: str, loops: Group, subscripts: Group, rows: Group, columns: Group
) -> Matrix | None:
    """Return an operand as a matrix of these groups, transposed where it lies that way."""
    if subscripts == rows + columns:
        return Matrix(name, loops, rows, columns)
    if subscripts == columns + rows:
        return Matrix(name, loops, columns, rows, transposed=True)
    return None


def _plain(leaf: Indexed, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether all of a tensor is read, by plain indices."""
    if not all(isinstance(subscript, Idx) for subscript in leaf.indices):
        return False
    return _shape(leaf.indices) == shapes[name_of(leaf)]


def _shape(indices: Iterable[Idx]) -> tuple[int, ...]:
    found = (extent(index) for index in indices)
    return tuple(length for length in found if length is not None)
