"""Which loops of a kernel become functions, and what these are given."""

from __future__ import annotations

from collections.abc import Iterable

from sympy import Expr, Idx, Integer, Symbol, exp, tanh

from symprop.lower.program import Assign, Kernel, Loop, Note, Statement, Storage
from symprop.lower.steps import LANES, SAMPLES, Lane, element
from symprop.lower.strategy import Strategy
from symprop.printer import Printer
from symprop.render.lines import Lines
from symprop.render.repeats import Call, Repeats

LANE = Lane(Symbol("sample", integer=True), 32)
COUNT = str(SAMPLES)


def kernel(body: Iterable[Statement], *workspace: Storage, lanes: int = 8) -> Kernel:
    return Kernel("forward", Strategy(lanes, 32), (), (), workspace, 0, tuple(body))


def over(*lines: Statement, index: str = "j", size: int = 3) -> tuple[Loop, Idx]:
    j = Idx(Symbol(index, integer=True), size)
    return Loop(j, (Loop(LANE, lines),)), j


def value(name: str, index: str = "j") -> Expr:
    return element(name, (Idx(Symbol(index, integer=True), 3), LANE))


def layer(n: int) -> Loop:
    target = value(f"h{n}")
    computed = tanh(value(f"z{n}")) + value(f"h{n - 1}")
    return over(Note(f"h{n} = tanh(z{n}) + h{n - 1}"), Assign(target, computed))[0]


def calls(
    body: Iterable[Statement], *workspace: Storage, lasting: Iterable[str] = ()
) -> list[Call]:
    found = Repeats().calls(kernel(body, *workspace), lasting)
    return [statement for statement in found if isinstance(statement, Call)]


def test_loops_that_differ_in_their_names_are_one_function() -> None:
    repeats = Repeats()
    body = [*map(layer, range(1, 8)), over(Assign(value("a"), exp(value("b"))))[0]]
    found = list(repeats.calls(kernel(body), ()))
    assert [type(statement).__name__ for statement in found] == ["Call"] * 7 + ["Loop"]
    (function,) = repeats.made.values()
    assert function.loop == body[0]
    assert function.lanes == 8
    assert {*function.arguments} == {"z1", "h0", "h1", COUNT}
    for n, call in enumerate(found[:-1], 1):
        named = dict(zip(function.arguments, call.arguments, strict=True))
        assert named == {"z1": f"z{n}", "h0": f"h{n - 1}", "h1": f"h{n}", COUNT: COUNT}
        assert call.notes == (Note(f"h{n} = tanh(z{n}) + h{n - 1}"),)


def test_the_lines_of_a_function_and_its_call() -> None:
    repeats = Repeats()
    places = [Storage(f"{kind}{n}", (3, 32), False, 96 * n) for n in range(1, 8) for kind in "zh"]
    lines = Lines(Printer("float32", {str(LANES): "lanes", COUNT: "samples"}))
    text = list(lines.body(repeats.calls(kernel(map(layer, range(1, 8)), *places), ())))
    assert text[2:4] == ["    # h2 = tanh(z2) + h1", "    _loop_1(h1, z2, samples)"]
    (function,) = repeats.made.values()
    head, _, *body = lines.function(function)
    assert head == "def _loop_1(h0, z1, samples):"
    assert body == [
        "    _hot()",
        "    lanes = _lanes(samples, 8)",
        "    h1 = z1",
        "    for j in range(3):",
        "        for sample in range(lanes):",
        "            # h1 = tanh(z1) + h0",
        "            h1[j, sample] = tanh(z1[j, sample]) + h0[j, sample]",
        "    _compact()",
    ]


def test_subscripts_that_are_numbers_are_given() -> None:
    """As those of a step, which reads its own row."""
    j = Idx(Symbol("j", integer=True), 3)

    def step(n: int, other: int) -> Loop:
        read = element("x", (Integer(n), j, LANE)) * element("x", (Integer(other), j, LANE))
        target = element("h", (Integer(n), j, LANE))
        return over(Assign(target, read + element("x", (Integer(n), j, LANE))))[0]

    repeats = Repeats()
    lines = Lines(Printer("float32", {str(LANES): "lanes", COUNT: "samples"}))
    text = list(lines.body(repeats.calls(kernel(step(n, n + 1) for n in range(6)), ())))
    assert text[2] == "    _loop_1(x, h, 2, 3, 2, samples)"
    (function,) = repeats.made.values()
    head, *body = lines.function(function)
    assert head == "def _loop_1(x, h, at, at2, at3, samples):"
    assert "h[at3, j, sample] = x[at, j, sample] * x[at2, j, sample] + x[at, j, sample]" in body[-2]
    assert not calls(step(n, n * n) for n in range(6))  # of 0 and of 1 it is the same row


