"""From old values to new ones in stages, and the order of the calls."""

from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.rollout.limits import LIMITS, PERCENT, grain, rises
from cgroup_preflight.rollout.stages import SQUEEZE, WHOLE, Way, changes, complete, groups, interpolate, stages

CAPACITY = {"CPUQuota": 4 * 1_000_000, "CPUWeight": 100, "IOWeight": 100, "MemoryMax": 8 << 30, "MemoryHigh": 8 << 30,
            "MemorySwapMax": 8 << 30, "TasksMax": 32768}  # fmt: skip
M = 1 << 20


def way(*slices: str, steps=(500, 2500, 5000, WHOLE), order=()) -> Way:
    return Way(steps=steps, groups=groups(slices, order), capacity=CAPACITY, page=4096)


def quota(percent):
    return {"CPUQuota": None if percent is None else percent * PERCENT}


def test_a_quota_goes_its_way_in_whole_percents():
    found = stages({"api.slice": quota(200)}, {"api.slice": quota(100)}, way("api.slice"))
    assert [stage.values["api.slice"]["CPUQuota"] // PERCENT for stage in found] == [195, 175, 150, 100]
    assert [stage.share for stage in found] == [500, 2500, 5000, WHOLE]


def test_from_no_limit_the_way_begins_at_what_the_host_has_and_to_no_limit_it_ends_there():
    down = stages({"api.slice": quota(None)}, {"api.slice": quota(200)}, way("api.slice"))
    assert [stage.values["api.slice"]["CPUQuota"] // PERCENT for stage in down] == [390, 350, 300, 200]
    up = stages({"api.slice": quota(200)}, {"api.slice": quota(None)}, way("api.slice"))
    assert [stage.values["api.slice"]["CPUQuota"] for stage in up] == [
        210 * PERCENT,
        250 * PERCENT,
        300 * PERCENT,
        None,
    ]
    # A limit above what the host has changes nothing until the end.
    assert len(stages({"api.slice": quota(None)}, {"api.slice": quota(900)}, way("api.slice"))) == 1


def test_a_step_that_changes_nothing_is_no_stage():
    found = stages({"api.slice": quota(100)}, {"api.slice": quota(101)}, way("api.slice"))
    assert [stage.values["api.slice"]["CPUQuota"] // PERCENT for stage in found] == [101]
    assert stages({"api.slice": quota(100)}, {"api.slice": quota(100)}, way("api.slice")) == ()


def test_slices_of_the_order_go_first_and_keep_their_values():
    old = {"a.slice": quota(100), "b.slice": quota(100)}
    new = {"a.slice": quota(200), "b.slice": quota(200)}
    found = stages(old, new, way("a.slice", "b.slice", order=("b.slice",), steps=(5000, WHOLE)))
    assert [(stage.values["a.slice"]["CPUQuota"] // PERCENT, stage.values["b.slice"]["CPUQuota"] // PERCENT) for stage in found] == [
        (100, 150), (100, 200), (150, 200), (200, 200)]  # fmt: skip
    assert [stage.slices for stage in found] == [("b.slice",)] * 2 + [("a.slice",)] * 2


def test_memory_high_goes_below_memory_max_before_that_goes_down_and_comes_back():
    old = {"api.slice": {"MemoryMax": 512 * M, "MemoryHigh": None}}
    new = complete(old, {"api.slice": {"MemoryMax": 256 * M}})
    found = stages(old, new, way("api.slice", steps=(5000, WHOLE)))
    assert [stage.squeeze for stage in found] == [True, False, True, False]
    assert found[0].values["api.slice"]["MemoryMax"] == 512 * M
    assert found[0].values["api.slice"]["MemoryHigh"] == 384 * M * SQUEEZE // 100 // 4096 * 4096
    assert found[1].values["api.slice"] == {"MemoryMax": 384 * M, "MemoryHigh": None}
    assert found[3].values == new


def test_a_memory_high_that_is_low_enough_stays():
    old = {"api.slice": {"MemoryMax": 512 * M, "MemoryHigh": 100 * M}}
    new = complete(old, {"api.slice": {"MemoryMax": 256 * M}})
    found = stages(old, new, way("api.slice"))
    assert {stage.values["api.slice"]["MemoryHigh"] for stage in found} == {100 * M}
    assert not any(stage.squeeze for stage in found)


def test_memory_that_goes_up_needs_no_squeeze():
    old = {"api.slice": {"MemoryMax": 256 * M, "MemoryHigh": None}}
    new = complete(old, {"api.slice": {"MemoryMax": 512 * M}})
    assert not any(stage.squeeze for stage in stages(old, new, way("api.slice")))


def test_more_goes_from_the_outside_in_and_less_from_the_inside_out():
    old = {"a.slice": {"CPUQuota": 100, "TasksMax": 50}, "a-b.slice": {"CPUQuota": 100, "TasksMax": 50}}
    new = {"a.slice": {"CPUQuota": 200, "TasksMax": 20}, "a-b.slice": {"CPUQuota": 200, "TasksMax": 20}}
    assert [(change.unit, dict(change.values)) for change in changes(old, new)] == [
        ("a.slice", {"CPUQuota": 200}), ("a-b.slice", {"CPUQuota": 200}),
        ("a-b.slice", {"TasksMax": 20}), ("a.slice", {"TasksMax": 20}),
    ]  # fmt: skip


values = st.one_of(st.none(), st.integers(1, 400).map(lambda n: n * PERCENT))
memory = st.one_of(st.none(), st.integers(4096, 2 << 20).map(lambda n: n * 4096))
units = st.fixed_dictionaries({
    "a.slice": st.fixed_dictionaries({"CPUQuota": values, "MemoryMax": memory, "MemoryHigh": memory}),
    "a-b.slice": st.fixed_dictionaries({"CPUQuota": values, "MemoryMax": memory, "MemoryHigh": memory}),
})  # fmt: skip


@given(old=units, new=units, order=st.sampled_from([(), ("a.slice",), ("a-b.slice", "a.slice")]))
def test_every_way_ends_at_the_new_values_and_no_stage_leaves_it(old, new, order):
    found = stages(old, new, way("a.slice", "a-b.slice", order=order))
    assert (found[-1].values if found else old) == new
    before = old
    for stage in found:
        assert stage.values != before
        # The calls between two stages lead exactly from one to the other.
        played = {unit: dict(values) for unit, values in before.items()}
        for change in changes(before, stage.values):
            played[change.unit] |= change.values
        assert played == stage.values
        before = stage.values


@given(name=st.sampled_from(sorted(LIMITS)), old=memory, new=memory, share=st.integers(1, WHOLE))
def test_a_value_between_is_between_and_whole(name, old, new, share):
    size = grain(name, 4096)
    old, new = (None if item is None else max(item // size * size, size) for item in (old, new))
    found = interpolate(name, old, new, share, way("a.slice"))
    if found in (old, new):
        return
    assert found is not None
    assert found % size == 0
    low, high = sorted(CAPACITY[name] if item is None else item for item in (old, new))
    assert low <= found <= high
    assert rises(old, found) == rises(old, new)
