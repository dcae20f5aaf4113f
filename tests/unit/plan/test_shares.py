"""The model of shares: what must be true of every tree, and examples that can be checked by hand."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.records import replace
from cgroup_preflight.plan.shares import IDLE_WEIGHT, Node, _by_flow, shares

CPUS = st.integers(1, 4)
AMOUNTS = st.none() | st.fractions(0, 5, max_denominator=8)
WEIGHTS = st.sampled_from((Fraction(1), Fraction(50), Fraction(100), Fraction(300), Fraction(10000), IDLE_WEIGHT))
FEW = settings(max_examples=50, deadline=None)


def leaf(name: str, weight: int | Fraction = 100, most: object = None, cpus: int | frozenset[int] = 4) -> Node:
    return Node(
        name=name, weight=Fraction(weight), most=None if most is None else Fraction(most),
        cpus=frozenset(range(cpus)) if isinstance(cpus, int) else cpus,
    )  # fmt: skip


def group(name: str, *children: Node, weight: int = 100, most: object = None) -> Node:
    return replace(leaf(name, weight, most), children=children)


@st.composite
def trees(draw: st.DrawFn, *, lists: bool = True) -> Node:
    """A top with slices and services in up to three levels; with `lists`, services may run on some CPUs only."""
    cpus, count = draw(CPUS), iter(range(100))

    def node(depth: int) -> Node:
        some = st.frozensets(st.integers(0, cpus - 1), min_size=1) if lists else st.just(frozenset(range(cpus)))
        children = [node(depth + 1) for _ in range(draw(st.integers(0, 3 - depth)))] if depth < 3 else []
        return Node(
            name=f"n{next(count)}", weight=draw(WEIGHTS), most=draw(AMOUNTS), cpus=draw(some), children=tuple(children)
        )

    return Node(
        name="top", cpus=frozenset(range(cpus)), children=tuple(node(1) for _ in range(draw(st.integers(1, 3))))
    )


@FEW
@given(trees(lists=False), AMOUNTS)
def test_where_only_weights_count_no_flow_is_needed(top, most):
    def bare(node: Node) -> Node:
        return replace(node, most=None, children=tuple(map(bare, node.children)))

    top = replace(bare(top), most=most)
    assert shares(top) == _by_flow(top)


def leaves(top: Node) -> list[Node]:
    return [node for node in top.walk() if not node.children]


def changed(top: Node, name: str, **values: object) -> Node:
    if top.name == name:
        return replace(top, **values)
    return replace(top, children=tuple(changed(child, name, **values) for child in top.children))


def reversed_order(top: Node) -> Node:
    return replace(top, children=tuple(reversed_order(child) for child in reversed(top.children)))


@FEW
@given(trees())
def test_a_parent_receives_what_its_children_do_and_nobody_more_than_it_may(top: Node) -> None:
    found = shares(top)
    for node in top.walk():
        assert found[node.name] >= 0
        assert node.most is None or found[node.name] <= node.most
        if node.children:
            assert found[node.name] == sum(found[child.name] for child in node.children)


@FEW
@given(trees())
def test_services_that_share_cpus_fit_on_them(top: Node) -> None:
    """Each set of CPUs has no more users than it has time: services confined to it receive at most its size."""
    found = shares(top)
    for node in leaves(top):
        confined = sum(found[other.name] for other in leaves(top) if other.cpus <= node.cpus)
        assert confined <= len(node.cpus)
    assert found["top"] <= len(top.cpus)


@FEW
@given(trees(lists=False))
def test_nothing_is_left_over_while_somebody_wants_it(top: Node) -> None:
    found = shares(top)

    def full(node: Node) -> bool:
        return node.most is not None and found[node.name] == node.most

    def wants(node: Node, above: bool) -> bool:
        if above or full(node):
            return False
        return any(wants(child, False) for child in node.children) if node.children else True

    assert found["top"] == len(top.cpus) or not wants(top, False)


@FEW
@given(trees())
def test_the_order_of_names_does_not_matter(top: Node) -> None:
    assert shares(top) == shares(reversed_order(top))


@FEW
@given(trees(), st.data())
def test_equal_siblings_receive_the_same(top: Node, data: st.DataObject) -> None:
    twin = data.draw(st.sampled_from(leaves(top)))
    parent = next(node for node in top.walk() if twin in node.children)
    both = changed(top, parent.name, children=(*parent.children, replace(twin, name="twin")))
    found = shares(both)
    assert found["twin"] == found[twin.name]


@FEW
@given(trees(), st.data())
def test_more_weight_quota_or_demand_is_never_less_cpu(top: Node, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(leaves(top)))
    more = changed(top, node.name, weight=node.weight * data.draw(st.integers(2, 9)))
    if data.draw(st.booleans()):
        more = changed(top, node.name, most=None if node.most is None else node.most + data.draw(st.integers(1, 3)))
    assert shares(more)[node.name] >= shares(top)[node.name]


@FEW
@given(trees(), st.data())
def test_a_slice_with_more_weight_never_receives_less(top: Node, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from([item for item in top.walk() if item.name != "top"]))
    assert shares(changed(top, node.name, weight=node.weight * 3))[node.name] >= shares(top)[node.name]


@FEW
@given(trees(lists=False))
def test_it_is_water_filling(top: Node) -> None:
    """The same as the textbook's loop, which knows no CPU lists."""
    found, expected = shares(top), {"top": min(_most(top), Fraction(len(top.cpus)))}
    for node in top.walk():
        _fill(node, expected)
    assert found == expected


