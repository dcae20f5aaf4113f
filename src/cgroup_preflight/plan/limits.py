"""The one chain of limits of a plan: the service, then the slices above it, the outermost last. Pure.

What the kernel holds for a running process has the same form: `smoke.go_view.kernel_chain`.
"""

from collections.abc import Iterable, Sequence

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.core.records import replace
from cgroup_preflight.plan.expect import DEFAULT_PERIOD_USEC, HostNumbers, memory_bytes, quota_usec, tasks
from cgroup_preflight.plan.model import Plan, ServicePlan, SlicePlan


def level_of(name: str, settings: Iterable[Setting], host: HostNumbers | None = None) -> Level:
    """The limits of one unit; a percentage of the host's memory or tasks is a limit only where `host` is given."""
    by_name = {item.property: item for item in settings}
    values = {name: item.value for name, item in by_name.items()}
    quota, cpus = quota_usec(by_name), values.get("AllowedCPUs")
    memory = {name: memory_bytes(values[name], host) for name in _MEMORY if name in values}
    return Level(
        name=name,
        cpus=quota[0] / quota[1] if quota else None,
        period_usec=quota[1] if quota else DEFAULT_PERIOD_USEC,
        has_cpu_max=any(BY_NAME[item].controller == "cpu" for item in by_name),
        memory_max=memory.get("MemoryMax"),
        memory_high=memory.get("MemoryHigh"),
        swap_max=memory.get("MemorySwapMax"),
        tasks_max=tasks(values["TasksMax"], host) if "TasksMax" in values else None,
        allowed_cpus=cpus if isinstance(cpus, frozenset) else None,
        at={name: item.location for name, item in by_name.items()},
    )


_MEMORY = ("MemoryMax", "MemoryHigh", "MemorySwapMax")


def chain_of(units: Sequence[tuple[str, Iterable[Setting]]], host: HostNumbers | None = None) -> Chain:
    """The chain of (name, settings), the service first and its outermost slice last."""
    return Chain(levels=tuple(level_of(name, settings, host) for name, settings in units))


def chain_above(plan: Plan, unit: ServicePlan | SlicePlan, host: HostNumbers | None = None) -> Chain:
    """The chain of the slices above a unit, the innermost first, by their names in the config."""
    return chain_of([(item.name, item.settings) for item in plan.above(unit)], host)


def service_chain(plan: Plan, service: ServicePlan, host: HostNumbers | None = None) -> Chain:
    """The chain of a service with what its config says, without what was generated; levels know their services."""
    own = level_of(f"{service.label}.service", service.own_settings, host)
    above = (
        replace(level, services=sum(item.unit in other.slices for other in plan.services))
        for item, level in zip(plan.above(service), chain_above(plan, service, host).levels, strict=True)
    )
    return Chain(levels=(own, *above))
