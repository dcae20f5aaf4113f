"""The Ansible playbooks on real service managers: of several guests at once, and several managers of one guest.

One host is changed, one is taken back because a service is killed for its memory, and the connection to one breaks in the
middle of its rollout, together with all that it started. `nox -s clients -- -k guest`
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import socketserver
import sys
import threading
import time
from pathlib import Path

import pytest

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from tests.clients.helpers import ROOT, run

CONFIG = """
[project]
name = "fleet"
[rollout]
steps = ["50%", "100%"]
interval = "6s"
settle = "2s"
soak = "6s"
deadline = "60s"
restore_after = "20s"
[rollout.hook]
timeout = "5s"
[rollout.slices.api]
MemoryMax = "192M"
TasksMax = 80
"""
SLICE = "[Slice]\nMemoryMax=256M\nTasksMax=100\n"
CALM = "[Service]\nSlice=api.slice\nExecStart=/bin/sh -c 'while :; do sleep 0.5; done'\n"
#: It begins to need more than it may have when the rollout is under way.
GREEDY = (
    "[Service]\nSlice=api.slice\nMemoryMax=24M\nMemorySwapMax=0\n"
    """ExecStart=/bin/sh -c 'while [ ! -e /tmp/greedy ]; do sleep 0.2; done; exec python3 -c "x = bytearray(64 << 20)"'\n"""
)
OLD, NEW = (str(256 << 20), "100"), (str(192 << 20), "80")
SECONDS = 600
TOOL = ["env", f"PYTHONPATH={ROOT}/src", sys.executable, "-m", "cgroup_preflight"]


class Bridge(socketserver.ThreadingUnixStreamServer):
    """Runs what the connections ask in their guests, several commands at once; `cut` is the host whose connection breaks.

    `guests` are by host; a host without one cannot be reached. A guest answers one question at a time: `turn`.
    """

    daemon_threads = True

    def __init__(self, path, guests, cut=""):
        super().__init__(path, Handler)
        self.guests, self.cut, self.broken = guests, cut, False
        turns = {id(guest): threading.Lock() for guest in guests.values()}
        self.turns = {host: turns[id(guest)] for host, guest in guests.items()}

    def command(self, asked):
        """The answer, None where the connection broke."""
        host, data = asked["host"], base64.b64decode(asked["stdin"])
        if host not in self.guests or (host == self.cut and self.broken):
            return None
        guest, turn = self.guests[host], self.turns[host]
        if asked["op"] == "put":
            with turn:
                guest.write_file(asked["path"], data, mode=0o644)
                guest.run(["chown", asked["user"], asked["path"]])
            return {}
        with turn:
            environment = {
                "HOME": "/root" if asked["user"] == "root" else f"/home/{asked['user']}",
                "PATH": "/usr/sbin:/usr/bin",
            }
            job = guest.spawn(asked["argv"], user=asked["user"], env=environment, stdin=data)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with turn:
                done = guest.poll(job)
                if done is None and host == self.cut and is_changing(guest, asked["user"]):
                    self.broken = True
                    guest.signal(job, signal.SIGKILL, group=True)
                    guest.run(["pkill", "-KILL", "-u", asked["user"], "-f", "rollout apply"])
                    return None
            if done is not None:
                return {
                    "status": done.returncode, "out": base64.b64encode(done.stdout).decode(),
                    "err": base64.b64encode(done.stderr).decode(),
                }  # fmt: skip
            time.sleep(0.3)
        raise TimeoutError(asked["argv"])

    def read(self, host, user):
        """The limits of a host in its kernel."""
        with self.turns[host]:
            return read(self.guests[host], user)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        answer = self.server.command(json.loads(self.rfile.readline()))
        if answer is not None:
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def cgroup(guest, user):
    if user == "root":
        return "/sys/fs/cgroup/api.slice"
    number = guest.uid(user)
    return f"/sys/fs/cgroup/user.slice/user-{number}.slice/user@{number}.service/api.slice"


def read(guest, user):
    done = guest.run(["cat", f"{cgroup(guest, user)}/memory.max", f"{cgroup(guest, user)}/pids.max"])
    return tuple(done.text.split())


def is_changing(guest, user):
    """Whether the first step of a rollout is in force."""
    return read(guest, user)[0] != OLD[0]


def start(guest, user, service):
    folder = "/etc/systemd/system" if user == "root" else f"/home/{user}/.config/systemd/user"
    words = ["systemctl"] if user == "root" else ["systemctl", "--user"]
    environment = {} if user == "root" else {"XDG_RUNTIME_DIR": f"/run/user/{guest.uid(user)}"}
    if user != "root":
        guest.start_user_manager(user)
        guest.run(["mkdir", "-p", folder], user=user)
    for name, text in (("api.slice", SLICE), ("api.service", service)):
        guest.write_file(f"{folder}/{name}", text.encode())
    for more in (["daemon-reload"], ["start", "api.service"]):
        done = guest.run([*words, *more], user=user, env=environment)
        assert done.returncode == 0, done
    assert read(guest, user) == OLD


def inventory(users, guests):
    lines = []
    for host, user in users.items():
        guest = guests[host]
        environment = [f"PYTHONPATH={input_path('src')}", f"PYTHONPYCACHEPREFIX=/tmp/pycache-{user}"]
        options = [] if user == "root" else ["--engine", "user"]
        if user != "root":
            environment.append(f"XDG_RUNTIME_DIR=/run/user/{guest.uid(user)}")
        tool = ["env", *environment, "python3", "-m", "cgroup_preflight"]
        given = {
            "rollout_command": tool, "snapshot_command": tool, "rollout_options": options,
            "guest_user": user, "rollout_config_on_host": f"/tmp/rollout-{host}.toml", "ansible_remote_tmp": f"/tmp/ansible-{user}",
        }  # fmt: skip
        lines.append(
            " ".join(
                [
                    host,
                    *(
                        f"{name}='{json.dumps(value) if isinstance(value, list) else value}'"
                        for name, value in given.items()
                    ),
                ]
            )
        )
    return "\n".join([*lines, ""])


@contextlib.contextmanager
def bridged(folder, guests, cut=""):
    """The other end of the connections of Ansible."""
    bridge = Bridge(str(folder / "socket"), guests, cut)
    threading.Thread(target=bridge.serve_forever, daemon=True).start()
    try:
        yield bridge
    finally:
        bridge.shutdown()
        bridge.server_close()


@contextlib.contextmanager
def booted(count):
    """Some guests."""
    if shutil.which("linux.uml") is None:
        pytest.skip("needs linux.uml: a guest cannot be started here")
    spec = GuestSpec(mode=BootMode.FULL, inputs={"src": ROOT / "src"})
    with contextlib.ExitStack() as stack:
        root = image.ensure(recipe_for(spec.distro), image.cache_folder(os.environ))
        yield [stack.enter_context(Guest(spec, root)) for _ in range(count)]


@pytest.mark.measured
@pytest.mark.timeout(1200)
def test_several_guests_of_which_one_fails(tmp_path):
    """The batch after the one with the failed host is not touched; and the recordings of the same hosts before."""
    users = dict.fromkeys(("good", "greedy", "late"), "root")
    with booted(len(users)) as made:
        guests = dict(zip(users, made, strict=True))
        for host, guest in guests.items():
            start(guest, "root", GREEDY if host == "greedy" else CALM)
        with bridged(tmp_path, guests) as bridge:
            watched = threading.Thread(target=make_greedy, args=(bridge, "greedy", "root"), daemon=True)
            watched.start()
            begun = time.monotonic()
            status, text, report, page = play(tmp_path, inventory(users, guests), [2, 1])
            found = findings(report)
            print(f"\n{time.monotonic() - begun:.0f} s for three guests; {json.dumps(found, indent=1)}\n{page[:1500]}")
            assert status != 0
            assert (report["verdict"], set(found)) == ("fail", {"CGP805", "CGP608"}), text
            assert "**3 hosts:** ❌ 1 fail, ⚠️ 1 unverified, ✅ 1 pass" in page, text
            assert "(on 1 of 3 hosts: greedy)" in found["CGP805"]
            assert {host: bridge.read(host, "root") for host in users} == {"good": NEW, "greedy": OLD, "late": OLD}
            with bridge.turns["late"]:
                assert guests["late"].run(["ls", "/var/lib/cgroup-preflight"]).returncode != 0, "untouched"
            ends = {host: last_record(tmp_path, host) for host in ("good", "greedy")}
            assert ends == {"good": "promoted", "greedy": "restored"}


@pytest.mark.measured
@pytest.mark.timeout(600)
def test_recordings_of_hosts_are_planned_for_elsewhere(tmp_path):
    """`snapshot.yml`, then `rollout plan --snapshot`: a host that cannot be reached keeps its recording."""
    users = dict.fromkeys(("one", "two"), "root")
    with booted(1) as (guest,):
        guests = dict.fromkeys(users, guest)
        start(guest, "root", CALM)
        hosts, given = inventory(users, guests), {"snapshot_folder": f"{tmp_path}/deploy/hosts"}
        with bridged(tmp_path, guests) as bridge:
            done = playbook(tmp_path, hosts, "snapshot.yml", given)
            assert done.returncode == 0, done.stdout + done.stderr
            times = {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "deploy/hosts").iterdir()}
            assert set(times) == {"one", "two"}
            del bridge.guests["two"]
            done = playbook(tmp_path, hosts, "snapshot.yml", given)
            assert done.returncode != 0, "said, where a host cannot be reached"
            assert "two" in done.stdout
            assert (tmp_path / "deploy/hosts/two.json").stat().st_mtime_ns == times["two"]
    argv = [*TOOL, "rollout", "plan", "--snapshot", "deploy/hosts", "--format", "json"]
    planned = run(argv, tmp_path, {"PATH": "/usr/bin:/bin"}, timeout=120)
    report = json.loads(planned.stdout)
    print(json.dumps([item["message"] for item in report["findings"]], indent=1))
    assert planned.returncode in (0, 3), planned
    said = [item["message"] for item in report["findings"] if "MemoryMax" in item["message"]]
    assert said, report
    assert "256M" in said[0]
    assert "192M" in said[0]


@pytest.mark.measured
@pytest.mark.timeout(1200)
def test_real_managers_in_a_guest(tmp_path):
    users = {"system": "root", "greedy": "tester", "cut": "runner", "late": "root"}
    with booted(1) as (guest,):
        start(guest, "root", CALM)
        start(guest, "tester", GREEDY)
        start(guest, "runner", CALM)
        guests = dict.fromkeys(users, guest)
        with bridged(tmp_path, guests, "cut") as bridge:
            begun = time.monotonic()
            threading.Thread(target=make_greedy, args=(bridge, "greedy", "tester"), daemon=True).start()
            status, text, report, page = play(tmp_path, inventory(users, guests), [1, 2, 1])
            seconds, found = time.monotonic() - begun, findings(report)
            print(f"\n{seconds:.0f} s for four hosts; {json.dumps(found, indent=1)}\n{page[:1500]}")
            assert status != 0
            assert report["verdict"] == "fail", text
            assert "**4 hosts:** ❌ 1 fail, ⚠️ 2 unverified, ✅ 1 pass" in page, text
            assert "(on 1 of 4 hosts: greedy)" in found["CGP805"]
            assert bridge.read("greedy", "tester") == OLD, "taken back, and read back"
            assert bridge.read("system", "root") == NEW
            # Nobody is there any more to restore the values of the host whose connection broke but its own manager.
            until = time.monotonic() + 90
            while time.monotonic() < until and bridge.read("cut", "runner") != OLD:
                time.sleep(1)
            assert bridge.read("cut", "runner") == OLD
            assert bridge.broken


def findings(report):
    """What is not good, by code."""
    return {item["code"]: item["message"] for item in report["findings"] if item["status"] in ("fail", "unverified")}


def last_record(folder, host):
    """How the rollout of a host ended."""
    return json.loads((folder / f"reports/journals/{host}.json").read_text())["records"][-1]["kind"]


def make_greedy(bridge, host, user):
    """The service of a host takes memory when its first step is in force."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with bridge.turns[host]:
            if is_changing(bridge.guests[host], user):
                bridge.guests[host].run(["touch", "/tmp/greedy"])
                return
        time.sleep(0.5)


