"""Which limits a probe can test on this machine, which units the probes share, and which run at the same time. Pure.

The start of a unit takes most of the time of a probe. So one unit tests all limits of a service that do not disturb each
other, and those of the slice that it is in.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.core.quantities import Permyriad, format_bytes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.plan.expect import Expectation, HostNumbers, expectations
from cgroup_preflight.plan.limits import chain_above
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.plan.unit_syntax import setting_pairs

#: How much memory a probe uses beyond the limit, and how much the host must still have free then; bytes.
OVER = 16 << 20
SPARE = 64 << 20
#: The most threads that a probe starts; a higher limit is not tested.
THREADS_MAX = 20_000
#: Property to kind of probe.
KINDS = {
    "CPUQuota": "cpu", "TasksMax": "tasks", "MemoryHigh": "high", "MemoryMax": "max", "MemorySwapMax": "swap",
    "MemoryZSwapMax": "zswap",
}  # fmt: skip
#: The memory limit of a probe of swap, in bytes: what it uses beyond that is swapped out.
UNSWAPPED = 32 << 20
#: The settings of a service that its probe has, too: the limit itself, and what its value depends on.
_CARRIED = {
    "cpu": ("CPUQuota", "CPUQuotaPeriodSec"),
    "tasks": ("TasksMax",),
    "high": ("MemoryHigh",),
    "max": ("MemoryMax",),
    "swap": ("MemorySwapMax",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One limit to test; `target` is the unit that has it, `limit` is in bytes, CPUs or tasks.

    `amount` is what the probe tries to use: bytes, or a number of processes or threads. The probe runs in `in_slice`
    and has the `settings` of the service (none where the limit is that of a slice).
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


#: What the kernel gives a process beyond its quota in all: a slice of 5 ms (sched_cfs_bandwidth_slice_us) that is handed out
#: already, and the time until the next tick, which is 10 ms with CONFIG_HZ=100.
_CPU_SLACK_USEC = 15_000


def allowed_usec(probe: Probe, window_usec: float) -> float:
    """The most CPU time in microseconds that a kernel which enforces a quota gives in a window.

    A period that began before the window has its quota, too.
    """
    return probe.limit * (window_usec + probe.expectation.period_usec) + _CPU_SLACK_USEC * probe.amount


#: How many periods of a quota have to be throttled, at least and at most.
PERIODS_LEAST, PERIODS_MOST = 2, 3


def shows_quota(probe: Probe, throttled: int, window_usec: float) -> bool:
    """Whether so many throttled periods in a window are enough: the fewest, or the most where use alone tells nothing.

    Use tells something in a window in which the processes would use more without the quota than is allowed.
    """
    tells = allowed_usec(probe, window_usec) < probe.amount * window_usec
    return throttled >= (PERIODS_LEAST if tells else PERIODS_MOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Untried:
    """A limit that cannot be tested on this machine; `message` says which and why.

    `void`: there is nothing here that it could limit, so that nothing is unverified.
    """

    label: str
    kind: str
    message: str
    remedy: str
    location: Location
    void: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the machine has: CPUs, and the bytes of memory and of swap that are free.

    `may_swap`: it has swap, perhaps none that is free, or that is unknown.
    """

    cpus: int
    available_bytes: int
    swap_bytes: int = 0
    may_swap: bool = False

    @property
    def has_no_swap(self) -> bool:
        """Whether it surely has none."""
        return self.swap_bytes == 0 and not self.may_swap


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A unit with limits: a probe for it runs in `in_slice`; `above` are the limits of the slices above the unit."""

    label: str
    unit: str
    is_slice: bool
    in_slice: str
    settings: tuple[Setting, ...]
    above: Chain


def plan_probes(plan: Plan, numbers: HostNumbers, capacity: Capacity) -> tuple[tuple[Probe, ...], tuple[Untried, ...]]:
    """A probe for each distinct limit of the plan, services first, and the limits that none can test here."""
    probes: list[Probe] = []
    untried: list[Untried] = []
    seen: set[tuple[str, ...]] = set()
    for place in _places(plan, numbers):
        for expected in expectations(place.settings, numbers):
            kind, limit = KINDS.get(expected.property.name), expected.number
            if kind is None or limit is None:
                continue
            # Services in one slice with one limit are one case; each slice is a case of its own.
            case = (kind, expected.text, place.in_slice, place.unit if place.is_slice else "")
            if case in seen:
                continue
            seen.add(case)
            relative = any(
                isinstance(item.value, Permyriad) for item in place.settings if item.property == expected.property.name
            )
            reason = _reason_against(kind, limit, place.above, capacity, relative=relative)
            if reason is None:
                probes.append(_probe(kind, limit, place, expected, capacity))
            else:
                untried.append(
                    _untried(kind, limit, place, expected, reason, void="swap" in kind and capacity.has_no_swap)
                )
    return tuple(probes), tuple(untried)


def _places(plan: Plan, numbers: HostNumbers) -> Iterator[_Place]:
    root = plan.slices[0].unit if plan.slices else ""
    for service in plan.services:
        yield _Place(
            label=service.label, unit=service.unit, is_slice=False, in_slice=service.slices[-1] if service.slices else root,
            settings=service.own_settings, above=chain_above(plan, service, numbers),
        )  # fmt: skip
    for item in plan.slices:
        yield _Place(
            label=item.name, unit=item.unit, is_slice=True, in_slice=item.unit, settings=item.settings,
            above=chain_above(plan, item, numbers),
        )  # fmt: skip


def _probe(kind: str, limit: float, place: _Place, expected: Expectation, capacity: Capacity) -> Probe:
    carried = () if place.is_slice else tuple(item for item in place.settings if item.property in _CARRIED[kind])
    return Probe(
        kind=kind, label=place.label, target=place.unit, is_slice=place.is_slice, in_slice=place.in_slice, settings=carried,
        expectation=expected, limit=limit, amount=_amount(kind, limit, capacity),
    )  # fmt: skip


def _amount(kind: str, limit: float, capacity: Capacity) -> int:
    if kind == "cpu":
        return min(int(limit) + 1, capacity.cpus)
    if kind == "swap":
        return UNSWAPPED + int(limit) + OVER
    return int(limit) + (64 if kind == "tasks" else OVER)


def _untried(
    kind: str, limit: float, place: _Place, expected: Expectation, reason: tuple[str, str], *, void: bool
) -> Untried:  # fmt: skip
    message, remedy = reason
    return Untried(
        label=place.label, kind=kind, message=f"{expected.property.name}={shown(kind, limit)} {message}", remedy=remedy,
        location=expected.location, void=void,
    )  # fmt: skip


def shown(kind: str, limit: float) -> str:
    """A limit as the config spells it: `256M`, `150%`, `64`."""
    if kind == "cpu":
        return f"{limit * 100:g}%"
    return str(int(limit)) if kind == "tasks" else format_bytes(int(limit))


def _reason_against(
    kind: str, limit: float, above: Chain, capacity: Capacity, *, relative: bool
) -> tuple[str, str] | None:  # fmt: skip
    """Why no probe can reach a limit here, and what would help; None when one can.

    A `relative` limit is a percentage of the machine's memory, so a larger machine does not help.
    """
    if kind == "cpu" and limit >= capacity.cpus:
        return (f"was not tested: this machine has {capacity.cpus} CPU(s), too few to use up the quota",
                "run the preflight on a machine with more CPUs than the quota")  # fmt: skip
    if kind in ("swap", "zswap"):
        return _reason_against_swap(kind, limit, above, capacity)
    if kind in ("max", "high") and limit + OVER + SPARE > capacity.available_bytes:
        return (f"was not tested: only {capacity.available_bytes >> 20}M of memory are available",
                "set a size such as 2G, or a smaller percentage: a larger machine has a larger limit" if relative else
                "run the preflight on a machine with more free memory than the limit")  # fmt: skip
    if kind == "tasks" and limit > THREADS_MAX:
        return f"was not tested: a probe starts at most {THREADS_MAX} threads", "set a limit nearer to the need"
    return _reason_above(kind, limit, above)


def _reason_against_swap(kind: str, limit: float, above: Chain, capacity: Capacity) -> tuple[str, str] | None:
    if capacity.has_no_swap:
        return "was not tested: there is no swap on this machine, so there is nothing to limit", "nothing to do here"
    if kind == "zswap":
        return ("was not tested: the kernel decides what goes to zswap, and a probe cannot force it",
                "remove it, or allow unverified")  # fmt: skip
    if limit + OVER > capacity.swap_bytes:
        return (f"was not tested: only {capacity.swap_bytes >> 20}M of swap are free",
                "run the preflight on a machine with more free swap than the limit")  # fmt: skip
    return _reason_above(kind, limit, above)


#: What a slice above limits in the same way; a memory.max above is reached before a looser memory.high.
_ABOVE: Mapping[str, Callable[[Chain], tuple[float | None, Level | None]]] = {
    "cpu": Chain.cpus, "tasks": Chain.tasks, "high": Chain.memory_max, "max": Chain.memory_max, "swap": Chain.swap_max,
}  # fmt: skip


def _reason_above(kind: str, limit: float, above: Chain) -> tuple[str, str] | None:
    tightest, level = _ABOVE[kind](above)
    if tightest is None or level is None or tightest >= limit:
        return None
    return (f"has no effect: {level.name} is limited to {shown(kind, tightest)}",
            f"lower it, or raise the limit of {level.name}")  # fmt: skip


#: The order within a unit.
_ORDER = ("cpu", "tasks", "high", "max", "swap")
#: With a quota below this, or with more bytes than this per CPU of it, the other probes of a unit would take too long.
_QUOTA_LEAST = 0.2
_BYTES_MOST = 1 << 30
#: The share of the CPUs that quotas at the same time may use together, and of the free memory that other probes may.
_CPUS_AT_ONCE, _BYTES_AT_ONCE = 0.9, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeUnit:
    """One unit for some probes, which are indices into the plan's probes; `settings` and `extra` are its own limits."""

    unit: str
    in_slice: str
    settings: tuple[Setting, ...]
    extra: tuple[tuple[str, str], ...]
    probes: tuple[int, ...]


