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


_TIE = """Package: early
Version: 1
Suggests: b

Package: wanted
Version: 1
Depends: gone | virtual

Package: a
Version: 1
Provides: virtual

Package: b
Version: 1
Provides: virtual

"""


def _narrowed(root, text):
    path = root / "var/lib/apt/lists/a_Packages"
    path.write_text(text)
    narrow(root, ["wanted"])
    return path.read_text() != text


@pytest.mark.parametrize("field", ["Depends", "Pre-Depends"])
def test_where_the_lists_order_decides_between_providers_they_stay_whole(root, field):
    """apt takes b, because of a package that nobody wants."""
    second = (root / "var/lib/apt/lists/b_Packages").read_text()
    assert not _narrowed(root, _TIE.replace("Depends:", f"{field}:"))
    assert (root / "var/lib/apt/lists/b_Packages").read_text() == second


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gone |", "a |"),  # an alternative before it is a package
        ("b\nVersion: 1\nProvides: virtual", "b\nVersion: 1"),  # only one provides it
        ("Package: a\n", "Package: virtual\nVersion: 1\n\nPackage: a\n"),  # it is a package itself
        ("Depends: gone | virtual", "Recommends: virtual"),  # nobody needs it
    ],
)
def test_where_the_order_decides_nothing_they_are_narrowed(root, old, new):
    assert old in _TIE
    assert _narrowed(root, _TIE.replace(old, new))


@pytest.mark.parametrize("field", ["Priority: required", "Essential: yes", "Important: yes"])
def test_a_required_provider_leaves_nothing_to_choose(root, field):
    """As mawk for awk in Debian."""
    text = _TIE.replace("virtual", "awk").replace("Package: a\n", f"Package: mawk\n{field}\n")
    assert _narrowed(root, text.replace("Package: b\n", "Package: gawk\n"))


def _archive(chance, *, rivals):
    """A list of packages that need, provide, break and replace each other at random.

    Names that no package has are provided by several with `rivals`, by one without.
    """
    virtual = ["v1", "v2", "v3"]
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
                provided = chance.choice((*virtual, chance.choice(names)))
                text += f"Provides: {provided}\n"
                if provided in virtual and not rivals:
                    virtual.remove(provided)
            text += "\n"
    return text


def _apt(folder, *argv):
    # As mmdebstrap does it, so that no setting of this host counts.
    environment = {"PATH": "/usr/bin:/bin", "APT_CONFIG": f"{folder}/settings", "LC_ALL": "C"}
    return subprocess.run(("apt-get", "-qq", "-oDebug::NoLocking=1", *argv), env=environment, capture_output=True,
                          text=True, timeout=60, check=False)  # fmt: skip


@pytest.mark.starts_processes
@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt")
@pytest.mark.parametrize("seed", [*range(24), 26])
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
    (tmp_path / "archive/Packages").write_text(_archive(chance, rivals=seed % 2 == 1))
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
    size = sum(path.stat().st_size for path in (tmp_path / "apt/var/lib/apt/lists").glob("*_Packages"))
    narrow(tmp_path / "apt", {name for names in asked for name in names})
    again = [_apt(tmp_path, "--print-uris", "--yes", "install", *names) for names in asked]
    assert [(done.returncode, done.stdout) for done in again] == [(done.returncode, done.stdout) for done in whole]
    assert any(done.returncode == 0 and ".deb" in done.stdout for done in whole)
    narrowed = sum(path.stat().st_size for path in (tmp_path / "apt/var/lib/apt/lists").glob("*_Packages")) < size
    assert narrowed or seed % 2 == 1
