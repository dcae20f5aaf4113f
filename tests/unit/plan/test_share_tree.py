"""From a config to the tree that competes: settings, threads, neighbours, demands, and the notes about them."""

from fractions import Fraction

import pytest

from cgroup_preflight.golang.modinfo import BuildInfo
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.share_table import render_text, share_document, share_rows
from cgroup_preflight.plan.share_tree import Neighbour, ShareTree, share_tree
from cgroup_preflight.plan.shares import IDLE_WEIGHT
from tests.unit.core.making import config_of

SHOP = """\
[slices.api]
CPUWeight = 300
[slices.batch]
CPUWeight = 100
[services.a]
binary = "a"
slice = "api"
CPUWeight = 200
[services.b]
binary = "b"
slice = "api"
[services.c]
binary = "c"
slice = "batch"
"""
USER = Neighbour(unit="user.slice")


def tree_of(text: str = SHOP, cpus: int = 4, neighbours: tuple[Neighbour, ...] = (), **demands: str) -> ShareTree:
    units = {f"{name}.service": Fraction(amount) for name, amount in demands.items()}
    return share_tree(build_plan(config_of(text)), frozenset(range(cpus)), neighbours, units)


def cpus_of(tree: ShareTree) -> dict[str, Fraction]:
    return {row.entry.unit: row.cpus for row in share_rows(tree)}


def reasons(tree: ShareTree) -> dict[str, str]:
    return {row.entry.unit: row.limited_by for row in share_rows(tree)}


def test_slices_divide_first_and_services_what_their_slice_has() -> None:
    assert cpus_of(tree_of()) == {
        "api.slice": 3, "a.service": 2, "b.service": 1, "batch.slice": 1, "c.service": 1,
    }  # fmt: skip


def test_a_neighbour_at_the_default_weight_takes_its_part() -> None:
    found = cpus_of(tree_of(neighbours=(USER,)))
    assert (found["user.slice"], found["api.slice"]) == (Fraction(4, 5), Fraction(12, 5))
    heavy = cpus_of(tree_of(neighbours=(Neighbour(unit="other.slice", weight=3600),)))
    assert heavy["api.slice"] == Fraction(3, 10)


def test_a_neighbour_inside_a_slice_of_the_plan_competes_there() -> None:
    found = cpus_of(tree_of(neighbours=(Neighbour(unit="x.service", parent="batch.slice", quota=Fraction(1, 4)),)))
    assert (found["x.service"], found["c.service"]) == (Fraction(1, 4), Fraction(3, 4))


def test_a_unit_of_the_plan_is_not_its_own_neighbour() -> None:
    assert cpus_of(tree_of(neighbours=(Neighbour(unit="api.slice", weight=1),))) == cpus_of(tree_of())


@pytest.mark.parametrize(
    ("line", "cpus", "reason"),
    [
        ('CPUQuota = "50%"', Fraction(1, 2), "CPUQuota"),
        ("TasksMax = 1", 1, "TasksMax"),
        ('TasksMax = "10%"', 4, "api.slice"),
        ('AllowedCPUs = "2"', 1, "AllowedCPUs"),
        ('AllowedCPUs = "0-9"', 4, "api.slice"),
        ('CPUWeight = "idle"', 4, "api.slice"),
        ('CPUQuota = "900%"', 4, "api.slice"),
    ],
)
def test_each_limit_of_a_service_counts(line: str, cpus: object, reason: str) -> None:
    tree = tree_of(f'[slices.api]\n[services.a]\nbinary = "a"\nslice = "api"\n{line}\n')
    assert cpus_of(tree)["a.service"] == cpus_of(tree)["api.slice"] == cpus
    assert reasons(tree)["a.service"] == reason
    assert reasons(tree)["api.slice"] == ("its services" if cpus != 4 and reason != "AllowedCPUs" else "the machine")


@pytest.mark.parametrize(
    ("line", "cpus"), [('CPUQuota = "50%"', Fraction(1, 2)), ("TasksMax = 1", 1), ('AllowedCPUs = "1-2"', 2)]
)
def test_each_limit_of_a_slice_counts(line: str, cpus: object) -> None:
    tree = tree_of(f'[slices.api]\n{line}\n[services.a]\nbinary = "a"\nslice = "api"\n')
    assert cpus_of(tree)["a.service"] == cpus
    assert reasons(tree)["api.slice"] == line.split()[0]


def test_a_service_without_a_slice_is_in_system_slice() -> None:
    found = cpus_of(tree_of('[services.a]\nbinary = "a"\n', neighbours=(USER,)))
    assert found == {"user.slice": 2, "system.slice": 2, "a.service": 2}