def probe_units(scope: str, probes: Sequence[Probe]) -> tuple[ProbeUnit, ...]:
    """The units for all `probes`; each probe is in exactly one."""
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
    """The key that probes of one unit share."""
    if probe.kind == "swap":
        # Its unit has a memory limit that would disturb all others.
        return (probe.target, "swap")
    if probe.is_slice:
        inside = (_group(item, probes) for item in probes if item.in_slice == probe.target and not item.is_slice)
        return next((group for group in inside if len(group) == 1), (probe.target,))
    mates = {item.kind: item for item in probes if item.target == probe.target}
    if probe.kind == "high":
        # Beyond memory.high the kernel slows the unit down, so that a probe would never reach memory.max.
        return (probe.target, "high")
    if probe.kind == "cpu":
        most = mates["max"].amount if "max" in mates else 0
        slow = probe.limit < _QUOTA_LEAST or most / probe.limit > _BYTES_MOST
        return (probe.target, "cpu") if slow else (probe.target,)
    return (probe.target,)


def _unit(unit: str, numbers: Sequence[int], probes: Sequence[Probe]) -> ProbeUnit:
    mine = [probes[number] for number in numbers]
    kinds = {item.kind for item in mine}
    # Nothing else may act first: swap, or the manager's own DefaultTasksMax before the limit of a slice.
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


