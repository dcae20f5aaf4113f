"""A service manager to talk to: the system's (as root or through `sudo -n`) or the caller's own.

Starts units from files of the run-time folder, all with one call.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.reading import Missing, Reading
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines import bus
from cgroup_preflight.engines import command_lines as argvs
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.host.command import Completed, LiveRunner, stop
from cgroup_preflight.host.files import write_file
from cgroup_preflight.host.systemd import parse_unit_show
from cgroup_preflight.plan.model import UnitFile

_TIMEOUT = 30.0
_PARALLEL = 8
#: A slice is a folder in a file system of the kernel's: if it takes longer, `systemctl` waits and says why.
_SLICE_PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1)


class Manager:
    """Commands of one manager; every method has a time-out and raises HostError when the manager fails."""

    def __init__(self, choice: EngineChoice, *, uid: int, systemd: int, machine_folder: str = "/run") -> None:
        self.engine = choice.name or ""
        self.user = choice.name == "user"
        self.systemd = systemd
        self.uid = uid
        env = {"XDG_RUNTIME_DIR": f"/run/user/{uid}"} if self.user else {}
        self.runner = LiveRunner(env)
        self._prefix = ("sudo", "-n") if choice.sudo else ()
        self.sudo = choice.sudo
        #: Root needs no process to ask the system manager.
        self._direct = not self.user and not choice.sudo and os.geteuid() == 0 and os.path.exists(bus.SOCKET)
        self.unit_folder = f"/run/user/{uid}/systemd/user" if self.user else f"{machine_folder}/systemd/system"
        self._sleep = shutil.which("sleep", path="/usr/bin:/bin:/run/current-system/sw/bin") or "/bin/sleep"

    def _argv(self, program: str, *words: str) -> tuple[str, ...]:
        return (*self._prefix, program, *(("--user",) if self.user else ()), *words)

    def systemctl(self, *words: str, timeout: float = _TIMEOUT) -> Completed:
        """One systemctl call; its exit status is the caller's to judge. Raises HostError without an answer."""
        return self._answer(self._argv("systemctl", *words), timeout)

    def _answer(self, argv: tuple[str, ...], timeout: float, stdin: bytes = b"") -> Completed:
        return _answered(argv, self.runner.run(argv, timeout=timeout, stdin=stdin))

    def require(self, *words: str, timeout: float = _TIMEOUT) -> Completed:
        """One systemctl call that must succeed. Raises HostError with the manager's own words."""
        done = self.systemctl(*words, timeout=timeout)
        if done.returncode != 0:
            raise HostError(
                first_line(done.stderr) or f"exit status {done.returncode}", where=f"systemctl {' '.join(words)[:120]}",
                remedy=Remedy(title="ask the manager why", commands=(("journalctl", "-xe"),)),
            )  # fmt: skip
        return done

    def show(self, units: Iterable[str]) -> dict[str, dict[str, str]]:
        """Properties of units, by unit name; a unit that is not loaded says so in LoadState."""
        wanted = tuple(units)
        if not wanted:
            return {}
        if self._direct:
            with suppress(bus.BusError):
                return bus.show(wanted, argvs.SHOW_PROPERTIES)
        done = self.systemctl(*argvs.show(wanted))
        return {unit["Id"]: unit for unit in parse_unit_show(done.stdout) if "Id" in unit}

    def states(self, units: Iterable[str]) -> dict[str, dict[str, str]]:
        """ActiveState, SubState and Job of units, by unit name, if not more: what can be asked again and again."""
        wanted = tuple(units)
        if wanted and self._direct:
            with suppress(bus.BusError):
                return bus.states(wanted)
        return self.show(wanted)

    def show_changed(self, known: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
        """As `show`, but only the units whose state is another than the `known` one, where that is quick to ask."""
        units = list(known)
        if units and self._direct:
            states = self.states(units)
            units = [unit for unit in units if not _has(known[unit], states.get(unit))]
        shown = self.show(units)
        return {unit: shown.get(unit, {}) for unit in units}

    def system_runs(self, unit: str) -> bool:
        """Whether the system's manager runs a unit, whoever's manager this is."""
        answer = self.runner.run(("systemctl", "is-active", "--quiet", "--", unit), timeout=_TIMEOUT)
        return not isinstance(answer, Missing) and answer.value.returncode == 0

    def start_units(self, units: Sequence[str]) -> str:
        """Starts units that have files, without waiting for them; the manager's words if it refused any."""
        words = ("start", "--no-block", "--", *units)
        return "" if self._on_bus(bus.start(units)) else self._words(self.systemctl(*words))

    def start_slices(self, slices: Sequence[str]) -> None:
        """Starts slices; returns when they are there. Raises HostError with the manager's words."""
        if self._on_bus(bus.start(slices)):
            for pause in _SLICE_PAUSES:
                shown = self.states(slices)
                if all(shown.get(unit, {}).get("ActiveState") == "active" for unit in slices):
                    return
                time.sleep(pause)
        self.require("start", "--", *slices)

    def stop_units(self, units: Sequence[str]) -> None:
        """Stops units without waiting for them."""
        if not self._on_bus(bus.stop(units)):
            self.systemctl("stop", "--no-block", "--", *units)

    def kill_units(self, units: Sequence[str]) -> None:
        """Kills every process of units."""
        if not self._on_bus(bus.kill(units, signal.SIGKILL)):
            self.systemctl(*argvs.kill_all(units))

    def _on_bus(self, calls: list[bus.Call]) -> bool:
        """Whether the manager took all of it over its own socket; if not, `systemctl` does it and has the words."""
        if not self._direct:
            return False
        with suppress(bus.BusError):
            return bus.REFUSED not in bus.call(calls)
        return False

    def _words(self, done: Completed) -> str:
        return (first_line(done.stderr) or f"exit status {done.returncode}") if done.returncode else ""

    def start(self, launches: Iterable[argvs.Launch]) -> dict[str, str]:
        """Starts transient services at the same time; the manager's words by unit, for those it refused."""
        todo = tuple(launches)
        # Not by threads: where fork is dear (user-mode-linux), so is each of them.
        calls = [
            self._argv("systemd-run", *argvs.systemd_run(launch, sleep=self._sleep, systemd=self.systemd))
            for launch in todo
        ]
        answers: list[Completed] = []
        for first in range(0, len(calls), _PARALLEL):
            some = calls[first : first + _PARALLEL]
            answers += map(_answered, some, self.runner.run_together(some, timeout=_TIMEOUT))
        return {
            launch.unit: first_line(done.stderr) or f"systemd-run: exit status {done.returncode}"
            for launch, done in zip(todo, answers, strict=True)
            if done.returncode
        }

    def write_files(self, files: Iterable[UnitFile]) -> None:
        """Writes unit files into the manager's run-time folder: they do not outlive a reboot. Raises HostError."""
        if self.sudo:
            done = self._answer((*self._prefix, "tar", "-x", "-C", self.unit_folder, "-f", "-"), _TIMEOUT, _tar(files))
            if done.returncode != 0:
                raise _cannot_write(self.unit_folder, first_line(done.stderr))
            return
        try:
            os.makedirs(self.unit_folder, exist_ok=True)
            for file in files:
                write_file(os.path.join(self.unit_folder, file.path), file.content.encode())
            # By the folder's time the manager notices new files (systemd, lookup_paths_timestamp_hash_same), and the
            # kernel's own is that of the last tick: files that come right after others would not be there for it.
            now = time.time_ns()
            with suppress(PermissionError):
                os.utime(self.unit_folder, ns=(now, now))
        except OSError as error:
            raise _cannot_write(self.unit_folder, error.strerror or str(error)) from None
        except UsageError as error:
            raise _cannot_write(error.where, error.message) from None

    def remove_files(self, names: Iterable[str]) -> None:
        """Removes unit files of the run-time folder; those already gone do not matter."""
        paths = [os.path.join(self.unit_folder, name) for name in names]
        if self.sudo and paths:
            self._answer((*self._prefix, "rm", "-f", "--", *paths), _TIMEOUT)
            return
        for path in paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue

    def write_attribute(self, path: str, text: str) -> None:
        """Writes a file of a cgroup of the run; where that is not allowed, the file stays as it is."""
        if self.sudo:
            self._answer((*self._prefix, "tee", "--", path), _TIMEOUT, text.encode())
            return
        with suppress(OSError), open(path, "w") as file:
            file.write(text)

    def journal(self, invocation: str, lines: int) -> tuple[str, ...]:
        """The last lines that one invocation of a unit wrote; empty where there are none or none are readable."""
        if not re.fullmatch(r"[0-9a-f]{32}", invocation):
            return ()
        argv = (*self._prefix, "journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={lines}",
                f"_SYSTEMD_INVOCATION_ID={invocation}")  # fmt: skip
        done = self.runner.run(argv, timeout=_TIMEOUT)
        return () if isinstance(done, Missing) else tuple(done.value.stdout.splitlines())

    def follow(self, invocation: str) -> "subprocess.Popen[bytes]":
        """A running journalctl that prints what one invocation writes, from its beginning. Raises OSError."""
        return self.runner.start(
            (*self._prefix, "journalctl", "--no-pager", "--quiet", "--output=cat", "--follow", "--no-tail",
             f"_SYSTEMD_INVOCATION_ID={invocation}")
        )  # fmt: skip

    def end_follow(self, process: "subprocess.Popen[bytes]") -> None:
        """Ends `follow`; a process of sudo takes its signal from root only."""
        if self.sudo and process.poll() is None:
            self.runner.run((*self._prefix, "kill", "-TERM", str(process.pid)))
            try:
                process.wait(timeout=_TIMEOUT)
            except subprocess.TimeoutExpired:
                return
        stop(process)


def _has(shown: Mapping[str, str], state: Mapping[str, str] | None) -> bool:
    return state is not None and bool(shown) and state.items() <= shown.items()


def _answered(argv: tuple[str, ...], answer: Reading[Completed]) -> Completed:
    if isinstance(answer, Missing):
        raise HostError(
            f"no answer: {answer}", where=" ".join(argv[:4]),
            remedy=Remedy(title="look at the state of the service manager", commands=(("systemctl", "status"),)),
        )  # fmt: skip
    return answer.value


def first_line(text: str) -> str:
    """The first line that is not empty, without control characters, cut to a readable length."""
    for line in text.splitlines():
        if line.strip():
            return "".join(char if char.isprintable() else "?" for char in line.strip())[:300]
    return ""


def _tar(files: Iterable[UnitFile]) -> bytes:
    import io
    import tarfile  # only sudo needs it

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            data = file.content.encode()
            member = tarfile.TarInfo(file.path)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _cannot_write(folder: str, reason: str) -> HostError:
    return HostError(
        f"cannot write unit files: {reason}", where=folder,
        remedy=Remedy(title="run as root, or where this folder is writable"),
    )  # fmt: skip


@contextmanager
def started(manager: Manager, texts: Mapping[str, str]) -> Iterator[str]:
    """Units by name, with the text of their files, which go at the end. The manager's words if it refused some.

    The units themselves are the caller's to end. Raises HostError.
    """
    names = list(texts)
    try:
        manager.write_files([UnitFile(path=name, content=text) for name, text in texts.items()])
        if refused := manager.start_units(names):
            # As with slices: a manager that has not seen the new files yet sees them after a reload.
            manager.require("daemon-reload")
            refused = manager.start_units(names)
        yield refused
    finally:
        manager.remove_files(names)
