"""A machine at the other end answers as this one: the same readings, by SFTP and by the shell alone."""

import errno
import os
import signal
import subprocess
import threading
import time

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.host.command import Completed, LiveRunner
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.local import LocalClock, LocalFiles
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.machine import door_of
from tests.unit.host.remote.ends import SFTP_SERVER, LocalLines, silent

pytestmark = pytest.mark.starts_processes

NO_SERVER = ("sh", "-c", "echo 'subsystem request failed on channel 0' >&2; exit 1")


class NoNetwork:
    def listens(self, test: object) -> bool:
        raise AssertionError

    ask = fetch = listens


@pytest.fixture(params=["sftp", "shell"])
def machine(request):
    door, asker = door_of(LocalLines(files=None if request.param == "sftp" else NO_SERVER), NoNetwork())
    yield door, asker
    asker.close()


@pytest.fixture
def door(machine) -> Door:
    return machine[0]


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "file").write_bytes(b"text\n")
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in\nit").touch()
    (tmp_path / "folder" / "sub").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "deep").symlink_to("folder/sub")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "quote'$(id) ü").write_text("odd name")
    (tmp_path / os.fsdecode(b"no\xfftext")).write_text("bytes")
    return tmp_path


PLACES = (
    "file",
    "bytes",
    "empty",
    "folder",
    "link",
    "broken",
    "none",
    "deep",
    "quote'$(id) ü",
    "file/below",
    "no\udcfftext",
)
KERNEL = (
    "/proc/self/mountinfo",
    "/proc/cpuinfo",
    "/proc/sys/kernel/osrelease",
    "/sys/devices/system/cpu/online",
    "/sys/block",
    "/dev/null",
)


@pytest.mark.parametrize("name", ["data", "read", "exists", "names", "folders", "device", "identity", "link", "quick"])
def test_a_reading_is_that_of_this_machine(door, tree, name):
    local = LocalFiles()
    for path in (*(f"{tree}/{place}" for place in PLACES), *KERNEL):
        if name == "quick" and not path.startswith("/proc"):
            continue
        there, here = getattr(door.files, name)(path), getattr(local, name)(path)
        if isinstance(here, Missing):
            # SFTP has one word for both.
            assert (there.source, there.why) == (here.source, here.why), path
            assert there.errno == here.errno or here.errno in (errno.ENOTDIR, errno.EINVAL), path
        elif not (path == "/proc/cpuinfo" or (name == "identity" and "self" in path)):  # these differ between two looks
            assert there == here, path


def test_a_fifo_is_not_opened(door, tree):
    assert door.files.data(f"{tree}/fifo") == LocalFiles().data(f"{tree}/fifo")


def test_facts_of_the_machine(door):
    local = LocalFiles()
    assert door.files.machine() == local.machine()
    assert door.files.page_size() == local.page_size()
    assert door.files.block_device("/") == local.block_device("/")
    for path in ("/", "/proc", "/sys", "/none"):
        here, there = local.read_only(path), door.files.read_only(path)
        assert there == here or (isinstance(here, Missing) and there.why is here.why)


def test_a_status_is_that_of_this_machine(door, tree):
    there, here = (value_or(files.status(f"{tree}/bytes"), None) for files in (door.files, LocalFiles()))
    assert (there.size, there.mode, there.uid, there.gid) == (here.size, here.mode, here.uid, here.gid)
    assert abs(there.time - here.time) < 1


def test_many_files_take_as_many_round_trips_as_one(machine, tree):
    door, asker = machine
    paths = [f"{tree}/{place}" for place in PLACES[:-1]] + ["/proc/self/comm"] * 50
    found = door.files.many(paths)
    assert found[f"{tree}/file"] == Known(value=b"text\n", source=f"{tree}/file")
    assert found[f"{tree}/none"].why is Why.ABSENT
    assert asker.round_trips <= 5


