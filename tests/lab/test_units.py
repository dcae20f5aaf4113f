"""`check --units` on real hosts: after a changed drop-in and a reload, systemd's word and the kernel may differ."""

import json

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.conftest import Preflight

_DROP_IN = "/run/systemd/system/labunits.slice.d/10-lab.conf"


def _sh(guest: Guest, script: str) -> str:
    done = guest.run(["sh", "-ec", script])
    assert done.returncode == 0, done
    return done.text


def _units(preflight: Preflight) -> list[dict]:
    done = preflight("check", "--units", "--format", "json", cwd="/", timeout=120.0)
    report = json.loads(done.completed.stdout)
    return [item for item in report["findings"] if item["code"] == "CGP128"]


@pytest.mark.requires("v2", "memory", "systemd")
@pytest.mark.parametrize(
    "systemd",
    [
        pytest.param(252, id="debian-12"),
        # This one keeps the old limits in the kernel after a reload.
        pytest.param(257, id="debian-13", marks=[pytest.mark.requires("psi"), pytest.mark.newest]),
    ],
)
def test_units_agree_until_something_writes_the_file(guest: Guest, preflight: Preflight, systemd: int) -> None:
    (found,) = _units(preflight)
    assert found["status"] == "pass", found
    guest.write_file(_DROP_IN, b"[Slice]\nMemoryMax=100M\n")
    try:
        _sh(guest, "systemctl daemon-reload; systemd-run --unit=labunits --slice=labunits sleep 600")
        assert _units(preflight)[0]["status"] == "pass"
        guest.write_file(_DROP_IN, b"[Slice]\nMemoryMax=200M\n")
        _sh(guest, "touch /run/systemd/system; systemctl daemon-reload")
        assert int(_sh(guest, "systemctl --version").split()[1]) == systemd
        kernel = int(_sh(guest, "cat /sys/fs/cgroup/labunits.slice/memory.max"))
        (found,) = _units(preflight)
        stale = kernel != 200 << 20
        assert stale is (systemd == 257)
        assert found["status"] == ("fail" if stale else "pass"), found
        if stale:
            assert found["subject"] == "labunits.slice"
            (command,) = found["remedies"][0]["commands"]
            assert guest.run(command).returncode == 0
            assert _units(preflight)[0]["status"] == "pass"
        _sh(guest, "echo 150M > /sys/fs/cgroup/labunits.slice/memory.max")
        (found,) = _units(preflight)
        assert (found["status"], found["subject"]) == ("fail", "labunits.slice")
        assert "memory.max is '157286400', systemd says '209715200'" in found["message"]
    finally:
        guest.run(["sh", "-c", f"systemctl stop labunits.service labunits.slice; rm -rf {_DROP_IN.rpartition('/')[0]}"])
        guest.run(["systemctl", "daemon-reload"])
