"""The workspace: tensors that live at once never share memory, others do."""

from __future__ import annotations

from itertools import combinations
from math import prod

import pytest
import zoo
from sympy import Idx, IndexedBase, Sum, tanh

from symprop.derivation import differentiate
from symprop.examples import load_example
from symprop.explain.kernels import as_data
from symprop.lower import lower
from symprop.lower.memory import place
from symprop.lower.schedule import schedule
from symprop.lower.steps import Compute, Lane

j, k = Idx("j", 8), Idx("k", 8)
s = Lane("s", 16)
a, b, c, x, z = (IndexedBase(name, real=True) for name in "abcxz")

ROOM = {"a": (8, 16), "b": (8, 16), "c": (8, 16)}
"""The tensors of the workspace; x and z are given."""


NEXT = 128 + 16
"""Where the next tensor begins in lanes: a line further on, so in other lines of a cache."""


def offsets(*steps: Compute, lanes: int = 16) -> dict[str, int]:
    nests = schedule(steps)
    used = {access.name for step in steps for access in step.accesses}
    kept = {name: lengths for name, lengths in ROOM.items() if name in used}
    placed, size = place(kept, nests, 16, lanes)
    assert size == max(p.offset for p in placed) + (128 if lanes == 0 else NEXT)
    return {p.name: p.offset for p in placed}


def renamed(step: Compute, number: int) -> Compute:
    """The step with indices of its own, as those of a derivation have."""
    fresh = {index: type(index)(f"{index.label}{number}", index.upper + 1) for index in step.loops}
    return Compute(step.target.xreplace(fresh), step.value.xreplace(fresh), tuple(fresh.values()))


def test_an_element_takes_the_place_of_what_it_is_made_from() -> None:
    found = offsets(
        Compute(a[j, s], Sum(x[k, j, s], (k, 0, 7)), (j, s)),
        Compute(b[j, s], tanh(a[j, s]), (j, s)),
        renamed(Compute(z[j, s], b[7 - j, s], (j, s)), 2),
    )
    assert found == {"a": 0, "b": 0}


def test_in_rows_two_tensors_of_a_loop_have_places_of_their_own() -> None:
    """The compiler could not tell whether they overlap, and would not vectorise the loop."""
    found = offsets(
        Compute(a[j, s], Sum(x[k, j, s], (k, 0, 7)), (j, s)),
        Compute(b[j, s], tanh(a[j, s]), (j, s)),
        renamed(Compute(z[j, s], b[7 - j, s], (j, s)), 2),
        lanes=0,
    )
    assert found == {"a": 0, "b": 128}


@pytest.mark.parametrize("read", [a[7 - j, s], a[0, s], a[j, s] + a[7 - j, s]])
def test_what_is_still_read_by_other_turns_keeps_its_place(read) -> None:
    found = offsets(
        Compute(a[j, s], x[j, s], (j, s)),
        renamed(Compute(b[j, s], tanh(read), (j, s)), 2),
        renamed(Compute(z[j, s], b[7 - j, s], (j, s)), 3),
    )
    assert found == {"a": 0, "b": NEXT}


def test_what_every_turn_of_another_loop_reads_keeps_its_place() -> None:
    """In ``b[k,s] += a[j,s]`` an element of a is read for every k."""
    found = offsets(
        Compute(a[j, s], x[j, s], (j, s)),
        renamed(Compute(b[k, s], 0 * x[k, s] + 1, (k, s)), 2),
        Compute(b[k, s], a[j, s], (k, j, s), True),
        renamed(Compute(z[j, s], b[7 - j, s], (j, s)), 3),
    )
    assert found["a"] != found["b"]


def test_what_is_read_after_the_write_keeps_its_place() -> None:
    found = offsets(
        Compute(a[j, s], x[7 - j, s], (j, s)),
        Compute(b[j, s], a[j, s] + 1, (j, s)),
        Compute(c[j, s], a[j, s] * b[j, s], (j, s)),
        renamed(Compute(z[j, s], b[7 - j, s] + c[7 - j, s], (j, s)), 2),
    )
    assert found["a"] != found["b"]
    assert found["c"] in (found["a"], 2 * NEXT)


def test_memory_is_free_when_nobody_needs_it_any_more() -> None:
    found = offsets(
        Compute(a[j, s], x[j, s], (j, s)),
        renamed(Compute(b[j, s], a[7 - j, s], (j, s)), 2),
        renamed(Compute(c[j, s], b[7 - j, s], (j, s)), 3),
        renamed(Compute(z[j, s], c[7 - j, s], (j, s)), 4),
    )
    assert found == {"a": 0, "b": NEXT, "c": 0}


WAYS = (("lanes", "tiles"), ("lanes", "loops"), ("rows", "loops"))


@pytest.mark.parametrize("way", WAYS, ids=map("-".join, WAYS))
@pytest.mark.parametrize("name", [*zoo.ZOO, "digits"])
def test_no_line_writes_what_a_later_one_reads(name: str, way: tuple[str, str]) -> None:
    """By the lines of the printed kernels, where two tensors have a number in common."""
    network = load_example(name) if name == "digits" else zoo.ZOO[name]()
    layout, products = way
    made = lower(differentiate(network), layout=layout, products=products)  # type: ignore[arg-type]
    shared = 0
    for kernel in as_data(made)["kernels"]:
        for one, other in combinations(kernel["workspace"], 2):
            first, second = sorted((one, other), key=lambda tensor: tensor["first_write"])
            if apart(first, second, kernel["block"]):
                continue
            shared += 1
            assert first["last_read"] <= second["first_write"], (kernel["name"], first, second)
    assert shared or name not in ("digits", "classifier") or layout == "rows"


def apart(one: dict, other: dict, block: int) -> bool:
    (low, high), (begin, end) = (
        (t["offset"], t["offset"] + prod(t["shape"]) * (block if t["sampled"] else 1))
        for t in (one, other)
    )
    return high <= begin or end <= low
