"""Probe evidence to findings: a limit that does not act is a fail, a limit that was not reached is unverified.

Tolerance of a quota. CFS hands out run time to each CPU in slices of 5 ms and charges it at ticks of at most
10 ms, and what is overdrawn is paid back in the next period (kernel Documentation/scheduler/sched-bwc.rst).
The window of a measurement does not begin with a period, so one more period's quota can fall into it. Usage
within quota x (window + one period) + 15 ms for each CPU used is therefore in order; more is not.
"""

from collections.abc import Iterable

from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.expect import agrees
from cgroup_preflight.smoke.neighbour_findings import beside_findings, beside_words
from cgroup_preflight.smoke.not_begun import full_slice
from cgroup_preflight.smoke.probe_plan import KINDS, Probe, Untried, allowed_usec
from cgroup_preflight.smoke.probes import ProbeEvidence

#: The kernel swaps in batches of some pages, and stops a batch before the end.
_SWAP_SLACK, _USED_UP = 1 << 20, 0.75
_RETRY = Remedy(title="run the preflight again on a machine that is less busy")
_NO_ROOM = Remedy(
    title="test in a guest, where a probe needs no start in the slice",
    commands=(("cgroup-preflight", "run", "--engine", "guest"),),
)
_MEMORY_FIRST = Remedy(
    title="lower TasksMax, or raise MemoryMax, if TasksMax is to stop the service",
    why="each task takes some kilobytes of memory, so the memory limit stops the service before TasksMax does",
)
_ACCOUNT = Remedy(title="run the preflight on a kernel with swap accounting")
_REPORT = Remedy(title="do not rely on limits of this host; check its kernel and which programs write to its cgroups")


def probe_findings(seen: Iterable[ProbeEvidence], untried: Iterable[Untried]) -> tuple[Finding, ...]:
    """One finding for each limit that was tested or could not be."""
    seen = tuple(seen)
    found = [(item, _probed(item)) for item in seen]
    proven = [item.probe for item, finding in found if item.probe.kind == "max" and finding.status is Status.PASS]
    judged = (_out_of_reach(item) if _is_cut_off(item, finding, proven) else finding for item, finding in found)
    harmed = (finding for item in seen if item.beside for finding in beside_findings(item.probe, item.beside))
    return (*judged, *harmed, *(_untried(item) for item in untried))


def _is_cut_off(seen: ProbeEvidence, finding: Finding, proven: Iterable[Probe]) -> bool:
    """Whether memory ended a probe of tasks, under a MemoryMax around it that another probe proved."""
    if seen.probe.kind != "tasks" or finding.status is not Status.UNVERIFIED or not _killed(seen):
        return False
    return any(item.target == seen.probe.target or (item.is_slice and _within(seen.probe, item)) for item in proven)


def _within(probe: Probe, outer: Probe) -> bool:
    """Whether a probe runs in the slice of `outer`, or in one nested in it (systemd.slice(5))."""
    return probe.in_slice == outer.target or probe.in_slice.startswith(f"{outer.target.removesuffix('.slice')}-")


def _out_of_reach(seen: ProbeEvidence) -> Finding:
    _, message, numbers = _tasks(seen)
    return codes.LIMIT_ENFORCED.finding(
        Status.SKIP, seen.probe.label, f"{_WORDS['tasks']}: {message}; the MemoryMax around it is proven",
        _MEMORY_FIRST, location=seen.probe.expectation.location, evidence=numbers,
    )  # fmt: skip


def _untried(item: Untried) -> Finding:
    status = Status.SKIP if item.void else Status.UNVERIFIED
    return codes.LIMIT_ENFORCED.finding(status, item, item.message, Remedy(title=item.remedy))


_WORDS = {kind: name for name, kind in KINDS.items()}


