"""Contradictions within a report, each with its place: this tool never writes one, so the file was edited. Pure.

`read` refuses a report for the first of them. An edited report without a contradiction cannot be told from a true one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from cgroup_preflight.config.properties import BOUNDS, BY_NAME
from cgroup_preflight.core import codes
from cgroup_preflight.core.firm import is_firm
from cgroup_preflight.core.quantities import says
from cgroup_preflight.core.report import (
    VERDICTS_WORST_FIRST,
    By,
    CpuUsage,
    Finding,
    HostSummary,
    LimitResult,
    Report,
    ServiceResult,
    Status,
    Verdict,
)
from cgroup_preflight.core.slack import memory_slack, refused_slack
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.report.headline import LIMITS_IN_FORCE

#: Files of shares: where the kernel has none, the share has no effect, which is a warning and not a fail.
SHARES = frozenset({"cpu.weight", "cpu.idle", "io.weight"})
#: Files of limits that bound a service by themselves: a pass has at least one for each service.
_BOUNDS = frozenset(BY_NAME[name].attribute for name in BOUNDS)
_RUN = codes.SERVICE_RUN.code


def contradictions(report: Report) -> Iterator[str]:
    """Sentences that name a place in the report by its position, and never repeat a text of it."""
    yield from _verdict(report)
    yield from _rulings(report)
    names: set[str] = set()
    about: dict[str, list[Finding]] = defaultdict(list)
    for finding in report.findings:
        about[finding.subject].append(finding)
    for number, item in enumerate(report.services):
        at = f"services[{number}]"
        if item.name in names:
            yield f"{at}.name is that of an earlier service"
        names.add(item.name)
        for index, limit in enumerate(item.limits):
            yield from _limit(limit, f"{at}.limits[{index}]")
        if item.cpu is not None:
            yield from _cpu(item.cpu, f"{at}.cpu")
        if report.verdict is Verdict.PASS and not any(map(_is_accepted, about[item.name])):
            yield from _passed(item, about[item.name], at, report.host)


def _verdict(report: Report) -> Iterator[str]:
    worst = verdict_of(report.findings)
    if VERDICTS_WORST_FIRST.index(report.verdict) <= VERDICTS_WORST_FIRST.index(worst):
        return
    wrong = (number for number, item in enumerate(report.findings) if item.status.value == worst.value)
    number = next(wrong, None)
    why = f"findings[{number}].status is {worst}" if number is not None else "no finding passed"
    yield f"the verdict is {report.verdict}, better than its findings: {why}"


#: The status of a finding after each part of a policy.
_AFTER = {
    By.IGNORE: Status.SKIP, By.BASELINE: Status.SKIP, By.FAIL_ON: Status.FAIL, By.WARN_ON: Status.WARN,
    By.MACHINE_WARNINGS: Status.WARN,
}  # fmt: skip


def _rulings(report: Report) -> Iterator[str]:
    """What no policy does (`core.policy`)."""
    for number, item in enumerate(report.findings):
        ruling, at = item.policy, f"findings[{number}].policy"
        if ruling is None:
            continue
        if ruling.was not in (Status.FAIL, Status.WARN):
            yield f"{at}.was is {ruling.was}, which no policy changes"
        if item.status is not _AFTER[ruling.by]:
            yield f"{at}.by is {ruling.by}, and the status is {item.status}"
        if ruling.by is By.IGNORE and not ruling.reason.strip():
            yield f"{at}.reason is empty"
        if ruling.by in (By.BASELINE, By.WARN_ON) and ruling.was is Status.FAIL and is_firm(item.code):
            yield f"{at}.by is {ruling.by}, which does not change a fail of this code"


def _is_accepted(item: Finding) -> bool:
    """Whether a policy accepts something that failed, so that its traces are in the numbers of the service."""
    return item.policy is not None and item.policy.was is Status.FAIL


def _limit(limit: LimitResult, at: str) -> Iterator[str]:
    if limit.ok and limit.actual is None:
        yield f"{at}.ok is true, and nothing was read"
    elif limit.ok and not says(_attribute(limit), limit.expected, limit.actual or ""):
        yield f"{at}.ok is true, and actual is not what is expected"


def _attribute(limit: LimitResult) -> str:
    return limit.file.rpartition("/")[2]


def _cpu(cpu: CpuUsage, at: str) -> Iterator[str]:
    """kernel/sched/fair.c, do_sched_cfs_period_timer: each throttled period is counted as a period first.

    Time without a throttled period is no contradiction: what ends within the period (the slack timer) counts as time only.
    """
    if (cpu.nr_throttled or 0) > (cpu.nr_periods or 0):
        yield f"{at}.nr_throttled is more than nr_periods"


def _passed(item: ServiceResult, own: Iterable[Finding], at: str, host: HostSummary | None) -> Iterator[str]:
    """What a service shows when every limit of it was in force and it ran to its end (`smoke.outcome`)."""
    judged = [finding for finding in own if finding.code == LIMITS_IN_FORCE]
    for index, limit in enumerate(item.limits):
        if not limit.ok and not _is_excused(limit, judged):
            yield f"{at}.limits[{index}].ok is false, and the verdict is pass"
    yield from _counted(item, judged, at)
    if not any(limit.ok and _attribute(limit) in _BOUNDS and limit.expected[:3] != "max" for limit in item.limits):
        yield f"{at} has no limit in force, and the verdict is pass"
    if not any(finding.code == _RUN and finding.status is Status.PASS for finding in own):
        yield f"{at} has no finding {_RUN} that passed, and the verdict is pass"
    if _is_above(item, host):
        yield f"{at}.memory_peak_bytes is above memory_max_bytes, and the verdict is pass"
    if item.oom_kills:
        yield f"{at}.oom_kills is above 0, and the verdict is pass"
    if item.oom_kills is None and any(_attribute(limit) in ("memory.max", "memory.high") for limit in item.limits):
        yield f"{at}.oom_kills is null where memory is limited, and the verdict is pass"
    if item.result not in ("success", "exit-code") or item.exit_status is None:
        yield f"{at} did not end well (result, exit_status), and the verdict is pass"


def _is_above(item: ServiceResult, host: HostSummary | None) -> bool:
    """More than the kernel charges above a limit that is in force all the time."""
    if item.memory_peak_bytes is None or item.memory_max_bytes is None:
        return False
    page_size = 4 << 10 if host is not None and host.machine == "x86_64" else 64 << 10
    cpus = host.cpus if host is not None and host.cpus else 1
    slack = memory_slack(cpus, page_size)
    own = f"{item.cgroup.lstrip('/')}/memory.max"
    if not any(limit.file == own and limit.expected == str(item.memory_max_bytes) for limit in item.limits):
        slack += refused_slack(cpus, page_size)
    return item.memory_peak_bytes > item.memory_max_bytes + slack


def _is_excused(limit: LimitResult, judged: Iterable[Finding]) -> bool:
    """A share without a file, of which a warning says so."""
    absent = limit.actual is None and _attribute(limit) in SHARES
    return absent and any(item.status is Status.WARN and limit.file in item.evidence for item in judged)


def _counted(item: ServiceResult, judged: Iterable[Finding], at: str) -> Iterator[str]:
    passed = [finding for finding in judged if finding.status is Status.PASS]
    warned = [finding for finding in judged if finding.status in (Status.WARN, Status.SKIP)]
    if not passed and not warned:
        yield f"{at} has no finding {LIMITS_IN_FORCE}, and the verdict is pass"
    if passed and not item.limits:
        yield f"{at}.limits is empty, and a finding {LIMITS_IN_FORCE} passed"
    for finding in passed:
        files = finding.evidence.get("files", len(item.limits))
        if files != len(item.limits):
            yield f"{at}.limits has {len(item.limits)} entries, and a finding {LIMITS_IN_FORCE} counted others"
