"""Line charts as inline SVG: crisp at any size, in the theme's colours, and no script to load.

Pure functions from numbers to text; the colours of a line are its CSS class.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

MAX_POINTS = 500
BINS = 30
SMOOTHING = 0.7
WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26


@dataclass(frozen=True)
class Title:
    """What a chart shows, in which unit, and a sentence that explains it."""

    name: str
    unit: str
    meaning: str = ""

    @property
    def html(self) -> str:
        told = f' title="{escape(self.meaning)}"' if self.meaning else ""
        unit = f'<span class="unit">{escape(self.unit)}</span>'
        return f"<strong{told}>{escape(self.name)}</strong> {unit}"


@dataclass(frozen=True)
class Line:
    """One curve. `style` is its CSS class: train or validation."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]  # (x, y), x ascending

    def smoothed(self) -> "Line":
        """A running mean that follows with a weight of 1 − SMOOTHING for each new point."""
        mean, points = self.points[0][1] if self.points else 0.0, []
        for x, y in self.points:
            mean = SMOOTHING * mean + (1 - SMOOTHING) * y
            points.append((x, mean))
        return Line(self.name, self.style, points)


def line_chart(
    title: Title,
    lines: Sequence[Line],
    marked: float | None = None,
    logarithmic: bool = False,
) -> str:
    """A figure with its legend, which tells the newest values; `marked` is an x worth a line.

    logarithmic: the y axis; values that are not above zero are left out then.
    """
    drawn = [_finite(line, above=0.0 if logarithmic else -math.inf) for line in lines]
    drawn = [line for line in drawn if line.points]
    if not drawn:
        return ""
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    scale = _LogAxis if logarithmic else _Axis
    x_axis, y_axis = _Axis.around(xs, LEFT, WIDTH - RIGHT), scale.around(ys, HEIGHT - BOTTOM, TOP)
    newest = ", ".join(f"{line.name} {short(line.points[-1][1])}" for line in drawn)
    parts = [
        _grid(x_axis, y_axis),
        _marker(x_axis, marked) if marked is not None else "",
        *(_path(line, x_axis, y_axis) for line in drawn),
        _readouts(drawn, x_axis),
    ]
    return (
        f'<figure class="chart"><figcaption>{title.html}<p>{_legend(drawn)}</p></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title.name)} by epoch, newest: {escape(newest)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def dot_chart(title: Title, points: Sequence[tuple[float, float]]) -> str:
    """What was chosen (x) against what came of it (y), a dot for each try; empty for none."""
    if not points:
        return ""
    x_axis = _Axis.around([x for x, _ in points], LEFT + 8, WIDTH - RIGHT - 8)
    y_axis = _Axis.around([y for _, y in points], HEIGHT - BOTTOM, TOP)
    dots = "".join(
        f'<circle class="validation" cx="{x_axis.at(x)}" cy="{y_axis.at(y)}" r="4">'
        f"<title>{short(x)}: {short(y)}</title></circle>"
        for x, y in points
    )
    return (
        f'<figure class="chart"><figcaption>{title.html}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title.unit)} by {escape(title.name)}">'
        f"{_grid(x_axis, y_axis, whole=False)}{dots}</svg></figure>"
    )


def histogram(title: Title, values: Sequence[float], marks: Mapping[str, float]) -> str:
    """How values are spread, with named lines at some places; empty without values."""
    if not values:
        return ""
    known = {name: value for name, value in marks.items() if math.isfinite(value)}
    axis = _Axis.around([*values, *known.values()], LEFT, WIDTH - RIGHT)
    counts, edges = np.histogram(values, bins=BINS)
    heights = _Axis(0.0, max(1.0, float(counts.max())), HEIGHT - BOTTOM, TOP + 13 * len(known) + 6)
    bars = "".join(
        f'<rect class="bin" x="{axis.at(low)}" y="{heights.at(count)}" '
        f'width="{max(0.5, axis.at(high) - axis.at(low) - 0.6):.1f}" '
        f'height="{HEIGHT - BOTTOM - heights.at(count):.1f}"/>'
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    lines = "".join(
        _named_line(axis, name, value, n) for n, (name, value) in enumerate(known.items())
    )
    told = ", ".join(f"{name} {short(value)}" for name, value in known.items())
    return (
        f'<figure class="chart"><figcaption>{title.html}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title.name)}: {escape(told)}">'
        f"{_grid(axis, heights, False)}{bars}{lines}</svg></figure>"
    )


def _named_line(axis: "_Axis", name: str, value: float, row: int) -> str:
    """A vertical line with its name beside it; each in a row of its own, so that none is hidden."""
    x = axis.at(value)
    anchor, offset = ("end", -5) if x > WIDTH / 2 else ("start", 5)
    return (
        f'<line class="mark m{row}" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="tick m{row}" x="{x + offset}" y="{TOP + 8 + 13 * row}" '
        f'text-anchor="{anchor}">{escape(name)}</text>'
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


class _LogAxis(_Axis):
    """The same for values above zero: `low` and `high` are their logarithms."""

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "_LogAxis":
        linear = _Axis.around([math.log10(value) for value in values], start, end)
        return cls(linear.low, linear.high, start, end)

    def at(self, value: float) -> float:
        return super().at(math.log10(value))

    def ticks(self, count: int, whole: bool = False) -> list[float]:
        """1, 2 and 5 times the powers of ten within the axis; at least its ends."""
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        within = [value for value in found if self.low <= math.log10(value) <= self.high]
        return within or [float(f"{10**self.low:.3g}"), float(f"{10**self.high:.3g}")]


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return power * next(factor for factor in (1, 2, 5, 10) if raw <= factor * power * 1.0001)


def _finite(line: Line, above: float = -math.inf) -> Line:
    points = [(x, y) for x, y in line.points if math.isfinite(y) and y > above]
    stride = -(-len(points) // MAX_POINTS)
    if stride > 1:
        points = points[::-stride][::-1]  # from the end, so that the newest always stays
    return Line(line.name, line.style, points)


def _grid(x_axis: _Axis, y_axis: _Axis, whole: bool = True) -> str:
    parts = []
    for value in y_axis.ticks(4):
        y = y_axis.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        label = f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5}" text-anchor="end">'
        parts.append(f"{label}{_tick(value)}</text>")
    base = HEIGHT - BOTTOM
    for value in x_axis.ticks(6, whole):
        x = x_axis.at(value)
        label = f'<text class="tick" x="{x}" y="{base + 14}" text-anchor="middle">'
        parts.append(f"{label}{_tick(value)}</text>")
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:,.10g}".replace("-", "−")


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
