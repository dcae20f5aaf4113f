"""What a run needs of a machine at the other end, by SFTP and by the shell alone; and how often it waits for it."""

import contextlib
import os
import socket
import stat
import subprocess
import time

import pytest

from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.engines.listeners import Listeners
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.local import LocalFiles, LocalProcesses
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.machine import door_of
from cgroup_preflight.host.remote.sftp import INTERRUPTED
from cgroup_preflight.smoke.outside import Outside
from cgroup_preflight.smoke.watch import Watch
from tests.unit.host.remote.ends import LocalLines
from tests.unit.host.remote.test_machine import NoNetwork, door, machine  # noqa: F401 - fixtures
from tests.unit.stated import round_trips

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(120)]
PREFIX = "cgpftest00-"
#: Rows of docs/hosts.md.
PARTS = tuple(
    f"`run`, `smoke`: {what}"
    for what in (
        "one sample of all limits and CPU times, for any number of services", "one look at all processes of the host",
        "waiting for processes, each look", "what a program has printed since the last look, after the first looks",
        "unit files, however many",
    )
)  # fmt: skip
SAMPLE, LOOK, WAIT, GROWN, FILES = (round_trips()[row] for row in PARTS)


def most(asker: Asker, stated: tuple[int, int]) -> int:
    """What is stated for this end: with SFTP, or without."""
    return stated[asker._open_files is None]


def test_files_below_a_folder_are_written_in_one_round_trip(machine, tmp_path):  # noqa: F811
    door, asker = machine  # noqa: F811
    folder = tmp_path / "units"
    folder.mkdir()
    os.utime(folder, (1, 1))
    asker.scripts([])
    before = asker.round_trips
    texts = {"a.slice": b"[Slice]\n# %n '$x' \\\n", "web.service.d/50.conf": bytes(range(256)) * 400, "empty": b""}
    door.files.write_all(str(folder), texts)
    assert asker.round_trips - before <= most(asker, FILES)
    assert {name: (folder / name).read_bytes() for name in texts} == texts
    assert sorted(os.listdir(folder)) == ["a.slice", "empty", "web.service.d"]
    assert stat.S_IMODE((folder / "a.slice").stat().st_mode) == 0o644
    assert folder.stat().st_mtime > 1
    door.files.write_all(str(folder), {"a.slice": b"new"})
    assert (folder / "a.slice").read_bytes() == b"new"
    with pytest.raises(HostError, match="cannot write"):
        door.files.write_all(f"{folder}/empty/below", {"x": b""})


def test_a_fifo_takes_lines_and_waits_for_nobody(door, tmp_path):  # noqa: F811
    path = str(tmp_path / "a b'c")
    fifo = door.files.fifo(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    fifo.write("nobody reads this")
    handle = os.open(path, os.O_RDWR)
    try:
        fifo.write("load 3 '$HOME' %s \\n")
        assert os.read(handle, 100) == b"load 3 '$HOME' %s \\n\n"
    finally:
        os.close(handle)
    fifo.close()
    with pytest.raises(HostError):
        door.files.fifo(path)


def test_a_file_system_in_memory_that_cannot_be_mounted_says_why(door, tmp_path):  # noqa: F811
    with pytest.raises(HostError, match="cannot write"):
        door.files.mount_memory(f"{tmp_path}/none")
    with pytest.raises(HostError, match="cannot write"):
        door.files.unmount(f"{tmp_path}/none")


def test_a_private_folder_can_execute_programs_and_goes_by_its_prefix(door, monkeypatch, tmp_path):  # noqa: F811
    one, other = door.files.private_folder(PREFIX), door.files.private_folder("cgpftest01-")
    try:
        status = os.stat(one)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, os.geteuid())
        assert os.listdir(one) == []
        door.files.write(f"{one}/program", b"#!/bin/sh\necho yes\n", 0o755)
        assert door.programs.run((f"{one}/program",)).value.stdout == "yes\n"
        door.files.remove_private(PREFIX)
        assert not os.path.exists(one)
        assert os.path.exists(other)
    finally:
        door.files.remove_private("cgpftest01-")
    assert not os.path.exists(other)


