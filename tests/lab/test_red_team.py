"""What once passed although a limit did not apply, and what once failed although all of them did; a run for each system.

Services that do not play by the rules, and honest ones that only look odd, in the same run.
"""

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab import cgroupfs_job as job
from tests.lab.configs import END_OF_RUN, Lab, Outcome, config, service

_SCRIPT = r"""#!/usr/bin/python3
import ctypes, os, socket, subprocess, sys, threading, time

TOP = "/sys/fs/cgroup"
OWN = TOP + open("/proc/self/cgroup").read().strip().partition("::")[2]
SLICE, RUN = os.path.dirname(OWN), os.path.basename(OWN).partition("-")[0]
mode = sys.argv[1]


def put(path, text):
    with open(path, "w") as file:
        file.write(text)


def writable():
    subprocess.run(["mount", "-o", "remount,bind,rw", TOP], check=True)


def forever():
    while True:
        time.sleep(60)


def moved(folder):
    # As a daemon does it, and without an environment; returns when it is there, however slow the machine is.
    writable()
    waits, tells = os.pipe()
    os.set_inheritable(tells, True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/usr/bin/python3", ["python3", __file__, "worker", f"of-{mode}", folder, str(tells)], {})
        os._exit(0)
    os.wait()
    os.close(tells)
    os.read(waits, 1)


if mode == "sibling":
    moved(f"{SLICE}/free")
elif mode == "namesake":
    moved(f"{TOP}/{os.path.basename(OWN)}")
elif mode == "neighbour":
    moved(f"{SLICE}/{RUN}-large.service")
elif mode == "worker":
    os.makedirs(sys.argv[3], exist_ok=True)
    put(f"{sys.argv[3]}/cgroup.procs", str(os.getpid()))
    os.close(int(sys.argv[4]))
    forever()
elif mode == "child":
    writable()
    os.mkdir(f"{OWN}/worker")
    put(f"{OWN}/worker/cgroup.procs", str(os.getpid()))
elif mode == "file":
    put("/run/systemd/system/escaped.service", "[Service]\nExecStart=/usr/bin/sleep 301\n")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", "escaped.service"], check=True)
elif mode == "prefix":
    subprocess.run(["systemd-run", "--quiet", "--collect", "--unit=cgpfescaped", "sleep", "302"], check=True)
elif mode == "burst":
    writable()
    put(f"{OWN}/cpu.max.burst", "20000")
elif mode == "controller":
    # The kernel makes the limit anew, and forgets what it counted.
    writable()
    put(f"{SLICE}/cgroup.subtree_control", "-memory")
    block = bytearray(b"x") * (80 << 20)
    put(f"{SLICE}/cgroup.subtree_control", "+memory")
    put(f"{OWN}/memory.max", str(64 << 20))
elif mode == "fifo":
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
elif mode == "batch":
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
elif mode == "full":
    for _ in range(9):
        threading.Thread(target=forever, daemon=True).start()
elif mode.startswith("pair"):
    threading.Thread(target=forever, daemon=True).start()
elif mode == "leaderless":
    # Its first thread ends, and with it /proc/PID/fd is empty.
    server = socket.create_server(("127.0.0.1", 9321))
    threading.Thread(target=forever).start()
    ctypes.CDLL(None).pthread_exit(None)
elif mode == "reload":
    subprocess.run(["systemctl", "daemon-reload"], check=True)
print("up", flush=True)
forever()
"""
_SMOKE = {"duration": "2s", "start_timeout": "120s", "stop_timeout": "10s"}
_SLICES = {"api": {"CPUWeight": 50}, "tight": {"TasksMax": 9}}
_READY = {"leaderless": "tcp://127.0.0.1:9321"}
_PAIRS = tuple(f"pair-{number}" for number in range(4))
#: Those that work somewhere else: the finding may be about the run.
_ELSEWHERE = ("sibling", "namesake", "neighbour")


@pytest.fixture
def lab(guest: Guest) -> Lab:
    return Lab(guest)


def _service(mode: str, **limits: object) -> dict[str, object]:
    """One that does `mode`; all have a small quota, and the pairs only fit into their slice."""
    place = {"slice": "tight"} if mode in _PAIRS else {"slice": "api", "TasksMax": 20}
    keys = {"MemoryMax": "64M", "CPUQuota": "30%", "CPUWeight": 50, **place, **limits}
    return service("odd.py", mode, ready=_READY.get(mode, "log:^up"), smoke=_SMOKE, **keys)


