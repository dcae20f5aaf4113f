"""Roots that nobody here made: imported from an archive, booted, and used without Python in them."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgroup_preflight.guest import image, tools
from cgroup_preflight.guest.recipe import recipe_for
from tests.lab.sshd import PACKAGES
from tests.lab.test_up_guest import Up, free_port, guest_folders

__all__ = ["guest_folders"]

_VALIDITY = '--aptopt=Acquire::Check-Valid-Until "false"'
_INCLUDED = "systemd,systemd-sysv,dbus"


def _run(*words: str, cache: Path | None = None, status: int = 0, stdin: str = "") -> str:
    argv = [sys.executable, "-m", "cgroup_preflight", "guest", *words]
    home = {"XDG_CACHE_HOME": str(cache)} if cache is not None else {}
    done = subprocess.run(
        argv, env={**os.environ, **home}, input=stdin, capture_output=True, text=True, timeout=300,
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
    in_qemu = ("--machine", "qemu", "--distro", f"foreign-{suite}")
    script = "command -v modprobe; uname -r; nproc; ls /lib/modules; cat /proc/1/comm; cd /lib/modules/*; find . -name 'tun.ko*'"
    said = _run("run", *in_qemu, "--", "sh", "-c", script, cache=cache)
    # The root has no modules, and nothing that loads them; its kernel is that of another distribution.
    release, *rest = said.splitlines()[:5]
    assert (release[-12:], rest[:3]) == ("-cloud-amd64", ["2", release, "systemd"]), said
    assert rest[3].startswith("./kernel/drivers/net/tun.ko")
    shell = _run("shell", *in_qemu, cache=cache, status=6, stdin="cat /etc/hostname; exit 6\n")
    assert "guest" in shell


def test_a_root_that_lacks_something_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    with tarfile.open(root, "w") as archive:
        archive.addfile(tarfile.TarInfo("bin/sh"))
    said = _run("import", str(root), "--name", "foreign-empty", cache=tmp_path, status=3)
    assert "it lacks systemd, the program cat" in said
    assert [item.name for item in (tmp_path / "cgroup-preflight/images").iterdir() if item.is_dir()] == []


_CONFIG = """
[project]
name = "shop"
[target]
distro = "{name}"
[slices.api]
TasksMax = 64
[services.honest]
binary = "honest"
slice = "api"
MemoryMax = "48M"
CPUQuota = "50%"
smoke = {{ duration = "300ms" }}
[services.lifting]
binary = "lifting"
slice = "api"
MemoryMax = "48M"
smoke = {{ duration = "300ms" }}
"""
_HONEST = "#!/bin/sh\nexec sleep 600\n"
_LIFTING = """#!/bin/sh
mount -o remount,bind,rw /sys/fs/cgroup
IFS= read -r line < /proc/self/cgroup
echo max > "/sys/fs/cgroup${line#0::}/memory.max"
exec sleep 600
"""


@pytest.fixture
def imported(tmp_path: Path) -> Iterator[str]:
    """The name of a root with an SFTP server: what is in an image of this tool, without the image's own units and Python."""
    source = image.ensure(recipe_for("debian-12", packages=PACKAGES), image.cache_folder(os.environ))
    name, tree, root = f"foreign-{os.getpid()}", tmp_path / "tree", tmp_path / "root.tar"
    tree.mkdir()
    subprocess.run([tools.find(tools.DEBUGFS), "-R", f"rdump / {tree}", str(source.root)],
                   check=True, capture_output=True, timeout=120)  # fmt: skip
    argv = (
        "tar",
        "-cf",
        str(root),
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--exclude=./lost+found",
        "--exclude=./usr/bin/python3*",
        "-C",
        str(tree),
        ".",
    )
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
    said = _run("import", str(root), "--name", name)
    assert "sftp-server: /usr/lib/openssh/sftp-server" in said
    yield name
    _run("remove", name)


