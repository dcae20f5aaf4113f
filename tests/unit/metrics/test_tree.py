"""Which files are read again, and what happens when cgroups come and go."""

import errno
import gc
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.core.reading import value_or
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.metrics.door import LiveDoor, LiveFolder, RecordedDoor
from cgroup_preflight.metrics.kills import Ledger, Removals
from cgroup_preflight.metrics.tree import FULL_SECONDS, NEW_SECONDS, SLOW_SECONDS, Scope, Tree
from tests.unit.metrics.conftest import FakeClock

ONE, TWO, THREE = "/a.slice/one.service", "/a.slice/two.service", "/a.slice/a-n.slice/three.service"


class CountingDoor(LiveDoor):
    """Remembers which files of which cgroup were read, and can have cgroups that vanish while they are read."""

    def __init__(self, mount: str, budget: int = 10_000) -> None:
        super().__init__(mount, budget)
        self.reads: list[tuple[str, str]] = []
        self.vanished: set[str] = set()
        #: The error number of every system call, 0 for none.
        self.refused = 0
        #: Whether nothing more can be opened.
        self.no_room = False

    def check(self) -> None:
        if self.refused:
            raise OSError(self.refused, os.strerror(self.refused))

    def open(self, cgroup: str) -> LiveFolder:
        self.check()
        if self.no_room:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        folder = super().open(cgroup)
        return _CountingFolder(self, cgroup, folder)  # type: ignore[return-value]


class _CountingFolder:
    def __init__(self, door: CountingDoor, cgroup: str, folder: LiveFolder) -> None:
        self.door, self.cgroup, self.folder = door, cgroup, folder
        self.identity, self.enter, self.close = folder.identity, folder.enter, folder.close

    def _check(self) -> None:
        self.door.check()
        if self.cgroup in self.door.vanished:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def read(self, name: str, keep: bool = True) -> bytes:
        self._check()
        self.door.reads.append((self.cgroup, name))
        return self.folder.read(name, keep)

    def news(self, names: Sequence[str], known: Mapping[str, bytes]) -> dict[str, bytes]:
        self._check()
        self.door.reads += ((self.cgroup, name) for name in names if name in known)
        return self.folder.news(names, known)

    def children(self) -> object:
        return self.folder.children()


@pytest.fixture
def door(cgroups: CgroupTree) -> CountingDoor:
    return CountingDoor(str(cgroups.top))


@pytest.fixture
def tree(door: CountingDoor, clock: FakeClock) -> Tree:
    return Tree(door, clock=clock)


def _read(door: CountingDoor, act: Callable[[], object]) -> set[str]:
    door.reads.clear()
    act()
    return {path for path, _ in door.reads}


def test_slices_and_units_are_read_and_not_what_is_in_units(tree: Tree) -> None:
    samples = tree.snapshot().samples
    assert set(samples) == {
        "", "/a.slice", ONE, TWO, "/a.slice/a-n.slice", THREE, "/b.slice", "/init.scope", "/user.slice",
        "/user.slice/user-1000.slice", "/user.slice/user-1000.slice/user@1000.service",
    }  # fmt: skip
    assert value_or(samples[ONE].memory_current, 0) == 1048576
    assert samples[ONE].cgroup_id != samples[TWO].cgroup_id


def test_depth_shows_what_is_in_units(door: CountingDoor) -> None:
    samples = Tree(door, Scope(depth=1)).snapshot().samples
    assert "/user.slice/user-1000.slice/user@1000.service/a.slice" in samples


def test_chosen_slices_and_what_is_above_them(door: CountingDoor) -> None:
    scope = Scope(slices=("/a.slice/a-n.slice", "/b.slice", "/a.slice/a-n.slice"))
    samples = Tree(door, scope).snapshot().samples
    assert set(samples) == {"", "/a.slice", "/a.slice/a-n.slice", THREE, "/b.slice"}
    assert [path for path in samples if scope.covers(path)] == ["/a.slice/a-n.slice", THREE, "/b.slice"]
    assert Scope(slices=("/a.slice", "/a.slice/a-n.slice", "/ab.slice")).tops() == ("/a.slice", "/ab.slice")


