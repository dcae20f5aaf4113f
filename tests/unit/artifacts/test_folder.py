"""Folders."""

import os
import subprocess
from pathlib import Path

import pytest

from cgroup_preflight.artifacts import folder
from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.core.errors import UsageError
from tests.unit.artifacts import making
from tests.unit.artifacts.making import DROP_IN, MANIFEST, SLICE, UNITS, put, request


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "out"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/user-api").write_bytes(b"elf")
    (root / "usr/bin/user-api").chmod(0o751)
    (root / "usr/bin/alias").symlink_to("user-api")
    os.link(root / "usr/bin/user-api", root / "usr/bin/twin")
    (root / "usr/bin").chmod(0o711)
    os.utime(root / "usr/bin", (1, 2))
    return root


def _state(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        own = (status.st_mtime_ns,) if path.is_dir() else (status.st_ino, status.st_mtime_ns, status.st_nlink)
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, *own)
    return found


def test_the_tree_changes_in_one_step_and_only_by_our_files(tree: Path) -> None:
    before = _state(tree)
    done = put(str(tree))
    after = _state(tree)
    assert done.whole
    new = {SLICE, DROP_IN, MANIFEST}
    assert {name for name in after if (tree / name).is_file()} - before.keys() == new
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {".", "usr"}, "only folders that got an entry have another time"
    assert (tree / SLICE).stat().st_mode & 0o7777 == 0o644
    assert sorted(path.name for path in tree.parent.iterdir()) == ["out"]
    assert put(str(tree)).changed is False


def test_the_process_own_folder_is_changed_file_by_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "usr")
    inode = tree.stat().st_ino
    done = put(str(tree))
    assert done.whole is False
    assert tree.stat().st_ino == inode
    assert making.check(str(tree)).edit.empty


def test_files_of_an_earlier_plan_go_with_their_folder(tree: Path) -> None:
    put(str(tree))
    renamed = making.ONE_SERVICE.replace("services.user-api", "services.web-api")
    put(str(tree), request(renamed))
    assert not (tree / UNITS / "user-api.service.d").exists()
    assert (tree / UNITS / "web-api.service.d").is_dir()


def test_a_hard_link_to_our_file_elsewhere_is_not_written_through(tree: Path, tmp_path: Path) -> None:
    put(str(tree))
    other = tmp_path / "other"
    os.link(tree / SLICE, other)
    put(str(tree), request(limit="1G"))
    assert "192M" in other.read_text()


def test_a_file_that_a_build_wrote_meanwhile_is_not_lost(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, swap = _state(tree), folder.exchange

    def write_and_exchange(first: str, second: str) -> None:
        if not (tree / "late").exists():
            (tree / "late").write_text("by the build")
        swap(first, second)

    monkeypatch.setattr(folder, "exchange", write_and_exchange)
    with pytest.raises(UsageError, match="another process wrote it"):
        put(str(tree))
    assert (tree / "late").read_text() == "by the build"
    assert _state(tree).keys() - before.keys() == {"late"}


def test_links_where_we_write_are_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tree / "usr/lib").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="symbolic link"):
        put(str(tree))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_fifos_and_links_that_lead_outside_are_left_alone(tree: Path) -> None:
    os.mkfifo(tree / "usr/bin/worker")
    (tree / "etc").symlink_to("/etc")
    (tree / "up").symlink_to("../..")
    put(str(tree))
    assert (tree / SLICE).is_file()
    assert (tree / "up").is_symlink()


def test_a_tree_so_deep_that_it_exhausts_its_reader_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    with pytest.raises(ArtifactError, match="levels deep"):
        put(str(tree))
    while Path.cwd() != tree:  # pytest's own clean-up is by recursion
        os.chdir("..")
        os.rmdir("d")


@pytest.mark.starts_processes
def test_the_hash_is_that_of_the_list_of_files(tree: Path) -> None:
    argv = ["sh", "-c", r"find * -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"]
    for _ in range(2):
        listed = subprocess.run(argv, cwd=tree, capture_output=True, text=True, check=True).stdout.split()[0]
        done = put(str(tree))
        assert done.compared.sha256 == listed
    assert done.after == listed


def test_source_date_is_the_time_of_new_files(tree: Path) -> None:
    put(str(tree), source_date=1234567)
    assert (tree / SLICE).stat().st_mtime == 1234567


def test_what_a_killed_run_left_beside_it_is_cleaned_up(tree: Path) -> None:
    left = tree.parent / ".out.cgroup-preflight.tmp"
    (left / "usr").mkdir(parents=True)
    put(str(tree))
    assert not left.exists()
