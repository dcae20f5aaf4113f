"""Rules C1 to C5: each names its cause, and its honest twin is not accused."""

import pytest

from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.diagnosis import Diagnosis
from tests.unit.metrics.windows import group, series

_QUOTA = {"quota": 0.5, "periods": 100, "throttled": 98, "throttled_cpus": 1.5}


def _rules(found: tuple[Diagnosis, ...]) -> list[tuple[str, str, str, str]]:
    return [(item.rule, item.victim, item.cause, item.confidence.value) for item in found]


def test_own_quota_is_named_with_a_value_that_would_have_been_enough() -> None:
    found = judge(series(group("/a.service", 0.5, 0.99, local_cpus=1.5, **_QUOTA))).diagnoses
    assert _rules(found) == [("C1", "/a.service", "/a.service", "high")]
    # Two threads: 0.5 CPUs were used and 1.5 had work; a margin of a tenth.
    assert found[0].remedies[0].title == "set CPUQuota=220% for a.service"
    assert found[0].remedies[0].commands == (("systemctl", "set-property", "a.service", "CPUQuota=220%"),)


def test_a_proposed_quota_is_not_more_than_the_machine_and_the_levels_above_have() -> None:
    hungry = {**_QUOTA, "throttled_cpus": 9.0}
    found = judge(series(group("/a.slice", 0.5, 0.99), group("/a.slice/a.service", 0.5, 0.99, **hungry))).diagnoses
    # Four CPUs, and a tenth more: a quota of exactly what runs is used up now and then.
    assert found[0].remedies[0].title == "set CPUQuota=440% for a.service"
    above = group("/a.slice", 0.5, 0.99, quota=2.0)
    found = judge(series(above, group("/a.slice/a.service", 0.5, 0.99, **hungry))).diagnoses
    assert found[0].remedies[0].title == "set CPUQuota=200% for a.service"


@pytest.mark.parametrize(
    "values",
    [
        {"throttled": 3, "throttled_cpus": 0.01},  # in 3 % of the periods
        {"periods": 4, "throttled": 4},  # four periods are too few
        {"quota": None},
    ],
)
def test_little_throttling_is_not_the_cause(values: dict[str, float]) -> None:
    found = judge(series(group("/a.service", 0.5, 0.3, **{**_QUOTA, **values}))).diagnoses
    assert found == ()


def test_a_throttled_cgroup_in_which_nobody_waits_is_no_victim() -> None:
    assert judge(series(group("/a.service", 0.5, 0.02, **_QUOTA))).diagnoses == ()


def test_throttling_that_explains_little_of_the_waiting_is_not_blamed() -> None:
    rare = {"quota": 2.0, "periods": 100, "throttled": 8, "throttled_cpus": 0.05}
    neighbour = group("/b.service", 3.0, 0.3, weight=1000)
    found = judge(series(group("/a.service", 1.0, 0.9, **rare), neighbour, busy=1.0)).diagnoses
    assert [item.rule for item in found if item.victim == "/a.service"] == ["C3"]


def test_a_quota_above_is_named_although_the_unit_shows_no_throttling() -> None:
    level = group("/a.slice", 0.5, 0.99, **_QUOTA)
    victim = group("/a.slice/v.service", 0.1, 0.95, local_cpus=0.6)
    batch = group("/a.slice/b.service", 0.4, 0.99, local_cpus=1.2)
    found = judge(series(level, victim, batch)).diagnoses
    assert _rules(found) == [
        ("C2", "/a.slice/v.service", "/a.slice", "high"), ("C2", "/a.slice/b.service", "/a.slice", "high"),
    ]  # fmt: skip
    assert "b.service used 80% of it" in found[0].message
    assert [item.title for item in found[0].remedies] == [
        "set CPUQuota=220% for a.slice", "set CPUQuota=30% for b.service",
    ]  # fmt: skip
    # The one that uses most is not told to blame itself.
    assert len(found[1].remedies) == 1


def test_a_unit_that_the_quota_above_does_not_stop_is_no_victim_of_it() -> None:
    level = group("/a.slice", 0.5, 0.99, **_QUOTA)
    calm = group("/a.slice/v.service", 0.1, 0.2, local_cpus=0.0)
    batch = group("/a.slice/b.service", 0.4, 0.99, local_cpus=1.5)
    assert [item.victim for item in judge(series(level, calm, batch)).diagnoses] == ["/a.slice/b.service"]