def _job() -> dict[str, object]:
    return service("/bin/true", ready="exit", smoke=_SMOKE, slice="api", MemoryMax="64M", CPUQuota="30%")


def _failed(outcome: Outcome, names: tuple[str, ...]) -> dict[str, set[str]]:
    statuses = {name: outcome.statuses(name) for name in names}
    return {
        name: {code for code, status in found.items() if status in ("fail", "unverified")}
        for name, found in statuses.items()
    }


def test_no_service_hides_in_the_tree_of_the_run_or_behind_a_unit_of_its_own(lab: Lab) -> None:
    odd = ("burst", *_ELSEWHERE, "file", "prefix")
    honest = ("child", "large", "leaderless", *_PAIRS)
    services = {name: _service(name) for name in (*odd, *honest)}
    folder = lab.write("red-team", config({**services, "job": _job()}, _SLICES), {"odd.py": _SCRIPT})
    outcome = lab.run("smoke", "--inside", folder=folder, leaves=True)
    lab.shell(f"rm -f /run/systemd/system/escaped.service; {END_OF_RUN}; rmdir /sys/fs/cgroup/cgpf*.service")
    assert lab.leftovers() == []
    failed = _failed(outcome, ("burst", *honest, "job"))
    assert failed == {name: {"CGP501"} if name == "burst" else set() for name in failed}, outcome.text
    assert "cpu.max.burst" in outcome.finding("CGP501", "burst")["message"]
    messages = [found["message"] for found in outcome.findings("CGP502") if found["status"] == "fail"]
    for words in (*(f"of-{name}" for name in _ELSEWHERE), "escaped.service", "cgpfescaped.service"):
        assert any(words in message for message in messages), (words, messages)
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)


@pytest.mark.requires("psi", "cpus>=2")
def test_real_time_threads_fail_and_a_full_cgroup_and_a_reload_do_not(lab: Lab) -> None:
    """On the newer systemd, which starts its gates inside the cgroup."""
    honest = ("batch", "full", "reload", *_PAIRS)
    services = {name: _service(name) for name in ("fifo", *honest)}
    services["full"] = _service("full", TasksMax=10)
    folder = lab.write("red-team-new", config({**services, "job": _job()}, _SLICES), {"odd.py": _SCRIPT})
    outcome = lab.run("smoke", folder=folder, timeout=600.0)
    failed = _failed(outcome, ("fifo", *honest, "job"))
    assert failed == {name: {"CGP501"} if name == "fifo" else set() for name in failed}, outcome.text
    assert "SCHED_FIFO" in outcome.finding("CGP501", "fifo")["message"]


@pytest.mark.measured
def test_no_service_hides_from_the_engine_cgroupfs(guest: Guest) -> None:
    lifted = ("burst", "controller")
    honest = ("batch", "child", "large", "full", *_PAIRS)
    services = {name: _service(name) for name in (*lifted, *_ELSEWHERE, *honest)}
    services |= {"full": _service("full", TasksMax=10), "controller": _service("controller", slice="own")}
    slices = {**_SLICES, "own": {"CPUWeight": 50}}
    made = job.put(
        guest, name="red-team", made=config({**services, "job": _job()}, slices), scripts={"odd.py": _SCRIPT}
    )
    seen = job.run(guest, job.IN_SCOPE, made=made, timeout=600)
    failed = _failed(seen.outcome, (*lifted, *honest, "job"))
    # Its counters were forgotten, so that how it ended is unknown, too.
    failed["controller"] -= {"CGP503"}
    assert failed == {name: {"CGP501"} if name in lifted else set() for name in failed}, seen.done
    messages = [found["message"] for found in seen.outcome.findings("CGP502") if found["status"] == "fail"]
    for name in _ELSEWHERE:
        assert any(f"of-{name}" in message for message in messages), (name, messages)
    assert seen.tree["processes"] == []
    Lab(guest).shell("find /sys/fs/cgroup -maxdepth 1 -name 'cgpf*.service' -exec rmdir {} +")
    assert Lab(guest).leftovers() == []
