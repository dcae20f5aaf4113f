"""The guard of a run on another machine: its script in a real shell, with a systemctl that is played."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.guard import LONG_SECONDS, SCRIPT, SIGN_SECONDS, Guard, SigningClock, SigningProcesses
from cgroup_preflight.engines.run_scope import Guarded, start_time
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.local import LocalFiles
from tests.unit.engines.machine import Machine

pytestmark = [pytest.mark.timeout(60), pytest.mark.starts_processes]
SCOPE = "cgpf000000000001"


class Host:
    """A folder of unit files, a private one, and a systemctl that notes its calls and lists one service until it is killed."""

    def __init__(self, top: Path) -> None:
        self.units, self.private, self.calls = top / "units", top / f"{SCOPE}-x", top / "calls"
        for folder in (self.units, self.private, top / "bin"):
            folder.mkdir()
        for name in (f"{SCOPE}.slice", f"{SCOPE}-api.slice", f"{SCOPE}_wait.slice", "cgpf000000000002.slice", "other"):
            (self.units / name).write_text("[Unit]\n")
        (self.units / f"{SCOPE}-web.service.d").mkdir()
        systemctl = top / "bin" / "systemctl"
        systemctl.write_text(
            f'#!/bin/sh\necho "$*" >> {self.calls}\n'
            f'case "$*" in *list-units*) [ -e {top}/killed ] || echo "{SCOPE}-web.service";; *kill*) : > {top}/killed;; esac\n'
        )
        systemctl.chmod(0o755)
        self.path = f"{top}/bin:{os.environ['PATH']}"
        self.sign(0)

    def sign(self, number: int, seconds: int = 60) -> None:
        path, text = self.private / "alive", f"{number:08d} {seconds:06d}\n"
        if path.exists():
            # In one call, as the tool does: the guard never sees half of it.
            LocalFiles().write_attribute(str(path), text)
        else:
            path.write_text(text)

    def begin(self, pid: int, *, start: str = "", life: int = 100, manager: str = "") -> "subprocess.Popen[bytes]":
        began = start or start_time(LocalFiles(), pid)
        words = [SCOPE, str(self.private), str(self.units), str(pid), began, str(life), *([manager] if manager else [])]
        # A look each tenth of a second, which counts as three.
        script = SCRIPT.replace("sleep 3", "sleep 0.1")
        assert script != SCRIPT
        return subprocess.Popen(["/bin/sh", "-c", script, "guard", *words], env={"PATH": self.path})

    def has_ended(self) -> bool:
        """Whether the run was ended: nothing of it is left, and everything of others is."""
        left = sorted(os.listdir(self.units))
        assert {"cgpf000000000002.slice", "other"} <= set(left)
        return left == ["cgpf000000000002.slice", "other"] and not self.private.exists()


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_it_waits_while_the_tool_works_and_ends_the_run_when_its_process_has_ended(host):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as tool:
        guard = host.begin(tool.pid)
        for number in range(1, 6):
            host.sign(number)
            time.sleep(0.1)
        assert guard.poll() is None
        assert not host.calls.exists()
        tool.communicate(b"\n")
        assert guard.wait(20) == 0
    assert host.has_ended()
    calls = host.calls.read_text()
    assert f"stop --no-block {SCOPE}-*.service" in calls
    assert f"kill --kill-who=all --signal=KILL {SCOPE}-*.service" in calls
    assert f"stop {SCOPE}.slice {SCOPE}_*.slice" in calls


@pytest.mark.parametrize("sign", ["00000001 000006\n", "garbage\n", "1 x;y\n", "\n", "1\n", None])
def test_it_ends_the_run_after_a_silence_and_where_the_sign_is_none(host, sign):
    """The file is in a folder that the programs under test may write to."""
    if sign is None:
        (host.private / "alive").unlink()
    else:
        (host.private / "alive").write_text(sign)
    guard = host.begin(os.getpid(), manager="--user")
    assert guard.wait(20) == 0
    assert host.has_ended()
    assert all(line.startswith("--user ") for line in host.calls.read_text().splitlines())


def test_a_tool_that_was_too_slow_learns_it_from_its_next_sign(host, tmp_path):
    """While the guard stops the services already: what the tool sees of them from then on proves nothing."""
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(f"#!/bin/sh\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.05; done\n")
    guard = host.begin(os.getpid(), start="1")
    until = time.monotonic() + 20
    while (host.private / "alive").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert guard.poll() is None
    assert host.private.exists()
    with pytest.raises(HostError):
        LocalFiles().write_attribute(str(host.private / "alive"), "00000001 000060\n")
    (tmp_path / "go").touch()
    assert guard.wait(20) == 0


def test_it_does_not_live_for_ever(host):
    guard = host.begin(os.getpid(), life=6)
    assert guard.wait(20) == 0
    assert host.has_ended()


def test_a_number_that_another_process_has_now_is_not_the_tool(host):
    guard = host.begin(os.getpid(), start="1")
    assert guard.wait(20) == 0
    assert host.has_ended()


class Programs:
    """Notes what is run; `status` is that of all."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.argvs, self.started = status, list[tuple[str, ...]](), 0

    def run(self, argv, *, timeout=20.0, stdin=b""):
        self.argvs.append(argv)
        return Known(value=Completed(argv=argv, returncode=self.status, stdout="", stderr="no\nmore"), source="x")


