"""One call of a kernel, one comparison of its numbers with the mathematics, and its wording.

An error is *scaled*: |kernel - value| in units of the dtype's machine epsilon times the
magnitude (the sum of |terms|, see `oracle`). What rounding allows at each element is
the oracle's error bound in the same units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from symprop.errors import VerificationError
from symprop.verification.precise import Arithmetic, Floats, Value, mpf_array

__all__ = [
    "Kind",
    "Row",
    "call",
    "compare",
    "compare_equal",
    "compare_mean",
    "merge",
    "parameters_of",
]

MANY = 4096
"""How many elements of one array are compared to sixty digits."""

Kind = Literal["output", "loss", "gradient", "training"]


@dataclass(frozen=True, slots=True)
class Row:
    """The comparison of one quantity, over all its elements and all points.

    `error` is the largest scaled error, `allowed` what rounding allows at the worst
    element and `share` the largest part of the allowed error that was used. The worst
    element is `place`, at the point `point`, where the kernel gives `got` and the
    mathematics `expected`. `checked` elements were compared; `unchecked` ones could not
    be, because an intermediate value leaves the range of the dtype.
    """

    kind: Kind
    name: str
    error: float
    allowed: float
    share: float
    place: tuple[int, ...]
    point: str
    got: float
    expected: float
    checked: int
    unchecked: int
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether every element that could be checked is right, and one could."""
        return not self.problem and self.share <= 1 and self.checked > 0

    @property
    def subject(self) -> str:
        """The element that is worst, as a person calls it."""
        subject = f"{self.kind} {self.name}" if self.name != self.kind else self.kind
        return f"{subject}[{', '.join(map(str, self.place))}]" if self.place else subject

    def __str__(self) -> str:
        """Return one sentence on the worst element."""
        if self.problem:
            return f"{self.subject} ({self.point}): {self.problem}"
        if not self.checked:
            return (
                f"{self.subject}: no element could be checked, because an intermediate value "
                "leaves the range of the dtype at every point; use smaller numbers or a "
                "stable form such as logsumexp"
            )
        if not np.isfinite(self.got):
            return (
                f"{self.subject} ({self.point}): got {self.got}, expected {self.expected:.9g}: "
                "not finite where the true value is, although every step of the equation can "
                "be computed there"
            )
        return (
            f"{self.subject} ({self.point}): got {self.got:.9g}, expected {self.expected:.9g}: "
            f"off by {self.scaled:.3g} epsilon*sum|terms|, rounding allows {self.allowed:.3g}"
        )

    @property
    def scaled(self) -> float:
        """The scaled error of the worst element."""
        return self.share * self.allowed


def compare(
    kind: Kind, name: str, got: ArrayLike, expected: Value, point: str, form: Arithmetic
) -> Row:
    """Compare the array `got` with `expected`, element by element."""
    array = np.asarray(got, dtype=np.float64)
    if array.shape != expected.exact.shape:
        return _misshapen(kind, name, point, array.shape, expected.exact.shape)
    shape = array.shape
    array, expected = array.ravel(), expected.map(np.ravel)
    with np.errstate(all="ignore"):
        distance = np.abs((mpf_array(array) - expected.exact).astype(np.float64))
        distance = np.where(np.isfinite(array), distance, np.inf)
        unit = np.maximum(form.epsilon * expected.magnitude, form.tiny)
        share = np.where(distance == 0, 0.0, distance / expected.error)
        scaled, allowed = distance / unit, expected.error / unit
    checked = np.isfinite(expected.error)
    row = _row(kind, name, point, array, expected, (scaled, allowed, share), checked)
    place = np.unravel_index(row.place[0], shape) if shape else ()
    return replace(row, place=tuple(int(index) for index in place))