def _most(node: Node) -> Fraction:
    below = sum(map(_most, node.children), Fraction(0)) if node.children else Fraction(len(node.cpus))
    return below if node.most is None else min(node.most, below)


def _fill(node: Node, given: dict[str, Fraction]) -> None:
    left, active = given[node.name], list(node.children)
    while active:
        weights = sum(child.weight for child in active)
        full = [child for child in active if left * child.weight / weights >= _most(child)]
        if not full:
            given.update((child.name, left * child.weight / weights) for child in active)
            return
        for child in full:
            given[child.name] = _most(child)
            left -= given[child.name]
            active.remove(child)


def test_weights_divide_what_is_wanted() -> None:
    top = group("top", leaf("a", 300), leaf("b", 100))
    assert shares(top) == {"top": 4, "a": 3, "b": 1}


def test_what_one_does_not_want_goes_to_the_others_by_weight() -> None:
    top = group("top", leaf("a", 800, most="1/2"), leaf("b", 200), leaf("c", 50))
    assert shares(top) == {"top": 4, "a": Fraction(1, 2), "b": Fraction(14, 5), "c": Fraction(7, 10)}


def test_weights_compare_siblings_only() -> None:
    top = group("top", group("one", leaf("a", 10000), weight=100), group("two", leaf("b", 1), weight=300))
    found = shares(top)
    assert (found["a"], found["b"]) == (1, 3)


def test_a_slice_takes_no_more_than_its_services_can_use() -> None:
    top = group("top", group("one", leaf("a", most=1), weight=10000), leaf("b", 1))
    assert shares(top) == {"top": 4, "one": 1, "a": 1, "b": 3}


def test_two_services_on_one_cpu_share_it_and_leave_the_others_alone() -> None:
    only = frozenset({0})
    top = group("top", leaf("a", cpus=only), leaf("b", cpus=only), leaf("c"))
    assert shares(top) == {"top": 4, "a": Fraction(1, 2), "b": Fraction(1, 2), "c": 3}


def test_cpu_lists_in_different_slices_count_together() -> None:
    """Both want CPU 0, and each slice is entitled to half of the two CPUs: CPU 1 goes to the one that may use it."""
    only = frozenset({0})
    top = group("top", group("one", leaf("a", cpus=only), leaf("b", most="1/2", cpus=2)), leaf("c", cpus=only))
    assert shares(top) == {
        "top": Fraction(3, 2),
        "one": Fraction(3, 4),
        "a": Fraction(1, 4),
        "b": Fraction(1, 2),
        "c": Fraction(3, 4),
    }


@pytest.mark.parametrize("weight", [100, 1])
def test_idle_receives_nearly_nothing_next_to_any_weight_and_all_without_one(weight: int) -> None:
    found = shares(group("top", leaf("idle", IDLE_WEIGHT), leaf("busy", weight)))
    assert found["idle"] == 4 * IDLE_WEIGHT / (IDLE_WEIGHT + weight)
    assert shares(group("top", leaf("idle", IDLE_WEIGHT), leaf("busy", weight, most=0)))["idle"] == 4


def test_nobody_wants_anything() -> None:
    assert shares(group("top", leaf("a", most=0), group("s", leaf("b", most=0)))) == dict.fromkeys(
        ("top", "a", "s", "b"), 0
    )
