"""Reports of inotify, on a plain file system: what cgroups do more is in tests/lab/test_exporter.py."""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.metrics.door import LiveDoor, LiveFolder
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.page import Page
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.service import Service
from cgroup_preflight.metrics.tree import Tree
from cgroup_preflight.metrics.watch import Reports, Watch

ONE = "/a.slice/one.service"


@pytest.fixture
def watch(cgroups: CgroupTree) -> Watch:
    return Watch(str(cgroups.top))


def test_reports(watch: Watch, cgroups: CgroupTree) -> None:
    assert list(watch.follow(["/a.slice", "/b.slice", "/none.slice"])) == ["/a.slice", "/b.slice"]
    assert list(watch.follow(["/a.slice", "/b.slice"])) == []
    assert watch.reports() == Reports()
    cgroups.write("/a.slice", "memory.events", "oom_kill 1\n")
    cgroups.write("/b.slice", "cpu.max", "1000 100000\n")
    (cgroups.top / "b.slice" / "new.service").mkdir()
    shutil.rmtree(f"{cgroups.top}{ONE}")
    found = watch.reports()
    assert (found.events, found.limits) == ({"/a.slice"}, {"/b.slice"})
    assert (found.created, found.removed) == ((("/b.slice", "new.service"),), (("/a.slice", "one.service"),))
    assert found.count >= 4
    assert not found.overflow
    assert watch.reports() == Reports()
    watch.close()


def test_a_slice_that_is_created_again_is_watched_again(watch: Watch, cgroups: CgroupTree) -> None:
    assert list(watch.follow(["/b.slice"])) == ["/b.slice"]
    shutil.rmtree(f"{cgroups.top}/b.slice")
    watch.reports()
    (cgroups.top / "b.slice").mkdir()
    assert list(watch.follow(["/b.slice"])) == ["/b.slice"]
    assert list(watch.follow([])) == []
    (cgroups.top / "b.slice" / "x").mkdir()
    assert watch.reports().created == ()
    watch.close()


