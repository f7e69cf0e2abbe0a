"""A hypothesis strategy for networks: any equations that the rules of a network allow."""

from __future__ import annotations

from itertools import count

import sympy
from hypothesis import strategies as st
from sympy import Expr, Idx, Piecewise, Rational, tanh

import symprop
from symprop import Network
from symprop.indices import free_indices, size, summation
from symprop.network import Variable

SMOOTH = (tanh, symprop.sigmoid, symprop.softplus, symprop.gelu, sympy.sin, symprop.silu)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Return a network of one to four equations over indices of one to three values."""
    net = Network("random")
    lengths = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    for name, length in zip("ijkl", lengths, strict=False):
        net.index(name, length)
    for number in range(draw(st.integers(1, 2))):
        net.input(f"x{number}", *_some(draw, net.indices))
    for number in range(draw(st.integers(1, 3))):
        net.parameter(f"w{number}", *_some(draw, net.indices), init="glorot_uniform")
    for number in range(draw(st.integers(1, 4))):
        own = _some(draw, net.indices)
        expression = _expression(draw, net, own, draw(st.integers(1, 3)))
        net.define(f"v{number}", expression, *own)
    net.output(f"v{number}")
    _add_loss(net)
    return net


def _some(draw: st.DrawFn, indices: tuple[Idx, ...]) -> tuple[Idx, ...]:
    return tuple(draw(st.permutations(indices)))[: draw(st.integers(0, 2))]


def _add_loss(net: Network) -> None:
    """Add up squares of everything, so that every parameter and value is used."""
    total: Expr = sympy.Integer(0)
    for variable in net.variables[len(net.inputs) :]:
        square = (variable.access + Rational(1, 3)) ** 2
        total += summation(square, variable.indices) if variable.indices else square
    net.loss(total)


def _expression(draw: st.DrawFn, net: Network, bound: tuple[Idx, ...], depth: int) -> Expr:
    """Return an expression whose free indices are among `bound`."""
    if depth == 0:
        return _read(draw, net, bound)
    parts = [_expression(draw, net, bound, depth - 1) for _ in range(2)]
    kind = draw(st.sampled_from(("product", "sum", "function", "reduction", "softmax", "piece")))
    if kind == "product":
        return parts[0] * parts[1]
    if kind == "sum":
        return parts[0] - Rational(2, 3) * parts[1]
    if kind == "function":
        return draw(st.sampled_from(SMOOTH))(parts[0]) + parts[1]
    if kind == "piece" and bound:
        test = draw(st.sampled_from(bound)) >= 1
        return Piecewise((parts[0], test), (parts[1], True))
    others = [index for index in net.indices if index not in bound]
    if not others:
        return parts[0] ** 2 + parts[1]
    index = draw(st.sampled_from(others))
    body = _expression(draw, net, (*bound, index), depth - 1)
    if kind == "softmax" and index in free_indices(body):
        return summation(symprop.softmax(body, index) * _read(draw, net, (*bound, index)), [index])
    if kind == "reduction" and index in free_indices(body):
        return symprop.logsumexp(body, index) * parts[0]
    return summation(body, [index]) + parts[0]


def _read(draw: st.DrawFn, net: Network, bound: tuple[Idx, ...]) -> Expr:
    """Return a variable, each of its axes read at some position that exists."""
    variable: Variable = draw(st.sampled_from(net.variables))
    if not variable.indices:
        return variable.symbol
    return variable.symbol[tuple(_position(draw, length, bound) for length in variable.shape)]


def _position(draw: st.DrawFn, length: int, bound: tuple[Idx, ...]) -> Expr:
    """Return an index that spans the axis, a shifted or mirrored one, or a constant."""
    spanning = [index for index in bound if size(index) == length]
    if spanning and draw(st.booleans()):
        index = draw(st.sampled_from(spanning))
        return index if draw(st.booleans()) else length - 1 - index
    for first in count():
        shorter = [index for index in bound if size(index) + first <= length]
        if first and shorter and draw(st.booleans()):
            return draw(st.sampled_from(shorter)) + first
        if not shorter or first > length:
            break
    return sympy.Integer(draw(st.integers(0, length - 1)))