def test_below_a_slice_without_change_nothing_is_read(tree: Tree, door: CountingDoor, cgroups: CgroupTree) -> None:
    before = tree.snapshot()
    assert _read(door, tree.snapshot) == {"", "/a.slice", "/b.slice", "/init.scope", "/user.slice"}
    cgroups.use_cpu(THREE)
    after = tree.snapshot()
    assert value_or(after.samples[THREE].cpu_stat, {})["usage_usec"] == 1000
    assert after.changed.keys() == {"", "/a.slice", "/a.slice/a-n.slice", THREE}
    assert after.samples[ONE] is before.samples[ONE]
    cgroups.use_cpu(ONE)
    read = _read(door, tree.snapshot)
    assert THREE not in read
    assert {ONE, TWO} <= read


def test_a_file_without_change_above_is_not_read_below(tree: Tree, door: CountingDoor, cgroups: CgroupTree) -> None:
    tree.snapshot()
    cgroups.use_cpu(ONE)
    door.reads.clear()
    tree.snapshot()
    assert [name for path, name in door.reads if path == ONE] == ["cpu.stat", "pids.current"]


@pytest.mark.parametrize(
    ("name", "key"),
    [("memory.pressure", "some"), ("io.pressure", "full"), ("memory.events", "high"), ("cpu.pressure", "some")],
)
def test_changes_without_cpu_time_are_seen(tree: Tree, cgroups: CgroupTree, name: str, key: str) -> None:
    tree.snapshot()
    cgroups.grow(ONE, name, key, 5)
    files = tree.snapshot().samples[ONE].files
    assert f"{key} 5" in files[name].decode() or "total=5" in files[name].decode()


def test_memory_that_changes_alone_is_seen(tree: Tree, cgroups: CgroupTree) -> None:
    tree.snapshot()
    cgroups.write("/a.slice", "memory.current", "8192\n")
    cgroups.write(ONE, "memory.current", "4096\n")
    cgroups.write(ONE, "memory.peak", "2097152\n")
    sample = tree.snapshot().samples[ONE]
    assert (value_or(sample.memory_current, 0), value_or(sample.memory_peak, 0)) == (4096, 2097152)


def test_averages_of_pressure_alone_are_no_change(tree: Tree, cgroups: CgroupTree) -> None:
    before = tree.snapshot()
    text = before.samples["/a.slice"].files["cpu.pressure"].decode().replace("avg10=0.00", "avg10=1.00")
    cgroups.write("/a.slice", "cpu.pressure", text)
    assert tree.snapshot().changed == {}
    assert tree.snapshot(full=True).changed == {}


def test_limits_are_read_within_a_minute_where_something_happens(
    tree: Tree, cgroups: CgroupTree, clock: FakeClock
) -> None:
    tree.snapshot()
    for path in (ONE, TWO):
        cgroups.write(path, "cpu.max", "50000 100000\n")
    cgroups.use_cpu(ONE)
    assert tree.snapshot().samples[ONE].files["cpu.max"] == b"max 100000\n"
    clock.forward(SLOW_SECONDS + 1)
    cgroups.use_cpu(ONE)
    samples = tree.snapshot().samples
    assert samples[ONE].files["cpu.max"] == b"50000 100000\n"


def test_limits_at_a_hint_are_read_at_once(tree: Tree, cgroups: CgroupTree) -> None:
    tree.snapshot()
    cgroups.write("/a.slice", "memory.max", "1048576\n")
    assert tree.snapshot(hints=["/a.slice", "/gone.slice"]).samples["/a.slice"].files["memory.max"] == b"1048576\n"