def compare_mean(
    kind: Kind, name: str, got: ArrayLike, samples: Value, count: int, point: str, form: Arithmetic
) -> Row:
    """Compare the array `got` with the mean over `count` samples.

    Of many elements only the worst are compared to sixty digits; which they are, float64
    can tell.
    """
    array, shape = np.asarray(got, dtype=np.float64), samples.exact.shape[1:]
    if array.size <= MANY or array.shape != shape:
        return compare(kind, name, array, samples.mean(count, form.epsilon), point, form)
    flat = samples.map(lambda a: a.reshape(len(a), -1))
    approximate, _, error = flat.rough_mean(count, form.epsilon)
    with np.errstate(all="ignore"):
        share = np.abs(array.ravel() - approximate) / error
    share = np.where(np.isfinite(error), np.where(np.isnan(share), np.inf, share), -1.0)
    worst = np.argpartition(-share, MANY)[:MANY]
    mean = flat.map(lambda a: a[:, worst]).mean(count, form.epsilon)
    row = compare(kind, name, array.ravel()[worst], mean, point, form)
    checked = int(np.isfinite(error).sum())
    place = np.unravel_index(worst[row.place[0]], shape)
    return replace(
        row, place=tuple(map(int, place)), checked=checked, unchecked=array.size - checked
    )


def compare_equal(
    kind: Kind, name: str, got: ArrayLike, same: ArrayLike, point: str, form: Arithmetic
) -> Row:
    """Compare two arrays that must be equal bit for bit."""
    left, right = np.atleast_1d(got), np.atleast_1d(same)
    if left.shape != right.shape:
        return _misshapen(kind, name, point, left.shape, right.shape)
    worst = np.unravel_index(int(np.argmax(left != right)), left.shape)
    row = compare(kind, name, left[worst], form.leaf(right[worst]), point, form)
    place = tuple(map(int, worst)) if np.ndim(got) else ()
    return replace(row, place=place, checked=left.size)


def _misshapen(
    kind: Kind, name: str, point: str, got: tuple[int, ...], expected: tuple[int, ...]
) -> Row:
    problem = f"got an array of shape {got}, expected {expected}"
    return Row(kind, name, np.inf, 0.0, np.inf, (), point, np.nan, np.nan, 1, 0, problem)


def _row(
    kind: Kind,
    name: str,
    point: str,
    array: Floats,
    expected: Value,
    figures: tuple[Floats, Floats, Floats],
    checked: Any,
) -> Row:
    scaled, allowed, share = (np.where(checked, figure, -1.0) for figure in figures)
    worst = int(np.argmax(share))
    return Row(
        kind,
        name,
        float(np.max(scaled, initial=0.0)),
        float(max(allowed[worst], 0.0)),
        float(max(share[worst], 0.0)),
        (worst,),
        point,
        float(array[worst]),
        float(expected.approximate[worst]),
        int(checked.sum()),
        int(checked.size - checked.sum()),
    )


def merge(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Join the rows of each quantity into the worst of them, in order of first appearance."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.kind, row.name)
        found[key] = _join(found[key], row) if key in found else row
    return tuple(found.values())


def _join(first: Row, second: Row) -> Row:
    worst = max(first, second, key=lambda row: (bool(row.problem), row.share, row.checked))
    return replace(
        worst,
        error=max(first.error, second.error),
        checked=first.checked + second.checked,
        unchecked=first.unchecked + second.unchecked,
    )


def call(module: Any, name: str, label: str, *arguments: Any, **settings: Any) -> Any:
    """Call a kernel; raise `VerificationError` where it fails or changes its arguments."""
    before = [np.array(argument) for argument in arguments[1:]]
    try:
        result = getattr(module, name)(*arguments, **settings)
    except Exception as error:
        raise VerificationError(
            f"{name} fails ({label}): {type(error).__name__}: {error}"
        ) from error
    for number, (now, then) in enumerate(zip(arguments[1:], before, strict=True), start=1):
        if not np.array_equal(now, then):
            raise VerificationError(f"{name} changes its argument {number} ({label})")
    return result


def parameters_of(module: Any, values: Mapping[str, ArrayLike]) -> Any:
    """Return the module's `Parameters`: arrays, and floats for scalars."""
    return module.Parameters(
        **{n: float(np.asarray(v)) if np.ndim(v) == 0 else np.array(v) for n, v in values.items()}
    )