def test_the_larger_of_two_quotas_on_the_path_is_the_cause() -> None:
    level = group("/a.slice", 0.5, 0.99, **{**_QUOTA, "throttled": 20, "throttled_cpus": 0.2})
    own = group("/a.slice/v.service", 0.4, 0.99, **_QUOTA, local_cpus=1.7)
    assert _rules(judge(series(level, own)).diagnoses) == [("C1", "/a.slice/v.service", "/a.slice/v.service", "high")]


def test_without_pressure_a_quota_is_named_with_medium_confidence_and_the_blind_rules_are_listed() -> None:
    answer = judge(series(group("/a.service", 0.5, None, **_QUOTA), pressure=False))
    assert _rules(answer.diagnoses) == [("C1", "/a.service", "/a.service", "medium")]
    assert [item.code for item in answer.findings if item.status == "warn"] == ["CGP790"]
    level = group("/a.slice", 0.5, None, **_QUOTA)
    answer = judge(series(level, group("/a.slice/v.service", 0.4, None), pressure=False, local_stat=False))
    assert _rules(answer.diagnoses) == [("C2", "/a.slice/v.service", "/a.slice", "medium")]


def test_a_neighbour_with_a_larger_weight_is_named() -> None:
    victim = group("/l.slice/v.service", 0.36, 0.95, weight=100, tasks=5)
    other = group("/l.slice/n.service", 3.6, 0.2, weight=1000)
    found = judge(series(group("/l.slice", 3.96, 0.95), victim, other, busy=1.0)).diagnoses
    assert _rules(found) == [("C3", "/l.slice/v.service", "/l.slice/n.service", "high")]
    assert found[0].remedies[0].title == "set CPUWeight=1000 for v.service"
    assert found[0].remedies[1].title.startswith("set CPUQuota=")


def test_the_weight_of_the_slice_is_the_one_to_raise_where_the_neighbour_is_another_slice() -> None:
    found = judge(series(
        group("/a.slice", 0.4, 0.9, weight=100), group("/a.slice/v.service", 0.4, 0.9),
        group("/b.slice", 3.6, 0.2, weight=900), group("/b.slice/n.service", 3.6, 0.2), busy=1.0,
    )).diagnoses  # fmt: skip
    assert [(item.rule, item.victim, item.cause) for item in found] == [("C3", "/a.slice/v.service", "/b.slice")]
    assert found[0].remedies[0].commands[0][2:] == ("a.slice", "CPUWeight=900")


def test_equal_siblings_on_a_busy_host_are_no_verdict_and_nobody_is_named() -> None:
    answer = judge(series(*(group(f"/{name}.service", 2.0, 0.5) for name in "ab"), busy=1.0))
    assert answer.diagnoses == ()
    assert {item.status.value for item in answer.findings} == {"unverified"}
    assert "nobody is to blame" in answer.findings[0].message


def test_less_than_the_entitlement_names_no_neighbour() -> None:
    victim = group("/a.service", 0.5, 0.9, tasks=6)
    found = judge(series(victim, group("/b.service", 3.5, 0.5), busy=1.0)).diagnoses
    assert _rules(found) == [("C4", "/a.service", "", "low")]
    found = judge(series(victim, group("/b.service", 3.5, 0.5), busy=1.0, other_scheduler="scx_rusty")).diagnoses
    assert _rules(found) == [("C4", "/a.service", "", "medium")]


def test_a_single_thread_that_shares_its_cpu_is_not_starved() -> None:
    """It can use one CPU at most, whatever its weight entitles it to."""
    answer = judge(series(group("/a.service", 0.8, 0.2, tasks=1), group("/b.service", 3.2, 0.3), busy=1.0))
    assert answer.diagnoses == ()


def test_steal_is_outside_this_host_and_lowers_what_is_said_of_neighbours() -> None:
    victim = group("/l.slice/v.service", 0.36, 0.95)
    other = group("/l.slice/n.service", 3.6, 0.2, weight=1000)
    found = judge(series(group("/l.slice", 3.96, 0.95), victim, other, busy=1.0, steal=0.2)).diagnoses
    assert [(item.rule, item.confidence.value) for item in found] == [("C5", "high"), ("C3", "medium")]
    assert judge(series(victim, busy=0.5, steal=0.03)).diagnoses == ()


