"""The load probe of weights: which processes run where, and which shares the model expects. Pure.

Processes in the places of services, with the services' weights and CPU lists, use all they can, all at the same time. They are
bound to as few CPUs as the plan allows, which is one without AllowedCPUs: weights decide where CPU time is short, and
the kernel weighs on each CPU by itself. Between CPUs it balances only approximately: in a guest with four CPUs (Linux
6.12), processes that chose their CPUs freely received shares up to 11 percentage points off.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.plan.share_tree import ShareTree, share_tree
from cgroup_preflight.plan.shares import Node, shares
from cgroup_preflight.smoke.probe_plan import ProbeUnit

#: The most processes at the same time.
HOGS_MAX = 32
#: Services in one slice with the same weight and CPU list are one case, of which two show whether they receive the same.
_OF_A_CASE = 2
#: The settings that decide who receives which part of the time of a CPU.
_CARRIED = ("CPUWeight", "AllowedCPUs")
#: Limits of the run's slices that are no limits while the probe runs: each is tested by itself. Under a quota that a unit
#: almost reaches, it loses time in each period in which its turns come late, and the model does not know that.
LIFTED = ("cpu.max", "pids.max", "memory.max", "memory.high")
_NO_EFFECT = "its CPU lists decide, and not the weights: no two units with weights compete for one CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One payload unit for each service that takes part; `unit_of` is the service's unit by that of the payload.

    `tree` has these services, below the slice of the run, which is `top`. `cpus` are those that all processes are bound
    to, and `masks` those of each payload, a bit for each CPU. `lifted` are attribute files of slices.
    """

    hogs: tuple[ProbeUnit, ...]
    unit_of: Mapping[str, str]
    masks: Mapping[str, int]
    top: str
    tree: ShareTree
    cpus: frozenset[int]
    lifted: tuple[str, ...] = LIFTED

    def parents(self) -> Iterator[Node]:
        """The slices in which something is divided."""
        return _parents(self.tree)


def _parents(tree: ShareTree) -> Iterator[Node]:
    return (node for node in tree.top.walk() if len(node.children) > 1 and node is not tree.top)


def plan_load(
    scope: str, plan: Plan, cpus: frozenset[int], online: frozenset[int] = frozenset()
) -> tuple[LoadPlan | None, str]:  # fmt: skip
    """The probe for a plan below the slice of a run, or why there is none; both empty where no weight has a sibling.

    `cpus` are those that this process may use, and `online` all of the machine, which decide whether a CPU list is in
    force: a service whose list has none of `cpus` runs on its list all the same.
    """
    weighted, machine = _weighted(plan), cpus | online
    if not weighted or not any(
        weighted.intersection(child.name for child in parent.children) for parent in _parents(_tree(plan, machine))
    ):
        return None, ""
    chosen = _chosen(plan.services)
    tree = _tree(replace(plan, services=chosen), machine)
    tree = replace(tree, top=_preferred(tree.top, cpus))
    leaves = {node.name: node.cpus for node in tree.top.walk() if not node.children}
    used = few_cpus([leaves[item.unit] for item in chosen])
    tree = replace(tree, top=_confined(tree.top, used), cpus=used)
    if not _decide(tree, weighted):
        return None, _NO_EFFECT
    hogs = {f"{scope}-_load-{number}.service": item for number, item in enumerate(chosen)}
    return LoadPlan(
        hogs=tuple(_hog(unit, item) for unit, item in hogs.items()), unit_of={unit: item.unit for unit, item in hogs.items()},
        masks={unit: sum(1 << cpu for cpu in leaves[item.unit] & used) for unit, item in hogs.items()},
        top=plan.slices[0].unit if plan.slices else "", tree=tree, cpus=used,
    ), ""  # fmt: skip


def _weighted(plan: Plan) -> frozenset[str]:
    units = [
        *((item.unit, item.settings) for item in plan.slices),
        *((item.unit, item.settings) for item in plan.services),
    ]
    return frozenset(unit for unit, settings in units if any(item.property == "CPUWeight" for item in settings))


def _tree(plan: Plan, cpus: frozenset[int]) -> ShareTree:
    """The tree of the processes of the probe: that of the plan without programs, quotas and limits of tasks."""
    stripped = replace(
        plan, slices=tuple(replace(item, settings=_carried(item.settings)) for item in plan.slices),
        services=tuple(replace(item, settings=_carried(item.settings), program=None) for item in plan.services),
    )  # fmt: skip
    return share_tree(stripped, cpus)


def _carried(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    return tuple(item for item in settings if item.property in _CARRIED)


def _chosen(services: Iterable[ServicePlan]) -> tuple[ServicePlan, ...]:
    """Some services of each case, as many cases as possible, in the order of the plan."""
    cases: defaultdict[tuple[object, ...], list[ServicePlan]] = defaultdict(list)
    for item in services:
        cases[item.slices, *((one.property, one.text) for one in _carried(item.settings))].append(item)
    turns = [item for number in range(_OF_A_CASE) for case in cases.values() for item in case[number : number + 1]]
    names = {item.unit for item in turns[:HOGS_MAX]}
    return tuple(item for item in services if item.unit in names)


def few_cpus(lists: Iterable[frozenset[int]]) -> frozenset[int]:
    """Few CPUs of which each of these lists has one: again and again the one that most of the lists left have.

    Of several the last: most interrupts are on the first.
    """
    left, found = list(lists), set[int]()
    while left:
        best = max(frozenset[int]().union(*left), key=lambda cpu: (sum(cpu in item for item in left), cpu))
        found.add(best)
        left = [item for item in left if best not in item]
    return frozenset(found)


def _confined(node: Node, cpus: frozenset[int]) -> Node:
    return replace(node, cpus=node.cpus & cpus, children=tuple(_confined(child, cpus) for child in node.children))


def _preferred(node: Node, cpus: frozenset[int]) -> Node:
    """Of the CPUs of each node those of `cpus`, unless it has none of them."""
    children = tuple(_preferred(child, cpus) for child in node.children)
    return replace(node, cpus=(node.cpus & cpus) or node.cpus, children=children)


def _decide(tree: ShareTree, weighted: frozenset[str]) -> bool:
    """Whether another weight would change a share, so that shares show the weights."""
    given = shares(tree.top)
    inside = (child.name for parent in _parents(tree) for child in parent.children)
    return any(shares(_heavier(tree.top, name)) != given for name in inside if name in weighted)


def _heavier(node: Node, name: str) -> Node:
    """The tree with twice the weight at one unit."""
    weight: Fraction = node.weight * 2 if node.name == name else node.weight
    return replace(node, weight=weight, children=tuple(_heavier(child, name) for child in node.children))


def _hog(unit: str, service: ServicePlan) -> ProbeUnit:
    place = service.slices[-1] if service.slices else ""
    return ProbeUnit(unit=unit, in_slice=place, settings=_carried(service.settings), extra=(), probes=())
