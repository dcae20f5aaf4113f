"""What each cgroup file must say once systemd and the kernel have applied a setting, as a number and as text.

Sources: systemd `cgroup_apply_*` and `cgroup_cpu_adjust_period` (src/core/cgroup.c), kernel
`page_counter_memparse` (rounds down to whole pages), Documentation/admin-guide/cgroup-v2.rst.
"""

from collections.abc import Iterable, Mapping

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME, Property, Value
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Location

_LONG_MAX = (1 << 63) - 1
#: The period of `cpu.max` where CPUQuotaPeriodSec is not set.
DEFAULT_PERIOD_USEC = 100_000
_RESOLUTION = 1_000
_PERIOD_MAX = 1_000_000
#: The request, and what the kernel grants of it: it silently leaves out CPUs that a level above does not have.
_CPUS, _CPUS_IN_FORCE = "cpuset.cpus", "cpuset.cpus.effective"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNumbers:
    """The numbers of the host that percentages and rounding refer to: bytes of a page and of memory, tasks."""

    page_size: int
    memory_bytes: int
    tasks_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """`attribute` must read `text`; `property` and `location` say which setting asks for that.

    `number` is the same limit as a number: bytes, tasks, a weight, or the CPUs of a quota per `period_usec`. It is
    None where the text is `max` or a list of CPUs.
    """

    attribute: str
    text: str
    property: Property
    location: Location
    number: float | None = None
    period_usec: int = 0


def expectations(settings: Iterable[Setting], host: HostNumbers) -> tuple[Expectation, ...]:
    """What the kernel's files must say, for each setting that has a file."""
    by_name = {item.property: item for item in settings}
    found = []
    for name, setting in by_name.items():
        item = BY_NAME[name]
        if not item.attribute:
            continue
        attribute, text, number, period = item.attribute, *_value(setting, by_name, host)
        if setting.value == "idle":
            attribute, text, number = "cpu.idle", "1", 1
        expected = Expectation(
            attribute=attribute, text=text, number=number, period_usec=period, property=item, location=setting.location
        )
        found.append(expected)
        if attribute == _CPUS:
            found.append(replace(expected, attribute=_CPUS_IN_FORCE))
    return tuple(found)


def _value(setting: Setting, by_name: Mapping[str, Setting], host: HostNumbers) -> tuple[str, float | None, int]:
    """Text, number and period of one setting."""
    value = setting.value
    if isinstance(value, frozenset):
        return q.format_cpus(value), None, 0
    if setting.property == "CPUQuota":
        quota = quota_usec(by_name)
        assert quota is not None
        return f"{quota[0]} {quota[1]}", quota[0] / quota[1], quota[1]
    if isinstance(value, int):
        return str(value), value, 0
    number = tasks(value, host) if setting.property == "TasksMax" else memory_bytes(value, host)
    return "max" if number is None else str(number), number, 0


def quota_usec(by_name: Mapping[str, Setting]) -> tuple[int, int] | None:
    """Quota and period of `cpu.max` in microseconds, None without a CPUQuota: 0.5% gives (1000, 200000)."""
    quota, wanted = by_name.get("CPUQuota"), by_name.get("CPUQuotaPeriodSec")
    if quota is None or not isinstance(quota.value, q.Permyriad):
        return None
    period = wanted.value if wanted is not None and isinstance(wanted.value, int) else DEFAULT_PERIOD_USEC
    per_second = quota.value.value * 100
    period = min(max(period, _RESOLUTION, _RESOLUTION * 1_000_000 // per_second), _PERIOD_MAX)
    return max(per_second * period // 1_000_000, _RESOLUTION), period


def memory_bytes(value: Value, host: HostNumbers | None) -> int | None:
    """Bytes as the kernel keeps them, in whole pages; None for no limit, which the top of its counter is too.

    Without a `host` a size stays as it is, and a percentage has no number (None).
    """
    if isinstance(value, q.Permyriad):
        if host is None:
            return None
        pages = host.memory_bytes // host.page_size * value.value // 10000
    elif isinstance(value, q.Size):
        if host is None:
            return value.bytes
        pages = value.bytes // host.page_size
    else:
        return None
    return None if pages >= _LONG_MAX // host.page_size else pages * host.page_size


def tasks(value: Value, host: HostNumbers | None) -> int | None:
    """A number of tasks; None for no limit, and for a percentage without a `host`."""
    if isinstance(value, q.Permyriad):
        return value.value * host.tasks_max // 10000 if host is not None else None
    return value if isinstance(value, int) else None


def agrees(expected: Expectation, actual: str) -> bool:
    """Whether the kernel's text says what was expected."""
    return q.says(expected.attribute, expected.text, actual)
