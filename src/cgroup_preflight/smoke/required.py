"""Which services of the plan have no limit, or not those that [require] names: told by the plan and the CPUs. Pure."""

from collections.abc import Iterable, Iterator

from cgroup_preflight.config.model import Require, Setting
from cgroup_preflight.config.properties import BOUNDS
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import Infinity
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.model import Plan, ServicePlan


def required_findings(plan: Plan, require: Require, online: frozenset[int] = frozenset()) -> tuple[Finding, ...]:
    """Findings about the services that lack a limit; none about the others. `online` are the CPUs, empty if unknown."""
    return tuple(finding for service in plan.services for finding in _lacking(service, plan, require, online))


def _lacking(service: ServicePlan, plan: Plan, require: Require, online: frozenset[int]) -> Iterator[Finding]:
    settings = [
        *service.own_settings,
        *service.unit_settings,
        *(item for level in plan.above(service) for item in level.settings),
    ]
    limited = {item.property for item in settings if not isinstance(item.value, Infinity)}
    every = _every_cpu(settings, online)
    bounds = limited.intersection(BOUNDS) - ({"AllowedCPUs"} if every else set())
    missing = [name for name in require.limits if name not in limited]
    where = f"[services.{service.label}]" + (", or in a slice above it" if len(service.slices) > 1 else "")
    if not bounds:
        but = f": AllowedCPUs={every} leaves out no CPU of this machine" if every else ""
        yield codes.LIMITS_IN_FORCE.finding(
            Status.FAIL, service, f"no limit is set for this service or for a slice above it{but}",
            Remedy(title=f"set MemoryMax, CPUQuota and TasksMax in {where}",
                   why="without a limit, the service can use all memory and CPUs of the host"),
        )  # fmt: skip
    if missing:
        yield codes.LIMITS_IN_FORCE.finding(
            Status.FAIL, service, f"[require] limits names {', '.join(missing)}, which no level sets for this service",
            Remedy(title=f"set {' and '.join(missing)} in {where}"),
        )  # fmt: skip
    elif bounds and "MemoryMax" not in limited:
        yield codes.LIMITS_IN_FORCE.finding(
            Status.WARN, service, "MemoryMax is not set for this service or for a slice above it",
            Remedy(title=f"set MemoryMax in {where}",
                   why="without it, a leak in this service takes memory from all others of the host"),
        )  # fmt: skip


def _every_cpu(settings: Iterable[Setting], online: frozenset[int]) -> str:
    """The text of AllowedCPUs where no level leaves out a CPU that the machine has; else empty."""
    lists = [(item.text, item.value) for item in settings if item.property == "AllowedCPUs"]
    covers = [text for text, value in lists if isinstance(value, frozenset) and online and online <= value]
    return covers[0] if covers and len(covers) == len(lists) else ""