def play(folder, hosts, serial):
    given = {
        "rollout_local_command": TOOL, "rollout_folder": f"{folder}/reports", "rollout_become": False,
        "rollout_config": f"{folder}/cgroup-preflight.toml", "rollout_serial": serial,
    }  # fmt: skip
    done = playbook(folder, hosts, "rollout.yml", given)
    text = done.stdout + done.stderr
    assert (folder / "reports/report.json").exists(), text
    report = json.loads((folder / "reports/report.json").read_text())
    return done.returncode, text, report, (folder / "reports/report.md").read_text()


def playbook(folder, hosts, name, given):
    """One call of Ansible with these variables."""
    (folder / "inventory").write_text(f"{hosts}[all:vars]\nansible_connection=guest\nguest_socket={folder}/socket\n"
                                      "ansible_python_interpreter=/usr/bin/python3\n")  # fmt: skip
    (folder / "cgroup-preflight.toml").write_text(CONFIG)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "connections"), "ANSIBLE_PIPELINING": "1",
    }  # fmt: skip
    program = str(Path(sys.executable).parent / "ansible-playbook")
    argv = [program, "-i", "inventory", "-e", json.dumps(given), str(ROOT / f"ci/ansible/{name}")]
    return run(argv, folder, environment, timeout=900)