def test_limits_of_a_new_cgroup_are_read_again_though_nothing_happens_in_it(
    tree: Tree, door: CountingDoor, cgroups: CgroupTree, clock: FakeClock
) -> None:
    """systemd creates the cgroup first, and then writes one limit after the other."""
    tree.snapshot()
    cgroups.add("/a.slice/late.service")
    assert tree.snapshot().samples["/a.slice/late.service"].files["memory.max"] == b"max\n"
    cgroups.write("/a.slice/late.service", "memory.max", "4096\n")
    clock.forward(NEW_SECONDS)
    assert tree.snapshot().samples["/a.slice/late.service"].files["memory.max"] == b"4096\n"
    clock.forward(NEW_SECONDS)
    assert "/a.slice/late.service" not in _read(door, tree.snapshot), "once"


def test_every_cgroup_is_read_whole_within_five_minutes(tree: Tree, cgroups: CgroupTree, clock: FakeClock) -> None:
    tree.snapshot()
    for path in (ONE, THREE, "/b.slice"):
        cgroups.write(path, "memory.max", "4096\n")
        cgroups.write(path, "memory.swap.current", "4096\n")
    steps = 30
    for _ in range(2 * steps):
        clock.forward(FULL_SECONDS / steps)
        samples = tree.snapshot().samples
    for path in (ONE, THREE, "/b.slice"):
        assert samples[path].files["memory.max"] == b"4096\n", path
        assert samples[path].files["memory.swap.current"] == b"4096\n", path


def test_cgroups_come_and_go(tree: Tree, cgroups: CgroupTree) -> None:
    tree.snapshot()
    cgroups.add("/b.slice/new.service")
    cgroups.remove(TWO)
    after = tree.snapshot()
    assert "/b.slice/new.service" in after.samples
    assert TWO not in after.samples
    assert TWO in after.changed
    assert after.errors == {}, "a cgroup that is gone at the next listing is no error"


def test_a_cgroup_that_is_created_again_is_another_one(tree: Tree, door: CountingDoor, cgroups: CgroupTree) -> None:
    before = tree.snapshot().samples[ONE]
    cgroups.remove(ONE)
    cgroups.add(ONE)
    door.vanished.add(ONE)  # the kernel's answer; a plain file system has none
    cgroups.use_cpu(TWO)

    def vanish_once(path: str) -> LiveFolder:
        door.vanished.discard(path)
        return CountingDoor.open(door, path)

    door.open = vanish_once  # type: ignore[method-assign]
    after = tree.snapshot()
    assert after.samples[ONE].cgroup_id != before.cgroup_id
    assert after.errors == {"vanished": 1}


def test_a_cgroup_that_vanishes_costs_only_itself(tree: Tree, door: CountingDoor, cgroups: CgroupTree) -> None:
    tree.snapshot()
    cgroups.use_cpu(ONE)
    cgroups.use_cpu(TWO, 7)
    door.vanished.add(ONE)
    shutil.rmtree(f"{cgroups.top}{ONE}")
    after = tree.snapshot()
    assert ONE not in after.samples
    assert value_or(after.samples[TWO].cpu_stat, {})["usage_usec"] == 7
    assert after.errors == {"vanished": 1}


def test_memory_events_alone(tree: Tree, door: CountingDoor, cgroups: CgroupTree) -> None:
    tree.snapshot()
    cgroups.kill(THREE)
    cgroups.add("/a.slice/new.service")
    door.reads.clear()
    after = tree.events(["/a.slice", "/a.slice/a-n.slice", "/gone.slice"])
    assert value_or(after.samples[THREE].memory_events, {})["oom_kill"] == 1
    assert "/a.slice/new.service" in after.samples
    assert {name for path, name in door.reads if path == ONE} <= {"memory.events", "memory.events.local"}
    assert value_or(tree.snapshot().samples[THREE].cpu_stat, {})["usage_usec"] == 1


