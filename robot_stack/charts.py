"""Charts as inline SVG: no library, no external file, colours from the page's style sheet (classes ``c0`` to ``c5``)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 500
COLOURS = 6


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        label: for the legend.
        points: (x, y), x ascending.
        colour: index of its colour class.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0


@dataclass(frozen=True)
class Bar:
    """One row of an interval chart: an estimate between bounds, all in the chart's unit.

    Attributes:
        label: what it is.
        estimate, lower, upper: the value and its 95 % interval.
        note: short text behind the bar.
        colour: index of its colour class.
    """

    label: str
    estimate: float
    lower: float
    upper: float
    note: str = ""
    colour: int = 0


def rounded(value: float, top: float = 100.0) -> str:
    """To a whole number; what is not quite nothing or ``top`` does not look so: 99.5, not 100."""
    return f"{value:.1f}" if round(value) in (0, top) and value not in (0.0, top) else f"{value:.0f}"


def interval_chart(bars: Sequence[Bar], top: float = 100.0, unit: str = "%") -> str:
    """Horizontal bars from 0 to ``top`` with their intervals as whiskers."""
    left, row, head = 130, 36, 6
    height = head + row * len(bars) + 26
    scale = (WIDTH - left - 105) / top
    parts = [_grid_vertical(left, scale, top, head, head + row * len(bars), unit)]
    for index, bar in enumerate(bars):
        y = head + row * index + 6
        middle, tone = y + 11, f"c{bar.colour % COLOURS}"
        low, high, end = (left + value * scale for value in (bar.lower, bar.upper, bar.estimate))
        parts.append(
            f'<text class="label" x="{left - 10}" y="{middle + 4}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="fill {tone}" x="{left}" y="{y}" width="{max(end - left, 1):.1f}" height="22" rx="3"/>'
            f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 5}v10M{high:.1f} {middle - 5}v10"/>'
            f'<text class="value" x="{left + top * scale + 8}" y="{middle + 4}">{rounded(bar.estimate, top)}{unit}'
            f'<tspan class="note" dx="6">{escape(bar.note or f"{bar.lower:.0f}-{bar.upper:.0f}")}</tspan></text>'
        )
    return _svg(height, parts, ", ".join(f"{bar.label} {rounded(bar.estimate, top)}{unit}" for bar in bars))


def line_chart(curves: Sequence[Curve], x_label: str, y_label: str, y_range: tuple[float, float] | None = None) -> str:
    """Lines over a common x; empty curves are left out.

    Raises:
        ValueError: no curve has a point.
    """
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        raise ValueError(f"chart of {y_label}: no curve has a point")
    xs = [x for curve in drawn for x, _ in curve.points]
    ys = [y for curve in drawn for _, y in curve.points if math.isfinite(y)] or [0.0]
    low, high = y_range or _padded(min(ys), max(ys))
    left, right, top, bottom = 58, 16, 30, 44
    height = 220
    first = min(xs)
    last = max(*xs, first + 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (x - first) / (last - first) * (WIDTH - left - right)
        return across, height - bottom - (min(max(y, low), high) - low) / (high - low) * (height - top - bottom)

    parts = []
    for tick in nice_ticks(low, high):
        _, y = place(first, tick)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDTH - right}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in nice_ticks(first, last):
        x, _ = place(tick, low)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="axis" x="{(left + WIDTH) / 2}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text class="axis" x="{left}" y="14">{escape(y_label)}</text>')
    offset = WIDTH - right
    for curve in reversed(drawn):
        offset -= 7 * len(curve.label) + 24
        tone = f"c{curve.colour % COLOURS}"
        parts.append(f'<circle class="fill {tone}" cx="{offset + 6}" cy="10" r="4"/>')
        parts.append(f'<text class="legend" x="{offset + 14}" y="14">{escape(curve.label)}</text>')
    for curve in drawn:
        placed = [place(x, y) for x, y in curve.points if math.isfinite(y)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path class="line c{curve.colour % COLOURS}" d="{path}"/>')
        if len(placed) <= 25:
            parts += [f'<circle class="fill c{curve.colour % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in placed]
    return _svg(height, parts, f"{y_label} over {x_label}")


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About ``wanted`` round numbers between ``low`` and ``high``."""
    raw = (high - low) / wanted
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or max(abs(high), 1.0) * 0.05
    return (0.0 if 0 <= low < 0.4 * high else low - margin), high + margin


def _grid_vertical(left: float, scale: float, top: float, upper: float, lower: float, unit: str) -> str:
    lines = []
    for tick in nice_ticks(0.0, top, 4):
        x = left + tick * scale
        lines.append(f'<path class="grid" d="M{x:.1f} {upper}V{lower}"/>')
        lines.append(f'<text class="tick" x="{x:.1f}" y="{lower + 16}" text-anchor="middle">{tick:g}{unit}</text>')
    return "".join(lines)


def _svg(height: int, parts: Sequence[str], description: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>'
