"""What the limits of a cgroup do not apply to although it is in there: real-time threads, and huge pages."""

from collections.abc import Iterable, Iterator

from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import Known, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.procfs import parse_huge_pages, parse_policy
from cgroup_preflight.smoke.evidence import ServiceEvidence, Unlimited

if TYPE_CHECKING:
    from cgroup_preflight.host.fs import MachineFs

#: sched(7): kernel/sched/fair.c gives run time by quota, and threads of these policies do not ask it.
_POLICIES = {1: "SCHED_FIFO", 2: "SCHED_RR", 6: "SCHED_DEADLINE"}
_FAIR = Remedy(
    title="run its threads with the policy SCHED_OTHER, or remove CPUQuota and bound it in another way",
    why="a CPU quota applies to threads of the fair scheduler alone",
    docs="https://docs.kernel.org/scheduler/sched-bwc.html",
)
_SMALL = Remedy(
    title="turn huge pages off in the service, or bound them by the number that the host reserves",
    why="memory.max does not count huge pages of hugetlbfs",
    docs="https://docs.kernel.org/admin-guide/cgroup-v2.html#hugetlb",
)


def unlimited(files: "MachineFs", pids: Iterable[int]) -> Unlimited:
    """What some processes have of it: the first such thread, and the huge pages of the process that has most."""
    thread, huge = "", 0
    pids = sorted(pids)
    files.prefetch([f"/proc/{pid}/status" for pid in pids], names=[f"/proc/{pid}/task" for pid in pids])
    for pid in pids:
        huge = max(huge, value_or(parsed(_text(files, f"/proc/{pid}/status"), parse_huge_pages), 0))
        tasks = value_or(files.names(f"/proc/{pid}/task"), ()) if not thread else ()
        files.prefetch(f"/proc/{pid}/task/{task}/stat" for task in tasks)
        for task in tasks:
            policy = value_or(parsed(_text(files, f"/proc/{pid}/task/{task}/stat"), parse_policy), 0)
            thread = thread or (
                f"thread {task} of process {pid} has {_POLICIES[policy]}" if policy in _POLICIES else ""
            )
    return Unlimited(thread=thread, huge_bytes=huge)


def _text(files: "MachineFs", path: str) -> Known[str]:
    data = files.quick(path)
    return Known(value=data.value.decode("utf-8", "replace") if isinstance(data, Known) else "", source=path)


def unlimited_findings(seen: ServiceEvidence) -> Iterator[Finding]:
    """Fails where a limit is named that did not apply, a warning where it may not."""
    if seen.stay is None:
        return
    found, limited = seen.stay.unlimited, {item.expected.attribute: item for item in seen.limits}
    if found.thread and (quota := limited.get("cpu.max")):
        yield codes.LIMITS_IN_FORCE.finding(
            Status.FAIL, seen.service, f"CPUQuota does not apply to real-time threads: {found.thread}", _FAIR,
            location=quota.expected.location, evidence={"thread": found.thread},
        )  # fmt: skip
    peak = (value_or(seen.counters.memory_peak, 0) or 0) if seen.counters else 0
    # Where the kernel counts them (mount option memory_hugetlb_accounting), the peak is at least as high.
    if found.huge_bytes > peak and (most := limited.get("memory.max")):
        limit = seen.effective.memory_bytes if seen.effective else None
        yield codes.LIMITS_IN_FORCE.finding(
            Status.FAIL if limit is not None and found.huge_bytes > limit else Status.WARN, seen.service,
            f"it has {format_bytes(found.huge_bytes)} of huge pages, which MemoryMax does not count", _SMALL,
            location=most.expected.location, evidence={"HugetlbPages": found.huge_bytes},
        )  # fmt: skip
