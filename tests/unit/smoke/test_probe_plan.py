"""Which limits are pushed against: each distinct one once, and a reason for each that cannot be."""

import pytest

from cgroup_preflight.config.keys import parse_unit_name
from cgroup_preflight.config.properties import PROPERTIES, Role
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.plan.expect import expectations
from cgroup_preflight.smoke.policy import policies
from cgroup_preflight.smoke.probe_plan import (
    OVER,
    SPARE,
    THREADS_MAX,
    UNSWAPPED,
    Capacity,
    has_room,
    lanes,
    plan_probes,
    probe_units,
)
from tests.unit.smoke.fabricate import NUMBERS, SCOPE, plan

BIG = Capacity(cpus=8, available_bytes=8 << 30, swap_bytes=8 << 30)


def probes(text, capacity=BIG):
    """(kind, label) of what is tried, and the untried."""
    made, untried = plan_probes(plan(text), NUMBERS, capacity)
    return made, untried


def service(name, settings, slice_name=""):
    place = f"slice = '{slice_name}'\n" if slice_name else ""
    return f"[services.{name}]\nbinary = 'x'\n{place}{settings}\n"


def test_one_probe_for_each_kind_of_limit():
    made, untried = probes(
        service(
            "a",
            "CPUQuota='50%'\nMemoryMax='64M'\nMemoryHigh='32M'\nTasksMax=64\nMemorySwapMax=0\nCPUWeight=80\nMemoryLow='1M'",
        )
    )
    assert sorted((item.kind, item.expectation.attribute, item.amount) for item in made) == [
        ("cpu", "cpu.max", 1),
        ("high", "memory.high", (32 << 20) + OVER),
        ("max", "memory.max", (64 << 20) + OVER),
        ("swap", "memory.swap.max", UNSWAPPED + OVER),
        ("tasks", "pids.max", 128),
    ]
    assert untried == ()


def test_a_probe_carries_its_own_limit_and_nothing_else():
    made, _ = probes(service("a", "CPUQuota='50%'\nCPUQuotaPeriodSec='50ms'\nMemoryMax='64M'\nMemoryHigh='32M'"))
    carried = {item.kind: [setting.property for setting in item.settings] for item in made}
    assert carried == {"cpu": ["CPUQuota", "CPUQuotaPeriodSec"], "high": ["MemoryHigh"], "max": ["MemoryMax"]}
    cpu = next(item for item in made if item.kind == "cpu")
    assert (cpu.expectation.text, cpu.limit) == ("25000 50000", 0.5)


def test_equal_limits_in_one_slice_are_one_probe():
    text = "[slices.s]\n[slices.t]\n"
    same = (
        service("a", "MemoryMax='64M'", "s")
        + service("b", "MemoryMax='65536K'", "s")
        + service("c", "MemoryMax='64M'", "t")
        + service("d", "MemoryMax='65M'", "s")
    )
    made, _ = probes(text + same)
    assert [(item.label, item.in_slice) for item in made] == [
        ("a", f"{SCOPE}-s.slice"),
        ("c", f"{SCOPE}-t.slice"),
        ("d", f"{SCOPE}-s.slice"),
    ]


def test_equal_limits_of_two_slices_are_two_probes():
    made, _ = probes("[slices.s]\nMemoryMax='64M'\n[slices.t]\nMemoryMax='64M'\n")
    assert [(item.label, item.target, item.is_slice, item.settings) for item in made] == [
        ("s.slice", f"{SCOPE}-s.slice", True, ()),
        ("t.slice", f"{SCOPE}-t.slice", True, ()),
    ]


def test_a_service_and_its_slice_with_equal_limits_are_two_probes():
    made, untried = probes("[slices.s]\nTasksMax=64\n" + service("a", "TasksMax=64", "s"))
    assert [item.is_slice for item in made] == [False, True]
    assert untried == ()


def test_every_limit_is_tried_or_has_a_reason():
    text = (
        "[slices.s]\nMemoryMax='1G'\nCPUQuota='400%'\nTasksMax=100\n[slices.s-t]\nMemoryMax='2G'\nTasksMax=200\n"
        + "".join(
            service(f"a{number}", f"MemoryMax='{number}G'\nCPUQuota='{number}00%'\nTasksMax={number * 60}", "s-t")
            for number in range(1, 6)
        )
    )
    made, untried = probes(text, Capacity(cpus=4, available_bytes=3 << 30))
    assert len(made) + len(untried) == 3 + 2 + 15
    assert all(item.message and item.remedy and item.location.line for item in untried)


