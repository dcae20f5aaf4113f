"""Files below a root: whatever is there gives a fact or a reason, soon, and nothing outside is needed."""

import errno
import gzip
import os
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.fs import TEXT_MAX, LiveFs


@pytest.fixture
def fs(tmp_path):
    return LiveFs(str(tmp_path))


def test_a_file(fs, tmp_path):
    (tmp_path / "x").write_text("memory cpu\n")
    assert fs.read("/x") == Known(value="memory cpu\n", source="/x")


def test_an_empty_file_is_a_fact(fs, tmp_path):
    (tmp_path / "x").touch()
    assert fs.read("/x") == Known(value="", source="/x")


@pytest.mark.parametrize(
    ("path", "why"), [("/none", Why.ABSENT), ("/x/below", Why.ABSENT), ("/folder", Why.FAILED), ("/loop", Why.FAILED)]
)
def test_what_cannot_be_read_says_why(fs, tmp_path, path, why):
    (tmp_path / "x").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    reading = fs.read(path)
    assert isinstance(reading, Missing)
    assert (reading.source, reading.why) == (path, why)
    assert reading.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_denied_file(fs, tmp_path, monkeypatch, number):
    (tmp_path / "x").write_text("1")

    def deny(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("cgroup_preflight.host.files.os.open", deny)
        reading = fs.read("/x")
    assert (reading.why, reading.errno) == (Why.DENIED, number)


@pytest.mark.timeout(20)
def test_a_fifo_does_not_hang_and_is_no_fact(fs, tmp_path):
    """In a tree of another host: nobody writes, or somebody writes and never ends."""
    os.mkfifo(tmp_path / "fifo")
    reading = fs.read("/fifo")
    assert isinstance(reading, Missing), "an empty text would read as: no controller is offered"
    writer = os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK)
    try:
        assert isinstance(fs.read("/fifo"), Missing)
    finally:
        os.close(writer)


@pytest.mark.timeout(20)
def test_a_device_does_not_fill_the_memory(tmp_path):
    """A device file in a tree: /dev/zero never ends."""
    tracemalloc.start()
    reading = LiveFs("/").read("/dev/zero")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(reading, Missing)
    assert peak < 8 * TEXT_MAX


