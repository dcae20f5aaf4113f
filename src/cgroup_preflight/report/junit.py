"""JUnit XML: one test case a finding; what GitLab, Jenkins and others show as tests.

Sources: GitLab docs, ci/testing/unit_test_reports (`classname` is shown as the suite, of equal names the first
one wins, only the content of `failure` and `error` is read); the Jenkins xunit schema junit-10.xsd.
Unverified is an `error`: the test could not be run. It is not `skipped`, which every reader shows as harmless.
A warning passes with its text in `system-out`, since JUnit has no such state.
"""

import shlex
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.core.report import Finding, Remedy, Report, Status, Verdict
from cgroup_preflight.report.escape import clip, log_lines, plain
from cgroup_preflight.report.headline import headline
from cgroup_preflight.report.place import Placed, place
from cgroup_preflight.report.report_file import FILE_MAX, fitting, harmful
from cgroup_preflight.report.views import excuse

_NAME = "cgroup-preflight"
_ELEMENTS = {Status.FAIL: "failure", Status.UNVERIFIED: "error"}


def render(report: Report, *, limit: int = FILE_MAX) -> str:
    """The report as XML with a newline at the end; characters that XML does not allow are shown as escapes.

    At most `limit` bytes: the worst findings are kept, and one more test case counts the others.
    """
    items = list(place(report, Status))
    text = _text(report, items)
    if _size(text) <= limit:
        return text
    kept, rest = fitting(items, [_case_size(report, item) for item in items], limit - 4000)
    return _text(report, kept, rest)


def _size(text: str) -> int:
    return len(text.encode("utf-8"))


def _case_size(report: Report, item: Placed) -> int:
    alone = ET.Element("testsuite")
    _cases(alone, report, [item])
    # The number that makes a name unique, and the indentation.
    return _size(ET.tostring(alone, encoding="unicode")) + 60


def _text(report: Report, items: Sequence[Placed], left_out: Sequence[Placed] = ()) -> str:
    counts = Counter(item.finding.status for item in items)
    if left_out:  # one case for all of them
        counts[Status.UNVERIFIED if harmful(left_out) else Status.SKIP] += 1
    silent = report.verdict is not Verdict.PASS and not counts[Status.FAIL] and not counts[Status.UNVERIFIED]
    totals = {
        "tests": str(counts.total() + silent), "failures": str(counts[Status.FAIL]),
        "errors": str(counts[Status.UNVERIFIED] + silent), "skipped": str(counts[Status.SKIP]),
        "time": f"{report.duration_seconds:.3f}",
    }  # fmt: skip
    root = ET.Element("testsuites", {"name": _NAME, **totals})
    suite = ET.SubElement(root, "testsuite", {"name": _NAME, **totals, "timestamp": _line(report.started_at)})
    _properties(suite, report)
    _cases(suite, report, items)
    if silent:
        _ours(suite, "verdict", "error", headline(report))
    if left_out:
        _ours(suite, "left out", "error" if harmful(left_out) else "skipped",
              f"{len(left_out)} more findings do not fit into this file; the JSON report has them")  # fmt: skip
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _ours(suite: ET.Element, name: str, element: str, message: str) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": _NAME, "name": name})
    ET.SubElement(case, element, {"message": message}).text = message


def _cases(suite: ET.Element, report: Report, items: Iterable[Placed]) -> None:
    names: Counter[str] = Counter()
    tails = {item.name: item.log_tail for item in report.services}
    for placed in items:
        item = placed.finding
        file = {"file": placed.path, "line": str(placed.line)} if item.location else {}
        _case(suite, item, _unique(f"{item.code} {item.name}: {clip(item.subject, 500)}", names), file, tails)


def _line(text: str, limit: int = 500) -> str:
    return plain(clip(text, limit))


def _unique(name: str, seen: Counter[str]) -> str:
    """`name`, with a number where an earlier test case has the same one: readers drop the second of two equal names."""
    shown = plain(name)
    seen[shown] += 1
    while seen[shown] > 1:
        shown = f"{shown} ({seen[shown]})"
        seen[shown] += 1
    return shown


def _properties(suite: ET.Element, report: Report) -> None:
    host = report.host
    values: dict[str, object] = {
        "tool_version": report.tool_version,
        "verdict": report.verdict.value,
        "headline": headline(report),
    }
    if host is not None:
        values |= {"kernel": host.kernel, "systemd": host.systemd, "hierarchy": host.hierarchy, "engine": host.engine}
    parent = ET.SubElement(suite, "properties")
    for name, value in values.items():
        if value is not None:
            ET.SubElement(parent, "property", {"name": name, "value": _line(str(value))})


def _case(
    suite: ET.Element, item: Finding, name: str, file: Mapping[str, str], tails: Mapping[str, tuple[str, ...]]
) -> None:
    case = ET.SubElement(
        suite, "testcase", {"classname": _line(f"{item.code} {item.name}"), "name": name, "time": "0.000", **file}
    )
    text = "\n".join(plain(line) for line in _content(item))
    if item.status in _ELEMENTS:
        tail = tails.get(item.subject, ())
        text += "".join(["\nlast lines of its log:", *(f"\n    {line}" for line in log_lines(tail))]) if tail else ""
        kind = {"message": _line(item.message), "type": item.status.value}
        ET.SubElement(case, _ELEMENTS[item.status], kind).text = text
    elif item.status is Status.SKIP:
        ET.SubElement(case, "skipped", {"message": _line(excuse(item) or item.message)}).text = (
            text if item.policy else None
        )
    else:
        ET.SubElement(case, "system-out").text = text


def _content(item: Finding) -> Iterable[str]:
    word = f"{item.status.value}: " if item.status is not Status.FAIL else ""
    yield f"{word}{clip(item.message)}"
    if why := excuse(item):
        yield clip(why)
    for key, value in item.evidence.items():
        yield f"read: {clip(key, 500)} = {clip(str(value))}"
    for remedy in item.remedies:
        yield from _remedy(remedy)


def _remedy(item: Remedy) -> Iterable[str]:
    yield f"to do: {clip(item.title, 500)}" + (f" ({clip(item.why)})" if item.why else "")
    for file in item.files:
        yield f"    write {clip(file.path, 500)}:"
        yield from (f"        {line}" for line in clip(file.content).splitlines())
    for command in item.commands:
        yield f"    {'sudo ' if item.needs_root else ''}{clip(shlex.join(command))}"
    if item.docs:
        yield f"    see {clip(item.docs, 500)}"
