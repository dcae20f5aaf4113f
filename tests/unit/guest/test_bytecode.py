"""The cache of compiled modules: what a guest hands out is unpacked with care."""

import fcntl
import io
import os
import tarfile
import time
from pathlib import Path

from cgroup_preflight.guest import bytecode
from cgroup_preflight.guest.spec import CommandResult


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("./link.pyc")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)
    return buffer.getvalue()


class Guest:
    """Answers with an archive."""

    def __init__(self, packed: bytes, returncode: int = 0) -> None:
        self.packed, self.returncode = packed, returncode

    def run(self, argv, timeout):
        return CommandResult(argv=tuple(argv), returncode=self.returncode, stdout=self.packed, stderr=b"")


def test_only_modules_below_the_folder_are_kept(tmp_path):
    packed = archive(
        **{"./a.pyc": b"1", "./b/c.pyc": b"2", "./b/payload.py": b"3", "../x.pyc": b"4", "/y.pyc": b"5", "./z.so": b"6"}
    )
    folder = tmp_path / "images"
    (folder / "debian-12-0").mkdir(parents=True)
    assert bytecode.compile_in(Guest(packed), folder, "debian-12-0") == "/var/tmp/compiled"
    home = bytecode.cached(folder, "debian-12-0")
    assert home is not None
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == [
        "a.pyc", "b/c.pyc", "b/payload.py", "modules",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytecode", "images"]
    assert bytecode.cached(folder, "debian-13-0") is None


def test_without_a_compiler_the_source_does(tmp_path):
    assert bytecode.compile_in(Guest(b"", returncode=1), tmp_path, "debian-12-0") == "/run/preflight/in/src"
    assert bytecode.cached(tmp_path, "debian-12-0") is None


def test_a_broken_archive_is_not_kept(tmp_path):
    assert bytecode.compile_in(Guest(b"no tar"), tmp_path / "images", "debian-12-0") == "/var/tmp/compiled"
    assert bytecode.cached(tmp_path / "images", "debian-12-0") is None


def test_the_second_to_come_leaves_the_first_ones(tmp_path):
    (tmp_path / "images" / "debian-12-0").mkdir(parents=True)
    for content in (b"1", b"2"):
        bytecode.compile_in(Guest(archive(**{"./a.pyc": content})), tmp_path / "images", "debian-12-0")
    home = bytecode.cached(tmp_path / "images", "debian-12-0")
    assert (home / "a.pyc").read_bytes() == b"1"
    assert len(list(home.parent.iterdir())) == 1


def test_what_a_build_compiled_is_kept_once(tmp_path):
    packed, folder = tmp_path / "bytecode.tar", tmp_path / "images"
    bytecode.keep(bytecode.taken(packed), folder, "debian-12-0")
    assert bytecode.cached(folder, "debian-12-0") is None
    (folder / "debian-12-0").mkdir(parents=True)
    packed.write_bytes(archive(**{"./a.pyc": b"1", "../x.pyc": b"4"}))
    bytecode.keep(bytecode.taken(packed), folder, "debian-12-0")
    home = bytecode.cached(folder, "debian-12-0")
    assert home is not None
    assert sorted(path.name for path in home.iterdir()) == ["a.pyc", "modules"]
    assert not packed.exists()


def made(cache: Path, name: str, *, days: float = 0.0) -> Path:
    """Modules in the cache that were used so many days ago."""
    home = cache / "bytecode" / name
    home.mkdir(parents=True)
    (home / "modules").write_text("")
    then = time.time() - days * 86400
    os.utime(home, (then, then))
    return home


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "bytecode").iterdir())


def test_modules_go_with_their_image(tmp_path):
    folder = tmp_path / "images"
    bytecode.remove_unused(folder)
    (folder / "debian-12-0").mkdir(parents=True)
    own = bytecode._home(folder, "debian-12-0").name
    for name in (
        own,
        f"debian-13-0+{own.rpartition('+')[2]}",
        "debian-14-0-20261030-e8a60a17+0123",
        "debian-12-0+0123",
    ):
        made(tmp_path, name)
    bytecode.remove_unused(folder)
    assert left(tmp_path) == sorted([own, "debian-12-0+0123"])


def test_modules_of_another_source_stay_for_a_day_after_their_last_use(tmp_path):
    folder = tmp_path / "images"
    (folder / "debian-12-0").mkdir(parents=True)
    own = bytecode._home(folder, "debian-12-0").name
    made(tmp_path, own, days=30)
    made(tmp_path, "debian-12-0+0123", days=0.9)
    made(tmp_path, "debian-12-0+4567", days=1.1)
    # Parts of jobs that were killed, and of one that may still work.
    made(tmp_path, ".new-a", days=1.1)
    made(tmp_path, ".old-b", days=1.1)
    made(tmp_path, ".new-c")
    bytecode.remove_unused(folder)
    assert left(tmp_path) == sorted([".new-c", own, "debian-12-0+0123"])


def test_modules_that_a_run_uses_stay(tmp_path):
    """Also those of an image that was removed meanwhile; and a use counts as one."""
    folder = tmp_path / "images"
    home = made(tmp_path, bytecode._home(folder, "debian-12-0").name, days=30)
    with bytecode.in_use(folder, "debian-12-0") as used, bytecode.in_use(folder, "debian-12-0") as again:
        assert used == again == home
        assert time.time() - home.stat().st_mtime < 60
        bytecode.remove_unused(folder)
        assert (home / "modules").exists()
    bytecode.remove_unused(folder)
    assert left(tmp_path) == []
    with bytecode.in_use(folder, "debian-12-0") as used:
        assert used is None


def test_modules_that_are_removed_right_now_are_not_used(tmp_path):
    folder = tmp_path / "images"
    home = made(tmp_path, bytecode._home(folder, "debian-12-0").name)
    lock = bytecode._lock(home, fcntl.LOCK_EX)
    with bytecode.in_use(folder, "debian-12-0") as used:
        assert used is None
    os.close(lock)
