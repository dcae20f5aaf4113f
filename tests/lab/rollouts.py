"""What the tests of `rollout` share: a slice with a service in one manager of a guest, calls of the tool, and what is left."""

import json
import shlex
import time
from dataclasses import dataclass
from typing import Any

import pytest

from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import Background
from tests.lab.configs import ENVIRONMENT, FIXTURES

SLICE = "[Slice]\nCPUQuota=200%\nMemoryMax=256M\n"
OLD = {"cpu.max": "200000 100000", "memory.max": str(256 << 20)}
NEW = {"cpu.max": "150000 100000", "memory.max": str(192 << 20)}
#: Some CPU time in each period, and a little memory. A shell with `sleep` would use most of the guest's CPU for new processes.
CALM = "[Service]\nSlice=lab17.slice\nExecStart=/usr/bin/python3 -I -S -c 'import time\\nwhile 1: time.sleep(0.05)'\n"
#: A fifth of a CPU, in pieces that a small quota throttles: it leaves time for a tool in the same guest.
OFTEN = (
    "[Service]\nSlice=lab17.slice\nExecStart=/usr/bin/python3 -I -S -c "
    "'import time\\nwhile 1:\\n end=time.thread_time()+0.02\\n while time.thread_time()<end: pass\\n time.sleep(0.08)'\n"
)
BUSY = "[Service]\nSlice=lab17.slice\nExecStart=/bin/sh -c 'while :; do :; done'\n"
_ROLLOUT = """
[project]
name = "lab"
[rollout]
steps = ["50%", "100%"]
interval = "INTERVAL"
settle = "0s"
soak = "1s"
deadline = "15s"
restore_after = "RESTORE"
samples_min = 1
periods_min = 5
throttled_margin = "20%"
pressure_floor = "100%"
neighbour_margin = "100%"
[rollout.slices.lab17]
"""
BOTH = 'CPUQuota = "150%"\nMemoryMax = "192M"\n'
QUOTA = 'CPUQuota = "150%"\n'
_UNIT = "cgroup-preflight-rollout"
#: One by one: systemd 262 stops none of several units if one of them does not exist.
_STOP = (
    f"for unit in {_UNIT}.timer {_UNIT}.service lab17.service lab17.slice; do $S stop $unit 2>/dev/null || true; done;"
)


