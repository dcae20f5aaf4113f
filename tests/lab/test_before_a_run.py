"""What is told before anything runs, on a real kernel: `validate`, `slices` and `check` find each fault of a plan, and none in its twin."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.configs import ENVIRONMENT, Lab, Outcome, config, service, toml
from tests.lab.conftest import Boot

_SLEEP = "/bin/sleep"
_IN_API: dict[str, Any] = {"slice": "api", "MemoryMax": "64M"}
_FAULTY = config(
    {
        "above": service(_SLEEP, slice="api", MemoryMax="192M"),
        "lonely": service(_SLEEP, slice="alone", MemoryMax="64M", CPUWeight=50),
        "job": service(_SLEEP, MemoryMax="400M"),
        "tiny": service(_SLEEP, slice="api", MemoryMax="1%"),
        "none": service(_SLEEP, **_IN_API, TasksMax="0.03%"),
        "order": service(_SLEEP, slice="api", MemoryMin="70%", MemoryMax="96M"),
        "quota": service(_SLEEP, **_IN_API, CPUQuota="0.01%"),
    },
    {
        "api": {"MemoryMax": "128M", "MemoryMin": "80M"},
        "alone": {"MemoryMax": "256M"},
        "huge": {"MemoryMax": "64G", "MemoryMin": "48G"},
    },
)
#: The same services and slices with the values that the remedies ask for.
_HONEST = config(
    {
        "above": service(_SLEEP, slice="api", MemoryMax="128M"),
        "lonely": service(_SLEEP, slice="alone", MemoryMax="64M"),
        "job": service(_SLEEP, MemoryMax="200M"),
        "tiny": service(_SLEEP, slice="api", MemoryMax="16M"),
        "none": service(_SLEEP, **_IN_API, TasksMax=20),
        "order": service(_SLEEP, slice="api", MemoryMin="64M", MemoryMax="96M"),
        "quota": service(_SLEEP, **_IN_API, CPUQuota="0.1%"),
    },
    {
        "api": {"MemoryMax": "128M", "MemoryMin": "80M"},
        "alone": {"MemoryMax": "256M", "CPUWeight": 50},
        "huge": {"MemoryMax": "300M", "MemoryMin": "48M"},
    },
)
#: What the plan alone shows, by code and subject.
_OF_PLAN = {
    ("CGP212", "above"): "warn", ("CGP213", "lonely"): "warn", ("CGP214", "quota"): "warn", ("CGP215", "none"): "warn",
    ("CGP215", "order"): "warn", ("CGP215", "tiny"): "warn",
}  # fmt: skip
#: What this host shows: of 2000 tasks and half a GiB of memory, with 300M for system.slice.
_OF_HOST = {
    **_OF_PLAN, ("CGP212", "order"): "warn", ("CGP215", "none"): "fail", ("CGP215", "tiny"): "fail",
    ("CGP125", "/sys/fs/cgroup/system.slice/memory.max"): "fail", ("CGP126", "memory"): "fail",
}  # fmt: skip
#: Values that no host gives a meaning, by the code of the mistake.
_REFUSED: dict[str, dict[str, Any]] = {
    "CGP210": {"MemoryMin": "90%", "MemoryMax": "10%"}, "CGP208": {"MemoryMax": "0.01%"},
    "CGP204": {"MemoryMax": "64M", "TasksMax": 5_000_000},
}  # fmt: skip
_CODES = ("CGP125", "CGP126", "CGP212", "CGP213", "CGP214", "CGP215")


@pytest.fixture(scope="module")
def lab(boot: Boot) -> Iterator[Lab]:
    """A host with few tasks, and with a limit above its services."""
    made = Lab(boot())
    before = made.shell("cat /proc/sys/kernel/threads-max").strip()
    made.shell("sysctl -q kernel.threads-max=2000; systemctl set-property --runtime system.slice MemoryMax=300M")
    yield made
    made.shell(f"sysctl -q kernel.threads-max={before}; systemctl revert system.slice")


def _bad(outcome: Outcome) -> dict[tuple[str, str], str]:
    """What is no pass: by code and subject the worst status."""
    found = [item for item in outcome.report["findings"] if item["code"] in _CODES and item["status"] != "pass"]
    return {(item["code"], item["subject"]): outcome.finding(item["code"], item["subject"])["status"] for item in found}


def _slices(lab: Lab, folder: str) -> tuple[int, str, str]:
    done = lab.guest.run(["python3", "-m", "cgroup_preflight", "slices"], cwd=folder, env=ENVIRONMENT)
    return done.returncode, done.text, done.stderr.decode()


def test_each_fault_of_a_plan_is_told(lab: Lab) -> None:
    folder = lab.write("faulty", _FAULTY)
    validated, checked = lab.run("validate", folder=folder), lab.run("check", folder=folder)
    assert _bad(validated) == _OF_PLAN, validated.text
    assert validated.exit_status == 0
    assert _bad(checked) == _OF_HOST, checked.text
    assert (checked.exit_status, checked.verdict) == (1, "fail")
    status, files, words = _slices(lab, folder)
    assert (status, words.count(": warn: ")) == (0, len(validated.text.split("\nwarn ")) - 1), words
    assert all(f"of {name}.service " in words for _, name in _OF_PLAN)
    assert "[Slice]" in files


def test_the_honest_twin_has_none(lab: Lab) -> None:
    folder = lab.write("honest", _HONEST)
    validated, checked = lab.run("validate", folder=folder), lab.run("check", folder=folder)
    assert (_bad(validated), validated.exit_status) == ({}, 0), validated.text
    assert (_bad(checked), checked.exit_status, checked.verdict) == ({}, 0, "pass"), checked.text
    status, files, words = _slices(lab, folder)
    assert (status, words) == (0, "")
    assert "[Slice]" in files


@pytest.mark.parametrize("code", _REFUSED)
def test_what_means_nothing_on_any_host_is_a_mistake_with_its_line(lab: Lab, code: str) -> None:
    table = config({"good": service(_SLEEP, MemoryMax="64M"), "bad": service(_SLEEP, **_REFUSED[code])})
    folder = lab.write(f"refused-{code}", table)
    validated = lab.run("validate", folder=folder)
    (found,) = validated.report["findings"]
    assert (validated.exit_status, found["code"], found["status"]) == (2, code, "fail")
    lines = toml(table).splitlines()
    assert lines[found["location"]["line"] - 1].split(" = ")[0] in _REFUSED[code]
    assert found["location"]["line"] > lines.index("[services.bad]")
    status, files, words = _slices(lab, folder)
    assert (status, files) == (2, "")
    assert f"cgroup-preflight.toml:{found['location']['line']}: {found['message']}" in words
    assert lab.run("check", folder=folder).exit_status == 2


def test_the_kernel_does_what_was_told(lab: Lab) -> None:
    """0.03 % of 2000 tasks is none at all, and 1 % of the memory is below 16 MiB."""
    unit = "/run/systemd/system/labfaulty.slice"
    lab.guest.write_file(unit, b"[Slice]\nTasksMax=0.03%\nMemoryMax=1%\n")
    held = lab.shell(
        "systemctl daemon-reload; systemctl start labfaulty.slice; cd /sys/fs/cgroup/labfaulty.slice; cat pids.max memory.max"
    )
    lab.shell(f"systemctl stop labfaulty.slice; rm {unit}; systemctl daemon-reload")
    tasks, memory = map(int, held.split())
    assert tasks == 0
    assert 0 < memory < 16 << 20


_WORD = "systemd.unified_cgroup_hierarchy=0"


def test_the_remedy_for_a_hierarchy_without_any_controller_is_possible(boot: Boot) -> None:
    """To ask systemd for v1, of which the kernel has nothing, is what must go: without it the host passes."""
    guest = boot(kernel_args=(_WORD, "cgroup_no_v1=all"))
    argv = ["python3", "-m", "cgroup_preflight", "check", "--format=json"]
    report: dict[str, Any] = json.loads(guest.run(argv, env=ENVIRONMENT).stdout)
    (found,) = [item for item in report["findings"] if item["code"] == "CGP101"]
    assert (found["status"], report["verdict"]) == ("fail", "fail")
    assert "no cgroup v1 mount has a controller" in found["message"]
    (remedy,) = found["remedies"]
    assert remedy["title"] == f"remove {_WORD} from the kernel command line and reboot"
    assert f"{_WORD[:-1]}1" not in json.dumps(report)
    assert _WORD in guest.read_file("/proc/cmdline").decode().split()
    guest.__exit__(None, None, None)
    twin = json.loads(boot().run(argv, env=ENVIRONMENT).stdout)
    assert twin["verdict"] == "pass", twin["findings"]
