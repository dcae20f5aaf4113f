"""GitLab's Code Quality report: a JSON array that the merge request widget shows.

Source: GitLab docs, ci/testing/code_quality ("Code Quality report format"). GitLab does not read a file with an
entry that has no severity, and of two entries with one fingerprint it shows one.

Two more files that GitLab reads without a token: links of a job (annotations) and variables (dotenv).

Sources: GitLab docs, ci/yaml/artifacts_reports, `artifacts:reports:annotations` (a JSON object of sections with
external links) and `artifacts:reports:dotenv` (5 KB, ASCII names, no blank lines, no comments, no quotes kept).
"""

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

from cgroup_preflight.core.report import PROBLEMS, Report, Status, Verdict
from cgroup_preflight.report.comment import title
from cgroup_preflight.report.escape import clip, plain
from cgroup_preflight.report.headline import headline
from cgroup_preflight.report.merge import Merged
from cgroup_preflight.report.place import CONFIG_NAME, Placed, place
from cgroup_preflight.report.report_file import FILE_MAX, fitting, harmful
from cgroup_preflight.report.views import noise_of

_SEVERITIES = {Status.FAIL: "critical", Status.UNVERIFIED: "major", Status.WARN: "minor"}


def render(report: Report, *, limit: int = FILE_MAX) -> str:
    """The report as a JSON array with a newline at the end; what passed or was skipped is left out.

    At most `limit` bytes: the worst findings are kept, and one more entry counts the others.
    """
    items = list(place(report, PROBLEMS, noise_of(report)))
    text = _text(report, [_entry(item) for item in items])
    if len(text) <= limit:  # JSON in ASCII: characters are bytes
        return text
    made = {id(item): _entry(item) for item in items}
    # Four more bytes of indentation in each of an entry's lines, of which there are ten.
    kept, rest = fitting(items, [len(json.dumps(made[id(item)], indent=2)) + 40 for item in items], limit - 2000)
    return _text(report, [*(made[id(item)] for item in kept), _left_out(rest)])


def _text(report: Report, entries: list[dict[str, object]]) -> str:
    if not entries and report.verdict is not Verdict.PASS:
        # GitLab shows an empty array as "no problems"; the verdict says otherwise.
        entries.append(_ours("verdict", headline(report), fingerprint="0" * 64, severity="major"))
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


def _left_out(items: Sequence[Placed]) -> dict[str, object]:
    said = f"{len(items)} more findings do not fit into this file; the JSON report has them"
    return _ours("left-out", said, fingerprint="1" * 64, severity="major" if harmful(items) else "minor")


def _ours(name: str, description: str, *, fingerprint: str, severity: str) -> dict[str, object]:
    return {
        "description": description, "check_name": name, "fingerprint": fingerprint, "severity": severity,
        "location": {"path": CONFIG_NAME, "lines": {"begin": 1}},
    }  # fmt: skip


def annotations(merged: Merged, links: dict[str, str]) -> str:
    """The annotations report: the verdict as a label on each of `links` (label: absolute http address)."""
    label = f"cgroup-preflight {title(merged)}"
    entries = [
        {"external_link": {"label": f"{label} ({name})"[:255], "url": url}}
        for name, url in links.items() if urlsplit(url).scheme in ("http", "https")
    ]  # fmt: skip
    return json.dumps({"cgroup-preflight": entries}, indent=2, ensure_ascii=True) + "\n"


def dotenv(merged: Merged) -> str:
    """Variables for later jobs: only our own words and numbers, so that no foreign text enters an environment."""
    is_noise = noise_of(merged.report)
    counts = {status: sum(item.status is status and not is_noise(item) for item in merged.report.findings)
              for status in Status}  # fmt: skip
    values = {
        "VERDICT": merged.verdict.value, "RUNNERS": merged.count, "FAILED": counts[Status.FAIL],
        "UNVERIFIED": counts[Status.UNVERIFIED], "WARNINGS": counts[Status.WARN],
    }  # fmt: skip
    return "".join(f"CGROUP_PREFLIGHT_{name}={value}\n" for name, value in values.items())
