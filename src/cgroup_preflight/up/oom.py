"""At which level a limit of memory was reached: that of a service, or that of a slice, which its neighbours filled, too."""

import re
from collections.abc import Mapping

from cgroup_preflight.core.reading import Known, parsed, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.cgroup import Observer, levels
from cgroup_preflight.host.cgroupfs import parse_flat_keyed, parse_limit

#: The name of a run, before that of each of its units.
_RUN = re.compile(r"cgpf[0-9a-f]{12}-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The limit that was reached, in bytes, and the unit that has it; an empty unit: no limit of any level was."""

    unit: str = ""
    limit: int | None = None


def _oom_counts(observer: Observer, cgroup: str) -> dict[str, int]:
    """How often the limit of each level was reached and nothing could be freed: `oom` of memory.events.local.

    Innermost first; levels without that file (the top of the tree) are left out.
    """
    found = {}
    for level in levels(cgroup):
        events = parsed(observer.read(level, "memory.events.local"), parse_flat_keyed)
        if isinstance(events, Known):
            found[level] = events.value.get("oom", 0)
    return found


def counts_above(observer: Observer, cgroup: str) -> dict[str, int]:
    """The counts of the slices above a service, whose own cgroup is new and may have reached its limit already."""
    return {level: count for level, count in _oom_counts(observer, cgroup).items() if level != cgroup}


def reached(observer: Observer, cgroup: str, before: Mapping[str, int]) -> Reached | None:
    """The level whose limit was reached since `before`; None where the kernel does not tell."""
    counts = _oom_counts(observer, cgroup)
    if not counts:
        return None
    for level, count in counts.items():
        if count > before.get(level, 0):
            limit = value_or(parsed(observer.read(level, "memory.max"), parse_limit), None)
            return Reached(unit=_RUN.sub("", level.rpartition("/")[2]), limit=limit)
    return Reached()
