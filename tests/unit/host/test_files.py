"""Atomic replacement: the old file or the new one, with the metadata of the old one."""

import fcntl
import os
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.host.files import replacing, temporary_path


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