def test_what_was_fetched_ahead_is_answered_once(machine, tree):
    door, asker = machine
    path = f"{tree}/file"
    door.files.prefetch([path, f"{tree}/empty"])
    before = asker.round_trips
    (tree / "file").write_text("new")
    assert value_or(door.files.read(path), "") == "text\n"
    assert asker.round_trips == before
    assert value_or(door.files.read(path), "") == "new"
    door.files.prefetch([path])
    (tree / "file").write_text("newer")
    door.files.forget()
    assert value_or(door.files.many([path])[path], b"") == b"newer"


def test_a_log_is_read_from_where_the_last_reading_ended(door, tree):
    path = f"{tree}/bytes"
    assert value_or(door.files.tail(path, 250, 20), b"") == bytes([*range(250, 256), *range(14)])
    assert value_or(door.files.tail(path, 5120, 20), None) == b""
    assert door.files.tail(f"{tree}/none", 0, 20).why is Why.ABSENT


def test_a_file_that_is_held_is_read_again(door, tree):
    path = f"{tree}/file"
    device = value_or(door.files.device(path), "")
    handle = value_or(door.files.hold(path, device), -1)
    assert value_or(door.files.reread(handle, path), "") == "text\n"
    with open(path, "r+") as file:
        file.write("TEXT")
    assert value_or(door.files.reread(handle, path), "") == "TEXT\n"
    door.files.release(handle)
    assert door.files.hold(path, "0:0").detail == "another file is mounted over it"
    assert door.files.hold(f"{tree}/none", device).why is Why.ABSENT


def test_files_are_written_whole(door, tree):
    path, data = f"{tree}/new", bytes(range(256)) * 700
    door.files.write(path, data, 0o640)
    assert (tree / "new").read_bytes() == data
    assert (tree / "new").stat().st_mode & 0o777 == 0o640
    door.files.write(path, b"", 0o600)
    assert (tree / "new").read_bytes() == b""
    with open(f"{tree}/bytes", "rb") as source:
        door.files.upload(source, f"{tree}/program", 0o755)
    assert (tree / "program").read_bytes() == (tree / "bytes").read_bytes()
    assert os.access(tree / "program", os.X_OK)
    door.files.write_attribute(f"{tree}/file", "abcd")
    assert (tree / "file").read_text() == "abcd\n"
    door.files.make_folder(f"{tree}/a/b", 0o755)
    door.files.touch(f"{tree}/a/b")
    door.files.remove([f"{tree}/a", path, f"{tree}/none"])
    assert not (tree / "a").exists()
    assert not [name for name in os.listdir(tree) if name.startswith(".")]


def test_a_write_that_fails_says_why_and_leaves_nothing(door, tree):
    for write in (
        lambda: door.files.write(f"{tree}/none/a", b"x"),
        lambda: door.files.write(f"{tree}/folder", b"x"),
        lambda: door.files.write_attribute(f"{tree}/none/a", "x"),
        lambda: door.files.make_folder(f"{tree}/file/a"),
    ):
        with pytest.raises(HostError, match="cannot write: "):
            write()
    with open(f"{tree}/bytes", "rb") as source, pytest.raises(HostError, match="cannot write: "):
        door.files.upload(source, f"{tree}/file", 0o755)
    assert (tree / "file").read_text() == "text\n"
    assert not [name for name in os.listdir(tree) if name.startswith(".")]


def test_a_private_folder_is_for_this_user_only(door):
    folder = door.files.private_folder("cgpf-test-")
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert door.files.writable(folder)
    door.files.remove([folder])
    assert not os.path.exists(folder)
    assert not door.files.writable(folder)


def test_commands_answer_as_on_this_machine(door):
    for argv in (("sh", "-c", "echo out; exit 3"), ("printf", "%s", "a b'$x"), ("none-of-this-name",), ("/etc",)):
        here, there = LiveRunner().run(argv), door.programs.run(argv)
        if isinstance(here, Known):
            assert there == here
        else:
            assert (there.why, there.errno) == (here.why, here.errno)
    said = value_or(door.programs.run(("cat",), stdin=bytes(range(128))), None)
    assert said.stdout == bytes(range(128)).decode()
    slow = door.programs.run(("sleep", "60"), timeout=1)
    assert (slow.why, slow.detail) == (Why.FAILED, "no answer within 1 s")
    assert door.programs.started == 6


