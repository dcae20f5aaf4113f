"""GitLab's Code Quality report: a JSON array that the merge request widget shows.

Source: GitLab docs, ci/testing/code_quality ("Code Quality report format"). An entry without severity makes the
file unreadable for GitLab, and of two entries with one fingerprint it shows one.
"""

import json

from cgroup_preflight.render.escape import clip, plain
from cgroup_preflight.render.place import CONFIG_NAME, WORST_FIRST, Placed, place
from cgroup_preflight.report import Report, Status, Verdict

_SEVERITIES = {Status.FAIL: "critical", Status.UNVERIFIED: "major", Status.WARN: "minor"}


def render(report: Report) -> str:
    """The report as a JSON array with a newline at the end; what passed or was skipped is left out."""
    entries = [_entry(item) for item in place(report, WORST_FIRST)]
    if not entries and report.verdict is not Verdict.PASS:
        # An empty array reads as "all is well", and that is not what the verdict says.
        entries.append(_silence(report.verdict))
    return json.dumps(entries, indent=2, ensure_ascii=True) + "\n"


def _entry(item: Placed) -> dict[str, object]:
    finding = item.finding
    return {
        "description": _description(item), "check_name": plain(clip(f"{finding.code} {finding.name}", 255)),
        "fingerprint": item.fingerprint, "severity": _SEVERITIES[finding.status],
        "location": {"path": item.path, "lines": {"begin": item.line}},
    }  # fmt: skip


def _description(item: Placed) -> str:
    """One line; GitLab shows it as plain text."""
    finding = item.finding
    word = "unverified: " if finding.status is Status.UNVERIFIED else ""
    remedies = "".join(f" To do: {clip(remedy.title, 500)}." for remedy in finding.remedies)
    return plain(f"{clip(finding.subject, 500)}: {word}{clip(finding.message)}.{remedies}")


def _silence(verdict: Verdict) -> dict[str, object]:
    return {
        "description": f"the verdict is {verdict.value}, although no check reported anything",
        "check_name": "verdict", "fingerprint": "0" * 64, "severity": "major",
        "location": {"path": CONFIG_NAME, "lines": {"begin": 1}},
    }  # fmt: skip
