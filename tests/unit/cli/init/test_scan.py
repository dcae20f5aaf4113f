"""Looking at folders."""

import os
from pathlib import Path

import pytest

from cgroup_preflight.cli.init import scan as module
from cgroup_preflight.cli.init.scan import scan
from tests.unit.golang.binaries import Part, elf

MAIN = "package main\nfunc main() {}\n"
PROGRAM = elf(segments=[Part(data=b"\xc3", flags=5)])


def put(folder: Path, **files: object) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())


def test_modules_packages_and_binaries(tmp_path: Path) -> None:
    put(tmp_path, **{"go.mod": 'module "example.com/shop/v2" // x\n', "cmd/api/main.go": MAIN, "dist/api": PROGRAM,
                     "sub/go.mod": "// nothing\n", "dist/notes": b"text", "dist/plain": PROGRAM})  # fmt: skip
    for name in ("api", "notes"):
        (tmp_path / "dist" / name).chmod(0o755)
    found = scan(str(tmp_path))
    assert found.modules == {"": "example.com/shop/v2", "sub": ""}
    assert list(found.packages) == ["cmd/api"]
    assert found.binaries == {"dist/api": False}
    assert found.complete


@pytest.mark.parametrize("name", ["vendor", "node_modules", ".git", "testdata", ".hidden", "_old", "site-packages"])
def test_folders_of_others_are_passed_over(tmp_path: Path, name: str) -> None:
    put(tmp_path, **{f"{name}/main.go": MAIN, f"a/{name}/go.mod": "module x\n"})
    assert scan(str(tmp_path)).packages == {}
    assert scan(str(tmp_path)).modules == {}


def test_no_link_is_followed(tmp_path: Path) -> None:
    put(tmp_path, **{"real/main.go": MAIN, "inside/keep.txt": ""})
    (tmp_path / "inside/loop").symlink_to(tmp_path)
    (tmp_path / "inside/main.go").symlink_to(tmp_path / "real/main.go")
    (tmp_path / "inside/go.mod").symlink_to("/etc/hostname")
    found = scan(str(tmp_path))
    assert list(found.packages) == ["real"]
    assert found.modules == {}


def test_pipes_and_unreadable_things_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "main.go")
    put(tmp_path, **{"go.mod/file": ""})
    assert scan(str(tmp_path)).packages == {}
    assert scan(str(tmp_path / "absent")).modules == {}


def test_names_that_are_not_utf8_are_passed_over(tmp_path: Path) -> None:
    try:
        os.mkdir(os.fsencode(str(tmp_path)) + b"/\xff")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / os.fsdecode(b"\xff") / "main.go").write_text(MAIN)
    assert scan(str(tmp_path)).packages == {}


def test_depth_count_and_sources_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, **{"/".join("abcdefghijkl") + "/main.go": MAIN, "main.go": MAIN})
    found = scan(str(tmp_path))
    assert list(found.packages) == [""]
    assert not found.complete
    monkeypatch.setattr(module, "ENTRIES_MAX", 1)
    assert not scan(str(tmp_path)).complete
    monkeypatch.setattr(module, "ENTRIES_MAX", 100)
    monkeypatch.setattr(module, "SOURCES_MAX", 0)
    assert scan(str(tmp_path)).packages == {}
