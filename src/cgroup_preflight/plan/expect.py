"""What each cgroup file must hold once systemd and the kernel have applied a setting.

Sources: systemd `cgroup_apply_*` and `cgroup_cpu_adjust_period` (src/core/cgroup.c), kernel
`page_counter_memparse` (rounds down to whole pages), Documentation/admin-guide/cgroup-v2.rst.
"""

from collections.abc import Iterable

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME, Property
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location

_LONG_MAX = (1 << 63) - 1
_DEFAULT_PERIOD = 100_000
_RESOLUTION = 1_000
_PERIOD_MAX = 1_000_000
#: What is asked for, and what is granted of it: CPUs that a level above does not have are silently not granted.
_CPUS, _CPUS_IN_FORCE = "cpuset.cpus", "cpuset.cpus.effective"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNumbers:
    """The numbers of the host that percentages and rounding refer to; bytes and tasks."""

    page_size: int
    memory_bytes: int
    tasks_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """`attribute` must read `text`; `property` and `location` say where it comes from."""

    attribute: str
    text: str
    property: Property
    location: Location


def expectations(settings: Iterable[Setting], host: HostNumbers) -> tuple[Expectation, ...]:
    """What the kernel's files have to hold, for each setting that it keeps in one."""
    by_name = {item.property: item for item in settings}
    found = []
    for name, setting in by_name.items():
        item = BY_NAME[name]
        if not item.attribute:
            continue
        attribute, text = item.attribute, _text(setting, by_name, host)
        if setting.value == "idle":
            attribute, text = "cpu.idle", "1"
        found.append(Expectation(attribute=attribute, text=text, property=item, location=setting.location))
        if attribute == _CPUS:
            found.append(Expectation(attribute=_CPUS_IN_FORCE, text=text, property=item, location=setting.location))
    return tuple(found)


def _text(setting: Setting, by_name: dict[str, Setting], host: HostNumbers) -> str:
    value = setting.value
    if value is q.INFINITY:
        return "max"
    if setting.property == "CPUQuota" and isinstance(value, q.Permyriad):
        period = by_name.get("CPUQuotaPeriodSec")
        return cpu_max(value, int(period.value) if period and isinstance(period.value, int) else None)
    if isinstance(value, frozenset):
        return q.format_cpus(value)
    if setting.property == "TasksMax":
        return str(value.value * host.tasks_max // 10000 if isinstance(value, q.Permyriad) else value)
    if isinstance(value, q.Size | q.Permyriad):
        return memory_text(value, host)
    return str(value)


def cpu_max(quota: q.Permyriad, period_usec: int | None) -> str:
    """`cpu.max` for a quota, as `QUOTA PERIOD` in microseconds: 0.5% gives `1000 200000`."""
    per_second = quota.value * 100
    period = max(period_usec or _DEFAULT_PERIOD, _RESOLUTION, _RESOLUTION * 1_000_000 // per_second)
    period = min(period, _PERIOD_MAX)
    return f"{max(per_second * period // 1_000_000, _RESOLUTION)} {period}"


def memory_text(value: q.Size | q.Permyriad, host: HostNumbers) -> str:
    """Bytes as the kernel prints them: whole pages, `max` at the top of its counter."""
    pages = (
        value.bytes // host.page_size
        if isinstance(value, q.Size)
        else host.memory_bytes // host.page_size * value.value // 10000
    )
    return "max" if pages >= _LONG_MAX // host.page_size else str(pages * host.page_size)


def agrees(expected: Expectation, actual: str) -> bool:
    """Whether the kernel's text says what was expected."""
    return q.says(expected.attribute, expected.text, actual)