def test_commands_together_take_one_round_trip(machine):
    door, asker = machine
    door.programs.run(("true",))
    before = asker.round_trips
    found = door.programs.run_together([("echo", str(number)) for number in range(8)])
    assert [item.value.stdout for item in found if isinstance(item, Known)] == [f"{number}\n" for number in range(8)]
    assert asker.round_trips == before + 1


def test_a_running_command_ends_with_stop_and_its_output_comes_here(door):
    process = door.programs.start(("sh", "-c", "echo hello; exec sleep 60"))
    assert process.stdout.readline() == b"hello\n"
    handle = door.processes.open(process.pid)
    assert handle is not None
    assert not door.processes.wait([handle], 0)
    door.programs.stop(process)
    assert door.processes.wait([handle], 20) == [handle]
    door.processes.close(handle)


def test_a_running_command_that_ends_has_its_status(door):
    process = door.programs.start(("sh", "-c", "exit 5"))
    assert process.wait(20) == 5
    door.programs.stop(process)


def test_a_running_command_ends_when_nobody_holds_the_line(door):
    """As after `kill -9` of this tool."""
    process = door.programs.start(("sleep", "60"))
    handle = door.processes.open(process.pid)
    process._process.stdin.close()
    assert door.processes.wait([handle], 20) == [handle]
    door.programs.stop(process)


def test_processes_are_known_by_number_and_start(door):
    with subprocess.Popen(("sleep", "60")) as child:
        handle = door.processes.open(child.pid)
        reading, writing = os.pipe()
        assert door.processes.wait([handle], 0.1, [reading]) == []
        os.write(writing, b"x")
        assert door.processes.wait([handle], 20, [reading]) == [reading]
        door.processes.signal(handle, signal.SIGTERM)
        assert child.wait(20) == -signal.SIGTERM
        assert door.processes.wait([handle], 20) == [handle]
        door.processes.signal(handle, signal.SIGKILL)  # it has ended: no error
        door.processes.close(handle)
        os.close(writing)
        os.close(reading)
    assert door.processes.open((1 << 22) + 1) is None


def test_a_number_that_another_process_has_now_is_no_target(door):
    with subprocess.Popen(("sleep", "60")) as child:
        handle = door.processes.open(child.pid)
        pid, _ = door.processes._known[handle]
        door.processes._known[handle] = (pid, "1")
        door.processes.signal(handle, signal.SIGKILL)
        assert child.poll() is None
        assert door.processes.wait([handle], 0) == [handle]
        child.kill()


def test_the_clocks_are_those_of_the_machine(door):
    assert abs(door.clock.wall() - LocalClock().wall()) < 30
    before = door.clock.monotonic()
    door.clock.sleep(0.01)
    assert door.clock.monotonic() > before


def test_a_lost_machine_is_lost_for_good_and_says_why(machine, tree):
    door, asker = machine
    assert isinstance(door.files.read(f"{tree}/file"), Known)
    assert isinstance(door.programs.run(("true",)), Known)
    asker._shell.close()
    if asker._sftp is not None:
        asker._sftp.close()
    for reading in (door.files.read(f"{tree}/file"), door.programs.run(("true",)), door.files.machine()):
        assert isinstance(reading, Missing)
        assert (reading.why, reading.detail) == (Why.FAILED, asker.lost)
    assert not door.files.writable(str(tree))
    for act in (
        lambda: door.files.write(f"{tree}/x", b""),
        lambda: door.files.remove([f"{tree}/x"]),
        lambda: door.processes.open(1),
        door.clock.wall,
    ):
        with pytest.raises(HostError):
            act()


