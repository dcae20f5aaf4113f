"""The tree that competes for CPU time: the plan's slices and services, and what else is next to them on a host. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.quantities import format_cpus
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, field, replace
from cgroup_preflight.plan.expect import quota_usec, tasks
from cgroup_preflight.plan.limits import chain_of
from cgroup_preflight.plan.shares import DEFAULT_WEIGHT, IDLE_WEIGHT, Node

if TYPE_CHECKING:
    from cgroup_preflight.plan.model import Plan, ServicePlan, SlicePlan

#: Where the slices at the top are, and where systemd puts services without a slice (systemd.special(7)).
TOP, SYSTEM = "-.slice", "system.slice"
DEMAND = "demand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A unit of the host in the slice `parent`; `weight` is 0 for idle, `quota` in CPUs. It wants all that it may use."""

    unit: str
    parent: str = TOP
    weight: int = 100
    quota: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of one unit of the tree; `service` is its name in the config, empty for all others.

    `limits` are what it may use or wants at most, in CPUs, each with its name. `weighted`: the config sets CPUWeight.
    """

    unit: str
    parent: str
    weight: Fraction = DEFAULT_WEIGHT
    limits: tuple[tuple[str, Fraction], ...] = ()
    allowed: frozenset[int] | None = None
    service: str = ""
    foreign: bool = False
    weighted: bool = False

    @property
    def most(self) -> Fraction | None:
        """The least of its limits."""
        return min((value for _, value in self.limits), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTree:
    """The nodes for `plan.shares`, and the entries by unit, each after the one above it; `cpus` are the machine's."""

    top: Node
    entries: Mapping[str, Entry]
    cpus: frozenset[int]
    notes: tuple[str, ...] = ()
    demands: Mapping[str, Fraction] = field(default_factory=dict)

    def below(self, unit: str) -> tuple[Entry, ...]:
        """The entries in a slice."""
        return tuple(entry for entry in self.entries.values() if entry.parent == unit and entry.unit != unit)


def share_tree(
    plan: "Plan", cpus: frozenset[int], neighbours: Iterable[Neighbour] = (),
    demands: Mapping[str, Fraction] | None = None, known: Iterable[str] = (),
) -> ShareTree:  # fmt: skip
    """The tree of a plan on a machine with these CPUs; `demands` are CPUs by unit, and a unit without one wants all.

    `known` are notes about the neighbours.
    """
    demands = demands or {}
    notes = list(known)
    found = {TOP: Entry(unit=TOP, parent=TOP)}
    others = {item.unit: item for item in neighbours}
    if any(not service.slices for service in plan.services):
        others.setdefault(SYSTEM, Neighbour(unit=SYSTEM))
    for item in plan.slices:
        entry = _entry(item.unit, next((one.unit for one in plan.above(item)), TOP), item.settings, cpus, notes)
        found[item.unit] = entry
    for service in plan.services:
        found[service.unit] = _service(plan, service, cpus, demands, notes)
    for neighbour in others.values():
        if neighbour.unit not in found:
            found[neighbour.unit] = _neighbour(neighbour, demands)
    children: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in found.values():
        if entry.unit != TOP:
            children[entry.parent].append(entry)
    top = _node(found[TOP], children, cpus)
    notes += [*_alone(found, children), *_overlap(top), *_weights(plan)]
    ordered = {node.name: found[node.name] for node in _depth_first(top)}
    return ShareTree(top=top, entries=ordered, cpus=cpus, notes=tuple(notes), demands=demands)


def _entry(
    unit: str, parent: str, settings: Sequence[Setting], cpus: frozenset[int], notes: list[str], service: str = ""
) -> Entry:  # fmt: skip
    by_name = {item.property: item for item in settings}
    limits: list[tuple[str, Fraction]] = []
    quota = quota_usec(by_name)
    if quota is not None:
        limits.append(("CPUQuota", Fraction(*quota)))
    threads = tasks(by_name["TasksMax"].value, None) if "TasksMax" in by_name else None
    if threads is not None:
        limits.append(("TasksMax", Fraction(threads)))
    weight, allowed = by_name.get("CPUWeight"), _allowed(unit, by_name.get("AllowedCPUs"), cpus, notes)
    return Entry(
        unit=unit, parent=parent, limits=tuple(limits), allowed=allowed, service=service, weighted=weight is not None,
        weight=_weight(weight.value) if weight is not None else DEFAULT_WEIGHT,
    )  # fmt: skip


