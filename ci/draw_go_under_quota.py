"""Draw the picture of docs/go-under-quota.md from what tests/lab/test_go_proof.py measured.

python ci/draw_go_under_quota.py docs/go-under-quota.json docs/go-under-quota.svg
"""

import html
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_WIDTH, _ROW, _TOP, _LEFT, _BAR = 760, 74, 104, 250, 400
_SIDES = {"without": ("without generated settings", "#c2410c"), "with": ("with them", "#0f766e")}
_LESS, _MORE = "less is better", "more is better"
#: Title, key of the numbers, unit, how a number is shown, and what is better.
_ROWS = (
    ("stopped by the kernel", "stopped_seconds_per_second", "CPU s per second", "{:.2f}", _LESS),
    ("periods with throttling", "throttled_share", "of all periods", "{:.0%}", _LESS),
    ("latency, 50th percentile", "p50_ms", "ms", "{:.0f}", _LESS),
    ("latency, 99th percentile", "p99_ms", "ms", "{:.0f}", _LESS),
    ("latency, worst", "worst_ms", "ms", "{:.0f}", _LESS),
    ("requests answered", "requests", "in each run", "{:.0f}", _MORE),
)


def draw(measured: Mapping[str, Any]) -> str:
    """Return the picture as SVG text: two bars for each number, without and with the settings, and a tick for each run."""
    height = _TOP + _ROW * len(_ROWS) + 24
    quota, cpus, load = measured["quota_cpus"], measured["cpus"], measured["connections"]
    title = f"One Go service, a quota of {quota} CPU on its slice, a machine of {cpus} CPUs"
    words = f"{load} connections without a pause between requests; bars and numbers: median of {len(measured['runs']) // 2} runs, ticks: each run"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" role="img">',
        "<title>One Go service under a CPU quota, with and without the generated settings</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(24, 34, title, size=17, weight=600),
        _text(24, 56, words, size=13),
    ]
    for x, (name, colour) in zip((24, 264), _SIDES.values(), strict=True):
        lines += [_bar(x, 70, 14, 14, colour), _text(x + 22, 82, name, size=13, weight=600)]
    for number, (title, key, unit, shown, better) in enumerate(_ROWS):
        top = _TOP + _ROW * number
        lines += [
            _text(24, top + 26, title, size=14, weight=600),
            _text(24, top + 44, f"{unit}; {better}", size=12, colour="#52525b"),
            *_bars(top, shown, {name: measured["median"][name][key] for name in _SIDES}, _runs(measured, key)),
        ]
    return "\n".join([*lines, "</svg>", ""])


def _runs(measured: Mapping[str, Any], key: str) -> Mapping[str, Sequence[float]]:
    """Return the number of every run, without and with the settings."""
    return {name: [run[key] for run in measured["runs"] if run["go_settings"] is (name == "with")] for name in _SIDES}


def _bars(
    top: int, shown: str, medians: Mapping[str, float], runs: Mapping[str, Sequence[float]]
) -> Iterator[str]:  # fmt: skip
    scale = _BAR / (max(*medians.values(), *(value for values in runs.values() for value in values)) or 1)
    for offset, (name, (_, colour)) in zip((8, 32), _SIDES.items(), strict=True):
        yield _bar(_LEFT, top + offset, max(round(medians[name] * scale), 1), 20, colour)
        for value in runs[name]:
            yield _bar(_LEFT + round(value * scale) - 1, top + offset + 3, 2, 14, "#18181b")
        end = round(max(medians[name], *runs[name]) * scale)
        yield _text(_LEFT + end + 8, top + offset + 15, shown.format(medians[name]), size=13)


def _bar(x: int, y: int, width: int, height: int, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="1" fill="{colour}"/>'


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
