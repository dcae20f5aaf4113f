"""Which limits are worth a probe, and whether it can be tried here: pure."""

from collections.abc import Mapping

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location
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
