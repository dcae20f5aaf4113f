"""The engine `guest` from outside: the command on this host, which need not have systemd or cgroup v2."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.config.load import load
from cgroup_preflight.core.report import Status, Verdict
from cgroup_preflight.guest import run as guest_engine
from cgroup_preflight.guest.spec import GuestEngine, GuestError
from tests.lab.configs import config, service, toml

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"
SECRET = "hunter2-in-the-environment"
_JOB = {"MemoryMax": "32M", "TasksMax": 16, "smoke": {"ready": "exit", "duration": "0s"}}


def job(name: str, **keys: Any) -> dict[str, Any]:
    """A script of the test as a service that ends by itself."""
    return service(name, **{**_JOB, **keys})


class Bench:
    """The command on a project below the test's folder, with a temporary folder of its own to look for leftovers."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.scratch = scratch

    def write(self, table: Mapping[str, Any], scripts: Mapping[str, str] | None = None) -> None:
        """The project's config and its programs."""
        self.project.mkdir()
        (self.project / "cgroup-preflight.toml").write_text(toml(table))
        for name, text in (scripts or {}).items():
            (self.project / name).write_text(text)
            (self.project / name).chmod(0o755)

    def start(self, *words: str, folder: Path | None = None) -> "subprocess.Popen[str]":
        """The running command."""
        return subprocess.Popen(
            [sys.executable, "-m", "cgroup_preflight", *words], cwd=folder or self.project, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(self.scratch), "CI_TOKEN": SECRET},
        )  # fmt: skip

    def run(self, *words: str, folder: Path | None = None) -> tuple[int, dict[str, Any], str]:
        """Exit status, report and stderr of `cgroup-preflight WORDS --format json`; nothing may be left."""
        process = self.start(*words, "--format=json", folder=folder)
        out, err = process.communicate(timeout=400)
        assert self.leftovers() == [], err
        return process.returncode, json.loads(out) if out else {}, err

    def leftovers(self) -> list[str]:
        """Files and processes of guests that this test started."""
        found = [str(path) for path in self.scratch.iterdir()]
        for pid in (name for name in os.listdir("/proc") if name.isdigit()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if str(self.scratch) in words:
                found.append(f"{pid} {words[:200]}")
        return found

    def until(self, reached: bool, *, seconds: float = 60.0) -> None:
        """Waits until there is something of a guest, or nothing any more."""
        deadline = time.monotonic() + seconds
        while bool(self.leftovers()) is not reached:
            assert time.monotonic() < deadline, self.leftovers()
            time.sleep(0.1)


@pytest.fixture
def bench(tmp_path: Path, short_folder: Path) -> Bench:
    return Bench(tmp_path, short_folder)


def _of(report: dict[str, Any], code: str) -> list[dict[str, Any]]:
    return [item for item in report["findings"] if item["code"] == code]


def test_the_example_passes_wherever_this_is(bench: Bench) -> None:
    """With `auto`: on a host that can start units it is that host's verdict, else the guest's."""
    status, report, err = bench.run("run", folder=SHOP)
    assert (status, report["verdict"]) == (0, "pass"), (report.get("findings"), err)
    assert [item["name"] for item in report["services"]] == ["auth-service", "user-api", "worker"]
    assert all(limit["ok"] for item in report["services"] for limit in item["limits"])


def test_the_report_says_what_was_judged_and_keeps_the_hosts_findings(bench: Bench) -> None:
    bench.write(config({"job": job("job.sh")}), {"job.sh": "#!/bin/sh\nexit 0\n"})
    status, report, _ = bench.run("run", "--engine", "guest")
    assert (status, report["verdict"]) == (0, "pass")
    assert report["host"]["engine"] == "guest"
    assert report["host"]["systemd"] == "252"
    assert report["host"]["kernel"] != os.uname().release
    (where,) = _of(report, "CGP512")
    assert where["status"] == "warn"
    assert "not on this machine" in where["message"]
    assert report["host"]["kernel"] in where["message"]
    of_host = [item for item in report["findings"] if item["subject"].startswith("this host: ")]
    assert {"CGP101", "CGP103", "CGP105"} <= {item["code"] for item in of_host}
    assert not [item for item in of_host if item["status"] in ("fail", "unverified")]
    # The guest's own answers to the same checks, and what its kernel held.
    assert [item["status"] for item in _of(report, "CGP101") if item not in of_host] == ["pass"]
    (row,) = report["services"]
    assert row["engine"] == "guest"
    assert {limit["actual"] for limit in row["limits"] if limit["file"].endswith("memory.max")} == {str(32 << 20)}


def test_a_failing_service_fails_with_its_last_lines(bench: Bench) -> None:
    bench.write(config({"job": job("job.sh")}), {"job.sh": "#!/bin/sh\necho no such luck\nexit 3\n"})
    process = bench.start("run", "--engine", "guest", "--format", "json=report.json")
    text, err = process.communicate(timeout=300)
    report = json.loads((bench.project / "report.json").read_text())
    assert (process.returncode, report["verdict"]) == (1, "fail"), err
    assert "last lines of job:\n    | no such luck" in text
    (found,) = [item for item in _of(report, "CGP503") if item["status"] == "fail"]
    assert found["location"]["file"] == "cgroup-preflight.toml"


#: What a hostile binary does to its machine, and what the report says of that.
_ENDS = {
    "power-off": ("systemctl poweroff -ff", "ended"),
    "out-of-memory": ("exec python3 -c 'x = [bytearray(1 << 20) for _ in range(4096)]'", "Out of memory"),
    "disk-full": ("dd if=/dev/zero of=/var/full bs=1M; exit 1", "No space left"),
    "no-report": ("pkill -9 -P $(pgrep -o -f inside.agent); sleep 60", "returned no valid report"),
    "no-agent": ("pkill -9 -f inside.agent; sleep 60", "ended"),
}


@pytest.mark.parametrize("name", _ENDS)
def test_a_guest_that_is_lost_is_unverified(bench: Bench, name: str) -> None:
    command, words = _ENDS[name]
    bench.write(config({"job": service("job.sh", ready="exit")}), {"job.sh": f"#!/bin/sh\n{command}\n"})
    status, report, err = bench.run("run", "--engine", "guest")
    assert (status, report["verdict"]) == (3, "unverified"), (report.get("findings"), err)
    (found,) = _of(report, "CGP512")
    assert found["status"] == "unverified"
    assert words in found["message"]
    assert report["services"] == []


def test_a_guest_that_stands_still_is_noticed_long_before_its_time_is_over(bench: Bench) -> None:
    """What answers is stopped: as when the kernel hangs, nothing comes any more."""
    script = "#!/bin/sh\nkill -STOP $(pgrep -f inside.agent)\nsleep 300\n"
    bench.write(config({"job": service("job.sh", smoke={"duration": "200s"})}), {"job.sh": script})
    began = time.monotonic()
    status, report, _ = bench.run("run", "--engine", "guest")
    assert (status, report["verdict"]) == (3, "unverified")
    assert "no answer" in _of(report, "CGP512")[0]["message"]
    assert time.monotonic() - began < 120


def test_a_kernel_panic_is_told_with_its_console(bench: Bench) -> None:
    bench.write(config({"job": job("job.sh")}), {"job.sh": "#!/bin/sh\n"})
    task = guest_engine.GuestTask(
        config=load(bench.project / "cgroup-preflight.toml"), words=("run",), names=(), distro="debian-12",
        kernel_args=("init=/bin/false",),
    )  # fmt: skip
    with pytest.raises(GuestError) as lost:
        guest_engine.run_task(task, os.environ, print)
    assert any("Kernel panic" in line for line in lost.value.console)
    assert "Kernel panic" not in lost.value.what


#: Runs as the service in the guest; ends with 0 only if there is no way out.
_INTRUDER = """\
#!/usr/bin/python3
import glob, os, socket, subprocess, sys
wrong = []
def sees(what): wrong.append(what); print("REACHED", what, flush=True)
me = os.path.abspath(__file__)
open(me, "a").write("# changed")  # its own copy: the guest discards it
if os.path.exists({host_file!r}): sees("a file of the host")
os.makedirs("/mnt/h", exist_ok=True)
for kind in ("hostfs", "9p", "virtiofs"):
    subprocess.run(["mount", "-t", kind, "none", "/mnt/h", "-o", "/"], capture_output=True)
    subprocess.run(["mount", "-t", kind, "none", "/mnt/h"], capture_output=True)
    subprocess.run(["mount", "-t", kind, "none", "/mnt/h", "-o", "../../../../../.."], capture_output=True)
if os.listdir("/mnt/h"): sees("a folder of the host")
for path in glob.glob("/run/preflight/in/**", recursive=True) + ["/proc/self/environ", "/proc/1/environ", "/proc/cmdline"]:
    if os.path.isfile(path) and {secret!r}.encode() in open(path, "rb").read() and path != me: sees("the environment, in " + path)
if os.path.exists(os.path.join(os.path.dirname(me), "private.txt")): sees("a file that was not handed in")
if not os.path.exists(os.path.join(os.path.dirname(me), "etc/named.txt")): sees("no file that was named")
if os.listdir("/sys/class/net") != ["lo"]: sees("a network device")
for address in (("127.0.0.1", {port}), ({name!r}, {port}), ("10.0.2.2", {port}), ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, 0.5); sees("address %s:%s" % address)
    except OSError: pass
sys.exit(len(wrong))
"""


@pytest.fixture
def visited() -> Iterator[tuple[int, list[object]]]:
    """A server of this host on all its addresses: its port, and who came."""
    visitors: list[object] = []

    def serve() -> None:
        while True:
            try:
                connection, address = server.accept()
            except OSError:
                return
            visitors.append(address)
            connection.close()

    with socket.create_server(("0.0.0.0", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], visitors
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_binary_reaches_neither_files_nor_network_of_the_host(
    bench: Bench, visited: tuple[int, list[object]]
) -> None:
    port, visitors = visited
    secret = bench.folder / "secret.txt"
    secret.write_text("the host's")
    script = _INTRUDER.format(host_file=str(secret), secret=SECRET, port=port, name=socket.gethostname())
    bench.write(
        config({"job": service("job.py", ready="exit", MemoryMax="64M")}, target={"files": ["etc/*.txt"]}),
        {"job.py": script},
    )
    (bench.project / "private.txt").write_text("not named by the config")
    (bench.project / "etc").mkdir()
    (bench.project / "etc" / "named.txt").write_text("named")
    (bench.project / "etc" / "link.txt").symlink_to(secret)
    before = (bench.project / "job.py").read_bytes()
    status, report, err = bench.run("run", "--engine", "guest")
    assert (status, report["verdict"]) == (0, "pass"), (report.get("findings"), err)
    assert visitors == []
    assert (bench.project / "job.py").read_bytes() == before


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_is_left_when_it_is_interrupted(bench: Bench, number: int, expected: int) -> None:
    bench.write(
        config({"job": service("job.sh", smoke={"duration": "100s"})}), {"job.sh": "#!/bin/sh\nexec sleep 100\n"}
    )
    process = bench.start("run", "--engine", "guest")
    bench.until(reached=True)
    time.sleep(3)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == expected
    bench.until(reached=False, seconds=30)


def test_guests_in_parallel_do_not_disturb_one_another(tmp_path: Path, short_folder: Path) -> None:
    """Ten; each writes its own name where all the others do, and some fail."""
    benches = []
    codes = [0, 3] * 5
    for number, code in enumerate(codes):
        folder = tmp_path / f"b{number}"
        folder.mkdir()
        scratch = short_folder / str(number)
        scratch.mkdir()
        bench = Bench(folder, scratch)
        script = (
            f'#!/bin/sh\necho {number} > /tmp/who\nsleep 1\n[ "$(cat /tmp/who)" = {number} ] || exit 77\nexit {code}\n'
        )
        bench.write(config({"job": job("job.sh")}), {"job.sh": script})
        benches.append((bench, bench.start("run", "--engine", "guest")))
    outcomes = []
    for bench, process in benches:
        text, _ = process.communicate(timeout=400)
        assert "status 77" not in text
        outcomes.append(process.returncode)
        bench.until(reached=False, seconds=30)
    assert outcomes == [int(code != 0) for code in codes]


def test_two_targets_give_one_report(bench: Bench) -> None:
    scripts = {"job.sh": "#!/bin/sh\n. /etc/os-release\necho $VERSION_ID\n"}
    bench.write(config({"job": job("job.sh")}), scripts)
    status, report, err = bench.run("run", "--target", "debian-12", "--target", "debian-13")
    assert (status, report["verdict"]) == (0, "pass"), (report.get("findings"), err)
    assert [item["name"] for item in report["services"]] == ["debian-12: job", "debian-13: job"]
    assert report["host"]["systemd"] == "252 / 257"
    assert [item["subject"] for item in _of(report, "CGP512")] == ["debian-12", "debian-13"]


def test_a_quota_above_one_cpu_is_tried_where_there_are_two(bench: Bench) -> None:
    bench.write(config({"job": job("job.sh", CPUQuota="120%")}), {"job.sh": "#!/bin/sh\nexit 0\n"})
    task = guest_engine.GuestTask(
        config=load(bench.project / "cgroup-preflight.toml"), words=("run",), names=(), distro="debian-13"
    )
    done = guest_engine.run_task(task, os.environ, print)
    assert (done.machine.engine, done.machine.cpus >= 2) == (GuestEngine.QEMU, True)
    (tried,) = [item for item in done.report.findings if item.code == "CGP511" and item.message.startswith("CPUQuota")]
    # Where this machine is too busy to give both CPUs, that is what is said; it is tried all the same.
    busy = "the probe got only" in tried.message and tried.status is Status.UNVERIFIED
    assert (done.report.verdict is Verdict.PASS) or busy, done.report.findings
    assert done.report.host is not None
    assert done.report.host.systemd == "257"


def test_a_quota_above_the_guests_cpus_is_unverified(bench: Bench) -> None:
    table = config({"job": job("job.sh", CPUQuota="120%")}, target={"machine": "uml"})
    bench.write(table, {"job.sh": "#!/bin/sh\nexit 0\n"})
    status, report, _ = bench.run("run", "--engine", "guest")
    assert (status, report["verdict"]) == (3, "unverified")
    assert "unverified without QEMU" in _of(report, "CGP512")[0]["message"]


def test_commands_and_their_exit_status(bench: Bench) -> None:
    process = bench.start("guest", "run", "--", "sh", "-c", "echo out; echo err >&2; exit 7", folder=bench.folder)
    assert (*process.communicate(timeout=120), process.returncode) == ("out\n", "err\n", 7)
    shell = bench.start("guest", "run", "--input", str(SHOP / "cgroup-preflight.toml"), "--", "ls", "/run/preflight/in",
                        folder=bench.folder)  # fmt: skip
    assert "cgroup-preflight.toml" in shell.communicate(timeout=120)[0]
