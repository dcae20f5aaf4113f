"""Which units probes share, and which of them push at the same time: pure.

A start of Python is the dearest part of a probe, so there is one unit for all limits of a service that do not get
into each other's way, and for those of the slice it is in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cgroup_preflight.config.model import Setting
from cgroup_preflight.smoke import argv
from cgroup_preflight.smoke.probe_plan import UNSWAPPED, Probe
from cgroup_preflight.smoke.unit_text import plain, service_text

#: The order within a unit.
_ORDER = ("cpu", "tasks", "high", "max", "swap")
#: Under a quota below this, or with this many bytes for each CPU of it, the other probes of a unit would take too long.
_QUOTA_LEAST = 0.2
_BYTES_MOST = 1 << 30


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


def rounds(scope: str, units: Sequence[ProbeUnit], probes: Sequence[Probe]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """Rounds of lanes of probes: lanes push at the same time, the probes of a lane one after another.

    While the quotas below one top slice are pushed against, which leaves the CPU idle between periods, the other
    limits below the next one are; what shares a slice never pushes at the same time, nor do two quotas.
    """
    tops: dict[str, list[ProbeUnit]] = {}
    for unit in units:
        tops.setdefault(unit.in_slice.removeprefix(scope).removesuffix(".slice").lstrip("-").split("-")[0], []).append(
            unit
        )
    groups = list(tops.values())
    quotas = [_numbers(group, probes, cpu=True) for group in groups]
    others = [_numbers(group, probes, cpu=False) for group in groups]
    if len(groups) == 1:
        return ((quotas[0] + others[0],),)
    return tuple((quotas[at], others[(at + 1) % len(groups)]) for at in range(len(groups)))


def _numbers(units: Iterable[ProbeUnit], probes: Sequence[Probe], *, cpu: bool) -> tuple[int, ...]:
    return tuple(number for unit in units for number in unit.probes if (probes[number].kind == "cpu") is cpu)


def unit_text(
    item: ProbeUnit, *, command: Sequence[str], user: tuple[int, int] | None, ask: str, output: str, longest: float
) -> str:
    """The unit file: reads from `ask`, appends to `output`, ends by itself after `longest` seconds."""
    lines = (
        *(f"{name}={text}" for name, text in (*argv.setting_pairs(item.settings), *item.extra)),
        # The killed child is what is wanted; its parent stays until the counters are read.
        "OOMPolicy=continue", "WorkingDirectory=/", f"StandardInput=file:{plain(ask)}",
        f"StandardOutput=append:{plain(output)}", f"StandardError=append:{plain(output)}",
        f"RuntimeMaxSec={longest:g}s", "TimeoutStopSec=5s", *((f"User={user[0]}", f"Group={user[1]}") if user else ()),
    )  # fmt: skip
    return service_text(slice_unit=item.in_slice, command=command, lines=lines)
