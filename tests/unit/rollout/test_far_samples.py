"""The samples of another machine, in two questions."""

import time

import pytest

from cgroup_preflight.config.rollout import Thresholds
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.remote.stamps import AFTER, BEFORE
from cgroup_preflight.rollout.far_samples import FarTree
from cgroup_preflight.rollout.judge import Verdict, judge
from cgroup_preflight.rollout.windows import Watched, neighbours_of, window_of

MOUNT = "/sys/fs/cgroup"


class Far:
    """A host with some cgroups, which counts what it is asked."""

    def __init__(self):
        self.cgroups = {"": 1, "/api.slice": 2, "/api.slice/a.service": 3, "/db.slice": 4, "/db.slice/d.service": 5,
                        "/user.slice": 6, "/user.slice/deep.slice": 7}  # fmt: skip
        self.texts, self.asked, self.failing = {}, [], False
        #: Seconds on the host's own clock: when a question is read, and how long it takes until its last file is read.
        self.now, self.takes, self.clock = 100.0, 0.0, True
        #: What the answer takes to come here, seconds.
        self.late = 0.0

    def folders(self):
        self.asked.append("folders")
        return Known(value=tuple(self.cgroups.items()), source="find")

    def many(self, paths):
        paths = list(paths)
        self.asked.append(paths)
        why = Why.FAILED if self.failing else Why.ABSENT
        if self.clock:
            for path, now in ((BEFORE, self.now), (AFTER, self.now + self.takes)):
                self.texts[path] = f"{now:.2f} 12.00\n"
        time.sleep(self.late)
        return {
            path: Known(value=self.texts[path].encode(), source=path)
            if path in self.texts and not self.failing else Missing(source=path, why=why)
            for path in paths
        }  # fmt: skip

    def write(self, cgroup, periods, throttled):
        self.texts[f"{MOUNT}{cgroup}/cpu.stat"] = f"nr_periods {periods}\nnr_throttled {throttled}\n"

    def stall(self, seconds):
        total = round(seconds * 1e6)
        self.texts[f"{MOUNT}/api.slice/memory.pressure"] = (
            f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n"
        )

    def tree(self, control=()):
        return FarTree(self, self.folders, MOUNT, units=["/api.slice"], control=control)


@pytest.fixture
def far():
    found = Far()
    for cgroup in found.cgroups:
        found.write(cgroup, 10, 0)
    return found


def test_a_reading_is_two_questions_about_what_matters(far):
    found = far.tree().snapshot(full=True)
    assert set(found.samples) == {"/api.slice", "/api.slice/a.service", "/db.slice", "/user.slice"}
    assert len(far.asked) == 2
    assert found.samples["/api.slice"].cgroup_id == 2
    assert "/user.slice/deep.slice" in far.tree(control=["/user.slice/deep.slice"]).snapshot().samples


def test_the_numbers_are_those_of_this_machines_readings(far):
    tree = far.tree()
    before = tree.snapshot()
    far.write("/api.slice", 110, 50)
    far.now += 10
    after = tree.snapshot()
    watched = Watched(units=("/api.slice",), neighbours=neighbours_of(["/api.slice"], after.samples, []))
    window = window_of(before, after, watched, stalled_max=0.1)
    assert (window.void, window.periods, window.throttled) == ("", 100, 0.5)
    assert watched.neighbours == ("/db.slice", "/user.slice")


def test_another_cgroup_of_the_same_name_and_one_that_is_gone_are_no_numbers(far):
    tree, watched = far.tree(), Watched(units=("/api.slice",))
    before = tree.snapshot()
    far.cgroups["/api.slice"] = 99
    assert "created again" in window_of(before, tree.snapshot(), watched, stalled_max=0.1).void
    del far.texts[f"{MOUNT}/api.slice/cpu.stat"]
    assert "no cgroup" in window_of(before, tree.snapshot(), watched, stalled_max=0.1).void


