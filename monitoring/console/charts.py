"""Charts as SVG, drawn on the server: no script, no build step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, ROW, LEFT, PAD = 720, 34, 210, 40
HEIGHT = 220


@dataclass(frozen=True, slots=True)
class Interval:
    """One value with how sure it is."""

    label: str
    low: float
    value: float
    high: float
    tone: str = "open"
    """better, worse or open: its colour."""


def intervals_chart(rows: Sequence[Interval], *, unit: str = "%") -> str:
    """Return intervals side by side on one scale, with a line at 0."""
    if not rows:
        return ""
    place, low, high = _scale([edge for row in rows for edge in (row.low, row.high, 0.0)], LEFT, WIDTH - PAD)
    height = ROW * len(rows) + 30
    marks = [f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="4" y2="{height - 24}"/>']
    for n, row in enumerate(rows):
        y = ROW * n + ROW / 2 + 4
        marks.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(row.label)}</text>')
        marks.append(
            f'<line class="{row.tone}" x1="{place(row.low):.1f}" x2="{place(row.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="{row.tone}" cx="{place(row.value):.1f}" cy="{y}" r="5"/>'
        )
    marks += [
        f'<text class="axis" x="{place(edge):.1f}" y="{height - 6}" text-anchor="middle">{_shown(edge, unit)}</text>'
        for edge in sorted({low, 0.0, high})
    ]
    return _svg(height, marks, "intervals")


def band_chart(points: Sequence[tuple[str, float, float, float]], *, unit: str = "%") -> str:
    """Return how an interval closed in over time; points are ``(label, low, value, high)``, oldest first."""
    if len(points) < 2:
        return ""
    place, low, high = _scale([edge for _, *edges in points for edge in (*edges, 0.0)], HEIGHT - 28, 8)
    step = (WIDTH - LEFT / 2 - PAD) / (len(points) - 1)
    xs = [LEFT / 2 + n * step for n in range(len(points))]
    upper = [f"{x:.1f},{place(point[3]):.1f}" for x, point in zip(xs, points, strict=True)]
    lower = [f"{x:.1f},{place(point[1]):.1f}" for x, point in zip(xs, points, strict=True)]
    middle = [f"{x:.1f},{place(point[2]):.1f}" for x, point in zip(xs, points, strict=True)]
    marks = [
        f'<polygon class="band" points="{" ".join([*upper, *reversed(lower)])}"/>',
        f'<line class="zero" x1="{xs[0]:.1f}" x2="{xs[-1]:.1f}" y1="{place(0):.1f}" y2="{place(0):.1f}"/>',
        f'<polyline class="middle" points="{" ".join(middle)}"/>',
        f'<text class="axis" x="{xs[0]:.1f}" y="{HEIGHT - 6}">{escape(points[0][0])}</text>',
        f'<text class="axis" x="{xs[-1]:.1f}" y="{HEIGHT - 6}" text-anchor="end">{escape(points[-1][0])}</text>',
    ]
    marks += [
        f'<text class="axis" x="{LEFT / 2 - 8}" y="{place(edge) + 4:.1f}" text-anchor="end">{_shown(edge, unit)}</text>'
        for edge in sorted({low, 0.0, high})
    ]
    return _svg(HEIGHT, marks, "over time")


def line_chart(points: Sequence[tuple[str, float]]) -> str:
    """Return a figure over time, oldest first."""
    return band_chart([(label, value, value, value) for label, value in points], unit="")


def _scale(values: Sequence[float], first: float, last: float) -> tuple[Callable[[float], float], float, float]:
    """Return where values stand between two places, and the least and the largest of them."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return first + (value - low) / span * (last - first)

    return place, low, high


def _shown(value: float, unit: str) -> str:
    if not value:
        return "0"
    return f"{100 * value:+.1f}%" if unit == "%" else f"{value:,.4g}"


def _svg(height: float, marks: Sequence[str], title: str) -> str:
    body = "".join(marks)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">{body}</svg>'
