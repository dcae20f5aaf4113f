"""Which units probes share, and which probes push at the same time: pure.

A start of Python is the dearest part of a probe, so there is one unit for all limits of a service that do not get
into each other's way, and for those of the slice it is in.
"""

from collections.abc import Iterable, Sequence

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.engines import command_lines
from cgroup_preflight.plan.unit_text import plain, service_text
from cgroup_preflight.smoke.probe_plan import UNSWAPPED, Capacity, Probe

#: The order within a unit.
_ORDER = ("cpu", "tasks", "high", "max", "swap")
#: Under a quota below this, or with this many bytes for each CPU of it, the other probes of a unit would take too long.
_QUOTA_LEAST = 0.2
_BYTES_MOST = 1 << 30
#: How much of the CPUs quotas may use together that are tried at the same time, and how much of the free memory its limits.
_AT_ONCE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeUnit:
    """One unit; `probes` are numbers of the plan's probes in their order, `settings` what it carries itself."""

    unit: str
    in_slice: str
    settings: tuple[Setting, ...]
    extra: tuple[tuple[str, str], ...]
    probes: tuple[int, ...]


def probe_units(scope: str, probes: Sequence[Probe]) -> tuple[ProbeUnit, ...]:
    """The units for all of `probes`, each of which is in one of them."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, probe in enumerate(probes):
        groups.setdefault(_group(probe, probes), []).append(number)
    return tuple(
        _unit(
            # The underscore: no service of a config can have the name.
            f"{scope}-_probe-{count}.service",
            sorted(numbers, key=lambda number: _ORDER.index(probes[number].kind)),
            probes,
        )
        for count, numbers in enumerate(groups.values())
    )


def _group(probe: Probe, probes: Sequence[Probe]) -> tuple[str, ...]:
    """What probes of the same unit have in common."""
    if probe.kind == "swap":
        # Has a memory limit of its own, which nothing else may have.
        return (probe.target, "swap")
    if probe.is_slice:
        inside = (_group(item, probes) for item in probes if item.in_slice == probe.target and not item.is_slice)
        return next((group for group in inside if len(group) == 1), (probe.target,))
    mates = {item.kind: item for item in probes if item.target == probe.target}
    if probe.kind == "high":
        # Beyond memory.high the kernel only slows down, and memory.max would never be reached.
        return (probe.target, "high")
    if probe.kind == "cpu":
        most = mates["max"].amount if "max" in mates else 0
        slow = probe.limit < _QUOTA_LEAST or most / probe.limit > _BYTES_MOST
        return (probe.target, "cpu") if slow else (probe.target,)
    return (probe.target,)


def _unit(unit: str, numbers: Sequence[int], probes: Sequence[Probe]) -> ProbeUnit:
    mine = [probes[number] for number in numbers]
    kinds = {item.kind for item in mine}
    # Nothing else may get in the way: swap, or the manager's own DefaultTasksMax in front of a slice's limit.
    swap = (("MemorySwapMax", "0"),) if kinds & {"max", "high"} else ()
    memory = (("MemoryMax", str(UNSWAPPED)),) if "swap" in kinds else ()
    carried = {setting.property: setting for item in mine for setting in item.settings}
    tasks = (("TasksMax", "infinity"),) if "tasks" in kinds and "TasksMax" not in carried else ()
    return ProbeUnit(
        unit=unit,
        in_slice=mine[0].in_slice,
        settings=tuple(carried.values()),
        extra=memory + swap + tasks,
        probes=tuple(numbers),
    )


def lanes(scope: str, units: Iterable[ProbeUnit]) -> tuple[tuple[int, ...], ...]:
    """Probes by the top slice below which they are: what shares one never pushes at the same time."""
    tops: dict[str, list[int]] = {}
    for unit in units:
        top = unit.in_slice.removeprefix(scope).removesuffix(".slice").lstrip("-").split("-")[0]
        tops.setdefault(top, []).extend(unit.probes)
    return tuple(map(tuple, tops.values()))


def has_room(probe: Probe, running: Sequence[Probe], capacity: Capacity) -> bool:
    """Whether a probe can push while others do.

    Quotas leave the CPU idle between periods: as many are tried at once as leave each one what it may use, and
    something over. Other limits keep a CPU busy each, and those of memory hold that much of it; all tasks together have
    a limit of the kernel's, so they are pushed against one by one.
    """
    quotas = [item for item in running if item.kind == "cpu"]
    others = [item for item in running if item.kind != "cpu"]
    if probe.kind == "cpu":
        return not quotas or sum(item.limit for item in (probe, *quotas)) <= capacity.cpus * _AT_ONCE
    if probe.kind == "tasks" and any(item.kind == "tasks" for item in others):
        return False
    held = sum(item.amount for item in (probe, *others) if item.kind != "tasks")
    return not others or (len(others) < capacity.cpus and held <= capacity.available_bytes * _AT_ONCE)


def probe_text(
    item: ProbeUnit, *, command: Sequence[str], user: tuple[int, int] | None, ask: str, output: str, longest: float
) -> str:
    """The unit file: reads from `ask`, appends to `output`, ends by itself after `longest` seconds."""
    lines = (
        *(f"{name}={text}" for name, text in (*command_lines.setting_pairs(item.settings), *item.extra)),
        # The killed child is what is wanted; its parent stays until the counters are read.
        "OOMPolicy=continue", "WorkingDirectory=/", f"StandardInput=file:{plain(ask)}",
        f"RuntimeMaxSec={longest:g}s", "TimeoutStopSec=5s",
    )  # fmt: skip
    return service_text(slice_unit=item.in_slice, command=command, output=output, user=user, lines=lines)