def test_few_loops_stay_where_they_are() -> None:
    assert not calls(map(layer, range(1, 6)))
    assert len(calls(map(layer, range(1, 7)))) == 6


def test_rows_have_no_functions() -> None:
    found = Repeats().calls(kernel(map(layer, range(1, 8)), lanes=0), ())
    assert not any(isinstance(statement, Call) for statement in found)


def test_loops_of_other_lengths_are_others() -> None:
    def fill(n: int, size: int) -> Loop:
        return over(Assign(value(f"a{n}"), exp(value(f"b{n}"))), size=size)[0]

    assert len(calls(fill(n, 3) for n in range(6))) == 6
    assert not calls(fill(n, 3 + n % 2) for n in range(6))


def test_a_number_that_is_read_is_given() -> None:
    scale = Symbol("scale", real=True)
    body = [over(Assign(value(f"a{n}"), scale * value(f"b{n}")))[0] for n in range(6)]
    assert all("scale" in call.arguments for call in calls(body))


def test_a_number_that_is_set_is_no_argument() -> None:
    local = [Symbol(f"t{n}", real=True) for n in range(6)]
    body = [
        over(Assign(t, exp(value(f"b{n}"))), Assign(value(f"a{n}"), t * t + t))[0]
        for n, t in enumerate(local)
    ]
    found = calls(body)
    assert len(found) == 6
    assert all(not {*map(str, local)} & {*call.arguments} for call in found)


def test_a_loop_whose_number_is_used_later_stays() -> None:
    total = Symbol("total", real=True)
    sums = [over(Assign(total, value(f"b{n}"), True))[0] for n in range(6)]
    assert not calls(sums)
    sets = [over(Assign(total, exp(value(f"b{n}"))))[0] for n in range(6)]
    assert len(calls(sets)) == 6
    assert not calls(sets, lasting=["total"])
    assert not calls([*sets, Assign(Symbol("result", real=True), 2 * total)])


def test_a_tensor_and_the_one_whose_place_it_takes_are_one_argument() -> None:
    def activation(n: int) -> Loop:
        return over(Assign(value(f"h{n}"), tanh(value(f"z{n}"))))[0]

    together = [Storage(f"{kind}{n}", (3, 32), False, 96 * n) for n in range(6) for kind in "zh"]
    found = calls(map(activation, range(6)), *together)
    assert [call.arguments for call in found] == [(f"z{n}", COUNT) for n in range(6)]
    assert found[0].function.inherited == (("h0", "z0"),)
    apart = [Storage(f"{kind}{n}", (3, 32), False, 96 * (2 * n + (kind == "h")))
             for n in range(6) for kind in "zh"]  # fmt: skip
    assert [call.arguments for call in calls(map(activation, range(6)), *apart)] == [
        (f"z{n}", f"h{n}", COUNT) for n in range(6)
    ]
    assert not calls(map(activation, range(6)), *together[:6], *apart[6:])  # three and three


def test_terms_in_another_order_do_not_exchange_arguments() -> None:
    """The order in which SymPy keeps factors depends on their names."""
    body = [
        over(Assign(value(f"c{n}"), value(a) * tanh(value(b))))[0]
        for n, (a, b) in enumerate([("a", "b"), ("b", "a"), ("a9", "a10"), ("a10", "a9")] * 3)
    ]
    for statement, call in zip(body, calls(body), strict=False):
        (line,) = statement.body[0].body
        (first,) = call.function.loop.body[0].body
        renamed = dict(zip(call.function.arguments, call.arguments, strict=True))
        inside = {value(old): value(new) for old, new in renamed.items() if old != COUNT}
        assert first.value.xreplace(inside) == line.value
        assert first.target.xreplace(inside) == line.target