def _weight(value: object) -> Fraction:
    return Fraction(value) if isinstance(value, int) and value else IDLE_WEIGHT


def _allowed(
    unit: str, setting: Setting | None, cpus: frozenset[int], notes: list[str]
) -> frozenset[int] | None:  # fmt: skip
    """The CPU list in force: the kernel refuses one with a CPU that the machine lacks as a whole."""
    if setting is None or not isinstance(setting.value, frozenset):
        return None
    if setting.value <= cpus:
        return setting.value
    lacking = format_cpus(frozenset(setting.value - cpus))
    notes.append(f"AllowedCPUs = {setting.text} of {unit} is not in force here: this machine has no CPU {lacking}")
    return None


def _service(
    plan: "Plan", service: "ServicePlan", cpus: frozenset[int], demands: Mapping[str, Fraction], notes: list[str]
) -> Entry:  # fmt: skip
    parent = service.slices[-1] if service.slices else SYSTEM
    entry = _entry(service.unit, parent, service.settings, cpus, notes, service=service.label)
    procs = _gomaxprocs(service, plan.above(service), cpus)
    more = [("GOMAXPROCS", Fraction(procs))] if procs is not None else []
    return replace(entry, limits=(*entry.limits, *more, *_demand(service.unit, demands)))


def _gomaxprocs(service: "ServicePlan", above: Sequence["SlicePlan"], cpus: frozenset[int]) -> int | None:
    """How many threads of a Go program run at the same time; None for any other program."""
    if service.program is None or service.program.info is None:
        return None
    from cgroup_preflight.golang.runtime import predict

    chain = chain_of([(service.unit, service.settings), *((item.unit, item.settings) for item in above)])
    own = service.go.environment(service.environment) if service.go is not None else service.environment
    return predict(service.program.info, dict(own), chain, cpus).gomaxprocs


def _demand(unit: str, demands: Mapping[str, Fraction]) -> list[tuple[str, Fraction]]:
    return [(DEMAND, demands[unit])] if unit in demands else []


def _neighbour(item: Neighbour, demands: Mapping[str, Fraction]) -> Entry:
    quota = [("CPUQuota", item.quota)] if item.quota is not None else []
    return Entry(
        unit=item.unit, parent=item.parent, weight=_weight(item.weight), limits=(*quota, *_demand(item.unit, demands)),
        foreign=True,
    )  # fmt: skip


def _node(entry: Entry, children: Mapping[str, Sequence[Entry]], cpus: frozenset[int]) -> Node:
    """The node of a unit; each level narrows the CPUs, unless none would be left (cgroup-v2.rst, cpuset.cpus)."""
    cpus = (cpus & entry.allowed if entry.allowed is not None else cpus) or cpus
    inside = tuple(_node(child, children, cpus) for child in children.get(entry.unit, ()))
    # A slice in which nothing runs uses nothing.
    empty = not inside and entry.unit.endswith(".slice") and not entry.foreign
    return Node(
        name=entry.unit, cpus=cpus, weight=entry.weight, most=Fraction(0) if empty else entry.most, children=inside
    )


def _depth_first(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _depth_first(child)


def _alone(found: Mapping[str, Entry], children: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    """A weight that has nothing to compete with."""
    for entry in found.values():
        if entry.weighted and len(children[entry.parent]) == 1:
            where = "nothing else is at the top" if entry.parent == TOP else f"nothing else is in {entry.parent}"
            yield f"CPUWeight of {entry.unit} has no effect: {where}"


def _overlap(top: Node) -> Iterator[str]:
    lists = {node.cpus for node in top.walk() if not node.children}
    if any(one & other and one != other for one in lists for other in lists):
        yield ("some CPU lists overlap only in part: the kernel weighs on each CPU by itself, so that services with few"
               " CPUs can receive less than this")  # fmt: skip


def _weights(plan: "Plan") -> Iterator[str]:
    names = {setting.property for setting in plan.settings}
    if "CPUWeight" not in names:
        yield "the plan sets no CPUWeight: each unit has 100, and siblings share equally"
    elif not names & {"CPUQuota", "AllowedCPUs", "TasksMax"}:
        yield "the plan has weights only: while the others are idle, each service can use all CPUs"
