"""Draw the pictures of docs/shares.md from the model itself, so that they are always what `plan shares` says.

python -m ci.draw_shares
"""

import html
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from cgroup_preflight.config.load import parse
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.share_table import ShareRow, share_rows
from cgroup_preflight.plan.share_tree import Neighbour, share_tree

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "shares.svg"
CPUS = 4
#: The config of the page.
CONFIG = """\
[project]
name = "shop"
[slices.api]
CPUWeight = 300
[slices.batch]
CPUWeight = 50
[services.user-api]
binary = "dist/user-api"
slice = "api"
CPUWeight = 200
[services.order-api]
binary = "dist/order-api"
slice = "api"
[services.report]
binary = "dist/report"
slice = "batch"
CPUQuota = "150%"
"""
_NEIGHBOURS = (Neighbour(unit="system.slice"), Neighbour(unit="user.slice"))
#: Title, and what each unit wants, in CPUs; the others want all.
_CASES: tuple[tuple[str, Mapping[str, Fraction]], ...] = (
    ("all want all they can use", {}),
    ("user-api wants half a CPU", {"user-api.service": Fraction(1, 2)}),
    ("only the plan is busy", {"system.slice": Fraction(0), "user.slice": Fraction(0)}),
    ("only batch is busy", {
        name: Fraction(0) for name in ("system.slice", "user.slice", "user-api.service", "order-api.service")
    }),
)  # fmt: skip
_COLOURS = {
    "user-api.service": "#0f766e", "order-api.service": "#0e7490", "report.service": "#c2410c", "system.slice": "#71717a",
    "user.slice": "#8b8b94",
}  # fmt: skip
_WIDTH, _LEFT, _BAR, _TOP, _ROW = 760, 24, 712, 112, 84


def draw() -> str:
    """Return the picture as SVG text: one bar of all CPUs for each case, one part for each unit without others in it."""
    height = _TOP + _ROW * len(_CASES)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" role="img">',
        "<title>Who receives how much of four CPUs</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 34, f"Who receives how much of {CPUS} CPUs", size=17, weight=600),
        _text(_LEFT, 56, "api.slice 300 (user-api 200, order-api 100), batch.slice 50 (report, at most 1.5 CPUs), host slices 100", size=13),
        *_legend(),
    ]  # fmt: skip
    plan = build_plan(parse(CONFIG.encode(), shown="cgroup-preflight.toml", folder="/"))
    for number, (title, demands) in enumerate(_CASES):
        rows = share_rows(share_tree(plan, frozenset(range(CPUS)), _NEIGHBOURS, demands))
        lines += _case(_TOP + _ROW * number, title, [row for row in rows if row.entry.unit in _COLOURS])
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> Iterator[str]:
    x = _LEFT
    for unit, colour in _COLOURS.items():
        name = unit.removesuffix(".service")
        yield f'<rect x="{x}" y="72" width="14" height="14" rx="1" fill="{colour}"/>'
        yield _text(x + 20, 84, name, size=13)
        x += 44 + 8 * len(name)


def _case(top: int, title: str, rows: Sequence[ShareRow]) -> Iterator[str]:
    used = sum((row.cpus for row in rows), Fraction(0))
    idle = f"; {float(CPUS - used):.2f} CPUs stay idle" if used < CPUS else ""
    yield _text(_LEFT, top + 20, f"{title}{idle}", size=14, weight=600)
    yield f'<rect x="{_LEFT}" y="{top + 28}" width="{_BAR}" height="34" rx="1" fill="#f4f4f5"/>'
    x = float(_LEFT)
    for row in sorted(rows, key=lambda row: list(_COLOURS).index(row.entry.unit)):
        width = float(row.cpus / CPUS * _BAR)
        if width:
            yield f'<rect x="{x:.1f}" y="{top + 28}" width="{width:.1f}" height="34" fill="{_COLOURS[row.entry.unit]}"/>'
        if width > 40:
            yield _text(x + 8, top + 50, f"{float(row.cpus):.2f}", size=13, colour="#ffffff", weight=600)
        x += width


def _text(x: float, y: int, words: str, *, size: int, colour: str = "#18181b", weight: int = 400) -> str:
    return f'<text x="{x:.0f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}">{html.escape(words)}</text>'


def main() -> int:
    """Write the picture."""
    PICTURE.write_text(draw(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
