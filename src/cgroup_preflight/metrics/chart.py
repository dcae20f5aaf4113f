"""Lines over a common axis of time as SVG: what the page of `diagnose` is made of. Pure.

Written by hand: a row has lines, one level and marks, on one axis for all rows. The libraries for charts that make SVG
without a browser each bring a style of their own that knows no dark mode, and scripts or fonts from elsewhere.
"""

from collections.abc import Sequence
from html import escape

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.report.escape import plain

WIDTH = 640
_LEFT, _TOP = 56, 16
HEIGHT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: `kind` is a class of the page's style, `points` are seconds and values; None is a gap."""

    name: str
    kind: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture; `top` is the largest value shown, `marks` are seconds with a word each (kills)."""

    title: str
    unit: str
    lines: Sequence[Line]
    top: float
    marks: Sequence[tuple[float, str]] = ()


def text(value: str) -> str:
    """Foreign text for HTML: nothing of it is markup, and no character is invisible."""
    return escape(plain(value), quote=True)


def svg(row: Row, begin: float, end: float) -> str:
    """The row between two moments, as wide as its place."""
    top = row.top if row.top > 0 else 1.0
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 22}" role="img" aria-label="{text(row.title)}">',
        f"<title>{text(row.title)}</title>",
        *_grid(top, row.unit, begin, end),
    ]
    for line in row.lines:
        for points in _runs(line.points):
            places = " ".join(f"{_x(time, begin, end):.1f},{_y(value, top):.1f}" for time, value in points)
            parts.append(f'<polyline class="{line.kind}" points="{places}"/>')
    for time, word in row.marks:
        x = _x(time, begin, end)
        parts.append(f'<path class="mark" d="M{x:.1f} {_TOP}V{HEIGHT}"><title>{text(word)}</title></path>')
    return "".join([*parts, "</svg>"])


def _grid(top: float, unit: str, begin: float, end: float) -> list[str]:
    bottom = _y(0.0, top)
    words = [(top, _number(top, unit)), (top / 2, ""), (0.0, "0")]
    lines = [f'<path class="grid" d="M{_LEFT} {_y(value, top):.1f}H{WIDTH - 4}"/>' for value, _ in words]
    labels = [
        f'<text x="{_LEFT - 4}" y="{_y(value, top) + 4:.1f}" class="end">{word}</text>' for value, word in words if word
    ]
    times = [f'<text x="{_x(time, begin, end):.1f}" y="{bottom + 18:.1f}" class="{side}">{time - begin:.0f} s</text>'
             for time, side in ((begin, "start"), ((begin + end) / 2, "middle"), (end, "end"))]  # fmt: skip
    return [*lines, *labels, *times]


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.0f}%"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _x(time: float, begin: float, end: float) -> float:
    return _LEFT + (WIDTH - 4 - _LEFT) * min(max((time - begin) / max(end - begin, 1e-9), 0.0), 1.0)


def _y(value: float, top: float) -> float:
    return _TOP + (HEIGHT - 16) * (1 - min(max(value / top, 0.0), 1.0))


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The stretches without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for time, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((time, value))
    return [run for run in runs if run]
