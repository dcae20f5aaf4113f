"""Many reports as one: what differs between the runners first, equal findings once. Pure.

The caller gives the verdict (`verdict.worst_of`): a renderer decides nothing.
"""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cgroup_preflight.core.codes import RUNNER_REPORTED
from cgroup_preflight.core.report import (
    PROBLEMS,
    STATUSES_WORST_FIRST,
    VERDICTS_WORST_FIRST,
    Finding,
    Location,
    Report,
    ServiceResult,
    Status,
    Verdict,
)
from cgroup_preflight.report.headline import Runners, proves_limits
from cgroup_preflight.report.place import CONFIG_NAME
from cgroup_preflight.report.views import noise_of

#: The cell of a runner that lacks the check.
ABSENT = None
#: Names of runners written out in one place; the others are counted.
NAMES_MAX = 6
#: What one report is about.
RUNNER, HOST = "runner", "host"
#: The codes of a rollout. What one says of a host is in its message: a value, a reason.
_ROLLOUT = "CGP8"
_rank = STATUSES_WORST_FIRST.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """The report of one runner: `name` as a reader knows it."""

    name: str
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Runners with the same result in every column; cells are None where a runner lacks the check."""

    names: tuple[str, ...]
    verdict: Verdict
    cells: tuple[Status | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """One view of `count` reports.

    `report` has their findings, equal ones once; `runners` is None where it is one whole report. `codes` are the columns
    of `rows`: first the checks with different results, then those that found a problem on every runner.
    """

    verdict: Verdict
    count: int
    verdicts: Mapping[Verdict, int]
    codes: tuple[str, ...]
    rows: tuple[Row, ...]
    report: Report
    runners: Runners | None
    noun: str = RUNNER


def merge(legs: Sequence[Leg], verdict: Verdict, *, shortened: bool = False, noun: str = RUNNER) -> Merged:
    """The view of one leg or more; names are unique. `shortened`: the reports lack some of their findings.

    `noun` says what a leg is: a runner or a host.
    """
    table = {leg.name: _worst_by_code(leg.report) for leg in legs}
    codes = _columns(table)
    rows = sorted(
        _rows(legs, table, codes), key=lambda row: (VERDICTS_WORST_FIRST.index(row.verdict), -len(row.names), row.names)
    )
    return Merged(
        verdict=verdict, count=len(legs), verdicts=Counter(leg.report.verdict for leg in legs), codes=codes,
        rows=tuple(rows), report=legs[0].report if len(legs) == 1 else _combined(legs, verdict, noun),
        runners=_runners(legs, verdict, noun) if shortened or len(legs) > 1 else None, noun=noun,
    )  # fmt: skip


def _runners(legs: Sequence[Leg], verdict: Verdict, noun: str) -> Runners:
    agreeing = sum(leg.report.verdict is verdict for leg in legs)
    proven = sum(proves_limits(leg.report) for leg in legs)
    return Runners(count=len(legs), agreeing=agreeing, proven=proven, noun=noun)


def _worst_by_code(report: Report) -> dict[str, Status]:
    """What a runner is, is no result of the project: without warnings about machines, which differ on most runners."""
    worst: dict[str, Status] = {}
    is_noise = noise_of(report)
    for item in report.findings:
        if is_noise(item):
            continue
        known = worst.get(item.code)
        if known is None or _rank(item.status) < _rank(known):
            worst[item.code] = item.status
    return worst


def _columns(table: Mapping[str, Mapping[str, Status]]) -> tuple[str, ...]:
    seen: dict[str, Counter[Status | None]] = defaultdict(Counter)
    for codes in table.values():
        for code, status in codes.items():
            seen[code][status] += 1
    for counts in seen.values():
        counts[ABSENT] = len(table) - counts.total()
    shown = {code: +counts for code, counts in seen.items() if len(+counts) > 1 or not _fine(+counts)}
    return tuple(sorted(shown, key=lambda code: (len(shown[code]) == 1, _worst_in(shown[code]), code)))


def _fine(counts: Counter[Status | None]) -> bool:
    return not set(counts) & set(PROBLEMS)


def _worst_in(counts: Counter[Status | None]) -> int:
    return min(_rank(status) for status in counts if status is not None)


def _rows(legs: Sequence[Leg], table: Mapping[str, Mapping[str, Status]], codes: Sequence[str]) -> Iterable[Row]:
    groups: dict[tuple[Verdict, tuple[Status | None, ...]], list[str]] = defaultdict(list)
    for leg in legs:
        groups[leg.report.verdict, tuple(table[leg.name].get(code) for code in codes)].append(leg.name)
    for (verdict, cells), names in groups.items():
        yield Row(names=tuple(sorted(names)), verdict=verdict, cells=cells)


def _combined(legs: Sequence[Leg], verdict: Verdict, noun: str) -> Report:
    """All legs as one report, with the services of the runners that did not pass."""
    wrong = [leg for leg in legs if leg.report.verdict is not Verdict.PASS]
    return Report(
        tool_version=legs[0].report.tool_version, verdict=verdict, host=None, findings=_grouped(legs, noun),
        services=tuple(_named(leg.name, item) for leg in wrong for item in leg.report.services),
        started_at=min(leg.report.started_at for leg in legs),
        duration_seconds=max(leg.report.duration_seconds for leg in legs),
        project=_common(leg.report.project for leg in legs),
    )  # fmt: skip


def _common(names: Iterable[str | None]) -> str | None:
    found = set(names)
    return found.pop() if len(found) == 1 else None


def _named(leg: str, item: ServiceResult) -> ServiceResult:
    return replace(item, name=f"{leg}: {item.name}")


def _grouped(legs: Sequence[Leg], noun: str) -> tuple[Finding, ...]:
    """One finding for each check, subject, status and file; of equal status, those of only some legs come first."""
    groups: dict[tuple[object, ...], list[tuple[str, Finding]]] = defaultdict(list)
    for leg in legs:
        for item in leg.report.findings:
            groups[_same(item)].append((leg.name, item))
    merged = [_group(members, len(legs), noun) for members in groups.values()]
    merged.sort(key=lambda entry: (_rank(entry[1].status), not entry[0], entry[1].code, entry[1].subject))
    return tuple(finding for _, finding in merged)


def _same(item: Finding) -> tuple[object, ...]:
    """What findings of several legs have in common if they are shown as one."""
    file = item.location.file if item.location else ""
    if item.policy is not None:
        # An exception of one runner must not hide the finding of another one.
        return item.code, item.subject, item.status, file, item.policy
    if item.code == RUNNER_REPORTED.code:
        return item.code, item.subject, item.status, file, item.message
    if not item.code.startswith(_ROLLOUT):
        return item.code, item.subject, item.status, file
    # The subject of the end of a rollout is its number, which no other host has.
    subject = "" if "phase" in item.evidence else item.subject
    told = item.message if item.status in PROBLEMS or "property" in item.evidence else ""
    return item.code, subject, item.status, file, told


def _group(members: Sequence[tuple[str, Finding]], total: int, noun: str) -> tuple[bool, Finding]:
    """Whether only some legs have the finding, and the finding with their names."""
    names = list(dict.fromkeys(name for name, _ in members))
    first = members[0][1]
    everywhere = len(names) == total
    where = f"on all {total} {noun}s" if everywhere else f"on {len(names)} of {total} {noun}s: {', '.join(some(names))}"
    differing = "; messages differ" if len({item.message for _, item in members}) > 1 else ""
    subject = first.subject if len({item.subject for _, item in members}) == 1 else "rollout"
    message = f"{first.message} ({where}{differing})".lstrip()
    return not everywhere, replace(first, subject=subject, message=message)


def some(names: Sequence[str]) -> list[str]:
    """The names; of many, the first ones and the number of the others."""
    if len(names) <= NAMES_MAX:
        return list(names)
    return [*names[: NAMES_MAX - 1], f"{len(names) - NAMES_MAX + 1} more"]


def rebase(report: Report, *, root: str = "", prefix: str = "") -> Report:
    """The report with places relative to the repository.

    `prefix` is the folder in it in which the report was made, `root` the absolute path of the repository there.
    """
    findings = [_rebased(item, root, prefix) for item in report.findings]
    if prefix not in ("", ".") and findings and not any(item.location for item in findings):
        # `place` shows findings without a place at the config, and finds the config by any finding that has a place.
        # A finding that passed is best for that, because readers do not see its place.
        chosen = max(range(len(findings)), key=lambda index: _rank(findings[index].status))
        file = posixpath.normpath(posixpath.join(prefix, CONFIG_NAME))
        findings[chosen] = replace(findings[chosen], location=Location(file=file, line=1))
    return replace(report, findings=tuple(findings))


def _rebased(item: Finding, root: str, prefix: str) -> Finding:
    ruling = item.policy and replace(item.policy, location=_moved(item.policy.location, root, prefix))
    return replace(item, location=_moved(item.location, root, prefix), policy=ruling)


def _moved(at: Location | None, root: str, prefix: str) -> Location | None:
    if at is None:
        return None
    file = at.file
    if posixpath.isabs(file):
        file = posixpath.relpath(file, root) if root and file.startswith(f"{root.rstrip('/')}/") else file
    elif prefix:
        file = posixpath.normpath(posixpath.join(prefix, file))
    return Location(file=file, line=at.line)
