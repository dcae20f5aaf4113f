"""Services that slip their limits are a fail whatever they do, and their honest twins in the same run pass.

One run for each engine, because a boot and a run cost more than a service.
"""

import pytest

from tests.lab import cgroupfs_job as job
from tests.lab.cgroupfs_job import IN_SCOPE, IN_USERS_SCOPE
from tests.lab.configs import END_OF_RUN, Lab, Outcome, config, service
from tests.lab.conftest import KINDS, Boot

#: What each service does; root has cgroup files that are read-only in its mount namespace, and mounts them again.
SCRIPT = r"""#!/usr/bin/python3
import os, signal, socket, subprocess, sys, tempfile, time

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


def slipped():
    # Shorter than the time between two samples, and again and again: only the CPU time is certain to tell.
    writable()
    with open(f"{OWN}/cpu.max") as file:
        before = file.read()
    while time.process_time() < 5:
        put(f"{OWN}/cpu.max", "max")
        burn(0.05)
        put(f"{OWN}/cpu.max", before)


def many_at_once():
    # They live for a moment, together.
    waits, lives = os.pipe()
    pids = []
    for _ in range(30):
        pid = os.fork()
        if pid == 0:
            os.close(lives)
            os.read(waits, 1)
            os._exit(0)
        pids.append(pid)
    os.close(lives)
    for pid in pids:
        os.waitpid(pid, 0)


def masked(files, *, private):
    # Over the cgroup's folder, or over one file of it; where the manager and the tool look, or only for this service.
    fake = tempfile.mkdtemp(prefix="fake-")
    for name in ("memory.max", "memory.peak", "cgroup.procs", "cgroup.controllers"):
        with open(f"{OWN}/{name}") as file, open(f"{fake}/{name}", "w") as copy:
            copy.write(file.read())
    enter = [] if private else ["nsenter", "--mount=/proc/1/ns/mnt"]
    for name in files:
        subprocess.run([*enter, "mount", "--bind", f"{fake}{name}", f"{OWN}{name}"], check=True)


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
    lifted("memory.max", lambda: fill(50))
elif mode == "memory-honest":
    fill(20)
elif mode == "cpu-lifted":
    lifted("cpu.max", lambda: burn(5))
elif mode == "cpu-honest":
    burn(2)
elif mode == "cpu-between":
    slipped()
elif mode == "cpu-small":
    while time.process_time() < 0.5:
        pass
elif mode == "tasks-between":
    lifted("pids.max", many_at_once)
elif mode == "mounted-file":
    lifted("memory.max", lambda: (masked(["/memory.max"], private=False), fill(50)))
elif mode == "mounted-folder":
    lifted("memory.max", lambda: (masked([""], private=False), fill(50)))
elif mode == "mounted-private":
    lifted("memory.max", lambda: (masked(["/memory.max", "/memory.peak"], private=True), fill(50)))
elif mode == "mounted-honest":
    masked(["/memory.max", ""], private=True)
    fill(20)
elif mode in ("hidden", "unix"):
    if mode == "unix" and os.path.exists(f"/tmp/lab-{os.geteuid()}.sock"):
        # Of the test before this one, in the same guest.
        os.unlink(f"/tmp/lab-{os.geteuid()}.sock")
    server = socket.socket(socket.AF_UNIX if mode == "unix" else socket.AF_INET)
    server.bind(f"/tmp/lab-{os.geteuid()}.sock" if mode == "unix" else ("127.0.0.1", 9301))
    if mode == "hidden":
        import ctypes

        ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: /proc/PID/fd is root's now
    server.listen()
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
    time.sleep(5)
elif mode == "worker-comes-back":
    put(f"{elsewhere()}/cgroup.procs", str(os.getpid()))
    time.sleep(4)
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
_LIMITS = {"slice": "api", "MemoryMax": "40M", "CPUQuota": "40%", "TasksMax": 20}
_SMALL = {"MemoryMax": "40M", "CPUQuota": "10%", "TasksMax": 40}
#: Code of the finding that fails, by what a service does; the others pass.
_FAILS = {
    "memory-lifted": "CGP501", "cpu-lifted": "CGP501",
    "tasks-lifted": "CGP501", "tasks-between": "CGP501", "leaves": "CGP502", "comes-back": "CGP502",
    "forks": "CGP503", "sleep": "CGP506",
}  # fmt: skip
#: Only root can mount.
_MOUNTED = ("mounted-file", "mounted-folder", "mounted-private")
_HONEST = ("memory-honest", "cpu-honest", "stays", "job", "unix")
_JOBS = ("forks", "job")


@pytest.fixture(params=[KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.measured)], ids=["uml", "qemu"])
def lab(request: pytest.FixtureRequest, boot: Boot) -> Lab:
    """The second kind, with its other systemd and kernel, takes too long for each change of the code."""
    return Lab(boot(base=request.param.spec))


def _ready(mode: str, uid: int) -> str:
    if mode in _JOBS:
        return "exit"
    return {"hidden": "tcp://127.0.0.1:9301", "unix": f"unix:/tmp/lab-{uid}.sock"}.get(mode, "log:^up")


def _services(modes: tuple[str, ...], uid: int = 0) -> dict[str, object]:
    return {
        mode: service(
            "escape.py", mode, ready=_ready(mode, uid),
            smoke={"duration": "1s", "start_timeout": "90s", "stop_timeout": "5s"},
            **(_SMALL if mode in ("cpu-between", "cpu-small") else _LIMITS),
        )
        for mode in modes
    }  # fmt: skip


def _judge(outcome: Outcome, fails: dict[str, str], honest: tuple[str, ...]) -> None:
    failed: dict[str, set[str]] = {
        name: {code for code, status in outcome.statuses(name).items() if status in ("fail", "unverified")}
        for name in (*fails, *honest)
    }
    assert failed == {name: {fails[name]} if name in fails else set() for name in failed}, outcome.text
    assert "/pids.peak is 3" in _messages(outcome, "tasks-between"), outcome.text
    for name in ("leaves", "comes-back"):
        assert f"escape.py worker-{name}" in outcome.finding("CGP502", name)["message"]
    assert "foreground" in outcome.finding("CGP503", "forks")["remedies"][0]["title"]
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)


def _messages(outcome: Outcome, name: str) -> str:
    return "; ".join(item["message"] for item in outcome.findings("CGP501", name))


@pytest.mark.timeout(1200)
def test_no_service_slips_its_limits_under_the_system_manager(lab: Lab) -> None:
    """The run has the guest for itself (`--inside`), so that a unit which a service starts counts, too."""
    honest = (*_HONEST, "mounted-honest", "hidden")
    made = config(_services((*_FAILS, *_MOUNTED, *honest, "unit")), {"api": {"CPUWeight": 50}})
    outcome = lab.run(
        "smoke", "--inside", folder=lab.write("escapes", made, {"escape.py": SCRIPT}), leaves=True, timeout=900
    )
    lab.shell(END_OF_RUN)
    assert lab.leftovers() == []
    _judge(outcome, _FAILS, honest)
    for name in _MOUNTED:
        assert "memory.max was 'max'" in _messages(outcome, name), outcome.text
        assert "find the level" not in str(outcome.findings("CGP501", name))
    covered = [name for name in (*_MOUNTED, *honest) if "is mounted over the folder" in _messages(outcome, name)]
    assert covered == ["mounted-folder"], outcome.text
    units = [found for found in outcome.findings("CGP502", "run") if "run-escaped.service" in found["message"]]
    assert units, outcome.text
    assert lab.shell("systemctl is-active run-escaped.service || true").strip() != "active"


@pytest.mark.parametrize("user", [None, "tester"])
def test_one_that_goes_to_the_background_at_once(lab: Lab, user: str | None) -> None:
    """Its main process has ended before a handle of it can be open, at the latest where nothing else is started."""
    lab.guest.start_user_manager("tester")
    forks, limits = ("/bin/sh", "-c", "sleep 300 & exit 0"), {"slice": "api", "MemoryMax": "32M"}
    for name, one in (
        ("job", service(*forks, ready="exit", **limits)),
        ("unasked", service(*forks, **limits)),
        ("true", service("/bin/true", ready="exit", **limits)),
    ):
        folder = lab.write(f"at-once-{name}", config({name: one}, {"api": {"CPUWeight": 50}}))
        outcome = lab.run("smoke", folder=folder, user=user)
        found = outcome.finding("CGP503", name)
        if name == "true":
            assert (outcome.verdict, found["status"]) == ("pass", "pass"), outcome.text
            continue
        assert (outcome.verdict, found["status"]) == ("fail", "fail"), outcome.text
        assert "it forked: its main process ended with status 0, and 1 process(es) still run" in found["message"]
        assert "foreground" in found["remedies"][0]["title"]


def test_cpu_time_tells_that_a_quota_was_lifted_between_samples(lab: Lab) -> None:
    """Alone, because the tolerance of CPU time grows with the time between two samples, and that with the load."""
    made = config(_services(("cpu-between", "cpu-small")))
    outcome = lab.run("smoke", folder=lab.write("escapes-cpu", made, {"escape.py": SCRIPT}), timeout=900)
    assert "of CPU time above its quota of 10000 in 100000 us" in _messages(outcome, "cpu-between"), outcome.text
    assert outcome.statuses("cpu-small")["CGP501"] == "pass"


@pytest.mark.timeout(1200)
def test_no_service_slips_its_limits_under_the_manager_of_a_user(lab: Lab) -> None:
    """The user owns the cgroup files; what left its cgroup has ended with the run.

    And the sockets of a program that is not dumpable cannot be read: whose socket it is stays unknown, so no pass.
    """
    lab.guest.start_user_manager("tester")
    fails = {**_FAILS, "hidden": "CGP505"}
    made = config(_services((*fails, *_HONEST), uid=1000), {"api": {"CPUWeight": 50}})
    outcome = lab.run(
        "smoke", folder=lab.write("escapes-user", made, {"escape.py": SCRIPT}), user="tester", timeout=900
    )
    _judge(outcome, fails, _HONEST)
    hidden = outcome.finding("CGP505", "hidden")
    assert hidden["status"] == "unverified"
    assert "/fd: denied" in hidden["message"]


@pytest.mark.parametrize("user", [None, "tester"])
def test_units_that_services_have_made_on_a_host(lab: Lab, user: str | None) -> None:
    """Where others make units, too: one is of a service if systemd-run says so in its output, and else a warning."""
    lab.guest.start_user_manager("tester")
    manager = " --user" if user else ""
    ours, others = f"systemd-run{manager} --collect", f"XDG_RUNTIME_DIR=/run/user/1000 systemd-run{manager} --collect"

    def run(**starts: str) -> Outcome:
        made = {
            name: service("/bin/sh", "-c", f"{starts[name]} exec sleep 300", smoke={"duration": "6s"}, **_LIMITS)
            for name in starts
        }  # fmt: skip
        folder = lab.write("units", config(made, {"api": {"CPUWeight": 50}}))
        call = lab.spawn("smoke", folder=folder, user=user)
        lab.until("find /sys/fs/cgroup -path '*cgpf*-plain.service' | grep -q .")
        lab.shell(f"{others} --unit=run-others sleep 300", user=user)
        return lab.wait(call)

    def active(name: str) -> bool:
        words = f"XDG_RUNTIME_DIR=/run/user/1000 systemctl{manager} is-active {name} || true"
        return lab.shell(words, user=user).strip() == "active"

    def stop(*names: str) -> None:
        lab.shell(f"XDG_RUNTIME_DIR=/run/user/1000 systemctl{manager} stop {' '.join(names)}", user=user)

    outcome = run(
        plain="", told=f"{ours} --unit=run-told sleep 300;", quiet=f"{ours} --quiet --unit=run-quiet sleep 300;"
    )
    assert [active(f"run-{name}") for name in ("told", "quiet", "others")] == [False, True, True], outcome.text
    stop("run-quiet", "run-others")
    assert "run-told.service (" in outcome.finding("CGP502", "told")["message"], outcome.text
    assert [outcome.statuses(name)["CGP502"] for name in ("plain", "quiet", "told")] == ["pass", "pass", "fail"]
    failed, warned = sorted(outcome.findings("CGP502", "run"), key=lambda item: str(item["status"]))
    assert (failed["status"], failed["evidence"]) == ("fail", {"unit": "run-told.service"})
    assert warned["status"] == "warn"
    assert "run-others.service (" in warned["message"]
    assert "run-quiet.service (" in warned["message"]

    twin = run(plain="")
    assert active("run-others"), twin.text
    stop("run-others")
    assert (twin.verdict, twin.exit_status) == ("pass", 0), twin.text
    (warned,) = twin.findings("CGP502", "run")
    assert (warned["status"], warned["evidence"]) == ("warn", {"units": 1})


@pytest.mark.measured
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("user", [None, "tester"])
def test_no_service_slips_its_limits_with_the_engine_cgroupfs(boot: Boot, user: str | None) -> None:
    """Services are of the same user as the tool, see its cgroup files as it does, and can write to them."""
    guest = boot()
    guest.start_user_manager("tester")
    fails = {
        **_FAILS,
        **({"hidden": "CGP505"} if user else dict.fromkeys(("mounted-file", "mounted-private"), "CGP501")),
    }
    honest = _HONEST if user else (*_HONEST, "hidden")
    services = _services((*fails, *honest), uid=1000 if user else 0)
    made = job.put(
        guest, name=f"escapes-{user}", made=config(services, {"api": {"CPUWeight": 50}}), scripts={"escape.py": SCRIPT}
    )
    seen = job.run(guest, IN_USERS_SCOPE if user else IN_SCOPE, made=made, timeout=900)
    _judge(seen.outcome, fails, honest)
    assert (seen.tree["processes"], seen.tree["mixed"], len(seen.tree["runs"])) == ([], [], 1)
    Lab(guest).shell(
        "find /sys/fs/cgroup -name elsewhere -type d -exec rmdir {} +; rm -f /tmp/lab-*.sock; rm -rf /tmp/fake-*"
    )
    assert Lab(guest).leftovers() == []


@pytest.mark.measured
def test_a_mount_over_a_cgroup_is_found_and_what_it_keeps_is_named(boot: Boot) -> None:
    """Without a service manager there is one mount namespace: such a mount stays until somebody removes it."""
    guest = boot()
    made = job.put(
        guest,
        name="mounts",
        made=config(_services(("mounted-folder", "memory-honest")), {"api": {"CPUWeight": 50}}),
        scripts={"escape.py": SCRIPT},
    )
    seen = job.run(guest, IN_SCOPE, made=made, timeout=900)
    assert "is mounted over the folder" in _messages(seen.outcome, "mounted-folder"), seen.done
    assert seen.outcome.statuses("memory-honest")["CGP501"] == "pass"
    left = seen.outcome.finding("CGP510", "run")
    assert (left["status"], "-mounted-folder.service" in left["message"]) == ("fail", True)
    Lab(guest).shell(
        "grep -o ' /sys/fs/cgroup/[^ ]*cgpf[^ ]*' /proc/mounts | xargs -r umount; rm -rf /tmp/fake-*;"
        " find /sys/fs/cgroup -depth -path '*cgpf*' -type d -exec rmdir {} +"
    )
    assert Lab(guest).leftovers() == []
