"""Percentages of services, with each systemd and both engines: what ships is what runs, to the page and to the task."""

import json
from dataclasses import replace

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import ENVIRONMENT, Lab, config, service
from tests.lab.conftest import KINDS, Boot

#: As `systemd-run -p` sends them, a fraction of 2^32, several of these are one page or one task less, and one is refused.
_SHARES = ("75%", "99%", "97%", "96%", "12.5%")
_SYSTEMS = {distro: replace(KINDS[0].spec, distro=distro) for distro in ("debian-12", "debian-13")}
_BASIS = 10_000
#: Two of the services are enough for what goes wrong with all of them.
_SOME = ("memorymax-75", "tasksmax-99")
#: Calls the tool without the drop-ins of services, as if systemd did not load them.
_WITHOUT = f"""
import sys
from cgroup_preflight.engines import run_scope
whole = run_scope.run_files
run_scope.run_files = lambda plan: tuple(file for file in whole(plan) if file.path.endswith(".slice"))
from cgroup_preflight.cli import main
sys.argv[1:] = ["smoke", "--format=json", *{_SOME}]
sys.exit(main())
"""


def _services() -> dict[str, dict[str, object]]:
    made = {}
    for name, texts in (
        ("MemoryMax", _SHARES),
        ("MemoryHigh", _SHARES),
        ("TasksMax", (*_SHARES, "100%")),
    ):
        for text in texts:
            label = f"{name.lower()}-{text.rstrip('%').replace('.', '_')}"
            made[label] = service("/bin/sleep", "300", slice="tight", **{name: text})
    return made


@pytest.fixture(scope="module", params=_SYSTEMS)
def lab(request: pytest.FixtureRequest, boot: Boot) -> Lab:
    guest: Guest = boot(base=_SYSTEMS[request.param])
    guest.start_user_manager("tester")
    made = Lab(guest)
    # Below tighter limits none of these is pushed against, which would take a minute each.
    made.write("percent", config(_services(), {"tight": {"MemoryMax": "96M", "TasksMax": 200}}))
    return made


def _expected(lab: Lab) -> dict[str, str]:
    """Computed here, from the guest's own numbers: systemd.resource-control(5), in whole pages and whole tasks."""
    pages = int(lab.guest.read_file("/proc/meminfo").decode().split()[1]) // 4
    tasks = min(int(lab.guest.read_file(f"/proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max"))
    found = {}
    for label, keys in _services().items():
        (attribute, text), = [
            ({"MemoryMax": "memory.max", "MemoryHigh": "memory.high", "TasksMax": "pids.max"}[name], str(text))
            for name, text in keys.items() if name[0].isupper()
        ]  # fmt: skip
        share = int(float(text.rstrip("%")) * 100)
        value = tasks * share // _BASIS if attribute == "pids.max" else pages * share // _BASIS * 4096
        found[f"tight.slice/{label}.service/{attribute}"] = str(value)
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("user", [None, "tester"], ids=["systemd", "user"])
def test_each_share_is_in_force_as_the_plan_expects_it(lab: Lab, user: str | None) -> None:
    if user:
        lab.shell("chmod -R a+rX /var/tmp/lab")
    outcome = lab.run("smoke", folder="/var/tmp/lab/percent", user=user, timeout=600.0)
    seen: dict[str, str | None] = {}
    for label in _services():
        statuses = outcome.statuses(label)
        # CGP511 is unverified here: the slice is tighter.
        assert (statuses["CGP501"], statuses.get("CGP503")) == ("pass", "pass"), outcome.text
        seen |= outcome.limits(label)
    assert {file: text for file, text in seen.items() if file.count("/") > 1} == _expected(lab)
    assert {row["engine"] for row in outcome.report["services"]} == {"user" if user else "systemd"}


@pytest.mark.timeout(600)
def test_a_drop_in_that_is_not_loaded_is_a_fail(lab: Lab) -> None:
    done = lab.guest.run(["python3", "-c", _WITHOUT], env=ENVIRONMENT, cwd="/var/tmp/lab/percent", timeout=400.0)
    assert done.returncode == 1, done
    findings = json.loads(done.stdout)["findings"]
    failed = {item["subject"] for item in findings if item["code"] == "CGP501" and item["status"] == "fail"}
    assert failed == set(_SOME)
    assert lab.leftovers() == []


@pytest.mark.timeout(600)
def test_a_drop_in_of_the_host_that_lifts_a_limit_by_a_page_or_a_task_is_a_fail(lab: Lab) -> None:
    """Of all drop-ins that apply, the last by file name counts, also for services that ship (systemd.unit(5))."""
    expected = _expected(lab)
    page = int(expected["tight.slice/memorymax-75.service/memory.max"]) + 4096
    task = int(expected["tight.slice/tasksmax-99.service/pids.max"]) + 1
    lab.shell("mkdir -p /run/systemd/system/service.d;"
              f" printf '[Service]\\nMemoryMax={page}\\nTasksMax={task}\\n' > /run/systemd/system/service.d/99-lab.conf;"
              " systemctl daemon-reload")  # fmt: skip
    try:
        # Nothing says that this one must not have those limits, and its own is not lifted.
        outcome = lab.run("smoke", *_SOME, "memoryhigh-75", folder="/var/tmp/lab/percent")
    finally:
        lab.shell("rm -r /run/systemd/system/service.d; systemctl daemon-reload")
    assert [outcome.statuses(label)["CGP501"] for label in (*_SOME, "memoryhigh-75")] == ["fail", "fail", "pass"]
    # The report names the file and what it has instead.
    for label, file, actual in zip(_SOME, ("memory.max", "pids.max"), (page, task), strict=True):
        (row,) = [row for row in outcome.service(label)["limits"] if not row["ok"]]
        assert (row["file"].rpartition("/")[2], row["actual"]) == (file, str(actual))
