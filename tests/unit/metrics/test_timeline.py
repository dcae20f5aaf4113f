"""The page: one file without scripts or addresses, and nothing of a name becomes markup."""

import re
from html.parser import HTMLParser

from cgroup_preflight.metrics.chart import Line, Row, svg
from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.go_delays import GoDelays, Slot
from cgroup_preflight.metrics.series import series_of
from cgroup_preflight.metrics.timeline import render
from tests.unit.metrics.readings import contended, moment, sample, throttled
from tests.unit.metrics.windows import group, series

_HOSTILE = '/<script>alert(1)<x>"&\u202e.service'


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.values += [f"{name}={value}" for name, value in attrs]


def _tags(page: str) -> _Tags:
    found = _Tags()
    found.feed(page)
    return found


def test_the_page_has_the_verdict_the_cgroup_its_quota_and_the_goroutines() -> None:
    readings = series_of(contended())
    delays = GoDelays(
        path="/api.slice/a.service", source="own reader", begin=100, end=105, count=9, median=0.01, p99=0.2, longest=0.3,
        procs=4, whole=True, slots={n: Slot(waiting=0.2, running=0.05) for n in range(1000, 1050)},
    )  # fmt: skip
    page = render(readings, judge(readings, (), (delays,)).findings, (delays,))
    assert "<h1>2 causes of contention</h1>" in page
    for text in (
        "api.slice/a.service",
        "CPUQuota (0.5)",
        "throttled periods",
        "goroutines waiting to run",
        "p99 200.0 ms",
    ):
        assert text in page
    assert page.count("<svg") == page.count("</svg>") == 4


def test_names_are_text_whatever_they_are() -> None:
    page = render(
        *(lambda found: (found, judge(found).findings, ()))(
            series_of([moment(n, {_HOSTILE: throttled(_HOSTILE, n, periods=10 * n, stopped=10 * n)}) for n in range(6)])
        )
    )
    tags = _tags(page)
    assert "script" not in tags.seen
    assert set(tags.seen) <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "b", "code", "span",
                              "i", "svg", "path", "text", "polyline"}  # fmt: skip
    assert "&lt;script&gt;alert(1)&lt;x&gt;" in page
    assert "\u202e" not in page
    assert not re.search(r"https?://|url\(|@import|\bon\w+=", page)


def test_a_quiet_host_has_a_page_too() -> None:
    quiet = series(*(group(f"/s{n}.service", 0.01) for n in range(40)))
    page = render(quiet, judge(quiet).findings, ())
    assert "<h1>No contention</h1>" in page
    assert "16 more cgroups that did less are not shown" in page


def test_gaps_are_gaps_and_kills_are_marks() -> None:
    row = Row(
        title="x", unit="%", top=1.0, marks=[(2.5, "1 OOM kills")],
        lines=[Line(name="l", kind="used", points=[(0, 0.0), (1, 1.0), (2, None), (3, 5.0), (4, 0.5)])],
    )  # fmt: skip
    text = svg(row, 0, 5)
    assert text.count("<polyline") == 2
    assert "<title>1 OOM kills</title>" in text
    numbers = [float(value) for points in re.findall(r'points="([^"]*)"', text) for value in re.split("[ ,]", points)]
    assert all(0 <= value <= 640 for value in numbers)


def test_kills_are_shown_at_their_time() -> None:
    def at(n: int) -> dict[str, str]:
        return {"memory_events": f"low 0\nhigh 0\nmax 0\noom {n // 3}\noom_kill {n // 3}\n"}

    found = series_of([moment(n, {"/a.service": sample("/a.service", n, **at(n))}) for n in range(6)])
    assert 'class="mark"' in render(found, judge(found).findings, ())
