"""Whether counters and samples contradict the limits of a service and of the slices above it. Pure."""

from collections.abc import Iterator

from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import Known, parsed, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.core.slack import memory_slack, refused_slack
from cgroup_preflight.host.cgroup import Counters
from cgroup_preflight.host.cgroupfs import parse_limit
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.watch import Watched

#: kernel/sched/fair.c: each CPU takes its share of a quota in slices (sched_cfs_bandwidth_slice_us, 5 ms) and may keep
#: one into the next period; a task above its slice runs on to the next tick, at most 10 ms away (CONFIG_HZ=100).
_CPU_USEC = 5_000 + 10_000
#: kernel/cgroup/pids.c, pids_can_attach: a process that is moved in is never refused. Of each service systemd moves in at
#: most the gate and one control process, and all services of a slice may stop at the same time.
_TASKS_MOVED_IN = 2
_LIFTED = Remedy(
    title="do not change the limits from within the service; set other ones in the config if it needs them",
    why="a limit that was lifted for a time limited nothing",
)
_SLIPPED = Remedy(
    title="find out what lifted the limit: the service itself, or another program on this machine",
    why="the kernel lets no cgroup use more than a limit that is in force all the time",
)
_LATE = Remedy(title="run again over a better connection, or on the host itself")
_COVERED = Remedy(
    title="do not mount anything over the cgroup file system from within the service",
    why="systemd and this tool read and write the files below /sys/fs/cgroup by their paths",
)


def contradictions(seen: ServiceEvidence) -> Iterator[Finding]:
    """Findings about limits that were changed during the run, that a counter contradicts, or that nobody could watch."""
    for watched in seen.watched:
        for change in watched.changes:
            file = f"{watched.cgroup.lstrip('/')}/{change.attribute}"
            message = f"{file} was {change.text!r} {change.seconds:.1f} s after the start, and not {change.before!r}"
            yield _fail(seen, message, _LIFTED, {file: change.text, "at the start": change.before})
        yield from _cpu(seen, watched)
    if late := max((watched.unwatched for watched in seen.watched), default=0.0):
        message = f"the host did not answer for {late:.0f} s, and nobody saw whether a limit was lifted meanwhile"
        yield codes.LIMITS_IN_FORCE.finding(Status.UNVERIFIED, seen.service, message, _LATE, evidence=sampled(seen))
    for cgroup in seen.covered:
        message = f"something is mounted over the folder of {cgroup}, so that the files there are not its own"
        yield _fail(seen, message, _COVERED, {"cgroup": cgroup})
    for level in (seen.counters, *seen.slices):
        if level is not None:
            yield from _counted(seen, level)


def sampled(seen: ServiceEvidence) -> dict[str, str | int | float | bool | None]:
    """How often the limit files were read during the run, as evidence."""
    watched = next((item for item in seen.watched if item.samples), None)
    if watched is None:
        return {}
    return {"samples": watched.samples, "longest time between samples in s": round(watched.longest_gap, 2)}


def _fail(
    seen: ServiceEvidence, message: str, remedy: Remedy, evidence: dict[str, str | int | float | bool | None]
) -> Finding:
    return codes.LIMITS_IN_FORCE.finding(Status.FAIL, seen.service, message, remedy, evidence=evidence)


def _counted(seen: ServiceEvidence, level: Counters) -> Iterator[Finding]:
    at = level.cgroup.lstrip("/")
    most, peak = _limit(seen, f"{at}/memory.max"), value_or(level.memory_peak, None)
    slack = memory_slack(seen.cpus, seen.page_size)
    limits = [] if most is None else [(most, slack)]
    if level is seen.counters and seen.effective is not None and seen.effective.memory_bytes is not None:
        limits.append((seen.effective.memory_bytes, slack + refused_slack(seen.cpus, seen.page_size)))
    over = [limit for limit, allowed in limits if peak is not None and peak > limit + allowed]
    if over and peak is not None:
        most = min(over)
        message = (
            f"{at}/memory.peak is {format_bytes(peak)}, above memory.max {format_bytes(most)}: it was not in force"
        )
        yield _fail(seen, message, _SLIPPED, {f"{at}/memory.peak": peak, f"{at}/memory.max": most})
    most, peak = _limit(seen, f"{at}/pids.max"), value_or(level.pids_peak, None)
    if most is not None and peak is not None and peak > most + _TASKS_MOVED_IN * seen.sharing.get(level.cgroup, 1):
        message = f"{at}/pids.peak is {peak}, above pids.max {most}: the limit was not in force all the time"
        yield _fail(seen, message, _SLIPPED, {f"{at}/pids.peak": peak, f"{at}/pids.max": most})


def _limit(seen: ServiceEvidence, file: str) -> int | None:
    """What the kernel had as this limit, None for no limit or where the plan has none."""
    reading = next((item.actual for item in seen.limits if item.file == file), None)
    number = parsed(reading, parse_limit) if isinstance(reading, Known) else None
    return number.value if isinstance(number, Known) else None


def cpu_slack(watched: Watched, cpus: int) -> float:
    """Microseconds that a cgroup may use above quota times time in any span.

    One period's quota more than there were whole periods, what each CPU keeps or overruns, the time that the machine
    stood still, and one jump between two samples: a virtual CPU that stands still while a task runs on it counts that
    time as used, all at once, and the kernel makes the cgroup pay it back. A lifted quota shows in many samples.
    """
    quota = watched.quota.quota or 0 if watched.quota else 0
    return quota + cpus * (_CPU_USEC + watched.standstill * 1e6) + watched.cpu_jump_usec


def _cpu(seen: ServiceEvidence, watched: Watched) -> Iterator[Finding]:
    slack = cpu_slack(watched, seen.cpus)
    if watched.quota is None or watched.cpu_excess_usec <= slack:
        return
    at = watched.cgroup.lstrip("/")
    message = (
        f"{at}/cpu.stat: {watched.cpu_excess_usec / 1e6:.2f} s of CPU time above its quota of "
        f"{watched.quota.quota} in {watched.quota.period} us: the limit was not in force all the time"
    )
    yield _fail(
        seen, message, _SLIPPED,
        {"CPU time above the quota in us": round(watched.cpu_excess_usec), "tolerance in us": round(slack)},
    )  # fmt: skip
