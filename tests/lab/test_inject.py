"""Injected artifacts on a real Debian: installed by dpkg, started by systemd, limits read from the kernel, removed."""

import json
import shlex

import pytest
from tests.lab.conftest import Preflight

from cgroup_preflight.guest.session import Guest

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
    """A package with a program and its unit, not yet built, and a config beside it."""
    guest.write_file(f"{_WORK}/cgroup-preflight.toml", _CONFIG.encode())
    guest.write_file(f"{_WORK}/root/DEBIAN/control", _CONTROL.encode())
    guest.write_file(f"{_WORK}/root/usr/bin/lab-demo", b"#!/bin/sh\nexec sleep 1000\n", mode=0o755)
    guest.write_file(f"{_WORK}/root/usr/lib/systemd/system/lab-demo.service", _UNIT.encode())
    yield _WORK
    _sh(guest, f"systemctl stop lab-demo.service; dpkg -P lab-demo; rm -rf {_WORK}; systemctl daemon-reload", ok=False)


@pytest.mark.requires("v2", "cpu", "memory", "pids", "systemd")
@pytest.mark.parametrize("packing", ["gzip", "xz"])
def test_injected_package_installs_limits_and_leaves_nothing(
    guest: Guest, preflight: Preflight, work: str, packing: str
) -> None:
    _sh(guest, f"cd {work}/root && md5sum usr/bin/lab-demo usr/lib/systemd/system/lab-demo.service > DEBIAN/md5sums")
    _sh(guest, f"cd {work} && dpkg-deb --root-owner-group -Z{packing} -b root demo.deb")
    done = preflight("inject", "--format", "json", "demo.deb", cwd=work)
    assert done.exit_status == 0, done.completed
    before = _files(guest)
    _sh(guest, f"dpkg -i {work}/demo.deb")
    new = _files(guest) - before
    assert "/usr/lib/systemd/system/lab-demo.service.d/50-cgroup-preflight.conf" in new
    assert "/usr/share/cgroup-preflight/lab-demo.json" in new
    assert _sh(guest, "dpkg -V lab-demo") == "", "dpkg finds every file as its list says"
    _sh(guest, "systemctl daemon-reload && systemctl start lab-demo.service")
    assert _limits(guest) == _LIMITS
    _sh(guest, "systemctl stop lab-demo.service && dpkg -r lab-demo && systemctl daemon-reload")
    _sh(guest, "dpkg -P lab-demo", ok=False)
    left = _files(guest) - before
    assert left == set()
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
        _sh(guest, f"rm -f {' '.join(files)}; rm -rf /usr/share/cgroup-preflight; systemctl daemon-reload", ok=False)
    assert _files(guest) - before == set()


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
