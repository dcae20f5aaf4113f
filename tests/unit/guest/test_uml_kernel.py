"""A newer user-mode-linux comes into the cache, and what goes wrong leaves the one of the host in use."""

import shutil
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from cgroup_preflight.guest import store, tools, uml_kernel

_PROGRAM = Path("/usr/bin/linux.uml")
_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
pytestmark = pytest.mark.starts_processes


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose mmdebstrap puts both packages into `root`, and whose dpkg-deb reads them: the real ones need a network.

    Its own user-mode-linux says that it is Linux 6.1.
    """
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "mmdebstrap": f'for last; do :; done; mkdir "$last"; for name in user-mode-linux libc6; do cp {tmp_path}/package.tar "$last/${{name}}_1_amd64.deb"; done',
        "dpkg-deb": 'case $1 in --fsys-tarfile) cat "$2" ;; *) echo "user-mode-linux 7.2um1" ;; esac',
        "linux.uml": "echo 6.1.176",
        "apt-config": "true",
    }
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    keyring = tmp_path / "keyring"
    keyring.touch()
    monkeypatch.setattr(uml_kernel.builders, "PROGRAMS", ("mmdebstrap", "tar"))
    monkeypatch.setattr(tools, "_SEARCH_PATH", f"{programs}:/usr/bin:/bin")
    return programs


@pytest.fixture
def package(tmp_path):
    """The package of this host's own program, with its loader and C library."""
    if not _PROGRAM.exists():
        pytest.skip("needs user-mode-linux")
    names = {_PROGRAM: "usr/bin/linux.uml"}
    names |= {_LIBRARIES / name: f"usr/lib/x86_64-linux-gnu/{name}" for name in ("ld-linux-x86-64.so.2", "libc.so.6")}
    with tarfile.open(tmp_path / "package.tar", "w") as archive:
        for path, name in names.items():
            archive.add(path.resolve(), f"./{name}")


def test_the_program_of_the_package_runs_with_the_loader_in_its_folder(tmp_path, host, package):
    said: list[str] = []
    folder = tmp_path / "cache"
    uml_kernel.fetch(folder, said.append)
    found = uml_kernel.found_in(folder)
    assert found is not None, said
    assert said == ["downloading a newer user-mode-linux (once)"]
    assert str(found.parent / "ld-linux-x86-64.so.2").encode() in found.read_bytes()
    assert uml_kernel.version_of(found) == uml_kernel.version_of(_PROGRAM) != ""
    assert sorted(path.name for path in found.parent.iterdir()) == [
        "contents", "ld-linux-x86-64.so.2", "libc.so.6", "linux.uml", store.MANIFEST,
    ]  # fmt: skip
    assert stat.S_IMODE(found.stat().st_mode) == 0o755
    # There is nothing more to do, until somebody wants the newest.
    (host / "mmdebstrap").write_text("#!/bin/sh\nexit 7\n")
    uml_kernel.fetch(folder, pytest.fail)
    uml_kernel.fetch(folder, said.append, anew=True)
    assert "exited with 7" in said[-1]
    assert uml_kernel.found_in(folder) == found


def test_a_program_that_was_changed_is_not_used(tmp_path, host, package):
    folder = tmp_path / "cache"
    uml_kernel.fetch(folder, lambda _: None)
    found = uml_kernel.found_in(folder)
    assert found is not None
    with found.open("ab") as file:
        file.write(b"more")
    assert uml_kernel.found_in(folder) is None


def test_the_folder_of_the_cache_is_part_of_the_name(tmp_path):
    assert uml_kernel.name_in(tmp_path / "a") != uml_kernel.name_in(tmp_path / "b")


@pytest.mark.parametrize(
    ("version", "wanted"), [("6.1.176", True), ("6.15", True), ("6.16.2", False), ("7.2.7", False)]
)
def test_a_host_with_seccomp_needs_no_other_program(tmp_path, host, version, wanted):
    (host / "linux.uml").write_text(f"#!/bin/sh\necho {version}\n")
    said: list[str] = []
    uml_kernel.fetch(tmp_path / "cache", said.append)
    assert bool(said) == wanted


def test_what_is_no_program_is_said_in_one_line(tmp_path, host):
    source = tmp_path / "usr/bin"
    source.mkdir(parents=True)
    (source / "linux.uml").write_text("no program\n")
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for name in ("ld-linux-x86-64.so.2", "libc.so.6"):
        (libraries / name).touch()
    subprocess.run(["tar", "-cf", tmp_path / "package.tar", "-C", tmp_path, "./usr"], check=True, timeout=30)
    said: list[str] = []
    uml_kernel.fetch(tmp_path / "cache", said.append)
    assert "user-mode-linux of forky: no ELF program" in said[-1]
    assert "\n" not in said[-1]
    assert uml_kernel.found_in(tmp_path / "cache") is None
    assert not list((tmp_path / "cache").glob("*/*"))
    assert not shutil.which("linux.uml", path=str(tmp_path / "cache"))