def test_a_private_folder_goes_with_the_connection(machine):  # noqa: F811
    """As after `kill -9` of this tool, before it has arranged anything else."""
    door, asker = machine  # noqa: F811
    folder = door.files.private_folder(PREFIX)
    assert os.path.isdir(folder)
    asker.close()
    until = time.monotonic() + 30
    while os.path.exists(folder):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_small_questions_are_answered_as_on_this_machine(door, tmp_path):  # noqa: F811
    here = LocalFiles()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    for path in ("file", "link", "none"):
        assert door.files.readable(f"{tmp_path}/{path}") == here.readable(f"{tmp_path}/{path}")
        assert door.files.real(f"{tmp_path}/{path}") == here.real(f"{tmp_path}/{path}")
    assert door.processes.cpus() == LocalProcesses().cpus()
    assert door.processes.count_cpus() == LocalProcesses().count_cpus()
    assert door.processes.memory(os.getpid(), 0x400000, 4) == b""
    assert door.clock.own_cpu() == 0.0
    own = door.processes.own()
    assert LocalFiles().read(f"/proc/{own}/comm").value.strip() in ("sh", "dash", "bash")
    assert {"1", str(own)} <= set(door.files.names("/proc").value)


def test_files_that_stay_open_are_read_together_and_through_what_was_opened(machine, tmp_path):  # noqa: F811
    door, asker = machine  # noqa: F811
    files = door.files
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"{name}\n")
    paths = [f"{tmp_path}/{name}" for name in ("a", "b", "none")]
    device = files.device(str(tmp_path)).value
    held = files.hold_all(paths, device)
    assert [isinstance(held[path], Known) for path in paths] == [True, True, False]
    assert held[paths[2]].why is Why.ABSENT
    other = files.hold(paths[0], "999:999")
    assert isinstance(other, Missing)
    assert "mounted over" in other.detail
    (tmp_path / "a").write_text("changed\n")
    before = asker.round_trips
    files.prefetch(paths[:2])
    assert asker.round_trips - before <= 3
    before = asker.round_trips
    texts = [files.reread(held[path].value, path).value for path in paths[:2]]
    assert (texts, asker.round_trips) == (["changed\n", "b\n"], before)
    (tmp_path / "a").write_text("again\n")
    files.prefetch(paths[:1])
    files.forget()
    (tmp_path / "a").write_text("late\n")
    assert files.reread(held[paths[0]].value, paths[0]).value == "late\n"
    for path in paths[:2]:
        files.release(held[path].value)


def test_what_was_fetched_before_answers_for_the_end_of_a_file_too(machine, tmp_path):  # noqa: F811
    door, asker = machine  # noqa: F811
    path = f"{tmp_path}/out"
    (tmp_path / "out").write_text("0123456789")
    door.files.prefetch([path])
    before = asker.round_trips
    assert door.files.tail(path, 3, 4) == Known(value=b"3456", source=path)
    assert asker.round_trips == before
    (tmp_path / "out").write_text("abcdef")
    assert door.files.tail(path, 3, 4).value == b"def"
    assert door.files.tail(f"{tmp_path}/none", 0, 4).why is Why.ABSENT


def test_a_file_that_grows_stays_open(machine, tmp_path):  # noqa: F811
    door, asker = machine  # noqa: F811
    path, text = f"{tmp_path}/out", b""
    costs = []
    for number in range(5):
        assert door.files.tail(path, len(text), 1 << 16).value == b"" if text else True
        more = f"{number}\n".encode() * 1000
        with open(path, "ab") as file:
            file.write(more)
        before = asker.round_trips
        assert door.files.tail(path, len(text), 1 << 16) == Known(value=more, source=path)
        costs.append(asker.round_trips - before)
        assert door.files.tail(path, len(text) + 2, 3) == Known(value=more[2:5], source=path)
        text += more
    assert costs[-1] <= most(asker, GROWN)
    (tmp_path / "fifo").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "fifo")
    for _ in range(3):
        assert door.files.tail(f"{tmp_path}/fifo", 0, 4).why is Why.MALFORMED
        assert door.files.tail(f"{tmp_path}/none", 0, 4).why is Why.ABSENT
        assert door.files.tail("/proc/self/comm", 0, 2).value


