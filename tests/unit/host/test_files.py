"""Atomic replacement: the old file or the new one, with the metadata of the old one; safe opening."""

import fcntl
import os
import stat
import threading
import tty
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.host.files import (
    NotRegularError,
    locked_folder,
    open_regular,
    regular_handle,
    replacing,
    sync_folder,
    temporary_path,
    write_file,
    write_output,
)


def _replace(path: Path, data: bytes = b"new") -> None:
    with path.open("rb") as source, replacing(str(path), source) as sink:
        sink.write(data)


def test_mode_owner_and_attributes_stay(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    try:
        os.setxattr(path, "user.note", b"kept")
    except OSError:
        pass  # a file system without attributes has none to keep
    attributes = os.listxattr(path)
    _replace(path)
    assert (path.read_bytes(), path.stat().st_mode & 0o7777, os.listxattr(path)) == (b"new", 0o640, attributes)


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), path.open("rb") as source, replacing(str(path), source) as sink:
        sink.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_left_by_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    Path(temporary_path(str(path))).write_bytes(b"half of something longer")
    _replace(path)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with open(temporary_path(str(path)), "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process"):
            _replace(path)
    assert path.read_bytes() == b"old"


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    path, victim = tmp_path / "a", tmp_path / "victim"
    path.write_bytes(b"old")
    victim.write_bytes(b"precious")
    os.symlink(victim, temporary_path(str(path)))
    with pytest.raises(UsageError):
        _replace(path)
    os.unlink(temporary_path(str(path)))
    os.link(victim, temporary_path(str(path)))
    with pytest.raises(UsageError, match="did not make is in the way"):
        _replace(path)
    assert victim.read_bytes() == b"precious"


def test_an_artifact_that_changed_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    match = "changed while it was read"
    with pytest.raises(UsageError, match=match), path.open("rb") as source, replacing(str(path), source) as sink:
        sink.write(b"new")
        (tmp_path / "b").write_bytes(b"by another")
        os.rename(tmp_path / "b", path)
    assert path.read_bytes() == b"by another"


def test_an_artifact_that_was_written_in_place_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with path.open("rb") as source:
        since = os.fstat(source.fileno())
        path.write_bytes(b"longer")
        with pytest.raises(UsageError, match="changed while"), replacing(str(path), source, since) as sink:
            sink.write(b"new")
    assert path.read_bytes() == b"longer"


def test_a_long_name_in_many_bytes_has_a_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120)
    path.write_bytes(b"old")
    with path.open("rb") as source, replacing(str(path), source) as sink:
        sink.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_file_is_created_with_the_mode_of_the_umask_and_replaced_with_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    before = os.umask(0o027)
    try:
        write_file(str(path), b"new")
    finally:
        os.umask(before)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o640)
    path.chmod(0o604)
    write_file(str(path), b"newer")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"newer", 0o604)
    assert os.listdir(tmp_path) == ["a"]


def test_a_small_file_waits_for_another_writer(tmp_path: Path) -> None:
    """Two jobs that write the same report: the second one waits, and neither fails."""
    path = tmp_path / "a"
    other = open(temporary_path(str(path)), "wb")  # noqa: SIM115 - closed while the other one waits
    fcntl.flock(other, fcntl.LOCK_EX)
    writer = threading.Thread(target=write_file, args=(str(path), b"second"))
    writer.start()
    other.write(b"first")
    other.flush()
    os.rename(other.name, path)
    other.close()
    writer.join(timeout=20)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"second", ["a"])


@pytest.mark.parametrize("write", [write_file, write_output])
def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, write) -> None:
    with pytest.raises(UsageError, match="No such file") as caught:
        write(str(tmp_path / "none/a"), b"x")
    assert "none" in caught.value.where


def test_what_lies_in_a_folder_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "a").symlink_to("victim")
    write_file(str(tmp_path / "a"), b"new")
    assert not (tmp_path / "a").is_symlink()
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "victim").read_bytes()) == (b"new", b"precious")