def toml(targets: str, interval: str = "1s", more: str = "", restore: str = "120s") -> str:
    """A config with these targets of the slice; each step is watched for `interval`, the timer restores after `restore`."""
    return _ROLLOUT.replace("INTERVAL", interval).replace("RESTORE", restore) + targets + more


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One manager of a guest: of the system as root or through sudo, or of a user.

    `user` calls the tool, root if it is None. `manager` is the user whose manager it is, None for the system's.
    `config_home` is XDG_CONFIG_HOME of that manager, empty for the usual one. `state_name` is the folder of the journals.
    """

    guest: Guest
    user: str | None = None
    manager: str | None = None
    config_home: str = ""
    state_name: str = "state"

    @property
    def _home(self) -> str:
        return f"/home/{self.user}" if self.user else "/root"

    @property
    def place(self) -> str:
        """The folder of the config."""
        return f"{self._home}/rollout"

    @property
    def state(self) -> str:
        """The folder of the journals."""
        return f"{self.place}/{self.state_name}"

    @property
    def _runtime(self) -> str:
        return f"/run/user/{self.guest.uid(self.manager)}" if self.manager else "/run"

    @property
    def units(self) -> str:
        """Where the slice and its service have their unit files."""
        return (
            f"{self.config_home or f'/home/{self.manager}/.config'}/systemd/user"
            if self.manager
            else "/etc/systemd/system"
        )

    @property
    def control(self) -> str:
        """Where `set-property` writes."""
        return f"{self.units}.control"

    @property
    def run_units(self) -> str:
        """Unit files until the next start of the host."""
        return f"{self._runtime}/systemd/{'user' if self.manager else 'system'}"

    @property
    def cgroup(self) -> str:
        """The slice in the kernel."""
        uid = self.guest.uid(self.manager) if self.manager else 0
        above = f"/user.slice/user-{uid}.slice/user@{uid}.service" if self.manager else ""
        return f"/sys/fs/cgroup{above}/lab17.slice"

    def shell(self, script: str, *, timeout: float = 180) -> str:
        """A script that must succeed, as whoever owns the manager; `$S` is systemctl, `$RUN` systemd-run."""
        user = " --user" if self.manager else ""
        names = f"export XDG_RUNTIME_DIR={self._runtime}; S='systemctl{user}'; RUN='systemd-run{user}'"
        done = self.guest.run(["sh", "-c", f"{names}; {script}"], user=self.manager, timeout=timeout)
        assert done.returncode == 0, done
        return done.text

    def argv(self, *words: str) -> list[str]:
        """The command line of the tool."""
        state = () if words[0] == "plan" else ("--state", self.state)
        return ["python3", "-m", "cgroup_preflight", "rollout", *words, *state, "--format", "json"]

    @property
    def environment(self) -> dict[str, str]:
        """For the tool."""
        cache = f"/tmp/pycache-{self.user or 'root'}"
        runtime = {"XDG_RUNTIME_DIR": self._runtime} if self.manager else {}
        return {**ENVIRONMENT, "PYTHONPYCACHEPREFIX": cache, **runtime}

    def call(self, *words: str, timeout: float = 240.0) -> tuple[int, dict[str, Any]]:
        """The exit status and the report of one call."""
        done = self.guest.run(self.argv(*words), user=self.user, env=self.environment, cwd=self.place, timeout=timeout)
        try:
            report: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            pytest.fail(f"no report: {done}")
        return done.returncode, report

    def begin(self, *before: str) -> Background:
        """Starts `apply`; `before` are words before it."""
        engine = ("--engine", "user") if self.manager else ()
        argv = [*before, *self.argv("apply", "--yes", *engine)]
        return self.guest.spawn(argv, user=self.user, env=self.environment, cwd=self.place)

    def apply(self, timeout: float = 240.0) -> tuple[int, dict[str, Any]]:
        """A whole `apply`."""
        done = self.guest.wait(self.begin(), timeout=timeout)
        assert not done.timed_out
        return done.returncode, json.loads(done.stdout or b"{}") | {"stderr": done.stderr.decode(errors="replace")}

    def kernel(self) -> dict[str, str]:
        """What the kernel has."""
        both = self.shell(f"cat {self.cgroup}/cpu.max {self.cgroup}/memory.max").splitlines()
        return {"cpu.max": both[0], "memory.max": both[1]}

    def records(self) -> list[dict[str, Any]]:
        """Every whole record of the newest journal; a torn last line is left out, as the tool does."""
        text = self.guest.run(["sh", "-c", f"cat $(ls {self.state}/*.journal | tail -n 1) 2>/dev/null || true"]).text
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def last(self) -> str:
        """The kind of the last record, empty without any."""
        records = self.records()
        return str(records[-1]["kind"]) if records else ""

    def wait_for(self, kind: str, *, stage: int | None = None, seconds: float = 120.0) -> None:
        """Until the journal has a record."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if any(item["kind"] == kind and (stage is None or item.get("stage") == stage) for item in self.records()):
                return
            time.sleep(0.1)
        pytest.fail(f"no record {kind}: {self.records()}")

    def wait_until(self, condition: str, seconds: float = 60.0) -> None:
        """Until a shell condition holds in the guest."""
        loop = f"until {condition}; do sleep 0.1; done"
        self.shell(f"timeout {seconds:g} sh -c {shlex.quote(loop)}", timeout=seconds + 20)

    def prepare(self, text: str, service: str = CALM) -> None:
        """Everything as it was before any rollout, with a running service in the slice."""
        dropped = " ".join(
            f"{folder}/lab17.slice.d"
            for folder in (self.units, self.control, self.run_units, f"{self.run_units}.control")
        )
        timers = " ".join(f"{folder}/{_UNIT}.* {folder}/timers.target.d" for folder in (self.units, self.run_units))
        self.shell(f"{_STOP} rm -rf {dropped} {timers}; mkdir -p {self.units}")
        owner = self.user or "root"
        self.guest.run(["rm", "-rf", self.place])
        for path, content in ((f"{self.units}/lab17.slice", SLICE), (f"{self.units}/lab17.service", service),
                              (f"{self.place}/cgroup-preflight.toml", text)):  # fmt: skip
            self.guest.write_file(path, content.encode())
        script = f"mkdir -p {self.state}; chmod 700 {self.state}; chown -R {owner} {self.place}"
        assert self.guest.run(["sh", "-c", script]).returncode == 0
        self.shell("$S daemon-reload; $S start lab17.service")
        assert self.kernel() == OLD

    def is_old(self) -> bool:
        """Wholly: the kernel, the files, and no timer."""
        return self.kernel() == OLD and not self.left()

    def left(self) -> str:
        """Drop-ins of the slice and files of the timer."""
        folders = (self.units, self.control, self.run_units, f"{self.run_units}.control")
        names = " ".join(
            f"{folder}/lab17.slice.d/* {folder}/{_UNIT}.* {folder}/timers.target.d/{_UNIT}.conf" for folder in folders
        )
        return self.shell(f"ls -d {names} 2>/dev/null || true").strip()

    def is_new(self, new: dict[str, str] | None = None) -> bool:
        """Wholly, also after a reload. systemd 257 does not bring a changed file to the kernel then, so it must agree before."""
        wanted = {**OLD, **(NEW if new is None else new)}
        before = self.kernel()
        left = [line for line in self.left().splitlines() if not line.startswith(f"{self.control}/")]
        self.shell("$S daemon-reload")
        return before == wanted == self.kernel() and not left

    def clear(self) -> None:
        """Nothing of the slice is left."""
        self.shell(f"{_STOP} rm -rf {self.units}/lab17.* {self.control}/lab17.slice.d; $S daemon-reload")  # fmt: skip


def codes(report: dict[str, Any], *statuses: str) -> list[str]:
    """The codes of the findings with one of these statuses."""
    return [item["code"] for item in report["findings"] if item["status"] in statuses]


def said(report: dict[str, Any]) -> list[str]:
    """What a report says, for a test that fails."""
    return [f"{item['status']} {item['code']} {item['subject']}: {item['message']}" for item in report["findings"]]


def reason(host: Host) -> str:
    """Why the rollout was taken back."""
    return next((str(item["reason"]) for item in reversed(host.records()) if item["kind"] == "rollback"), "")


def go_service(name: str, *args: str) -> str:
    """A unit that runs one of the fixture programs in the slice."""
    return f"[Service]\nSlice=lab17.slice\nExecStart={FIXTURES / name} {' '.join(args)}\n"