def test_a_host_without_an_answer_is_an_error_and_no_idle_host(far):
    far.failing = True
    with pytest.raises(HostError, match="cannot be read"):
        far.tree().snapshot()
    with pytest.raises(HostError, match="cannot be read"):
        FarTree(far, lambda: Missing(source="x", why=Why.FAILED), MOUNT, units=["/a.slice"], control=[]).snapshot()


def test_a_file_that_nobody_may_read_voids_the_window(far):
    tree, watched = far.tree(), Watched(units=("/api.slice",))
    before, real = tree.snapshot(), far.many
    path = f"{MOUNT}/api.slice/memory.events"
    far.many = lambda paths: {**real(paths), path: Missing(source=path, why=Why.DENIED, errno=13)}
    assert "memory.events" in window_of(before, tree.snapshot(), watched, stalled_max=0.1).void


WATCHED = Watched(units=("/api.slice",))
LIMITS = Thresholds(memory_stalled_max=0.2)


def stalled(far, limits=LIMITS, *, late=(0.0, 0.0), takes=(0.0, 0.0), passed=10.0):
    """The window of 2.5 seconds of memory pressure in 10 seconds of the host."""
    tree = far.tree()
    far.stall(0.0)
    far.late, far.takes = late[0], takes[0]
    before = tree.snapshot()
    far.now += passed
    far.stall(2.5)
    far.late, far.takes = late[1], takes[1]
    return window_of(before, tree.snapshot(), WATCHED, stalled_max=limits.memory_stalled_max)


@pytest.mark.parametrize("late", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3)])
def test_an_answer_that_comes_late_changes_no_share(far, late):
    window = stalled(far, late=late)
    assert (window.void, round(window.seconds, 6), round(window.memory_stalled, 6)) == ("", 10.0, 0.25)
    assert "25% of 10s" in window.at_once[0]
    assert window.slack == pytest.approx(0.01)


@pytest.mark.parametrize("passed", [0.0, -10.0])
def test_a_host_whose_clock_stands_still_or_goes_back_never_passes(far, passed):
    window = stalled(far, passed=passed)
    assert window.void
    assert judge((window,) * 5, (), LIMITS).verdict is Verdict.INCONCLUSIVE


def test_a_clock_that_goes_back_within_a_reading_is_an_error(far):
    far.takes = -0.01
    with pytest.raises(HostError, match="its clock goes back"):
        far.tree().snapshot()


@pytest.mark.parametrize(
    "text", [None, "", "soon\n", "12\n", "1.5 2\n", "nan 1\n", "-1.00 2\n", "9" * 40 + ".00 1\n", "1.²² 1\n"]
)
def test_an_odd_clock_or_none_is_an_error_of_one_line(far, text):
    for name in (BEFORE, AFTER):
        far.clock = True
        far.tree().snapshot()
        far.clock = False
        far.texts.pop(name) if text is None else far.texts.update({name: text})
        with pytest.raises(HostError, match="its clock cannot be read") as error:
            far.tree().snapshot()
        assert "\n" not in error.value.message


@pytest.mark.parametrize(("takes", "border"), [((5.0, 0.0), 0.3), ((0.0, 5.0), 0.2)])
def test_a_reading_that_took_long_on_the_host_decides_only_what_is_certain(far, takes, border):
    """One answer of many is five seconds late: the pressure is 25 to 50 percent of the time, or 17 to 25 percent."""
    for allowed, verdict in ((border, Verdict.INCONCLUSIVE), (0.15, Verdict.FAILED), (0.6, Verdict.SUCCESS)):
        limits, far.now = Thresholds(memory_stalled_max=allowed), 100.0
        window = stalled(far, limits, takes=takes)
        assert not window.void
        found = judge((window,) * 5, (), limits)
        assert found.verdict is verdict
        assert verdict is not Verdict.INCONCLUSIVE or "too slowly" in found.reasons[0]


def test_a_reading_that_took_longer_than_the_window_decides_nothing(far):
    assert "answered too slowly" in stalled(far, takes=(12.0, 12.0)).void
