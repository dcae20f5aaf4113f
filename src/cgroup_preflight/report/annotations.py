"""Findings as annotations of a GitHub check run, at the line of the config that causes each.

Source: GitHub REST API, "Create a check run": annotation_level is notice, warning or failure; 64 KB for message
and raw_details, 255 characters for title; columns only within one line, so none are given.

Findings as workflow commands: lines in a job's log that GitHub turns into annotations. Needs no token.

Sources: GitHub docs, "Workflow commands"; actions/toolkit, docs/problem-matchers (ten annotations of one level in a
step; the rest is dropped silently); actions/runner, ActionCommand.cs (escapes, and a runner looks for commands in
every line: `::` after blanks, `##[` anywhere).
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from cgroup_preflight.core.report import PROBLEMS, By, Finding, Report, Status
from cgroup_preflight.report.escape import clip, plain
from cgroup_preflight.report.place import Placed, place
from cgroup_preflight.report.views import excuse, noise_of

#: Annotations in one request (GitHub's limit), and in all: a bounded number of requests, and more than anybody reads.
_BATCH = 50
LIMIT = 250
_LEVELS = {Status.FAIL: "failure", Status.UNVERIFIED: "warning", Status.WARN: "notice"}

Annotation = dict[str, str | int]


def batches(report: Report) -> list[list[Annotation]]:
    """At most LIMIT annotations, the worst first, in lists of at most `_BATCH`; without findings one empty list."""
    placed = list(_shown(report))
    placed.sort(key=lambda item: PROBLEMS.index(_weight(item.finding)))
    found = [_annotation(item) for item in placed[:LIMIT]]
    return [found[start : start + _BATCH] for start in range(0, len(found), _BATCH)] or [[]]


def _shown(report: Report) -> Iterable[Placed]:
    """The problems of the project, and what failed and is ignored, so that nobody who reads only annotations misses it."""
    leave = noise_of(report)
    for item in place(report, PROBLEMS, waived=True):
        finding = item.finding
        if (finding.is_accepted_fail and finding.policy is not None and finding.policy.by is By.IGNORE) or (
            finding.status in PROBLEMS and not leave(finding)
        ):
            yield item


def _weight(finding: Finding) -> Status:
    """The status that decides how it is shown: an ignored fail is shown as what is unverified is."""
    return finding.status if finding.status in PROBLEMS else Status.UNVERIFIED


def _word(finding: Finding) -> str:
    if finding.is_waived:
        return f"{clip(excuse(finding), 400)}; "
    return "unverified: " if finding.status is Status.UNVERIFIED else ""


def _annotation(item: Placed) -> Annotation:
    finding = item.finding
    line = min(item.line, 2**31 - 1)
    annotation: Annotation = {
        "path": item.path, "start_line": line, "end_line": line, "annotation_level": _LEVELS[_weight(finding)],
        "title": plain(clip(f"{finding.code} {finding.name}", 200))[:255],
        "message": plain(f"{clip(finding.subject, 300)}: {_word(finding)}{clip(finding.message)}")[:8000],
    }  # fmt: skip
    details = _details(item)
    return annotation | ({"raw_details": details} if details else {})


def _details(item: Placed) -> str:
    lines = [f"read: {clip(key, 200)} = {clip(str(value), 500)}" for key, value in item.finding.evidence.items()]
    for remedy in item.finding.remedies:
        lines.append(f"to do: {clip(remedy.title, 500)}")
        sudo = "sudo " if remedy.needs_root else ""
        lines += [f"    {sudo}{clip(shlex.join(words), 500)}" for words in remedy.commands]
    return "\n".join(plain(line) for line in lines[:60])[:8000]


#: Annotations of one kind that one step can show.
_COMMANDS_MAX = 10
_KINDS = {Status.FAIL: "error", Status.UNVERIFIED: "warning", Status.WARN: "notice"}


def render(report: Report, *, placed: bool = True, taken: Mapping[str, int] | None = None) -> str:
    """One line for each problem, at most `_COMMANDS_MAX` of one kind (error, warning, notice); the last counts the rest.

    With `placed`, an annotation is shown at its line of the config; without it, the message names the line. `taken` is
    how many of each kind the step has shown already.
    """
    used = taken or {}
    groups: dict[str, list[Placed]] = defaultdict(list)
    for item in _shown(report):
        groups[_KINDS[_weight(item.finding)]].append(item)
    return "".join(
        line
        for kind in _KINDS.values()
        for line in _group(kind, groups[kind], placed=placed, room=_COMMANDS_MAX - used.get(kind, 0))
    )


def _group(kind: str, items: list[Placed], *, placed: bool, room: int) -> Iterable[str]:
    shown = items if len(items) <= room else items[: max(0, room - 1)]
    for item in shown:
        yield _finding(kind, item, placed=placed)
    if shown and len(shown) < len(items):
        yield command(kind, f"and {len(items) - len(shown)} more: see the job summary", title="cgroup-preflight")


def kinds(text: str) -> Counter[str]:
    """How many annotations of each kind the lines of `text` are."""
    return Counter(line[2:].partition(" ")[0] for line in text.splitlines())


def _finding(kind: str, item: Placed, *, placed: bool) -> str:
    finding = item.finding
    todo = f"; to do: {finding.remedies[0].title}" if finding.remedies and not finding.is_waived else ""
    message = f"{clip(finding.subject, 200)}: {_word(finding)}{clip(finding.message, 1000)}{clip(todo, 500)}"
    title = f"{finding.code} {finding.name}"
    if placed:
        return command(kind, message, title=title, file=item.path, line=str(item.line))
    return command(kind, f"{message} ({item.path}:{item.line})", title=title)


def command(kind: str, message: str, **properties: str) -> str:
    """One workflow command as a line; no text in it can end it or begin another."""
    parts = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    return f"::{kind} {parts}::{_data(message)}\n"


def _data(text: str) -> str:
    """Control characters become visible escapes first; a `%` in the text must not be read as an escape of GitHub's."""
    return no_command(plain(text)).replace("%", "%25")


def _property(text: str) -> str:
    return _data(clip(text, 250)).replace(":", "%3A").replace(",", "%2C")


def no_command(line: str) -> str:
    """A line of foreign text that no runner reads as a command, in any column."""
    inert = line.replace("##[", "## [")
    return f"'{inert}" if inert.lstrip().startswith("::") else inert
