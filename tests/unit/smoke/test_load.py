"""The load probe of weights: what runs where, what is judged, and every way to pass, to fail and to be unverified."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.report import Status
from cgroup_preflight.plan.shares import shares
from cgroup_preflight.smoke.load import HOGS_MAX, LoadPlan, few_cpus, plan_load
from cgroup_preflight.smoke.load_findings import (
    POINTS_MAX,
    LoadHost,
    LoadWindow,
    is_clear,
    judge_load,
    level_shares,
    untested,
    without_effect,
)
from tests.unit.smoke.fabricate import SCOPE, plan

TEXT = """\
[slices.api]
CPUWeight = 300
[slices.batch]
CPUWeight = 100
[services.a]
binary = "a"
slice = "api"
CPUWeight = 200
MemoryMax = "64M"
TasksMax = 1
[services.b]
binary = "b"
slice = "api"
CPUQuota = "150%"
[services.c]
binary = "c"
slice = "batch"
"""
TWO = frozenset(range(2))
QUIET = LoadHost(planned_seconds=100.0)
API, A, B = f"{SCOPE}-api.slice", f"{SCOPE}-a.service", f"{SCOPE}-b.service"


def load_of(text: str = TEXT) -> LoadPlan:
    load, reason = plan_load(SCOPE, plan(text), TWO)
    assert reason == ""
    assert load is not None
    return load


def used(load: LoadPlan, seconds: float = 3.0, **factors: float) -> dict[str, float]:
    """What the model says, except that the service or slice of the config with a factor uses that much of it."""
    given = shares(load.tree.top)
    found = {name: float(share) * seconds for name, share in given.items()}
    for short, factor in factors.items():
        (unit,) = [name for name in found if name.removeprefix(f"{SCOPE}-").partition(".")[0] == short]
        found[unit] *= factor
    return found


def window(load: LoadPlan, **changed: object) -> LoadWindow:
    values: dict[str, object] = {"seconds": 3.0, "used": used(load)}
    return LoadWindow(**(values | changed))  # type: ignore[arg-type]


def judged(
    load: LoadPlan, *windows: LoadWindow, host: LoadHost = QUIET, required: bool = True
) -> tuple[Status, str]:  # fmt: skip
    (finding,) = judge_load(load, windows, host, required=required)
    assert finding.code == "CGP517"
    assert finding.status is Status.PASS or finding.remedies
    return finding.status, finding.message


def test_each_service_has_a_process_in_its_place_with_its_weight_and_cpus_alone() -> None:
    load = load_of()
    assert [item.unit for item in load.hogs] == [f"{SCOPE}-_load-{number}.service" for number in range(3)]
    assert [item.in_slice for item in load.hogs] == [API, API, f"{SCOPE}-batch.slice"]
    assert [[one.property for one in item.settings] for item in load.hogs] == [["CPUWeight"], [], []]
    assert list(load.unit_of.values()) == [A, B, f"{SCOPE}-c.service"]
    assert load.top == f"{SCOPE}.slice"


def test_all_run_on_one_cpu_where_the_plan_allows_it() -> None:
    load = load_of()
    assert load.cpus == frozenset({1})
    assert set(load.masks.values()) == {0b10}
    pinned = load_of(TEXT.replace('binary = "c"', 'binary = "c"\nAllowedCPUs = "0"'))
    assert pinned.cpus == frozenset({0})
    apart = load_of(TEXT.replace('binary = "c"', 'binary = "c"\nAllowedCPUs = "0"').replace(
        'binary = "b"', 'binary = "b"\nAllowedCPUs = "1"'))  # fmt: skip
    assert apart.cpus == TWO
    assert list(apart.masks.values()) == [0b11, 0b10, 0b01]


@given(st.lists(st.frozensets(st.integers(0, 9), min_size=1), max_size=8))
def test_each_list_has_one_of_the_few_cpus(lists: list[frozenset[int]]) -> None:
    few = few_cpus(lists)
    assert all(item & few for item in lists)
    assert len(few) <= len(set(lists))
    common = frozenset.intersection(*lists) if lists else frozenset()
    if common:
        assert few == {max(common)}


def test_quotas_limits_of_tasks_and_programs_do_not_count() -> None:
    load = load_of(TEXT.replace("CPUWeight = 300\n", "CPUWeight = 300\nTasksMax = 1\n"))
    assert load.tree.entries[API].limits == ()
    assert load.tree.entries[A].limits == load.tree.entries[B].limits == ()


def test_of_services_with_the_same_settings_two_take_part() -> None:
    more = "".join(f'[services.s{number:02}]\nbinary = "s"\nslice = "batch"\n' for number in range(40))
    load = load_of(TEXT + more)
    assert list(load.unit_of.values()) == [A, B, f"{SCOPE}-c.service", f"{SCOPE}-s00.service"]


def test_of_too_many_cases_as_many_as_possible_take_part() -> None:
    more = "".join(
        f'[services.s{number:02}]\nbinary = "s"\nslice = "batch"\nCPUWeight = {number + 1}\n' for number in range(40)
    )
    load = load_of(TEXT + more)
    assert len(load.hogs) == HOGS_MAX
    assert {API, f"{SCOPE}-batch.slice"} <= {node.name for node in load.parents()}


def test_what_the_model_says_passes() -> None:
    load = load_of()
    assert judged(load, *[window(load)] * 3)[0] is Status.PASS
    shown = {level.unit: level.expected for level in level_shares(load, [window(load)])}
    assert shown[API] == pytest.approx(75, abs=1e-3)
    assert shown[A] == pytest.approx(200 / 3, abs=1e-3)


def test_a_slice_is_judged_by_what_it_had_so_that_an_error_above_is_not_one_below() -> None:
    load = load_of()
    wrong = used(load)
    for name, factor in ((API, 2 / 3), (A, 2 / 3), (B, 2 / 3), (f"{SCOPE}-batch.slice", 2), (f"{SCOPE}-c.service", 2)):
        wrong[name] *= factor
    errors = {level.unit: level.error for level in level_shares(load, [window(load, used=wrong)])}
    assert errors[API] == pytest.approx(-25, abs=0.01)
    assert errors[A] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("factor", "status"), [(1.05, Status.PASS), (0.95, Status.PASS), (1.4, Status.FAIL), (0.6, Status.FAIL)]
)
def test_more_than_three_points_are_a_fail_on_a_quiet_machine(factor: float, status: Status) -> None:
    load = load_of()
    found, message = judged(load, *[window(load, used=used(load, a=factor))] * 3)
    assert found is status
    assert ("on a quiet machine" in message) is (status is Status.FAIL)
    assert ("a.service" in message or "b.service" in message) is (status is Status.FAIL)


@pytest.mark.parametrize(
    ("changed", "status", "says"),
    [
        ({"steal": 0.02}, Status.FAIL, "quiet"),
        ({"steal": 0.5}, Status.UNVERIFIED, "steal"),
        ({"others": 0.05}, Status.FAIL, "quiet"),
        ({"others": 0.3}, Status.UNVERIFIED, "outside of the run used 10.0%"),
    ],
)
def test_steal_and_other_load_make_an_error_unverified(changed: Mapping[str, float], status: Status, says: str) -> None:
    load = load_of()
    found, message = judged(load, *[window(load, used=used(load, a=0.5), **changed)] * 3)
    assert (found, says in message) == (status, True)
    assert judged(load, *[window(load, **changed)] * 3)[0] is Status.PASS


def test_a_named_cause_is_a_fail_whatever_the_load_is() -> None:
    load = load_of()
    wrong = [window(load, used=used(load, a=0.5), steal=0.5)] * 3
    found, message = judged(load, *wrong, host=LoadHost(planned_seconds=100.0, undivided=(API,)))
    assert (found, "cpu controller is not enabled in api.slice" in message) == (Status.FAIL, True)
    found, message = judged(load, *wrong, host=LoadHost(planned_seconds=100.0, other_scheduler="scx_\x1b"))
    assert (found, "scx_\\x1b" in message) == (Status.FAIL, True)
    assert (
        judged(load, *[window(load)] * 3, host=LoadHost(planned_seconds=100.0, other_scheduler="scx_x"))[0]
        is Status.PASS
    )


def test_weights_without_the_controller_are_a_warning_where_the_config_does_not_require_it() -> None:
    load = load_of()
    wrong = [window(load, used=used(load, a=0.5))] * 3
    host = LoadHost(planned_seconds=100.0, undivided=(API,), autogroup=True)
    found, message = judged(load, *wrong, host=host, required=False)
    assert (found, "sched_autogroup" in message) == (Status.WARN, True)
    assert judged(load, *wrong, required=False)[0] is Status.FAIL


def test_repeats_that_differ_are_unverified() -> None:
    load = load_of()
    windows = [window(load, used=used(load, a=factor)) for factor in (0.3, 0.5, 0.5, 1.0)]
    found, message = judged(load, *windows)
    assert (found, "repeats differ" in message) == (Status.UNVERIFIED, True)
    assert judged(load, windows[0])[0] is Status.UNVERIFIED


def test_many_short_windows_are_judged_in_four_parts() -> None:
    """In each short window for itself, a scheduler gives now more and now less."""
    load = load_of()
    windows = [window(load, used=used(load, a=factor), seconds=3.0) for factor in (0.2, 0.9) * 8]
    assert judged(load, *windows)[0] is Status.FAIL
    (level,) = [item for item in level_shares(load, windows) if item.unit == A]
    assert len(level.repeats) == 4


def test_cpu_lists_that_overlap_in_part_are_a_warning() -> None:
    load = load_of(TEXT.replace('binary = "c"', 'binary = "c"\nAllowedCPUs = "0"').replace(
        'binary = "b"', 'binary = "b"\nAllowedCPUs = "1"'))  # fmt: skip
    found, message = judged(load, *[window(load, used=used(load, a=0.5))] * 3)
    assert (found, "CPU lists overlap" in message) == (Status.WARN, True)


def test_clear_is_as_planned_in_both_halves_and_only_then() -> None:
    load = load_of()
    good, less, more = (window(load, used=used(load, a=factor)) for factor in (1.0, 0.6, 1.3))
    assert is_clear(load, [good] * 4, 33)
    assert not is_clear(load, [good] * 3, 33)
    assert not is_clear(load, [less, less, more, more], 33)
    assert not is_clear(load, [less] * 32, 33)
    assert is_clear(load, [less, more, less, more], 33)


def test_a_short_measurement_ends_only_for_a_smaller_error() -> None:
    load = load_of()

    def short(factor: float) -> LoadWindow:
        parts = {name: value / 30 for name, value in used(load, a=factor).items()}
        return window(load, used=parts, seconds=0.1)

    largest = {
        factor: max(abs(level.error) for level in level_shares(load, [short(factor)] * 8)) for factor in (0.95, 0.93)
    }
    assert largest[0.95] < 1.3 < largest[0.93] < POINTS_MAX
    assert [is_clear(load, [short(0.95)] * count, 10.0) for count in (5, 6, 12)] == [False, True, True]
    assert [is_clear(load, [short(0.93)] * count, 10.0) for count in (6, 16, 17)] == [False, False, True]


def test_parts_have_the_same_time_where_windows_have_not() -> None:
    """The first windows are short, and in those a scheduler gives now more and now less."""
    load = load_of()

    def windows(first: tuple[float, float], later: float) -> list[LoadWindow]:
        lengths = [(0.1, first[number % 2]) for number in range(12)] + [(0.3, later)] * 30
        return [
            window(load, used={name: value / 3 * length for name, value in used(load, a=factor).items()}, seconds=length)
            for length, factor in lengths
        ]  # fmt: skip

    wrong = windows((0.5, 1.4), 0.7)
    (level,) = [item for item in level_shares(load, wrong) if item.unit == A]
    assert len(level.repeats) == 4
    assert level.is_steady()
    assert judged(load, *wrong)[0] is Status.FAIL


def test_a_small_slice_needs_as_much_time_of_its_own_for_a_larger_error() -> None:
    load = load_of(TEXT.replace("CPUWeight = 100", "CPUWeight = 900"))
    # Two CPUs, of which the slice `api` has 10 %: 0.2 s in each second.
    parts = {name: value / 10 for name, value in used(load, a=0.93).items()}
    short = window(load, used=parts, seconds=0.3)
    seconds = sum(short.used[name] for name in (A, B))
    error = max(abs(level.error) for level in level_shares(load, [short] * 40))
    assert 1.3 < error < POINTS_MAX
    enough = -int(-1.2 // seconds)
    assert [is_clear(load, [short] * count, 30.0) for count in (enough - 1, enough + 1)] == [False, True]


def test_what_has_too_little_time_so_far_is_waited_for_only_if_it_comes() -> None:
    load = load_of(TEXT.replace("CPUWeight = 100", "CPUWeight = 900"))
    parts = {name: value / 10 for name, value in used(load).items()}
    short = window(load, used=parts, seconds=0.3)
    assert [is_clear(load, [short] * count, 33) for count in (4, 5, 6)] == [False, False, True]
    idle = load_of(TEXT.replace("CPUWeight = 300", 'CPUWeight = "idle"'))
    assert is_clear(idle, [window(idle, used={k: v / 10 for k, v in used(idle).items()}, seconds=0.3)] * 7, 33)


def test_findings_without_a_measurement() -> None:
    assert untested("no room").status is Status.UNVERIFIED
    assert without_effect("quota").status is Status.SKIP


def test_nothing_used_is_unverified_and_a_slice_with_little_time_is_not_judged() -> None:
    load = load_of()
    assert judged(load, window(load, used={}))[0] is Status.UNVERIFIED
    idle = load_of(TEXT.replace("CPUWeight = 300", 'CPUWeight = "idle"'))
    windows = [window(idle, used=used(idle, a=0.1))] * 3
    assert A not in {level.unit for level in level_shares(idle, windows)}
    assert judged(idle, *windows)[0] is Status.PASS


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("CPUWeight = 300\n", "").replace("CPUWeight = 100\n", "").replace("CPUWeight = 200\n", ""),
        '[slices.api]\nCPUWeight = 5\n[services.a]\nbinary = "a"\nslice = "api"\nCPUWeight = 5\n',
    ],
    ids=["no weights", "no siblings"],
)
def test_no_probe_where_no_weight_can_have_an_effect(text: str) -> None:
    assert plan_load(SCOPE, plan(text), TWO) == (None, "")


def test_where_cpu_lists_decide_whatever_the_weights_are_there_is_a_reason_and_no_probe() -> None:
    text = "[slices.api]\n" + "".join(
        f'[services.s{cpu}]\nbinary = "s"\nslice = "api"\nAllowedCPUs = "{cpu}"\nCPUWeight = {cpu + 5}\n'
        for cpu in range(2)
    )  # fmt: skip
    load, reason = plan_load(SCOPE, plan(text), TWO)
    assert (load, reason.startswith("its CPU lists decide")) == (None, True)
    assert plan_load(SCOPE, plan(text.replace('"1"', '"0-1"')), TWO)[0] is not None


def test_a_measurement_that_was_made_to_wait_is_unverified() -> None:
    load = load_of()
    wrong = [window(load, used=used(load, a=0.5))] * 3
    host = LoadHost(planned_seconds=4.0)
    found, message = judged(load, *wrong, host=host)
    assert (found, "4.0 s of measurement took 9.0 s" in message) == (Status.UNVERIFIED, True)
    assert judged(load, *[window(load)] * 3, host=host)[0] is Status.PASS


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 3.0), st.floats(0, 1.0), st.floats(0, 1.0))
def test_no_verdict_but_a_pass_within_three_points_and_never_a_pass_beyond(
    factor: float, steal: float, others: float
) -> None:
    load = load_of()
    windows = [window(load, used=used(load, c=factor), steal=steal, others=others)] * 3
    worst = max(abs(level.error) for level in level_shares(load, windows))
    assert (judged(load, *windows)[0] is Status.PASS) is (worst <= POINTS_MAX)


def test_a_cpu_list_outside_of_the_cpus_of_this_job_is_in_force_where_the_machine_has_them() -> None:
    """The job may use 0 and 1 of four CPUs: the service with 2 and 3 does not compete on them."""
    machine = frozenset(range(4))
    text = TEXT.replace('binary = "c"', 'binary = "c"\nAllowedCPUs = "2-3"')
    load, _ = plan_load(SCOPE, plan(text), TWO, machine)
    assert load is not None
    assert (load.cpus, list(load.masks.values())) == (frozenset({1, 3}), [0b0010, 0b0010, 0b1000])
    assert shares(load.tree.top)[f"{SCOPE}-c.service"] == 1
    across, _ = plan_load(SCOPE, plan(text.replace("2-3", "0,3")), TWO, machine)
    assert across is not None
    assert (across.cpus, set(across.masks.values())) == (frozenset({0}), {1})


SAME = TEXT.replace("CPUWeight = 200", "CPUWeight = 105").replace("CPUWeight = 300", "CPUWeight = 110")


@pytest.mark.parametrize(("required", "status"), [(True, Status.FAIL), (False, Status.WARN)])
def test_without_the_controller_shares_that_are_right_by_chance_do_not_pass(required: bool, status: Status) -> None:
    load = load_of(SAME)
    host = LoadHost(planned_seconds=100.0, undivided=(API,))
    found, message = judged(load, *[window(load)] * 3, host=host, required=required)
    assert found is status
    assert message.startswith("CPUWeight of a.service has no effect: the cpu controller is not enabled in api.slice")
    unset = load_of(TEXT.replace("CPUWeight = 200\n", ""))
    assert judged(unset, *[window(unset)] * 3, host=host)[0] is Status.PASS


def test_a_pass_says_where_weights_are_too_equal_to_show_that_they_count() -> None:
    for text, telling in ((SAME, False), (TEXT, True)):
        load = load_of(text)
        found, message = judged(load, *[window(load)] * 3)
        assert (found, "without weights they would be the same" in message) == (Status.PASS, not telling)