def test_an_interrupted_call_does_not_lose_the_machine(tree):
    door, asker = door_of(LocalLines(), NoNetwork())
    assert isinstance(door.files.read(f"{tree}/file"), Known)
    first = asker._sftp

    def interrupt(jobs: object) -> list[object]:
        first._line.fail("a call was interrupted")
        raise KeyboardInterrupt

    first.run = interrupt
    with pytest.raises(KeyboardInterrupt):
        door.files.read(f"{tree}/file")
    assert value_or(door.files.read(f"{tree}/file"), "") == "text\n"
    assert asker._sftp is not first
    asker.close()


def test_a_handle_of_an_interrupted_session_is_never_another_file(tree):
    door, asker = door_of(LocalLines(), NoNetwork())
    device = value_or(door.files.device(str(tree)), "")
    old = value_or(door.files.hold(f"{tree}/file", device), 0)
    assert value_or(door.files.reread(old, f"{tree}/file"), "") == "text\n"
    asker._sftp._line.fail("a call was interrupted")
    # The new session gives the same handle to another file.
    (tree / "other").write_text("another")
    new = value_or(door.files.hold(f"{tree}/other", device), 0)
    assert door.files._held[old] == door.files._held[new]
    found = door.files.reread(old, f"{tree}/file")
    assert isinstance(found, Missing)
    assert found.why is Why.FAILED
    door.files.prefetch([f"{tree}/file", f"{tree}/other"])
    assert isinstance(door.files.reread(old, f"{tree}/file"), Missing)
    assert value_or(door.files.reread(new, f"{tree}/other"), "") == "another"
    door.files.release(old)
    assert value_or(door.files.reread(new, f"{tree}/other"), "") == "another"
    asker.close()


def test_an_attribute_that_does_not_exist_is_not_made(door, tree):
    with pytest.raises(HostError, match="no such file"):
        door.files.write_attribute(f"{tree}/none", "1")
    assert not (tree / "none").exists()


@pytest.mark.skipif(not SFTP_SERVER, reason="there is no sftp-server here")
def test_a_failure_that_sftp_has_no_word_for_is_named_by_the_shell(tree):
    door, asker = door_of(LocalLines(), NoNetwork())
    reading = door.files.quick("/proc/self/mem")
    assert (reading.why, reading.errno) == (Why.FAILED, errno.EIO)
    assert asker.lost == ""
    asker.close()


def test_without_a_shell_files_are_read_and_the_rest_says_why(tree):
    lines = LocalLines(shell=("sh", "-c", "echo 'This service allows sftp connections only.'; exit 1"))
    door, asker = door_of(lines, NoNetwork())
    assert value_or(door.files.read(f"{tree}/file"), "") == "text\n"
    reading = door.files.machine()
    assert "sftp connections only" in str(reading)
    asker.close()


def test_two_threads_ask_one_machine():
    door, asker = door_of(LocalLines(), NoNetwork())
    found: list[object] = []

    def ask() -> None:
        for number in range(15):
            done: object = door.programs.run(("echo", str(number)))
            assert isinstance(done, Known)
            assert isinstance(done.value, Completed)
            found.append((number, done.value.stdout, value_or(door.files.read("/proc/sys/kernel/ostype"), "")))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 45
    assert all(item == (item[0], f"{item[0]}\n", "Linux\n") for item in found)
    asker.close()


def test_a_machine_that_hangs_costs_the_time_once(monkeypatch):
    monkeypatch.setattr("cgroup_preflight.host.remote.shell._START_SECONDS", 0.3)
    line, there = silent()
    asker = Asker(lambda: line, None)
    began = time.monotonic()
    door_files = door_of(LocalLines(), NoNetwork())[0].files
    door_files._asker = asker
    for _ in range(3):
        assert "did not answer in time" in str(door_files.read("/proc/version"))
    assert time.monotonic() - began < 15
    asker.close()
    there.close()
