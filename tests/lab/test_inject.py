"""Injected artifacts on a real Debian: installed by dpkg, started by systemd, limits read from the kernel, removed."""

import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cgroup_preflight.artifacts.content import Contents, wanted_files
from cgroup_preflight.guest.session import Guest
from tests.lab.conftest import Preflight
from tests.unit.artifacts.making import UNITS, request
from tests.unit.artifacts.overrides import NESTED, OVERRIDES

_SOURCE = Path(__file__).parents[2] / "src"
_CONFIG = """
[project]
name = "lab"
[slices.labinject]
MemoryMax = "160M"
TasksMax = 99
[services.lab-demo]
binary = "root/usr/bin/lab-demo"
slice = "labinject"
MemoryMax = "48M"
CPUQuota = "50%"
MemorySwapMax = 0
[services.lab-demo.smoke]
args = ["-c", "import time; time.sleep(1000)"]
duration = "1s"
"""
_CONTROL = """\
Package: lab-demo
Version: 1.0
Architecture: all
Maintainer: A B <a@debian.org>
Installed-Size: 4
Description: demonstrates limits
 It does nothing else.
"""
_UNIT = "[Unit]\nDescription=demo\n[Service]\nExecStart=/usr/bin/lab-demo\n[Install]\nWantedBy=multi-user.target\n"
_WORK = "/var/tmp/inject"
_LIMITS = {
    "labinject.slice/memory.max": str(160 << 20),
    "labinject.slice/pids.max": "99",
    "labinject.slice/lab-demo.service/memory.max": str(48 << 20),
    "labinject.slice/lab-demo.service/cpu.max": "50000 100000",
}


def _sh(guest: Guest, script: str, *, ok: bool = True) -> str:
    done = guest.run(["sh", "-ec", script])
    assert not ok or done.returncode == 0, done
    return done.text


def _files(guest: Guest) -> set[str]:
    """Every path that an installation could leave; caches of systemd and dpkg's log are none."""
    return set(
        _sh(guest, "find /usr /etc /opt /var/lib/dpkg/info /var/lib/systemd -not -path '*/__pycache__*'").splitlines()
    )


def _limits(guest: Guest) -> dict[str, str]:
    return {name: guest.read_file(f"/sys/fs/cgroup/{name}").decode().strip() for name in _LIMITS}


@pytest.fixture
def work(guest: Guest):
    """A package with a program and its unit, not yet built, and a config next to it."""
    guest.write_file(f"{_WORK}/cgroup-preflight.toml", _CONFIG.encode())
    guest.write_file(f"{_WORK}/root/DEBIAN/control", _CONTROL.encode())
    guest.write_file(f"{_WORK}/root/usr/bin/lab-demo", b"#!/bin/sh\nexec sleep 1000\n", mode=0o755)
    guest.write_file(f"{_WORK}/root/usr/lib/systemd/system/lab-demo.service", _UNIT.encode())
    yield _WORK
    undo = f"systemctl stop lab-demo.service; dpkg -P lab-demo; rm -rf {_WORK}; systemctl daemon-reload"
    _sh(guest, f"set +e; {undo}", ok=False)


