"""What the load probe measured, to findings: whether CPU time was divided as the model says. Pure.

Each slice is judged by itself: what the units in it received of what the slice had, against `plan.shares` for that much.
So an error at one level does not show at the levels below. Weights compare siblings only, and so does this.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from cgroup_preflight.core.codes import CPU_SHARES
from cgroup_preflight.core.quantities import format_cpus
from cgroup_preflight.core.records import dataclass, field, replace
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.shares import DEFAULT_WEIGHT, Node, shares
from cgroup_preflight.smoke.load import LoadPlan

#: The largest error of a share, in percentage points of what the slice had.
POINTS_MAX = 3.0
#: More steal, or more load of others, than these shares of the CPU time of the CPUs in use explain an error.
STEAL_MAX, OTHERS_MAX = 0.01, 0.03
#: A measurement that takes longer than this multiple of its time was itself made to wait: an emulated CPU shows no steal.
LATE_MAX = 1.3
#: A slice with less CPU time than this is too small to divide: the scheduler gives some milliseconds at a time; seconds.
LEAST_SECONDS = 0.4
#: So much of a slice tells whether a half of a measurement shows something else than the whole; seconds.
_LEAST_OF_HALF = 0.2
#: Before a slice had so many seconds, only a smaller error ends a measurement, so that no more wrong shares pass than later.
EARLY_SECONDS, _EARLY_POINTS_MAX = 1.2, 1.3
#: In how many parts a measurement is repeated: an error is real where each part shows it.
PARTS = 4
_QUIET = Remedy(title="run it again on a machine with nothing else to do")
_CONTROLLERS = Remedy(title="check which controllers this host has: cgroup-preflight check --require cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWindow:
    """One window of time: CPU seconds that each unit of the tree used, and those of the CPUs; `seconds` is its length.

    `steal` and `others` are CPU seconds that a hypervisor took, and that processes outside of the run used.
    """

    seconds: float
    used: Mapping[str, float]
    steal: float = 0.0
    others: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadHost:
    """What makes weights count or not: slices without `cpu.weight` in them, and the scheduler that sched_ext has loaded.

    `autogroup`: without a cgroup of the cpu controller, the kernel divides by session. `planned_seconds` is the time that
    the windows were to take together.
    """

    planned_seconds: float

    undivided: tuple[str, ...] = ()
    other_scheduler: str = ""
    autogroup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelShare:
    """The share of one unit of what its slice had, in percent: over all windows, and in each part; `expected` by the model."""

    unit: str
    parent: str
    expected: float
    measured: float
    repeats: tuple[float, ...] = field(default_factory=tuple)

    @property
    def error(self) -> float:
        """In percentage points; above zero for too much."""
        return self.measured - self.expected

    def is_steady(self) -> bool:
        """Whether each part for itself shows the same error."""
        return len(self.repeats) > 1 and all(
            abs(share - self.expected) > POINTS_MAX and (share > self.expected) is (self.error > 0)
            for share in self.repeats
        )


def level_shares(load: LoadPlan, windows: Sequence[LoadWindow], least: float = LEAST_SECONDS) -> tuple[LevelShare, ...]:
    """The shares of all units whose slice had enough CPU time to divide, which is `least` seconds."""
    seconds = sum(window.seconds for window in windows)
    found: list[LevelShare] = []
    for parent in load.parents():
        used = _used(parent, windows)
        total = sum(used.values())
        if total < least:
            continue
        given = shares(replace(parent, most=Fraction(total / seconds).limit_denominator(10**6)))
        whole = sum(given[child.name] for child in parent.children) or Fraction(1)
        parts = [_used(parent, part) for part in _split(windows)]
        for name, amount in used.items():
            repeats = tuple(100 * part[name] / sum(part.values()) for part in parts if sum(part.values()))
            found.append(LevelShare(unit=name, parent=parent.name, expected=float(100 * given[name] / whole),
                                    measured=100 * amount / total, repeats=repeats))  # fmt: skip
    return tuple(found)


def _used(parent: Node, windows: Sequence[LoadWindow]) -> dict[str, float]:
    return {child.name: sum(window.used.get(child.name, 0.0) for window in windows) for child in parent.children}


def _split(windows: Sequence[LoadWindow], count: int = PARTS) -> Iterator[Sequence[LoadWindow]]:
    """Parts of about the same time: windows have several lengths."""
    total, ends = sum(window.seconds for window in windows), list(itertools.accumulate(one.seconds for one in windows))
    parts: list[list[LoadWindow]] = [[] for _ in range(count)]
    for window, end in zip(windows, ends, strict=True):
        parts[min(int(count * (end - window.seconds / 2) / total), count - 1)].append(window)
    return filter(None, parts)


def is_clear(load: LoadPlan, windows: Sequence[LoadWindow], most: float) -> bool:
    """Whether to stop before `most` seconds: every share is as planned, over all windows and in each half of them.

    Of a scheduler the errors of windows are opposite (what comes late now comes early next), so they shrink with time.
    An error is never clear before the end.
    """
    if len(windows) < PARTS or _is_coming(load, windows, most):
        return False
    totals = {parent.name: sum(_used(parent, windows).values()) for parent in load.parents()}
    for level in level_shares(load, windows):
        # Of the slice's own CPU time: to a small slice, the scheduler's errors are as large after more time.
        bar = POINTS_MAX if totals[level.parent] >= EARLY_SECONDS else _EARLY_POINTS_MAX
        if abs(level.error) > bar:
            return False
    found = (level_shares(load, part, _LEAST_OF_HALF) for part in _split(windows, 2))
    return all(abs(level.error) <= POINTS_MAX for levels in found for level in levels)


def _is_coming(load: LoadPlan, windows: Sequence[LoadWindow], most: float) -> bool:
    """Whether a slice has too little CPU time so far, and will have enough in `most` seconds."""
    seconds = sum(window.seconds for window in windows)
    totals = [sum(_used(parent, windows).values()) for parent in load.parents()]
    return any(total < LEAST_SECONDS <= total * most / seconds for total in totals)


def judge_load(
    load: LoadPlan, windows: Sequence[LoadWindow], host: LoadHost, *, required: bool = True
) -> tuple[Finding, ...]:  # fmt: skip
    """One finding about all weights of a plan: of a fail, a warning or unverified it names the worst unit and the cause.

    `required`: the config names cpu in [require], so that weights without effect are a fail.
    """
    levels = level_shares(load, windows)
    if not levels:
        return (untested("the processes of the probe received too little CPU time to divide"),)
    worst = max(levels, key=lambda level: abs(level.error))
    status, text, remedy = _judged(load, levels, worst, windows, host, required=required)
    return (
        CPU_SHARES.finding(
            status, "plan", text, *((remedy,) if remedy else ()), evidence=_evidence(load, levels, windows)
        ),
    )


def _judged(
    load: LoadPlan, levels: Sequence[LevelShare], worst: LevelShare, windows: Sequence[LoadWindow], host: LoadHost,
    *, required: bool,
) -> tuple[Status, str, Remedy | None]:  # fmt: skip
    if abs(worst.error) <= POINTS_MAX:
        # Each service is one process here, so that a division by process can look like one by weight.
        weighted = (one for one in levels if one.parent in host.undivided and load.tree.entries[one.unit].weighted)
        if one := next(weighted, None):
            text = f"CPUWeight of {short(one.unit, load)} has no effect: {_undivided(load, one, host)}"
            return Status.FAIL if required else Status.WARN, text, _CONTROLLERS
        return Status.PASS, _passed(load, levels, worst, windows), None
    said = (f"{short(worst.unit, load)} received {worst.measured:.1f}% of what {short(worst.parent, load)} had, and its weight"
            f" gives it {worst.expected:.1f}%")  # fmt: skip
    if worst.parent in host.undivided:
        status = Status.FAIL if required else Status.WARN
        return status, f"{said}: {_undivided(load, worst, host)}", _CONTROLLERS
    if host.other_scheduler:
        text = f"{said}: the scheduler {host.other_scheduler!r} is loaded (sched_ext), and most of these ignore weights"
        return Status.FAIL, text, Remedy(title="unload it, or use one that respects cpu.weight")
    if _overlaps(load):
        text = f"{said}: CPU lists overlap only in part, and the kernel weighs on each CPU by itself"
        return Status.WARN, text, Remedy(title="give services that compete by weight the same AllowedCPUs")
    doubt = _doubt(load, worst, windows, host)
    if doubt:
        return Status.UNVERIFIED, f"{said}; {doubt}", _QUIET
    return Status.FAIL, f"{said}, on a quiet machine", Remedy(
        title="read cpu.weight of both levels, and look for real-time threads: `diagnose` names them")  # fmt: skip


def _passed(load: LoadPlan, levels: Sequence[LevelShare], worst: LevelShare, windows: Sequence[LoadWindow]) -> str:
    where = f"CPU {format_cpus(load.cpus)}" if len(load.cpus) == 1 else f"CPUs {format_cpus(load.cpus)}"
    text = (f"CPUWeight divides the time of {where} as planned: {len(levels)} shares are at most {abs(worst.error):.1f} "
            "percentage points off")  # fmt: skip
    plain = level_shares(replace(load, tree=replace(load.tree, top=_unweighted(load.tree.top))), windows)
    if all(abs(one.expected - other.expected) <= POINTS_MAX for one, other in zip(levels, plain, strict=True)):
        text += f" (without weights they would be the same within {POINTS_MAX:g} percentage points)"
    return text


def _unweighted(node: Node) -> Node:
    return replace(node, weight=DEFAULT_WEIGHT, children=tuple(map(_unweighted, node.children)))


def _undivided(load: LoadPlan, worst: LevelShare, host: LoadHost) -> str:
    text = f"the cpu controller is not enabled in {short(worst.parent, load)}, so that no weight counts there"
    return f"{text} (the kernel divides by process, or by session with sched_autogroup)" if host.autogroup else text


def _overlaps(load: LoadPlan) -> bool:
    lists = {node.cpus for node in load.tree.top.walk() if not node.children}
    return any(one & other and one != other for one in lists for other in lists)


def _doubt(load: LoadPlan, worst: LevelShare, windows: Sequence[LoadWindow], host: LoadHost) -> str:
    """What was measured that explains the error without blaming the weights; empty on a quiet machine."""
    taken = sum(window.seconds for window in windows)
    seconds = len(load.cpus) * taken or 1.0
    steal, others = (sum(part) / seconds for part in zip(*((one.steal, one.others) for one in windows), strict=True))
    if steal > STEAL_MAX:
        return f"a hypervisor took {steal:.1%} of the CPU time meanwhile (steal)"
    if others > OTHERS_MAX:
        return f"processes outside of the run used {others:.1%} of the CPU time meanwhile"
    if taken > LATE_MAX * host.planned_seconds:
        return f"the machine is too busy to measure: {host.planned_seconds:.1f} s of measurement took {taken:.1f} s"
    if not worst.is_steady():
        shown = ", ".join(f"{share:.1f}%" for share in worst.repeats)
        return f"the repeats differ too much to tell: {shown}"
    return ""


def untested(reason: str) -> Finding:
    """The finding for a probe that could not run."""
    return CPU_SHARES.finding(Status.UNVERIFIED, "plan", f"CPUWeight was not tested under load: {reason}", _QUIET)


def without_effect(reason: str) -> Finding:
    """The finding for a plan in which no weight decides anything on this machine."""
    return CPU_SHARES.finding(Status.SKIP, "plan", f"CPUWeight was not tested under load: {reason}")


def _evidence(
    load: LoadPlan, levels: Sequence[LevelShare], windows: Sequence[LoadWindow]
) -> dict[str, str | int | float | bool | None]:  # fmt: skip
    """For each unit what it received of what its slice had, and what it should have; and the measurement."""
    return {
        **{short(one.unit, load): f"{one.measured:.1f}% of {short(one.parent, load)}, planned {one.expected:.1f}%"
           for one in levels},
        "largest_error_points": round(max(abs(one.error) for one in levels), 3), "windows": len(windows),
        "seconds": round(sum(one.seconds for one in windows), 3),
        "steal_seconds": round(sum(one.steal for one in windows), 3),
        "others_seconds": round(sum(one.others for one in windows), 3), "cpus": format_cpus(load.cpus),
    }  # fmt: skip


def short(unit: str, load: LoadPlan) -> str:
    """The unit by its name in the config."""
    entry = load.tree.entries[unit]
    if entry.service:
        return f"{entry.service}.service"
    return "the run's slice" if unit == load.top else unit.removeprefix(f"{load.top.removesuffix('.slice')}-")