def guard_of(folder: Path, programs: Programs, choice: EngineChoice) -> Guard:
    door = replace(local_door({}), programs=programs, host="far")  # type: ignore[arg-type]
    return Guard(choice, door, Guarded(scope=SCOPE, folder=str(folder), unit_folder="/run/systemd/system"), 252)


def test_it_is_a_unit_whose_script_no_program_under_test_can_change(tmp_path):
    programs = Programs()
    guard = guard_of(tmp_path, programs, EngineChoice(name="systemd", sudo=True))
    guard.begin()
    guard.end()
    begin, end = programs.argvs
    assert begin[:3] == ("sudo", "-n", "systemd-run")
    # Before 254 systemd-run replaces variables in arguments.
    assert SCRIPT.replace("$", "$$") in begin
    assert begin[-6:-4] == (SCOPE, str(tmp_path))
    assert begin[-3] == str(os.getpid())
    assert end == ("sudo", "-n", "systemctl", "stop", "--", f"cgroup-preflight-guard-{SCOPE}.service")
    assert (tmp_path / "alive").read_text() == f"00000000 {LONG_SECONDS:06d}\n"


def test_of_a_user_it_is_one_of_the_users_manager(tmp_path):
    programs = Programs()
    guard_of(tmp_path, programs, EngineChoice(name="user")).begin()
    (begin,) = programs.argvs
    assert begin[:2] == ("systemd-run", "--user")
    assert begin[-1] == "--user"
    assert "--slice=app.slice" in begin


def test_one_that_does_not_start_is_an_error_that_names_the_host(tmp_path):
    guard = guard_of(tmp_path, Programs(1), EngineChoice(name="systemd"))
    with pytest.raises(HostError, match=r"far: the guard .* does not start: no$"):
        guard.begin()


def test_whoever_waits_gives_signs_and_not_more_often_than_needed(tmp_path):
    machine = Machine()
    (tmp_path / "alive").write_text("00000000 000150\n")
    door = replace(machine.door(), programs=Programs())  # type: ignore[arg-type]
    guard = Guard(EngineChoice(name="systemd"), door, Guarded(scope=SCOPE, folder=str(tmp_path), unit_folder="/x"), 252)
    clock, processes = SigningClock(guard, machine), SigningProcesses(guard, machine)
    signs = set()
    for _ in range(10):
        clock.sleep(SIGN_SECONDS / 10)
        signs.add((tmp_path / "alive").read_text())
    assert signs == {"00000001 000150\n"}
    machine.sleep(SIGN_SECONDS)
    processes.wait([], 0.1)
    assert (tmp_path / "alive").read_text() == "00000002 000150\n"
