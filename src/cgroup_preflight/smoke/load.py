"""The load probe of weights: which processes run where, and whether CPU time was divided as the model says. Pure.

A process in the place of each service, with the service's CPU settings, uses all it can, all at the same time. Each
slice is judged by itself: what the units in it received of what the slice had, against `plan.shares` for that much. So an
error at one level does not show at the levels below. Weights compare siblings only, and so does this.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.codes import CPU_SHARES
from cgroup_preflight.core.records import dataclass, field, replace
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.plan.share_tree import ShareTree, share_tree
from cgroup_preflight.plan.shares import Node, shares
from cgroup_preflight.smoke.probe_plan import ProbeUnit

#: The largest error of a share, in points of a percent of what the slice had.
POINTS_MAX = 3.0
#: More steal, or more load of others, than these shares of the machine's CPU time explain an error.
STEAL_MAX, OTHERS_MAX = 0.01, 0.03
#: A slice with less CPU time than this is too small to divide: the scheduler gives some milliseconds at a time; seconds.
LEAST_SECONDS = 0.5
#: The most processes at the same time: each is a Python.
HOGS_MAX = 32
#: Tasks of a payload besides those that use CPU time: itself, and one that starts.
_TASKS = 2
#: The settings of a service that decide about its CPU time, without its number of tasks.
_CARRIED = ("CPUWeight", "CPUQuota", "CPUQuotaPeriodSec", "AllowedCPUs")
_QUIET = Remedy(title="run it again on a machine with nothing else to do")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One payload unit for each service, in order; `unit_of` is the service's unit by that of the payload.

    `tree` has the services, below the slice of the run, which is `top`. Each payload has `workers` processes.
    """

    hogs: tuple[ProbeUnit, ...]
    unit_of: Mapping[str, str]
    top: str
    tree: ShareTree
    workers: int

    def parents(self) -> Iterator[Node]:
        """The slices in which something is divided."""
        return (node for node in self.tree.top.walk() if len(node.children) > 1 and node.name != self.tree.top.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWindow:
    """One window of time: CPU seconds that each unit of the tree used, and those of the machine; `seconds` is its length.

    `steal` and `others` are CPU seconds that a hypervisor took, and that processes outside of the run used.
    """

    seconds: float
    used: Mapping[str, float]
    steal: float = 0.0
    others: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadHost:
    """What makes weights count or not: slices without `cpu.weight` in them, and the scheduler that sched_ext has loaded."""

    cpus: int
    undivided: tuple[str, ...] = ()
    other_scheduler: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelShare:
    """The share of one unit of what its slice had, in percent: over all windows, and in each; `expected` by the model."""

    unit: str
    parent: str
    expected: float
    measured: float
    repeats: tuple[float, ...] = field(default_factory=tuple)

    @property
    def error(self) -> float:
        """In points of a percent; above zero for too much."""
        return self.measured - self.expected

    def is_steady(self) -> bool:
        """Whether each window for itself shows the same error."""
        return all(abs(share - self.expected) > POINTS_MAX and (share > self.expected) is (self.error > 0)
                   for share in self.repeats)  # fmt: skip


def plan_load(scope: str, plan: Plan, cpus: frozenset[int]) -> tuple[LoadPlan | None, str]:
    """The probe for a plan below the slice of a run, or why there is none; both empty where no weight can have an effect."""
    own = [
        *((item.unit, item.settings) for item in plan.slices),
        *((item.unit, item.settings) for item in plan.services),
    ]
    weighted = {unit for unit, settings in own if any(setting.property == "CPUWeight" for setting in settings)}
    stripped = replace(
        plan, services=tuple(replace(item, settings=_carried(item), program=None) for item in plan.services)
    )
    tree = share_tree(stripped, cpus)
    hogs = {f"{scope}-_load-{number}.service": item for number, item in enumerate(plan.services)}
    load = LoadPlan(
        hogs=tuple(_hog(unit, item) for unit, item in hogs.items()), unit_of={unit: item.unit for unit, item in hogs.items()},
        top=plan.slices[0].unit if plan.slices else "", tree=tree, workers=len(cpus),
    )  # fmt: skip
    if not any(weighted.intersection(child.name for child in parent.children) for parent in load.parents()):
        return None, ""
    return (None, reason) if (reason := _reason_against(load, plan)) else (load, "")


def _carried(service: ServicePlan) -> tuple[Setting, ...]:
    return tuple(item for item in service.settings if item.property in _CARRIED)


def _hog(unit: str, service: ServicePlan) -> ProbeUnit:
    return ProbeUnit(unit=unit, in_slice=service.slices[-1], settings=_carried(service), extra=(), probes=())


def _reason_against(load: LoadPlan, plan: Plan) -> str:
    """Why the processes cannot run all at the same time."""
    if len(load.hogs) > HOGS_MAX:
        return f"the plan has {len(load.hogs)} services; at most {HOGS_MAX} are tested at the same time"
    for item in plan.slices:
        inside = sum(item.unit in service.slices for service in plan.services)
        most = dict(load.tree.entries[item.unit].limits).get("TasksMax")
        needed = inside * (load.workers + _TASKS)
        if most is not None and most < needed:
            return f"TasksMax={most} of {item.name} leaves no room for {needed} tasks that use all CPUs"
    return ""


def level_shares(load: LoadPlan, windows: Sequence[LoadWindow]) -> tuple[LevelShare, ...]:
    """The shares of all units whose slice had enough CPU time to divide."""
    used = {name: sum(window.used.get(name, 0.0) for window in windows) for name in load.tree.entries}
    seconds = sum(window.seconds for window in windows)
    found: list[LevelShare] = []
    for parent in load.parents():
        total = sum(used[child.name] for child in parent.children)
        if total < LEAST_SECONDS:
            continue
        expected = shares(replace(parent, most=Fraction(total / seconds).limit_denominator(10**6)))
        whole = sum(expected[child.name] for child in parent.children) or Fraction(1)
        for child in parent.children:
            found.append(
                LevelShare(
                    unit=child.name, parent=parent.name, expected=float(100 * expected[child.name] / whole),
                    measured=100 * used[child.name] / total, repeats=tuple(_repeats(child, parent, windows)),
                )
            )  # fmt: skip
    return tuple(found)


def _repeats(child: Node, parent: Node, windows: Sequence[LoadWindow]) -> Iterator[float]:
    for window in windows:
        total = sum(window.used.get(one.name, 0.0) for one in parent.children)
        if total:
            yield 100 * window.used.get(child.name, 0.0) / total


def judge_load(load: LoadPlan, windows: Sequence[LoadWindow], host: LoadHost) -> tuple[Finding, ...]:
    """One finding about all weights of a plan: a fail or unverified names the worst unit and the cause."""
    levels = level_shares(load, windows)
    if not levels:
        return (untested("the processes of the probe received too little CPU time to divide"),)
    worst = max(levels, key=lambda level: abs(level.error))
    evidence = _evidence(worst, windows, host)
    said = (f"{_short(worst.unit, load)} received {worst.measured:.1f}% of what {_short(worst.parent, load)} had, and its weight"
            f" gives it {worst.expected:.1f}%")  # fmt: skip
    if abs(worst.error) <= POINTS_MAX:
        text = f"CPUWeight divides CPU time as planned: at most {abs(worst.error):.1f} points of a percent off in {len(levels)} shares"
        return (CPU_SHARES.finding(Status.PASS, "plan", text, evidence=evidence),)
    cause = _cause(load, worst, host)
    if cause:
        return (
            CPU_SHARES.finding(Status.FAIL, "plan", f"{said}: {cause[0]}", Remedy(title=cause[1]), evidence=evidence),
        )
    doubt = _doubt(load, worst, windows, host)
    if doubt:
        return (CPU_SHARES.finding(Status.UNVERIFIED, "plan", f"{said}; {doubt}", _QUIET, evidence=evidence),)
    remedy = Remedy(title="read cpu.weight of both levels, and look for real-time threads: `diagnose` names them")
    return (CPU_SHARES.finding(Status.FAIL, "plan", f"{said}, on a quiet machine", remedy, evidence=evidence),)


def untested(reason: str) -> Finding:
    """The finding for a probe that could not run."""
    return CPU_SHARES.finding(Status.UNVERIFIED, "plan", f"CPUWeight was not tested under load: {reason}", _QUIET)


def _cause(load: LoadPlan, worst: LevelShare, host: LoadHost) -> tuple[str, str] | None:
    """Why weights have no effect here whatever the load is, and what would help."""
    if worst.parent in host.undivided:
        where = _short(worst.parent, load)
        return (f"the cpu controller is not enabled in {where}, so that no weight counts there",
                "check which controllers this host has: cgroup-preflight check --require cpu")  # fmt: skip
    if host.other_scheduler:
        return (f"the scheduler {host.other_scheduler!r} is loaded (sched_ext), and most of these ignore weights",
                "unload it, or use one that respects cpu.weight")  # fmt: skip
    return None


def _doubt(load: LoadPlan, worst: LevelShare, windows: Sequence[LoadWindow], host: LoadHost) -> str:
    """What was measured that explains the error without blaming the weights; empty on a quiet machine."""
    seconds = host.cpus * sum(window.seconds for window in windows) or 1.0
    steal, others = (sum(part) / seconds for part in zip(*((one.steal, one.others) for one in windows), strict=True))
    if steal > STEAL_MAX:
        return f"a hypervisor took {steal:.1%} of the CPU time meanwhile (steal)"
    if others > OTHERS_MAX:
        return f"processes outside of the run used {others:.1%} of the CPU time meanwhile"
    lists = {node.cpus for node in load.tree.top.walk() if not node.children}
    if any(one & other and one != other for one in lists for other in lists):
        return "CPU lists overlap only in part, where the kernel weighs on each CPU by itself"
    if len(worst.repeats) < 2 or not worst.is_steady():
        shown = ", ".join(f"{share:.1f}%" for share in worst.repeats)
        return f"the repeats differ too much to tell: {shown}"
    return ""


def _evidence(
    worst: LevelShare, windows: Sequence[LoadWindow], host: LoadHost
) -> dict[str, str | int | float | bool | None]:
    return {
        "unit": worst.unit, "expected_percent": round(worst.expected, 3), "measured_percent": round(worst.measured, 3),
        "error_points": round(worst.error, 3), "windows": len(windows), "seconds": round(sum(one.seconds for one in windows), 3),
        "steal_seconds": round(sum(one.steal for one in windows), 3),
        "others_seconds": round(sum(one.others for one in windows), 3), "cpus": host.cpus,
    }  # fmt: skip


def _short(unit: str, load: LoadPlan) -> str:
    """The unit by its name in the config."""
    entry = load.tree.entries[unit]
    run = load.top.removesuffix(".slice")
    return (
        f"{entry.service}.service"
        if entry.service
        else "run.slice"
        if unit == load.top
        else unit.removeprefix(f"{run}-")
    )
