"""What the smoke run proves of Go programs, and what the generated settings are worth under the same load."""

import json
import os
import shlex
import statistics
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.guest.session import Guest, input_path
from tests.lab.configs import FIXTURES, Lab, config, fixture, service

_PROBES = FIXTURES / "probes"
_STAY = ("--count=0", "--every=300ms")
_LOAD = (Path(__file__).parent / "http_load.py").read_text("utf-8")
#: Connections that always have a request under way, seconds of each measurement, measurements of each kind.
_CONNECTIONS, _SECONDS, _TIMES = 16, 6, 3
#: Units and ports without and with the generated settings.
_SIDES = {False: ("without", 8077), True: ("fitted", 8078)}
#: Each answer lists all of them, so that a request costs about a tenth of a millisecond on a real CPU.
_ADD_USERS = """
import sys, time, urllib.request as u
for n in range(60):
    request = u.Request(f"http://127.0.0.1:{sys.argv[1]}/users", data=b'{"name": "ada lovelace"}')
    for attempt in range(100):
        try:
            u.urlopen(request)
            break
        except OSError:
            time.sleep(0.1)
"""
_KEYS = ("p50_ms", "p99_ms", "worst_ms", "throttled_share", "stopped_seconds_per_second", "requests", "seconds")


def _probe(version: str, **keys: Any) -> dict[str, Any]:
    return service(str(_PROBES / f"probe-{version}"), *_STAY, **keys)


