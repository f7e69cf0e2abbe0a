"""Pictures of a network and of its training, as SVG for an HTML page.

A network of scalars is drawn as units and weights, one of tensors as boxes with
their shapes. Both come from the equations: who reads whom, multiplied by which parameter.
Colours are the page's (classes ``unit``, ``edge``, ``curve``), so light and dark are its choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import floor, hypot, isfinite, log10

from sympy import Add, Expr, Function, Mul, Sum

from symprop.derivation import Derivation
from symprop.equation import name_of
from symprop.indices import accesses, size

__all__ = ["Unit", "chart", "network_drawing", "units"]


@dataclass(slots=True)
class Unit:
    """A node of the drawing: an input, or one or two equations (net input, output).

    `sources` maps the name of each value that is read to the parameters that multiply it;
    `biases` are the parameters that stand alone, `targets` the targets that it reads.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    net: str = ""
    function: str = ""
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    biases: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    depth: int = 0
    place: tuple[float, float] = (0.0, 0.0)


def units(derivation: Derivation) -> tuple[Unit, ...]:
    """Return the units of a network with their depths; an activation and its net input are one."""
    network = derivation.network
    found = {v.name: Unit(v.name, "in", v.shape) for v in network.inputs}
    targets = {target.name for target in network.targets}
    parameters = {parameter.name for parameter in network.parameters}
    readers: dict[str, list[str]] = {}
    for equation in derivation.forward:
        for name in dict.fromkeys(map(name_of, accesses(equation.rhs))):
            readers.setdefault(name, []).append(equation.name)
    for equation in derivation.forward:
        kind = "loss" if equation.name == derivation.loss_name else "unit"
        kind = "out" if equation.name in network.outputs else kind
        sources, biases = _terms(equation.rhs, parameters)
        read = tuple(name for name in sources if name in targets)
        sources = {name: weights for name, weights in sources.items() if name not in targets}
        (only, *more) = [*sources] or [""]
        merged = not more and isinstance(equation.rhs, Function) and found.get(only)
        if merged and merged.kind == "unit" and readers[only] == [equation.name]:
            unit = found.pop(only)
            unit.net, unit.function = only, _function(equation.rhs)
            unit.name, unit.kind = equation.name, kind
        else:
            shape = tuple(map(size, equation.indices))
            unit = Unit(equation.name, kind, shape, "", "", sources, biases, read)
            unit.function = _function(equation.rhs)
        found[unit.name] = unit
    _set_depths(found)
    return tuple(found.values())


def _function(rhs: Expr) -> str:
    if not isinstance(rhs, Function) or isinstance(rhs, Add | Mul | Sum):
        return ""
    return "σ" if type(rhs).__name__ == "sigmoid" else type(rhs).__name__


