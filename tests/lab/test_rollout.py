"""`rollout` on real kernels and managers: what goes through, what is taken back, and what a dead tool leaves behind."""

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import Background
from tests.lab.configs import ENVIRONMENT

_UNITS = "/etc/systemd/system"
_CONTROL = "/etc/systemd/system.control"
_PLACE = "/root/rollout"
_STATE = f"{_PLACE}/state"
_CGROUP = "/sys/fs/cgroup/lab17.slice"
_SLICE = "[Slice]\nCPUQuota=200%\nMemoryMax=256M\n"
#: Some CPU time in each period, and a little memory.
_CALM = "[Service]\nSlice=lab17.slice\nExecStart=/bin/sh -c 'while :; do sleep 0.05; done'\n"
_SPIN = "[Service]\nSlice=lab17.slice\nExecStart=/bin/sh -c 'while :; do :; done'\n"
_OLD = {"cpu.max": "200000 100000", "memory.max": str(256 << 20)}
_NEW = {"cpu.max": "150000 100000", "memory.max": str(192 << 20)}
_ROLLOUT = """
[project]
name = "lab"
[rollout]
steps = ["50%", "100%"]
interval = "3s"
settle = "1s"
soak = "3s"
deadline = "20s"
restore_after = "10s"
periods_min = 5
throttled_margin = "20%"
pressure_floor = "100%"
neighbour_margin = "100%"
"""
_GOOD = f'{_ROLLOUT}[rollout.slices.lab17]\nCPUQuota = "150%"\nMemoryMax = "192M"\n'
_HARSH = f'{_ROLLOUT}[rollout.slices.lab17]\nCPUQuota = "10%"\n'
_TINY = f'{_ROLLOUT}[rollout.slices.lab17]\nMemoryMax = "100M"\n'
_KILLS = 60


def _shell(guest: Guest, script: str) -> str:
    done = guest.run(["sh", "-c", script], timeout=120)
    assert done.returncode == 0, done
    return done.text


def _argv(*words: str) -> list[str]:
    state = () if words[0] == "plan" else ("--state", _STATE)
    return ["python3", "-m", "cgroup_preflight", "rollout", *words, *state, "--format", "json"]


def _call(guest: Guest, *words: str, timeout: float = 240.0) -> tuple[int, dict[str, Any]]:
    done = guest.run(_argv(*words), env=ENVIRONMENT, cwd=_PLACE, timeout=timeout)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        pytest.fail(f"no report: {done}")
    return done.returncode, report


def _begin(guest: Guest, *words: str) -> Background:
    return guest.spawn(_argv("apply", "--yes", *words), env=ENVIRONMENT, cwd=_PLACE)


def _kernel(guest: Guest) -> dict[str, str]:
    return {name: _shell(guest, f"cat {_CGROUP}/{name}").strip() for name in _OLD}