@pytest.mark.requires("v2", "cpu", "memory", "pids", "systemd")
@pytest.mark.parametrize(
    ("packing", "uniform"),
    [
        *itertools.product(["none", "gzip", "xz", "zstd"], ["--uniform-compression", "--no-uniform-compression"]),
        # The slices go in as drop-ins alone: this systemd, too, loads a slice by them.
        pytest.param("xz", "--uniform-compression", id="debian-13", marks=pytest.mark.requires("psi")),
    ],
)
def test_injected_package_installs_limits_and_leaves_nothing(
    guest: Guest, work: str, packing: str, uniform: str, tmp_path: Path
) -> None:
    _sh(guest, f"cd {work}/root && md5sum usr/bin/lab-demo usr/lib/systemd/system/lab-demo.service > DEBIAN/md5sums")
    _sh(guest, f"mkdir {work}/root/etc && echo x > {work}/root/etc/lab-demo.conf")
    _sh(guest, f"echo /etc/lab-demo.conf > {work}/root/DEBIAN/conffiles")
    _sh(guest, f"cd {work} && dpkg-deb --root-owner-group {uniform} -Z{packing} -b root demo.deb")
    # Injected here, not there, where no Python package for zstd is; the program is looked at in the package.
    (tmp_path / "cgroup-preflight.toml").write_text(_CONFIG)
    (tmp_path / "demo.deb").write_bytes(guest.read_file(f"{work}/demo.deb"))
    argv = [sys.executable, "-m", "cgroup_preflight", "inject", "demo.deb"]
    subprocess.run(argv, cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(_SOURCE)})
    guest.write_file(f"{work}/demo.deb", (tmp_path / "demo.deb").read_bytes())
    before = _files(guest)
    _sh(guest, f"dpkg -i {work}/demo.deb")
    new = _files(guest) - before
    assert "/usr/lib/systemd/system/lab-demo.service.d/10-cgroup-preflight-lab-demo.conf" in new
    assert "/usr/share/cgroup-preflight/lab-demo.json" in new
    assert _sh(guest, "dpkg -V lab-demo") == "", "dpkg finds every file as its list says"
    _sh(guest, "systemctl daemon-reload && systemctl start lab-demo.service")
    assert _limits(guest) == _LIMITS
    _sh(guest, "systemctl stop lab-demo.service && dpkg -r lab-demo && systemctl daemon-reload")
    info = "/var/lib/dpkg/info/lab-demo.list"
    assert _files(guest) - before == {"/etc/lab-demo.conf", info}, "dpkg keeps what was configured until a purge"
    _sh(guest, "dpkg -P lab-demo")
    assert _files(guest) - before == set()
    assert _sh(guest, "systemctl show -P LoadState lab-demo.service").strip() == "not-found"
    assert _sh(guest, "systemctl show -P MemoryMax labinject.slice").strip() == "infinity"


@pytest.mark.requires("v2", "cpu", "memory", "pids", "systemd")
def test_a_tarball_with_a_whole_unit_starts_under_its_limits(guest: Guest, preflight: Preflight, work: str) -> None:
    """Python as the program: unlike a script it takes the tested arguments as they are."""
    _sh(guest, f"cd {work} && cp --remove-destination $(readlink -f /usr/bin/python3) root/usr/bin/lab-demo")
    _sh(guest, f"cd {work} && tar -czf demo.tar.gz -C root usr/bin/lab-demo")
    done = preflight("inject", "--service-units", "demo.tar.gz", cwd=work)
    assert done.exit_status == 0, done.completed
    before = _files(guest)
    names = _sh(guest, f"tar tf {work}/demo.tar.gz").split()
    try:
        _sh(guest, f"tar -xzf {work}/demo.tar.gz -C / --keep-directory-symlink && systemctl daemon-reload")
        _sh(guest, "systemctl start lab-demo.service")
        assert _limits(guest) == _LIMITS
        pid = _sh(guest, "systemctl show -P MainPID lab-demo.service").strip()
        words = guest.read_file(f"/proc/{pid}/cmdline").split(b"\0")[:-1]
        assert [word.decode() for word in words[1:]] == ["-c", "import time; time.sleep(1000)"]
    finally:
        _sh(guest, "systemctl stop lab-demo.service", ok=False)
        files = [shlex.quote(f"/{name}") for name in names if not name.endswith("/")]
        _sh(
            guest,
            f"rm -f {' '.join(files)}; rm -rf /usr/lib/systemd/*/labinject.slice.d /usr/share/cgroup-preflight; systemctl daemon-reload",
            ok=False,
        )
    assert _files(guest) - before == set()