def _probed(seen: ProbeEvidence) -> Finding:
    probe = seen.probe
    evidence: dict[str, str | int | float | bool | None] = {
        f"{seen.cgroup}/{probe.expectation.attribute}": seen.in_force
    }
    if seen.refused:
        status, message, remedy = Status.UNVERIFIED, f"the probe did not start: {seen.refused}", _RETRY
        if full := full_slice(seen.refused):
            message, remedy = f"the probe did not start: ConcurrencyHardMax of {full} leaves no room for it", _NO_ROOM
    elif seen.in_force is None and probe.kind == "swap":
        status, message, remedy = Status.UNVERIFIED, "this kernel does not account for swap", _ACCOUNT
    elif seen.in_force is None or not agrees(probe.expectation, seen.in_force):
        status, remedy = Status.FAIL, _REPORT
        message = f"the limit is not in force: {probe.expectation.attribute} is {seen.in_force!r}"
    elif seen.unread:
        status, message, remedy = Status.UNVERIFIED, "what the kernel has counted could not be read", _RETRY
    else:
        judge = {"cpu": _cpu, "tasks": _tasks, "high": _high, "max": _max, "swap": _swap}[probe.kind]
        status, message, numbers = judge(seen)
        evidence.update(numbers)
        if seen.beside and status is Status.PASS:
            message += beside_words(seen.beside)
        first = _MEMORY_FIRST if probe.kind == "tasks" and _killed(seen) else _RETRY
        remedy = first if status is Status.UNVERIFIED else _REPORT
    return codes.LIMIT_ENFORCED.finding(
        status, probe.label, f"{_WORDS[probe.kind]}: {message}", *(() if status is Status.PASS else (remedy,)),
        location=probe.expectation.location, evidence=evidence,
    )  # fmt: skip


_Judged = tuple[Status, str, dict[str, str | int | float | bool | None]]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _cpu(seen: ProbeEvidence) -> _Judged:
    line = next((item for item in seen.said if "stat" in item), None)
    stat = line["stat"] if line else None
    if line is None or not isinstance(stat, dict):
        return Status.UNVERIFIED, "the probe ended without a measurement", {}
    usage, throttled = _number(stat.get("usage_usec")), int(_number(stat.get("nr_throttled")))
    window = _number(line["longest"]) * 1e6
    allowed = allowed_usec(seen.probe, window)
    used = usage / window if window else 0.0
    numbers: dict[str, str | int | float | bool | None] = {
        "usage_usec": int(usage), "window_usec": int(window), "allowed_usec": int(allowed), "nr_throttled": throttled,
        "throttled_usec": int(_number(stat.get("throttled_usec"))),
    }  # fmt: skip
    if usage > allowed:
        return Status.FAIL, f"used {used:.2f} CPUs under a quota of {seen.probe.limit:.2f}", numbers
    if throttled > 0:
        text = f"throttled {throttled} times, used {usage / 1e3:.0f} ms of the {allowed / 1e3:.0f} ms that it allows in {window / 1e3:.0f} ms"
        return Status.PASS, text, numbers
    return Status.UNVERIFIED, f"the probe got only {used:.2f} CPUs, too few to reach the quota", numbers


def _tasks(seen: ProbeEvidence) -> _Judged:
    """By what was alive at once, by the probe's own count and the kernel's: the kernel may kill some for memory."""
    line, killed = next((item for item in seen.said if "refused" in item), None), _killed(seen)
    if line is None:
        first = "memory was reached first, and the kernel killed the probe" if killed else ""
        return Status.UNVERIFIED, first or "the probe ended without a measurement", {"memory.events oom_kill": killed}
    counted = seen.after.get("max", 0) - seen.before.get("max", 0)
    current, limit, alive = line.get("pids.current"), line.get("pids.max"), int(_number(line.get("alive")))
    numbers: dict[str, str | int | float | bool | None] = {
        "started": int(_number(line.get("started"))), "alive": alive, "refused": bool(line["refused"]),
        "pids.events max": counted, "pids.current": str(current), "pids.max": str(limit), "memory.events oom_kill": killed,
    }  # fmt: skip
    if line["refused"] and counted > 0 and isinstance(limit, str) and current == limit:
        return Status.PASS, f"the kernel refused one task more than {limit}", numbers
    if alive >= seen.probe.limit and _above(current, seen.probe.limit):
        return Status.FAIL, f"{alive} tasks were alive at once under a limit of {int(seen.probe.limit)}", numbers
    if killed:
        return Status.UNVERIFIED, f"memory was reached first, with {alive} tasks alive at once", numbers
    if line.get("killed"):
        return Status.UNVERIFIED, f"tasks of the probe were killed, and {alive} were alive at once", numbers
    if not line["refused"]:
        return Status.UNVERIFIED, f"only {alive} tasks could be started in time, too few to reach it", numbers
    return Status.UNVERIFIED, "another limit refused tasks first", numbers


