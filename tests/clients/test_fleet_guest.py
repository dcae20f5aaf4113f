"""The Ansible role on real service managers: that of a guest's system, and those of two of its users, all at once.

One is changed, one is taken back because a service is killed for its memory, and the connection to one breaks in the middle
of its rollout, together with all that it started. `nox -s clients -- -k guest`
"""

import base64
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


class Bridge(socketserver.ThreadingUnixStreamServer):
    """Runs what the connections ask in the guest, several commands at once; `cut` is the host whose connection breaks."""

    daemon_threads = True

    def __init__(self, path, guest, cut):
        super().__init__(path, Handler)
        self.guest, self.cut, self.turn = guest, cut, threading.Lock()
        self.broken = False
        self.commands: list[str] = []

    def command(self, asked):
        """The answer, None where the connection broke."""
        data = base64.b64decode(asked["stdin"])
        if asked["host"] == self.cut and self.broken:
            return None
        if asked["op"] == "put":
            with self.turn:
                self.guest.write_file(asked["path"], data, mode=0o644)
                self.guest.run(["chown", asked["user"], asked["path"]])
            return {}
        with self.turn:
            environment = {
                "HOME": "/root" if asked["user"] == "root" else f"/home/{asked['user']}",
                "PATH": "/usr/sbin:/usr/bin",
            }
            job = self.guest.spawn(asked["argv"], user=asked["user"], env=environment, stdin=data)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with self.turn:
                done = self.guest.poll(job)
                if done is None and asked["host"] == self.cut and self.is_changing(asked["user"]):
                    self.broken = True
                    self.guest.signal(job, signal.SIGKILL, group=True)
                    self.guest.run(["pkill", "-KILL", "-u", asked["user"], "-f", "rollout apply"])
                    return None
            if done is not None:
                return {
                    "status": done.returncode, "out": base64.b64encode(done.stdout).decode(),
                    "err": base64.b64encode(done.stderr).decode(),
                }  # fmt: skip
            time.sleep(0.3)
        raise TimeoutError(asked["argv"])

    def is_changing(self, user):
        """Whether the first step of a rollout is in force."""
        return read(self.guest, user)[0] != OLD[0]


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


def inventory(guest, users):
    lines = []
    for host, user in users.items():
        environment = [f"PYTHONPATH={input_path('src')}", f"PYTHONPYCACHEPREFIX=/tmp/pycache-{user}"]
        options = [] if user == "root" else ["--engine", "user"]
        if user != "root":
            environment.append(f"XDG_RUNTIME_DIR=/run/user/{guest.uid(user)}")
        given = {
            "rollout_command": ["env", *environment, "python3", "-m", "cgroup_preflight"], "rollout_options": options,
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


@pytest.mark.measured
@pytest.mark.timeout(1200)
def test_real_managers_in_a_guest(tmp_path):
    if shutil.which("linux.uml") is None:
        pytest.skip("needs linux.uml: a guest cannot be started here")
    users = {"system": "root", "greedy": "tester", "cut": "runner", "late": "root"}
    spec = GuestSpec(mode=BootMode.FULL, inputs={"src": ROOT / "src"})
    with Guest(spec, image.ensure(recipe_for(spec.distro), image.cache_folder(os.environ))) as guest:
        start(guest, "root", CALM)
        start(guest, "tester", GREEDY)
        start(guest, "runner", CALM)
        hosts = inventory(guest, users)
        bridge = Bridge(str(tmp_path / "socket"), guest, "cut")
        threading.Thread(target=bridge.serve_forever, daemon=True).start()
        begun = time.monotonic()
        watcher = threading.Thread(target=make_greedy, args=(bridge,), daemon=True)
        watcher.start()
        status, text, report, page = play(tmp_path, hosts)
        seconds = time.monotonic() - begun
        assert status != 0
        assert report["verdict"] == "fail", text
        found = {
            item["code"]: item["message"] for item in report["findings"] if item["status"] in ("fail", "unverified")
        }
        print(f"\n{seconds:.0f} s for four hosts; {json.dumps(found, indent=1)}\n{page[:1500]}")
        assert "**4 hosts:** ❌ 1 fail, ⚠️ 2 unverified, ✅ 1 pass" in page, text
        assert "(on 1 of 4 hosts: greedy)" in found["CGP805"]
        with bridge.turn:
            assert read(guest, "tester") == OLD, "taken back, and read back"
            assert read(guest, "root") == NEW
        # Nobody is there any more to restore the values of the host whose connection broke but its own manager.
        until = time.monotonic() + 90
        while time.monotonic() < until and read(guest, "runner") != OLD:
            time.sleep(1)
        assert read(guest, "runner") == OLD
        assert bridge.broken
        bridge.shutdown()
        bridge.server_close()


def make_greedy(bridge):
    """The service of `greedy` takes memory when its first step is in force."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with bridge.turn:
            if bridge.is_changing("tester"):
                bridge.guest.run(["touch", "/tmp/greedy"])
                return
        time.sleep(0.5)


def play(folder, hosts):
    (folder / "inventory").write_text(f"{hosts}[all:vars]\nansible_connection=guest\nguest_socket={folder}/socket\n"
                                      "ansible_python_interpreter=/usr/bin/python3\n")  # fmt: skip
    (folder / "cgroup-preflight.toml").write_text(CONFIG)
    given = {
        "rollout_local_command": ["env", f"PYTHONPATH={ROOT}/src", sys.executable, "-m", "cgroup_preflight"],
        "rollout_folder": f"{folder}/reports", "rollout_become": False, "rollout_config": f"{folder}/cgroup-preflight.toml",
        "rollout_serial": [1, 2, 1],
    }  # fmt: skip
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).parent / "connections"), "ANSIBLE_PIPELINING": "1",
    }  # fmt: skip
    playbook = str(Path(sys.executable).parent / "ansible-playbook")
    argv = [playbook, "-i", "inventory", "-e", json.dumps(given), str(ROOT / "ci/ansible/rollout.yml")]
    done = run(argv, folder, environment, timeout=900)
    text = done.stdout + done.stderr
    assert (folder / "reports/report.json").exists(), text
    report = json.loads((folder / "reports/report.json").read_text())
    return done.returncode, text, report, (folder / "reports/report.md").read_text()
