"""What a plan asks of a host in all: the largest limits and the sum of the guarantees."""

from collections.abc import Iterable
from dataclasses import dataclass

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.quantities import Permyriad, Size
from cgroup_preflight.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The largest single limits (bytes, CPUs, tasks; 0 for none), and the bytes guaranteed to all services.

    Percentages are of the host and so never above it; they do not count here.
    """

    memory_bytes: int
    cpus: float
    tasks: int
    guaranteed_bytes: int


def demand(plan: Plan | None) -> Demand:
    """The demand of `plan`; all zero without one."""
    if plan is None:
        return Demand(memory_bytes=0, cpus=0.0, tasks=0, guaranteed_bytes=0)
    services = [setting for item in plan.services for setting in item.settings]
    # A slice within a slice guarantees out of what the outer one has.
    slices = [setting for item in plan.slices if "-" not in item.label for setting in item.settings]
    quotas = [item.value.value / 10000 for item in services
              if item.property == "CPUQuota" and isinstance(item.value, Permyriad)]  # fmt: skip
    tasks = [item.value for item in services if item.property == "TasksMax" and isinstance(item.value, int)]
    return Demand(
        memory_bytes=max(_bytes(services, "MemoryMax"), default=0),
        cpus=max(quotas, default=0.0),
        tasks=max(tasks, default=0),
        guaranteed_bytes=max(_guaranteed(services), _guaranteed(slices)),
    )


def _guaranteed(settings: list[Setting]) -> int:
    return max(sum(_bytes(settings, "MemoryMin")), sum(_bytes(settings, "MemoryLow")))


def _bytes(settings: Iterable[Setting], name: str) -> list[int]:
    return [item.value.bytes for item in settings if item.property == name and isinstance(item.value, Size)]
