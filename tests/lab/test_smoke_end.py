"""Runs side by side, runs that are interrupted, and what a crashed one leaves to the next."""

import signal

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import ENVIRONMENT, Lab, config, fixture

_SERVER = {"slice": "api", "MemoryMax": "48M", "TasksMax": 48}


@pytest.fixture
def lab(guest: Guest) -> Lab:
    return Lab(guest)


def _server(port: int, *, duration: str = "1s") -> dict[str, object]:
    ready = f"http://127.0.0.1:{port}/healthz"
    return fixture("server", f"--port={port}", ready=ready, smoke={"duration": duration}, **_SERVER)


def test_two_runs_and_an_api_slice_of_the_host_do_not_meet(lab: Lab) -> None:
    folders = [
        lab.write(f"twin-{port}", config({"web": _server(port)}, {"api": {"MemoryMax": "100M"}}))
        for port in (9201, 9202)
    ]
    lab.shell("systemd-run -q --unit=resident --slice=api -p MemoryMax=40M sleep 500")
    try:
        lab.shell("systemctl set-property --runtime api.slice MemoryMax=77M")
        state = (
            "systemctl show -p MainPID,ActiveState resident; cd /sys/fs/cgroup/api.slice;"
            " cat memory.max resident.service/memory.max; ls -d */"
        )
        before = lab.shell(state)
        calls = [lab.spawn("smoke", folder=folder) for folder in folders]
        lab.until("[ $(pgrep -cx server) = 2 ]")
        together = lab.shell("ls -d /sys/fs/cgroup/cgpf*.slice | wc -l")
        outcomes = [lab.wait(calls[0], leaves=True), lab.wait(calls[1])]
        assert lab.shell(state) == before
    finally:
        lab.shell("systemctl stop resident; systemctl revert api.slice; systemctl stop api.slice")
    assert together == "2\n"
    assert [(outcome.verdict, outcome.exit_status) for outcome in outcomes] == [("pass", 0)] * 2
    cgroups = [outcome.service("web")["cgroup"].split("/")[1] for outcome in outcomes]
    assert cgroups[0] != cgroups[1]
    for outcome in outcomes:
        assert outcome.limits("web")["api.slice/memory.max"] == str(100 << 20)


def test_an_address_that_somebody_else_answers_at_is_unverified(lab: Lab, fixtures) -> None:
    stranger = lab.guest.spawn([str(fixtures / "server"), "--port=9203"])
    try:
        lab.until("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 9203))' 2>/dev/null")
        folder = lab.write("taken", config({"web": _server(9203)}, {"api": {"CPUWeight": 50}}))
        outcome = lab.run("smoke", folder=folder, leaves=True)
        assert lab.guest.poll(stranger) is None, "the stranger was stopped"
    finally:
        lab.guest.wait(stranger, timeout=0.0)
    assert lab.leftovers() == []
    assert (outcome.verdict, outcome.exit_status) == ("unverified", 3)
    found = outcome.finding("CGP507", "web")
    assert found["status"] == "unverified"
    assert "9203" in found["message"]


#: A shell condition for each stage of a run.
_STAGES = {
    "held before the start": "ls /sys/fs/cgroup/cgpf*.slice/*/*-web.service/cgroup.procs",
    "running": "pgrep -x server",
    "pushing against limits": "pgrep -f [/]payload.sh",
}


@pytest.mark.parametrize(
    ("stage", "number", "status"),
    [
        ("held before the start", signal.SIGINT, 130),
        ("running", signal.SIGINT, 130),
        ("running", signal.SIGTERM, 143),
        ("pushing against limits", signal.SIGINT, 130),
    ],
)
def test_a_signal_leaves_nothing_behind(lab: Lab, stage: str, number: int, status: int) -> None:
    duration = "500ms" if stage.startswith("pushing") else "60s"
    services = {"web": _server(9204, duration=duration), "stubborn": fixture("stubborn", "--port=9205", **_SERVER)}
    call = lab.spawn("smoke", folder=lab.write("signal", config(services, {"api": {"CPUWeight": 50}})))
    lab.until(f"{_STAGES[stage]} >/dev/null 2>&1")
    # As Ctrl-C at a terminal does it: to the whole foreground group.
    lab.guest.signal(call.background, number, group=True)
    outcome = lab.wait(call, timeout=120)
    assert outcome.exit_status == status, outcome
    assert outcome.report == {}
    assert "stopped" in outcome.stderr


