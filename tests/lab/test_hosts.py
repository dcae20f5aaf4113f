"""`--host` against a real sshd: users, sudo, a login that prints, hosts without SFTP or without a shell, ten at once, kills."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.engines import bus
from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from cgroup_preflight.host.remote.bridge import BridgedManager
from cgroup_preflight.host.remote.ssh import SshLines
from tests.lab.sshd import PACKAGES, carried, set_up
from tests.unit.stated import round_trips

_SOURCE = Path(__file__).parents[2] / "src"
#: Users whose login is odd, by what sshd or their shell does; `Match` is of sshd_config(5).
_ODD = {
    "noisy": "Banner /etc/banner",
    "sftponly": "ForceCommand internal-sftp",
    "forced": "ForceCommand echo Only backups here.",
    "nologin": "",
}
_LEFT = r"[s]ftp-server|[t]imeout -k 2|^sh$|[c]gpf-"
#: How long a command at the other end may go on when this end is killed, seconds: that of its own limit.
_LIMIT = 25.0
_KILLS = int(os.environ.get("CGPF_LAB_KILLS", "30"))


#: systemd 252; 257 and the newest are not part of the ordinary run.
_SYSTEMS = ("debian-12", *(pytest.param(name, marks=pytest.mark.newest) for name in ("debian-13", "debian-14")))


@pytest.fixture(scope="module", params=_SYSTEMS)
def ssh(
    request: pytest.FixtureRequest, lab_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The configuration for ssh while a guest with sshd is reached by it."""
    spec = GuestSpec(mode=BootMode.FULL, distro=request.param, inputs=lab_inputs)
    root = image.ensure(recipe_for(spec.distro, packages=PACKAGES), image.cache_folder(os.environ))
    with Guest(spec, root) as guest:
        guest.start_user_manager("tester")
        config = set_up(guest, tmp_path_factory.mktemp("ssh"))
        _make_odd(guest, config)
        with carried(guest, config.parent):
            yield config


