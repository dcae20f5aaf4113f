"""`cgroup-preflight guest`: its images, and what goes into a guest; nothing is booted."""

import argparse
import contextlib
import datetime as dt
import os

import pytest

from cgroup_preflight.cli import guest, guest_shell
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.guest import image, saved_state, tools, uml_kernel
from cgroup_preflight.guest.image import cache_folder
from cgroup_preflight.guest.recipe import recipe_for
from tests.unit.guest.played import PlayedGuest
from tests.unit.guest.test_image import put_image


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache with the images of Debian 12 and, of a recipe that is no more, of Debian 13."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder(os.environ)
    made = put_image(folder, recipe_for("debian-12"))
    made.root.parent.rename(folder / "debian-13-0000000000000000")
    put_image(folder, recipe_for("debian-12"))
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_list(cache, capsys):
    (cache / "debian-13-0000000000000000" / "vmlinuz").touch()
    assert guest.main(["list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{recipe_for('debian-12').name}  uml       0 MB",
        "debian-13-0000000000000000  qemu      0 MB  from another version",
    ]


def test_saved_states_are_listed_and_go_alone_or_with_their_image(cache, capsys):
    name = recipe_for("debian-12").name
    states = saved_state.states_folder(cache)
    states.mkdir()
    for state in (f"{name}+00", f"{name}+11", "debian-13-0000000000000000+22"):
        (states / f"{state}.state").write_bytes(bytes(3 << 20))
    assert guest.main(["list"]) == 0
    assert f"{name}+00  qemu      3 MB  saved state" in capsys.readouterr().out.splitlines()
    assert guest.main(["remove", f"{name}+00"]) == 0
    assert capsys.readouterr().out == f"removed {name}+00\n"
    assert guest.main(["remove", "debian-12"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"removed {name}", f"removed {name}+11"]
    assert guest.main(["remove", "--all"]) == 0
    assert list(states.iterdir()) == []


def test_list_shows_the_age_and_the_versions_of_an_image(cache, capsys):
    recipe = recipe_for("debian-14", with_kernel=True)
    made = put_image(cache, recipe)
    home = cache / f"{recipe.name}-20261030-00000000"
    made.root.parent.rename(home)
    (home / "vmlinuz").touch()
    lists = "archive x_InRelease Fri, 30 Oct 2026 08:08:01 UTC\n"
    (home / "contents").write_text(f"{lists}linux-image-7.2.12+deb14-cloud-amd64 7.2.12-1\nsystemd 262-1\n")
    assert guest.main(["list"]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("debian-14"))
    days = (dt.datetime.now(tz=dt.UTC).date() - dt.date(2026, 10, 30)).days
    assert row.startswith(f"{home.name}  qemu ")
    assert row.endswith(
        f"  archive of 2026-10-30 ({days} day{'' if days == 1 else 's'} old), systemd 262-1, kernel 7.2.12-1"
    )
    (home / "contents").write_text("systemd 262-1\n")
    assert guest.main(["list"]) == 0
    assert "  archive of an unknown day, systemd 262-1\n" in capsys.readouterr().out
    assert guest.main(["remove", "debian-14"]) == 0
    assert not home.exists()


def test_a_kernel_of_backports_is_of_this_version(cache, capsys):
    made = put_image(cache, recipe_for("debian-13", with_kernel=True, kernel="backports"))
    home = cache / f"{made.name}-20261128-00000000"
    made.root.parent.rename(home)
    (home / "vmlinuz").touch()
    assert guest.main(["list"]) == 0
    assert f"{home.name}  qemu      0 MB\n" in capsys.readouterr().out


def test_a_newer_user_mode_linux_is_listed_and_removed(cache, capsys):
    for name in (uml_kernel.name_in(cache), "user-mode-linux-0000000000000000"):
        (cache / name).mkdir()
        (cache / name / "manifest.json").write_text("{}")
        (cache / name / "contents").write_text("user-mode-linux 7.2um1\nlibc6 2.43-7\n")
    assert guest.main(["list"]) == 0
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("user-mode-linux")]
    assert sorted(rows) == sorted([
        f"{uml_kernel.name_in(cache)}  uml       0 MB  user-mode-linux 7.2um1, libc6 2.43-7",
        "user-mode-linux-0000000000000000  uml       0 MB  user-mode-linux 7.2um1, libc6 2.43-7  from another version",
    ])  # fmt: skip
    assert guest.main(["remove", "user-mode-linux-0000000000000000"]) == 0
    assert uml_kernel.list_homes(cache) == (cache / uml_kernel.name_in(cache),)
    assert guest.main(["remove", "--all"]) == 0
    assert uml_kernel.list_homes(cache) == ()


def test_another_kernel_needs_qemu(cache):
    with pytest.raises(UsageError, match="a kernel of its own") as caught:
        guest.main(["run", "--distro", "debian-13", "--kernel", "backports", "--", "true"])
    assert caught.value.remedy.title == "add --machine qemu"


def test_an_empty_cache_lists_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert guest.main(["list"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("word", ["debian-12", recipe_for("debian-12").name])
def test_remove_one(cache, capsys, word):
    modules = [
        cache.parent / "bytecode" / f"{name}+0123"
        for name in (recipe_for("debian-12").name, "debian-13-0000000000000000")
    ]
    for home in modules:
        home.mkdir(parents=True)
    assert guest.main(["remove", word, word]) == 0
    assert names(cache) == ["debian-13-0000000000000000"]
    assert capsys.readouterr().out == f"removed {recipe_for('debian-12').name}\n"
    assert [home.exists() for home in modules] == [False, True]


def test_remove_all(cache):
    (cache.parent / "bytecode" / "debian-11-0000000000000000+0123").mkdir(parents=True)
    assert guest.main(["remove", "--all"]) == 0
    assert names(cache) == []
    assert list((cache.parent / "bytecode").iterdir()) == []
    assert guest.main(["remove", "--all"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [(["beos"], "the cache has no image 'beos'"), (["debian-12", "beos"], "no image 'beos'"), ([], "name an image, or use --all")],
)  # fmt: skip
def test_remove_removes_nothing_where_the_call_is_wrong(cache, words, message):
    before = names(cache)
    with pytest.raises(UsageError, match=message) as caught:
        guest.main(["remove", *words])
    assert recipe_for("debian-12").name in caught.value.remedy.title
    assert names(cache) == before


def test_inputs_by_their_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").touch()
    assert guest._inputs([tmp_path / "a", tmp_path / "a" / ".." / "b"]) == {"a": tmp_path / "a", "b": tmp_path / "b"}
    assert guest._inputs([]) == {}


def test_inputs_that_cannot_be(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder / "same").mkdir(parents=True)
    with pytest.raises(UsageError, match="no such file or folder"):
        guest._inputs([tmp_path / "gone"])
    with pytest.raises(UsageError, match="another --input has the name 'same'"):
        guest._inputs([tmp_path / "x" / "same", tmp_path / "y" / "same"])
    with pytest.raises(UsageError, match="the root folder has no name"):
        guest._inputs([tmp_path.__class__("/")])


@pytest.mark.parametrize("text", ["0", "-1", "1e7", "nan", "inf"])
def test_a_time_limit_has_to_be_one(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds above 0"):
        guest._seconds(text)
    assert guest._seconds("0.5") == 0.5
    with pytest.raises(ValueError, match="could not convert"):
        guest._seconds("soon")


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["run"], ["run", "--timeout", "0", "--", "x"], ["build", "--distro", "beos"]]
)
def test_a_call_that_argparse_answers(words, capsys):
    with pytest.raises(SystemExit) as end:
        guest.main(words)
    assert end.value.code == (0 if words == ["--help"] else 2)
    text = "".join(capsys.readouterr())
    assert ("usage: cgroup-preflight guest" in text) is True


class Terminal(PlayedGuest):
    """Shows what it is given, and ends with the shell's status."""

    def __init__(self, *turns: tuple[bytes, int | None]) -> None:
        super().__init__()
        self.shows, self.typed, self.opened = list(turns), [], ()

    def open_terminal(self, argv, *, rows, columns):
        self.opened = (argv, rows > 0, columns > 0)

    def exchange(self, typed, *, timeout):
        self.typed.append(typed)
        return self.shows.pop(0)


def test_a_shell_on_pipes(monkeypatch):
    """Its input ends, which is Ctrl-D at a terminal; its output is written whole."""
    keyboard, screen = os.pipe(), os.pipe()
    os.write(keyboard[1], b"exit 7\n")
    os.close(keyboard[1])
    with os.fdopen(keyboard[0]) as stdin, os.fdopen(screen[1], "w") as stdout:
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.stdout", stdout)
        shell = Terminal((b"$ ", None), (b"", None), (b"exit\r\n", 7))
        assert guest_shell.attach(shell) == 7
        assert shell.typed == [b"exit 7\n", b"\x04", b""]
        assert shell.opened == (["bash", "-l"], True, True)
        assert os.read(screen[0], 100) == b"$ exit\r\n"
    os.close(screen[0])


@pytest.mark.parametrize("name", ["Redis", "redis-server:arm64", "-o", "a b", ""])
def test_a_name_that_is_no_package_is_refused(name, capsys):
    with pytest.raises(SystemExit):
        guest.main(["build", f"--package={name}"])
    assert "argument --package" in capsys.readouterr().err


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("refresh", [True, False])
def test_build_downloads_the_program_once_and_first_where_there_is_none(
    tmp_path, monkeypatch, installed, exists, refresh
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, done = cache_folder(os.environ), []
    made = put_image(folder, recipe_for("debian-12"))
    if not exists:
        image.remove(made.name, folder)

    def download(anew):
        if anew or "download" not in done:
            done.append("download")
            monkeypatch.setattr(uml_kernel, "found_in", lambda folder: folder / "linux.uml")

    @contextlib.contextmanager
    def fetching(_folder, _say, *, anew=False):
        yield
        download(anew)

    def build(*_args):
        done.append("build")
        image.shutil.rmtree(made.root.parent, ignore_errors=True)
        return put_image(folder, recipe_for("debian-12")).root.parent

    monkeypatch.setattr(uml_kernel, "found_in", lambda _: None)
    monkeypatch.setattr(uml_kernel, "fetch", lambda _folder, _say, *, anew=False: download(anew))
    monkeypatch.setattr(uml_kernel, "fetching", fetching)
    monkeypatch.setattr(tools, "is_installed", lambda name: installed or name != "linux.uml")
    monkeypatch.setattr(image, "_build", build)
    monkeypatch.setattr(guest, "warm_up", lambda *_: None)
    assert guest.main(["build", "--quiet", *(["--refresh"] if refresh else [])]) == 0
    builds = ["build"] if refresh or not exists else []
    assert done == ([*builds, "download"] if installed and builds else ["download", *builds])


def test_refresh_brings_the_newest_program_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder, asked = cache_folder(os.environ), []

    @contextlib.contextmanager
    def fetching(_folder, _say, *, anew=False):
        asked.append(anew)
        yield

    monkeypatch.setattr(uml_kernel, "fetch", lambda *_args, **_named: pytest.fail("it comes with the image"))
    monkeypatch.setattr(uml_kernel, "found_in", lambda folder: folder / "linux.uml")
    monkeypatch.setattr(uml_kernel, "fetching", fetching)
    monkeypatch.setattr(tools, "is_installed", lambda name: name != "linux.uml")
    monkeypatch.setattr(image, "_build", lambda *_: put_image(folder, recipe_for("debian-12")).root.parent)
    monkeypatch.setattr(guest, "warm_up", lambda *_: None)
    assert guest.main(["build", "--quiet", "--refresh"]) == 0
    assert asked == [True]