def test_a_file_that_cannot_be_read_is_counted_once(tree: Tree, cgroups: CgroupTree) -> None:
    folder = cgroups.top / "b.slice"
    (folder / "cpu.max").unlink()
    (folder / "cpu.max").symlink_to("cpu.max")
    tree.snapshot()
    after = tree.snapshot(full=True)
    assert after.errors == {"failed": 1}
    assert after.samples["/b.slice"].errors == {"cpu.max": errno.ELOOP}
    assert "cpu.max" not in after.samples["/b.slice"].files


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_moment_without_room_costs_no_cgroup(
    tree: Tree, door: CountingDoor, cgroups: CgroupTree, number: int
) -> None:
    """A cgroup that seems to be gone and comes back with its counters would show kills that there were not."""
    cgroups.kill(ONE)
    ledger = Ledger(Removals())
    first = tree.snapshot()
    ledger.update(first)
    before = first.samples
    cgroups.add("/a.slice/new.service")
    cgroups.grow(TWO, "cpu.stat", "usage_usec", 5)
    door.refused = number
    during = tree.snapshot(full=True)
    ledger.update(during)
    assert during.samples == before
    assert during.errors["failed"] > 0
    door.refused = 0
    after = tree.snapshot(full=True)
    ledger.update(after)
    assert after.samples.keys() - before.keys() == {"/a.slice/new.service"}
    assert b"usage_usec 5" in after.samples[TWO].files["cpu.stat"]
    assert ledger.kills == {}


def test_a_new_cgroup_that_could_not_be_opened_is_tried_again(
    tree: Tree, door: CountingDoor, cgroups: CgroupTree
) -> None:
    tree.snapshot()
    cgroups.add("/a.slice/new.service")
    door.no_room = True
    assert "/a.slice/new.service" not in tree.snapshot().samples
    door.no_room = False
    cgroups.grow(TWO, "cpu.stat", "usage_usec", 5)
    assert "/a.slice/new.service" in tree.snapshot().samples


def test_few_descriptors_are_enough(cgroups: CgroupTree, clock: FakeClock) -> None:
    door = LiveDoor(str(cgroups.top), budget=40)
    tree = Tree(door, clock=clock)
    tree.snapshot()
    assert door.kept < 40 + 30
    for path in (ONE, TWO, THREE, "/b.slice"):
        for _ in range(3):
            cgroups.use_cpu(path)
            tree.snapshot()
    full = Tree(LiveDoor(str(cgroups.top), budget=10_000), clock=clock).snapshot()
    now = tree.snapshot(full=True)
    assert {path: sample.files for path, sample in now.samples.items()} == {
        path: sample.files for path, sample in full.samples.items()
    }
    tree.close()
    assert door.kept == 0


def test_descriptors_are_given_back(cgroups: CgroupTree, tree: Tree) -> None:
    gc.collect()  # what other tests left must not be closed in between
    before = len(os.listdir("/proc/self/fd"))
    tree.snapshot()
    for number in range(20):
        cgroups.add(f"/b.slice/{number}.service")
    tree.snapshot()
    for number in range(20):
        cgroups.remove(f"/b.slice/{number}.service")
    tree.snapshot()
    tree.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_reader_that_is_gone_keeps_no_file_open(cgroups: CgroupTree) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    Tree(LiveDoor(str(cgroups.top))).snapshot()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_that_are_longer_than_a_page_are_read_whole(cgroups: CgroupTree, tree: Tree) -> None:
    text = "".join(f"8:{number} rbytes={number} wbytes=0 rios=0 wios=0 dbytes=0 dios=0\n" for number in range(300))
    cgroups.write(ONE, "io.stat", text)
    assert tree.snapshot().samples[ONE].files["io.stat"].decode() == text


def test_a_recorded_host_gives_the_same(cgroups: CgroupTree, tmp_path: Path) -> None:
    live = Tree(LiveDoor(str(cgroups.top))).snapshot(full=True)
    recorded = Tree(RecordedDoor(LiveFs(str(tmp_path)), "/cgroup")).snapshot(full=True)
    assert recorded.samples[ONE].cgroup_id == 0
    assert {path: sample.files for path, sample in recorded.samples.items()} == {
        path: sample.files for path, sample in live.samples.items()
    }


def test_nothing_below_a_mount_that_does_not_exist(tmp_path: Path) -> None:
    after = Tree(LiveDoor(str(tmp_path / "none"))).snapshot()
    assert (after.samples, after.errors) == ({}, {"vanished": 1})