def _records(guest: Guest) -> list[dict[str, Any]]:
    """Every whole record of the newest journal; a torn last line is left out, as the tool does."""
    text = _shell(guest, f"cat $(ls {_STATE}/*.journal | tail -n 1) 2>/dev/null || true")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _wait_for(guest: Guest, kind: str, *, stage: int | None = None, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if any(item["kind"] == kind and (stage is None or item.get("stage") == stage) for item in _records(guest)):
            return
        time.sleep(0.1)
    pytest.fail(f"no record {kind}")


def _config(guest: Guest, text: str, service: str = _CALM) -> None:
    """Everything as it was before, with a running service in the slice."""
    _shell(guest, "systemctl stop cgroup-preflight-rollout.timer lab17.service lab17.slice 2>/dev/null || true; "
           f"rm -rf {_PLACE} {_UNITS}/cgroup-preflight-rollout.* {_UNITS}/timers.target.d {_CONTROL}/lab17.slice.d /run/systemd/system.control/lab17.slice.d "
           f"{_UNITS}/lab17.slice.d /run/systemd/system/lab17.slice.d /run/systemd/system/cgroup-preflight-rollout.* /run/systemd/system/timers.target.d; "
           f"mkdir -p {_STATE}; chmod 700 {_STATE}")  # fmt: skip
    guest.write_file(f"{_UNITS}/lab17.slice", _SLICE.encode())
    guest.write_file(f"{_UNITS}/lab17.service", service.encode())
    guest.write_file(f"{_PLACE}/cgroup-preflight.toml", text.encode())
    _shell(guest, "systemctl daemon-reload; systemctl start lab17.service")
    assert _kernel(guest) == _OLD


def _is_old(guest: Guest) -> bool:
    left = _shell(guest, f"ls -d {_CONTROL}/lab17.slice.d/* /run/systemd/system.control/lab17.slice.d/* "
                  "/run/systemd/system/lab17.slice.d/* 2>/dev/null || true")  # fmt: skip
    return _kernel(guest) == _OLD and not left.strip()


def _is_new(guest: Guest) -> bool:
    """Also after a reload. systemd 257 does not bring a changed file to the kernel then, so it must agree before."""
    before = _kernel(guest)
    _shell(guest, "systemctl daemon-reload")
    return before == _NEW == _kernel(guest)


def _codes(report: dict[str, Any], *statuses: str) -> list[str]:
    return [item["code"] for item in report["findings"] if item["status"] in statuses]


@pytest.fixture
def host(guest: Guest) -> Iterator[Guest]:
    yield guest
    _shell(guest, "systemctl stop lab17.service lab17.slice cgroup-preflight-rollout.timer 2>/dev/null || true; "
           f"rm -rf {_UNITS}/lab17.* {_CONTROL}/lab17.slice.d; systemctl daemon-reload")  # fmt: skip


def test_a_good_change_is_planned_goes_through_and_stays(host: Guest) -> None:
    _config(host, _GOOD)
    status, plan = _call(host, "plan")
    assert status == 0, plan
    assert "CPUQuota: 200% -> 175% -> 150%" in [item["message"] for item in plan["findings"]]
    assert _kernel(host) == _OLD, "a plan changes nothing"
    status, report = _call(host, "apply", "--yes")
    assert status == 0, report
    assert _is_new(host)
    assert _records(host)[-1]["kind"] == "promoted"
    assert "CPUQuota=150%" in _shell(host, f"cat {_CONTROL}/lab17.slice.d/50-CPUQuota.conf")
    # A second one has nothing to do, and one back has persistent drop-ins to begin with.
    assert _call(host, "apply", "--yes")[0] == 0
    host.write_file(f"{_PLACE}/cgroup-preflight.toml", _GOOD.replace("150%", "180%").encode())
    assert _call(host, "apply", "--yes")[0] == 0
    assert _kernel(host)["cpu.max"] == "180000 100000"


def test_a_quota_too_low_is_taken_back_where_throttling_rises(host: Guest) -> None:
    _config(host, _HARSH, _SPIN)
    status, report = _call(host, "apply", "--yes")
    assert status == 1, report
    assert "CGP805" in _codes(report, "fail")
    assert "throttled" in report["findings"][-1]["message"]
    assert _is_old(host)


def test_memory_that_is_in_use_is_refused_with_numbers(host: Guest) -> None:
    _config(
        host,
        _TINY,
        "[Service]\nSlice=lab17.slice\nExecStart=/usr/bin/python3 -c 'x = bytearray(b\"x\") * (150 << 20); import time; time.sleep(900)'\n",
    )
    time.sleep(5)
    status, report = _call(host, "apply", "--yes")
    assert (status, _codes(report, "fail")) == (1, ["CGP803"])
    assert int(_shell(host, f"sed -n 's/^oom_kill //p' {_CGROUP}/memory.events")) == 0
    assert _is_old(host)


def test_an_oom_kill_is_taken_back_within_two_seconds(host: Guest) -> None:
    _config(host, _GOOD.replace('interval = "3s"', 'interval = "30s"'))
    running = _begin(host)
    _wait_for(host, "verified", stage=0)
    seconds = float(_shell(host, f"""
        systemd-run --quiet --slice=lab17.slice -p MemoryMax=16M -p MemorySwapMax=0 tail /dev/zero
        while [ "$(sed -n 's/^oom_kill //p' {_CGROUP}/memory.events)" = 0 ]; do sleep 0.02; done
        a=$(date +%s.%N)
        while [ "$(cat {_CGROUP}/cpu.max)" != "{_OLD['cpu.max']}" ]; do sleep 0.02; done
        b=$(date +%s.%N); python3 -c "print($b - $a)"
    """))  # fmt: skip
    assert host.wait(running, timeout=120).returncode == 1
    assert seconds <= 2.0
    assert "OOM kill" in next(item["reason"] for item in _records(host) if item["kind"] == "rollback")
    assert _is_old(host)


def test_somebody_elses_value_stays_and_is_named(host: Guest) -> None:
    _config(host, _GOOD.replace('interval = "3s"', 'interval = "20s"'))
    running = _begin(host)
    _wait_for(host, "verified", stage=0)
    _shell(host, "systemctl set-property lab17.slice CPUQuota=77%")
    done = host.wait(running, timeout=120)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert "CGP804" in _codes(report, "fail")
    assert _kernel(host) == {"cpu.max": "77000 100000", "memory.max": _OLD["memory.max"]}
    _shell(host, "systemctl daemon-reload")
    assert _kernel(host)["cpu.max"] == "77000 100000"


def test_a_reload_in_mid_step_changes_nothing(host: Guest) -> None:
    _config(host, _GOOD)
    running = _begin(host)
    for stage in (0, 1):
        _wait_for(host, "verified", stage=stage)
        _shell(host, "systemctl daemon-reload")
    assert host.wait(running, timeout=120).returncode == 0
    assert _is_new(host)


def test_a_second_rollout_is_refused_and_an_abort_from_elsewhere_works(host: Guest) -> None:
    _config(host, _GOOD.replace('interval = "3s"', 'interval = "60s"'))
    running = _begin(host)
    _wait_for(host, "verified", stage=0)
    done = host.run(_argv("apply", "--yes"), env=ENVIRONMENT, cwd=_PLACE, timeout=60)
    assert done.returncode == 2, done
    other = [*_argv("apply", "--yes")]
    other[other.index(_STATE)] = f"{_PLACE}/other"
    done = host.run(other, env=ENVIRONMENT, cwd=_PLACE, timeout=60)
    assert done.returncode == 1, done
    assert "CGP807" in _codes(json.loads(done.stdout), "fail")
    assert _call(host, "abort", "--yes")[0] == 0
    assert host.wait(running, timeout=60).returncode == 1
    assert _is_old(host)


def test_a_drop_in_that_would_win_is_named_before_anything_changes(host: Guest) -> None:
    _config(host, _GOOD)
    path = f"{_UNITS}/lab17.slice.d/override.conf"
    _shell(
        host, f"mkdir -p {_UNITS}/lab17.slice.d; printf '[Slice]\\nCPUQuota=200%%\\n' > {path}; systemctl daemon-reload"
    )
    status, report = _call(host, "apply", "--yes")
    assert (status, _codes(report, "fail")) == (1, ["CGP804"])
    assert path in report["findings"][0]["message"]


@pytest.mark.parametrize("how", ["kill", "session"])
def test_a_dead_tool_is_taken_back_by_the_manager(host: Guest, how: str) -> None:
    _config(host, _GOOD.replace('interval = "3s"', 'interval = "60s"'))
    if how == "kill":
        running = _begin(host)
        _wait_for(host, "verified", stage=0)
        host.signal(running, 9)
    else:
        running = host.spawn(["systemd-run", "--quiet", "--scope", "--unit=lab17-session", *_argv("apply", "--yes")],
                             env=ENVIRONMENT, cwd=_PLACE)  # fmt: skip
        _wait_for(host, "verified", stage=0)
        _shell(host, "systemctl kill --signal=KILL lab17-session.scope")
    assert _kernel(host) != _OLD
    time.sleep(13)
    assert _is_old(host)
    status, report = _call(host, "resume")
    assert status == 1, report
    assert "timer" in report["findings"][-1]["message"]
    assert _records(host)[-1]["kind"] == "restored"


def test_a_full_disk_brings_the_old_values_back(host: Guest) -> None:
    for kilobytes in (8, 12, 16, 20):
        _config(host, _GOOD)
        _shell(host, f"mount -t tmpfs -o size={kilobytes}k,mode=700 none {_STATE}")
        try:
            done = host.run(_argv("apply", "--yes"), env=ENVIRONMENT, cwd=_PLACE, timeout=240)
            assert done.returncode in (0, 3), done
            assert _is_new(host) if done.returncode == 0 else _is_old(host)
        finally:
            _shell(host, f"umount {_STATE}")


@pytest.mark.measured
def test_killed_at_any_moment_it_ends_wholly_old_or_wholly_new(host: Guest) -> None:
    """60 random moments of the whole way; then `resume`, `abort` or the manager's timer, in turn."""
    chance = random.Random(17)
    between: list[str] = []
    for number in range(_KILLS):
        _config(host, _GOOD.replace('soak = "3s"', 'soak = "1s"'))
        running = _begin(host)
        time.sleep(chance.uniform(0.5, 22.0))
        host.signal(running, 9)
        host.wait(running, timeout=20)
        if not _records(host):
            assert _is_old(host)
            continue
        how = ("resume", "timer", "abort")[number % 3]
        if how == "timer":
            time.sleep(12)
        if _records(host)[-1]["kind"] not in ("promoted", "restored"):
            words = ("abort", "--yes") if how == "abort" else ("resume",)
            status, report = _call(host, *words)
            assert status in (0, 1), report
        last = _records(host)[-1]["kind"]
        good = _is_new(host) if last == "promoted" else last == "restored" and _is_old(host)
        if not good:
            between.append(f"{number} {how} {last}")
    assert between == []
