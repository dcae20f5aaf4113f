"""Evidence to findings and service results: pure, so that each case can be tried without a kernel.

The engine's result and the exit of the main process are not trusted alone: `systemd-run` and Result of systemd.exec(5)
can call a killed program clean, so memory.events is read too.
"""

from collections.abc import Iterable

from cgroup_preflight.config.model import ReadyKind
from cgroup_preflight.config.properties import Role
from cgroup_preflight.core import codes
from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.report import CpuUsage, Finding, LimitResult, Remedy, ServiceResult, Status
from cgroup_preflight.core.slack import memory_slack
from cgroup_preflight.engines.base import Exit, How
from cgroup_preflight.engines.choice import CGROUPFS, EngineChoice
from cgroup_preflight.engines.run_scope import PREFIX
from cgroup_preflight.plan.expect import agrees
from cgroup_preflight.smoke.causes import doubtful, fell_silent, not_ready, oom_finding, read_log
from cgroup_preflight.smoke.counters import unit_name
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.exit_codes import needs_file, not_set_up, setting_of
from cgroup_preflight.smoke.limits import LimitReading, above_limit, missing_text, remedy_of
from cgroup_preflight.smoke.not_begun import not_begun
from cgroup_preflight.smoke.started import started_findings
from cgroup_preflight.smoke.unlimited import unlimited_findings
from cgroup_preflight.smoke.watch_findings import contradictions, sampled

