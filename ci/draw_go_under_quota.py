"""Draw the picture of docs/go-under-quota.md from what tests/lab/test_go_proof.py measured.

python ci/draw_go_under_quota.py docs/go-under-quota.json docs/go-under-quota.svg
"""

import html
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_WIDTH, _ROW, _TOP, _LEFT, _BAR = 760, 74, 96, 250, 400
_COLOURS = {"without": "#c2410c", "with": "#0f766e"}
#: Title, key of the medians, unit, and how a number is shown.
_ROWS = (
    ("stopped by the kernel", "stopped_seconds_per_second", "s of CPU time each second", "{:.2f}"),
    ("periods with throttling", "throttled_share", "of all periods", "{:.0%}"),
    ("latency, 50th percentile", "p50_ms", "ms", "{:.0f}"),
    ("latency, 99th percentile", "p99_ms", "ms", "{:.0f}"),
    ("latency, worst", "worst_ms", "ms", "{:.0f}"),
    ("requests answered", "requests", "in each run", "{:.0f}"),
)


def draw(measured: Mapping[str, Any]) -> str:
    """The picture as SVG text: for each number one bar without and one with the generated settings."""
    height = _TOP + _ROW * len(_ROWS) + 24
    quota, cpus = measured["quota_cpus"], measured["cpus"]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" role="img">',
        "<title>One Go service under a CPU quota, with and without the generated settings</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(
            24,
            34,
            f"One Go service, a quota of {quota} CPU on its slice, a machine of {cpus} CPUs",
            size=17,
            weight=600,
        ),
        _text(
            24,
            56,
            f"{measured['connections']} connections that always ask; median of {_count(measured)} runs each",
            size=13,
        ),
        _text(24, 78, "without generated settings", size=13, colour=_COLOURS["without"], weight=600),
        _text(224, 78, "with them", size=13, colour=_COLOURS["with"], weight=600),
    ]
    for number, (title, key, unit, shown) in enumerate(_ROWS):
        lines += _row(
            _TOP + _ROW * number, title, unit, shown, {name: measured["median"][name][key] for name in _COLOURS}
        )
    return "\n".join([*lines, "</svg>", ""])


def _count(measured: Mapping[str, Any]) -> int:
    return len(measured["runs"]) // 2


def _row(top: int, title: str, unit: str, shown: str, values: Mapping[str, float]) -> Sequence[str]:
    most = max(values.values()) or 1
    lines = [_text(24, top + 28, title, size=14, weight=600), _text(24, top + 46, unit, size=12, colour="#52525b")]
    for offset, (name, value) in zip((8, 32), values.items(), strict=True):
        length = max(round(_BAR * value / most), 1)
        lines.append(
            f'<rect x="{_LEFT}" y="{top + offset}" width="{length}" height="20" rx="2" fill="{_COLOURS[name]}"/>'
        )
        lines.append(_text(_LEFT + length + 8, top + offset + 15, shown.format(value), size=13))
    return lines


def _text(x: int, y: int, words: str, *, size: int, colour: str = "#18181b", weight: int = 400) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}">{html.escape(words)}</text>'
    )


def main(argv: Sequence[str]) -> int:
    """Read the JSON, write the SVG; exit status 0, or 2 for a wrong call."""
    if len(argv) != 2:
        print("usage: draw_go_under_quota.py MEASURED.json PICTURE.svg", file=sys.stderr)
        return 2
    Path(argv[1]).write_text(draw(json.loads(Path(argv[0]).read_text("utf-8"))), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
