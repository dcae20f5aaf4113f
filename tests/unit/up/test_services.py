"""A whole `up` with real processes, on cgroups that are played: ready, ended, started again, stopped."""

import os
import re
import signal
import sys
from dataclasses import replace

import pytest

from cgroup_preflight.engines import run_scope
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.up.launches import new_logs
from cgroup_preflight.up.run import Request, RunPlace, run_services
from tests.unit.core.making import config_of
from tests.unit.engines.cgroup_host import SCOPE, Host
from tests.unit.engines.cgroup_kernel import PlayedFs
from tests.unit.host.fabricate import facts

pytestmark = pytest.mark.starts_processes


class Up:
    """One `up` of services with these scripts (of sh) by name; `after` are actions by a text that the stream has."""

    def __init__(self, tmp_path, monkeypatch, scripts, *, ready="log:up", after=None, **wishes):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        self.host = Host(tmp_path)
        for name, script in scripts.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        text = "".join(
            f'[services.{name}]\nbinary = "{name}"\nMemoryMax = "32M"\nslice = "api"\n'
            f'[services.{name}.smoke]\nready = "{ready}"\nstart_timeout = "20s"\nstop_timeout = "2s"\n' for name in scripts
        )  # fmt: skip
        self.config = config_of(f'{text}\n[slices.api]\nMemoryMax = "64M"\n', folder=str(tmp_path))
        self.lines, self.after, self.wishes = [], dict(after or {}), wishes
        self.meanwhile = lambda: None
        self.logs = tmp_path / "state" / "cgroup-preflight" / "shop" / "logs"

    def write(self, text):
        for line in text.splitlines():
            self.lines.append(line)
            for wanted in [wanted for wanted in self.after if wanted in line]:
                self.after.pop(wanted)()

    def run(self, variables=None):
        plan = scoped(build_plan(self.config), SCOPE)
        door = replace(local_door({}), files=PlayedFs(self.host.kernel))
        place = RunPlace(door=door, logs=lambda names: new_logs("shop", names), meanwhile=self.meanwhile)
        request = Request(
            config=self.config, plan=plan, facts=replace(facts(), cgroup_mount=_mount(self.host)), variables=variables or {},
            choice=EngineChoice(name="cgroupfs"), **self.wishes,
        )  # fmt: skip
        with run_scope.run_scope(self.host.engine, door, plan, SCOPE, self.host.kernel.mount) as run:
            failed = run_services(request, plan, self.host.engine, place, self.write)
        assert run.rest == run_scope.Rest()
        assert self.host.kernel.folders(f"{self.host.kernel.mount}/job") == []
        return failed

    def said(self, pattern):
        return [line for line in self.lines if re.search(pattern, line)]


def _mount(host):
    mount = facts().cgroup_mount
    return replace(mount, value=replace(mount.value, point=host.kernel.mount))


def interrupt():
    raise KeyboardInterrupt


def test_services_run_side_by_side_until_ctrl_c(tmp_path, monkeypatch):
    script = "echo up; echo $NAME; exec sleep 300"
    up = Up(tmp_path, monkeypatch, {"web": script, "gateway": script})
    ready = []
    up.after = {"web     | ready": lambda: ready.append("web"), "gateway | ready": lambda: ready.append("gateway")}
    real = up.write

    def write(text):
        real(text)
        if len(ready) == 2:
            ready.append("over")
            interrupt()

    up.write = write
    with pytest.raises(KeyboardInterrupt):
        up.run({"NAME": "from .env"})
    assert up.said(r"^web     \| from \.env")
    assert up.said(r"^gateway \| stopped")
    assert up.host.kernel.folders(f"{up.host.kernel.mount}/job") == []
    assert (up.logs / "web.log").read_text() == "up\nfrom .env\n"