@pytest.mark.requires("v2", "memory", "systemd", "users")
def test_a_whole_unit_of_the_user_layout_starts_in_a_users_manager(
    guest: Guest, preflight: Preflight, work: str
) -> None:
    _sh(guest, f"cd {work} && cp --remove-destination $(readlink -f /usr/bin/python3) root/usr/bin/lab-demo")
    _sh(guest, f"cd {work} && tar -cf demo.tar -C root usr/bin/lab-demo")
    done = preflight("inject", "--service-units", "--layout", "user", "demo.tar", cwd=work)
    assert done.exit_status == 0, done.completed
    again = preflight("inject", "--service-units", "--layout", "user", "demo.tar", cwd=work)
    assert "nothing was written" in again.completed.text
    before, names = _files(guest), _sh(guest, f"tar tf {work}/demo.tar").split()
    guest.start_user_manager("tester")
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{guest.uid('tester')}"}
    try:
        _sh(guest, f"tar -xf {work}/demo.tar -C / --keep-directory-symlink")
        for words in (["daemon-reload"], ["start", "lab-demo.service"]):
            started = guest.run(["systemctl", "--user", *words], user="tester", env=environment)
            assert started.returncode == 0, started
        shown = guest.run(
            ["systemctl", "--user", "show", "-P", "ControlGroup", "lab-demo"], user="tester", env=environment
        )
        place = shown.text.strip()
        assert place.endswith("/labinject.slice/lab-demo.service")
        assert guest.read_file(f"/sys/fs/cgroup{place}/memory.max").decode().strip() == str(48 << 20)
    finally:
        guest.run(["systemctl", "--user", "stop", "lab-demo.service"], user="tester", env=environment)
        files = [shlex.quote(f"/{name}") for name in names if not name.endswith("/")]
        _sh(
            guest,
            f"rm -f {' '.join(files)}; rm -rf /usr/lib/systemd/*/labinject.slice.d /usr/share/cgroup-preflight",
            ok=False,
        )
        guest.run(["systemctl", "--user", "daemon-reload"], user="tester", env=environment)
        guest.run(["loginctl", "disable-linger", "tester"])
    assert _files(guest) - before == set()


@pytest.mark.requires("v2", "cpu", "memory", "systemd")
def test_systemd_agrees_on_what_changes_the_plan(guest: Guest) -> None:
    """Each file of the table is put next to the plan, and systemd is asked which settings apply then."""
    goal = request(NESTED)
    ours = wanted_files(goal, Contents(programs={}, units=frozenset({"user-api"})))
    unit = f"/{UNITS}/user-api.service"
    guest.write_file(unit, b"[Service]\nExecStart=/bin/true\n")
    show = (
        "systemctl daemon-reload; systemctl show -P MemoryMax shop-api.slice; systemctl show -P CPUQuotaPerSecUSec "
        "user-api.service; (systemctl show -P Environment user-api.service | grep -ow MODE=fast || true); "
        "systemctl show -P LoadState shop-api.slice"
    )
    wrong = []
    try:
        for name, (path, data, changes) in OVERRIDES.items():
            for place, content in {**ours, path: data}.items():
                guest.write_file(f"/{place}", content)
            # Not the folders above it: without /run/systemd/system systemd says that it was not booted.
            undo = f"rm -f /{path}; rmdir /{path.rpartition('/')[0]} || true" if ".d/" in path else f"rm -f /{path}"
            said = _sh(guest, f"{show}; {undo}").split()
            if (said != [str(192 << 20), "500ms", "MODE=fast", "loaded"]) != changes:
                wrong.append((name, said))
    finally:
        _sh(guest, f"rm -rf {unit} " + " ".join(f"/{place}" for place in ours) + f"; rmdir {unit}.d; {show}", ok=False)
    assert wrong == []


@pytest.mark.requires("v2", "cpu", "memory", "pids", "systemd")
def test_run_injects_after_it_passed_and_check_finds_it_in(guest: Guest, preflight: Preflight, work: str) -> None:
    guest.write_file(f"{work}/cgroup-preflight.toml", f'{_CONFIG}[artifacts]\ninject = ["*.tar"]\n'.encode())
    _sh(guest, f"cd {work} && tar -cf demo.tar -C root usr")
    before = _sh(guest, f"sha256sum < {work}/demo.tar").split()[0]
    done = preflight("run", "--format", "json=report.json", cwd=work, timeout=300.0)
    assert done.exit_status == 0, done.completed
    report = json.loads(guest.read_file(f"{work}/report.json"))
    (item,) = [item for item in report["findings"] if item["code"] == "CGP301"]
    after = _sh(guest, f"sha256sum < {work}/demo.tar").split()[0]
    assert (item["evidence"]["sha256_before"], item["evidence"]["sha256_after"]) == (before, after)
    assert preflight("inject", "--check", "demo.tar", cwd=work).exit_status == 0
    assert preflight("inject", "--report", "report.json", "demo.tar", cwd=work).exit_status == 0
    _sh(guest, f"cd {work} && echo '# stripped' >> root/usr/bin/lab-demo && tar -cf demo.tar -C root usr")
    assert preflight("inject", "--report", "report.json", "demo.tar", cwd=work).exit_status == 1
