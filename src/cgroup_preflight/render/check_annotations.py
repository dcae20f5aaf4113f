"""Findings as annotations of a GitHub check run, at the line of the config that causes each.

Source: GitHub REST API, "Create a check run": annotation_level is notice, warning or failure; 64 KB for message
and raw_details, 255 characters for title; columns only within one line, so none are given.
"""

import shlex

from cgroup_preflight.core.report import Report, Status
from cgroup_preflight.render.escape import clip, plain
from cgroup_preflight.render.place import WORST_FIRST, Placed, place

#: Annotations in one request, and in all: more than a reader goes through, in a fixed number of requests.
BATCH = 50
LIMIT = 250
_LEVELS = {Status.FAIL: "failure", Status.UNVERIFIED: "warning", Status.WARN: "notice"}

Annotation = dict[str, str | int]


def batches(report: Report) -> list[list[Annotation]]:
    """At most LIMIT annotations, the worst first, in lists of at most BATCH; one empty list where there is none."""
    placed = list(place(report, WORST_FIRST))
    placed.sort(key=lambda item: WORST_FIRST.index(item.finding.status))
    found = [_annotation(item) for item in placed[:LIMIT]]
    return [found[start : start + BATCH] for start in range(0, len(found), BATCH)] or [[]]


def _annotation(item: Placed) -> Annotation:
    finding = item.finding
    line = min(item.line, 2**31 - 1)
    word = "unverified: " if finding.status is Status.UNVERIFIED else ""
    annotation: Annotation = {
        "path": item.path, "start_line": line, "end_line": line, "annotation_level": _LEVELS[finding.status],
        "title": plain(clip(f"{finding.code} {finding.name}", 200))[:255],
        "message": plain(f"{clip(finding.subject, 300)}: {word}{clip(finding.message)}")[:8000],
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
