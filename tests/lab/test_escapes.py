"""Services that slip their limits are a fail whatever they do, and their honest twins in the same run pass.

One run for each engine, because a boot and a run cost more than a service.
"""

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import END_OF_RUN, Lab, Outcome, config, service

#: What each service does; root has cgroup files that are read-only in its mount namespace, and mounts them again.
_SCRIPT = r"""#!/usr/bin/python3
import os, signal, subprocess, sys, time

TOP = "/sys/fs/cgroup"
OWN = TOP + open("/proc/self/cgroup").read().strip().partition("::")[2]
mode, root = sys.argv[1], os.geteuid() == 0


def put(path, text):
    with open(path, "w") as file:
        file.write(text)


def writable():
    if root:
        subprocess.run(["mount", "-o", "remount,bind,rw", TOP], check=True)


def elsewhere():
    # The root cgroup, or as a user a new one in the tree that the manager delegates.
    if root:
        return TOP
    folder = OWN.partition("/cgpf")[0] + "/elsewhere"
    os.makedirs(folder, exist_ok=True)
    return folder


def detached(again):
    # As a daemon does it, and without an environment.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/usr/bin/python3", ["python3", __file__, again], {})
        os._exit(0)
    os.wait()


def lifted(name, action):
    writable()
    with open(f"{OWN}/{name}") as file:
        before = file.read()
    put(f"{OWN}/{name}", "max")
    action()
    put(f"{OWN}/{name}", before)


def burn(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def fill(megabytes):
    block = bytearray(megabytes << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    time.sleep(0.5)


if mode == "memory-lifted":
    lifted("memory.max", lambda: fill(100))
elif mode == "memory-honest":
    fill(30)
elif mode == "cpu-lifted":
    lifted("cpu.max", lambda: burn(2))
elif mode == "cpu-honest":
    burn(2)
elif mode == "tasks-lifted":
    lifted("pids.max", lambda: [child.wait() for child in [subprocess.Popen(["sleep", "1"]) for _ in range(30)]])
elif mode == "leaves":
    writable()
    detached("worker-leaves")
elif mode == "worker-leaves":
    put(f"{elsewhere()}/cgroup.procs", str(os.getpid()))
    time.sleep(300)
elif mode == "comes-back":
    writable()
    detached("worker-comes-back")
    time.sleep(2)
elif mode == "worker-comes-back":
    put(f"{elsewhere()}/cgroup.procs", str(os.getpid()))
    time.sleep(1.5)
    put(f"{OWN}/cgroup.procs", str(os.getpid()))
    time.sleep(300)
elif mode == "stays":
    detached("worker-stays")
elif mode == "worker-stays":
    time.sleep(300)
elif mode == "forks":
    if os.fork() == 0:
        time.sleep(300)
    sys.exit(0)
elif mode == "job":
    if os.fork() == 0:
        time.sleep(0.2)
    sys.exit(0)
elif mode == "sleep":
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        put("/proc/self/comm", "sleep")
        time.sleep(300)
elif mode == "unit":
    subprocess.run(["systemd-run", "--quiet", "--collect", "--unit=run-escaped", "sleep", "300"], check=True)
print("up", flush=True)
while True:
    time.sleep(60)
"""
_LIMITS = {"slice": "api", "MemoryMax": "64M", "CPUQuota": "40%", "TasksMax": 20}
#: Code of the finding that fails, by what a service does; the others pass.
_FAILS = {
    "memory-lifted": "CGP501", "cpu-lifted": "CGP501", "tasks-lifted": "CGP501", "leaves": "CGP502",
    "comes-back": "CGP502", "forks": "CGP503", "sleep": "CGP506",
}  # fmt: skip
_HONEST = ("memory-honest", "cpu-honest", "stays", "job")
_JOBS = ("forks", "job")


@pytest.fixture
def lab(guest: Guest) -> Lab:
    return Lab(guest)


def _services(modes: tuple[str, ...]) -> dict[str, object]:
    return {
        mode: service(
            "escape.py", mode, ready="exit" if mode in _JOBS else "log:^up",
            smoke={"duration": "1s", "start_timeout": "90s", "stop_timeout": "5s"}, **_LIMITS,
        )
        for mode in modes
    }  # fmt: skip


def _judge(outcome: Outcome) -> None:
    failed = {
        name: {code for code, status in outcome.statuses(name).items() if status == "fail"}
        for name in (*_FAILS, *_HONEST)
    }
    assert failed == {name: {_FAILS[name]} if name in _FAILS else set() for name in failed}, outcome.text
    for name in ("leaves", "comes-back"):
        assert f"escape.py worker-{name}" in outcome.finding("CGP502", name)["message"]
    assert "foreground" in outcome.finding("CGP503", "forks")["remedies"][0]["title"]
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)


def test_no_service_slips_its_limits_under_the_system_manager(lab: Lab) -> None:
    """The run has the guest for itself (`--inside`), so that a unit which a service starts counts, too."""
    modes = (*_FAILS, *_HONEST, "unit")
    folder = lab.write("escapes", config(_services(modes), {"api": {"CPUWeight": 50}}), {"escape.py": _SCRIPT})
    outcome = lab.run("smoke", "--inside", folder=folder, leaves=True)
    lab.shell(END_OF_RUN)
    assert lab.leftovers() == []
    _judge(outcome)
    units = [found for found in outcome.findings("CGP502", "run") if "run-escaped.service" in found["message"]]
    assert units, outcome.text
    assert lab.shell("systemctl is-active run-escaped.service || true").strip() != "active"


def test_no_service_slips_its_limits_under_the_manager_of_a_user(lab: Lab) -> None:
    """The user owns the cgroup files; what left its cgroup has ended with the run."""
    lab.guest.start_user_manager("tester")
    folder = lab.write(
        "escapes-user", config(_services((*_FAILS, *_HONEST)), {"api": {"CPUWeight": 50}}), {"escape.py": _SCRIPT}
    )
    _judge(lab.run("smoke", folder=folder, user="tester"))
