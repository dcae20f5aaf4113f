"""The door to this machine: processes by handle, and a clock that goes forward."""

import ctypes
import os
import signal
import subprocess
import time

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.host.local import LocalClock, LocalFiles, LocalProcesses


def test_the_clock_is_monotonic_and_sleeps():
    clock = LocalClock()
    before = clock.monotonic()
    clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
    assert abs(clock.monotonic() - time.monotonic()) < 60


@pytest.mark.starts_processes
def test_a_process_is_signalled_and_waited_for_by_its_handle():
    processes = LocalProcesses()
    with subprocess.Popen(("sleep", "60")) as child:
        handle = processes.open(child.pid)
        assert handle is not None
        assert not processes.wait([handle], 0)
        processes.signal(handle, signal.SIGTERM)
        assert processes.wait([handle], 20) == [handle]
        assert child.wait(timeout=20) == -signal.SIGTERM
        processes.signal(handle, signal.SIGKILL)  # it has ended: no error
        processes.close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_a_process_that_does_not_exist_has_no_handle():
    assert LocalProcesses().open((1 << 22) + 1) is None


def test_memory_of_a_process_is_read_and_nothing_is_made_up() -> None:
    content, processes = ctypes.create_string_buffer(b"gomaxprocs"), LocalProcesses()
    assert processes.memory(os.getpid(), ctypes.addressof(content), 4) == b"goma"
    for pid, address in ((os.getpid(), 0), (os.getpid(), 1 << 70), ((1 << 22) + 1, ctypes.addressof(content))):
        assert processes.memory(pid, address, 4) == b""


def test_a_pipe_is_waited_for_as_well():
    reading, writing = os.pipe()
    assert not LocalProcesses().wait([reading], 0)
    os.write(writing, b"x")
    assert LocalProcesses().wait([reading], 1) == [reading]
    os.close(reading)
    os.close(writing)


def test_files_are_written_whole_and_read_in_pieces(tmp_path):
    files, path = LocalFiles(), str(tmp_path / "a" / "b")
    files.make_folder(str(tmp_path / "a"))
    files.write(path, b"0123456789", 0o640)
    assert value_or(files.tail(path, 4, 3), b"") == b"456"
    assert value_or(files.tail(path, 10, 3), None) == b""
    status = value_or(files.status(path), None)
    assert (status.size, status.mode & 0o777, status.uid) == (10, 0o640, os.geteuid())
    assert abs(status.time - LocalClock().wall()) < 60
    files.write_attribute(path, "new")
    assert files.many([path, f"{path}x"])[path] == Known(value=b"new3456789", source=path)
    with open(path, "rb") as source:
        files.upload(source, f"{path}2", 0o700)
    assert value_or(files.data(f"{path}2"), b"") == b"new3456789"
    with pytest.raises(HostError, match="File exists"), open(path, "rb") as source:
        files.upload(source, f"{path}2", 0o700)
    files.remove([f"{path}2", f"{path}3", str(tmp_path / "a")])
    assert os.listdir(tmp_path) == []


def test_a_write_that_fails_says_why(tmp_path):
    files = LocalFiles()
    (tmp_path / "file").write_text("")
    for write in (
        lambda: files.write(f"{tmp_path}/none/a", b""),
        lambda: files.write_attribute(f"{tmp_path}/none/a", ""),
        lambda: files.make_folder(f"{tmp_path}/file/a"),
        lambda: files.touch(f"{tmp_path}/none"),
        lambda: files.free(f"{tmp_path}/none", 0, 4096),
    ):
        with pytest.raises(HostError, match=r"cannot write: (No such file|Not a directory)"):
            write()


def test_a_file_system_in_memory_that_cannot_be_mounted_says_why(tmp_path):
    with pytest.raises(HostError, match=r"cannot write: (No such file|Operation not permitted)"):
        LocalFiles().mount_memory(f"{tmp_path}/none")
    with pytest.raises(HostError, match=r"cannot write: (No such file|Operation not permitted)"):
        LocalFiles().unmount(f"{tmp_path}/none")


def test_a_private_folder_is_for_this_user_only():
    files = LocalFiles()
    folder = files.private_folder("cgpf-test-")
    assert os.stat(folder).st_mode & 0o777 == 0o700
    files.touch(folder)
    assert files.writable(folder)
    files.remove([folder])
    assert not files.writable(folder)


def test_blocks_of_a_file_are_given_back(tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"x" * (1 << 20))
    LocalFiles().free(str(path), 0, 1 << 20)
    assert path.stat().st_size == 1 << 20
    assert set(path.read_bytes()) in ({0}, {ord("x")})  # not every file system can


def test_an_attribute_that_a_file_has_not_is_absent(tmp_path):
    (tmp_path / "file").write_text("")
    reading = LocalFiles().attribute(str(tmp_path / "file"), "user.none")
    assert isinstance(reading, Missing)
    assert reading.why in (Why.ABSENT, Why.UNSUPPORTED)


def test_a_fifo_waits_for_no_reader(tmp_path):
    """Not for one that another process of its user has stopped, either."""
    fifo = LocalFiles().fifo(str(tmp_path / "ask"))
    for _ in range(200):
        fifo.write("x" * 1000)
    reader = os.open(tmp_path / "ask", os.O_RDONLY)
    assert os.read(reader, 1001) == b"x" * 1000 + b"\n"
    fifo.close()
    os.close(reader)
