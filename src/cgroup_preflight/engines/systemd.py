"""The systemd engine: the system's manager (as root or through `sudo -n`) or the caller's own.

Only this module, `shown`, `bus` and `command_lines` know systemctl's words (org.freedesktop.systemd1(5)).
"""

import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines import bus
from cgroup_preflight.engines import command_lines as argvs
from cgroup_preflight.engines.answers import answered, cannot_write, error_words, first_line, tar_of, write_units
from cgroup_preflight.engines.base import Launch, Phase, UnitState
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.shown import mark, unit_state
from cgroup_preflight.engines.unit_file import drop_in, fits, gate_drop_in, unit_file
from cgroup_preflight.engines.unit_words import refusal, unmet
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.systemd import parse_unit_show
from cgroup_preflight.plan.model import UnitFile

if TYPE_CHECKING:
    from cgroup_preflight.engines.bus import Bus
    from cgroup_preflight.host.door import Door
    from cgroup_preflight.host.door import Manager as ManagerLine

#: A manager that starts many units on a slow machine has let systemctl wait for more than half a minute.
_TIMEOUT = 90.0
_PARALLEL = 8
#: Where the `sleep` of the gates is; in the last of them on NixOS.
_SLEEP = ("/usr/bin/sleep", "/bin/sleep", "/run/current-system/sw/bin/sleep")
#: Starting a slice takes the kernel milliseconds: if it takes longer, `systemctl` waits and says why.
_SLICE_PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1)


def bus_environment(choice: EngineChoice, uid: int) -> dict[str, str]:
    """What commands need in their environment to reach the manager of the choice."""
    return {"XDG_RUNTIME_DIR": f"/run/user/{uid}"} if choice.name == "user" else {}


def private_bus(choice: EngineChoice, manager: "ManagerLine | None") -> "Bus | None":
    """Systemd's own socket, which spares root a process for each question to the system manager."""
    if choice.name != "systemd" or choice.sudo or manager is None or not manager.usable():
        return None
    return bus.Connection(manager.connect)


