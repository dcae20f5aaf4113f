"""Of narrow package lists, apt chooses the packages that it chooses of the whole lists."""

import random
import shutil
import subprocess

import pytest

from cgroup_preflight.guest.package_lists import narrow

_FIRST = """Package: wanted
Version: 1
Pre-Depends: pre:any (>= 2), gone
Depends: one | other (<< 3) [amd64], virtual,
 folded
Recommends: recommended
Conflicts: enemy
Description: x
 Depends: text

Package: pre
Version: 2

Package: one
Version: 1

Package: other
Version: 1
Depends: deep

Package: deep
Version: 1
Depends: wanted

Package: provider
Version: 1
Provides: something (= 1), virtual (= 2)

Package: folded
Version: 1

Package: recommended
Version: 1

Package: enemy
Version: 1

Package: vital
Essential: yes
Version: 1

Package: usual
Version: 1
Priority: required

Package: seldom
Version: 1
Priority: optional
"""
_SECOND = """Version: 3
Package: one
Depends: newer

Package: newer
Version: 1

Package: useless
Version: 1
"""


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "var/lib/apt/lists"
    (folder / "partial").mkdir(parents=True)
    (folder / "a_Packages").write_text(_FIRST)
    (folder / "b_Packages").write_text(_SECOND)
    (folder / "c_Packages").write_text("")
    (folder / "a_InRelease").write_text("Package: release\n")
    return tmp_path


def _left(root, name):
    text = (root / "var/lib/apt/lists" / name).read_text()
    assert not text or text.endswith("\n\n")
    assert "\n\n\n" not in text
    return [line.split()[1] for line in text.splitlines() if line.startswith("Package:")]


def test_what_can_be_chosen_stays_as_it_is(root):
    narrow(root, ["wanted", "nothing"])
    assert _left(root, "a_Packages") == [
        "wanted", "pre", "one", "other", "deep", "provider", "folded", "vital", "usual",
    ]  # fmt: skip
    assert (root / "var/lib/apt/lists/a_Packages").read_text().startswith(_FIRST.partition("Package: recommended")[0])
    # All versions of a package, whichever list has them, and wherever in a paragraph its name is.
    assert _left(root, "b_Packages") == ["one", "newer"]
    assert (root / "var/lib/apt/lists/b_Packages").read_text().startswith("Version: 3\nPackage: one\n")
    assert _left(root, "c_Packages") == []
    assert (root / "var/lib/apt/lists/a_InRelease").read_text() == "Package: release\n"


def _archive(chance):
    """A list of packages that need, provide, break and replace each other at random."""
    names = [f"p{number}" for number in range(80)]
    text = ""
    for name in names:
        for version in range(1, chance.choice((2, 2, 2, 3))):
            text += f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x\nDescription: x\n"
            text += f"Filename: {name}_{version}.deb\nSize: 1\nSHA256: {64 * '0'}\n"
            text += f"Priority: {chance.choice(['required'] + 30 * ['optional'])}\n"
            text += chance.choice(["Essential: yes\n"] + 30 * [""])
            for field in ("Depends", "Pre-Depends", "Conflicts", "Recommends", "Breaks"):
                some = chance.sample([*names, "v1", "v2", "v3"], chance.choice((0, 0, 0, 1, 2)))
                if some and (field in ("Depends", "Recommends") or chance.random() < 0.04):
                    text += f"{field}: {chance.choice((', ', ' | ')).join(some)}\n"
            if chance.random() < 0.1:
                text += f"Provides: {chance.choice(('v1', 'v2', 'v3', chance.choice(names)))}\n"
            text += "\n"
    return text


def _apt(folder, *argv):
    # As mmdebstrap does it, so that no setting of this host counts.
    environment = {"PATH": "/usr/bin:/bin", "APT_CONFIG": f"{folder}/settings", "LC_ALL": "C"}
    return subprocess.run(("apt-get", "-qq", "-oDebug::NoLocking=1", *argv), env=environment, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip


@pytest.mark.starts_processes
@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt")
@pytest.mark.parametrize("seed", range(4))
def test_apt_chooses_the_same(tmp_path, seed):
    chance = random.Random(seed)
    for name in ("apt/etc/apt/apt.conf.d", "apt/etc/apt/preferences.d", "apt/var/lib/apt/lists/partial",
                 "apt/var/cache/apt/archives/partial", "archive"):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "apt/status").touch()
    (tmp_path / "settings").write_text(
        f'Dir "{tmp_path}/apt"; Dir::State::Status "{tmp_path}/apt/status"; APT::Sandbox::User "root"; '
        'Apt::Install-Recommends "false"; Acquire::Languages "none";'
    )
    (tmp_path / "archive/Packages").write_text(_archive(chance))
    (tmp_path / "apt/etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{tmp_path}/archive ./\n")
    updated = _apt(tmp_path, "update")
    assert updated.returncode == 0, updated.stderr
    # apt reads a list in its place as long as it is that of the archive.
    for path in (tmp_path / "apt/var/lib/apt/lists").iterdir():
        if path.is_symlink():
            text = path.read_bytes()
            path.unlink()
            path.write_bytes(text)
    asked = [("?essential", "?priority(required)", *chance.sample([f"p{n}" for n in range(80)], 3)) for _ in range(3)]
    whole = [_apt(tmp_path, "--print-uris", "--yes", "install", *names) for names in asked]
    narrow(tmp_path / "apt", {name for names in asked for name in names})
    again = [_apt(tmp_path, "--print-uris", "--yes", "install", *names) for names in asked]
    assert [(done.returncode, done.stdout) for done in again] == [(done.returncode, done.stdout) for done in whole]
    assert any(done.returncode == 0 and ".deb" in done.stdout for done in whole)