def test_a_service_outside_slices_is_tried_below_the_slice_of_the_run():
    (only,) = probes(service("a", "TasksMax=64"))[0]
    assert only.in_slice == f"{SCOPE}.slice"


@pytest.mark.parametrize(
    "settings",
    [
        "MemoryMax='infinity'",
        "TasksMax='infinity'",
        "MemoryHigh='infinity'",
        "CPUWeight=5",
        "AllowedCPUs='0'",
        "AllowedCPUs='0-2,5'",
        "IOWeight=50",
        "MemoryMin='1M'",
        "",
    ],
)
def test_no_limit_no_probe(settings):
    assert probes(service("a", settings)) == ((), ())


@pytest.mark.parametrize(
    ("quota", "cpus", "tried"),
    [
        ("50%", 1, True),
        ("99.99%", 1, True),
        ("100%", 1, False),
        ("150%", 1, False),
        ("150%", 2, True),
        ("200%", 2, False),
    ],
)
def test_a_quota_of_all_cpus_cannot_be_used_up(quota, cpus, tried):
    made, untried = probes(service("a", f"CPUQuota='{quota}'"), Capacity(cpus=cpus, available_bytes=8 << 30))
    assert (len(made), len(untried)) == ((1, 0) if tried else (0, 1))
    if tried:
        assert made[0].amount <= cpus
        assert made[0].amount > made[0].limit
    else:
        assert f"{cpus} CPU(s)" in untried[0].message


@pytest.mark.parametrize("name", ["MemoryMax", "MemoryHigh"])
@pytest.mark.parametrize(
    ("free", "tried"), [((64 << 20) + OVER + SPARE, True), ((64 << 20) + OVER + SPARE - 1, False), (0, False)]
)
def test_memory_that_the_machine_does_not_have(name, free, tried):
    made, untried = probes(service("a", f"{name}='64M'"), Capacity(cpus=1, available_bytes=free))
    assert len(made) == tried
    assert [item.message for item in untried] == (
        [] if tried else [f"{name}=64M was not tested: only {free >> 20}M of memory are available"]
    )


@pytest.mark.parametrize(("count", "tried"), [(THREADS_MAX, True), (THREADS_MAX + 1, False)])
def test_too_many_tasks(count, tried):
    made, untried = probes(service("a", f"TasksMax={count}"))
    assert (len(made), len(untried)) == (tried, not tried)


@pytest.mark.parametrize(
    ("above", "own", "tried"),
    [
        ("MemoryMax='64M'", "MemoryMax='65M'", False),
        ("MemoryMax='64M'", "MemoryMax='64M'", True),
        ("MemoryMax='64M'", "MemoryMax='63M'", True),
        ("MemoryMax='64M'", "MemoryHigh='65M'", False),
        ("TasksMax=10", "TasksMax=11", False),
        ("CPUQuota='50%'", "CPUQuota='51%'", False),
        ("CPUQuota='50%'", "CPUQuota='50%'", True),
        ("TasksMax=10", "MemoryMax='64M'", True),
    ],
)
def test_a_tighter_slice_above(above, own, tried):
    text = f"[slices.s]\n[slices.s-t]\n{above}\n[slices.s-t-u]\n" + service("a", own, "s-t-u")
    made, untried = probes(text)
    assert ("a" in [item.label for item in made]) is tried
    if not tried:
        assert "has no effect: s-t.slice is limited to " in untried[0].message


@pytest.mark.parametrize(
    ("above", "own", "message"),
    [
        ("MemoryMax='160M'", "MemoryMax='256M'", "MemoryMax=256M has no effect: s-t.slice is limited to 160M"),
        ("MemoryMax='160M'", "MemoryHigh='256M'", "MemoryHigh=256M has no effect: s-t.slice is limited to 160M"),
        ("MemorySwapMax='8M'", "MemorySwapMax='16M'", "MemorySwapMax=16M has no effect: s-t.slice is limited to 8M"),
        ("CPUQuota='50%'", "CPUQuota='150.5%'", "CPUQuota=150.5% has no effect: s-t.slice is limited to 50%"),
        ("TasksMax=10", "TasksMax=11", "TasksMax=11 has no effect: s-t.slice is limited to 10"),
    ],
)
def test_a_limit_without_effect_names_the_slice_and_its_limit(above, own, message):
    _, untried = probes(f"[slices.s]\n[slices.s-t]\n{above}\n" + service("a", own, "s-t"))
    assert [item.message for item in untried if item.label == "a"] == [message]
    assert [item.remedy for item in untried if item.label == "a"] == ["lower it, or raise the limit of s-t.slice"]


