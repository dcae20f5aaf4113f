"""The samples of another machine, in two questions."""

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.rollout.far_samples import FarTree
from cgroup_preflight.rollout.windows import Watched, neighbours_of, window_of

MOUNT = "/sys/fs/cgroup"


class Far:
    """A host with some cgroups, which counts what it is asked."""

    def __init__(self):
        self.cgroups = {"": 1, "/api.slice": 2, "/api.slice/a.service": 3, "/db.slice": 4, "/db.slice/d.service": 5,
                        "/user.slice": 6, "/user.slice/deep.slice": 7}  # fmt: skip
        self.texts, self.asked, self.failing = {}, [], False

    def folders(self):
        self.asked.append("folders")
        return Known(value=tuple(self.cgroups.items()), source="find")

    def many(self, paths):
        paths = list(paths)
        self.asked.append(paths)
        why = Why.FAILED if self.failing else Why.ABSENT
        return {
            path: Known(value=self.texts[path].encode(), source=path)
            if path in self.texts and not self.failing else Missing(source=path, why=why)
            for path in paths
        }  # fmt: skip

    def write(self, cgroup, periods, throttled):
        self.texts[f"{MOUNT}{cgroup}/cpu.stat"] = f"nr_periods {periods}\nnr_throttled {throttled}\n"

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