def test_what_is_done_meanwhile_can_end_it(tmp_path, monkeypatch):
    up = Up(tmp_path, monkeypatch, {"web": "echo up; exec sleep 300"})
    up.meanwhile = lambda: (
        interrupt() if up.said("ready") and not up.said("over") and not up.lines.append("over") else None
    )
    with pytest.raises(KeyboardInterrupt):
        up.run()
    assert up.said("web | stopped")


def test_a_service_that_fails_is_shown_with_its_status_and_the_others_run_on(tmp_path, monkeypatch):
    up = Up(tmp_path, monkeypatch, {"bad": "echo up; sleep 0.3; exit 3", "good": "echo up; sleep 1; exit 0"})
    assert up.run() == ("bad",)
    assert up.said(r"^bad  \| ended with exit status 3$")
    assert up.said(r"^good \| ended with exit status 0$")


def test_one_that_was_killed_for_memory_says_so_with_the_limit(tmp_path, monkeypatch):
    up = Up(tmp_path, monkeypatch, {"web": "echo up; exec sleep 300"})

    def kill():
        program = up.host.engine._programs[f"{SCOPE}-web.service"]
        for name in ("memory.events", "memory.events.local"):
            with open(f"{up.host.kernel.mount}{program.cgroup}/{name}", "w") as file:
                file.write("oom 1\noom_kill 1\n")
        os.kill(program.pid, signal.SIGKILL)

    up.after = {"web | ready": kill}
    assert up.run() == ("web",)
    assert up.said(r"^web \| killed by the kernel for memory, limit 32M of web.service$")


def test_restart_starts_one_that_failed_again_and_not_one_that_is_done(tmp_path, monkeypatch):
    counter = tmp_path / "count"
    script = f"echo up; echo x >>{counter}; [ $(wc -l <{counter}) -ge 2 ] && exit 0; exit 7"
    up = Up(tmp_path, monkeypatch, {"web": script}, restart=True)
    assert up.run() == ()
    assert up.said(r"^web \| ended with exit status 7; starts again in 1 s$")
    assert counter.read_text() == "x\nx\n"


def test_one_that_ignores_its_signal_is_killed(tmp_path, monkeypatch):
    up = Up(tmp_path, monkeypatch, {"web": "trap '' TERM; echo up; while :; do sleep 0.1; done"})
    up.after = {"web | ready": interrupt}
    with pytest.raises(KeyboardInterrupt):
        up.run()
    assert up.said("killed, because it outlasted its stop_timeout")


def test_one_that_cannot_be_started_is_a_failure_with_the_reason(tmp_path, monkeypatch):
    up = Up(tmp_path, monkeypatch, {"web": "echo up"})
    (tmp_path / "web").chmod(0o644)
    assert up.run() == ("web",)
    assert up.said(r"web \| was not started: .*cannot be executed")


def test_the_table_has_a_row_for_each_service(tmp_path, monkeypatch):
    up = Up(tmp_path, monkeypatch, {"web": "echo up; exec sleep 300"}, table=True)
    up.after = {"| web      runs": interrupt}
    with pytest.raises(KeyboardInterrupt):
        up.run()
    assert up.said(r"^up  \| service  state")


def test_what_it_writes_cannot_act_on_the_terminal(tmp_path, monkeypatch):
    up = Up(tmp_path, monkeypatch, {"web": "printf 'up \\033]0;x\\007\\n'"})
    up.run()
    assert up.said(r"^web \| up \?\]0;x\?$")
    assert sys.stdout is not None


def test_the_log_of_the_run_before_is_kept(tmp_path, monkeypatch):
    for text in ("one", "two"):
        Up(tmp_path, monkeypatch, {"web": f"echo up {text}"}).run()
        (tmp_path / "cgroup").rename(tmp_path / f"cgroup-{text}")
    logs = tmp_path / "state" / "cgroup-preflight" / "shop" / "logs"
    assert [(logs / name).read_text() for name in ("web.log", "web.log.1")] == ["up two\n", "up one\n"]
