"""Two snapshots to the numbers of a window."""

import errno

import pytest

from cgroup_preflight.core.records import replace
from cgroup_preflight.metrics.samples import Sample, Snapshot
from cgroup_preflight.rollout.windows import Services, Watched, kills, neighbours_of, troubles, window_of

WATCHED = Watched(units=("/api.slice",), control=("/old.slice",), neighbours=("/db.slice",))


def files(*, periods=0, throttled=0, cpu=0, memory=0, full=0, high=0, kills=0):
    return {
        "cpu.stat": f"usage_usec 5\nnr_periods {periods}\nnr_throttled {throttled}\n".encode(),
        "cpu.pressure": f"some avg10=0.00 avg60=0.00 avg300=0.00 total={cpu}\n".encode(),
        "memory.pressure": f"some avg10=0.00 avg60=0.00 avg300=0.00 total={memory}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n".encode(),
        "memory.events": f"low 0\nhigh {high}\nmax 0\noom 0\noom_kill {kills}\n".encode(),
    }  # fmt: skip


def snapshot(seconds, ids=None, **slices):
    return Snapshot(
        started_ns=int(seconds * 1e9), stamp_ns=int(seconds * 1e9), wall=seconds, errors={},
        samples={
            f"/{name}.slice": Sample(cgroup=f"/{name}.slice", cgroup_id=(ids or {}).get(name, 1), stamp_ns=int(seconds * 1e9), files=files(**numbers))
            for name, numbers in slices.items()
        },
    )  # fmt: skip


def found(after, ids=None, **changed):
    before = snapshot(0, api={}, old={}, db={})
    return window_of(
        before, snapshot(10, ids, **{"api": {}, "old": {}, "db": {}} | after), WATCHED, stalled_max=0.1, **changed
    )


def test_shares_and_rates():
    window = found({
        "api": {"periods": 100, "throttled": 25, "cpu": 2_000_000, "full": 500_000, "high": 20}, "old": {"periods": 100, "throttled": 5},
        "db": {"memory": 3_000_000},
    })  # fmt: skip
    assert (window.seconds, window.periods, window.throttled) == (10.0, 100, 0.25)
    assert (window.cpu_waiting, window.memory_stalled, window.memory_events) == (0.2, 0.05, 2.0)
    assert (window.control_throttled, window.neighbours) == (0.05, {"db.slice": 0.3})
    assert not window.void
    assert not window.at_once


@pytest.mark.parametrize(
    ("after", "ids", "word"),
    [({}, {"api": 2}, "created again"), ({"api": {"periods": 5}}, None, ""), ({"api": {"cpu": -1}}, None, "")],
)
def test_another_cgroup_voids_the_window(after, ids, word):
    assert word in found(after, ids).void


def test_a_counter_that_went_back_voids_the_window():
    before, after = snapshot(0, api={"cpu": 100}), snapshot(10, api={"cpu": 50})
    assert "went back" in window_of(before, after, WATCHED, stalled_max=0.1).void


def test_a_slice_that_is_gone_voids_the_window():
    assert "no cgroup" in window_of(snapshot(0, api={}), snapshot(10), WATCHED, stalled_max=0.1).void


def test_what_is_taken_back_at_once():
    assert found({"api": {"kills": 1}}).at_once == ("1 OOM kill in api.slice",)
    assert "waited for memory" in found({"api": {"full": 2_000_000}}).at_once[0]
    # A kill in a neighbour is not ours, and one in another cgroup of the same name is unknown.
    assert found({"db": {"kills": 1}}).at_once == ()
    assert found({"api": {"kills": 1}}, {"api": 2}).at_once == ()
    assert kills("/a.slice", 2, 2) == kills("/a.slice", 2, 1) == ()
    assert kills("/a.slice", 2, 4) == ("2 OOM kills in a.slice",)


@pytest.mark.parametrize("name", ["memory.events", "cpu.stat", "cpu.pressure", "memory.pressure"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_exists_and_cannot_be_read_voids_the_window(name, which):
    def pair(change):
        both = [snapshot(seconds, api={"kills": 3}) for seconds in (0, 10)]
        sample = both[which].samples["/api.slice"]
        both[which] = replace(both[which], samples={"/api.slice": change(sample)})
        return window_of(both[0], both[1], WATCHED, stalled_max=0.1)

    rest = {key: text for key, text in files(kills=3).items() if key != name}
    unread = pair(lambda sample: replace(sample, files=rest, errors={name: errno.EIO}))
    assert name in unread.void
    assert unread.at_once == ()
    assert name in pair(lambda sample: replace(sample, files={**sample.files, name: b"odd"})).void
    # Without the controller, or without PSI.
    assert pair(lambda sample: replace(sample, files=rest)).void == ""
    assert pair(lambda sample: replace(sample, files=rest, errors={name: errno.EOPNOTSUPP})).void == ""


def state(active="active", restarts="0"):
    return Services(states={"x.service": {"ActiveState": active, "NRestarts": restarts}})


def test_services_that_failed_or_came_again():
    assert troubles(state(), state()) == ()
    assert troubles(state(), state("failed")) == ("x.service failed",)
    assert troubles(state(), state(restarts="1")) == ("x.service was started again",)
    assert troubles(state("failed"), state("failed")) == ()
    # Somebody stopped it: that is no harm of the rollout.
    assert troubles(state(), state("inactive")) == ()


def test_neighbours_are_siblings_that_the_rollout_does_not_touch():
    paths = (
        "",
        "/a.slice",
        "/a.slice/a-b.slice",
        "/a.slice/a-c.slice",
        "/db.slice",
        "/old.slice",
        "/old.slice/x.service",
    )
    assert neighbours_of(("/a.slice/a-b.slice",), paths, ("/old.slice",)) == ("/a.slice/a-c.slice",)
    assert neighbours_of(("/a.slice",), paths, ("/old.slice",)) == ("/db.slice",)


def test_a_kernel_without_counters_gives_no_sample():
    empty = [
        Snapshot(started_ns=0, stamp_ns=at, wall=0.0, errors={}, samples={"/api.slice": Sample(cgroup="/api.slice", cgroup_id=1, stamp_ns=at, files={})})
        for at in (0, 10**10)
    ]  # fmt: skip
    assert "no counters" in window_of(*empty, WATCHED, stalled_max=0.1).void
