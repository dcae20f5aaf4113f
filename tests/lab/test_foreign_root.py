"""Roots that nobody here made: imported from an archive, booted, and used without Python in them."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

_VALIDITY = '--aptopt=Acquire::Check-Valid-Until "false"'
_INCLUDED = "systemd,systemd-sysv,dbus"


def _run(*words: str, cache: Path, status: int = 0, stdin: str = "") -> str:
    argv = [sys.executable, "-m", "cgroup_preflight", "guest", *words]
    done = subprocess.run(
        argv, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, input=stdin, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def _with_hostile_members(path: Path) -> None:
    """Adds what must not reach this machine: a device, a way out, and files through links that lead out."""
    with tarfile.open(path, "a") as archive:
        for name, kind, link in (
            ("srv/disk", tarfile.BLKTYPE, ""), ("../../../../escaped-by-dots", tarfile.REGTYPE, ""),
            ("srv/out", tarfile.SYMTYPE, "/var/tmp"), ("srv/out/escaped-by-link", tarfile.REGTYPE, ""),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info, io.BytesIO(b""))


@pytest.mark.measured
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("suite", "systemd"), [("bullseye", "247"), ("sid", "26")])
def test_a_root_without_python_is_imported_and_used(suite: str, systemd: str, tmp_path: Path) -> None:
    """Measured, because mmdebstrap takes a minute for each: the oldest systemd that is to be had, and the newest."""
    root, cache = tmp_path / "root.tar", tmp_path / "cache"
    argv = ("mmdebstrap", "--variant=minbase", f"--include={_INCLUDED}", "--mode=root", _VALIDITY, suite, str(root))
    subprocess.run(argv, check=True, capture_output=True, timeout=600)
    _with_hostile_members(root)
    said = _run("import", str(root), "--name", f"foreign-{suite}", cache=cache)
    assert f"systemd {systemd}" in said
    assert "cgroup v2: cpu io memory pids" in said
    script = "command -v python3; cat /proc/1/comm; ls /escaped-by-dots /var/tmp/escaped-by-link; exit 4"
    said = _run("run", "--distro", f"foreign-{suite}", "--", "sh", "-c", script, cache=cache, status=4)
    assert said.splitlines() == ["systemd", "/escaped-by-dots", "/var/tmp/escaped-by-link"]
    assert not Path("/escaped-by-dots").exists()
    assert not Path("/var/tmp/escaped-by-link").exists()
    full = _run("run", "--full", "--distro", f"foreign-{suite}", "--", "systemctl", "is-active", "dbus", cache=cache)
    assert full.strip() == "active"
    shell = _run("shell", "--distro", f"foreign-{suite}", cache=cache, status=6, stdin="cat /etc/hostname; exit 6\n")
    assert "guest" in shell
    assert f"foreign-{suite}" in _run("list", cache=cache)


def test_a_root_that_lacks_something_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as archive:
        archive.addfile(tarfile.TarInfo("bin/sh"))
    said = _run("import", str(root), "--name", "foreign-empty", cache=tmp_path, status=3)
    assert "it lacks systemd, the program cat" in said
    assert [item.name for item in (tmp_path / "cgroup-preflight/images").iterdir() if item.is_dir()] == []