def test_a_short_time_makes_nothing_sure() -> None:
    found = judge(series(group("/a.service", 0.5, 0.99, **_QUOTA), seconds=2.0, parts=2)).diagnoses
    assert [item.confidence.value for item in found] == ["medium"]


def test_only_chosen_cgroups_are_victims_but_all_can_be_neighbours() -> None:
    victim = group("/a.slice/v.service", 0.36, 0.95)
    both = series(group("/a.slice", 0.36, 0.95), victim, group("/b.slice", 3.6, 0.2, weight=1000),
                  group("/c.service", 0.5, 0.9, **_QUOTA), busy=1.0)  # fmt: skip
    assert [item.cause for item in judge(both, ("/a.slice",)).diagnoses] == ["/b.slice"]


def test_an_inner_level_is_named_itself_only_where_nobody_below_is() -> None:
    """A depth of reading that ends at the slice, or services that are gone."""
    level = group("/a.slice", 0.5, 0.99, **_QUOTA)
    calm = group("/a.slice/v.service", 0.0, 0.0)
    assert _rules(judge(series(level, calm)).diagnoses) == [("C1", "/a.slice", "/a.slice", "high")]


def test_a_unit_whose_name_begins_with_a_dash_is_no_option() -> None:
    found = judge(series(group("/-x.service", 0.5, 0.99, **_QUOTA))).diagnoses
    assert found[0].remedies[0].commands == (("systemctl", "set-property", "--", "-x.service", "CPUQuota=220%"),)


def test_without_the_cpu_controller_no_weight_counts_and_it_is_the_first_thing_to_enable() -> None:
    """Two threads against eight: all ten compete as equals."""
    victim = group("/l.slice/v.service", 0.8, 0.9, tasks=2, divided=False)
    other = group("/l.slice/n.service", 3.2, 0.9, divided=False)
    found = judge(series(group("/l.slice", 4.0, 0.95), victim, other, busy=1.0)).diagnoses
    assert _rules(found) == [("C4", "/l.slice/v.service", "", "low")]
    assert found[0].remedies[0].title == "set CPUWeight=100 for v.service"


@pytest.mark.parametrize("weight", [100, 1000])
def test_who_fills_its_own_cpus_is_not_told_to_blame_a_neighbour_on_others(weight: int) -> None:
    """Its threads wait for each other: nobody else could run less and help it."""
    victim = group("/a.service", 0.98, 0.99, allowed=1)
    answer = judge(series(victim, group("/b.service", 3.0, 0.5, weight=weight, allowed=3), busy=1.0))
    assert [item for item in answer.diagnoses if item.victim == "/a.service"] == []
    (finding,) = [item for item in answer.findings if item.subject == "a.service"]
    assert finding.status.value == "unverified"
    assert "it used all of the CPUs that it may run on (1)" in finding.message
    assert "AllowedCPUs" in finding.remedies[0].title
    # With room on its CPUs, it is the neighbour.
    shared = group("/a.service", 0.5, 0.99, allowed=2)
    found = judge(series(shared, group("/b.service", 3.4, 0.5, weight=1000), busy=1.0)).diagnoses
    assert [(item.rule, item.cause) for item in found if item.victim == "/a.service"] == [("C3", "/b.service")]


def test_a_neighbour_that_runs_on_other_cpus_is_not_the_cause() -> None:
    mine, others = frozenset({0, 1}), frozenset({2, 3})
    victim = group("/a.service", 0.5, 0.9, allowed=2, cpuset=mine)
    far = group("/far.service", 2.0, 0.5, weight=1000, allowed=2, cpuset=others)
    near = group("/near.service", 1.5, 0.5, weight=500, allowed=2, cpuset=mine)
    found = judge(series(victim, far, near, busy=1.0)).diagnoses
    assert [(item.rule, item.cause) for item in found if item.victim == "/a.service"] == [("C3", "/near.service")]
    found = judge(series(victim, far, busy=1.0)).diagnoses
    assert {item.cause for item in found if item.victim == "/a.service"} <= {""}, "nobody is blamed"
