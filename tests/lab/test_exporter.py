"""The exporter on a real kernel: OOM kills that outlive their cgroup, and the numbers of the kernel's own files."""

import itertools
import json
import time
from collections.abc import Iterator

import pytest

from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import Background
from tests.lab.configs import ENVIRONMENT

_ADDRESS = "http://127.0.0.1:9753/metrics"
_FETCH = f"""
import json, time, urllib.request
started = time.monotonic()
text = urllib.request.urlopen("{_ADDRESS}", timeout=20).read().decode()
found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
print(json.dumps([found, time.monotonic() - started]))
"""
_UNITS = "/run/systemd/system"
_KILLS = 20
#: Is killed for its memory within a fraction of a second, and the last time stays.
_VICTIM = f"""\
[Service]
Slice=oomlab.slice
ExecStart=/bin/sh -c 'echo x >> /run/oomlab; [ $(wc -l < /run/oomlab) -gt {_KILLS} ] && exec sleep 300; exec tail /dev/zero'
MemoryMax=16M
MemorySwapMax=0
Restart=always
RestartSec=200ms
[Unit]
StartLimitIntervalSec=0
"""
_BUSY = """\
[Service]
Slice=busylab.slice
ExecStart=/bin/sh -c 'while :; do :; done'
CPUQuota=20%
MemoryMax=64M
TasksMax=7
"""


@pytest.fixture(scope="module")
def exporter(boot: object) -> Iterator[Guest]:
    """A guest in which the exporter runs, as a user without rights."""
    guest: Guest = boot()  # type: ignore[operator]
    running = _start(guest)
    yield guest
    guest.signal(running, 15)
    assert guest.wait(running, timeout=20).returncode == 143


def _start(guest: Guest) -> Background:
    argv = ["python3", "-m", "cgroup_preflight", "exporter", "--interval", "5s"]
    running = guest.spawn(argv, user="nobody", env=ENVIRONMENT, cwd="/")
    for _ in range(60):
        if guest.run(["python3", "-c", _FETCH]).returncode == 0:
            return running
        assert guest.poll(running) is None, guest.poll(running)
        time.sleep(0.5)
    pytest.fail("the exporter does not answer")


def _scrape(guest: Guest) -> dict[str, str]:
    done = guest.run(["python3", "-c", _FETCH], timeout=60)
    assert done.returncode == 0, done
    found, _ = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def _shell(guest: Guest, script: str) -> str:
    done = guest.run(["sh", "-c", script], timeout=60)
    assert done.returncode == 0, done
    return done.text


def _flat(text: str) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def _kills(found: dict[str, str], name: str = "oomlab.slice") -> dict[str, int]:
    head = f'slice_oom_kills_total{{slice="{name}",unit="'
    return {key[len(head) : -2]: int(value) for key, value in found.items() if key.startswith(head) and value != "0"}


def test_every_oom_kill_is_counted(exporter: Guest) -> None:
    """20 kills at 200 ms, several between two scrapes; systemd removes the cgroup with its counter each time."""
    guest = exporter
    guest.write_file(f"{_UNITS}/oomlab.service", _VICTIM.encode())
    _shell(guest, "rm -f /run/oomlab; systemctl daemon-reload; systemctl start oomlab.service")
    seen, deadline = [0], time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            time.sleep(3.0)
            kills = _kills(_scrape(guest))
            seen.append(sum(kills.values()))
            if int(_shell(guest, "wc -l < /run/oomlab")) > _KILLS:
                break
        truth = _flat(_shell(guest, "cat /sys/fs/cgroup/oomlab.slice/memory.events"))["oom_kill"]
        leaf = _flat(_shell(guest, "cat /sys/fs/cgroup/oomlab.slice/oomlab.service/memory.events"))["oom_kill"]
        time.sleep(1.1)
        found = _scrape(guest)
    finally:
        _shell(
            guest,
            f"systemctl stop oomlab.service oomlab.slice; rm {_UNITS}/oomlab.service; systemctl daemon-reload; systemctl reset-failed",
        )
    assert truth == _KILLS
    assert leaf == 0, "the unit's own file has lost them all"
    kills = _kills(found)
    assert sum(kills.values()) == _KILLS
    # Those from before the new slice was watched can be without a name.
    assert kills["oomlab.service"] > _KILLS // 2
    assert set(kills) <= {"", "oomlab.service"}
    assert seen == sorted(seen)
    assert max(after - before for before, after in itertools.pairwise(seen)) > 1, "several between two scrapes"
    assert found['slice_memory_events_total{slice="oomlab.slice",unit="",event="oom_kill"}'] == str(_KILLS)
    reported = int(found['slice_exporter_event_latency_seconds_count{by="report"}'])
    assert reported > _KILLS // 2, "most kills were seen because the kernel reported them"
    # The unit is gone, its kills are not.
    time.sleep(1.1)
    assert _kills(_scrape(guest)) == kills