_SIGNALS = {6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM", 2: "SIGINT", 1: "SIGHUP"}
_CLEAN = Exit(how=How.EXITED, status=0)


def service_result(seen: ServiceEvidence) -> ServiceResult:
    """The service's row of the report."""
    counters, state = seen.counters, seen.state
    return ServiceResult(
        name=seen.service.label, engine=seen.engine, unit=seen.service.unit, cgroup=seen.cgroup,
        limits=tuple(_limit(seen, item) for item in seen.limits if not _is_vacuous(item)),
        memory_peak_bytes=value_or(counters.memory_peak, None) if counters else None,
        cpu=_cpu(seen), oom_kills=_oom_kills(seen), result=state.result or None,
        exit_status=state.exit.status if state.exit else None,
        duration_seconds=round(seen.duration_seconds, 3),
        memory_max_bytes=seen.effective.memory_bytes if seen.effective else None,
        log_tail=seen.log,
    )  # fmt: skip


def service_findings(seen: ServiceEvidence, *, required: tuple[str, ...], swap: bool) -> tuple[Finding, ...]:
    """All findings about one service, at least one. `required` are the controllers of [require].

    `swap`: the host has swap, so that a missing swap limit matters.
    """
    if not seen.refused and not seen.cgroup and (_setting_failed(seen) or _lacks_file(seen)):
        return (_ended_early(seen),)
    if found := not_begun(seen):
        return (found,)
    if _was_not_set_up(seen):
        # systemd removed its cgroup: that says nothing about its limits.
        return (_ended_early(seen),)
    findings = [*_limit_findings(seen, required, swap=swap), *_place_findings(seen), *_end_findings(seen)]
    findings += [*_effective_findings(seen), *started_findings(seen.service, seen.started)]
    return tuple(findings)


def _was_not_set_up(seen: ServiceEvidence) -> bool:
    """Whether systemd failed before the unit reached its gate, so that no process of it has run."""
    absent = all(_is_absent(item) for item in seen.limits if item.expected.attribute.startswith("memory"))
    return _setting_failed(seen) and absent


def _setting_failed(seen: ServiceEvidence) -> bool:
    """Whether systemd ended the process because of a setting of the unit."""
    ended = seen.state.exit
    return ended is not None and ended.how is How.EXITED and bool(setting_of(ended.status))


def _lacks_file(seen: ServiceEvidence) -> bool:
    """Whether systemd could not load what a start needs, and the service has a file of variables that must exist."""
    return seen.state.result == "resources" and needs_file(seen.service)


def not_run(choice: EngineChoice) -> Finding:
    """The finding where no engine works on this host, so that no service was run."""
    return codes.SMOKE.finding(
        Status.UNVERIFIED,
        "smoke",
        f"no service ran, because no engine works on this host: {choice.why_not}",
        Remedy(
            title="run this job on a host with cgroup v2, with systemd as PID 1 or in a cgroup that is delegated to it",
            commands=(("cgroup-preflight", "check"),),
        ),
    )


def _limit(seen: ServiceEvidence, item: LimitReading) -> LimitResult:
    ok = item.in_force(memory_slack(seen.cpus, seen.page_size))
    return LimitResult(file=item.file, expected=item.expected.text, actual=missing_text(item.actual), ok=ok)


def _is_vacuous(item: LimitReading) -> bool:
    """A swap limit on a kernel without swap accounting has no file."""
    return _is_absent(item) and item.enabled and "swap" in item.expected.attribute


def _is_absent(item: LimitReading) -> bool:
    return isinstance(item.actual, Missing) and item.actual.why is Why.ABSENT


def _limit_findings(seen: ServiceEvidence, required: tuple[str, ...], *, swap: bool) -> Iterable[Finding]:
    bad = [item for item in seen.limits if not _limit(seen, item).ok]
    # What was changed during the run is told with its time, below.
    changed = {f"{level.cgroup.lstrip('/')}/{change.attribute}" for level in seen.watched for change in level.changes}
    for item in bad:
        if item.file not in changed:
            yield _bad_limit(seen, item, required, swap=swap)
    slipped = (*contradictions(seen), *unlimited_findings(seen))
    yield from slipped
    if seen.limits and not bad and all(item.status is not Status.FAIL for item in slipped):
        message = f"{len(seen.limits)} limits are in force at the unit and its slices"
        evidence = {"files": len(seen.limits), **sampled(seen)}
        yield codes.LIMITS_IN_FORCE.finding(Status.PASS, seen.service, message, evidence=evidence)


def _bad_limit(seen: ServiceEvidence, item: LimitReading, required: tuple[str, ...], *, swap: bool) -> Finding:
    prop, location, actual = item.expected.property, item.expected.location, missing_text(item.actual)
    found = f"is {actual!r}" if isinstance(item.actual, Known) else f"cannot be read: {item.actual}"
    message = f"{prop.name}: {item.file} should be {item.expected.text!r}, but {found}"
    if actual is not None and agrees(item.expected, actual):
        message = f"{prop.name}: {item.file} is {actual!r}, but {above_limit(item)}"
    if _is_absent(item):
        message = f"{prop.name}: {item.file} should be {item.expected.text!r}, but the file does not exist"
    evidence: dict[str, str | int | float | bool | None] = {
        item.file: actual if isinstance(item.actual, Known) else str(item.actual)
    }
    if item.used is not None:
        evidence[f"{item.file.rpartition('/')[0]}/memory.current"] = item.used
    status = Status.FAIL
    remedy = remedy_of(item, manager=seen.engine != CGROUPFS)
    if _is_vacuous(item):
        status = Status.UNVERIFIED if swap else Status.SKIP
        message = f"{prop.name}: this kernel has no {item.expected.attribute}" + (
            "" if swap else ", and the host has no swap"
        )
        remedy = Remedy(title="test on a kernel with swap accounting" if swap else "nothing to do on this host")
    elif isinstance(item.actual, Missing) and not _is_absent(item):
        status = Status.UNVERIFIED
        remedy = Remedy(title=f"make {item.file} readable for this job")
    elif prop.role is Role.SHARE and _is_absent(item) and prop.controller not in required:
        status = Status.WARN
        cause = "needs io.cost or the bfq scheduler" if prop.controller == "io" else "needs the controller here"
        message = f"{prop.name}: {item.file} does not exist ({cause}); the share has no effect"
        remedy = Remedy(title=f"remove {prop.name}, or name {prop.controller} in [require] to make this a fail")
    elif prop.role is Role.PLACEMENT and seen.stay is not None and seen.stay.allowed_cpus:
        evidence["Cpus_allowed_list"] = seen.stay.allowed_cpus
    return codes.LIMITS_IN_FORCE.finding(status, seen.service, message, remedy, location=location, evidence=evidence)


def _place_findings(seen: ServiceEvidence) -> Iterable[Finding]:
    stay = seen.stay
    if stay is None:
        return
    real = stay.main_cgroup
    if isinstance(real, Missing):
        yield codes.PROCESS_PLACE.finding(
            Status.UNVERIFIED,
            seen.service,
            f"the cgroup of the process cannot be read: {real}",
            Remedy(title="run the preflight where /proc shows other processes (no hidepid)"),
        )
    elif real.value != seen.cgroup and not real.value.startswith(f"{seen.cgroup}/"):
        yield codes.PROCESS_PLACE.finding(
            Status.FAIL,
            seen.service,
            f"the process runs in {real.value}, not in {seen.cgroup}: no limit of the unit applies to it",
            Remedy(title="do not move the program to another cgroup"),
        )
    elif stay.strays:
        pid, where = stay.strays[0]
        yield codes.PROCESS_PLACE.finding(
            Status.FAIL,
            seen.service,
            f"{len(stay.strays)} child process(es) left the unit; the first is {pid} in {where}",
            Remedy(title="start these programs as services of their own, with limits of their own"),
        )
    else:
        yield codes.PROCESS_PLACE.finding(
            Status.PASS,
            seen.service,
            f"all {stay.processes} process(es) are in {seen.cgroup}",
            evidence={"processes": stay.processes},
        )


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
        yield oom_finding(seen, _oom_kills(seen))
    elif seen.left:
        yield _forked(seen)
    elif seen.ready is not None and not seen.ready.ok and not seen.ended_early:
        yield not_ready(seen)
    elif seen.ended_early or seen.ready is None:
        yield _ended_early(seen)
    elif seen.silent:
        yield fell_silent(seen)
    elif seen.ready.doubt:
        yield doubtful(seen, seen.ready.doubt)
    elif seen.killed or result == "timeout":
        seconds = seen.service.smoke.stop_timeout
        yield codes.STOP.finding(
            Status.FAIL,
            seen.service,
            f"it did not end within {seconds:g} s after SIGTERM, so it was killed with SIGKILL",
            Remedy(
                title="handle SIGTERM, or raise stop_timeout in its smoke table if it needs longer",
                why="on every deploy systemd waits and then kills it",
            ),
            evidence={"still running": ", ".join(seen.outlasting), "state": seen.stopping} if seen.outlasting else {},
        )
    elif (not _is_success(seen) and seen.service.smoke.ready.kind is ReadyKind.EXIT) or result not in (
        "success",
        "exit-code",
        "",
    ):
        yield _ended_early(seen)
    elif result == "" or ended is None or (_oom_kills(seen) is None and _memory_limited(seen)):
        yield codes.SERVICE_RUN.finding(
            Status.UNVERIFIED,
            seen.service,
            *_unknown_end(seen),
            evidence={"result": result, "exit_status": status},
        )
    else:
        if not _is_success(seen) and ended.how is How.EXITED:
            yield codes.STOP.finding(
                Status.WARN,
                seen.service,
                f"it ended with status {status} after SIGTERM",
                Remedy(title="exit with status 0 after SIGTERM; systemd reports any other status as a failure"),
            )
        if seen.outlasting:
            yield _left_running(seen)
        ready = f"ready after {seen.ready.seconds:.1f} s, "
        yield codes.SERVICE_RUN.finding(
            Status.PASS,
            seen.service,
            f"{ready}ran {seen.duration_seconds:.1f} s",
            evidence={"result": result, "exit_status": status},
        )


def _left_running(seen: ServiceEvidence) -> Finding:
    return codes.STOP.finding(
        Status.WARN,
        seen.service,
        f"KillMode=process leaves processes of it running after the stop: {', '.join(seen.outlasting)}",
        Remedy(
            title="remove KillMode, or use KillMode=mixed, unless they have to survive a restart",
            why="nothing ends them any more, and after a restart they use up the limits of the new service",
            docs="https://www.freedesktop.org/software/systemd/man/latest/systemd.kill.html",
        ),
        evidence={"still running": ", ".join(seen.outlasting)},
    )


def _unknown_end(seen: ServiceEvidence) -> tuple[str, Remedy]:
    """What to say where nobody knows how a service ended."""
    own = seen.service.run_unit
    if seen.state.exit is None and seen.state.result and own is not None and own.type == "forking":
        return "systemd does not know its main process, and so cannot tell how the service ended", Remedy(
            title="name its main process with PIDFile=, or start it in the foreground with another Type=",
            why="systemd does not notice when it fails, either, and does not restart it",
            docs="https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#GuessMainPID=",
        )
    remedy = Remedy(title="run the preflight again; if this happens again, read the journal of the service manager")
    if seen.engine == CGROUPFS:
        remedy = Remedy(
            title="run the preflight again; if this happens again, find what takes away a controller or a cgroup of the run",
            why="the kernel's counters of the service are gone",
        )
    return "cannot tell how the service ended", remedy


def _is_success(seen: ServiceEvidence) -> bool:
    """Status 0, or one that systemd takes for success because of SuccessExitStatus= (systemd.service(5))."""
    ended = seen.state.exit
    return ended == _CLEAN or (ended is not None and ended.how is How.EXITED and seen.state.result == "success")


def _memory_limited(seen: ServiceEvidence) -> bool:
    return any(item.expected.attribute in ("memory.max", "memory.high") for item in seen.limits)


def _ended_early(seen: ServiceEvidence) -> Finding:
    result, ended, status = seen.state.result, seen.state.exit, _status(seen)
    if ended and ended.how is How.EXITED:
        how = f"exited with status {status}"
    elif ended:
        how = f"was killed by signal {status} ({_SIGNALS.get(ended.status, 'see signal(7)')})"
    elif result == "timeout":
        how = f"did not start within its start_timeout of {seen.service.smoke.start_timeout:g} s"
    elif _lacks_file(seen):
        how = "could not be started (result resources): a file of EnvironmentFile= cannot be read"
    else:
        how = f"could not be executed (result {result or 'unknown'})"
    remedy = Remedy(title=f"{read_log(seen)}, and run it by hand with the same arguments")
    if ended and ended.how is How.EXITED and (problem := not_set_up(seen, ended.status)):
        how, remedy = f"{how}: systemd {problem[0]}", Remedy(title=problem[1]) if problem[1] else remedy
    if ended == _CLEAN:
        remedy = Remedy(title='if it is meant to end by itself, write ready = "exit" in its smoke table')
    refused, (above, slice_unit) = _tasks_refused(seen), _refused_above(seen)
    if refused:
        how += f"; TasksMax refused it {refused} process(es) or thread(s)"
        remedy = Remedy(title="raise TasksMax of the service or of its slice", why="threads count as tasks")
    elif above:
        how += f"; TasksMax of {slice_unit} refused its services {above} process(es) or thread(s)"
        remedy = Remedy(title=f"raise TasksMax of {slice_unit}", why="threads count as tasks")
    return codes.SERVICE_RUN.finding(
        Status.FAIL,
        seen.service,
        f"it {how}",
        remedy,
        evidence={"result": result, "exit_status": status, "tasks_refused": refused + above},
    )


def _forked(seen: ServiceEvidence) -> Finding:
    return codes.SERVICE_RUN.finding(
        Status.FAIL,
        seen.service,
        f"it forked: its main process ended with status 0, and {seen.left} process(es) still run",
        Remedy(
            title="give it the option that keeps it in the foreground",
            why="systemd takes the end of the main process for the end of the service, and ends what is left",
        ),
        evidence={"processes left": seen.left},
    )


def _tasks_refused(seen: ServiceEvidence) -> int:
    events = seen.counters.pids_events if seen.counters else None
    return events.value.get("max", 0) if isinstance(events, Known) else 0


def _refused_above(seen: ServiceEvidence) -> tuple[int, str]:
    """How many tasks the pids.max of slices refused, and the slice that refused most.

    Kernels before 6.11 count them at the service, later ones only at the slice (pids.events.local), where the tasks of
    all its services count.
    """
    counts = [(value_or(level.pids_local, {}).get("max", 0), unit_name(level.cgroup)) for level in seen.slices]
    return sum(count for count, _ in counts), max(counts, default=(0, ""))[1]


def _effective_findings(seen: ServiceEvidence) -> Iterable[Finding]:
    """A cgroup above the run that is tighter than the plan: the run did not have the limits of the config."""
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
            yield codes.EFFECTIVE_LIMIT.finding(
                Status.WARN,
                seen.service,
                f"{level}/{attribute} is tighter ({value:g}) than the config, and limited the run",
                Remedy(title=f"lift the limit of {level}, or run where there is none"),
            )