def lanes(scope: str, units: Iterable[ProbeUnit], probes: Sequence[Probe]) -> tuple[tuple[int, ...], ...]:
    """Probes by the top slice that they are below: two that share one never run at the same time.

    Quotas come first, the largest before others: their CPU is idle much of the time, so that another one fits in.
    """
    tops: dict[str, list[int]] = {}
    for unit in units:
        tops.setdefault(top_slice(scope, unit.in_slice), []).extend(unit.probes)
    return tuple(tuple(sorted(numbers, key=lambda number: _turn(probes[number]))) for numbers in tops.values())


def _turn(probe: Probe) -> tuple[bool, float]:
    return (False, -probe.limit) if probe.kind == "cpu" else (True, 0.0)


def top_slice(scope: str, in_slice: str) -> str:
    """The slice of a run right below that of the run, in which `in_slice` is, or which it is; else the run's own."""
    name = in_slice.removeprefix(scope).removesuffix(".slice").lstrip("-").split("-")[0]
    return f"{scope}-{name}.slice" if name else f"{scope}.slice"


def has_room(probe: Probe, running: Sequence[Probe], capacity: Capacity) -> bool:
    """Whether a probe can run while others do.

    Under a quota the CPU is idle between periods, so several probes of quotas run at once, as long as all together use
    no more than the CPUs can give. Each other probe keeps one CPU busy, and those of memory use memory up. The kernel
    limits all tasks together, so probes of tasks run one by one.
    """
    quotas = [item for item in running if item.kind == "cpu"]
    others = [item for item in running if item.kind != "cpu"]
    if probe.kind == "cpu":
        return not quotas or sum(item.limit for item in (probe, *quotas)) <= capacity.cpus * _CPUS_AT_ONCE
    if probe.kind == "tasks" and any(item.kind == "tasks" for item in others):
        return False
    used = sum(item.amount for item in (probe, *others) if item.kind != "tasks")
    return not others or (len(others) < capacity.cpus and used <= capacity.available_bytes * _BYTES_AT_ONCE)


def probe_launch(
    item: ProbeUnit, *, command: tuple[str, ...], user: tuple[int, int] | None, ask: str, output: str, longest: float
) -> Launch:
    """The unit: reads from the file `ask`, appends to `output`, ends by itself after `longest` seconds."""
    return Launch(
        unit=item.unit, slice=item.in_slice, description="cgroup-preflight", command=command,
        # The killed child is what the probe wants; its parent stays until the counters are read.
        settings=(*setting_pairs(item.settings), *item.extra, ("OOMPolicy", "continue")),
        uid=user[0] if user else None, gid=user[1] if user else None, runtime_max=longest, stop_timeout=5.0,
        hold_before=0.0, hold_after=0.0, input=ask, output=output,
    )  # fmt: skip