def test_what_a_service_does_not_want_goes_to_its_siblings_first() -> None:
    tree = tree_of(a="0.5")
    assert cpus_of(tree)["b.service"] == Fraction(5, 2)
    assert reasons(tree) == {
        "api.slice": "weight", "a.service": "demand", "b.service": "weight", "batch.slice": "weight", "c.service": "batch.slice",
    }  # fmt: skip
    assert cpus_of(tree_of(a="0", b="0"))["c.service"] == 4


def test_a_slice_without_services_wants_nothing() -> None:
    tree = tree_of(SHOP + "[slices.empty]\nCPUWeight = 10000\n")
    assert cpus_of(tree) == {**cpus_of(tree_of()), "empty.slice": 0}
    assert reasons(tree)["empty.slice"] == "no service"


def test_idle_has_its_kernel_weight_next_to_siblings() -> None:
    tree = tree_of(SHOP.replace("CPUWeight = 100", 'CPUWeight = "idle"'))
    assert cpus_of(tree)["batch.slice"] == 4 * IDLE_WEIGHT / (300 + IDLE_WEIGHT)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (SHOP.replace('slice = "batch"\n', 'slice = "batch"\nCPUWeight = 5\n'),
         "CPUWeight of c.service has no effect: nothing else is in batch.slice"),
        ('[slices.api]\nCPUWeight = 5\n[services.a]\nbinary = "a"\nslice = "api"\n',
         "CPUWeight of api.slice has no effect: nothing else is at the top"),
        ('[services.a]\nbinary = "a"\nMemoryMax = "1G"\n', "the plan sets no CPUWeight: each unit has 100"),
        (SHOP, "the plan has weights only"),
        (SHOP.replace('binary = "c"', 'binary = "c"\nAllowedCPUs = "1,7-8"'),
         "AllowedCPUs = 1,7-8 of c.service is not in force here: this machine has no CPU 7-8"),
        (SHOP.replace('binary = "c"', 'binary = "c"\nAllowedCPUs = "1"'), "overlap only in part"),
    ],
)  # fmt: skip
def test_notes(text: str, note: str) -> None:
    assert any(item.startswith(note) or note in item for item in tree_of(text).notes)


def test_no_note_where_there_is_nothing_to_say() -> None:
    assert tree_of(SHOP.replace('binary = "a"', 'binary = "a"\nCPUQuota = "150%"')).notes == ()


def test_the_table_has_a_row_for_each_unit_below_its_slice() -> None:
    text = render_text(tree_of(neighbours=(USER,), a="0.5"), "shop")
    assert text.splitlines()[0] == "CPU shares of shop on 4 CPUs when the others want all they can use"
    rows = [line.split()[0] for line in text.splitlines()[3:8]]
    assert rows == ["api.slice", "a.service", "b.service", "batch.slice", "c.service"]
    assert "user.slice (host)" in text
    assert "when all want all" in render_text(tree_of(), "shop")


def test_the_document_has_numbers_and_says_where_a_unit_is_from() -> None:
    made = share_document(tree_of(neighbours=(USER,), a="0.5"), "shop")
    units = {item["unit"]: item for item in made["units"]}  # type: ignore[attr-defined]
    assert units["a.service"] == {
        "unit": "a.service", "service": "a", "parent": "api.slice", "from": "plan", "weight": 200, "may_use": None,
        "wants": 0.5, "cpus": 0.5, "percent": 12.5, "decided_by": "demand",
    }  # fmt: skip
    assert (units["user.slice"]["from"], units["user.slice"]["service"]) == ("host", None)
    assert sum(item["cpus"] for item in units.values() if item["parent"] == "-.slice") == pytest.approx(4)


@pytest.mark.parametrize(
    ("line", "cpus", "reason"),
    [
        ("", 4, "api.slice"),
        ('Environment = { GOMAXPROCS = "1" }', 1, "GOMAXPROCS"),
        ('CPUQuota = "150%"', Fraction(3, 2), "CPUQuota"),
        ('CPUQuota = "220%"', 2, "GOMAXPROCS"),
    ],
)
def test_a_go_program_runs_as_many_threads_as_gomaxprocs(line: str, cpus: object, reason: str) -> None:
    """With a quota of 2.2 CPUs the plan sets GOMAXPROCS to 2 for a Go version that does not read cpu.max."""
    config = config_of(f'[slices.api]\n[services.a]\nbinary = "a"\nslice = "api"\n{line}\n')
    program = Binary(path="/src/a", info=BuildInfo(go_version="go1.21.0"))
    tree = share_tree(build_plan(config, programs={"a": program}), frozenset(range(4)))
    assert (cpus_of(tree)["a.service"], reasons(tree)["a.service"]) == (cpus, reason)
