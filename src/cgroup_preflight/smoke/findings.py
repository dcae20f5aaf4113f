"""Evidence to findings and service results: pure, so that each case can be tried without a kernel.

The engine's result and the exit of the main process are not trusted alone: `systemd-run` and Result of systemd.exec(5)
can call a killed program clean, so memory.events is read too.

Settings that the kernel has no file for: only systemd can say what it took, and only systemd-oomd acts on it. Pure.
"""

from collections.abc import Iterable, Mapping

from cgroup_preflight.config.model import ReadyKind, Setting
from cgroup_preflight.config.properties import BY_NAME, Role
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.report import CpuUsage, Finding, LimitResult, Location, Remedy, ServiceResult, Status
from cgroup_preflight.engines.base import Exit, How
from cgroup_preflight.engines.run_scope import PREFIX
from cgroup_preflight.engines.session import ENDED_FIRST
from cgroup_preflight.plan.expect import agrees
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.limits import LimitReading, missing_text

_SIGNALS = {6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM", 2: "SIGINT", 1: "SIGHUP"}
_CLEAN = Exit(how=How.EXITED, status=0)
#: Of how many CPU periods a service was throttled when its quota may be why it was not ready, in percent.
_THROTTLED = 50


def service_result(seen: ServiceEvidence) -> ServiceResult:
    """The service's row of the report."""
    counters, state = seen.counters, seen.state
    return ServiceResult(
        name=seen.service.label, engine=seen.engine, unit=seen.service.unit, cgroup=seen.cgroup,
        limits=tuple(_limit(item) for item in seen.limits if not _is_vacuous(item)),
        memory_peak_bytes=value_or(counters.memory_peak, None) if counters else None,
        cpu=_cpu(seen), oom_kills=_oom_kills(seen), result=state.result or None,
        exit_status=state.exit.status if state.exit else None,
        duration_seconds=round(seen.duration_seconds, 3),
        memory_max_bytes=seen.effective.memory_bytes if seen.effective else None,
        log_tail=seen.log,
    )  # fmt: skip


def service_findings(seen: ServiceEvidence, *, required: tuple[str, ...], swap: bool) -> tuple[Finding, ...]:
    """Everything one service shows; at least one finding. `required` are the controllers of [require].

    `swap`: the host has swap, so that a missing swap limit matters.
    """
    if seen.ready is not None and seen.ready.blocked:
        return (_blocked(seen),)
    if seen.refused or not seen.cgroup:
        return (_not_started(seen),)
    findings = [*_limit_findings(seen, required, swap=swap), *_place_findings(seen), *_end_findings(seen)]
    findings += _effective_findings(seen)
    return tuple(findings)


def _finding(
    seen: ServiceEvidence, code: str, name: str, status: Status, message: str, *remedies: Remedy,
    location: Location | None = None, **evidence: str | float | bool | None,
) -> Finding:  # fmt: skip
    return Finding(
        code=code, name=name, status=status, subject=seen.service.label, message=message, evidence=evidence,
        remedies=remedies, location=location or seen.service.location,
    )  # fmt: skip


def _limit(item: LimitReading) -> LimitResult:
    actual = missing_text(item.actual)
    ok = actual is not None and agrees(item.expected, actual)
    return LimitResult(file=item.file, expected=item.expected.text, actual=actual, ok=ok)


def _is_vacuous(item: LimitReading) -> bool:
    """A swap limit on a kernel without swap accounting: there is no file, and nothing to limit."""
    return _is_absent(item) and item.enabled and "swap" in item.expected.attribute


def _is_absent(item: LimitReading) -> bool:
    return isinstance(item.actual, Missing) and item.actual.why is Why.ABSENT


def _limit_findings(seen: ServiceEvidence, required: tuple[str, ...], *, swap: bool) -> Iterable[Finding]:
    bad = [item for item in seen.limits if not _limit(item).ok]
    for item in bad:
        yield _bad_limit(seen, item, required, swap=swap)
    if not seen.limits:
        yield _finding(seen, "CGP501", "limits-in-force", Status.WARN, "no limit is set for it or for a slice above it",
                       Remedy(title="set MemoryMax, CPUQuota and TasksMax, or nothing holds it"))  # fmt: skip
    elif not bad:
        message = f"{len(seen.limits)} limits are in force at the unit and its slices"
        yield _finding(seen, "CGP501", "limits-in-force", Status.PASS, message, files=len(seen.limits))


def _bad_limit(seen: ServiceEvidence, item: LimitReading, required: tuple[str, ...], *, swap: bool) -> Finding:
    prop, location, actual = item.expected.property, item.expected.location, missing_text(item.actual)
    found = repr(actual) if isinstance(item.actual, Known) else "no such file" if _is_absent(item) else str(item.actual)
    message = f"{prop.name}: {item.file} should hold {item.expected.text!r}, found: {found}"
    evidence = {item.file: actual if isinstance(item.actual, Known) else str(item.actual)}
    status = Status.FAIL
    remedy = Remedy(
        title=f"find the level above {item.file} where the {prop.controller} controller ends",
        why="systemd accepts a limit that the kernel never gets, and says so nowhere",
        commands=(("cgroup-preflight", "check"),),
        docs="https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers",
    )
    if _is_vacuous(item):
        status = Status.UNVERIFIED if swap else Status.SKIP
        message = f"{prop.name}: this kernel has no {item.expected.attribute}" + ("" if swap else ", and no swap")
        remedy = Remedy(title="try it on a kernel with swap accounting" if swap else "nothing to do here")
    elif isinstance(item.actual, Missing) and not _is_absent(item):
        status = Status.UNVERIFIED
        remedy = Remedy(title=f"make {item.file} readable for this job")
    elif prop.role is Role.SHARE and _is_absent(item) and prop.controller not in required:
        status = Status.WARN
        cause = "needs io.cost or the bfq scheduler" if prop.controller == "io" else "needs the controller here"
        message = f"{prop.name}: {item.file} is not there ({cause}); the share has no effect"
        remedy = Remedy(title=f"remove {prop.name}, or name {prop.controller} in [require] to make this a fail")
    elif prop.role is Role.PLACEMENT and seen.stay is not None and seen.stay.allowed_cpus:
        evidence["Cpus_allowed_list"] = seen.stay.allowed_cpus
    return Finding(
        code="CGP501", name="limits-in-force", status=status, subject=seen.service.label, message=message,
        evidence=evidence, remedies=(remedy,), location=location,
    )  # fmt: skip


def _place_findings(seen: ServiceEvidence) -> Iterable[Finding]:
    stay = seen.stay
    if stay is None:
        return
    real = stay.main_cgroup
    if isinstance(real, Missing):
        yield _finding(seen, "CGP502", "process-place", Status.UNVERIFIED, f"cgroup of the process unknown: {real}",
                       Remedy(title="run the preflight where /proc shows other processes (no hidepid)"))  # fmt: skip
    elif real.value != seen.cgroup and not real.value.startswith(f"{seen.cgroup}/"):
        yield _finding(seen, "CGP502", "process-place", Status.FAIL,
                       f"the process runs in {real.value}, not in {seen.cgroup}: no limit of the unit holds it",
                       Remedy(title="do not move the program to another cgroup"))  # fmt: skip
    elif stay.strays:
        pid, where = stay.strays[0]
        yield _finding(seen, "CGP502", "process-place", Status.FAIL,
                       f"{len(stay.strays)} child process(es) left the unit; the first is {pid} in {where}",
                       Remedy(title="start helpers as services of their own, with limits of their own"))  # fmt: skip
    else:
        yield _finding(seen, "CGP502", "process-place", Status.PASS,
                       f"all {stay.processes} process(es) are in {seen.cgroup}", processes=stay.processes)  # fmt: skip


def _status(seen: ServiceEvidence) -> str:
    """The exit status or the signal of the main process as text, empty where it is unknown."""
    return str(seen.state.exit.status) if seen.state.exit else ""


def _oom_kills(seen: ServiceEvidence) -> int | None:
    events = seen.counters.memory_events if seen.counters else None
    return events.value.get("oom_kill") if isinstance(events, Known) else None


def _cpu(seen: ServiceEvidence) -> CpuUsage | None:
    stat = seen.counters.cpu_stat if seen.counters else None
    if not isinstance(stat, Known) or "usage_usec" not in stat.value:
        return None
    return CpuUsage(
        usage_usec=stat.value["usage_usec"], nr_periods=stat.value.get("nr_periods"),
        nr_throttled=stat.value.get("nr_throttled"), throttled_usec=stat.value.get("throttled_usec"),
    )  # fmt: skip


def _end_findings(seen: ServiceEvidence) -> Iterable[Finding]:
    result, ended, status = seen.state.result, seen.state.exit, _status(seen)
    if _oom_kills(seen) or result == "oom-kill":
        yield _oom(seen)
    elif seen.ready is not None and not seen.ready.ok and not seen.ended_early:
        yield _not_ready(seen)
    elif seen.ended_early or seen.ready is None:
        yield _ended_early(seen)
    elif seen.silent:
        yield _fell_silent(seen)
    elif seen.killed or result == "timeout":
        seconds = seen.service.smoke.stop_timeout
        yield _finding(seen, "CGP506", "stop", Status.FAIL,
                       f"it did not end within {seconds:g} s of SIGTERM and was killed with SIGKILL",
                       Remedy(title="handle SIGTERM, or raise stop_timeout in its smoke table if it needs longer",
                              why="on every deploy systemd would wait and then kill it"))  # fmt: skip
    elif (ended != _CLEAN and seen.service.smoke.ready.kind is ReadyKind.EXIT) or result not in (
        "success",
        "exit-code",
        "",
    ):
        yield _ended_early(seen)
    elif result == "" or ended is None or (_oom_kills(seen) is None and _memory_limited(seen)):
        yield _finding(seen, "CGP503", "service-run", Status.UNVERIFIED, "how it ended could not be read",
                       Remedy(title="run the preflight again; if it stays, look at the journal of the service manager"),
                       result=result, exit_status=status)  # fmt: skip
    else:
        if ended.how is How.EXITED and ended.status:
            yield _finding(seen, "CGP506", "stop", Status.WARN, f"it ended with status {status} after SIGTERM",
                           Remedy(title="exit with 0 after SIGTERM, or systemd calls the stop a failure"))  # fmt: skip
        ready = f"ready after {seen.ready.seconds:.1f} s, "
        yield _finding(seen, "CGP503", "service-run", Status.PASS, f"{ready}ran {seen.duration_seconds:.1f} s",
                       result=result, exit_status=status)  # fmt: skip


def _memory_limited(seen: ServiceEvidence) -> bool:
    return any(item.expected.attribute in ("memory.max", "memory.high") for item in seen.limits)


def _oom(seen: ServiceEvidence) -> Finding:
    effective = seen.effective
    limit = effective.memory_bytes if effective else None
    peak = value_or(seen.counters.memory_peak, None) if seen.counters else None
    # The kernel counts in batches, so the peak can be a few pages above the limit.
    proposed = proposed_max(min(peak or limit or 0, limit or peak or 0))
    location = next((item.location for item in seen.service.settings if item.property == "MemoryMax"), None)
    at = f" (limit {format_bytes(limit)} at {effective.memory_at or 'the unit'})" if limit and effective else ""
    return _finding(
        seen, "CGP504", "oom-kill", Status.FAIL,
        f"killed by the kernel for memory: peak {format_bytes(peak) if peak else 'unknown'}{at}",
        Remedy(title=f"raise MemoryMax to {proposed} and run again, or find what uses the memory",
               why="the peak is cut off at the limit, so the real need can be higher"),
        location=location, memory_peak_bytes=peak, memory_max_bytes=limit, oom_kill=_oom_kills(seen),
        result=seen.state.result or None,
    )  # fmt: skip


def proposed_max(peak: int) -> str:
    """One and a half times the peak, in whole steps of 16M, as systemd spells it."""
    step = 16 << 20
    megabytes = max(-(-peak * 3 // 2 // step), 1) * step >> 20
    return f"{megabytes // 1024}G" if megabytes % 1024 == 0 else f"{megabytes}M"


def _not_ready(seen: ServiceEvidence) -> Finding:
    why = seen.ready.why if seen.ready else "never started"
    result, status = seen.state.result, _status(seen)
    ended = f" (result {result}, exit status {status})" if why == ENDED_FIRST else ""
    seconds = f" after {seen.ready.seconds:.0f} s" if seen.ready and why != ENDED_FIRST else ""
    return _finding(
        seen, "CGP505", "readiness", Status.FAIL, f"not ready{seconds}: {why}{ended}{_throttled(seen)}",
        Remedy(title="read its log below; if it only needs longer, raise start_timeout in its smoke table"),
        location=seen.service.ready_location, result=result, exit_status=status,
    )  # fmt: skip


def _throttled(seen: ServiceEvidence) -> str:
    """That the CPU quota may be the reason, where it throttled the service most of the time."""
    stat = value_or(seen.counters.cpu_stat, {}) if seen.counters else {}
    quota = next((item.text for item in seen.service.settings if item.property == "CPUQuota"), "")
    share = 100 * stat.get("nr_throttled", 0) / max(stat.get("nr_periods", 0), 1)
    if share < _THROTTLED:
        return ""
    limit = f"CPUQuota={quota}" if quota else "a CPU quota of a slice above"
    return f" (throttled in {share:.0f}% of periods: {limit} may be too low)"


def _fell_silent(seen: ServiceEvidence) -> Finding:
    return _finding(
        seen, "CGP505", "readiness", Status.FAIL,
        f"it was ready, but did not answer {seen.service.smoke.duration:g} s later: {seen.silent}",
        Remedy(title="read its log below: it still runs, but hangs or refuses connections"),
        location=seen.service.ready_location,
    )  # fmt: skip


def _ended_early(seen: ServiceEvidence) -> Finding:
    result, ended, status = seen.state.result, seen.state.exit, _status(seen)
    if ended and ended.how is How.EXITED:
        how = f"exited with status {status}"
    elif ended:
        how = f"was killed by signal {status} ({_SIGNALS.get(ended.status, 'see signal(7)')})"
    elif result == "timeout":
        how = f"was not executed within its start_timeout of {seen.service.smoke.start_timeout:g} s"
    else:
        how = f"could not be executed (result {result or 'unknown'})"
    if status == "203":
        how += ": systemd could not execute it (EXEC)"
    remedy = Remedy(title="look at its log below and run it by hand with the same arguments")
    if ended == _CLEAN:
        remedy = Remedy(title='if it is meant to end by itself, write ready = "exit" in its smoke table')
    refused = _tasks_refused(seen)
    if refused:
        how += f"; TasksMax refused it {refused} process(es) or thread(s)"
        remedy = Remedy(title="raise TasksMax of the service or of its slice", why="threads count, too")
    return _finding(
        seen, "CGP503", "service-run", Status.FAIL, f"it {how}", remedy,
        result=result, exit_status=status, tasks_refused=refused,
    )  # fmt: skip


def _tasks_refused(seen: ServiceEvidence) -> int:
    events = seen.counters.pids_events if seen.counters else None
    return events.value.get("max", 0) if isinstance(events, Known) else 0


def _not_started(seen: ServiceEvidence) -> Finding:
    said = seen.refused or f"no cgroup appeared (state {seen.state.word})"
    return _finding(
        seen, "CGP507", "service-start", Status.UNVERIFIED, f"the service manager did not start it: {said}",
        Remedy(title="ask the manager why", commands=(("journalctl", "-xe"),)),
    )  # fmt: skip


def _blocked(seen: ServiceEvidence) -> Finding:
    target = seen.service.smoke.ready.target
    return _finding(
        seen, "CGP507", "service-start", Status.UNVERIFIED,
        f"something else answers at {target} already, so the service could not be told from it",
        Remedy(title="stop what listens there, or give the service another port in args and ready"),
        location=seen.service.ready_location,
    )  # fmt: skip


def _effective_findings(seen: ServiceEvidence) -> Iterable[Finding]:
    """An ancestor outside the plan that is tighter than the plan: the run was not the one asked for."""
    effective = seen.effective
    own = seen.cgroup.split(f"/{PREFIX}", 1)[0]
    if effective is None:
        return
    outer = (
        ("memory.max", effective.memory_bytes, effective.memory_at),
        ("cpu.max", effective.cpus, effective.cpus_at),
        ("pids.max", effective.tasks, effective.tasks_at),
    )
    limited = {item.expected.attribute for item in seen.limits}
    for attribute, value, level in outer:
        if value is not None and level and attribute in limited and own.startswith(level):
            yield _finding(
                seen,
                "CGP508",
                "effective-limit",
                Status.WARN,
                f"{level}/{attribute} is tighter ({value:g}) than the config: the run was held by that",
                Remedy(title=f"lift the limit of {level}, or run where there is none"),
            )


#: Who acts on ManagedOOM settings (systemd-oomd.service(8)); where nobody does, they are words.
OOMD = "systemd-oomd.service"
_START = Remedy(
    title=f"install and start {OOMD.removesuffix('.service')} where the service runs, or remove the setting",
    why="systemd takes the setting all the same",
    commands=(("systemctl", "enable", "--now", OOMD),), needs_root=True, persistent=True,
    docs="https://www.freedesktop.org/software/systemd/man/latest/systemd-oomd.service.html",
)  # fmt: skip
_ASK = Remedy(title="ask the service manager what it made of the setting", commands=(("journalctl", "-xe"),))


def policies(plan: Plan) -> tuple[tuple[str, str, Setting], ...]:
    """Subject, unit and setting of each policy of the plan."""
    labelled = [(item.label, item.unit, item.settings) for item in plan.services]
    labelled += [(f"{item.label}.slice", item.unit, item.settings) for item in plan.slices]
    return tuple(
        (label, unit, setting)
        for label, unit, settings in labelled
        for setting in settings
        if BY_NAME[setting.property].role is Role.POLICY
    )


def judge(
    wanted: Iterable[tuple[str, str, Setting]], shown: Mapping[str, Mapping[str, str]], *, oomd: bool
) -> tuple[Finding, ...]:
    """One finding for each policy; `shown` is what systemd says of each unit, `oomd` whether somebody acts on it."""
    return tuple(_policy_finding(label, setting, shown.get(unit, {}), oomd=oomd) for label, unit, setting in wanted)


def _policy_finding(label: str, setting: Setting, shown: Mapping[str, str], *, oomd: bool) -> Finding:
    actual = shown.get(setting.property)
    remedies: tuple[Remedy, ...] = (_ASK,)
    if actual is None:
        status, message = Status.UNVERIFIED, "systemd says nothing about it"
    elif actual != setting.text:
        status, message = Status.FAIL, f"should be {setting.text!r}, systemd has {actual!r}"
    elif setting.text == "kill" and not oomd:
        status, message, remedies = Status.WARN, f"{OOMD} does not run here, so nobody acts on it", (_START,)
    else:
        status, message, remedies = Status.PASS, f"systemd has {actual!r}; that it acts was not tried", ()
    return Finding(
        code="CGP513", name="policy", status=status, subject=label, message=f"{setting.property}: {message}",
        evidence={f"systemctl show {setting.property}": actual, OOMD: oomd}, remedies=remedies,
        location=setting.location,
    )  # fmt: skip
