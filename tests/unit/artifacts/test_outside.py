"""Artifacts that a config names are written in its folder only, whatever is put there before or meanwhile."""

import os
from pathlib import Path

import pytest

from cgroup_preflight.artifacts import inject
from cgroup_preflight.artifacts.inject import InjectOptions
from cgroup_preflight.cli import main
from cgroup_preflight.core.errors import UsageError
from tests.unit.artifacts import making
from tests.unit.artifacts.making import entry, tar

_DATA = tar([entry("usr/", None), entry("usr/bin/user-api", b"\x7fELF program")])
_CONFIG = '[project]\nname = "shop"\n[artifacts]\ninject = ["{}"]\n' + making.ONE_SERVICE.replace("{limit}", "192M")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and beside it what it must not change: an archive and a folder."""
    home = tmp_path / "project"
    for folder in ("project/dist", "victim/tree/usr/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (home / "dist/user-api").write_bytes(b"\x7fELF program")
    (home / "dist/user-api").chmod(0o755)
    (tmp_path / "victim/a.tar").write_bytes(_DATA)
    (tmp_path / "victim/tree/usr/bin/user-api").write_bytes(b"\x7fELF program")
    (tmp_path / "victim/tree/usr/bin/user-api").chmod(0o755)
    monkeypatch.chdir(home)
    return home


def _all(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def _inject(home: Path, glob: str, *words: str) -> int:
    (home / "cgroup-preflight.toml").write_text(_CONFIG.format(glob))
    return main(["inject", *words])


@pytest.mark.parametrize("glob", ["../victim/a.tar", "{victim}/a.tar", "../victim/*", "**/../../victim/a.tar"])
def test_a_path_out_of_the_folder(home: Path, capsys: pytest.CaptureFixture[str], glob: str) -> None:
    victim = home.parent / "victim"
    before = _all(victim)
    assert _inject(home, glob.format(victim=victim)) == 2
    assert "cgroup-preflight.toml:4: " in capsys.readouterr().err
    assert _all(victim) == before


@pytest.mark.parametrize("target", ["a.tar", "tree"])
@pytest.mark.parametrize(("link", "leads", "glob"), [
    ("dist/x", "../../victim/{}", "dist/x"), ("dist/x", "../../victim/{}", "**/x"), ("up", "..", "up/victim/{}"),
    ("dist/x", "../../victim", "dist/x/{}"), ("one", "two", "one/{}"),
])  # fmt: skip
def test_a_link_out_of_the_folder(
    home: Path, capsys: pytest.CaptureFixture[str], target: str, link: str, leads: str, glob: str
) -> None:
    victim = home.parent / "victim"
    (home / "two").symlink_to(victim)  # a link to a link
    (home / link).symlink_to(leads.format(target))
    before = _all(victim)
    assert _inject(home, glob.format(target)) == 2
    said = capsys.readouterr().err
    assert "cgroup-preflight.toml:4: " in said
    assert "is a link out of the folder of the config" in said
    assert _all(victim) == before
    assert _inject(home, glob.format(target), "--allow-outside", str(victim)) == 0
    assert _all(victim) != before


def test_a_link_within_the_folder_is_followed(home: Path) -> None:
    (home / "dist/a-1.tar").write_bytes(_DATA)
    (home / "dist/a.tar").symlink_to("a-1.tar")
    assert _inject(home, "dist/a.tar") == 0
    assert (home / "dist/a.tar").is_symlink()
    assert (home / "dist/a-1.tar").read_bytes() != _DATA


def test_a_run_refuses_it_before_anything_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "dist/x.tar").symlink_to("../../victim/a.tar")
    (home / "cgroup-preflight.toml").write_text(_CONFIG.format("dist/*.tar"))
    assert main(["run", "--engine", "guest"]) == 2
    said = capsys.readouterr()
    assert "cgroup-preflight.toml:4: " in said.err
    assert said.out == ""


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_a_folder_that_becomes_a_link_in_between(home: Path, kind: str) -> None:
    """A process of the build that is left over may rename what it owns at any time."""
    victim = home.parent / "victim"
    if kind == "tar":
        (home / "dist/a.tar").write_bytes(_DATA)
    else:
        (home / "dist/tree/usr/bin").mkdir(parents=True)
    path = "dist/a.tar" if kind == "tar" else "dist/tree"
    before = _all(victim)

    def swap(_: object) -> None:
        (home / "dist").rename(home / "moved")
        (home / "dist").symlink_to(victim)

    inject.put(path, making.request(), InjectOptions(inside=(str(home),)), swap)
    assert _all(victim) == before
    assert os.path.exists(home / "moved" / os.path.basename(path))
    assert making.check(str(home / "moved" / os.path.basename(path))).edit.empty


def test_the_last_check_is_about_the_file_that_is_opened(home: Path) -> None:
    """After the globs were matched, the artifact itself has become a link."""
    victim = home.parent / "victim"
    before = _all(victim)
    (home / "dist/a.tar").symlink_to(victim / "a.tar")
    with pytest.raises(UsageError, match="is a link out of the folder") as caught:
        inject.put("dist/a.tar", making.request(), InjectOptions(inside=(str(home),)))
    assert caught.value.where == "dist/a.tar"
    assert _all(victim) == before


def test_a_checksum_file_that_is_a_link_stays_and_is_named(home: Path) -> None:
    import hashlib

    (home / "dist/a.tar").write_bytes(_DATA)
    text = f"{hashlib.sha256(_DATA).hexdigest()}  a.tar\n"
    outside = home.parent / "victim" / "SHA256SUMS"
    outside.write_text(text)
    (home / "dist/SHA256SUMS").symlink_to(outside)
    (home / "dist/a.tar.sha256").write_text(text)
    done = inject.put("dist/a.tar", making.request(), InjectOptions(rewrite_checksums=True))
    assert outside.read_text() == text
    assert (done.stale, done.rewritten) == (("dist/SHA256SUMS",), ("dist/a.tar.sha256",))
