"""Rows of tables that the data choose, in lanes: in which order they are read and added to."""

from __future__ import annotations

import pytest
from sympy import Expr, Idx, Sum, tanh

from symprop import Network
from symprop.derivation import differentiate
from symprop.indices import accesses
from symprop.lower import lower
from symprop.lower.lookups import WIDTH
from symprop.lower.program import Assign, Loop, Statement
from symprop.lower.steps import Transpose, is_sample, name_of


def bag(width: int) -> Network:
    """The mean of some rows, a row for each place, and an element that is no row."""
    net = Network("bag")
    n, v, d = net.index("n", 5), net.index("v", 11), net.index("d", width)
    token, weight, t = net.input("token", n), net.input("weight", n), net.target("t", d)
    E = net.parameter("E", v, d, init="lecun_uniform")
    first = net.define("first", tanh(E[token[n], d]), n, d)
    mean = net.define("mean_row", Sum(weight[n] * E[token[n], d], n) / 5, d)
    y = net.output("y", mean[d] * Sum(first[n, d], n) + E[token[0], 0], d)
    net.loss(Sum((y[d] - t[d]) ** 2, d))
    return net


def kernel(network: Network) -> tuple[Statement, ...]:
    return lower(differentiate(network), layout="lanes").gradient.body


def assignments(body: tuple[Statement, ...], *loops: Idx) -> list[tuple[Assign, tuple[Idx, ...]]]:
    found = []
    for statement in body:
        if isinstance(statement, Loop):
            found += assignments(statement.body, *loops, statement.index)
        elif isinstance(statement, Assign):
            found.append((statement, loops))
    return found


def chosen(expression: Expr) -> list[Expr]:
    """Return the elements of the table whose rows the data choose, and their gradients."""
    leaves = [leaf for leaf in accesses(expression) if name_of(leaf) in ("E", "dL/dE")]
    return [leaf for leaf in leaves if accesses(leaf.indices[0]) and leaf.indices[1] != 0]


def test_rows_are_read_and_added_to_along_the_table() -> None:
    reads = adds = 0
    for line, loops in assignments(kernel(bag(WIDTH))):
        for leaf in (*chosen(line.value), *chosen(line.target)):
            assert is_sample(loops[0]), line
            assert loops[-1] == leaf.indices[-1], line
        reads += len(chosen(line.value))
        adds += len(chosen(line.target))
    assert (reads, adds) == (2, 1)


def test_copies_bring_the_samples_together() -> None:
    copies = [step for step in kernel(bag(WIDTH)) if isinstance(step, Transpose)]
    there = [step for step in copies if is_sample(step.source.indices[0])]
    back = [step for step in copies if is_sample(step.source.indices[-1])]
    assert (len(there), len(back)) == (2, 1)
    assert {step.target.indices for step in there} == {
        (*step.source.indices[1:], step.source.indices[0]) for step in there
    }


@pytest.mark.parametrize("width", [2, WIDTH - 1])
def test_short_rows_are_read_sample_by_sample(width: int) -> None:
    body = kernel(bag(width))
    assert not any(isinstance(step, Transpose) for step in body)
    for line, loops in assignments(body):
        if chosen(line.value):
            assert is_sample(loops[-1])


def test_a_row_that_depends_on_its_column_is_no_row() -> None:
    net = Network("diagonal")
    v, d = net.index("v", 11), net.index("d", 9)
    token, t = net.input("token", d), net.target("t", d)
    E = net.parameter("E", v, d, init="lecun_uniform")
    y = net.output("y", tanh(E[token[d], d]), d)
    net.loss(Sum((y[d] - t[d]) ** 2, d))
    assert not any(isinstance(step, Transpose) for step in kernel(net))


def test_what_varies_along_a_row_and_from_sample_to_sample_is_not_read_there() -> None:
    """A product with such a tensor, inside of a sum, would read it across its lines."""
    net = Network("scores")
    n, v, d = net.index("n", 5), net.index("v", 11), net.index("d", 9)
    token, x, t = net.input("token", n), net.input("x", d), net.target("t", d)
    E = net.parameter("E", v, d, init="lecun_uniform")
    y = net.output("y", Sum(x[d] * E[token[n], d], n), d)
    net.loss(Sum((y[d] - t[d]) ** 2, d))
    body = kernel(net)
    reads = [loops for line, loops in assignments(body) if chosen(line.value)]
    assert all(is_sample(loops[-1]) for loops in reads)
    adds = [loops for line, loops in assignments(body) if chosen(line.target)]
    assert all(is_sample(loops[0]) for loops in adds)
