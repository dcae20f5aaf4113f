"""Which payload has memory of its own while the MemoryMax of another service is tested, and what becomes of it.

A service that reaches its MemoryMax must not harm its neighbour. So a payload of another service in the same slice, which
waits for its turn, keeps as much memory as that service had at its peak. What the kernel takes from it is measured.
"""

from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.core.reading import parsed, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.cgroupfs import parse_flat_keyed, parse_limit
from cgroup_preflight.smoke.probe_plan import OVER, Probe, ProbeUnit

#: How much memory a neighbour keeps where its peak is unknown, and at least and at most; bytes.
KEPT_UNKNOWN, KEPT_LEAST, KEPT_MOST = 8 << 20, 1 << 20, 32 << 20
#: What its own memory limit leaves for the payload itself, in bytes.
_OF_PAYLOAD = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """The payload next to a probe: the unit, the service it is for, and the bytes that it keeps."""

    unit: ProbeUnit
    label: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Counts of one cgroup above a probe (memory.events.local), and its memory.max in bytes; None for none."""

    cgroup: str
    oom: int
    pressed: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a neighbour has: bytes of memory that only swap can take, kills for memory, and of these how often its own limit was why."""

    bytes: int
    kills: int
    own: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What became of a neighbour while a MemoryMax was tested: it kept `kept` bytes before, and lost `lost` of them.

    `killed` is whether the kernel killed it for memory. `first` is the cgroup whose limit was reached before that of the
    probe, `limit` its memory.max, and `pressed` a cgroup whose limits made the kernel take memory back; empty for none.
    `promised`: the plan has room for both there.
    """

    label: str
    kept: int
    lost: int = 0
    killed: bool = False
    first: str = ""
    limit: int | None = None
    pressed: str = ""
    promised: bool = False


def neighbour_of(
    unit: ProbeUnit, probe: Probe, units: Iterable[ProbeUnit], probes: Sequence[Probe], peaks: Mapping[str, int]
) -> Neighbour | None:  # fmt: skip
    """A unit of another service in the slice of `probe`; None where there is none, or where it is no MemoryMax of a service.

    `peaks` are bytes by unit of a service.
    """
    if probe.kind != "max" or probe.is_slice:
        return None
    for other in units:
        owned = [probes[number] for number in other.probes if not probes[number].is_slice]
        if (
            other is unit
            or other.in_slice != unit.in_slice
            or not owned
            or any(item.target == probe.target or item.kind == "swap" for item in owned)
        ):
            continue
        limits = [
            max(int(item.limit) // 2, int(item.limit) - _OF_PAYLOAD) for item in owned if item.kind in ("max", "high")
        ]
        peak = max(peaks.get(owned[0].target) or KEPT_UNKNOWN, KEPT_LEAST)
        return Neighbour(unit=other, label=owned[0].label, amount=min(peak, KEPT_MOST, *limits))
    return None


def levels_above(observer: Observer, cgroup: str) -> tuple[Level, ...]:
    """The cgroups above this one, the nearest first, without the root."""
    found = []
    while cgroup := cgroup.rpartition("/")[0]:
        counts = _keyed(observer, cgroup, "memory.events.local")
        found.append(
            Level(cgroup=cgroup, oom=counts.get("oom", 0), pressed=counts.get("max", 0) + counts.get("high", 0),
                  limit=value_or(parsed(observer.read(cgroup, "memory.max"), parse_limit), None))
        )  # fmt: skip
    return tuple(found)


def state_of(observer: Observer, cgroup: str) -> State:
    """The neighbour now."""
    return State(
        bytes=sum(_keyed(observer, cgroup, "memory.stat").get(name, 0) for name in ("anon", "shmem")),
        kills=_keyed(observer, cgroup, "memory.events").get("oom_kill", 0),
        own=_keyed(observer, cgroup, "memory.events.local").get("oom", 0),
    )


def _keyed(observer: Observer, cgroup: str, attribute: str) -> Mapping[str, int]:
    return value_or(parsed(observer.read(cgroup, attribute), parse_flat_keyed), {})


def reached_first(before: Sequence[Level], after: Sequence[Level]) -> Level | None:
    """The nearest level above that had no memory left meanwhile."""
    return next((late for early, late in zip(before, after, strict=True) if late.oom > early.oom), None)


def beside(
    neighbour: Neighbour, states: tuple[State, State], before: Sequence[Level], after: Sequence[Level], probe: Probe,
    roof: Mapping[str, int],
) -> Beside | None:  # fmt: skip
    """What two looks at a neighbour and at the levels above show; None where its own limit was why it lost something.

    `roof` are the bytes that the plan gives to slices, by cgroup.
    """
    early, late = states
    if late.own > early.own:
        return None
    first = reached_first(before, after)
    pressed = next((b.cgroup for a, b in zip(before, after, strict=True) if b.pressed > a.pressed), "")
    room = roof.get(first.cgroup, 0) if first else 0
    return Beside(
        label=neighbour.label, kept=neighbour.amount, lost=max(early.bytes - late.bytes, 0), killed=late.kills > early.kills,
        first=first.cgroup if first else "", limit=first.limit if first else None, pressed=pressed,
        promised=room >= probe.limit + neighbour.amount + OVER,
    )  # fmt: skip
