"""`rollout --host`: rollouts of a guest from this machine, over a real ssh. One in the ordinary run is in `test_hosts_run`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from tests.lab.rollouts import BOTH, BUSY, NEW, OLD, QUOTA, Host, codes, reason, said, toml
from tests.lab.sshd import PACKAGES, USERS, carried, set_up

pytestmark = pytest.mark.measured
_SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def ssh(lab_inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Guest, Path]]:
    """A guest with sshd, and the configuration for ssh."""
    spec = GuestSpec(mode=BootMode.FULL, inputs=lab_inputs)
    root = image.ensure(recipe_for(spec.distro, packages=PACKAGES), image.cache_folder(os.environ))
    with Guest(spec, root) as guest:
        guest.start_user_manager("tester")
        yield guest, set_up(guest, tmp_path_factory.mktemp("ssh"))


class Caller:
    """Calls the tool on this machine, and looks at hosts over the same ssh."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.config, self.folder = config, folder

    def argv(self, action: str, *hosts: str) -> list[str]:
        """One call."""
        words = [word for host in hosts for word in ("--host", host)]
        more = ["--yes"] if action in ("apply", "abort") else []
        state = [] if action == "plan" else ["--state", str(self.folder / "state")]
        report = [] if action == "journal" else ["--format", "json"]
        return [sys.executable, "-m", "cgroup_preflight", "rollout", action, *words, "--ssh-config", str(self.config),
                *more, *state, *report]  # fmt: skip

    def begin(self, action: str, *hosts: str) -> "subprocess.Popen[str]":
        """Starts one."""
        environment = {**os.environ, "PYTHONPATH": str(_SOURCE)}
        return subprocess.Popen(self.argv(action, *hosts), cwd=self.folder, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    def call(self, action: str, *hosts: str) -> tuple[int, dict[str, Any]]:
        """The exit status and the report."""
        with self.begin(action, *hosts) as process:
            out, errors = process.communicate(timeout=300)
        try:
            return process.returncode, json.loads(out)
        except ValueError:
            pytest.fail(f"no report: {process.returncode} {out!r} {errors}")

    def ssh(self, host: str, script: str) -> str:
        """What a script prints on a host."""
        done = subprocess.run(["ssh", "-F", str(self.config), "-o", "BatchMode=yes", host, script], capture_output=True,
                              text=True, timeout=60, check=False)  # fmt: skip
        return done.stdout

    def records(self, host: str) -> list[dict[str, Any]]:
        """The newest journal."""
        paths = sorted((self.folder / "state/hosts" / host).glob("*.journal"))
        text = paths[-1].read_text() if paths else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, host: str, kind: str, stage: int, process: "subprocess.Popen[str]") -> None:
        """Until the journal has a record."""
        until = time.monotonic() + 120
        while not any(item["kind"] == kind and item.get("stage") == stage for item in self.records(host)):
            assert time.monotonic() < until, self.records(host)
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)


@pytest.fixture
def caller(ssh: tuple[Guest, Path], tmp_path: Path) -> Caller:
    return Caller(ssh[1], tmp_path)


def _managers(guest: Guest) -> dict[str, Host]:
    made = {name: Host(guest=guest, user=None if user == "root" else user) for name, user in USERS.items()}
    return {**made, "user-host": replace(made["user-host"], manager="tester")}


def _quota(caller: Caller, host: str, cgroup: str) -> str:
    return caller.ssh(host, f"cat {cgroup}/cpu.max").strip()


@pytest.mark.parametrize("name", list(USERS))
def test_a_host_is_planned_changed_and_read_back(
    ssh: tuple[Guest, Path], caller: Caller, name: str, say: Callable[..., None]
) -> None:
    guest, config = ssh
    host = _managers(guest)[name]
    host.prepare(toml(BOTH))
    # While ssh is used, nothing else can be asked of the guest.
    cgroup = host.cgroup
    (caller.folder / "cgroup-preflight.toml").write_text(toml(BOTH))
    with carried(guest, config.parent):
        began = time.monotonic()
        status, report = caller.call("plan", name)
        say("plan", name, status, round(time.monotonic() - began, 1), "s", said(report)[0])
        assert status == 0, said(report)
        assert any("CPUQuota: 200% -> 175% -> 150%" in item["message"] for item in report["findings"])
        assert _quota(caller, name, cgroup) == OLD["cpu.max"]
        began = time.monotonic()
        status, report = caller.call("apply", name)
        say("apply", name, status, round(time.monotonic() - began, 1), "s", said(report)[0])
        assert status == 0, said(report)
        assert caller.records(name)[-1]["kind"] == "promoted"
        assert _quota(caller, name, cgroup) == NEW["cpu.max"]
        status, report = caller.call("status", name)
        assert (status, codes(report, "warn", "fail")) == (0, []), said(report)
    assert host.is_new()
    host.clear()