def test_too_many_reports_are_an_overflow(watch: Watch, cgroups: CgroupTree) -> None:
    list(watch.follow(["/a.slice", "/b.slice"]))
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 50_000:
        pytest.skip("the queue is too long to fill in a test")
    files = [(cgroups.top / name / "cpu.weight").open("r+b", buffering=0) for name in ("a.slice", "b.slice")]
    for _ in range(most // 2 + 2):
        for file in files:  # equal reports after each other are joined
            file.write(b"1")
            file.seek(0)
    for file in files:
        file.close()
    assert watch.reports().overflow
    watch.close()


def _readings(cgroups: CgroupTree, watch: Watch) -> Readings:
    return Readings(Tree(LiveDoor(str(cgroups.top))), Page(4, lambda _: True), watch)


def _text(readings: Readings) -> str:
    return b"".join(readings.render(Style.TEXT, packed=False)).decode()


def test_a_report_makes_a_kill_visible_without_a_snapshot(cgroups: CgroupTree, watch: Watch) -> None:
    readings = _readings(cgroups, watch)
    readings.refresh()
    readings.refresh()
    cgroups.kill(ONE)
    readings.notice(time.monotonic_ns())
    text = _text(readings)
    assert '\nslice_oom_kills_total{slice="a.slice",unit="one.service"} 1\n' in text
    assert '\nslice_exporter_event_latency_seconds_count{by="report"} 1\n' in text
    readings.refresh()
    assert '\nslice_oom_kills_total{slice="a.slice",unit="one.service"} 1\n' in _text(readings)
    assert '\nslice_exporter_event_latency_seconds_count{by="snapshot"} 0\n' in _text(readings)
    readings.close()


def test_the_time_to_a_visible_kill_begins_with_the_report(cgroups: CgroupTree, watch: Watch) -> None:
    """The pause between two readings and the wait for the thread that reads belong to it."""
    readings = _readings(cgroups, watch)
    readings.refresh()
    readings.refresh()
    cgroups.kill(ONE)
    readings.notice(time.monotonic_ns() - 3_000_000_000)
    text = _text(readings)
    assert '\nslice_exporter_event_latency_seconds_bucket{by="report",le="2.5"} 0\n' in text
    assert '\nslice_exporter_event_latency_seconds_count{by="report"} 1\n' in text
    readings.close()


def test_kills_in_a_cgroup_that_is_gone_are_given_to_the_one_that_was_removed(
    cgroups: CgroupTree, watch: Watch
) -> None:
    readings = _readings(cgroups, watch)
    readings.refresh()
    readings.refresh()
    for _ in range(3):
        cgroups.kill(ONE)
        cgroups.remove(ONE)
        cgroups.add(ONE)
    readings.notice(time.monotonic_ns())
    readings.refresh()
    assert '\nslice_oom_kills_total{slice="a.slice",unit="one.service"} 3\n' in _text(readings)
    readings.close()


def test_after_an_overflow_everything_is_read(cgroups: CgroupTree) -> None:
    class Overflowing(Watch):
        def reports(self) -> Reports:
            super().reports()
            return Reports(count=1, overflow=True)

    readings = _readings(cgroups, Overflowing(str(cgroups.top)))
    readings.refresh()
    cgroups.write(ONE, "memory.max", "4096\n")
    readings.refresh()
    assert '\nslice_memory_limit_bytes{slice="a.slice",unit="one.service",kind="max"} 4096\n' in _text(readings)
    assert 'reason="overflow"} 4\n' in _text(readings)
    readings.close()


class KernelDoor(LiveDoor):
    """Sees as on a kernel that a cgroup was removed: what is opened again has another inode number then."""

    def __init__(self, mount: str) -> None:
        super().__init__(mount)
        self._folders: list[LiveFolder] = []

    def open(self, cgroup: str) -> LiveFolder:
        self._folders.append(super().open(cgroup))
        return self._folders[-1]

    def turn(self) -> None:
        super().turn()
        for folder in self._folders:
            folder.close()


def _again(cgroups: CgroupTree, *paths: str) -> None:
    """Removes the first cgroup and creates all; an open folder keeps its inode number from being used again."""
    os.open(f"{cgroups.top}{paths[0]}", os.O_RDONLY)
    cgroups.remove(paths[0])
    for path in paths:
        cgroups.add(path)


def test_kills_are_given_to_units_again_after_an_overflow(cgroups: CgroupTree) -> None:
    class OnceOverflowing(Watch):
        full = False

        def reports(self) -> Reports:
            found = super().reports()
            overflow, self.full = self.full, False
            return Reports(count=1, overflow=True) if overflow else found

    watch = OnceOverflowing(str(cgroups.top))
    readings = Readings(Tree(KernelDoor(str(cgroups.top))), Page(4, lambda _: True), watch)
    readings.refresh()
    readings.refresh()
    watch.full = True
    cgroups.kill(ONE)
    _again(cgroups, ONE)
    readings.refresh()
    assert '\nslice_oom_kills_total{slice="a.slice",unit=""} 1\n' in _text(readings), "lost reports name nobody"
    readings.refresh()
    cgroups.kill(ONE)
    _again(cgroups, ONE)
    readings.refresh()
    assert '\nslice_oom_kills_total{slice="a.slice",unit="one.service"} 1\n' in _text(readings)
    readings.close()


def test_a_slice_that_is_created_again_between_two_snapshots_is_watched(cgroups: CgroupTree) -> None:
    """Before Linux 7.1 the kernel does not say that the watch of a removed cgroup has ended; a plain file system does."""

    class OldKernel(Watch):
        def _read(self) -> Iterator[tuple[int, int, str]]:
            return (item for item in super()._read() if not item[1] & 0x8000)

    readings = Readings(Tree(KernelDoor(str(cgroups.top))), Page(4, lambda _: True), OldKernel(str(cgroups.top)))
    readings.refresh()
    readings.refresh()
    _again(cgroups, "/a.slice", ONE)
    readings.refresh()
    readings.refresh()
    cgroups.kill(ONE)
    readings.notice(time.monotonic_ns())
    assert '\nslice_oom_kills_total{slice="a.slice",unit="one.service"} 1\n' in _text(readings)
    cgroups.kill(ONE)
    _again(cgroups, ONE)
    readings.refresh()
    assert '\nslice_oom_kills_total{slice="a.slice",unit="one.service"} 2\n' in _text(readings)
    readings.close()


def test_a_limit_that_changes_is_seen_at_the_next_snapshot(cgroups: CgroupTree, watch: Watch) -> None:
    readings = _readings(cgroups, watch)
    readings.refresh()
    readings.refresh()
    cgroups.write("/a.slice", "cpu.max", "50000 100000\n")
    readings.refresh()
    assert '\nslice_cpu_quota_cpus{slice="a.slice",unit=""} 0.5\n' in _text(readings)
    assert '\nslice_cpu_effective_quota_cpus{slice="a.slice",unit="one.service"} 0.5\n' in _text(readings)
    readings.close()


def test_the_service_reads_when_the_kernel_reports(cgroups: CgroupTree, watch: Watch) -> None:
    readings = _readings(cgroups, watch)
    published: list[bytes] = []
    service = Service(readings, 300.0, published.append)

    async def main() -> None:
        tasks = [asyncio.create_task(service.run(lambda _: None)), asyncio.create_task(service.follow(watch.handle))]
        while not published:
            await asyncio.sleep(0.01)
        # The slices are watched since the first snapshot.
        cgroups.kill(ONE)
        deadline = time.monotonic() + 20
        wanted = b'\nslice_oom_kills_total{slice="a.slice",unit="one.service"} 1\n'
        while wanted not in b"".join(await service.page(Style.TEXT, packed=False, seconds=5.0)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert service.healthy()
    assert published[0].startswith(b"# HELP")
    readings.close()