class Manager:
    """An `Engine` of systemd's; every method has a time-out and raises HostError when the manager fails."""

    keeps_cgroups = False
    has_journal = True

    def __init__(
        self, choice: EngineChoice, door: "Door", private_bus: "Bus | None", *, uid: int, systemd: int,
        machine_folder: str = "/run",
    ) -> None:  # fmt: skip
        self.name = choice.name or ""
        self.user = choice.name == "user"
        self._version = systemd
        self._programs, self._files, self._clock = door.programs, door.files, door.clock
        self._sudo = choice.sudo
        self._prefix = ("sudo", "-n") if choice.sudo else ()
        self._bus = private_bus
        self.unit_folder = f"/run/user/{uid}/systemd/user" if self.user else f"{machine_folder}/systemd/system"
        found = (path for path in _SLEEP if value_or(door.files.exists(path), default=False))
        self._sleep = next(found, "/bin/sleep")

    def _argv(self, program: str, *words: str) -> tuple[str, ...]:
        return (*self._prefix, program, *(("--user",) if self.user else ()), *words)

    def _systemctl(self, *words: str, timeout: float = _TIMEOUT) -> Completed:
        """One systemctl call; its exit status is the caller's to judge. Raises HostError without an answer."""
        return self._answer(self._argv("systemctl", *words), timeout)

    def _answer(self, argv: tuple[str, ...], timeout: float, stdin: bytes = b"") -> Completed:
        return answered(argv, self._programs.run(argv, timeout=timeout, stdin=stdin))

    def _require(self, *words: str, timeout: float = _TIMEOUT) -> Completed:
        """One systemctl call that must succeed. Raises HostError with the manager's own words."""
        done = self._systemctl(*words, timeout=timeout)
        if done.returncode != 0:
            raise HostError(
                first_line(done.stderr) or f"exit status {done.returncode}", where=f"systemctl {' '.join(words)[:120]}",
                remedy=Remedy(title="read in the journal why systemd refused", commands=(("journalctl", "-xe"),)),
            )  # fmt: skip
        return done

    def _show(self, units: Iterable[str], names: Sequence[str] = argvs.SHOW_PROPERTIES) -> dict[str, dict[str, str]]:
        """Properties of units, by unit name; a unit that is not loaded says so in LoadState."""
        wanted = tuple(units)
        if not wanted:
            return {}
        if self._bus:
            with suppress(bus.BusError):
                return self._bus.show(wanted, names)
        done = self._systemctl(*argvs.show(wanted, names))
        return {unit["Id"]: unit for unit in parse_unit_show(done.stdout) if "Id" in unit}

    def _slices(self, units: Sequence[str]) -> dict[str, dict[str, str]]:
        """FragmentPath and ControlGroup of slices, by unit name, if not more."""
        if units and self._bus:
            with suppress(bus.BusError):
                return self._bus.of_slices(units)
        return self._show(units)

    def _brief(self, units: Iterable[str]) -> dict[str, dict[str, str]]:
        """ActiveState, SubState and Job of units, by unit name, if not more."""
        wanted = tuple(units)
        if wanted and self._bus:
            with suppress(bus.BusError):
                return self._bus.states(wanted)
        return self._show(wanted)

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """The whole state of units, by unit name."""
        return {unit: unit_state(shown) for unit, shown in self._show(units).items()}

    def phases(self, units: Iterable[str]) -> dict[str, Phase]:
        """How far units have come, by unit name: over the bus a tenth of the work of `states`."""
        return {unit: unit_state(shown).phase for unit, shown in self._brief(units).items()}

    def changed(self, known: Mapping[str, UnitState]) -> dict[str, UnitState]:
        """As `states`; over the bus, only the units whose state differs from the `known` one."""
        units = list(known)
        if units and self._bus:
            brief = self._brief(units)
            units = [unit for unit in units if unit not in brief or known[unit].mark != mark(brief[unit])]
        states = self.states(units)
        return {unit: states.get(unit, UnitState()) for unit in units}

    def main_processes(self, unit: str) -> frozenset[int]:
        """MainPID and ControlPID of a unit that is no transient one."""
        shown = self._show((unit,), ("Id", "MainPID", "ControlPID", "Transient")).get(unit, {})
        if shown.get("Transient", "yes") not in ("no", "False", "0"):
            return frozenset()
        return frozenset(int(shown[name]) for name in ("MainPID", "ControlPID") if shown.get(name, "").isdigit())

    def settings_of(self, units: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
        """What systemctl shows of the settings `names`, by unit name and property.

        Never through the bus, on which lists of CPUs are bytes.
        """
        done = self._systemctl(*argvs.show(units, ("Id", *sorted(names))))
        return {unit["Id"]: unit for unit in parse_unit_show(done.stdout) if "Id" in unit}

    def system_runs(self, unit: str) -> bool:
        """Whether the system's manager runs a unit, whoever's manager this is."""
        answer = self._programs.run(("systemctl", "is-active", "--quiet", "--", unit), timeout=_TIMEOUT)
        return not isinstance(answer, Missing) and answer.value.returncode == 0

    def _start_units(self, units: Sequence[str]) -> dict[str, str]:
        """Starts units that have files, without waiting for them; the manager's words by unit, for those it refused."""
        left = list(units)
        if self._bus:
            with suppress(bus.BusError):
                answers = self._bus.call(bus.start(units))
                left = [unit for unit, answer in zip(units, answers, strict=True) if answer is bus.REFUSED]
        words = error_words(self._systemctl("start", "--no-block", "--", *left)) if left else ""
        if not words or len(left) == 1:
            return dict.fromkeys(left, words) if words else {}
        # systemd 262 starts none of several units if it refuses one, and says a word about that one only.
        each = ((unit, error_words(self._systemctl("start", "--no-block", "--", unit))) for unit in left)
        return {unit: words for unit, words in each if words}

    def create_slices(self, files: Sequence[UnitFile], units: Sequence[str]) -> dict[str, str]:
        """Writes unit files and starts the slices `units`; their cgroups by unit. Raises HostError.

        Loading a slice from a new file makes the manager read the folder, and with that it knows of the drop-ins. It does
        not read the folder for a transient unit (systemd, `unit_load_fragment`).
        """
        self._write_files(files)
        self._start_slices(units)
        return {unit: shown.get("ControlGroup", "") for unit, shown in self._loaded(units).items()}

    def _loaded(self, units: Sequence[str]) -> dict[str, dict[str, str]]:
        """What systemd shows of slices. Where it does not know our file, it makes up a slice without our limits."""
        for attempt in range(2):
            shown = self._slices(units)
            foreign = [
                unit for unit in units
                if shown.get(unit, {}).get("FragmentPath", "") != os.path.join(self.unit_folder, unit)
            ]  # fmt: skip
            if not foreign:
                return shown
            if attempt == 0:
                self._require("daemon-reload")
        raise HostError(
            f"{foreign[0]} was not loaded from the generated file", where=self.unit_folder,
            remedy=Remedy(title="ask systemd which file it loaded", commands=(("systemctl", "cat", foreign[0]),)),
        )  # fmt: skip

    def _start_slices(self, slices: Sequence[str]) -> None:
        """Starts slices; returns when they are active. Raises HostError with the manager's words."""
        if self._on_bus(bus.start(slices)):
            for pause in _SLICE_PAUSES:
                shown = self._brief(slices)
                if all(shown.get(unit, {}).get("ActiveState") == "active" for unit in slices):
                    return
                self._clock.sleep(pause)
        self._require("start", "--", *slices)

    def active(self, scope: str, suffix: str = "") -> list[str]:
        """Units of a run that are not inactive or failed (systemctl(1) list-units: UNIT LOAD ACTIVE SUB). Raises HostError."""
        done = self._require("list-units", "--all", "--plain", "--no-legend", "--full", "--", f"{scope}*{suffix}")
        rows = [line.split() for line in done.stdout.splitlines()]
        return [
            row[0] for row in rows if len(row) > 2 and row[0].startswith(scope) and row[2] not in ("inactive", "failed")
        ]

    def end_slice(self, scope: str, seconds: float) -> None:
        """Stops the slice of a run and all below it, and forgets which of its units failed."""
        # Payloads of probes wait in a slice next to that of the run, if it was a run in a guest.
        self._systemctl("stop", "--", f"{scope}.slice", f"{scope}_*.slice", timeout=seconds)
        self._systemctl("reset-failed", "--", f"{scope}-*")

    def open_gates(self, units: Sequence[str]) -> None:
        """Ends the control process of units: before the program starts that is the gate."""
        self._systemctl(*argvs.open_gates(units))

    def stop(self, units: Sequence[str]) -> None:
        """Stops units without waiting for them."""
        if self._on_bus(bus.stop(units)):
            return
        done = self._systemctl("stop", "--no-block", "--", *units)
        if done.returncode and len(units) > 1:
            # systemd 262 stops none of several units if it does not know one, which may have ended meanwhile.
            for unit in units:
                self._systemctl("stop", "--no-block", "--", unit)

    def kill(self, units: Sequence[str]) -> None:
        """Kills every process of units."""
        if not self._on_bus(bus.kill(units, signal.SIGKILL)):
            self._systemctl(*argvs.kill_all(units))

    def forget(self, units: Sequence[str]) -> None:
        """Forgets which units failed: systemd keeps a transient one until then."""
        self._systemctl("reset-failed", "--", *units)

    def _on_bus(self, calls: list[bus.Call]) -> bool:
        """Whether the manager took all of it over its own socket; if not, `systemctl` does it and has the words."""
        with suppress(bus.BusError):
            return self._bus is not None and bus.REFUSED not in self._bus.call(calls)
        return False

    @contextmanager
    def started(self, launches: Sequence[Launch]) -> Iterator[dict[str, str]]:
        """Starts services without gates; the manager's words by unit, for those it refused.

        From unit files, with one call, where a file can name their paths, else as transient units with a drop-in; the
        files go at the end. Raises HostError.
        """
        files = [
            unit_file(launch, launch.settings, self._properties(launch, protect=False))
            for launch in launches
            if fits(launch)
        ]
        names = [file.path for file in files]
        others = [launch for launch in launches if not fits(launch)]
        try:
            if others:
                self._write_files(map(drop_in, others))
                self._require("daemon-reload")
            yield self._start_files(files) | self.start(others)
        finally:
            self.remove_files([*names, *(f"{launch.unit}.d" for launch in others)])

    def _start_files(self, files: Sequence[UnitFile]) -> dict[str, str]:
        if not files:
            return {}
        self._write_files(files)
        if refused := self._start_units([file.path for file in files]):
            # As with slices: a manager that has not seen the new files yet sees them after a reload.
            self._require("daemon-reload")
            refused = self._start_units(list(refused))
        return refused

    def _properties(self, launch: Launch, *, protect: bool) -> list[tuple[str, str]]:
        return argvs.run_properties(launch, sleep=self._sleep, systemd=self._version, protect=protect)

    def start(self, launches: Iterable[Launch]) -> dict[str, str]:
        """Starts services, whose settings are in a drop-in; the manager's words by unit, for those it refused.

        Root writes unit files, which one call starts. A user's manager, and sudo, start transient units. A unit of the
        project has a file already.
        """
        given = tuple(launches)
        own, todo = [item for item in given if item.own is not None], [item for item in given if item.own is None]
        if self._bus and all(map(fits, todo)):
            files = [unit_file(launch, (), self._properties(launch, protect=True)) for launch in todo]
            return self._start_files(files) | self._start_own(own)
        return self._run_transient(todo) | self._start_own(own)

    def _run_transient(self, todo: Sequence[Launch]) -> dict[str, str]:
        # Not with threads: where fork is slow (user-mode-linux), so is starting a thread.
        calls = [
            self._argv(
                "systemd-run",
                # The manager of a user may not make a mount namespace everywhere.
                *argvs.systemd_run(launch, sleep=self._sleep, systemd=self._version, protect=not self.user),
            )
            for launch in todo
        ]
        answers: list[Completed] = []
        for first in range(0, len(calls), _PARALLEL):
            some = calls[first : first + _PARALLEL]
            answers += map(answered, some, self._programs.run_together(some, timeout=_TIMEOUT))
        return {
            launch.unit: first_line(done.stderr) or f"systemd-run: exit status {done.returncode}"
            for launch, done in zip(todo, answers, strict=True)
            if done.returncode
        }

    def _start_own(self, launches: Sequence[Launch]) -> dict[str, str]:
        """Starts units of the project, whose files are written already, and their sockets before them."""
        sleep, version, protect = self._sleep, self._version, not self.user
        self._write_files(gate_drop_in(launch, sleep=sleep, systemd=version, protect=protect) for launch in launches)
        sockets = {item.unit: item.own.socket_unit for item in launches if item.own and item.own.socket_unit}
        refused = {
            unit: words
            for unit, name in sockets.items()
            if (words := error_words(self._systemctl("start", "--", name)))
        }
        refused |= self._start_units([item.unit for item in launches if item.unit not in refused]) if launches else {}
        return {unit: self._why_refused(unit) or words for unit, words in refused.items()}

    def _why_refused(self, unit: str) -> str:
        """What systemd says of the file itself; empty where it finds nothing wrong."""
        return refusal(self._analyze("verify", os.path.join(self.unit_folder, unit)), unit)

    def unmet(self, unit: str) -> tuple[str, ...]:
        """The conditions because of which a unit was not started."""
        return unmet(self._analyze("condition", f"--unit={unit}"))

    def _analyze(self, *words: str) -> list[str]:
        """What systemd-analyze says; nothing where it cannot be asked."""
        done = self._programs.run(self._argv("systemd-analyze", *words), timeout=_TIMEOUT)
        return [] if isinstance(done, Missing) else f"{done.value.stderr}\n{done.value.stdout}".splitlines()

    def _write_files(self, files: Iterable[UnitFile]) -> None:
        """Writes unit files into the manager's run-time folder: they do not outlive a reboot. Raises HostError."""
        if self._sudo:
            done = self._answer(
                (*self._prefix, "tar", "-x", "-C", self.unit_folder, "-f", "-"), _TIMEOUT, tar_of(files)
            )
            if done.returncode != 0:
                raise cannot_write(self.unit_folder, first_line(done.stderr))
            return
        write_units(self._files, self.unit_folder, files)

    def remove_files(self, names: Iterable[str]) -> None:
        """Removes files and folders of the run-time folder; those already gone do not matter."""
        paths = [os.path.join(self.unit_folder, name) for name in names]
        if self._sudo and paths:
            self._answer((*self._prefix, "rm", "-rf", "--", *paths), _TIMEOUT)
            return
        self._files.remove(paths)

    def write_attribute(self, path: str, text: str) -> None:
        """Writes a file of a cgroup of the run; where that is not allowed, the file stays as it is."""
        if self._sudo:
            self._answer((*self._prefix, "tee", "--", path), _TIMEOUT, text.encode())
            return
        with suppress(HostError):
            self._files.write_attribute(path, text)

    def log(self, invocation: str, lines: int, pid: int = 0) -> tuple[str, ...]:
        """The last lines that one invocation of a unit wrote; empty where there are none or none are readable.

        journald learns the unit of a process from /proc: of one that ended at once it knows only the number.
        """
        if not re.fullmatch(r"[0-9a-f]{32}", invocation):
            return ()
        argv = (*self._prefix, "journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={lines}",
                f"_SYSTEMD_INVOCATION_ID={invocation}", *(("+", f"_PID={pid}") if pid else ()))  # fmt: skip
        done = self._programs.run(argv, timeout=_TIMEOUT)
        return () if isinstance(done, Missing) else tuple(done.value.stdout.splitlines())