def test_a_program_that_does_not_start_is_not_kept(tmp_path, host, package):
    """As on a file system that allows no programs: here its C library is no library."""
    whole = (tmp_path / "package.tar").rename(tmp_path / "whole.tar")
    broken = tmp_path / "broken"
    broken.write_text("no library")
    with tarfile.open(tmp_path / "package.tar", "w") as archive:
        archive.add(broken, "./usr/lib/x86_64-linux-gnu/libc.so.6")
    # tar takes the first file of a name.
    subprocess.run(["tar", "-Af", tmp_path / "package.tar", whole], check=True, timeout=30)
    said: list[str] = []
    uml_kernel.fetch(tmp_path / "cache", said.append)
    assert "does not start on this host" in said[-1]
    assert uml_kernel.found_in(tmp_path / "cache") is None


def test_a_package_is_read_no_further_than_its_program(tmp_path, host, package, monkeypatch):
    """The modules of the kernel, which nobody loads, are nine tenths of it: here they never end."""
    endless = tarfile.TarInfo("./usr/lib/uml/modules")
    endless.size = 1 << 33
    with (tmp_path / "package.tar").open("r+b") as file:
        with tarfile.open(fileobj=file) as archive:
            end = max(member.offset_data + member.size for member in archive)
        file.truncate(-(-end // 512) * 512)
        file.seek(0, 2)
        file.write(endless.tobuf())
    (host / "dpkg-deb").write_text('#!/bin/sh\ncase $1 in --fsys-tarfile) cat "$2" /dev/zero ;; *) echo x 1 ;; esac\n')
    monkeypatch.setattr(uml_kernel, "_SECONDS", 20.0)
    said: list[str] = []
    uml_kernel.fetch(tmp_path / "cache", said.append)
    assert uml_kernel.found_in(tmp_path / "cache") is not None, said


def test_a_package_without_the_program_is_said(tmp_path, host):
    (tmp_path / "other").touch()
    subprocess.run(["tar", "-cf", tmp_path / "package.tar", "-C", tmp_path, "./other"], check=True, timeout=30)
    said: list[str] = []
    uml_kernel.fetch(tmp_path / "cache", said.append)
    assert "downloading user-mode-linux: unshare exited with 2" in said[-1]
    assert "\n" not in said[-1]
    assert not list((tmp_path / "cache").glob("*/*"))


def test_it_comes_while_an_image_is_built(tmp_path, host, package):
    folder, said = tmp_path / "cache", []
    script = host / "mmdebstrap"
    script.write_text(script.read_text() + f"touch {tmp_path}/downloaded\n")
    with uml_kernel.fetching(folder, said.append):
        deadline = time.monotonic() + 30
        while not (tmp_path / "downloaded").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "downloaded").exists()
        assert uml_kernel.found_in(folder) is None
    assert uml_kernel.found_in(folder) is not None
    assert said == ["downloading a newer user-mode-linux (once)", "waiting for user-mode-linux"]
    with uml_kernel.fetching(folder, pytest.fail):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt(), tools.ToolError("no image", "")])
def test_with_an_image_that_cannot_be_built_it_ends_and_nothing_stays(tmp_path, host, package, error):
    folder = tmp_path / "cache"
    (host / "mmdebstrap").write_text(f"#!/bin/sh\ntouch {tmp_path}/began\nsleep 600\ntouch {tmp_path}/done\n")
    began = time.monotonic()
    with pytest.raises(type(error)), uml_kernel.fetching(folder, lambda _: None):
        while not (tmp_path / "began").exists() and time.monotonic() < began + 30:
            time.sleep(0.05)
        raise error
    assert time.monotonic() - began < 40
    assert (tmp_path / "began").exists()
    assert not (tmp_path / "done").exists()
    assert [path.name for path in folder.iterdir()] == [f".{uml_kernel.name_in(folder)}.lock"]


def test_a_download_that_fails_does_not_end_the_build(tmp_path, host):
    (host / "mmdebstrap").write_text("#!/bin/sh\nexit 7\n")
    said: list[str] = []
    with uml_kernel.fetching(tmp_path / "cache", said.append):
        said.append("built")
    assert said[:3] == ["downloading a newer user-mode-linux (once)", "built", "waiting for user-mode-linux"]
    assert said[3].startswith("no newer user-mode-linux, with which runs would take less time: ")
    assert len(said) == 4


def test_two_builds_do_not_wait_for_each_other(tmp_path, host, package):
    """The second one gets it after its image: the first one may still be building its own."""
    folder, said = tmp_path / "cache", []
    name = uml_kernel.name_in(folder)
    with store.locked(folder, name), pytest.raises(RuntimeError), uml_kernel.fetching(folder, said.append):
        raise RuntimeError("not waited")
    assert said == []
    assert not store.is_locked(folder, name)
    with uml_kernel.fetching(folder, said.append):
        assert store.is_locked(folder, name)
    assert uml_kernel.found_in(folder) is not None


def test_whether_nobody_has_the_lock_is_known_without_a_file(tmp_path):
    assert not store.is_locked(tmp_path / "nowhere", "x")
    assert not store.is_locked(tmp_path, "x")
    assert not list(tmp_path.iterdir())