def _terms(rhs: Expr, parameters: set[str]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return each value that is read with the parameters of its terms, and the lone parameters."""
    sources: dict[str, tuple[str, ...]] = {}
    biases: list[str] = []
    for term in Add.make_args(rhs):
        names = list(dict.fromkeys(map(name_of, accesses(term))))
        weights = tuple(name for name in names if name in parameters)
        values = [name for name in names if name not in parameters]
        for name in values:
            sources[name] = tuple(dict.fromkeys((*sources.get(name, ()), *weights)))
        biases += [] if values else weights
    return sources, tuple(biases)


def _set_depths(found: Mapping[str, Unit]) -> None:
    for unit in found.values():
        depths = [found[source].depth for source in unit.sources]
        unit.depth = max(depths, default=-1) + 1


# Drawing a network


def network_drawing(derivation: Derivation, values: Mapping[str, str] | None = None) -> str:
    """Return the network as an SVG element.

    `values` gives scalar variables and parameters a number to be written beside them.
    """
    found = units(derivation)
    scalar = not any(unit.shape for unit in found)
    step = (178.0, 104.0) if scalar else (212.0, 118.0)
    columns = max(unit.depth for unit in found) + 1
    rows = [[unit for unit in found if unit.depth == depth] for depth in range(columns)]
    height = max(map(len, rows)) * step[1] + 16
    width = columns * step[0] + (0 if scalar else 8)
    for depth, column in enumerate(rows):
        top = (height - len(column) * step[1]) / 2
        for row, unit in enumerate(column):
            unit.place = ((depth + 0.5) * step[0], top + (row + 0.5) * step[1])
    known = values or {}
    inside = [*_edges(found, known, scalar), *(_unit(unit, known, scalar) for unit in found)]
    name = escape(derivation.network.name)
    count = f"{len(found)} units" if scalar else f"{len(found)} boxes"
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="The network {name}: {count}" font-size="14" text-anchor="middle" '
        f'style="min-width:{min(width, 118 * columns if scalar else 130 * columns):.0f}px">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="arrow" d="M0 1 L8 4 L0 7 z"/></marker></defs>'
        f"{''.join(inside)}</svg>"
    )


_RADIUS = 31.0
_BOX = (158.0, 66.0)


def _edges(found: Sequence[Unit], values: Mapping[str, str], scalar: bool) -> list[str]:
    places = {unit.name: unit for unit in found}
    lines, labels = [], []
    for unit in found:
        for source, weights in unit.sources.items():
            start, end = _ends(places[source], unit, scalar)
            lines.append(f'<path class="edge" marker-end="url(#tip)" d="{_curve(start, end)}"/>')
            if weights:
                labels.append(_edge_label(start, end, _with_values(weights, values)))
    return lines + labels


def _with_values(names: Sequence[str], values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {values[name]}" if name in values else name for name in names)


def _ends(
    source: Unit, unit: Unit, scalar: bool
) -> tuple[tuple[float, float], tuple[float, float]]:
    (x0, y0), (x1, y1) = source.place, unit.place
    if not scalar:
        return (x0 + _BOX[0] / 2, y0), (x1 - _BOX[0] / 2 - 2, y1)
    length = hypot(x1 - x0, y1 - y0) or 1.0
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    return (
        (x0 + dx * _RADIUS, y0 + dy * _RADIUS),
        (x1 - dx * (_RADIUS + 2), y1 - dy * (_RADIUS + 2)),
    )


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x0, y0), (x1, y1) = start, end
    if x1 - x0 > 240 or x1 <= x0:  # over a column: bend around what stands there
        bend = 58 if y0 <= y1 else -58
        middle = (x0 + x1) / 2
        return f"M{x0:.1f} {y0:.1f} Q{middle:.1f} {min(y0, y1) - abs(bend):.1f} {x1:.1f} {y1:.1f}"
    return f"M{x0:.1f} {y0:.1f} L{x1:.1f} {y1:.1f}"


def _edge_label(start: tuple[float, float], end: tuple[float, float], label: str) -> str:
    share = 0.5 if abs(end[1] - start[1]) < 1 else 0.3
    x = start[0] + share * (end[0] - start[0])
    y = start[1] + share * (end[1] - start[1]) - (6 if share == 0.5 else 0)
    return f'<text class="halo" x="{x:.1f}" y="{y:.1f}" font-size="12">{escape(label)}</text>'


def _unit(unit: Unit, values: Mapping[str, str], scalar: bool) -> str:
    return _circle(unit, values) if scalar else _box(unit)


def _circle(unit: Unit, values: Mapping[str, str]) -> str:
    x, y = unit.place
    small = 14 if len(unit.name) <= 6 else 10.5 if len(unit.name) <= 10 else 8.5
    value = values.get(unit.name, "")
    name_y = y + (-1 if value else 5)
    parts = [
        f'<circle class="unit {unit.kind}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"/>',
        f'<text x="{x:.1f}" y="{name_y:.1f}" font-size="{small}">{escape(unit.name)}</text>',
    ]
    if value:
        below = f'x="{x:.1f}" y="{y + 14:.1f}" font-size="11"'
        parts.append(f'<text class="soft" {below}>{value}</text>')
    call = f"{unit.function}({unit.net})" if unit.net else unit.function
    biases = "+ " + _with_values(unit.biases, values) if unit.biases else ""
    targets = [_with_values([target], values) for target in unit.targets]
    notes = [note for note in (call, biases, *targets) if note]
    for number, note in enumerate(notes):
        parts.append(
            f'<text class="soft halo" x="{x:.1f}" y="{y + _RADIUS + 14 + 13 * number:.1f}" '
            f'font-size="11.5">{escape(note)}</text>'
        )
    return "".join(parts)


def _box(unit: Unit) -> str:
    x, y = unit.place
    width, height = _BOX
    shape = "×".join(map(str, unit.shape)) or "one number"
    details = [f"{unit.function}({unit.net})" if unit.net else unit.function]
    details += [f"bias {', '.join(unit.biases)}"] if unit.biases else []
    details += [f"target {', '.join(unit.targets)}"] if unit.targets else []
    detail = ", ".join(filter(None, details))
    rows = [(unit.name, 15, ""), (shape, 12, "soft")] + ([(detail, 11.5, "soft")] if detail else [])
    top = y - 8.5 * (len(rows) - 1) + 5
    words = "".join(
        f'<text class="{style}" x="{x:.1f}" y="{top + 17 * number:.1f}" font-size="{points}">'
        f"{escape(_shortened(word))}</text>"
        for number, (word, points, style) in enumerate(rows)
    )
    return (
        f'<rect class="unit {unit.kind}" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" '
        f'width="{width}" height="{height}" rx="8"/>{words}'
    )


def _shortened(word: str) -> str:
    return word if len(word) <= 24 else word[:22] + "…"


# Charts


def chart(
    values: Sequence[float],
    label: str,
    *,
    epochs: Sequence[int] | None = None,
    second: bool = False,
) -> str:
    """Return a line chart over the epochs as an SVG element; logarithmic where it falls far.

    `epochs` says where the values stand, 0, 1, 2, ... unless given.
    """
    at = list(epochs) if epochs is not None else list(range(len(values)))
    kept = [(x, float(y)) for x, y in zip(at, values, strict=True) if isfinite(y)]
    logarithmic = bool(kept) and min(y for _, y in kept) > 0
    logarithmic = logarithmic and max(y for _, y in kept) > 50 * min(y for _, y in kept)
    scaled = [(x, log10(y) if logarithmic else y) for x, y in kept]
    low, high = _limits([y for _, y in scaled], logarithmic)
    last = max(at[-1], 1)
    left, right, top, bottom = 62.0, 408.0, 30.0, 212.0

    def point(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / last, bottom - (bottom - top) * (y - low) / (high - low)

    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(*pair) for pair in scaled))
    grid = []
    for value in _ticks(low, high, logarithmic):
        y = point(0, value)[1]
        shown = f"10{_raised(round(value))}" if logarithmic else f"{value:g}"
        grid.append(
            f'<path class="grid" d="M{left} {y:.1f} H{right}"/>'
            f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>'
        )
    for epoch in sorted({0, last // 2, last}):
        x = point(epoch, low)[0]
        grid.append(f'<text class="soft" x="{x:.1f}" y="{bottom + 18}">{epoch}</text>')
    style = "curve second" if second else "curve"
    return (
        '<svg viewBox="0 0 420 250" width="420" height="250" role="img" '
        f'aria-label="{escape(label)} over {last} epochs" font-size="11.5" text-anchor="middle">'
        f'<text x="{left}" y="18" text-anchor="start" font-size="13.5">{escape(label)}</text>'
        f'{"".join(grid)}<path class="axis" d="M{left} {bottom} H{right}"/>'
        f'<polyline class="{style}" points="{path}"/>'
        f'<text class="soft" x="{(left + right) / 2}" y="{bottom + 34}">epoch</text></svg>'
    )


def _limits(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if logarithmic:
        return float(floor(low)), float(-floor(-high))
    low = min(low, 0.0)
    return low, high if high > low else low + 1.0


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        step = max(1, round((high - low) / 5))
        return [float(power) for power in range(int(low), int(high) + 1, step)]
    raw = (high - low) / 4
    unit = 10.0 ** floor(log10(raw))
    step_size = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    first = -floor(-low / step_size)
    count = floor((high - first * step_size) / step_size) + 1
    return [round((first + number) * step_size, 12) for number in range(count)]


def _raised(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
