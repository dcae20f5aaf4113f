"""What the smoke tests share: configs from plain data, calls of the command, and what has to be gone afterwards."""

import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import Background

_SOURCE = Path(__file__).parents[2] / "src"
FIXTURES = input_path("fixtures")
#: Where configs and scripts of tests are written to inside the guest.
_HOME = "/var/tmp/lab"
#: For calling the command of this checkout in the guest.
ENVIRONMENT = {"PYTHONPATH": str(input_path("src")), "PYTHONPYCACHEPREFIX": "/tmp/pycache"}
_FILE = "cgroup-preflight.toml"
#: Makes names of report files: guests are shared, also between users.
_NUMBERS = itertools.count(1)

_LEFTOVERS = Path(__file__).with_name("leftovers_inside.py").read_text()

#: Ends what a run with `--inside` leaves to the end of the machine.
END_OF_RUN = (
    "grep -o ' /sys/fs/cgroup/cgpf[^ ]*' /proc/mounts | xargs -r umount;"
    # What ends below such a mount is not seen by systemd; a process that begins and ends there is.
    "for folder in $(find /sys/fs/cgroup -path '*cgpf*' -name '*.service'); do sh -c \"echo \\$\\$ > $folder/cgroup.procs\"; done;"
    " systemctl stop --no-block 'cgpf*.slice'; while ls -d /sys/fs/cgroup/cgpf*.slice; do"
    " systemctl kill -s KILL 'cgpf*.service'; sleep 0.2; done >/dev/null 2>&1;"
    " rm -rf /run/systemd/system/cgpf* /tmp/cgpf* /tmp/fake-*; systemctl daemon-reload; systemctl reset-failed"
)