def test_numbers_are_those_of_the_kernel(exporter: Guest) -> None:
    guest = exporter
    guest.write_file(f"{_UNITS}/busylab.service", _BUSY.encode())
    _shell(guest, "systemctl daemon-reload; systemctl set-property --runtime busylab.slice MemoryMax=48M CPUQuota=70%")
    _shell(guest, "systemctl start busylab.service; sleep 3; systemctl kill -s STOP busylab.service; sleep 1.2")
    folder = "/sys/fs/cgroup/busylab.slice"
    try:
        stat = _flat(_shell(guest, f"cat {folder}/busylab.service/cpu.stat"))
        found = _scrape(guest)
        memory = int(_shell(guest, f"cat {folder}/busylab.service/memory.current"))
        inode = _shell(guest, f"stat -c %i {folder}/busylab.service").strip()
    finally:
        _shell(guest, f"systemctl kill -s KILL busylab.service; systemctl stop busylab.service busylab.slice; rm {_UNITS}/busylab.service; systemctl daemon-reload; systemctl reset-failed")  # fmt: skip
    at = 'slice="busylab.slice",unit="busylab.service"'
    assert stat["nr_throttled"] > 5
    assert found[f"slice_cpu_periods_total{{{at}}}"] == str(stat["nr_periods"])
    assert found[f"slice_cpu_throttled_periods_total{{{at}}}"] == str(stat["nr_throttled"])
    throttled = found[f'slice_cpu_throttled_seconds_total{{{at},scope="own"}}']
    assert throttled == f"{stat['throttled_usec'] / 1e6:.6f}"
    for mode in ("user", "system"):
        assert found[f'slice_cpu_usage_seconds_total{{{at},mode="{mode}"}}'] == f"{stat[f'{mode}_usec'] / 1e6:.6f}"
    assert found[f"slice_cpu_quota_cpus{{{at}}}"] == "0.2"
    assert found[f"slice_cpu_effective_quota_cpus{{{at}}}"] == "0.2"
    assert found['slice_cpu_quota_cpus{slice="busylab.slice",unit=""}'] == "0.7"
    assert found[f'slice_memory_limit_bytes{{{at},kind="max"}}'] == str(64 << 20)
    assert found[f'slice_memory_limit_bytes{{{at},kind="high"}}'] == "+Inf"
    assert found[f"slice_memory_effective_limit_bytes{{{at}}}"] == str(48 << 20)
    assert found[f"slice_memory_current_bytes{{{at}}}"] == str(memory)
    assert found[f"slice_pids_limit{{{at}}}"] == "7"
    assert found[f"slice_pids_current{{{at}}}"] == "1"
    assert found[f'slice_unit_generation_info{{{at},cgroup_id="{inode}"}}'] == "1"
    assert [key for key in found if key.startswith("slice_exporter_read_errors") and "vanished" not in key and found[key] != "0"] == []  # fmt: skip


@pytest.mark.requires("psi", "cpuset")
def test_throttling_by_a_slice_above_is_shown_in_the_service(guest: Guest) -> None:
    """The service has no quota of its own, and its cpu.stat says 0 while it starves (cpu.stat.local: kernel 6.7).

    It has a weight, because without the cpu controller its cpu.stat.local is empty.
    """
    unit = _BUSY.replace("CPUQuota=20%\n", "CPUWeight=100\n").replace("busylab.slice", "above.slice")
    guest.write_file(f"{_UNITS}/starved.service", unit.encode())
    _shell(guest, "systemctl daemon-reload; systemctl set-property --runtime above.slice CPUQuota=20%")
    _shell(guest, "systemctl start starved.service; sleep 3; systemctl kill -s STOP starved.service; sleep 1")
    folder = "/sys/fs/cgroup/above.slice/starved.service"
    try:
        local = _flat(_shell(guest, f"cat {folder}/cpu.stat.local"))["throttled_usec"]
        pressure = _shell(guest, f"head -n 1 {folder}/cpu.pressure").rpartition("total=")[2].strip()
        words = "exporter --once --slice above.slice"
        done = guest.run(["python3", "-m", "cgroup_preflight", *words.split()], env=ENVIRONMENT, timeout=120)
        wrong = guest.run(["python3", "-m", "cgroup_preflight", "exporter", "--slice", "abov"], env=ENVIRONMENT)
    finally:
        _shell(guest, f"systemctl kill -s KILL starved.service; systemctl stop starved.service above.slice; rm {_UNITS}/starved.service; systemctl daemon-reload; systemctl reset-failed")  # fmt: skip
    assert done.returncode == 0, done
    found = dict(line.rsplit(" ", 1) for line in done.text.splitlines() if not line.startswith("#"))
    at = 'slice="above.slice",unit="starved.service"'
    assert local > 500_000
    assert found[f'slice_cpu_throttled_seconds_total{{{at},scope="local"}}'] == f"{local / 1e6:.6f}"
    assert found[f'slice_cpu_throttled_seconds_total{{{at},scope="own"}}'] == "0.000000"
    assert float(found['slice_cpu_throttled_seconds_total{slice="above.slice",unit="",scope="own"}']) > 0.5
    assert found[f"slice_cpu_quota_cpus{{{at}}}"] == "+Inf"
    assert found[f"slice_cpu_effective_quota_cpus{{{at}}}"] == "0.2"
    waited = found[f'slice_pressure_waiting_seconds_total{{{at},resource="cpu"}}']
    assert waited == f"{int(pressure) / 1e6:.6f}"
    assert float(waited) > 0.5
    assert not any('slice="system.slice"' in line for line in found)
    assert (wrong.returncode, b"did you mean above.slice?" in wrong.stderr) == (2, True), wrong