def test_a_socket(fs, tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert isinstance(fs.read("/socket"), Missing)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"caf\xe9\n", b"\x80" * 100, b"a\xed\xa0\x80b"])
def test_binary_is_malformed_never_a_guess(fs, tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    assert fs.read("/x").why is Why.MALFORMED


@pytest.mark.parametrize(("size", "known"), [(TEXT_MAX, True), (TEXT_MAX + 1, False), (TEXT_MAX * 2, False)])
def test_a_huge_file_is_refused_never_cut(fs, tmp_path, size, known):
    (tmp_path / "x").write_bytes(b"x" * size)
    reading = fs.read("/x")
    if known:
        assert len(reading.value) == size
    else:
        assert (reading.why, "4M" in reading.detail) == (Why.MALFORMED, True)


@pytest.mark.timeout(20)
def test_a_packed_file_may_not_explode(fs, tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\0" * (64 << 20)))
    (tmp_path / "good.gz").write_bytes(gzip.compress(b"CONFIG_MEMCG=y\n"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"CONFIG_MEMCG=y\n" * 100)[:20])
    assert isinstance(fs.read("/bomb.gz"), Missing)
    assert fs.read("/good.gz").value == "CONFIG_MEMCG=y\n"
    fs.read("/cut.gz")


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_a_fact_or_a_reason(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    reading = LiveFs(str(tmp_path)).read("/x")
    if isinstance(reading, Known) and not data.startswith(b"\x1f\x8b"):
        assert reading.value.encode() == data


def test_names_and_links(fs, tmp_path):
    (tmp_path / "d").mkdir()
    for name in ("b", "a", "é"):
        (tmp_path / "d" / name).touch()
    (tmp_path / "d" / "link").symlink_to("/else/where")
    assert fs.names("/d").value == ("a", "b", "link", "é")
    assert fs.names("/d", ("l", "b")).value == ("b", "link")
    assert fs.link("/d/link").value == "/else/where"
    assert fs.names("/none").why is Why.ABSENT
    assert fs.names("/d/a").why is Why.ABSENT
    assert isinstance(fs.link("/d/a"), Missing)
    assert fs.read_only("/d").value is False
    assert isinstance(fs.read_only("/none"), Missing)


def test_the_machine_of_another_host_is_not_ours(tmp_path):
    assert LiveFs(str(tmp_path)).machine().why is Why.NOT_RECORDED
    assert LiveFs("/").machine().value == os.uname().machine


def test_kernel_files_are_read_to_their_end():
    """Their size is 0."""
    assert "Uid:" in LiveFs().read("/proc/self/status").value


@pytest.mark.timeout(20)
def test_a_file_that_grows_while_it_is_read(fs, tmp_path):
    path, stop = tmp_path / "x", threading.Event()
    path.write_bytes(b"x")

    def grow():
        with path.open("ab") as file:
            while not stop.wait(0.001):
                file.write(b"x" * 100_000)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        for _ in range(5):
            fs.read("/x")
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/etc/real", "inside"), ("etc/real", "inside"), ("../../../etc/real", "inside"), ("/nowhere", Why.ABSENT),
        ("loop", Why.FAILED), ("/../etc/./real", "inside"), ("chain", "inside"),
    ],
)  # fmt: skip
def test_a_link_is_taken_as_the_tree_means_it(fs, tmp_path, target, found):
    """As chroot(2): what it says of the running host is nobody's business here."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "real").write_text("inside")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "chain").symlink_to("/link2")
    (tmp_path / "link2").symlink_to("/etc/../etc/real")
    (tmp_path / "x").symlink_to(target)
    reading = fs.read("/x")
    assert getattr(reading, "value", getattr(reading, "why", None)) == found
    assert isinstance(fs.exists("/x"), Missing) if found is Why.FAILED else fs.exists("/x").value == (found == "inside")


def test_a_folder_on_the_way_may_be_a_link(fs, tmp_path):
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "os-release").write_text("ID=x\n")
    (tmp_path / "lib").symlink_to("/usr/lib")
    assert fs.read("/lib/os-release").value == "ID=x\n"
    assert fs.names("/lib").value == ("os-release",)


def test_in_the_proc_of_a_running_host_self_is_its_first_process(fs, tmp_path):
    """The link leads to the reader: its mounts and its cgroup are not those of the host."""
    for pid in ("1", "77"):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cgroup").write_text(f"0::/{pid}\n")
    (tmp_path / "proc" / "self").symlink_to("77")
    assert fs.read("/proc/self/cgroup") == Known(value="0::/1\n", source="/proc/self/cgroup")
    assert fs.read("/proc/selfish").why is Why.ABSENT


def test_a_device_number_is_spelt_as_in_mountinfo(fs, tmp_path):
    number = os.stat(tmp_path).st_dev
    assert fs.device("/").value == f"{os.major(number)}:{os.minor(number)}"
    assert fs.device("/none").why is Why.ABSENT
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert LiveFs().device("/proc").value in {words[2] for words in lines if words[4] == "/proc"}


def test_a_piece_that_nobody_wants_may_be_anything(fs, tmp_path):
    """Any user can mount something whose name is no UTF-8."""
    (tmp_path / "x").write_bytes(b"1 /mnt/caf\xe9 - fuse\n2 /proc - proc\n")
    assert fs.pieces("/x", ("proc",), "\n").value == ("2 /proc - proc",)
    assert fs.pieces("/x", ("fuse",), "\n").why is Why.MALFORMED


def test_a_file_that_is_held_is_read_as_it_is_now(fs, tmp_path):
    path = tmp_path / "memory.max"
    path.write_text("64\n")
    held = fs.hold("/memory.max", fs.device("/").value).value
    path.write_text("max\n")
    assert fs.reread(held, "/memory.max") == Known(value="max\n", source="/memory.max")
    path.rename(tmp_path / "away")
    path.write_text("64\n")
    assert fs.reread(held, "/memory.max").value == "max\n"
    fs.release(held)
    assert fs.reread(held, "/memory.max").why is Why.FAILED


def test_a_file_of_another_file_system_is_not_held(fs, tmp_path):
    """As one that was mounted over the kernel's."""
    (tmp_path / "memory.max").write_text("64\n")
    assert fs.hold("/memory.max", "0:999").why is Why.MALFORMED
    assert fs.hold("/none", "0:999").why is Why.ABSENT


def test_a_file_has_one_identity_by_all_its_names(fs, tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").write_text("")
    assert fs.identity("/a") == replace(fs.identity("/b"), source="/a")
    assert fs.identity("/a").value != fs.identity("/c").value
    assert fs.identity("/none").why is Why.ABSENT


def test_a_file_of_proc_is_read_whole(fs, tmp_path):
    (tmp_path / "environ").write_bytes(b"A=\xff\0" * 40_000)
    assert fs.quick("/environ").value == b"A=\xff\0" * 40_000
    assert fs.quick("/none").why is Why.ABSENT


def test_only_where_no_device_can_be_a_file_is_opened_at_once(monkeypatch, tmp_path):
    """A tree can have anything anywhere, and links of /proc lead anywhere."""
    looked = []
    real = os.stat
    monkeypatch.setattr(
        "cgroup_preflight.host.files.os.stat", lambda path, **how: looked.append(path) or real(path, **how)
    )
    assert LiveFs().read("/sys/devices/system/cpu/online").value
    assert not looked
    assert LiveFs().read("/proc/self/comm").value
    (tmp_path / "sys").mkdir()
    os.mkfifo(tmp_path / "sys" / "x")
    assert LiveFs(str(tmp_path)).read("/sys/x").why is Why.MALFORMED
    assert looked == ["/proc/self/comm", f"{tmp_path}/sys/x"]