_WORST_FIRST = ("fail", "unverified", "pass", "warn", "skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished call: the report of `--format json` (empty for none), and the text on stdout and stderr."""

    exit_status: int
    report: dict[str, Any]
    text: str
    stderr: str

    @property
    def verdict(self) -> str:
        """pass, fail or unverified."""
        return str(self.report["verdict"])

    def findings(self, code: str, subject: str | None = None) -> list[dict[str, Any]]:
        """The findings with this code, about this subject if one is named."""
        return [f for f in self.report["findings"] if f["code"] == code and subject in (None, f["subject"])]

    def finding(self, code: str, subject: str) -> dict[str, Any]:
        """The finding with this code about this subject; of several the worst."""
        found = sorted(self.findings(code, subject), key=lambda item: _WORST_FIRST.index(item["status"]))
        assert found, f"no {code} about {subject}"
        return dict(found[0])

    def statuses(self, subject: str) -> dict[str, str]:
        """Code to status of all that was found about a subject."""
        return {f["code"]: f["status"] for f in self.report["findings"] if f["subject"] == subject}

    def service(self, name: str) -> dict[str, Any]:
        """A service's row of the report."""
        (found,) = [service for service in self.report["services"] if service["name"] == name]
        return dict(found)

    def limits(self, name: str) -> dict[str, str | None]:
        """Attribute file, without the names made up for the run, to what the kernel held; only what is in force."""
        return {_plain(limit["file"]): limit["actual"] for limit in self.service(name)["limits"] if limit["ok"]}


def _plain(file: str) -> str:
    """`.../cgpf0123456789ab.slice/cgpf0123456789ab-api.slice/memory.max` to `api.slice/memory.max`."""
    top, _, below = file.partition(".slice/cgpf")
    parts = f"cgpf{below}".split("/") if below else top.split("/")
    return "/".join(part.partition("-")[2] if part.startswith("cgpf") else part for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A running call; `report` is the file its JSON goes to."""

    background: Background
    report: str


class Lab:
    """The command under test in one guest; each call is followed by a look at what it left behind."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def write(self, name: str, config: Mapping[str, Any], scripts: Mapping[str, str] | None = None) -> str:
        """Writes a config and the scripts next to it; the folder. The guest is shared, so names are the test's own."""
        folder = f"{_HOME}/{name}"
        self.guest.write_file(f"{folder}/{_FILE}", toml(config).encode())
        for script, text in (scripts or {}).items():
            self.guest.write_file(f"{folder}/{script}", text.encode(), mode=0o755)
        return folder

    def run(
        self, *args: str, folder: str | Path, user: str | None = None, timeout: float = 300.0, leaves: bool = False
    ) -> Outcome:
        """Runs `cgroup-preflight ARGS` in `folder` to its end; nothing may be left unless `leaves`."""
        return self.wait(self.spawn(*args, folder=folder, user=user), timeout=timeout, leaves=leaves)

    def spawn(self, *args: str, folder: str | Path, user: str | None = None) -> Call:
        """Starts `cgroup-preflight ARGS` in `folder`."""
        report = f"/tmp/report-{next(_NUMBERS)}.json"
        argv = ["python3", "-m", "cgroup_preflight", *args, "--format=text", f"--format=json={report}"]
        return Call(background=self.guest.spawn(argv, user=user, env=ENVIRONMENT, cwd=str(folder)), report=report)

    def wait(self, call: Call, *, timeout: float = 300.0, leaves: bool = False) -> Outcome:
        """What a call came to."""
        done = self.guest.wait(call.background, timeout=timeout)
        assert not done.timed_out, done
        if not leaves:
            left = self.leftovers()
            assert not left, f"left behind: {left} by {done}"
        written = self.guest.run(["sh", "-c", 'cat "$0" && rm "$0"', call.report]).stdout
        return Outcome(
            exit_status=done.returncode,
            report=json.loads(written) if written else {},
            text=done.text,
            stderr=done.stderr.decode(errors="replace"),
        )

    def leftovers(self) -> list[str]:
        """Everything in the guest that a run could have left behind."""
        return leftovers(self.guest)

    def shell(self, command: str, *, timeout: float = 60.0, user: str | None = None) -> str:
        """The output of a shell command that must succeed."""
        done = self.guest.run(["sh", "-c", command], timeout=timeout, user=user)
        assert done.returncode == 0, done
        return done.text

    def until(self, command: str, *, seconds: float = 120.0) -> str:
        """Waits inside the guest until a shell command succeeds; its output."""
        loop = f"until {command}; do sleep 0.02; done"
        return self.shell(f"timeout {seconds:g} sh -c {shlex.quote(loop)}", timeout=seconds + 10)


def leftovers(guest: Guest, *words: str) -> list[str]:
    """Everything of this tool that is left in a guest; with the word `clean`, what is left after all of it was removed."""
    done = guest.run(["python3", "-I", "-c", _LEFTOVERS, *words])
    assert done.returncode == 0, done
    return [line for line in done.text.splitlines() if line]


def fixture(
    name: str, *args: str, ready: str = "", smoke: Mapping[str, Any] | None = None, **keys: Any
) -> dict[str, Any]:
    """A service of the config that runs one of the fixture programs."""
    return service(str(FIXTURES / name), *args, ready=ready, smoke=smoke, **keys)


def service(
    binary: str, *args: str, ready: str = "", smoke: Mapping[str, Any] | None = None, **keys: Any
) -> dict[str, Any]:
    """A service of the config; held for half a second unless `smoke` says otherwise."""
    readiness = {"ready": ready} if ready else {}
    return {"binary": binary, **keys, "smoke": {"args": list(args), "duration": "500ms", **readiness, **(smoke or {})}}


def config(services: Mapping[str, Any], slices: Mapping[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    """A whole config."""
    return {"project": {"name": "lab"}, **sections, "slices": dict(slices or {}), "services": dict(services)}


def toml(table: Mapping[str, Any], path: Sequence[str] = ()) -> str:
    """TOML of nested tables; JSON's strings, numbers and lists are TOML's, too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    text = "".join(
        f"{line}\n" for line in ([f"[{'.'.join(path)}]", *lines] if path and (lines or not table) else lines)
    )
    return text + "".join(toml(value, (*path, key)) for key, value in table.items() if isinstance(value, Mapping))


def report_of_run(project: Path, distro: str, *, timeout: float = 400) -> dict[str, Any]:
    """The report of `run` on a project, called on this machine, in a guest of `distro`; `timeout` in seconds."""
    argv = [sys.executable, "-m", "cgroup_preflight", "run", f"--target={distro}", "--format=json"]
    environment = {**os.environ, "PYTHONPATH": str(_SOURCE)}
    done = subprocess.run(
        argv, cwd=project, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def said(report: Mapping[str, Any], name: str, *statuses: str) -> list[tuple[str, str]]:
    """Code and message of each finding about `name` that has one of these statuses."""
    return [
        (item["code"], item["message"]) for item in report["findings"]
        if item["subject"] == name and item["status"] in statuses
    ]  # fmt: skip