def test_no_limit_above_is_no_tighter_one():
    text = "[slices.s]\nMemoryMax='infinity'\nTasksMax='infinity'\nMemorySwapMax='infinity'\n"
    made, untried = probes(text + service("a", "MemoryMax='64M'\nTasksMax=64\nMemorySwapMax=0", "s"))
    assert (sorted(item.kind for item in made), untried) == (["max", "swap", "tasks"], ())


def test_limits_of_other_than_memory_need_no_free_memory():
    made, untried = probes(service("a", "CPUQuota='50%'\nTasksMax=64"), Capacity(cpus=1, available_bytes=0))
    assert (sorted(item.kind for item in made), untried) == (["cpu", "tasks"], ())


def test_a_slice_below_a_tighter_slice():
    _, untried = probes("[slices.s]\nTasksMax=10\n[slices.s-t]\nTasksMax=20\n[slices.st]\nTasksMax=30\n")
    assert [item.label for item in untried] == ["s-t.slice"]


@pytest.mark.parametrize(
    ("setting", "free", "tried", "void"),
    [
        ("MemorySwapMax=0", OVER, True, None),
        ("MemorySwapMax=0", OVER - 1, False, False),
        ("MemorySwapMax='64M'", (64 << 20) + OVER, True, None),
        ("MemorySwapMax='64M'", (64 << 20) + OVER - 1, False, False),
        ("MemorySwapMax=0", 0, False, True),
        ("MemorySwapMax='64M'", 0, False, True),
        ("MemoryZSwapMax='64M'", 8 << 30, False, False),
        ("MemoryZSwapMax='64M'", 0, False, True),
    ],
)
def test_a_swap_limit_needs_swap(setting, free, tried, void):
    """Without any swap there is nothing to limit; with too little of it nothing is proven."""
    made, untried = probes(service("a", setting), Capacity(cpus=1, available_bytes=8 << 30, swap_bytes=free))
    assert len(made) == tried
    assert [item.void for item in untried] == ([] if tried else [void])


@pytest.mark.parametrize("setting", ["MemorySwapMax=0", "MemoryZSwapMax='64M'"])
def test_swap_that_is_all_in_use_or_unknown_is_not_no_swap(setting):
    capacity = Capacity(cpus=1, available_bytes=8 << 30, swap_bytes=0, may_swap=True)
    made, (untried,) = probes(service("a", setting), capacity)
    assert (made, untried.void) == ((), False)


def test_a_probe_of_swap_has_a_unit_of_its_own_with_little_memory():
    text = "[slices.s]\nMemorySwapMax='8M'\nMemoryMax='1G'\n" + service("a", "MemoryMax='64M'\nMemorySwapMax=0", "s")
    made, _ = probes(text)
    units = probe_units(SCOPE, made)
    assert sorted(sorted(made[number].kind for number in unit.probes) for unit in units) == [
        ["max", "max"], ["swap"], ["swap"],
    ]  # fmt: skip
    for unit in units:
        kinds = {made[number].kind for number in unit.probes}
        carried = dict(unit.extra) | {item.property: item.text for item in unit.settings}
        assert carried.get("MemorySwapMax") == ("0" if not made[unit.probes[0]].is_slice or "max" in kinds else None)
        assert (carried.get("MemoryMax") == str(UNSWAPPED)) is (kinds == {"swap"})


def test_the_limits_of_a_slice_are_pushed_against_from_a_unit_in_it_with_limits_of_its_own():
    text = "[slices.s]\nMemoryMax='1G'\nTasksMax=90\n[slices.empty]\nMemoryMax='2G'\n"
    made, _ = probes(text + service("a", "CPUQuota='10%'\nMemoryMax='64M'", "s") + service("b", "TasksMax=20", "s"))
    units = probe_units(SCOPE, made)
    named = [[(made[number].label, made[number].kind) for number in unit.probes] for unit in units]
    assert named == [
        [("s.slice", "tasks"), ("a", "max"), ("s.slice", "max")], [("a", "cpu")], [("b", "tasks")], [("empty.slice", "max")],
    ]  # fmt: skip
    # The unit's own default must not come first, and where it has a limit of its own that is lifted for the time.
    assert [dict(unit.extra).get("TasksMax") for unit in units] == ["infinity", None, None, None]


