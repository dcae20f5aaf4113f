"""The cache of compiled modules: what a guest hands out is unpacked with care."""

import io
import tarfile

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
    assert bytecode.compile_in(Guest(packed), folder, "debian-12-0") == "/var/tmp/compiled"
    home = bytecode.cached(folder, "debian-12-0")
    assert home is not None
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == [
        "a.pyc", "b/c.pyc", "b/payload.py", "modules",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytecode"]
    assert bytecode.cached(folder, "debian-13-0") is None


def test_without_a_compiler_the_source_does(tmp_path):
    assert bytecode.compile_in(Guest(b"", returncode=1), tmp_path, "debian-12-0") == "/run/preflight/in/src"
    assert bytecode.cached(tmp_path, "debian-12-0") is None


def test_a_broken_archive_is_not_kept(tmp_path):
    assert bytecode.compile_in(Guest(b"no tar"), tmp_path / "images", "debian-12-0") == "/var/tmp/compiled"
    assert bytecode.cached(tmp_path / "images", "debian-12-0") is None


def test_the_second_to_come_leaves_the_first_ones(tmp_path):
    for content in (b"1", b"2"):
        bytecode.compile_in(Guest(archive(**{"./a.pyc": content})), tmp_path / "images", "debian-12-0")
    home = bytecode.cached(tmp_path / "images", "debian-12-0")
    assert (home / "a.pyc").read_bytes() == b"1"
    assert len(list(home.parent.iterdir())) == 1


def test_what_a_build_compiled_is_kept_once(tmp_path):
    packed, folder = tmp_path / "bytecode.tar", tmp_path / "images"
    bytecode.keep(packed, folder, "debian-12-0")
    assert bytecode.cached(folder, "debian-12-0") is None
    packed.write_bytes(archive(**{"./a.pyc": b"1", "../x.pyc": b"4"}))
    bytecode.keep(packed, folder, "debian-12-0")
    home = bytecode.cached(folder, "debian-12-0")
    assert home is not None
    assert sorted(path.name for path in home.iterdir()) == ["a.pyc", "modules"]
    assert not packed.exists()