@pytest.mark.parametrize("exists", [True, False])
def test_an_output_goes_through_a_link_to_a_file(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "sub").mkdir()
    if exists:
        (tmp_path / "sub/real").write_bytes(b"old")
    (tmp_path / "middle").symlink_to("sub/real")
    (tmp_path / "a").symlink_to("middle")
    write_output(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert (tmp_path / "sub/real").read_bytes() == b"new"
    assert os.listdir(tmp_path / "sub") == ["real"]


def test_an_output_goes_through_a_link_to_a_device(tmp_path: Path) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    (tmp_path / "a").symlink_to(os.ttyname(slave))
    write_output(str(tmp_path / "a"), b"to the terminal")
    assert os.read(master, 100) == b"to the terminal"
    assert (tmp_path / "a").is_symlink()
    assert stat.S_ISCHR(os.stat(tmp_path / "a").st_mode)
    assert os.listdir(tmp_path) == ["a"]
    os.close(master)
    os.close(slave)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("linked", [True, False])
def test_an_output_goes_through_a_fifo(tmp_path: Path, linked: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    path = tmp_path / "fifo"
    if linked:
        path = tmp_path / "a"
        path.symlink_to("fifo")
    write_output(str(path), b"through")
    assert os.read(reader, 100) == b"through"
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    assert path.is_symlink() is linked
    os.close(reader)


def test_a_full_device_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/dev/full")
    with pytest.raises(UsageError, match="No space left"):
        write_output(str(tmp_path / "a"), b"x")
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}", "link"])
def test_an_open_descriptor_keeps_its_mode_and_position(tmp_path: Path, form: str) -> None:
    """`>> log` with --output /dev/stdout appends: neither the file nor the link is replaced."""
    (tmp_path / "log").write_bytes(b"before\n")
    with open(tmp_path / "log", "ab", buffering=0) as log:
        inode = os.fstat(log.fileno()).st_ino
        path = form.format(log.fileno())
        if form == "link":
            path = str(tmp_path / "a")
            os.symlink(f"/dev/fd/{log.fileno()}", path)
        write_output(path, b"ours\n")
        log.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nours\nafter\n"
    assert (tmp_path / "log").stat().st_ino == inode


def test_an_output_to_a_folder_or_a_loop_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in (("", "Is a directory"), ("loop", "symbolic links")):
        with pytest.raises(UsageError, match=reason):
            write_output(str(tmp_path / name), b"x")


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "fifo link").symlink_to("fifo")
    for name, follow in (("a", True), ("a", False), ("link", True)):
        with open_regular(str(tmp_path / name), follow=follow) as file:
            assert file.read() == b"text"
    for name, follow in (("link", False), ("fifo", True), ("fifo", False), ("fifo link", True)):
        with pytest.raises(NotRegularError, match="not a regular file"):
            open_regular(str(tmp_path / name), follow=follow)
    with pytest.raises(NotRegularError):
        open_regular("/dev/zero", follow=True)
    with pytest.raises(IsADirectoryError):
        open_regular(str(tmp_path), follow=True)
    with pytest.raises(FileNotFoundError):
        open_regular(str(tmp_path / "none"), follow=True)


def test_a_file_that_becomes_a_fifo_after_the_look_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race cannot be had otherwise: `stat` answers for the file that was there before."""
    (tmp_path / "a").write_bytes(b"x")
    before = os.stat(tmp_path / "a")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr("cgroup_preflight.host.files.os.stat", lambda *_args, **_more: before)
    with pytest.raises(NotRegularError):
        open_regular(str(tmp_path / "fifo"), follow=False)


@pytest.mark.timeout(20)
def test_where_no_device_can_be_one_call_less_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened must be a regular file all the same, and a FIFO does not block."""
    (tmp_path / "a").write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr("cgroup_preflight.host.files.os.stat", lambda *_args, **_more: pytest.fail("asked"))
    os.close(regular_handle(str(tmp_path / "a"), follow=True, may_be_device=False))
    for path, error in (("fifo", NotRegularError), ("", IsADirectoryError), ("none", FileNotFoundError)):
        with pytest.raises(error):
            regular_handle(str(tmp_path / path), follow=True, may_be_device=False)


def test_a_lock_is_for_a_folder(tmp_path: Path) -> None:
    """O_DIRECTORY: a file in the place of the folder is refused."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError), locked_folder(str(tmp_path / "file")):
        pass
    with pytest.raises(NotADirectoryError):
        sync_folder(str(tmp_path / "file"))
    sync_folder(str(tmp_path))
    with locked_folder(str(tmp_path)), pytest.raises(UsageError, match="another process"), locked_folder(str(tmp_path)):
        pass