@pytest.mark.timeout(300)
def test_limits_are_proved_in_an_imported_root(imported: str, tmp_path: Path) -> None:
    """From this host, over the guest's lines: nothing of this tool runs in it. A limit that a service lifts is a fail."""
    (tmp_path / "cgroup-preflight.toml").write_text(_CONFIG.format(name=imported))
    for name, text in (("honest", _HONEST), ("lifting", _LIFTING)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for service, status in (("honest", 0), ("lifting", 1)):
        argv = (sys.executable, "-m", "cgroup_preflight", "smoke", service, "--format", "json=report.json")
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        report = json.loads((tmp_path / "report.json").read_text())
        assert done.returncode == status, json.dumps(report["findings"], indent=1)
        (tested,) = report["services"]
        assert (tested["name"], tested["engine"]) == (service, "guest")
        failed = {(item["code"], item["subject"]) for item in report["findings"] if item["status"] == "fail"}
        assert failed == ({("CGP501", service)} if status else set())
        assert {item["status"] for item in report["findings"] if item["code"] == "CGP511"} <= {"pass"}
        where = next(item for item in report["findings"] if item["code"] == "CGP512")
        assert where["evidence"]["image"].startswith(f"{imported}-")


_IN_QEMU = """
[project]
name = "shop"
[target]
distro = "{name}"
network = true
[slices.api]
TasksMax = 64
ManagedOOMMemoryPressure = "kill"
[services.web]
binary = "web"
slice = "api"
MemoryMax = "48M"
MemorySwapMax = "16M"
CPUQuota = "150%"
AllowedCPUs = "0-1"
smoke = {{ ready = "tcp://[::1]:8080", duration = "300ms", args = ["{port}"] }}
[services.lifting]
binary = "lifting"
slice = "api"
MemoryMax = "48M"
smoke = {{ duration = "300ms" }}
"""
_WEB = """#!/usr/bin/perl
use IO::Socket::IP;
my $outside = IO::Socket::IP->new(PeerHost => "10.0.2.2", PeerPort => $ARGV[0], Timeout => 20) or die "no network: $@";
my $listener = IO::Socket::IP->new(LocalHost => "::1", LocalPort => 8080, Listen => 5) or die "no socket: $@";
while (my $one = $listener->accept) { close $one }
"""


@pytest.mark.timeout(600)
def test_what_user_mode_linux_lacks_is_tested_in_qemu(imported: str, tmp_path: Path) -> None:
    """IPv6, two CPUs, cpuset, pressure, limits of swap, and a network: what the service reaches is this machine's loopback.

    The kernel is another distribution's, and a lifted limit fails.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    text = _IN_QEMU.format(name=imported, port=listener.getsockname()[1])
    (tmp_path / "cgroup-preflight.toml").write_text(text)
    for name, text in (("web", _WEB), ("lifting", _LIFTING)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    argv = (sys.executable, "-m", "cgroup_preflight", "run", "--format", "json=report.json")
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    listener.close()
    report = json.loads((tmp_path / "report.json").read_text())
    findings = [item for item in report["findings"] if not item["subject"].startswith("this host")]
    assert done.returncode == 1, json.dumps(findings, indent=1)
    assert {(item["code"], item["subject"]) for item in findings if item["status"] == "fail"} == {("CGP501", "lifting")}
    where = next(item for item in findings if item["code"] == "CGP512")
    assert (where["evidence"]["machine"], where["evidence"]["cpus"]) == ("qemu", 2)
    assert "the kernel is that of Debian 13" in where["message"]
    assert where["evidence"]["kernel"].endswith("-cloud-amd64")
    assert where["evidence"]["kernel_image"].startswith("debian-13-")
    passed = {(item["code"], item["subject"]) for item in findings if item["status"] == "pass"}
    assert {("CGP117", "pressure"), ("CGP120", "cpuset"), ("CGP501", "web"), ("CGP503", "web")} <= passed
    quotas = [item for item in findings if item["code"] == "CGP511" and item["evidence"].get("nr_throttled")]
    assert [item["evidence"]["usage_usec"] > item["evidence"]["window_usec"] for item in quotas] == [True], quotas
    (web,) = (item for item in report["services"] if item["name"] == "web")
    limits = {row["file"].rpartition("/")[2]: row["ok"] for row in web["limits"]}
    # The swap limit is only read back: no guest has swap.
    assert {limits[name] for name in ("memory.swap.max", "cpu.max", "cpuset.cpus.effective")} == {True}


_UP = """
[project]
name = "lab"
[target]
distro = "{name}"
machine = "{machine}"
[slices.api]
MemoryMax = "300M"
[services.web]
binary = "server"
slice = "api"
MemoryMax = "64M"
CPUQuota = "50%"
smoke = {{ args = ["--port={port}"], ready = "http://127.0.0.1:{port}/healthz" }}
[services.greedy]
binary = "hog"
slice = "api"
MemoryMax = "48M"
smoke = {{ args = ["-max=200", "-step=4", "-pause=5ms"] }}
[services.hidden]
binary = "server"
slice = "api"
smoke = {{ args = ["--port={hidden}"], ready = "log:listening" }}
[services.talks]
binary = "talks"
slice = "api"
smoke = {{ ready = "log:up" }}
"""
_TALKS = '#!/bin/sh\necho "up $NAME"\nexec sleep 300\n'


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("guest_folders")
@pytest.mark.parametrize("machine", ["uml", pytest.param("qemu", marks=pytest.mark.measured)])
def test_up_keeps_services_in_an_imported_root(
    imported: str, tmp_path: Path, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines, ports, the cause of a death, variables and the end by Ctrl-C, with nothing of this tool in the guest."""
    # `Up` has another home.
    monkeypatch.setenv("XDG_CACHE_HOME", str(image.cache_folder(os.environ).parents[1]))
    folder, port, hidden = tmp_path / "project", free_port(), free_port()
    folder.mkdir()
    for name in ("server", "hog"):
        shutil.copy(Path(os.environ["CGPF_LAB_FIXTURES"]) / name, folder / name)
    (folder / "talks").write_text(_TALKS)
    (folder / "talks").chmod(0o755)
    (folder / ".env").write_text("NAME='a \"b\" \\ c'\n")
    text = _UP.format(name=imported, machine=machine, port=port, hidden=hidden)
    (folder / "cgroup-preflight.toml").write_text(text)
    up = Up(folder, "--table")
    up.wait_for("^web +[|] ready after", "^talks +[|] ready", "^greedy +[|] killed", "[|] web +runs +[0-9.]+/0.5",
                f"^up +[|] 127.0.0.1:{hidden} leads to hidden in the guest$")  # fmt: skip
    with urllib.request.urlopen(f"http://127.0.0.1:{hidden}/metrics.json", timeout=20) as answer:
        assert b"/memory/classes/heap" in answer.read()
    # More at once than the guest has lines; one of them asks nothing.
    with socket.create_connection(("127.0.0.1", port), timeout=20):
        lines = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(30)]
        for line in lines:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for line in lines:
            assert line.recv(12) == b"HTTP/1.1 200"
            line.close()
    status, said = up.end()
    assert status == 0, said
    assert any(line.startswith("greedy | killed by the kernel for memory: peak 48M, limit 48M") for line in said), said
    assert {'talks  | up a "b" \\ c', "web    | stopped", "talks  | stopped", "hidden | stopped"} <= set(said)
    log = folder / "state" / "cgroup-preflight" / "lab" / "logs" / "talks.log"
    assert log.read_text() == 'up a "b" \\ c\n'
