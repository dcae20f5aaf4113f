"""The verdict in one line, in the same words in every format, and the order of the findings behind it. Pure.

A pass counts the limits that the kernel's files showed, and says so where there are none: a host that offers
everything, and a service that ran without a limit, prove no limit.
"""

from collections.abc import Iterable, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import NO_PASS, PROBLEMS, Finding, Report, ServiceResult, Status, Verdict
from cgroup_preflight.report.escape import plain
from cgroup_preflight.report.views import view_of

#: Checks named in the line; the others are counted.
NAMES_MAX = 3
_CODE_MAX, _SUBJECT_MAX = 10, 40
_MESSAGE_MAX = 120
_NOT_TESTED = "No service was run, so no limit was tested"
#: The finding of a service whose limits are all in force.
LIMITS_IN_FORCE = codes.LIMITS_IN_FORCE.code
#: What is wrong with the config, the plan and the programs; a host is not to blame for it.
_INPUTS = ("CGP2", codes.BINARY_FORMAT.code)


#: What is found out about the contention of cgroups.
_CONTENTION = "CGP7"
#: What a rollout says.
_ROLLOUT = "CGP8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runners:
    """Of how many runners one view tells: all, those with the verdict of the view, and those that proved limits.

    `noun` is what a reader calls one of them.
    """

    count: int
    agreeing: int
    proven: int
    noun: str = "runner"


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """What a person must read, the worst first; of equal status, what is wrong with the inputs first."""
    wrong = [item for item in findings if item.status in PROBLEMS]
    return sorted(wrong, key=lambda item: (PROBLEMS.index(item.status), _not_input(item)))


def _not_input(item: Finding) -> bool:
    return not item.code.startswith(_INPUTS)


def headline(report: Report, runners: Runners | None = None) -> str:
    """`FAIL: 1 of 84 checks failed: CGP504 api`; one line that is safe on a terminal, to be escaped for the rest.

    `runners` is given for a view that lacks some findings of its runners. Totals would be wrong there, so the line has
    none, and names how many runners agree.
    """
    if report.findings and all(item.code.startswith(_CONTENTION) for item in report.findings):
        return f"{report.verdict.value.upper()}{_on(runners)}: {_contention(report)}"
    if (
        report.verdict is Verdict.PASS
        and report.findings
        and any(item.code.startswith(_ROLLOUT) for item in report.findings)
        and all(item.code.startswith((_ROLLOUT, codes.HOST.code)) for item in report.findings)
    ):
        return f"PASS{_on(runners)}: {_rollout(report)}"
    said = {Verdict.FAIL: _failed, Verdict.UNVERIFIED: _unverified, Verdict.PASS: _passed}[report.verdict]
    return f"{headword(report)}{_on(runners)}: {said(report, runners)}"


def headword(report: Report) -> str:
    """The verdict for people: a pass of a report in which no limit was tested is not called one."""
    is_checked = report.verdict is Verdict.PASS and not report.services and not proves_limits(report)
    other = any(item.code.startswith((_CONTENTION, _ROLLOUT)) for item in report.findings)
    return "CHECKED" if is_checked and not other else report.verdict.value.upper()


def _on(runners: Runners | None) -> str:
    if runners is None or runners.count == 1:
        return ""
    if runners.agreeing == runners.count:
        return f" on all {runners.count} {runners.noun}s"
    return f" on {runners.agreeing} of {runners.count} {runners.noun}s"


def _failed(report: Report, runners: Runners | None) -> str:
    failed = _with(report, Status.FAIL)
    if not failed:
        return "the report does not name the check that failed"
    ran = sum(item.status is not Status.SKIP or item.is_waived for item in report.findings)
    count = _count(len(failed), "check") if runners else f"{len(failed)} of {_count(ran, 'check')}"
    unverified = len(_with(report, Status.UNVERIFIED))
    more = f"; {_count(unverified, 'check')} could not run" if unverified else ""
    return f"{count} failed: {_names(failed)}{more}{_accepted(report, '; ')}"


def _contention(report: Report) -> str:
    """What `diagnose` found: causes, something without a cause, or nothing."""
    causes = [item for item in report.findings if item.status in PROBLEMS and item.evidence.get("rule")]
    open_ones = [item for item in _with(report, Status.UNVERIFIED) if item not in causes]
    more = f"; {_count(len(open_ones), 'question')} open: {_names(open_ones)}" if open_ones else ""
    if causes:
        sure = "cause" if report.verdict is Verdict.FAIL else "possible cause"
        return f"{_count(len(causes), sure)} of contention: {_names(causes)}{more}"
    return f"no verdict{more.replace(';', ',', 1)}" if more else "no contention"


def _rollout(report: Report) -> str:
    """How a rollout ended, or how many values one would change: it proves no limit of a service."""
    ends = [item for item in report.findings if "phase" in item.evidence]
    if ends:
        count = f"{len(ends)} rollouts: " if len(ends) > 1 else ""
        return f"{count}{plain(ends[-1].message)[:_MESSAGE_MAX]}"
    planned = planned_changes(report.findings)
    if planned:
        return f"{_count(len(planned), 'value')} would change"
    said = [item for item in report.findings if item.code == codes.ROLLOUT.code]
    return plain(said[-1].message)[:_MESSAGE_MAX] if said else "nothing would change"


