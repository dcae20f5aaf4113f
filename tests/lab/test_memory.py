"""The scenarios of the kernel's own memory selftests on a real kernel, next to what this tool says about the same settings.

Source of the scenarios, their sizes and their bars (3 and 10 percent of the sum of both numbers, values_close()):
tools/testing/selftests/cgroup/test_memcontrol.c.
"""

import json
from pathlib import Path

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import Lab, config, service

pytestmark = pytest.mark.measured
_SCRIPT = Path(__file__).with_name("memory_inside.py")
_SLICES: dict[str, dict[str, object]] = {
    "a": {"MemoryMin": "25M", "MemoryMax": "100M", "MemorySwapMax": 0}, "a-b": {"MemoryMin": "25M"},
    "l": {"MemoryLow": "25M", "MemoryMax": "100M"}, "l-b": {"MemoryLow": "25M"},
}  # fmt: skip
_SETTINGS: dict[str, dict[str, object]] = {
    "c-min": {"slice": "a-b", "MemoryMin": "39321600"}, "d-min": {"slice": "a-b", "MemoryMin": "12800K"},
    "c-low": {"slice": "l-b", "MemoryLow": "39321600"}, "d-low": {"slice": "l-b", "MemoryLow": "12800K"},
    "high": {"MemoryHigh": "30M"}, "max": {"MemoryMax": "30M"}, "swap": {"MemoryMax": "40M", "MemorySwapMax": "30M"},
}  # fmt: skip


@pytest.fixture
def lab(guest: Guest) -> Lab:
    return Lab(guest)


def test_the_kernel_does_what_its_selftests_ask(lab: Lab) -> None:
    lab.guest.write_file("/var/tmp/memory_inside.py", _SCRIPT.read_bytes())
    done = lab.guest.run(["python3", "/var/tmp/memory_inside.py"], timeout=600)
    rows = [json.loads(line) for line in done.text.splitlines()]
    for scenario, seen, good in rows:
        print(f"| {scenario} | {seen} | {'pass' if good else 'FAIL'} |")
    assert done.returncode == 0, done
    assert len(rows) == 12
    assert [row for row in rows if not row[2]] == []


def test_the_settings_of_the_scenarios_pass(lab: Lab) -> None:
    """What protects is read back at each level; what limits is pushed against as well."""
    services = {name: service("/bin/sleep", "316", **settings) for name, settings in _SETTINGS.items()}
    outcome = lab.run("smoke", "--allow-unverified", folder=lab.write("memory", config(services, _SLICES)))
    for name, settings in _SETTINGS.items():
        for code in ("CGP501", "CGP511"):
            for found in outcome.findings(code, name):
                print(f"| {name} {settings} | {code} | {found['status']} | {found['message']} |")
        assert outcome.finding("CGP501", name)["status"] == "pass"
    pushed = {(f["subject"], f["message"].split(":")[0]): f["status"] for f in outcome.findings("CGP511")}
    assert pushed["high", "MemoryHigh"] == pushed["max", "MemoryMax"] == pushed["swap", "MemoryMax"] == "pass"
    assert outcome.exit_status == 0