def _killed(seen: ProbeEvidence) -> int:
    """How many processes the kernel killed for memory while the probe ran."""
    return seen.after.get("oom_kill", 0) - seen.before.get("oom_kill", 0)


def _above(current: object, limit: float) -> bool:
    """Whether the kernel counted more tasks than the limit; it does not contradict the probe where it has no count."""
    return not isinstance(current, str) or not current.isdigit() or int(current) > limit


def _memory_numbers(seen: ProbeEvidence) -> dict[str, str | int | float | bool | None]:
    keys = ("high", "max", "oom", "oom_kill")
    return {f"memory.events {key}": seen.after.get(key, 0) - seen.before.get(key, 0) for key in keys}


def _used_up(seen: ProbeEvidence) -> bool:
    """Whether the probe used more than the limit: it says so, and so does the kernel where it counts memory."""
    line = next((item for item in seen.said if item.get("finished")), None)
    current = line.get("current") if line else None
    return line is not None and (not isinstance(current, int) or current >= seen.probe.limit)


def _max(seen: ProbeEvidence) -> _Judged:
    numbers = _memory_numbers(seen)
    if _number(numbers["memory.events oom"]) > 0 and _number(numbers["memory.events oom_kill"]) > 0:
        return (
            Status.PASS,
            f"the kernel killed the probe at {format_bytes(int(seen.probe.limit))} and counted it",
            numbers,
        )
    if _used_up(seen):
        return (
            Status.FAIL,
            f"the probe used {format_bytes(seen.probe.amount)} under it, and the kernel killed nothing",
            numbers,
        )
    return Status.UNVERIFIED, "the probe ended before it reached the limit", numbers


def _high(seen: ProbeEvidence) -> _Judged:
    numbers = _memory_numbers(seen)
    if _number(numbers["memory.events high"]) > 0:
        return (
            Status.PASS,
            f"the kernel slowed the probe down at {format_bytes(int(seen.probe.limit))} and counted it",
            numbers,
        )
    if _used_up(seen):
        return (
            Status.FAIL,
            f"the probe used {format_bytes(seen.probe.amount)}, and the kernel did not slow it down",
            numbers,
        )
    return Status.UNVERIFIED, "the probe did not reach the limit in time", numbers


def _swap(seen: ProbeEvidence) -> _Judged:
    """Killed although the host has swap left. Swap that is allowed must be used up, by the kernel's count: near the
    limit the kernel stops swapping, so that its counter of refusals (`max`) alone does not show it.
    """
    killed, met = (seen.after.get(key, 0) - seen.before.get(key, 0) for key in ("oom_kill", "swap max"))
    peak, limit = seen.after.get("swap peak", 0), seen.probe.limit
    numbers: dict[str, str | int | float | bool | None] = {
        "memory.events oom_kill": killed, "memory.swap.events max": met, "memory.swap.peak": peak,
    }  # fmt: skip
    words = format_bytes(int(limit))
    if any(item.get("finished") for item in seen.said):
        return Status.FAIL, f"more than {words} went to swap, and the kernel killed nothing", numbers
    if peak > limit + _SWAP_SLACK:
        return Status.FAIL, f"{format_bytes(peak)} went to swap under a limit of {words}", numbers
    if killed > 0 and (limit == 0 or met > 0 or peak >= limit * _USED_UP):
        return Status.PASS, f"the kernel killed the probe instead of swapping more than {words}", numbers
    return Status.UNVERIFIED, "the probe ended before it reached the limit", numbers
