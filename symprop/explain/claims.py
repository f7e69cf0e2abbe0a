"""Check a worked example: a verdict on every number that a document prints.

Verdicts, the first that applies:

- **open**: nothing is printed yet (an exercise);
- **exact**: within half a unit of the last printed digit of the true value;
- **truncated**: within one unit: the digits of the true value cut off by hand; or rounded the
  wrong way, where there are more digits than that last one;
- **carried**: off, but what the document's own numbers, right to their digits, give:
  rounding carried along;
- **follows**: what the document's own numbers give, a wrong one among them, or a wrong
  number printed again;
- **wrong**: none of these.

The claims are taken in order: what follows from what depends on it. Where a number printed
earlier enters a later one, it may be anything within its own digits (see `reckoning`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from html import escape
from typing import Any

from sympy import Symbol

from symprop.errors import DescriptionError, NetworkError
from symprop.explain.paths import Graph
from symprop.explain.reckoning import Example, Interval, Reckoned, reckon
from symprop.formulas import text
from symprop.network import Equation, Network
from symprop.optimizers import find
from symprop.quantities import Printed, Quantity, elements
from symprop.verification.precise import DIGITS, MP

__all__ = ["VERDICTS", "Checked", "Report", "check", "shown"]

VERDICTS = ("exact", "truncated", "carried", "follows", "wrong", "open")
"""All verdicts, the best first."""

_TAINTED = ("follows", "wrong")
_MORE_DIGITS = 4
_NOISE = MP.mpf(10) ** -40
"""Part of a unit below which a number counts as being at the edge of an interval."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One printed number with its verdict.

    `exact` is the true value with some digits more than are printed. `own` is what the
    document's own numbers give, `operands` which those are, as (quantity, printed) pairs.
    `formula` is the equation, the gradient or the update rule that the number belongs to.
    """

    quantity: str
    after: int
    printed: str
    where: str
    verdict: str
    exact: str
    reason: str = ""
    own: str = ""
    operands: tuple[tuple[str, str], ...] = ()
    formula: str = ""

    @property
    def name(self) -> str:
        """The quantity, with the number of updates before it."""
        return f"{self.quantity}{_after(self.after)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as data for JSON."""
        return {
            "quantity": self.quantity,
            "after": self.after,
            "printed": self.printed,
            "where": self.where,
            "verdict": self.verdict,
            "exact": self.exact,
            "reason": self.reason,
            "own": self.own,
            "operands": [{"quantity": name, "printed": value} for name, value in self.operands],
            "formula": self.formula,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The verdicts on all numbers of a worked example, in its order."""

    name: str
    checked: tuple[Checked, ...]

    @property
    def ok(self) -> bool:
        """Whether no number is wrong; those still open are not."""
        return self.first_wrong is None

    @property
    def first_wrong(self) -> Checked | None:
        """The first wrong step, None where there is none."""
        return next((item for item in self.checked if item.verdict == "wrong"), None)

    @property
    def counts(self) -> dict[str, int]:
        """How many numbers have each verdict."""
        found = Counter(item.verdict for item in self.checked)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    def as_dict(self) -> dict[str, Any]:
        """Return the report as data for JSON."""
        first = self.first_wrong
        return {
            "name": self.name,
            "ok": self.ok,
            "counts": self.counts,
            "first_wrong": None if first is None else first.as_dict(),
            "claims": [item.as_dict() for item in self.checked],
        }

    def __str__(self) -> str:
        """Return the report as text: the first wrong step, all wrong ones, then the whole list."""
        if not self.checked:
            return f"{self.name}: no claims to check"
        tally = ", ".join(f"{number} {verdict}" for verdict, number in self.counts.items())
        parts = [f"{self.name}: {len(self.checked)} numbers: {tally}"]
        wrong = [item for item in self.checked if item.verdict == "wrong"]
        for title, items in (("First wrong step", wrong[:1]), ("Wrong as well", wrong[1:])):
            if items:
                parts.append("\n".join([title, *(_described(item) for item in items)]))
        return "\n\n".join([*parts, _table(self.checked)])

    def _repr_html_(self) -> str:
        """Return the list as a table for a notebook, the first wrong step above it."""
        first = self.first_wrong
        head = (
            f"<p>First wrong step: {escape(f'{first.name} = {first.printed}')}</p>" if first else ""
        )
        rows = [
            "".join(f"<td>{escape(cell)}</td>" for cell in (*_cells(item), item.reason))
            for item in self.checked
        ]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"{head}<table>{body}</table>"


def _described(item: Checked) -> str:
    """Return a wrong number with what is right, and from which numbers."""
    place = f"  ({item.where})" if item.where else ""
    lines = [f"  {item.name} = {item.printed}{place}", f"    right is {item.exact}"]
    if item.own:
        lines.append(f"    {item.own} from the document's own {_listed(item.operands, item.after)}")
    if item.formula:
        lines.append(f"    by {item.formula}")
    return "\n".join(lines)


def _listed(operands: tuple[tuple[str, str], ...], after: int) -> str:
    """Return printed numbers in a row; those of the same update as what they give need not say so.

    >>> _listed((("a1[0] after 1 update", "0.9940"), ("b2[0] after 1 update", "0.1009")), 1)
    'a1[0] = 0.9940, b2[0] = 0.1009'
    """
    same = all(name.endswith(_after(after)) for name, _ in operands)
    names = [name.removesuffix(_after(after)) if same else name for name, _ in operands]
    return ", ".join(f"{name} = {value}" for name, (_, value) in zip(names, operands, strict=True))


def _table(items: tuple[Checked, ...]) -> str:
    rows = [("verdict", "quantity", "printed", "exact", "where")]
    rows += map(_cells, items)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row, reason in zip(rows, ["", *(item.reason for item in items)], strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
        if reason:
            lines.append(f"{'':{widths[0]}}    {reason}")
    return "\n".join(lines)


def _cells(item: Checked) -> tuple[str, str, str, str, str]:
    return item.verdict, item.name, item.printed or "?", item.exact, item.where


def check(network: Network) -> Report:
    """Recompute every claim of `network` and say what to think of each.

    The example is the first sample that comes with the network; updates use that one alone.
    Raises `DescriptionError` for a claim that does not fit the network, `DataError` where
    the network has no sample to work.
    """
    numbers = list(_numbers(network))
    if not numbers:
        return Report(network.name, ())
    checker = _Checker(Example(network))
    for quantity, printed, where in numbers:
        checker.add(quantity, printed, where)
    return Report(network.name, tuple(checker.checked))


def _numbers(network: Network) -> Iterator[tuple[Quantity, Printed | None, str]]:
    """Yield every printed number with its quantity and its place; raise with the claim's own."""
    for number, claim in enumerate(network.claims, start=1):
        try:
            found = elements(claim, network)
        except DescriptionError as error:
            raise DescriptionError(
                f"{network.name}, claim {number}, {claim.quantity[:60]!r}: {error}"
            ) from None
        for quantity, printed in found:
            yield quantity, printed, claim.where


@dataclass(frozen=True, slots=True)
class _Entry:
    """A number that has its verdict and may enter later ones."""

    quantity: Quantity
    printed: Printed
    verdict: str
    exact: Any

    @property
    def tainted(self) -> bool:
        return self.verdict in _TAINTED

    @property
    def interval(self) -> Interval:
        """What the author may have calculated with: what rounds to it, or the true value.

        A number like 0.3775 = 0.05*0.15 + 0.1*0.20 + 0.35 is not rounded at all.
        """
        value, half = _mpf(self.printed.value), _mpf(self.printed.unit) / 2
        if abs(self.exact - value) <= _NOISE * half:
            return Interval(value, value, value)
        low, high = value - half, value + half
        if self.verdict in ("exact", "truncated"):
            low, high = min(low, self.exact), max(high, self.exact)
        return Interval(value, low, high)

    @property
    def used(self) -> Interval:
        """What the author calculated with, if that was either what is printed or the true value."""
        value = _mpf(self.printed.value)
        return Interval(value, min(value, self.exact), max(value, self.exact))


class _Checker:
    """Gives the verdicts one after the other."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.entries: list[_Entry] = []
        self.checked: list[Checked] = []

    def add(self, quantity: Quantity, printed: Printed | None, where: str) -> None:
        """Check one number."""
        exact = self.example.exact(quantity)
        unit = printed.unit if printed else Decimal("0.0001")
        item = Checked(
            str(quantity), quantity.after, printed.text.strip() if printed else "", where, "open",
            shown(exact, unit.scaleb(-_MORE_DIGITS)) if printed else "",
            formula=_formula(self.example, quantity),
        )  # fmt: skip
        if printed is not None:
            item = self._verdict(item, quantity, printed, exact)
            self.entries.append(_Entry(quantity, printed, item.verdict, exact))
        self.checked.append(item)

    def _verdict(self, item: Checked, quantity: Quantity, printed: Printed, exact: Any) -> Checked:
        off = abs(exact - _mpf(printed.value)) / _mpf(printed.unit)
        if off <= 0.5 + _NOISE:
            return replace(item, verdict="exact")
        if _meets(printed, exact, exact):
            return replace(item, verdict="truncated")
        if off <= 1 + _NOISE and printed.digits > 1:
            reason = f"one unit off in the last digit: {shown(exact, printed.unit)}"
            return replace(item, verdict="truncated", reason=reason)
        return (
            self._repeated(item, quantity, printed)
            or self._reckoned(item, quantity, printed)
            or replace(item, verdict="wrong", reason=f"right is {shown(exact, printed.unit)}")
        )

    def _repeated(self, item: Checked, quantity: Quantity, printed: Printed) -> Checked | None:
        """Return the verdict on a number that was printed before, or is what was, rounded."""
        for entry in reversed(self.entries):
            before = _mpf(entry.printed.value)
            if entry.quantity == quantity and _meets(printed, before, before):
                verdict = "follows" if entry.tainted else "carried"
                reason = f"repeats {'the wrong ' if entry.tainted else ''}{entry.printed.text}"
                operands = ((item.name, entry.printed.text.strip()),)
                return replace(item, verdict=verdict, reason=reason, operands=operands)
        return None

    def _reckoned(self, item: Checked, quantity: Quantity, printed: Printed) -> Checked | None:
        """Return the verdict on a number that earlier ones enter, None where there are none.

        Where a wrong one enters, but the number does not follow from it, it may have been
        computed without that slip: from the right value and the other printed numbers.
        """
        entries = self._printed(sound=False)
        intervals = {q: entry.interval for q, entry in entries.items()}
        results = [r for r in reckon(self.example, quantity, intervals) if r.operands]
        for result in results:
            if _meets(printed, result.low, result.high):
                return self._given_by(item, printed, result, entries)
        if any(entries[q].tainted for result in results for q in result.operands):
            sound = self._printed(sound=True)
            intervals = {q: entry.used for q, entry in sound.items()}
            for result in reckon(self.example, quantity, intervals):
                if result.operands and _meets(printed, result.low, result.high):
                    return self._given_by(item, printed, result, sound)
        if not results:
            return None
        named = self._with_own(item, printed, results[0], entries)
        right = shown(self.example.exact(quantity), printed.unit)
        return replace(named, verdict="wrong", reason=f"right is {right}")

    def _given_by(
        self, item: Checked, printed: Printed, result: Reckoned, entries: dict[Quantity, _Entry]
    ) -> Checked:
        """Return the verdict on a number that is what the printed numbers give."""
        wrong = [q for q in result.operands if entries[q].tainted]
        named = self._with_own(item, printed, result, entries)
        blame = tuple(_pair(entries[q]) for q in wrong or result.operands)
        kind = "the wrong" if wrong else "the document's"
        reason = f"{named.own} from {kind} {_listed(blame, item.after)}"
        return replace(named, verdict="follows" if wrong else "carried", reason=reason)

    def _with_own(
        self, item: Checked, printed: Printed, result: Reckoned, entries: dict[Quantity, _Entry]
    ) -> Checked:
        own = shown(result.value, printed.unit.scaleb(-_MORE_DIGITS))
        operands = tuple(_pair(entries[q]) for q in result.operands)
        return replace(item, own=own, operands=operands)

    def _printed(self, sound: bool) -> dict[Quantity, _Entry]:
        """Return the printed number that stands for each quantity.

        That is the one with the most digits; unless only `sound` ones are wanted, the
        last one where that is wrong. What is given is exact, unless it was misprinted.
        """
        chosen: dict[Quantity, _Entry] = {}
        for entry in self.entries:
            before = chosen.get(entry.quantity)
            if entry.tainted:
                if not sound:
                    chosen[entry.quantity] = entry
            elif self.example.is_given(entry.quantity):
                chosen.pop(entry.quantity, None)
            elif before is None or before.tainted or entry.printed.unit <= before.printed.unit:
                chosen[entry.quantity] = entry
        return chosen


def _pair(entry: _Entry) -> tuple[str, str]:
    return f"{entry.quantity}{_after(entry.quantity.after)}", entry.printed.text.strip()


def _after(updates: int) -> str:
    return f" after {updates} update{'s' * (updates > 1)}" if updates else ""


def _meets(printed: Printed, low: Any, high: Any) -> bool:
    """Tell whether a number between `low` and `high`, rounded or cut off, gives what is printed."""
    value, unit = _mpf(printed.value), _mpf(printed.unit)
    below = above = unit / 2
    if value > 0 or not (value or printed.negative):
        above = unit
    if value < 0 or not value:
        below = unit
    edge = unit * _NOISE
    return bool(low <= value + above + edge and high >= value - below - edge)


def _formula(example: Example, quantity: Quantity) -> str:
    """Return the formula that a quantity is computed by; "" for what is given."""
    top, by = quantity.top.name, quantity.by
    if by is not None and top != example.loss:
        return _slope(example, quantity)
    if by is not None:
        try:
            return text(example.derivation.adjoint(by.name))
        except NetworkError:
            return ""
    if top in example.equations:
        return text(example.equations[top])
    if example.is_given(quantity):
        return ""
    update = find(example.network.training.optimizer).equations[-1].rhs
    names = {"theta": top, "gradient": example.derivation.adjoint_name(top)}
    renamed = {s: Symbol(names[s.name], real=True) for s in update.free_symbols if s.name in names}
    return text(Equation(Symbol(top, real=True), update.xreplace(renamed)))


def _slope(example: Example, quantity: Quantity) -> str:
    """Return the formula of a factor: ``dy1out/dy1 = y1out*(1 - y1out)``."""
    top, by = quantity.top, quantity.by
    if by is None:
        return ""
    edges = Graph(example.derivation).edges((by.name, by.place)) or ()
    found = [edge.derivative for edge in edges if edge.above == (top.name, top.place)]
    return f"{quantity} = {text(found[0])}" if found else ""


def shown(value: Any, unit: Decimal) -> str:
    """Return a number to the nearest multiple of `unit`, a power of ten, with all its digits.

    >>> shown(MP.mpf(2) / 3, Decimal("0.001"))
    '0.667'
    """
    if not MP.isfinite(value):
        return str(value)
    number = Decimal(MP.nstr(value, DIGITS))
    context = Context(prec=400, rounding=ROUND_HALF_EVEN)
    try:
        return f"{number.quantize(unit, context=context):f}"
    except ArithmeticError:  # hundreds of digits: no document prints them
        return MP.nstr(value, 15)


def _mpf(number: Decimal) -> Any:
    return MP.mpf(str(number))
