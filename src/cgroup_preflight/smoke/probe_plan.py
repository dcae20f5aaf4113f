"""Which limits are worth a probe, and whether it can be tried here: pure.

Which units probes share, and which probes push at the same time: pure.

A start of Python is the dearest part of a probe, so there is one unit for all limits of a service that do not get
into each other's way, and for those of the slice it is in.
"""

from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location
from cgroup_preflight.engines import command_lines
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.plan.expect import Expectation, HostNumbers, expectations
from cgroup_preflight.plan.model import Plan

#: What a probe eats beyond the limit, and what the host must have left over while it does; bytes.
OVER = 16 << 20
SPARE = 64 << 20
#: The most threads a probe starts; a limit above it is not tried.
THREADS_MAX = 20_000
KINDS = {
    "CPUQuota": "cpu", "TasksMax": "tasks", "MemoryHigh": "high", "MemoryMax": "max", "MemorySwapMax": "swap",
    "MemoryZSwapMax": "zswap",
}  # fmt: skip
#: What a probe of a swap limit may hold in memory itself; bytes. What is beyond has to be swapped out.
UNSWAPPED = 32 << 20
#: What of a unit's settings its probe carries: the limit itself, and what its value depends on.
_CARRIED = {
    "cpu": ("CPUQuota", "CPUQuotaPeriodSec"),
    "tasks": ("TasksMax",),
    "high": ("MemoryHigh",),
    "max": ("MemoryMax",),
    "swap": ("MemorySwapMax",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One limit to push against; `target` is the slice or service unit it belongs to, `amount` how hard.

    `in_slice` is where the probe runs, `settings` what it carries itself (empty for a limit of a slice).
    """

    kind: str
    label: str
    target: str
    is_slice: bool
    in_slice: str
    settings: tuple[Setting, ...]
    expectation: Expectation
    limit: float
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Untried:
    """A limit that cannot be tried on this machine, and why; `void`: because there is nothing that it could limit."""

    label: str
    kind: str
    reason: str
    remedy: str
    location: Location
    void: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the machine has: CPUs, and bytes of memory and of swap that are free to use."""

    cpus: int
    available_bytes: int
    swap_bytes: int = 0


def plan_probes(plan: Plan, numbers: HostNumbers, capacity: Capacity) -> tuple[tuple[Probe, ...], tuple[Untried, ...]]:
    """Probes for each distinct limit of the plan: services first, then slices."""
    probes: list[Probe] = []
    untried: list[Untried] = []
    seen: set[tuple[str, ...]] = set()
    above = {item.unit: item.settings for item in plan.slices}
    root = plan.slices[0].unit if plan.slices else ""
    for service in plan.services:
        in_slice = service.slices[-1] if service.slices else root
        _add(service.label, service.unit, False, in_slice, service.own_settings, _chain(service.slices, above, numbers),
             numbers, capacity, seen, probes, untried)  # fmt: skip
    for item in plan.slices:
        parents = [
            name for name in above if item.unit != name and item.unit.startswith(name.removesuffix(".slice") + "-")
        ]
        _add(f"{item.label}.slice", item.unit, True, item.unit, item.settings,
             _chain(tuple(parents), above, numbers), numbers, capacity, seen, probes, untried)  # fmt: skip
    return tuple(probes), tuple(untried)


def _chain(units: tuple[str, ...], above: Mapping[str, tuple[Setting, ...]], numbers: HostNumbers) -> dict[str, float]:
    """The tightest limit of each kind that the slices above set."""
    found: dict[str, float] = {}
    for unit in units:
        for expected in expectations(above.get(unit, ()), numbers):
            kind, limit = _kind_and_limit(expected)
            if kind and limit is not None:
                found[kind] = min(limit, found.get(kind, limit))
    return found


def _kind_and_limit(expected: Expectation) -> tuple[str | None, float | None]:
    """None for what is no limit that can be pushed against; a limit of None is none. Other files hold other texts."""
    kind, words = KINDS.get(expected.property.name), expected.text.split()
    if kind is None or words[0] == "max":
        return kind, None
    return kind, int(words[0]) / int(words[1]) if len(words) == 2 else float(words[0])


def _add(
    label: str, target: str, is_slice: bool, in_slice: str,  # noqa: FBT001 - one caller, all by name would not fit
    settings: tuple[Setting, ...], above: Mapping[str, float],
    numbers: HostNumbers, capacity: Capacity, seen: set[tuple[str, ...]], probes: list[Probe], untried: list[Untried],
) -> None:  # fmt: skip
    for expected in expectations(settings, numbers):
        kind, limit = _kind_and_limit(expected)
        if kind is None or limit is None:
            continue
        key = (kind, expected.text, in_slice, target if is_slice else "")
        if key in seen:
            continue
        seen.add(key)
        reason = _against(kind, limit, above, capacity)
        if reason:
            untried.append(
                Untried(label=label, kind=kind, reason=reason[0], remedy=reason[1], location=expected.location,
                        void="swap" in kind and capacity.swap_bytes == 0)
            )  # fmt: skip
            continue
        carried = () if is_slice else tuple(item for item in settings if item.property in _CARRIED[kind])
        probes.append(
            Probe(kind=kind, label=label, target=target, is_slice=is_slice, in_slice=in_slice, settings=carried,
                  expectation=expected, limit=limit, amount=_amount(kind, limit, capacity))
        )  # fmt: skip


def _amount(kind: str, limit: float, capacity: Capacity) -> int:
    if kind == "cpu":
        return min(int(limit) + 1, capacity.cpus)
    if kind == "swap":
        return UNSWAPPED + int(limit) + OVER
    return int(limit) + (64 if kind == "tasks" else OVER)


def _against(kind: str, limit: float, above: Mapping[str, float], capacity: Capacity) -> tuple[str, str] | None:
    """Why a limit cannot be reached here, and what would help; None when it can."""
    if kind == "cpu" and limit >= capacity.cpus:
        return (f"a quota of {limit:g} CPUs cannot be used up on {capacity.cpus} CPU(s)",
                "run the preflight on a machine with more CPUs than the quota")  # fmt: skip
    if kind in ("swap", "zswap"):
        return _against_swap(kind, limit, above, capacity)
    if kind in ("max", "high") and limit + OVER + SPARE > capacity.available_bytes:
        return (f"only {capacity.available_bytes >> 20}M of memory are available, the limit is {int(limit) >> 20}M",
                "run the preflight on a machine with more free memory than the limit")  # fmt: skip
    if kind == "tasks" and limit > THREADS_MAX:
        return f"{limit:g} tasks are more than a probe starts ({THREADS_MAX})", "set a limit nearer to the need"
    return _against_above(limit, above.get("max" if kind == "high" else kind))


def _against_swap(kind: str, limit: float, above: Mapping[str, float], capacity: Capacity) -> tuple[str, str] | None:
    if capacity.swap_bytes == 0:
        return "there is no swap here, so there is nothing to limit", "nothing to do here"
    if kind == "zswap":
        return "what goes to zswap is the kernel's choice, and cannot be forced", "remove it, or allow unverified"
    if limit + OVER > capacity.swap_bytes:
        return (f"only {capacity.swap_bytes >> 20}M of swap are free, the limit is {int(limit) >> 20}M",
                "run the preflight on a machine with more free swap than the limit")  # fmt: skip
    return _against_above(limit, above.get(kind))


def _against_above(limit: float, tighter: float | None) -> tuple[str, str] | None:
    if tighter is not None and tighter < limit:
        return (
            f"a slice above has a tighter limit ({tighter:g}), so this one can never act",
            "lower it below its slices'",
        )
    return None


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


def probe_launch(
    item: ProbeUnit, *, command: tuple[str, ...], user: tuple[int, int] | None, ask: str, output: str, longest: float
) -> Launch:
    """The unit: reads from the file `ask`, appends to `output`, ends by itself after `longest` seconds."""
    return Launch(
        unit=item.unit, slice=item.in_slice, description="cgroup-preflight", command=command,
        # The killed child is what the probe wants; its parent stays until the counters are read.
        settings=(*command_lines.setting_pairs(item.settings), *item.extra, ("OOMPolicy", "continue")),
        uid=user[0] if user else None, gid=user[1] if user else None, runtime_max=longest, stop_timeout=5.0,
        hold_before=0.0, hold_after=0.0, input=ask, output=output,
    )  # fmt: skip
