"""What a plan needs of a host: its largest limits, and all guarantees together. Pure."""

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.plan.expect import memory_bytes
from cgroup_preflight.plan.limits import level_of
from cgroup_preflight.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The largest single limit of each kind (bytes, CPUs, tasks; 0 for none), and the bytes guaranteed in total.

    `memory_bytes`, `cpus` and `tasks` are those of services, `slice_...` those of slices.

    A percentage of the host's memory or tasks is never above what the host has, so it does not count here.
    """

    memory_bytes: int
    cpus: float
    tasks: int
    guaranteed_bytes: int
    slice_memory_bytes: int = 0
    slice_cpus: float = 0.0
    slice_tasks: int = 0


def demand(plan: Plan | None) -> Demand:
    """The demand of `plan`; all zero without one."""
    if plan is None:
        return Demand(memory_bytes=0, cpus=0.0, tasks=0, guaranteed_bytes=0)
    levels = [level_of(item.unit, item.own_settings) for item in plan.services]
    above = [level_of(item.unit, item.settings) for item in plan.slices]
    services = [setting for item in plan.services for setting in item.own_settings]
    # A slice within a slice guarantees only a part of what the outer one does.
    slices = [setting for item in plan.slices if "-" not in item.label for setting in item.settings]
    return Demand(
        memory_bytes=max((level.memory_max or 0 for level in levels), default=0),
        cpus=max((level.cpus or 0.0 for level in levels), default=0.0),
        tasks=max((level.tasks_max or 0 for level in levels), default=0),
        guaranteed_bytes=max(_guaranteed(services), _guaranteed(slices)),
        slice_memory_bytes=max((level.memory_max or 0 for level in above), default=0),
        slice_cpus=max((level.cpus or 0.0 for level in above), default=0.0),
        slice_tasks=max((level.tasks_max or 0 for level in above), default=0),
    )


def _guaranteed(settings: list[Setting]) -> int:
    """The sum of MemoryMin or of MemoryLow, whichever is larger."""
    sums = dict.fromkeys(("MemoryMin", "MemoryLow"), 0)
    for item in settings:
        if item.property in sums:
            sums[item.property] += memory_bytes(item.value, None) or 0
    return max(sums.values())
