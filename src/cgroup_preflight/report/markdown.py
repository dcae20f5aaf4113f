"""The report as Markdown, for a comment, a note or a job summary on GitHub and GitLab.

The first line is the verdict, the second what to do; details are folded. All foreign text goes through `escape`, so that
it neither mentions, links nor breaks a table. Where the text is too long, whole rows are left out and counted.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import NO_PASS, PROBLEMS, Finding, Remedy, Report, ServiceResult, Status, Verdict
from cgroup_preflight.report.escape import code, log_lines, pre, prose
from cgroup_preflight.report.headline import ACCEPTED, Runners, headline, planned_changes, problems, service_word
from cgroup_preflight.report.place import relative
from cgroup_preflight.report.views import View, excuse, host_words, surroundings, view_of

#: Room for the line that counts what was left out, bytes.
_RESERVE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkdownSection:
    """`count` rows between `head` and `foot`; left out as a whole where no row fits.

    `rows` may be a generator; it is not read past the first row that does not fit.
    """

    name: str
    head: str = ""
    foot: str = ""
    count: int
    rows: Iterable[str]


class Budget:
    """A text of limited size, filled with sections, the most important first.

    `head` is always shown: the caller makes it shorter than `limit` (bytes of UTF-8) less _RESERVE.
    """

    def __init__(self, head: str, *, limit: int) -> None:
        self._limit = limit
        self._left = limit - _RESERVE - _size(head)
        self._parts = [head]
        self._omitted: list[str] = []

    def add(self, section: MarkdownSection) -> None:
        """Adds the first rows, as many as fit; the worst come first, so they stay."""
        room = self._left - _size(section.head) - _size(section.foot)
        kept = []
        for row in section.rows:
            room -= _size(row)
            if room < 0:
                break
            kept.append(row)
        if kept:
            text = section.head + "".join(kept) + section.foot
            self._parts.append(text)
            self._left -= _size(text)
        missing = section.count - len(kept)
        if missing:
            self._omitted.append(f"{section.name}: {missing} of {section.count}")

    def text(self) -> str:
        """The whole, with one more line where something was left out."""
        if not self._omitted:
            return "".join(self._parts)
        return "".join([*self._parts, f"\nLeft out to stay below {self._limit} bytes: {', '.join(self._omitted)}.\n"])


def _size(text: str) -> int:
    return len(text.encode("utf-8"))


#: GitHub takes 65,536 characters in a comment and 65,535 in a check run's summary; the rest is for a marker.
LIMIT = 65000
#: The first lines always fit into this many bytes.
LIMIT_MIN = 4000

VERDICT_MARKS = {Verdict.FAIL: "❌", Verdict.UNVERIFIED: "⚠️", Verdict.PASS: "✅"}
_MARKS = {
    Status.FAIL: "❌ fail", Status.UNVERIFIED: "⚠️ unverified", Status.WARN: "🟡 warn", Status.PASS: "✅ pass",
    Status.SKIP: "⏭️ skip",
}  # fmt: skip


def render(report: Report, *, limit: int = LIMIT, runners: Runners | None = None) -> str:
    """The report in at most `limit` bytes of UTF-8; what does not fit is counted in the last line.

    Passed checks are left out first, then details, services, and rows of findings at last. `runners` is for a merged view.
    Raises ValueError for a `limit` below LIMIT_MIN.
    """
    if limit < LIMIT_MIN:
        raise ValueError(f"a limit of {limit} bytes is below {LIMIT_MIN}")
    view = view_of(report)
    worst = problems(view.problems)
    planned = planned_changes(report.findings)
    changing = set(map(id, planned))
    rest = [item for item in view.rest if id(item) not in changing]
    tails = {item.name: item.log_tail for item in report.services}
    budget = Budget(_head(report, view, worst, runners), limit=limit)
    # The most important first.
    budget.add(MarkdownSection(name="findings", head=_FINDINGS_HEAD, count=len(worst), rows=map(_finding_row, worst)))
    changes = map(_change_row, planned)
    budget.add(MarkdownSection(name="changes", head=_CHANGES_HEAD, count=len(planned), rows=changes))
    services = (_service_row(item, service_word(report, item.name)) for item in report.services)
    budget.add(MarkdownSection(name="services", head=_SERVICES_HEAD, count=len(report.services), rows=services))
    _add_accepted(budget, view)
    more = [item for item in worst if item.evidence or item.remedies or tails.get(item.subject)]
    details = (_details(item, tails.get(item.subject, ())) for item in more)
    budget.add(MarkdownSection(name="details", count=len(more), rows=details))
    machine = [f"| {_check(item)} | {prose(item.message, 600)}{_first(item)} |\n" for item in view.machine]
    budget.add(_folded("warnings about the machine", "warning{} about the machine, not the project", machine))
    passed, foot = map(_finding_row, rest), "\n</details>\n"
    budget.add(MarkdownSection(name="passed checks", head=_passed_head(rest), foot=foot, count=len(rest), rows=passed))
    return budget.text()


#: Two columns: with four, a phone shows the first three and cuts off what was found.
_FINDINGS_HEAD = "\n| Check | Found |\n|---|---|\n"
_IGNORED_HEAD = "\n| Ignored | Found, and why it does not count |\n|---|---|\n"
_CHANGES_HEAD = "\n| Slice | Change |\n|---|---|\n"
_SERVICES_HEAD = "\n| Service | Limits | Memory | CPU |\n|---|---|---|---|\n"


def _folded(name: str, title: str, rows: Sequence[str]) -> MarkdownSection:
    """Rows below a line that counts them; the braces of `title` take the plural."""
    head = f"\n<details><summary>{len(rows)} {title.format('s' if len(rows) != 1 else '')}</summary>\n{_FINDINGS_HEAD}"
    return MarkdownSection(name=name, head=head, foot="\n</details>\n", count=len(rows), rows=rows)


def _add_accepted(budget: Budget, view: View) -> None:
    """What does not count: the exceptions of the config are shown, what a baseline forgives is folded."""
    ignored = [
        f"| {_failed(item)}{_check(item)} | {prose(item.message, 600)}<br>{prose(excuse(item), 900)} |\n"
        for item in view.ignored
    ]
    budget.add(MarkdownSection(name="ignored findings", head=_IGNORED_HEAD, count=len(ignored), rows=ignored))
    forgiven = [
        f"| {_failed(item)}{_check(item)} | {prose(item.message, 600)}{_at(item)} |\n" for item in view.forgiven
    ]
    budget.add(_folded("forgiven findings", "finding{} that the baseline has, too", forgiven))
    rows = [f"\n**Policy:** {prose(item.message, 600)}\n" for item in view.policy]
    budget.add(MarkdownSection(name="thresholds", count=len(rows), rows=rows))


def _failed(item: Finding) -> str:
    return "❌ fail " if item.is_accepted_fail else ""


def _passed_head(rest: Sequence[Finding]) -> str:
    return f"\n<details><summary>{len(rest)} checks passed or skipped</summary>\n{_FINDINGS_HEAD}"


def _head(report: Report, view: View, worst: Sequence[Finding], runners: Runners | None) -> str:
    """Two lines and the host; shorter than LIMIT_MIN because foreign words in it are clipped."""
    title = f"## {VERDICT_MARKS[report.verdict]} cgroup-preflight {prose(headline(report, runners))}"
    lines = [title, _next(report, view, worst)]
    host = report.host
    if host is not None:
        around = surroundings(report)
        said = ", ".join(f"{name} {code(value, 20)}" for name, value in host_words(host))
        lines += ["", f"On {said}{f'; {prose(around, 120)}' if around else ''}."]
    return "\n".join([*lines, ""])


def _next(report: Report, view: View, worst: Sequence[Finding]) -> str:
    """What to do: the first remedy of the worst finding."""
    if report.verdict is Verdict.PASS:
        groups = ((len(worst), "warning{}"), (len(view.machine), "warning{} about the machine"),
                  *_counts(view.ignored, "ignored"), *_counts(view.forgiven, "forgiven by the baseline"))  # fmt: skip
        below = ", ".join(f"{count} {what.format('s' if count > 1 else '')}" for count, what in groups if count)
        return f"**Nothing blocks the merge.** Below: {below}." if below else "**Nothing to do.**"
    counts = ", ".join(f"{count} {status.value}" for status in PROBLEMS if (count := _count(worst, status)))
    title = next((remedy.title for item in worst for remedy in item.remedies), "")
    todo = prose(title, 120) if title else "read the findings below" if worst else "find out why no check ran"
    return f"**To do:** {todo}" + (f" ({counts})" if counts else "")


def _counts(items: Sequence[Finding], what: str) -> tuple[tuple[int, str], tuple[int, str]]:
    """How many of them failed, and how many did not."""
    failed = sum(item.is_accepted_fail for item in items)
    return (failed, f"❌ failure{{}} {what}"), (len(items) - failed, what)


def _count(findings: Iterable[Finding], status: Status) -> int:
    return sum(item.status is status for item in findings)


def _finding_row(item: Finding) -> str:
    why = f"<br>{prose(excuse(item), 300)}" if excuse(item) else ""
    return f"| {_MARKS[item.status]} {_check(item)} | {prose(item.message, 600)}{_at(item)}{why} |\n"


def _check(item: Finding) -> str:
    return f"{code(item.code, 40)} {prose(item.name, 80)}<br>{code(item.subject, 200)}"


def _first(item: Finding) -> str:
    """What helps, where a reader may want to know; the commands are in the text and in the JSON report."""
    return "".join(f"<br>Remedy: {prose(remedy.title, 300)}" for remedy in item.remedies)


def _change_row(item: Finding) -> str:
    return f"| {code(item.subject, 200)} | {prose(item.message, 600)} |\n"


def _at(item: Finding) -> str:
    at = item.location
    return f" (at {code(f'{relative(at.file)}:{at.line}', 200)})" if at and item.status in PROBLEMS else ""


def _details(item: Finding, tail: tuple[str, ...]) -> str:
    """Everything about one finding, folded; evidence, commands and log are `pre` blocks, to be copied from."""
    summary = f"{code(item.code, 40)} {code(item.subject, 200)}: what was read, what to do"
    parts = [f"\n<details><summary>{summary}</summary>\n"]
    if item.evidence:
        parts.append(pre("\n".join(_one_line(f"{key} = {value}") for key, value in item.evidence.items())))
    parts += [_remedy(remedy) for remedy in item.remedies]
    if tail and item.status in NO_PASS:
        parts.append("Last lines of its log:\n\n" + pre("\n".join(log_lines(tail)), 4000))
    return "\n".join([*parts, "</details>\n"])


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n")


def _remedy(item: Remedy) -> str:
    why = f" ({prose(item.why)})" if item.why else ""
    lasting = " Needs root." if item.needs_root else ""
    lines = [f"**To do:** {prose(item.title, 500)}{why}.{lasting}\n"]
    lines += [f"Write {code(file.path, 500)}:\n\n{pre(file.content)}\n" for file in item.files]
    if item.commands:
        sudo = "sudo " if item.needs_root else ""
        lines.append(pre("\n".join(sudo + _one_line(shlex.join(command)) for command in item.commands)) + "\n")
    if item.docs:
        lines.append(f"See {code(item.docs, 500)}\n")
    return "\n".join(lines)


def _service_row(item: ServiceResult, word: str) -> str:
    """Four columns, which a phone can show."""
    good = sum(entry.ok for entry in item.limits)
    result = "" if word == Verdict.PASS else f"<br>{'⏭️' if word == ACCEPTED else VERDICT_MARKS[Verdict(word)]} {word}"
    limits = f"{'✅' if good == len(item.limits) else '❌'} {good}/{len(item.limits)}"
    return f"| {code(item.name, 120)}{result} | {limits} | {_memory(item)} | {_cpu(item)} |\n"


def _memory(item: ServiceResult) -> str:
    limit, peak = item.memory_max_bytes, item.memory_peak_bytes
    used = format_bytes(peak) if peak is not None else "unknown"
    free = f", {100 * (limit - peak) / limit:.0f}% free" if limit and peak is not None else ""
    return f"{used} of {format_bytes(limit)}{free}" if limit else f"{used}, no limit"


def _cpu(item: ServiceResult) -> str:
    if item.cpu is None:
        return "–"
    periods = item.cpu.nr_periods
    throttled = f", {100 * (item.cpu.nr_throttled or 0) / periods:.0f}% throttled" if periods else ""
    return f"{item.cpu.usage_usec / 1e6:.2f}s{throttled}"