@pytest.mark.parametrize("what", ["tool", "connection"])
def test_what_dies_here_is_taken_back_there(
    ssh: tuple[Guest, Path], caller: Caller, what: str, say: Callable[..., None]
) -> None:
    guest, config = ssh
    host = _managers(guest)["sudo-host"]
    text = toml(QUOTA, "10s", restore="15s")
    host.prepare(text)
    (caller.folder / "cgroup-preflight.toml").write_text(text)
    with carried(guest, config.parent):
        process = caller.begin("apply", "sudo-host")
        caller.wait_for("sudo-host", "verified", 0, process)
        assert _quota(caller, "sudo-host", host.cgroup) == "175000 100000"
        if what == "tool":
            process.kill()
        else:
            # All lines of the tool to this host.
            for pid in _ssh_of(config):
                os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        out, errors = process.communicate(timeout=120)
        say(what, process.returncode, out[-300:] if what == "tool" else [item for item in said(json.loads(out)) if "pass" not in item],
            errors[-300:])  # fmt: skip
        while _quota(caller, "sudo-host", host.cgroup) != OLD["cpu.max"]:
            assert time.monotonic() - began < 60
            time.sleep(0.2)
        say(what, "-> the old value in the kernel after", round(time.monotonic() - began, 1), "s")
        while caller.call("status", "sudo-host")[0] != 1 and "timer" not in json.dumps(
            caller.call("status", "sudo-host")[1]
        ):
            assert time.monotonic() - began < 60
        status, report = caller.call("resume", "sudo-host")
        say("resume", status, said(report)[:2], caller.records("sudo-host")[-1]["kind"])
        assert caller.records("sudo-host")[-1]["kind"] == "restored", said(report)
    assert host.is_old()
    host.clear()


def _ssh_of(config: Path) -> list[int]:
    """The processes of ssh with this configuration."""
    found = []
    for item in Path("/proc").iterdir():
        if item.name.isdigit():
            try:
                line = (item / "cmdline").read_bytes()
            except OSError:
                continue
            if line.split(b"\0")[0].endswith(b"ssh") and str(config).encode() in line:
                found.append(int(item.name))
    return found


def test_several_hosts_at_once_have_one_report(
    ssh: tuple[Guest, Path], caller: Caller, say: Callable[..., None]
) -> None:
    """One changes, one is busy and is taken back, one cannot be reached."""
    guest, config = ssh
    managers = _managers(guest)
    text = toml('CPUQuota = "10%"\n')
    (caller.folder / "cgroup-preflight.toml").write_text(text)
    managers["root-host"].prepare(text, BUSY)
    managers["user-host"].prepare(text)
    with carried(guest, config.parent):
        status, report = caller.call("apply", "root-host", "user-host", "gone-host")
        say("three at once:", status, said(report))
        assert status == 1
        verdicts = {item["subject"]: item["status"] for item in report["findings"] if item["code"] == "CGP129"}
        assert verdicts == {"root-host": "fail", "user-host": "pass", "gone-host": "unverified"}
    assert managers["root-host"].is_old()
    assert managers["user-host"].is_new({"cpu.max": "10000 100000"})
    for host in ("root-host", "user-host"):
        managers[host].clear()


def test_two_machines_cannot_change_one_host_at_once(ssh: tuple[Guest, Path], caller: Caller, tmp_path: Path) -> None:
    guest, config = ssh
    host = _managers(guest)["root-host"]
    text = toml(QUOTA, "15s")
    host.prepare(text)
    other = Caller(config, tmp_path / "other")
    other.folder.mkdir()
    for folder in (caller.folder, other.folder):
        (folder / "cgroup-preflight.toml").write_text(text)
    with carried(guest, config.parent):
        process = caller.begin("apply", "root-host")
        caller.wait_for("root-host", "verified", 0, process)
        status, report = other.call("apply", "root-host")
        assert (status, "CGP807" in codes(report, "fail")) == (1, True), said(report)
        assert _quota(caller, "root-host", host.cgroup) == "175000 100000"
        assert caller.call("abort", "root-host")[0] == 0
        process.communicate(timeout=60)
        assert process.returncode == 1
    assert host.is_old()
    # On a busy machine the judge can be faster than the abort.
    assert caller.records("root-host")[-1]["kind"] == "restored"
    assert reason(host) == "", "no journal is on the host"
    host.clear()
