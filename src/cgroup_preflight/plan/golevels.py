"""Settings of units as the numbers that the model of the Go runtime looks at. Pure."""

from collections.abc import Iterable, Sequence

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core import quantities as q
from cgroup_preflight.golang.runtime_limits import Chain, Level
from cgroup_preflight.plan.expect import HostNumbers, cpu_max, memory_text


def level_of(name: str, settings: Iterable[Setting], host: HostNumbers | None = None) -> Level:
    """One unit's limits; a percentage of the host's memory or tasks counts only where `host` is given."""
    by_name = {item.property: item for item in settings}
    cpus = by_name.get("AllowedCPUs")
    quota, period = _quota(by_name)
    return Level(
        name=name,
        cpus=quota,
        period_usec=period,
        has_cpu_max=any(BY_NAME[item].controller == "cpu" for item in by_name),
        memory_max=_bytes(by_name.get("MemoryMax"), host),
        memory_high=_bytes(by_name.get("MemoryHigh"), host),
        swap_max=_bytes(by_name.get("MemorySwapMax"), host),
        tasks_max=_tasks(by_name.get("TasksMax"), host),
        allowed_cpus=cpus.value if cpus is not None and isinstance(cpus.value, frozenset) else None,
        at={item.property: item.location for item in by_name.values()},
    )


def chain_of(units: Sequence[tuple[str, Iterable[Setting]]], host: HostNumbers | None = None) -> Chain:
    """The chain of (name, settings), the service first and its outermost slice last."""
    return Chain(levels=tuple(level_of(name, settings, host) for name, settings in units))


def _quota(by_name: dict[str, Setting]) -> tuple[float | None, int]:
    """Quota in CPUs, and its period in microseconds, as the kernel will hold them (systemd stretches a short one)."""
    setting, period = by_name.get("CPUQuota"), by_name.get("CPUQuotaPeriodSec")
    if setting is None or not isinstance(setting.value, q.Permyriad):
        return None, 100_000
    usec = period.value if period is not None and isinstance(period.value, int) else None
    quota, length = cpu_max(setting.value, usec).split()
    return int(quota) / int(length), int(length)


def _bytes(setting: Setting | None, host: HostNumbers | None) -> int | None:
    value = setting.value if setting is not None else None
    if isinstance(value, q.Size):
        return value.bytes
    if isinstance(value, q.Permyriad) and host is not None:
        text = memory_text(value, host)
        return None if text == "max" else int(text)
    return None


def _tasks(setting: Setting | None, host: HostNumbers | None) -> int | None:
    value = setting.value if setting is not None else None
    if isinstance(value, int):
        return value
    return value.value * host.tasks_max // 10000 if isinstance(value, q.Permyriad) and host is not None else None
