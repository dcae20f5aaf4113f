"""systemd 262 on kernel 7.2: what the product says of limits there, where newer systemd and kernels do it otherwise.

One guest for all of it. It boots with the words that brought cgroup v1 back up to systemd 257.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestEngine, GuestSpec
from tests.lab.conftest import Boot, Preflight

pytestmark = pytest.mark.newest

_SPEC = GuestSpec(
    engine=GuestEngine.QEMU, distro="debian-14", mode=BootMode.FULL, cpus=2, memory_mib=1024, boot_timeout=240.0
)
_V1_WORDS = ("systemd.unified_cgroup_hierarchy=0", "systemd.legacy_systemd_cgroup_controller=1")
_FOLDER = Path("/tmp/newest")
_CGROUPS = "/sys/fs/cgroup"
_PROGRAMS = {
    # Forks until it is refused, and ends with 1 then.
    "forks": "#!/usr/bin/python3\nimport os, sys, time\nfor _ in range(40):\n    try:\n        child = os.fork()\n"
    "    except OSError:\n        sys.exit(1)\n    if not child:\n        time.sleep(600)\n        os._exit(0)\n",
    "busy": "#!/bin/sh\nwhile :; do :; done\n",
    "stubborn": "#!/bin/sh\ntrap '' TERM\necho ready\nwhile :; do sleep 1; done\n",
    "calm": "#!/bin/sh\nexec sleep 600\n",
}
_CONFIG = """\
[project]
name = "newest"
[slices.narrow]
TasksMax = 12
[slices.slow]
CPUQuota = "10%"
[slices.plain]
MemoryMax = "512M"
[slices.full]
ConcurrencyHardMax = 1
[services.forks]
binary = "forks"
slice = "narrow"
[services.late]
binary = "busy"
slice = "slow"
MemoryMax = "64M"
[services.late.smoke]
ready = "log:never"
start_timeout = "6s"
[services.stubborn]
binary = "stubborn"
slice = "plain"
MemoryMax = "48M"
[services.stubborn.smoke]
ready = "log:ready"
stop_timeout = "2s"
duration = "2s"
[services.placed]
binary = "calm"
slice = "plain"
AllowedCPUs = "0-7"
[services.first]
binary = "calm"
slice = "full"
TasksMax = 20
[services.second]
binary = "calm"
slice = "full"
TasksMax = 20
"""


@pytest.fixture(scope="module")
def newest(boot: Boot) -> Iterator[Guest]:
    """The guest, with the programs and the config in a folder."""
    guest = boot(kernel_args=_V1_WORDS, base=_SPEC)
    _sh(guest, f"mkdir -p {_FOLDER}")
    for name, text in _PROGRAMS.items():
        guest.write_file(str(_FOLDER / name), text.encode())
    guest.write_file(str(_FOLDER / "cgroup-preflight.toml"), _CONFIG.encode())
    _sh(guest, f"chmod 755 {_FOLDER} {' '.join(str(_FOLDER / name) for name in _PROGRAMS)}")
    yield guest
    guest.run(["rm", "-rf", str(_FOLDER)])


def _sh(guest: Guest, script: str) -> str:
    done = guest.run(["sh", "-ec", script], timeout=120.0)
    assert done.returncode == 0, done
    return done.text


def _findings(guest: Guest, preflight: Preflight, *words: str, cwd: str = "/", user: str | None = None) -> list[dict]:
    done = preflight(*words, "--format", "json", on=guest, cwd=cwd, user=user, timeout=400.0)
    found: list[dict] = done.report["findings"]
    return found


def _of(findings: list[dict], code: str, subject: str = "") -> list[dict]:
    return [item for item in findings if item["code"] == code and subject in ("", item["subject"])]


def test_the_host_is_judged_by_what_systemd_262_does(newest: Guest, preflight: Preflight) -> None:
    """Boot words of v1 do nothing, and nothing warns of them."""
    assert int(_sh(newest, "systemctl --version").split()[1]) >= 262
    assert set(_V1_WORDS) <= set(_sh(newest, "cat /proc/cmdline").split())
    findings = _findings(newest, preflight, "check")
    assert [item["message"] for item in findings if item["status"] not in ("pass", "skip")] == []
    assert _of(findings, "CGP101")[0]["status"] == _of(findings, "CGP112")[0]["status"] == "pass"
    assert "unified_cgroup_hierarchy" not in json.dumps([item["remedies"] for item in findings])


@pytest.fixture(scope="module")
def smoked(newest: Guest, request: pytest.FixtureRequest) -> dict:
    """The report of one run of all services; each of them has one thing that newer systemd or kernels do otherwise."""
    argv = ["python3", "-m", "cgroup_preflight", "smoke", "--engine", "systemd", "--format", "json"]
    environment = {"PYTHONPATH": "/run/preflight/in/src", "PYTHONPYCACHEPREFIX": "/tmp/pycache"}
    done = newest.run(argv, cwd=str(_FOLDER), env=environment, timeout=400.0)
    assert done.returncode == 1, done
    report: dict = json.loads(done.stdout)
    return report


def test_a_task_that_the_slice_refuses_is_named(smoked: dict) -> None:
    """Kernel 7.2 counts it at the slice alone."""
    (found,) = _of(smoked["findings"], "CGP503", "forks")
    assert found["status"] == "fail"
    assert "TasksMax of narrow.slice refused its services" in found["message"]
    assert found["evidence"]["tasks_refused"] > 0
    (counted,) = _of(smoked["findings"], "CGP509", "forks")
    assert counted["evidence"]["narrow.slice pids.events.local max"] > 0
    assert "forks.service pids.events max" not in counted["evidence"]


def test_the_quota_of_the_slice_is_named_where_a_service_is_late(smoked: dict) -> None:
    """cpu.stat of the service counts no period of it."""
    (found,) = _of(smoked["findings"], "CGP505", "late")
    assert found["status"] == "fail"
    assert "the CPUQuota of slow.slice may be too low" in found["message"]
    (row,) = [item for item in smoked["services"] if item["name"] == "late"]
    assert not row["cpu"]["nr_throttled"]


def test_what_was_killed_keeps_its_numbers(smoked: dict) -> None:
    """The kernel kills ExecStopPost= of a unit whose cgroup was killed, so that the cgroup is gone afterwards."""
    (found,) = _of(smoked["findings"], "CGP506", "stubborn")
    assert "SIGKILL" in found["message"]
    (row,) = [item for item in smoked["services"] if item["name"] == "stubborn"]
    assert row["memory_peak_bytes"] > 0
    assert row["cpu"]["usage_usec"] > 0
    assert row["memory_max_bytes"] == 48 << 20


def test_cpus_that_the_machine_lacks_are_a_fail_with_the_reason(
    smoked: dict, newest: Guest, preflight: Preflight
) -> None:
    bad = [item for item in _of(smoked["findings"], "CGP501", "placed") if "cpuset.cpus " in item["message"]]
    assert [item["status"] for item in bad] == ["fail"]
    assert "refuses the whole list" in bad[0]["remedies"][0]["why"]
    (found,) = _of(_findings(newest, preflight, "check", cwd=str(_FOLDER)), "CGP120")
    assert found["status"] == "fail"
    assert "CPU 2-7 does not exist here, so the kernel refuses the whole list" in found["message"]


def test_a_full_slice_is_named(smoked: dict, newest: Guest, preflight: Preflight) -> None:
    refused = [item for item in _of(smoked["findings"], "CGP507") if item["status"] == "fail"]
    assert len(refused) == 1
    assert "because full.slice has as many active units as ConcurrencyHardMax allows" in refused[0]["message"]
    started = {item["name"] for item in smoked["services"] if item["cgroup"]}
    assert len(started & {"first", "second"}) == 1, "the other one runs"
    (found,) = _of(_findings(newest, preflight, "validate", cwd=str(_FOLDER)), "CGP219")
    assert (found["subject"], found["status"]) == ("full", "fail")


def test_a_limit_below_the_usage_reads_back_and_is_a_fail(newest: Guest, preflight: Preflight) -> None:
    program = shlex.quote("import time; use = bytearray(b'x') * (100 << 20); open('/tmp/eater', 'w'); time.sleep(600)")
    _sh(newest, f"systemd-run --unit=eater -p MemorySwapMax=0 python3 -c {program}; "
        "until [ -e /tmp/eater ]; do sleep 0.2; done")  # fmt: skip
    try:
        assert [item["status"] for item in _of(_findings(newest, preflight, "check", "--units"), "CGP128")] == ["pass"]
        _sh(newest, "systemctl set-property --runtime eater.service MemoryMax=50M")
        group = f"{_CGROUPS}/system.slice/eater.service"
        assert int(_sh(newest, f"cat {group}/memory.max")) == 50 << 20 < int(_sh(newest, f"cat {group}/memory.current"))
        (found,) = _of(_findings(newest, preflight, "check", "--units"), "CGP128")
        assert (found["status"], found["subject"]) == ("fail", "eater.service")
        assert "the limit was lowered below the usage and is not in force" in found["message"]
        _sh(newest, "systemctl set-property --runtime eater.service MemoryMax=200M")
        assert [item["status"] for item in _of(_findings(newest, preflight, "check", "--units"), "CGP128")] == ["pass"]
    finally:
        newest.run(["systemctl", "stop", "eater.service"])


def test_what_show_prints_is_compared_as_systemd_clamps_it(newest: Guest, preflight: Preflight) -> None:
    _sh(newest, "systemd-run --unit=clamped -p CPUQuota=50% -p CPUQuotaPeriodSec=10s sleep 600")
    try:
        assert "10s" in _sh(newest, "systemctl show -P CPUQuotaPeriodUSec clamped.service")
        assert _sh(newest, f"cat {_CGROUPS}/system.slice/clamped.service/cpu.max").split() == ["500000", "1000000"]
        assert [item["status"] for item in _of(_findings(newest, preflight, "check", "--units"), "CGP128")] == ["pass"]
        _sh(newest, "systemctl set-property --runtime clamped.service AllowedCPUs=0-5")
        (found,) = _of(_findings(newest, preflight, "check", "--units"), "CGP128")
        assert "the kernel refuses the whole list for one CPU that the machine lacks" in found["message"]
    finally:
        newest.run(["systemctl", "stop", "clamped.service"])


def test_names_of_v1_and_tiny_limits_of_a_unit_of_the_project(newest: Guest, preflight: Preflight) -> None:
    """systemd ignores MemoryLimit= and tells nobody by its exit status; MemoryMax= next to it counts."""
    folder = f"{_FOLDER}/own"
    unit = f"[Service]\nExecStart={_FOLDER}/calm\nMemoryLimit=64M\nCPUShares=100\nCPUAccounting=yes\n"
    newest.run(["mkdir", "-p", folder])
    newest.write_file(f"{folder}/own.service", unit.encode())
    config = '[project]\nname = "own"\n[services.own]\nunit = "./own.service"\n'
    newest.write_file(f"{folder}/cgroup-preflight.toml", config.encode())
    done = newest.run(["systemd-analyze", "verify", "--recursive-errors=yes", f"{folder}/own.service"])
    assert done.returncode == 0
    assert "MemoryLimit= has been removed" in done.stderr.decode()
    found = _of(_findings(newest, preflight, "check", cwd=folder), "CGP104")
    assert [(item["subject"], item["status"]) for item in found] == [("MemoryLimit", "fail"), ("CPUShares", "warn")]
    newest.write_file(f"{folder}/own.service", f"{unit}MemoryMax=64M\nCPUWeight=50\n".encode())
    assert [item["status"] for item in _of(_findings(newest, preflight, "check", cwd=folder), "CGP104")] == ["pass"]
    for limit in ("8M", "1%"):
        newest.write_file(f"{folder}/own.service", f"{unit}MemoryMax={limit}\n".encode())
        refused = preflight("smoke", on=newest, cwd=folder)
        assert refused.exit_status == 2
        assert f"own.service:6: MemoryMax: {limit} " in refused.completed.stderr.decode()
        assert "below 16M" in refused.completed.stderr.decode()
        assert _sh(newest, "systemctl list-units --all --plain --no-legend 'cgpf*'") == ""


def test_a_user_manager_lacks_cpuset_until_it_is_delegated(newest: Guest, preflight: Preflight) -> None:
    """The default of systemd is cpu, memory and pids; both checks name the same remedy."""
    newest.start_user_manager("tester")
    findings = _findings(newest, preflight, "check", "--require", "cpuset", user="tester")
    fails = [
        item for code in ("CGP102", "CGP110") for item in _of(findings, code, "cpuset") if item["status"] == "fail"
    ]
    assert fails
    for item in fails:
        assert "Delegate=cpu cpuset io memory pids" in json.dumps(item["remedies"]), item
