"""Line charts as inline SVG: crisp at any size, in the theme's colours, and no script to load.

Pure functions from numbers to text; the colours of a line are its CSS class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MAX_POINTS = 500
WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26


@dataclass(frozen=True)
class Line:
    """One curve. `style` is its CSS class: train or validation."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]  # (x, y), x ascending


def line_chart(title: str, unit: str, lines: Sequence[Line], marked: float | None = None) -> str:
    """A figure with its legend, which tells the newest values; `marked` is an x worth a line."""
    drawn = [_finite(line) for line in lines]
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    x_axis, y_axis = _Axis.around(xs, LEFT, WIDTH - RIGHT), _Axis.around(ys, HEIGHT - BOTTOM, TOP)
    newest = ", ".join(f"{line.name} {short(line.points[-1][1])}" for line in drawn)
    parts = [
        _grid(x_axis, y_axis),
        _marker(x_axis, marked) if marked is not None else "",
        *(_path(line, x_axis, y_axis) for line in drawn),
        _readouts(drawn, x_axis),
    ]
    return (
        f'<figure class="chart"><figcaption><strong>{escape(title)}</strong> '
        f'<span class="unit">{escape(unit)}</span><p>{_legend(drawn)}</p></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)} by epoch, newest: {escape(newest)}">{"".join(parts)}</svg>'
        "</figure>"
    )


def short(value: float) -> str:
    """Three significant digits without an exponent where that is readable: 0.0123, 12.3, 1,230."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 1e-4:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:.{digits}f}"
    return "0" if value == 0 else f"{value:.1e}"


@dataclass(frozen=True)
class _Axis:
    """Maps values between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        low, high = min(values), max(values)
        margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        if start < end:  # x: the curve begins at the axis
            margin = 0.0 if high > low else 0.5
        return cls(low - margin, high + margin, start, end)

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int, whole: bool = False) -> list[float]:
        """Round values within the axis, about `count` of them."""
        step = _round_step((self.high - self.low) / count)
        if whole:
            step = max(1.0, step)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return power * next(factor for factor in (1, 2, 5, 10) if raw <= factor * power * 1.0001)


def _finite(line: Line) -> Line:
    points = [(x, y) for x, y in line.points if math.isfinite(y)]
    stride = -(-len(points) // MAX_POINTS)
    if stride > 1:
        points = points[::-stride][::-1]  # from the end, so that the newest always stays
    return Line(line.name, line.style, points)


def _grid(x_axis: _Axis, y_axis: _Axis) -> str:
    parts = []
    for value in y_axis.ticks(4):
        y = y_axis.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        label = f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5}" text-anchor="end">'
        parts.append(f"{label}{short(value)}</text>")
    base = HEIGHT - BOTTOM
    for value in x_axis.ticks(6, whole=True):
        x = x_axis.at(value)
        label = f'<text class="tick" x="{x}" y="{base + 14}" text-anchor="middle">'
        parts.append(f"{label}{value:g}</text>")
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    return "".join(parts)


def _marker(x_axis: _Axis, value: float) -> str:
    x = x_axis.at(value)
    line = f'<line class="marker" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    anchor, offset = ("end", -4) if x > WIDTH / 2 else ("start", 4)
    label = f'<text class="tick" x="{x + offset}" y="{TOP + 9}" text-anchor="{anchor}">best</text>'
    return line + label


def _path(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    spots = [(x_axis.at(x), y_axis.at(y)) for x, y in line.points]
    x, y = spots[-1]
    dot = f'<circle class="{line.style}" cx="{x}" cy="{y}" r="2.6"/>'
    if len(spots) == 1:
        return dot
    steps = " ".join(f"{x},{y}" for x, y in spots)
    return f'<polyline class="{line.style}" points="{steps}"/>{dot}'


def _readouts(lines: Sequence[Line], x_axis: _Axis) -> str:
    """An invisible strip over each epoch, whose tooltip tells its values."""
    values: dict[float, list[str]] = {}
    for line in lines:
        for x, y in line.points:
            values.setdefault(x, []).append(f"{line.name} {short(y)}")
    width = max(1.0, (WIDTH - LEFT - RIGHT) / max(1, len(values) - 1))
    return "".join(
        f'<rect class="readout" x="{x_axis.at(x) - width / 2:.1f}" y="{TOP}" width="{width:.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}"><title>epoch {x:g}: {escape(", ".join(found))}'
        "</title></rect>"
        for x, found in sorted(values.items())
    )


def _legend(lines: Sequence[Line]) -> str:
    return "".join(
        f'<span class="key {line.style}">{escape(line.name)} '
        f"<b>{short(line.points[-1][1])}</b></span>"
        for line in lines
    )
