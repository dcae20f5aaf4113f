"""The properties that a rollout can change, as whole numbers, and their text for systemd and in the kernel's files. Pure.

Numbers are those of systemd's bus: CPUQuota in microseconds per second (10000 is 1%), memory in bytes, the others plain.
None is no setting: no limit, or the default weight. Sources: systemd.resource-control(5); systemd, src/core/dbus-cgroup.c and
src/shared/bus-unit-util.c; Documentation/admin-guide/cgroup-v2.rst.
"""

from collections.abc import Mapping

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.plan.expect import DEFAULT_PERIOD_USEC, HostNumbers, memory_bytes, tasks

#: By property; one unit. And all units of a rollout, by name.
Values = Mapping[str, int | None]
Limits = Mapping[str, Values]

#: What the bus has where nothing is set (UINT64_MAX: CGROUP_LIMIT_MAX, USEC_INFINITY, CGROUP_WEIGHT_INVALID).
UNSET = (1 << 64) - 1
#: systemd writes whole percents into the drop-in, and cuts off the rest (dbus-cgroup.c, `CPUQuota=%0.f%%`).
PERCENT = 10_000
_RESOLUTION = 1_000
_PERIOD_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One property: its name on the bus, its file, and what the kernel's file says where nothing is set."""

    name: str
    bus: str
    attribute: str
    unset: str = "max"

    @property
    def is_memory(self) -> bool:
        """Whether its values are bytes."""
        return self.name.startswith("Memory")

    @property
    def is_weight(self) -> bool:
        """Whether it divides, and limits nothing."""
        return self.name.endswith("Weight")


_ALL = (
    Limit(name="CPUQuota", bus="CPUQuotaPerSecUSec", attribute="cpu.max"),
    Limit(name="CPUWeight", bus="CPUWeight", attribute="cpu.weight", unset="100"),
    Limit(name="IOWeight", bus="IOWeight", attribute="io.weight", unset="100"),
    Limit(name="MemoryMax", bus="MemoryMax", attribute="memory.max"),
    Limit(name="MemoryHigh", bus="MemoryHigh", attribute="memory.high"),
    Limit(name="MemorySwapMax", bus="MemorySwapMax", attribute="memory.swap.max"),
    Limit(name="TasksMax", bus="TasksMax", attribute="pids.max"),
)
LIMITS = {limit.name: limit for limit in _ALL}


def grain(name: str, page: int) -> int:
    """The smallest difference that systemd and the kernel keep: a whole percent, a page of `page` bytes, one."""
    return PERCENT if name == "CPUQuota" else page if LIMITS[name].is_memory else 1


def target_of(setting: Setting, host: HostNumbers) -> int | None:
    """The number of a setting of the config; percentages of this host. Raises ValueError for what has none."""
    name, value = setting.property, setting.value
    if name not in LIMITS or isinstance(value, str | tuple | frozenset):
        raise ValueError(f"a rollout cannot change {name}={setting.text}: it changes {', '.join(LIMITS)}")
    if isinstance(value, q.Infinity):
        return None
    if name == "CPUQuota":
        assert isinstance(value, q.Permyriad)
        if value.value % 100:
            raise ValueError(f"CPUQuota={setting.text}: systemd keeps whole percents of a change on a running unit")
        return value.value * 100
    if LIMITS[name].is_memory:
        return memory_bytes(value, host)
    return tasks(value, host) if name == "TasksMax" else int(value) if isinstance(value, int) else None


def of_bus(text: str) -> int | None:
    """The number that systemd shows of a property (`show`, or its bus). Raises ValueError."""
    if text in ("infinity", "[not set]"):
        return None
    number = int(text)
    return None if number == UNSET else number


def on_bus(value: int | None) -> int:
    """The number for systemd's bus (type `t`)."""
    return UNSET if value is None else value


def assignment(name: str, value: int | None) -> str:
    """The word of `systemctl set-property`, which makes of it exactly what `on_bus` gives.

    For quota and weights an empty value is its only word for "not set" (bus-unit-util.c).
    """
    if value is None:
        return f"{name}=" if name == "CPUQuota" or LIMITS[name].is_weight else f"{name}=infinity"
    return f"{name}={_percent(value)}" if name == "CPUQuota" else f"{name}={value}"


def _percent(value: int) -> str:
    """An old value can have two places after the point, which is what systemd reads (parse_permyriad)."""
    whole, rest = divmod(value, PERCENT)
    return f"{whole}.{rest // 100:02}".rstrip("0").rstrip(".") + "%" if rest // 100 else f"{whole}%"


def kernel_text(name: str, value: int | None, *, page: int, period: int | None = None) -> str:
    """What the kernel's file must say; `period` is CPUQuotaPeriodUSec (None: not set)."""
    if name == "CPUQuota":
        # systemd, src/core/cgroup.c, cgroup_cpu_adjust_period.
        wanted = DEFAULT_PERIOD_USEC if period is None else period
        if value is None:
            return f"max {min(max(wanted, _RESOLUTION), _PERIOD_MAX)}"
        wanted = min(max(wanted, _RESOLUTION, _RESOLUTION * 1_000_000 // value), _PERIOD_MAX)
        return f"{max(value * wanted // 1_000_000, _RESOLUTION)} {wanted}"
    if value is None:
        return LIMITS[name].unset
    return str(value // page * page if LIMITS[name].is_memory else value)


def kernel_says(name: str, expected: str, actual: str) -> bool:
    """Whether the text of the file is what `kernel_text` expects; a quota without limit has any period."""
    words = actual.split()
    if name == "CPUQuota" and expected.startswith("max"):
        return words[:1] == ["max"]
    if name == "IOWeight":
        return words[:2] == ["default", expected] or words == [expected]
    return words == expected.split()


def shown(name: str, value: int | None) -> str:
    """For people: `150%`, `512M`, `no limit`, `default`."""
    if value is None:
        return "default" if LIMITS[name].is_weight else "no limit"
    if name == "CPUQuota":
        return _percent(value)
    return format_bytes(value) if LIMITS[name].is_memory else str(value)


def rises(old: int | None, new: int | None) -> bool:
    """Whether a limit gives more than before; no limit is the most."""
    return new is None if old is not None and new is None else old is not None and new is not None and new > old