def test_the_next_run_cleans_up_after_a_crash(lab: Lab) -> None:
    slices = {"api": {"CPUWeight": 50}}
    services = {"web": _server(9206, duration="60s"), "loud": fixture("burner", ready="log:burner ready", **_SERVER)}
    crashing = lab.spawn("smoke", folder=lab.write("crash", config(services, slices)))
    lab.until(_STAGES["running"])
    lab.guest.signal(crashing.background, signal.SIGKILL)
    assert lab.wait(crashing, leaves=True).exit_status == -signal.SIGKILL
    left = {line.split()[0] for line in lab.leftovers()}
    assert left == {"unit", "file", "cgroup", "process"}, "a crash that leaves nothing proves nothing"
    # `Lab.run` asserts that nothing is left, of this run and of the other.
    after = {"job": fixture("exiter", "--code=0", ready="exit", slice="api")}
    outcome = lab.run("smoke", folder=lab.write("after", config(after, {"api": {"MemoryMax": "64M"}})))
    assert (outcome.verdict, outcome.exit_status) == ("pass", 0)


#: What it may cost: so many processes of the tool for each run, each service and each probe.
_PER_RUN, _PER_SERVICE, _PER_PROBE = 12, 2, 1
_COUNT = """
from cgroup_preflight.cli import common
from cgroup_preflight.smoke.run import smoke
config = common.load_config(None)
plan = common.plan_of(config)
context = common.context(config, config.engine, (), plan=plan)
result = smoke(config, plan, context.facts, context.engine, (), lambda text: None)
print(result.processes_started, sum(finding.code == "CGP511" for finding in result.findings))
"""


def test_processes_started_per_service(lab: Lab) -> None:
    counts = {}
    for count in (1, 5):
        services = {f"job{number}": fixture("exiter", "--code=0", ready="exit", TasksMax=50) for number in range(count)}
        folder = lab.write(f"count-{count}", config(services))
        done = lab.guest.run(["python3", "-c", _COUNT], cwd=folder, env=ENVIRONMENT)
        assert done.returncode == 0, done
        started, probes = (int(word) for word in done.text.split())
        counts[count] = started - probes * _PER_PROBE
    print(f"processes of the tool for 1 and for 5 services, without {_PER_PROBE} for each probe: {counts}")
    assert counts[5] - counts[1] <= 4 * _PER_SERVICE
    assert counts[1] <= _PER_RUN + _PER_SERVICE, counts


_SAME = """
import subprocess
from cgroup_preflight.engines import bus
from cgroup_preflight.engines import command_lines as argv
from cgroup_preflight.host.systemd import parse_unit_show

def systemctl(*words):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout

units = [line.split()[0] for line in systemctl("list-units", "--all", "--plain", "--no-legend", "--full").splitlines()]
line = bus.Connection()
for _ in range(5):
    shown, stated = line.show(units, argv.SHOW_PROPERTIES), line.states(units)
    said = {unit["Id"]: unit for unit in parse_unit_show(systemctl(*argv.show(units)))}
    # No job is nothing for systemctl, and number 0 on the line.
    others = {
        unit: {name: (text, said[unit].get(name)) for name, text in {**shown[unit], **stated[unit]}.items()
               if text != (said[unit].get(name) or ("0" if name == "Job" else ""))}
        for unit in units
    }
    others = {unit: names for unit, names in others.items() if names}
    left_out = {name for unit in units for name in said[unit] if said[unit][name] and name not in shown[unit]}
    if not others and not left_out:
        break
print(len(units), len({unit.rpartition(".")[2] for unit in units}), others or left_out or "same")
"""


def test_the_manager_says_on_its_socket_what_it_says_to_systemctl(lab: Lab) -> None:
    """Each property of each unit there is; of another answer only the way by `systemctl` would be left, which is slow."""
    done = lab.guest.run(["python3", "-c", _SAME], env=ENVIRONMENT)
    assert done.returncode == 0, done
    units, kinds, found = done.text.split(maxsplit=2)
    assert found == "same\n"
    assert (int(units) > 50, int(kinds) > 4) == (True, True), done.text
