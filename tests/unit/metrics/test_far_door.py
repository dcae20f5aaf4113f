"""The cgroups of another machine, read through its door."""

import pytest

from cgroup_preflight.core.reading import Missing, Why
from cgroup_preflight.host.local import LocalFiles
from cgroup_preflight.metrics.far_door import FarDoor
from cgroup_preflight.metrics.tree import Tree


class Far(LocalFiles):
    """Counts its round trips: one for each batch, and one for each read that no batch answers."""

    def __init__(self):
        super().__init__()
        self.batch, self.trips, self.lost = {}, 0, False

    def forget(self):
        self.batch = {}

    def prefetch(self, paths):
        self.trips += 1
        self.batch = {path: LocalFiles.data(self, path) for path in paths}

    def data(self, path):
        if self.lost:
            return Missing(source=path, why=Why.FAILED)
        if path in self.batch:
            return self.batch.pop(path)
        self.trips += 1
        return super().data(path)

    def folders(self, path):
        self.trips += 1
        return Missing(source=path, why=Why.FAILED) if self.lost else super().folders(path)


@pytest.fixture
def mount(tmp_path):
    for cgroup in ("", "a.slice", "a.slice/x.service", "b.slice"):
        folder = tmp_path / cgroup
        folder.mkdir(exist_ok=True)
        for name, text in (("cgroup.procs", ""), ("cpu.stat", "usage_usec 1\n"), ("memory.current", "5\n"),
                           ("cgroup.stat", "nr_descendants 1\n")):  # fmt: skip
            (folder / name).write_text(text)
    return tmp_path


def test_the_second_reading_is_one_batch(mount):
    files = Far()
    tree = Tree(FarDoor(files, str(mount)))
    first = tree.snapshot(full=True)
    assert "/a.slice/x.service" in first.samples
    (mount / "a.slice/cpu.stat").write_text("usage_usec 7\n")
    before = files.trips
    second = tree.snapshot(full=True)
    assert second.samples["/a.slice"].files["cpu.stat"] == b"usage_usec 7\n"
    assert files.trips - before <= 1 + len(first.samples), "one batch, and one list of each folder"


def test_a_lost_connection_is_no_cgroup_without_use(mount):
    files = Far()
    tree = Tree(FarDoor(files, str(mount)))
    tree.snapshot(full=True)
    files.lost = True
    assert tree.snapshot(full=True).samples == {}
