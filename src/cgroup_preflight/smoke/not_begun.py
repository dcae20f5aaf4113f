"""Why a service has not begun: its address is taken, the manager refuses its unit, a condition of it is not met. Pure."""

import re

from cgroup_preflight.core import codes
from cgroup_preflight.core.report import Finding, Location, Remedy, Status
from cgroup_preflight.core.unit_text import UnitLine
from cgroup_preflight.engines.choice import CGROUPFS
from cgroup_preflight.smoke.counters import unit_name
from cgroup_preflight.smoke.evidence import ServiceEvidence

_CONDITION = "exec-condition"
#: What systemd says of a line that it goes on without; another reason then stops it.
_GOES_ON = r"\bignoring\b"
#: systemd 258 and later (src/core/slice.c).
_CONCURRENCY = r"Concurrency limit of the slice unit '([^']{1,255})'"
_JOURNAL = Remedy(title="read in the journal why systemd refused", commands=(("journalctl", "-xe"),))
_NO_MANAGER = Remedy(title="correct what the message says, or test it with the engine systemd or user, or in the guest")


def not_begun(seen: ServiceEvidence) -> Finding | None:
    """Why no program of the service has run; None for one that has begun."""
    if seen.ready is not None and seen.ready.blocked:
        return _blocked(seen, seen.ready.why)
    if seen.unmet or seen.state.result == _CONDITION:
        return _condition(seen)
    if seen.refused or not seen.cgroup:
        return _refused(seen) if seen.refused and seen.service.run_unit is not None else _not_started(seen)
    return _crowded(seen) if _has_no_task_left(seen) else None


def _condition(seen: ServiceEvidence) -> Finding:
    unmet = seen.unmet
    if not unmet and seen.service.source is not None:
        unmet = tuple(f"ExecCondition={item}" for item in seen.service.source.values("ExecCondition"))
    return codes.SERVICE_START.finding(
        Status.UNVERIFIED, seen.service,
        f"it was not started, because a condition was not met: {', '.join(unmet)}",
        Remedy(title="test it where the condition is met, or give the guest what it names ([target.paths])"),
    )  # fmt: skip


def _refused(seen: ServiceEvidence) -> Finding:
    """Systemd refuses a unit of the project: with the line of its own file, where it names one of the copy."""
    words, location = _with_its_line(seen, seen.refused.splitlines())
    remedy = (
        Remedy(title=f"correct {seen.service.path}; systemd-analyze verify says the same of it") if words else _JOURNAL
    )
    return codes.SERVICE_START.finding(
        Status.FAIL if words else Status.UNVERIFIED, seen.service,
        f"systemd refuses its unit: {words or seen.refused}", remedy, location=location,
    )  # fmt: skip


def _with_its_line(seen: ServiceEvidence, said: list[str]) -> tuple[str, Location | None]:
    """The reason in systemd's words about the project's own file; empty where they are about no line of it.

    A command that systemd cannot read is one that it ignores; it then refuses the unit for having none.
    """
    own, unit = seen.service.run_unit, seen.service.unit
    assert own is not None
    lines = {number: item for number, item in enumerate(own.origins, 1) if item is not None}
    about: list[tuple[str, UnitLine]] = []
    for line in said:
        named = re.search(rf"{re.escape(unit)}:(\d+): ", line)
        if named and (origin := lines.get(int(named[1]))):
            about.append((line[named.end() :], origin))
    fatal = [item for item in about if not re.search(_GOES_ON, item[0])] or [
        item for item in about if item[1].key.startswith("Exec")
    ]
    if fatal:
        words, origin = fatal[0]
        return f"{origin.file}:{origin.line}: {words}", Location(file=origin.file, line=origin.line)
    summed = [line.removeprefix(f"{unit}: ") for line in said if line.startswith(f"{unit}: ")]
    return (summed[0], None) if summed else ("", None)


def _not_started(seen: ServiceEvidence) -> Finding:
    if full := full_slice(seen.refused):
        return codes.SERVICE_START.finding(
            Status.FAIL, seen.service,
            f"systemd refused to start it, because {full} has as many active units as ConcurrencyHardMax allows",
            Remedy(title=f"raise ConcurrencyHardMax of {full}, or move the service to another slice"),
            evidence={"systemd": seen.refused},
        )  # fmt: skip
    said = seen.refused or f"no cgroup appeared (state {seen.state.word})"
    if seen.engine == CGROUPFS:
        return codes.SERVICE_START.finding(Status.UNVERIFIED, seen.service, f"it was not started: {said}", _NO_MANAGER)
    return codes.SERVICE_START.finding(
        Status.UNVERIFIED,
        seen.service,
        f"the service manager did not start it: {said}",
        _JOURNAL,
    )


def full_slice(refused: str) -> str:
    """The slice whose ConcurrencyHardMax made systemd refuse a start, in its words; empty for another reason."""
    found = re.search(_CONCURRENCY, refused)
    return unit_name(f"/{found[1]}") if found else ""


def _has_no_task_left(seen: ServiceEvidence) -> bool:
    """Whether the gate took the only task that TasksMax allows.

    systemd 254 and later start the program inside the cgroup, before the gate's process has been waited for.
    """
    tasks = next((item.expected.number for item in seen.limits if item.file == f"{seen.cgroup[1:]}/pids.max"), None)
    return tasks == 1 and seen.state.result == "resources" and seen.state.exit is None


def _crowded(seen: ServiceEvidence) -> Finding:
    return codes.SERVICE_START.finding(
        Status.UNVERIFIED, seen.service,
        "TasksMax=1 could not be tested: this systemd counts the process that delays the start, too",
        Remedy(title="set TasksMax to 2 or more, or test in a guest with debian-12"),
        location=next((item.location for item in seen.service.settings if item.property == "TasksMax"), None),
    )  # fmt: skip


def _blocked(seen: ServiceEvidence, why: str) -> Finding:
    target = seen.service.smoke.ready.target
    return codes.SERVICE_START.finding(
        Status.UNVERIFIED,
        seen.service,
        f"{why} at {target}, so the service was not started",
        Remedy(title="stop the program that listens there, or give the service another address in args and ready"),
        location=seen.service.ready_location,
    )