@pytest.mark.requires("cpus>=4", "systemd")
def test_the_smoke_run_shows_what_the_runtime_chose(guest: Guest) -> None:
    lab = Lab(guest)
    folder = lab.write(
        "go-proof",
        config(
            {
                "fitted": _probe("1.27.3", slice="wide"),
                "blind": _probe("1.27.3", slice="alone", go_settings=False),
                "old": _probe("1.24.11", slice="wide", CPUQuota="200%", MemoryMax="200M"),
                "old-line": _probe("1.27.3-off", slice="wide", CPUQuota="300%"),
                "wrapped": service("wrapper.sh", slice="wide", go_settings=False),
                "server": fixture(
                    "server", "--port=8099", slice="wide", ready="http://127.0.0.1:8099/healthz", MemoryMax="200M"
                ),
            },
            {"wide": {"CPUQuota": "300%"}, "alone": {"CPUQuota": "300%"}},
        ),
        {"wrapper.sh": f"#!/bin/sh\nexport GOMAXPROCS=7\nexec {_PROBES}/probe-1.27.3 {' '.join(_STAY)}\n"},
    )
    seen = lab.run("smoke", folder=folder, timeout=280)
    chosen = {
        name: seen.finding("CGP418", name) for name in ("fitted", "blind", "old", "old-line", "wrapped", "server")
    }
    real = {name: item["evidence"].get("gomaxprocs") for name, item in chosen.items()}
    assert real == {"fitted": 3, "blind": 4, "old": 2, "old-line": 3, "wrapped": 7, "server": 3}, seen.text
    assert {name: item["status"] for name, item in chosen.items()} == {
        "fitted": "pass",
        "blind": "pass",
        "old": "pass",
        "old-line": "pass",
        "wrapped": "warn",
        "server": "pass",
    }
    assert chosen["old"]["evidence"]["GOMEMLIMIT"] == str(200 * 2**20 * 9 // 10)
    assert chosen["fitted"]["evidence"]["cpu.max open"].endswith("fitted.service/cpu.max")
    assert chosen["blind"]["evidence"]["cpu.max open"] == "none"
    (invisible,) = [item for item in seen.findings("CGP402", "blind") if item["status"] == "warn"]
    assert "3 CPUs at alone.slice" in invisible["message"]
    assert [item["status"] for item in seen.findings("CGP402", "fitted")] == ["pass"]
    assert seen.limits("fitted")["wide.slice/fitted.service/cpu.max"] == "300000 100000"
    memory = seen.finding("CGP419", "server")["evidence"]
    assert memory["memory_current"] > memory["go_heap_in_use"] > 0
    assert "unknown to Go" in seen.text


def _start(lab: Lab, *, fitted: bool) -> None:
    """The service of the example with its real unit files, as `slices` writes them."""
    name, port = _SIDES[fitted]
    binary = str(input_path("shop") / "dist" / "user-api")
    folder = lab.write(
        f"side-{name}",
        config(
            {name: service(binary, slice=f"side{name}", MemoryMax="256M", go_settings=fitted)},
            {f"side{name}": {"CPUQuota": "100%"}},
        ),
    )
    lab.guest.write_file(
        f"/run/systemd/system/{name}.service", f"[Service]\nExecStart={binary} --port={port}\n".encode()
    )
    lab.shell(
        f"cd {folder} && PYTHONPATH={input_path('src')} PYTHONPYCACHEPREFIX=/tmp/pycache "
        "python3 -m cgroup_preflight slices --out units && cp -r units/. /run/systemd/system/ && "
        f"systemctl daemon-reload && systemctl start {name}"
    )
    lab.shell(f"python3 -c {shlex.quote(_ADD_USERS)} {port}")
    environ = lab.shell(f"tr '\\0' '\\n' < /proc/$(systemctl show --value -p MainPID {name})/environ")
    assert ("GOMAXPROCS=1" in environ.splitlines()) is fitted


def _measure(lab: Lab, *, fitted: bool, seconds: float = _SECONDS) -> dict[str, Any]:
    name, port = _SIDES[fitted]

    def stat() -> dict[str, int]:
        text = lab.shell(f"cat /sys/fs/cgroup/side{name}.slice/cpu.stat")
        return {key: int(value) for key, value in (line.split() for line in text.splitlines())}

    before = stat()
    load = ("python3", "-I", "/var/tmp/lab/http_load.py", "127.0.0.1", str(port), "/users", str(_CONNECTIONS))
    said = json.loads(lab.guest.run([*load, f"{seconds:g}"], timeout=120).text)
    after = stat()
    delta = {key: after[key] - before[key] for key in ("usage_usec", "nr_periods", "nr_throttled", "throttled_usec")}
    return {
        "go_settings": fitted,
        **said,
        **delta,
        "throttled_share": round(delta["nr_throttled"] / max(delta["nr_periods"], 1), 3),
        # Summed over the CPUs: with four busy threads up to 3 seconds of each.
        "stopped_seconds_per_second": round(delta["throttled_usec"] / 1e6 / said["seconds"], 2),
    }


def _table(median: dict[str, dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    """The report of this test: medians, and in brackets the least and the most of all runs."""
    lines = [f"{'median of ' + str(len(runs) // 2) + ' runs':<28} {'without settings':>26} {'with them':>26}"]
    for key in _KEYS:
        cells = []
        for name, side in (("without", False), ("with", True)):
            values = [run[key] for run in runs if run["go_settings"] is side]
            cells.append(f"{median[name][key]:g} ({min(values):g} .. {max(values):g})")
        lines.append(f"{key:<28} {cells[0]:>26} {cells[1]:>26}")
    return "\n".join(lines)


@pytest.mark.requires("cpus>=4", "systemd")
@pytest.mark.timeout(900)
@pytest.mark.measured
def test_the_same_load_with_and_without_the_generated_settings(
    guest: Guest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The common recipe: the quota on the slice, the service below it. One CPU of four.

    Latencies depend on how busy the machine below the guest is, so they are reported, and only what the kernel
    counts is judged.
    """
    lab = Lab(guest)
    lab.guest.write_file("/var/tmp/lab/http_load.py", _LOAD.encode())
    for side in _SIDES:
        _start(lab, fitted=side)
        _measure(lab, fitted=side, seconds=1)
    runs = [_measure(lab, fitted=side) for _ in range(_TIMES) for side in _SIDES]
    lab.shell("systemctl stop without fitted")
    without, fitted = (
        {key: statistics.median(run[key] for run in runs if run["go_settings"] is side) for key in _KEYS}
        for side in _SIDES
    )
    measured = {
        "kernel": lab.shell("uname -r").strip(),
        "cpus": 4,
        "quota_cpus": 1,
        "connections": _CONNECTIONS,
        "request": "GET /users",
        "go": "1.27.3",
        "median": {"without": without, "with": fitted},
        "runs": runs,
    }
    with capsys.disabled():
        print("\n" + _table(measured["median"], runs))
    if target := os.environ.get("CGPF_LAB_MEASURED"):
        Path(target).write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    assert fitted["stopped_seconds_per_second"] < without["stopped_seconds_per_second"] / 2, runs