def planned_changes(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that name a value which a rollout would change."""
    return [item for item in findings if item.code == codes.ROLLOUT_PLAN.code and item.status is Status.PASS]


def _unverified(report: Report, _runners: Runners | None) -> str:
    untried = _with(report, Status.UNVERIFIED)
    if untried:
        said = f"{_count(len(untried), 'check')} could not run ({_names(untried)})"
    elif all(item.status is Status.SKIP for item in report.findings):
        said = "all that was found is ignored" if _accepted(report) else "no check ran"
    else:
        said = "the report does not name the check that could not run"
    return f"{said}; this is not a pass"


def _passed(report: Report, runners: Runners | None) -> str:
    if runners is not None:
        # A count would be that of one view.
        failed = [item for item in report.findings if item.is_accepted_fail]
        what = f"failures ({_names(failed)})" if failed else "some findings"
        accepted = f"; the policy accepts {what}" if any(item.is_waived for item in report.findings) else ""
        return f"{_proven_on(runners, _in_words(report))}{accepted}"
    passed = len(_with(report, Status.PASS))
    about_machine = len(view_of(report).machine)
    warned = len(_with(report, Status.WARN)) - about_machine
    skipped = sum(not item.is_waived and item.code != codes.THRESHOLDS.code for item in _with(report, Status.SKIP))
    warnings = f", {_count(warned, 'warning')}" if warned else ""
    rest = f", {skipped} skipped" if skipped else ""
    machine = f"; {_count(about_machine, 'warning')} about the machine" if about_machine else ""
    counts = f"{_count(passed, 'check')} passed{warnings}{rest}{_accepted(report)}{machine}"
    proven = _proven(report)
    return f"{proven} ({counts})" if proven else f"{counts}. {_NOT_TESTED}"


def _accepted(report: Report, before: str = ", ") -> str:
    """How many findings do not count, because the config ignores them or the baseline has them; those that failed by name."""
    found = view_of(report)
    parts = list[str]()
    for items, why in ((found.ignored, "ignored"), (found.forgiven, "forgiven by the baseline")):
        failed = [item for item in items if item.is_accepted_fail]
        parts += [f"{_count(len(failed), 'failure')} {why} ({_names(failed)})"] if failed else []
        parts += [f"{len(items) - len(failed)} {why}"] if len(items) > len(failed) else []
    return f"{before}{', '.join(parts)}" if parts else ""


def _in_words(report: Report) -> str:
    """What is in force, without a count: an exception may accept that a limit is not."""
    missing = any(item.is_waived and item.code == LIMITS_IN_FORCE for item in report.findings)
    return "not all limits are in force" if missing else "the limits are in force"


def _proven_on(runners: Runners, in_force: str) -> str:
    if not runners.proven:
        return "no limit was tested"
    if runners.proven == runners.count:
        return f"{in_force}; the report of each run counts them"
    return f"{in_force} on {runners.proven} of them; no limit was tested on the others"


def _proven(report: Report) -> str:
    """Which limits are proved; empty where no service ran."""
    if _limited(report):
        # With those whose limits are all accepted as not in force: they ran without any, but not without a plan.
        planned = [item for item in report.services if item.limits]
        return _in_force(planned, len(report.services) - len(planned))
    if report.services:
        return f"{_count(len(report.services), 'service')} ran without a limit in force, so no limit is proven"
    if proves_limits(report):
        return f"{_in_words(report)}; the report of each run counts them"
    return ""


#: The word about a service that failed in something which the policy accepts.
ACCEPTED = "accepted"


def service_word(report: Report, name: str) -> str:
    """A verdict about one service, by the findings about it that the report has, or ACCEPTED."""
    about = [item for item in report.findings if item.subject == name]
    seen = {item.status for item in about}
    if found := next((status.value for status in NO_PASS if status in seen), ""):
        return found
    failed = any(item.policy is not None and item.policy.was is Status.FAIL for item in about)
    return ACCEPTED if failed else Verdict.PASS.value


def proves_limits(report: Report) -> bool:
    """Whether some limit was found in force; a report that was shortened for a comment has only the finding left."""
    stated = any(item.code == LIMITS_IN_FORCE and item.status is Status.PASS for item in report.findings)
    return stated or bool(_limited(report))


def _limited(report: Report) -> list[ServiceResult]:
    return [item for item in report.services if any(limit.ok for limit in item.limits)]


def _in_force(limited: Sequence[ServiceResult], others: int) -> str:
    limits = [limit for item in limited for limit in item.limits]
    good = sum(limit.ok for limit in limits)
    count = _count(good, "limit") if good == len(limits) else f"{good} of {_count(len(limits), 'limit')}"
    without = f", {_count(others, 'service')} ran without one" if others else ""
    return f"{count} of {_count(len(limited), 'service')} {'is' if good == 1 else 'are'} in force{without}"


def _with(report: Report, status: Status) -> list[Finding]:
    return sorted((item for item in report.findings if item.status is status), key=_not_input)


def _names(findings: Iterable[Finding]) -> str:
    names = list(dict.fromkeys(_name(item) for item in findings))
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more


def _name(item: Finding) -> str:
    """Clipped after the escapes, which make a text longer."""
    subject = plain(item.subject)
    dots = "..." if len(subject) > _SUBJECT_MAX else ""
    return f"{plain(item.code)[:_CODE_MAX]} {subject[:_SUBJECT_MAX]}{dots}".strip()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
