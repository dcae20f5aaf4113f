"""What became of a neighbour while a MemoryMax was tested, to findings. Pure.

A slice may have less memory than its services together: that is legal, and the plan says so. So it is a warning that its
limit is reached before that of a service, and a fail only where the plan has room for both.
"""

from collections.abc import Iterator

from cgroup_preflight.core.codes import LIMIT_ENFORCED
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.smoke.counters import unit_name
from cgroup_preflight.smoke.neighbour import Beside
from cgroup_preflight.smoke.probe_plan import Probe

#: Memory that a neighbour can lose without harm, in bytes: the kernel counts in batches.
_LOST_SLACK = 1 << 20
_SHARE = Remedy(
    title="raise the MemoryMax of the slice above the sum of its services, or lower theirs",
    why="when the memory of a slice is used up, the kernel kills the largest process in it, whichever service it is of",
)
_PROTECT = Remedy(
    title="set MemoryLow on the neighbour, or raise the limits of the slice",
    why="memory that a slice lacks is taken from all services in it",
)
_PROMISED = Remedy(
    title="read memory.max of the slice while the services run, and find what else writes it or uses it up"
)
_MACHINE = Remedy(title="run the preflight again on a machine with more free memory")


def is_harmed(seen: Beside) -> bool:
    """Whether a neighbour lost memory or a process, or could have, because a limit around both was reached."""
    return bool(seen.first) or seen.killed or (bool(seen.pressed) and seen.lost > _LOST_SLACK)


def beside_words(seen: Beside) -> str:
    """The end of a message about a limit that was tested next to a neighbour; empty where there is a finding of its own."""
    return "" if is_harmed(seen) else f"; {seen.label} next to it kept its {format_bytes(seen.kept)}"


def beside_findings(probe: Probe, seen: Beside) -> Iterator[Finding]:
    """A finding where a neighbour was harmed, or could have been."""
    if not is_harmed(seen):
        return
    status, text, remedy = _harm(probe, seen)
    yield LIMIT_ENFORCED.finding(
        status, probe.label, f"MemoryMax next to {seen.label}: {text}", remedy, location=probe.expectation.location,
        evidence={"neighbour": seen.label, "kept_bytes": seen.kept, "lost_bytes": seen.lost, "killed": seen.killed,
                  "reached_first": seen.first, "limit_bytes": seen.limit},
    )  # fmt: skip


def _harm(probe: Probe, seen: Beside) -> tuple[Status, str, Remedy]:
    if seen.first:
        name = unit_name(seen.first)
        limit = f" ({format_bytes(seen.limit)})" if seen.limit is not None else ""
        hit = f"{seen.label}, which had {format_bytes(seen.kept)}" if seen.killed else "the probe"
        text = (f"the memory of {name}{limit} was used up before MemoryMax={format_bytes(int(probe.limit))} was reached, and the"
                f" kernel killed {hit}")  # fmt: skip
        if seen.promised:
            return Status.FAIL, f"{text}, although the plan gives {name} room for both", _PROMISED
        return Status.WARN, text, _SHARE
    if seen.killed:
        return Status.WARN, "the kernel killed the neighbour for memory, and no limit around both was reached", _MACHINE
    return Status.WARN, (
        f"{seen.label} lost {format_bytes(seen.lost)} of its {format_bytes(seen.kept)} to swap, because of the memory limits of"
        f" {unit_name(seen.pressed)}"
    ), _PROTECT  # fmt: skip
