"""How the kernel divides CPU time among slices and services: weighted max-min fairness, level by level. Pure and exact.

At each level the time of the parent is divided among its children by weight. A child that wants less, or may use less,
leaves the rest to the others, and they divide it by weight again (cgroup-v2.rst, `cpu.weight`; "water filling").
Limits below count, too: a slice whose services may use one CPU together never takes more.

CPU lists make this a flow: a share counts only if all shares together fit on the CPUs. So each step raises all children
by their weights until the maximum flow from the top to the CPUs says that some of them cannot have more.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from cgroup_preflight.core.records import dataclass

#: `cpu.weight` of a group with `cpu.idle`: WEIGHT_IDLEPRIO is 3 where weight 100 is 1024 (kernel/sched/sched.h).
IDLE_WEIGHT = Fraction(300, 1024)
DEFAULT_WEIGHT = Fraction(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One slice or service. Names are unique in a tree.

    `most` is what it may use or wants at most, in CPUs: its quota, its number of threads, its demand; None for no such
    limit. `cpus` are those that it may run on; only those of nodes without children count.
    """

    name: str
    cpus: frozenset[int]
    weight: Fraction = DEFAULT_WEIGHT
    most: Fraction | None = None
    children: "tuple[Node, ...]" = ()

    def walk(self) -> "Iterator[Node]":
        """The node and all below it; each one before what is below it."""
        todo = deque([self])
        while todo:
            node = todo.popleft()
            yield node
            todo.extend(node.children)


def shares(top: Node) -> dict[str, Fraction]:
    """The CPUs that each node of the tree receives, by its name."""
    if _divides_by_weight(top):
        return _by_weight(top)
    return _by_flow(top)


def _divides_by_weight(top: Node) -> bool:
    """Whether nothing but weights counts below the top: a tree as that of most probes, for which a flow takes long."""
    below = [node for node in top.walk() if node is not top]
    leaves = {node.cpus for node in top.walk() if not node.children}
    return len(leaves) == 1 and all(node.most is None for node in below)


def _by_weight(top: Node) -> dict[str, Fraction]:
    every = Fraction(len(next(node.cpus for node in top.walk() if not node.children)))
    given = {top.name: every if top.most is None else min(every, top.most)}
    for parent in top.walk():
        whole = sum(child.weight for child in parent.children)
        given |= {child.name: given[parent.name] * child.weight / whole for child in parent.children}
    return given


def _by_flow(top: Node) -> dict[str, Fraction]:
    network = _Network(top)
    given = {top.name: network.flow({("in", top.name): network.everything}, {})[0]}
    level, settled = [top], dict[str, Fraction]()
    while level:
        settled |= {node.name: given[node.name] for node in level if not node.children}
        level = [node for node in level if node.children]
        given |= _divided(network, level, given, settled)
        level = [child for parent in level for child in parent.children]
    return given


def _divided(
    network: "_Network", parents: Sequence[Node], given: Mapping[str, Fraction], settled: Mapping[str, Fraction]
) -> dict[str, Fraction]:  # fmt: skip
    """What the children of one level receive of what their parents have; `settled` are services of the levels above.

    All parents of a level are divided at the same time, because their services can meet on the same CPUs.
    """
    above = {child.name: parent.name for parent in parents for child in parent.children}
    fair = {child.name: _fair(child, parent, given) for parent in parents for child in parent.children}
    found: dict[str, Fraction] = {name: share for name, share in fair.items() if not share}
    active = [name for name in fair if name not in found]
    while active:
        left = {parent.name: given[parent.name] for parent in parents}
        for name, share in found.items():
            left[above[name]] -= share
        weights: defaultdict[str, Fraction] = defaultdict(Fraction)
        for name in active:
            weights[above[name]] += fair[name]
        most = {name: left[name] / weight for name, weight in weights.items()}
        level = min(most.values())
        stopped = [name for name in active if most[above[name]] == level]
        while True:
            wanted = {name: fair[name] * level for name in active}
            starts = {("in", name): share for name, share in {**settled, **found, **wanted}.items()}
            starts |= {("rest", name): left[name] - level * weight for name, weight in weights.items()}
            flow, reached = network.flow(starts, {name: above[name] for name in active})
            missing = sum(starts.values()) - flow
            if not missing:
                break
            # Those in front of the narrowest place have to want less, all by the same part of their fair shares.
            stopped = [name for name in active if ("in", name) in reached and ("rest", above[name]) not in reached]
            level -= missing / sum(fair[name] for name in stopped)
        found |= {name: fair[name] * level for name in stopped}
        active = [name for name in active if name not in found]
    return found


def _fair(child: Node, parent: Node, given: Mapping[str, Fraction]) -> Fraction:
    """What its weight gives a child if all its siblings want that much."""
    return given[parent.name] * child.weight / sum(sibling.weight for sibling in parent.children)


_Vertex = tuple[str, str]
_START, _END = ("start", ""), ("end", "")


class _Network:
    """A flow through the tree to the CPUs. CPUs that the same nodes may use are one vertex.

    Each node is two vertices, `in` and `out`, with what it may use at most between them. `rest` is what a parent has
    beyond what its children were promised.
    """

    def __init__(self, top: Node) -> None:
        leaves = [node for node in top.walk() if not node.children]
        every = frozenset[int]().union(*(leaf.cpus for leaf in leaves))
        self.everything = Fraction(len(every))
        users = Counter(tuple(leaf.name for leaf in leaves if cpu in leaf.cpus) for cpu in every)
        groups = {("cpus", str(number)): names for number, names in enumerate(users)}
        self._edges: list[tuple[_Vertex, _Vertex, Fraction]] = []
        for node in top.walk():
            most = self.everything if node.most is None else node.most
            self._edges.append((("in", node.name), ("out", node.name), most))
            self._edges += ((("out", node.name), ("in", child.name), self.everything) for child in node.children)
        for group, names in groups.items():
            self._edges.append((group, _END, Fraction(users[names])))
            self._edges += ((("out", name), group, self.everything) for name in names)

    def flow(
        self, starts: Mapping[_Vertex, Fraction], parent_of: Mapping[str, str]
    ) -> tuple[Fraction, frozenset[_Vertex]]:  # fmt: skip
        """The maximum flow from `starts`, with the rest of `parent_of` nodes; and what more could still reach.

        Along shortest paths (Edmonds and Karp), so that the number of steps does not depend on the numbers.
        """
        room: defaultdict[_Vertex, dict[_Vertex, Fraction]] = defaultdict(dict, {_START: dict(starts)})
        for one, other, most in self._edges:
            room[one][other] = most
        for name, parent in parent_of.items():
            room["rest", parent]["in", name] = self.everything
        total = Fraction(0)
        while True:
            before = _reached(room)
            if _END not in before:
                return total, frozenset(before)
            path = [_END]
            while path[-1] != _START:
                path.append(before[path[-1]])
            steps = [(one, other) for other, one in pairwise(path)]
            amount = min(room[one][other] for one, other in steps)
            for one, other in steps:
                room[one][other] -= amount
                room[other][one] = room[other].get(one, Fraction(0)) + amount
            total += amount


def _reached(room: "defaultdict[_Vertex, dict[_Vertex, Fraction]]") -> dict[_Vertex, _Vertex]:
    """The vertices that have a way from the start with room on it, each with the one before it."""
    before = {_START: _START}
    todo = deque([_START])
    while todo and _END not in before:
        at = todo.popleft()
        for to, free in room[at].items():
            if free and to not in before:
                before[to] = at
                todo.append(to)
    return before