def test_after_a_new_session_a_file_that_grows_is_opened_again(tmp_path):
    door, asker = door_of(LocalLines(), NoNetwork())  # noqa: F811
    (tmp_path / "out").write_text("0123456789")
    for _ in range(3):
        assert door.files.tail(f"{tmp_path}/out", 3, 4).value == b"3456"
    asker._sftp._line.fail(INTERRUPTED)
    (tmp_path / "other").write_text("another text")
    assert door.files.status(f"{tmp_path}/other").value.size == 12
    assert door.files.tail(f"{tmp_path}/out", 3, 4).value == b"3456"
    asker.close()
    assert isinstance(door.files.tail(f"{tmp_path}/out", 3, 4), Missing)


class Nothing:
    """An engine that starts nothing."""

    def main_processes(self, unit: str) -> frozenset[int]:
        return frozenset()


class OwnProcesses(Observer):
    """Asks for all processes and tells of those of the test alone: others come and go on a busy machine."""

    own: tuple[int, ...] = ()

    def pids(self) -> tuple[int, ...]:
        return tuple(pid for pid in super().pids() if pid in self.own)


@pytest.mark.parametrize("cgroups", [1, 12])
def test_a_sample_and_a_look_take_as_many_round_trips_for_any_number_of_services(machine, tmp_path, cgroups):  # noqa: F811
    door, asker = machine  # noqa: F811
    names = [f"/s{number}" for number in range(cgroups)]
    for name in names:
        (tmp_path / name[1:]).mkdir()
        for attribute, text in {"cpu.max": "50000 100000", "memory.max": "4096", "cpu.stat": "usage_usec 7"}.items():
            (tmp_path / name[1:] / attribute).write_text(f"{text}\n")
    observer = OwnProcesses(door.files, str(tmp_path))
    observer.own = (os.getpid(),)
    outside = Outside(Nothing(), observer, door, inside=False)
    watch = Watch(observer, door)
    outside.begin({})
    watch.begin(dict.fromkeys(names, ("cpu.max", "memory.max")))
    before = asker.round_trips
    watch.sample()
    assert asker.round_trips - before <= most(asker, SAMPLE)
    (tmp_path / "s0" / "memory.max").write_text("max\n")
    watch.sample()
    assert [change.text for change in watch.seen("/s0").changes] == ["max"]
    with subprocess.Popen(("sleep", "60")) as child:
        try:
            observer.own = (os.getpid(), child.pid)
            before = asker.round_trips
            outside.look_now()
            assert asker.round_trips - before <= most(asker, LOOK)
        finally:
            child.kill()
    watch.end()


def test_waiting_for_processes_takes_as_many_round_trips_for_any_number_of_them(machine):  # noqa: F811
    door, asker = machine  # noqa: F811
    children = [subprocess.Popen(("sleep", "60")) for _ in range(5)]
    try:
        handles = [door.processes.open(child.pid) for child in children]
        before = asker.round_trips
        assert door.processes.wait(handles, 0) == []
        assert asker.round_trips - before <= most(asker, WAIT)
        children[2].kill()
        children[2].wait()
        assert door.processes.wait(handles, 20) == [handles[2]]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_who_listens_is_found_in_few_round_trips_for_any_number_of_open_files(machine):  # noqa: F811
    door, asker = machine  # noqa: F811
    observer = Observer(door.files, "/sys/fs/cgroup")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(open(os.devnull, "rb"))
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        test = ReadyTest(kind=ReadyKind.TCP, target=f"127.0.0.1:{server.getsockname()[1]}")
        # A program of this machine that ends meanwhile costs more of them: the least of some tries counts.
        taken = []
        for _ in range(5):
            batches, before = len(observer.pids()) // 64 + 2, asker.round_trips
            assert f"(PID {os.getpid()})" in Listeners(door.files, observer).holder(test)
            taken.append((asker.round_trips - before, 12 + 12 * batches))
            if taken[-1][0] <= taken[-1][1]:
                break
    assert any(count <= most for count, most in taken), taken