def _make_odd(guest: Guest, config: Path) -> None:
    key = (config.parent / "key.pub").read_text().strip()
    guest.write_file("/etc/banner", b"\n*** Authorised use only ***\n\n")
    match = "".join(f"Match User {user}\n {rule}\n" for user, rule in _ODD.items() if rule)
    guest.write_file("/etc/ssh/sshd_config.d/odd.conf", match.encode())
    for user in _ODD:
        shell = "/usr/sbin/nologin" if user == "nologin" else "/bin/bash"
        home = f"/home/{user}"
        script = (
            f"useradd -m -s {shell} -p '*' {user}; mkdir -m 700 {home}/.ssh; echo '{key}' > {home}/.ssh/authorized_keys; "
            f"chown -R {user} {home}/.ssh"
        )
        assert guest.run(["sh", "-c", script]).returncode == 0
    noise = "echo Welcome; echo 'You have new mail.' >&2; printf 'no end of line'"
    guest.write_file("/home/noisy/.bashrc", noise.encode())
    assert guest.run(["systemctl", "restart", "ssh.service"], timeout=120).returncode == 0
    text = config.read_text()
    first, rest = text.split("Host *\n")
    port = (config.parent / "port").read_text()
    names = {**{user: user for user in _ODD}, **{f"ten{number}": "root" for number in range(10)}}
    more = "".join(f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User {user}\n" for name, user in names.items())
    config.write_text(f"{first}{more}Host *\n{rest}")


class Caller:
    """Calls the tool on this machine."""

    def __init__(self, config: Path, folder: Path, sockets: Path) -> None:
        self.config, self.folder, self.sockets = config, folder, sockets

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        """Starts it, with connections of its own."""
        environment = {**os.environ, "PYTHONPATH": str(_SOURCE), "XDG_RUNTIME_DIR": str(self.sockets)}
        argv = [sys.executable, "-m", "cgroup_preflight", *words, "--ssh-config", str(self.config)]
        return subprocess.Popen(
            argv, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def call(self, *words: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        with self.begin(*words) as process:
            out, errors = process.communicate(timeout=300)
        return process.returncode, out, errors

    def report(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit status and report."""
        status, out, errors = self.call(*words, "--format", "json")
        try:
            return status, json.loads(out)
        except ValueError:
            pytest.fail(f"no report: {status} {out!r} {errors}")

    def ssh(self, script: str, host: str = "root-host") -> str:
        """What a script prints on the host, over a connection of its own."""
        argv = ["ssh", "-F", str(self.config), "-o", "BatchMode=yes", host, script]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False).stdout


@pytest.fixture
def caller(ssh: Path, tmp_path: Path) -> Iterator[Caller]:
    # A folder with a short path: Unix sockets have names of 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="cgpf") as sockets:
        yield Caller(ssh, tmp_path, Path(sockets))
        _hang_up(Path(sockets))


def _hang_up(sockets: Path) -> None:
    """Ends the connections that wait for the next command."""
    for path in sockets.rglob("*"):
        if path.is_socket():
            subprocess.run(
                ["ssh", "-O", "exit", "-o", f"ControlPath={path}", "x"], capture_output=True, timeout=20, check=False
            )


def _own(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["subject"]: item for item in report["findings"] if item["code"] == "CGP129"}


def _status(report: dict[str, Any], host: str, code: str) -> str:
    found = [item for item in report["findings"] if item["code"] == code and item["evidence"].get("host") == host]
    return str(found[0]["status"]) if found else "none"


def test_users_are_judged_each_for_what_they_may(caller: Caller, say: Callable[..., None]) -> None:
    began = time.monotonic()
    status, report = caller.report(
        "check", "--host", "root-host", "--host", "sudo-host", "--host", "user-host", "--host", "noisy"
    )
    own = _own(report)
    for name, item in own.items():
        say(name, item["status"], item["message"], item["evidence"]["round_trips"])
        assert item["evidence"]["round_trips"] <= round_trips()["`check`"][0]
    say("four users", round(time.monotonic() - began, 1), "s")
    assert set(own) == {"root-host", "sudo-host", "user-host", "noisy"}
    assert own["root-host"]["status"] == own["sudo-host"]["status"] == "pass", report["findings"]
    for name in own:
        # Where nobody else does it, the login itself starts the user's manager (pam_systemd(8)).
        assert _status(report, name, "CGP105") == "pass"
    assert status == 0


def test_hosts_without_sftp_or_without_a_shell(caller: Caller, say: Callable[..., None]) -> None:
    status, report = caller.report(
        "check", "--host", "sftponly", "--host", "forced", "--host", "nologin", "--host", "nosuchname.invalid"
    )
    own = _own(report)
    for name, item in own.items():
        say(name, item["status"], item["message"])
    assert status == 3
    assert {item["status"] for item in own.values()} == {"unverified"}
    assert "Only backups here." in own["forced"]["message"]
    assert "not available" in own["nologin"]["message"]
    server = "/usr/lib/openssh/sftp-server"
    caller.ssh(f"mv {server} {server}.away")
    try:
        status, report = caller.report("check", "--host", "root-host")
    finally:
        caller.ssh(f"mv {server}.away {server}")
    item = _own(report)["root-host"]
    say("without sftp-server", item["message"], item["evidence"])
    assert (status, item["status"]) == (0, "pass")


def test_the_other_commands_read_the_same_host(caller: Caller, say: Callable[..., None]) -> None:
    caller.ssh("systemd-run -q --unit=talk sh -c 'echo hello from talk; exec sleep 300'")
    status, out, errors = caller.call("logs", "--host", "root-host", "talk.service")
    assert status == 0, errors
    assert re.search(r"root-host talk\.service +\| hello from talk", out)
    status, out, errors = caller.call("exporter", "--once", "--host", "root-host")
    assert status == 0, errors
    assert 'host="root-host",slice="system.slice"' in out
    assert "talk.service" in out
    status, report = caller.report("diagnose", "--host", "root-host", "--seconds", "8")
    say("diagnose", status, [item["message"] for item in report["findings"]][:3])
    item = _own(report)["root-host"]
    assert "it was not judged" not in item["message"]
    status, _, errors = caller.call("snapshot", "--slices", "--host", "root-host", "--host", "sudo-host", "-o", "all")
    assert status == 0, errors
    assert sorted(os.listdir(caller.folder / "all")) == ["root-host.json", "sudo-host.json"]
    status, report = caller.report("check", "--units", "--host", "root-host")
    assert _status(report, "root-host", "CGP128") == "pass", report["findings"]
    caller.ssh("systemctl stop talk.service")


def test_the_bridge_speaks_with_the_manager_and_a_port_is_reached(ssh: Path, caller: Caller) -> None:
    lines = SshLines("root-host", str(caller.sockets), config=str(ssh))
    with closing(bus.Connection(BridgedManager(lines.bridge).connect)) as line:
        version = caller.ssh("systemctl --version").split()[1]
        assert line.of_manager(["Version"])["Version"].startswith(version)
        shown = line.show(["ssh.service"], ["ActiveState", "MainPID"])
        assert shown["ssh.service"]["ActiveState"] == "active"
        assert int(shown["ssh.service"]["MainPID"]) > 1
    dialled = lines.dial("127.0.0.1", int((ssh.parent / "port").read_text()))
    dialled.allow(100)
    assert dialled.receive(time.monotonic() + 60).startswith(b"SSH-2.0-")
    dialled.close()


def test_ten_hosts_at_once_and_three_that_give_nothing(
    caller: Caller, tmp_path: Path, say: Callable[..., None]
) -> None:
    """Two refuse the connection, and one accepts it and says nothing. Each finding names its own host."""
    names = [f"ten{number}" for number in range(10)]
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = {"silent": silent.getsockname()[1], **dict.fromkeys(("closed1", "closed2"), closed.getsockname()[1])}
        hosts = "".join(f"Host {name}\n HostName 127.0.0.1\n Port {port}\n" for name, port in ports.items())
        more = tmp_path / "more"
        more.write_text(f"{hosts}{caller.config.read_text()}")
        asked = [names[0], *ports, *names[1:]]
        began = time.monotonic()
        status, report = Caller(more, caller.folder, caller.sockets).report(
            "check", *(word for name in asked for word in ("--host", name))
        )
        say("ten hosts, and three that give nothing", round(time.monotonic() - began, 1), "s")
    own = _own(report)
    assert list(own) == asked
    assert {name: item["status"] for name, item in own.items()} == {
        **dict.fromkeys(names, "pass"), **dict.fromkeys(ports, "unverified"),
    }  # fmt: skip
    assert all("Connection refused" in own[name]["message"] for name in ("closed1", "closed2"))
    assert "it was not judged" in own["silent"]["message"]
    assert (status, report["verdict"]) == (3, "unverified")
    found: dict[str, list[str]] = {}
    for item in report["findings"]:
        if item["code"] != "CGP129":
            host, _, _ = item["subject"].partition(": ")
            assert host == item["evidence"]["host"]
            found.setdefault(host, []).append(item["code"])
    assert list(found) == names
    assert all(codes == found[names[0]] for codes in found.values())


def _kill_at(caller: Caller, what: str, moment: float) -> tuple[float, int, int, float]:
    """Kills the tool, or ssh alone, so many seconds after it has begun to connect, or when something is on the host.

    The moment, how many processes were there, the exit status, and seconds until none was.
    """
    for _ in range(20):
        process = caller.begin("check", "--units", "--host", "root-host")
        while not _ssh_of(caller, process.pid) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moment)
        # It stands still while somebody looks.
        process.send_signal(signal.SIGSTOP)
        there = len(caller.ssh(f"pgrep -f '{_LEFT}'").split())
        if there and process.poll() is None:
            break
        moment = max(moment - 0.1, 0.0) if process.poll() is not None else moment + 0.05
        process.kill()
        process.communicate(timeout=60)
    else:
        pytest.fail("nothing was on the host at any moment")
    for pid in _ssh_of(caller, process.pid) if what == "ssh" else [process.pid]:
        os.kill(pid, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=120)
    began = time.monotonic()
    while left := caller.ssh(f"pgrep -a -f '{_LEFT}'").strip():
        assert time.monotonic() - began < _LIMIT, left
        time.sleep(0.2)
    return round(moment, 2), there, process.returncode, round(time.monotonic() - began, 1)


@pytest.mark.measured
@pytest.mark.parametrize("what", ["tool", "ssh"])
def test_nothing_is_left_on_the_host_when_this_end_is_killed(
    caller: Caller, what: str, say: Callable[..., None]
) -> None:
    """At moments of a whole `check`."""
    began = time.monotonic()
    caller.report("check", "--units", "--host", "root-host")
    span = time.monotonic() - began
    taken = [_kill_at(caller, what, number * span / _KILLS) for number in range(_KILLS)]
    say(what, "seconds after the start, processes there, exit status, seconds until all were gone:", *taken)
    assert caller.ssh("ls -d /tmp/cgpf-* 2>/dev/null") == ""
    assert {status for _, _, status, _ in taken} <= ({-signal.SIGKILL} if what == "tool" else {0, 3})
    assert what == "tool" or taken[0][2] == 3


def _ssh_of(caller: Caller, tool: int) -> list[int]:
    """The processes of ssh to the hosts of this caller: those of the tool, and the connection that they share."""
    found = _children(tool)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(caller.sockets).encode() in path.read_bytes() and int(path.parent.name) != tool:
                found.append(int(path.parent.name))
    return list(dict.fromkeys(found))


def _children(pid: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[1] == str(pid):
            found.append(int(name))
    return found
