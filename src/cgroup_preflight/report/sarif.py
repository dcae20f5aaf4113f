"""SARIF 2.1.0, for code scanning: one rule for each code, one result for each failed, unverified or warning finding.

Sources: OASIS SARIF 2.1.0 errata 01; GitHub docs, "SARIF support for code scanning" (it needs rule help, shows
the first location, and recognises a result by `primaryLocationLineHash`, which its upload action would otherwise
compute from the source line, so that every edit of the line would open a new alert).
"""

import json
import re
import shlex
from collections.abc import Iterable, Sequence

from cgroup_preflight import ADDRESS
from cgroup_preflight.core.report import PROBLEMS, By, Finding, Remedy, Report, Ruling, Status, Verdict
from cgroup_preflight.report.escape import clip, code, plain, prose, sarif, uri_path
from cgroup_preflight.report.headline import headline
from cgroup_preflight.report.place import Placed, place, relative
from cgroup_preflight.report.views import excuse, noise_of

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
#: Three levels for three states; `kind` stays "fail" since only that may carry a level (SARIF 3.27.10).
_LEVELS = {Status.FAIL: "error", Status.UNVERIFIED: "warning", Status.WARN: "note"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", re.ASCII)
_URL = re.compile(r"https://[A-Za-z0-9.-]+(?:/[A-Za-z0-9._~/%#?=&+-]*)?", re.ASCII)


def render(report: Report) -> str:
    """The report as indented SARIF JSON with a newline at the end."""
    placed = tuple(place(report, PROBLEMS, noise_of(report), waived=True))
    rules = _rules(placed)
    index = {str(rule["id"]): number for number, rule in enumerate(rules)}
    run = {
        "tool": {"driver": {
            "name": "cgroup-preflight", "version": plain(clip(report.tool_version, 100)), "informationUri": ADDRESS,
            "rules": rules,
        }},
        "invocations": [_invocation(report)],
        "results": [_result(item, index[_rule_id(item)]) for item in placed],
        "properties": {"verdict": report.verdict.value},
    }  # fmt: skip
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=True) + "\n"


def _status(finding: Finding) -> Status:
    """The status that its check gave, of a finding that is suppressed."""
    return finding.policy.was if finding.policy is not None and finding.is_waived else finding.status


def _rule_id(item: Placed) -> str:
    return plain(clip(item.finding.code, 200)) or "none"


def _rules(placed: Sequence[Placed]) -> list[dict[str, object]]:
    """One rule for each code, in order of appearance; help is from the remedies of its first finding."""
    first: dict[str, Placed] = {}
    for item in placed:
        first.setdefault(_rule_id(item), item)
    return [_rule(name, item) for name, item in first.items()]


def _rule(name: str, item: Placed) -> dict[str, object]:
    finding = item.finding
    rule: dict[str, object] = {
        "id": name,
        "name": plain(clip(finding.name, 200)) or "unnamed",
        "shortDescription": {"text": sarif(finding.name.replace("-", " "), 200) or "unnamed"},
        "help": {"text": _help_text(finding.remedies), "markdown": _help_markdown(finding.remedies)},
        "defaultConfiguration": {"level": _LEVELS[_status(finding)]},
    }
    url = next((remedy.docs for remedy in finding.remedies if _URL.fullmatch(remedy.docs)), None)
    return rule | ({"helpUri": url} if url else {})


def _help_text(remedies: Iterable[Remedy]) -> str:
    return "\n".join(sarif(line) for item in remedies for line in _remedy(item)) or "See the message of the result."


def _help_markdown(remedies: Iterable[Remedy]) -> str:
    lines = []
    for item in remedies:
        why = f" ({prose(item.why)})" if item.why else ""
        lines.append(f"- {prose(item.title, 500)}{why}")
        lines += [f"  - {code(line.strip())}" for line in list(_remedy(item))[1:]]
    return "\n".join(lines) or "See the message of the result."


def _remedy(item: Remedy) -> Iterable[str]:
    yield clip(item.title, 500) + (f" ({clip(item.why)})" if item.why else "")
    yield from (f"    write {file.path}" for file in item.files)
    yield from (f"    {'sudo ' if item.needs_root else ''}{shlex.join(command)}" for command in item.commands)


def _result(item: Placed, rule_index: int) -> dict[str, object]:
    finding = item.finding
    word = "unverified: " if finding.status is Status.UNVERIFIED else ""
    lines = [f"{clip(finding.subject, 500)}: {word}{clip(finding.message)}."]
    if why := excuse(finding):
        lines.append(f"({clip(why)})")
    lines += [f"To do: {line}" if number == 0 else line
              for remedy in finding.remedies for number, line in enumerate(_remedy(remedy))]  # fmt: skip
    region = {"startLine": min(item.line, 2**31 - 1)}
    result: dict[str, object] = {
        "ruleId": _rule_id(item), "ruleIndex": rule_index, "kind": "fail", "level": _LEVELS[_status(finding)],
        "message": {"text": "\n".join(sarif(line, 3 * 2000) for line in lines)},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri_path(item.path), "uriBaseId": "%SRCROOT%"}, "region": region,
        }}],
        "partialFingerprints": {
            "primaryLocationLineHash": f"{item.fingerprint[:16]}:{item.ordinal}",
            "cgroupPreflight/v1": item.fingerprint,
        },
        "properties": {
            "status": _status(finding).value, "subject": plain(clip(finding.subject, 500)),
            "evidence": {plain(clip(key, 200)): plain(clip(str(value))) for key, value in finding.evidence.items()},
        },
    }  # fmt: skip
    return result | ({"suppressions": [_suppression(finding.policy)]} if finding.policy and finding.is_waived else {})


def _suppression(ruling: Ruling) -> dict[str, object]:
    """SARIF 3.35: `inSource` is a line of the config that says so, `external` the baseline."""
    at = ruling.location
    if ruling.by is By.BASELINE or at is None:
        return {"kind": "external", "status": "accepted", "justification": "the baseline has it, too"}
    until = f" (until {ruling.until})" if ruling.until else ""
    return {
        "kind": "inSource", "status": "accepted", "justification": plain(clip(f"{ruling.reason}{until}", 1000)),
        "location": {"physicalLocation": {
            "artifactLocation": {"uri": uri_path(relative(at.file)), "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": min(max(at.line, 1), 2**31 - 1)},
        }},
    }  # fmt: skip


def _invocation(report: Report) -> dict[str, object]:
    """That the tool worked, and the verdict where it is not a pass."""
    invocation: dict[str, object] = {"executionSuccessful": True}
    if _TIME.fullmatch(report.started_at):
        invocation["startTimeUtc"] = report.started_at
    if report.verdict is not Verdict.PASS:
        level = "error" if report.verdict is Verdict.FAIL else "warning"
        invocation["toolExecutionNotifications"] = [{"level": level, "message": {"text": sarif(headline(report))}}]
    return invocation