def test_what_is_below_one_top_slice_takes_turns():
    text = "[slices.s]\nTasksMax=90\n[slices.s-t]\nMemoryMax='1G'\n[slices.u]\nTasksMax=9\n"
    made, _ = probes(text + service("a", "MemoryMax='64M'", "s-t") + service("b", "TasksMax=20"))
    found = lanes(SCOPE, probe_units(SCOPE, made), made)
    assert sorted(sorted(made[number].label for number in lane) for lane in found) == [
        ["a", "s-t.slice", "s.slice"], ["b"], ["u.slice"],
    ]  # fmt: skip


def test_limits_are_pushed_against_at_once_while_the_machine_has_room_for_all():
    config = "".join(service(f"q{quota}", f"CPUQuota='{quota}%'") for quota in (20, 30, 50, 90))
    config += service("m", "MemoryMax='64M'\nTasksMax=20") + service("n", "MemoryMax='1G'")
    made, _ = probes(config, Capacity(cpus=1, available_bytes=8 << 30))
    by = {item.label if item.label != "m" else item.kind: item for item in made}
    one, two = (Capacity(cpus=cpus, available_bytes=8 << 30) for cpus in (1, 2))
    assert has_room(by["q90"], [], one)
    assert has_room(by["q30"], [by["q50"]], one)
    assert not has_room(by["q50"], [by["q50"]], one)
    assert has_room(by["q30"], [by["q50"], by["q90"]], two)
    assert not has_room(by["q50"], [by["q50"], by["q90"]], two)
    # Other probes take what quotas leave.
    assert has_room(by["q20"], [by["q50"], by["max"]], one)
    assert has_room(by["max"], [by["q50"], by["q20"]], one)
    assert not has_room(by["max"], [by["tasks"]], one)
    assert has_room(by["max"], [by["tasks"], by["q50"]], two)
    assert has_room(by["tasks"], [by["max"], by["q20"]], two)
    # One limit after the other is pushed against in any case: what cannot be reached at all is not even planned.
    scarce = Capacity(cpus=2, available_bytes=(1 << 30) + (150 << 20))
    assert has_room(by["n"], [], scarce)
    assert has_room(by["n"], [by["tasks"]], scarce) is False
    assert has_room(by["max"], [by["n"]], two)
    assert not has_room(by["max"], [by["n"]], scarce)
    assert has_room(by["max"], [by["tasks"]], scarce)
    assert not has_room(by["max"], [by["tasks"], by["max"]], two)
    assert not has_room(by["tasks"], [by["tasks"]], Capacity(cpus=64, available_bytes=64 << 30))


def test_no_unit_of_a_probe_has_a_name_that_a_service_can_have():
    made, _ = probes(service("probe-0", "MemoryMax='64M'\nTasksMax=5"))
    for unit in probe_units(SCOPE, made):
        name = unit.unit.removeprefix(f"{SCOPE}-").removesuffix(".service")
        with pytest.raises(QuantityError):
            parse_unit_name(name)


def test_what_is_no_limit_in_a_slice_above_changes_nothing():
    made, untried = probes("[slices.s]\nAllowedCPUs='0-1'\nIOWeight=50\n" + service("a", "TasksMax=64", "s"))
    assert ([item.kind for item in made], untried) == (["tasks"], ())


@pytest.mark.parametrize("item", PROPERTIES, ids=lambda item: item.name)
def test_every_property_is_tried_read_back_or_asked_of_systemd(item):
    """Of a service and of its slice; a property that nothing looks at would pass in silence."""
    line = f"{item.name}='{item.example}'"
    text = f"[slices.s]\n{line if 'Slice' in item.sections else ''}\n"
    text += service("a", line if "Service" in item.sections else "", "s")
    made, untried = probes(text)
    # A push against a device would wear it out, and slow down everything else that uses it.
    assert bool(made or untried) is (item.role is Role.LIMIT and item.attribute != "io.max")
    (one,) = plan(text).services
    assert bool(expectations(one.settings, NUMBERS)) is bool(item.attribute)
    assert item.attribute or item.role in (Role.PARAMETER, Role.POLICY, Role.START)
    assert len(policies(plan(text))) == (len(item.sections) if item.role is Role.POLICY else 0)


@pytest.mark.parametrize(
    ("limit", "remedy"), [("99%", "set a size such as 2G, or a smaller percentage"), ("8G", "with more free memory")]
)
def test_no_machine_has_more_free_memory_than_nearly_all_of_its_memory(limit, remedy):
    made = plan(f"[services.a]\nbinary='x'\nMemoryMax='{limit}'\n")
    _, (untried,) = plan_probes(made, NUMBERS, Capacity(cpus=2, available_bytes=1 << 30))
    assert remedy in untried.remedy
