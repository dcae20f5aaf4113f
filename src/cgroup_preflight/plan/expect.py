"""What each cgroup file must say once systemd and the kernel have applied a setting, as a number and as text.

Sources: systemd `cgroup_apply_*` and `cgroup_cpu_adjust_period` (src/core/cgroup.c), kernel
`page_counter_memparse` (rounds down to whole pages), Documentation/admin-guide/cgroup-v2.rst.
"""

from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.config.model import Setting
from cgroup_preflight.config.properties import BY_NAME, Property, Value
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.records import dataclass, field, replace
from cgroup_preflight.core.report import Location
from cgroup_preflight.core.unit_values import device_limit

_LONG_MAX = (1 << 63) - 1
#: The period of `cpu.max` where CPUQuotaPeriodSec is not set.
DEFAULT_PERIOD_USEC = 100_000
_RESOLUTION = 1_000
_PERIOD_MAX = 1_000_000
#: The kernel silently leaves out CPUs and nodes that a level above does not have; NAME.effective has what it grants.
_CPUSETS = ("cpuset.cpus", "cpuset.mems")
#: The words of io.max.
_DEVICE_WORDS = {
    "IOReadBandwidthMax": "rbps", "IOWriteBandwidthMax": "wbps", "IOReadIOPSMax": "riops", "IOWriteIOPSMax": "wiops",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNumbers:
    """The numbers of the host that percentages and rounding refer to: bytes of a page and of memory, tasks.

    `devices` are the numbers (MAJOR:MINOR) of the block devices that settings name, by their paths there.
    """

    page_size: int
    memory_bytes: int
    tasks_max: int
    devices: Mapping[str, str] = field(default_factory=dict)


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
    found: list[Expectation] = []
    for name, setting in by_name.items():
        item = BY_NAME[name]
        if not item.attribute:
            continue
        if isinstance(setting.value, tuple):
            found += _of_devices(setting, setting.value, host)
            continue
        attribute, text, number, period = item.attribute, *_value(setting, by_name, host)
        if setting.value == "idle":  # the one word that CPUWeight knows
            attribute, text, number = "cpu.idle", "1", 1
        expected = Expectation(
            attribute=attribute, text=text, number=number, period_usec=period, property=item, location=setting.location
        )
        found.append(expected)
        if attribute in _CPUSETS:
            found.append(replace(expected, attribute=f"{attribute}.effective"))
    return tuple(found)


def _of_devices(setting: Setting, lines: Iterable[str], host: HostNumbers) -> Iterator[Expectation]:
    """A word of io.max for each device. One that this host lacks keeps its path, which no line of the file begins with."""
    for line in lines:
        limit = device_limit(line)
        amount = "max" if limit.amount is None else str(limit.amount)
        device = host.devices.get(limit.device, limit.device)
        yield Expectation(
            attribute="io.max", text=f"{device} {_DEVICE_WORDS[setting.property]}={amount}", number=limit.amount,
            property=BY_NAME[setting.property], location=setting.location,
        )  # fmt: skip


def _value(setting: Setting, by_name: Mapping[str, Setting], host: HostNumbers) -> tuple[str, float | None, int]:
    """Text, number and period of one setting."""
    value = setting.value
    if isinstance(value, frozenset):
        return q.format_cpus(value), None, 0
    if setting.property == "OOMPolicy":
        # systemd, service.c: the kernel kills the whole group where that is the policy.
        return ("1" if value == "kill" else "0"), None, 0
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
