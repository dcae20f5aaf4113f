"""A systemd manager and its kernel's files as `base.Manager`: the system's, as root or through `sudo -n`, or the user's own."""

import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.quantities import QuantityError, parse_span
from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines import bus
from cgroup_preflight.engines.answers import answered, cannot_write, error_words, first_line
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.hold import wait_until
from cgroup_preflight.host.cgroup import Effective, Observer
from cgroup_preflight.host.command import CommandRunner, Completed
from cgroup_preflight.host.systemd import parse_unit_show
from cgroup_preflight.rollout.base import DeadMan, Shown
from cgroup_preflight.rollout.dead_man import UNIT, WANTED, commands, rollout_of, service_text, timer_text, wanted_text
from cgroup_preflight.rollout.drop_ins import HOLD, control_names
from cgroup_preflight.rollout.limits import LIMITS, Values, assignment, of_bus, on_bus

if TYPE_CHECKING:
    from cgroup_preflight.engines.bus import Bus
    from cgroup_preflight.host.door import Clock, Files

_TIMEOUT = 30.0
#: With systemd before 257 and kernels before 6.16 a memory limit below the usage blocks PID 1 while it reclaims.
_SET_TIMEOUT = 90.0
_BUS_NAMES = {limit.bus: name for name, limit in LIMITS.items()}
_PERIOD = "CPUQuotaPeriodUSec"
_SHOWN = ("Id", "LoadState", "ActiveState", "ControlGroup", "Transient", "DropInPaths", _PERIOD, *_BUS_NAMES)
_OBJECT, _NAME = "/org/freedesktop/systemd1", "org.freedesktop.systemd1"
_TIMER, _SERVICE = f"{UNIT}.timer", f"{UNIT}.service"
_OVER = ("inactive", "failed")
#: How long a stop or a start of the timer may take, and how often that is looked at.
_WAIT_SECONDS, _POLL = 30.0, 0.1
#: A daemon-reexec closes the manager's socket for a moment: how often it is asked, and seconds between.
_TRIES, _PAUSE = 4, 0.5
#: The end of the folder to which a user's manager writes what `set-property` changes (systemd, src/libsystemd/sd-path/path-lookup.c).
_USER_CONTROL = "/systemd/user.control"
#: Where the programs of the timer are.
_PATH = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin")


class Systemd:
    """One manager; `home` is that of its user."""

    def __init__(
        self, choice: EngineChoice, programs: CommandRunner, private_bus: "Bus | None", observer: Observer, files: "Files", clock: "Clock", *,
        uid: int, home: str,
    ) -> None:  # fmt: skip
        self.name = choice.name or ""
        self._programs, self._bus, self._observer, self._fs, self._clock = programs, private_bus, observer, files, clock
        self._prefix = ("sudo", "-n") if choice.sudo else ()
        self._words = ("--user",) if choice.name == "user" else ()
        self._home, run = home, f"/run/user/{uid}" if self._words else "/run"
        self._units = f"{run}/systemd/{'user' if self._words else 'system'}"
        self._known_lasting = "" if self._words else "/etc/systemd/system"

    # --- units

    def show(self, units: Sequence[str]) -> dict[str, Shown]:
        """As `Manager.show`."""
        return {unit: _shown(item) for unit, item in self._shown_by_program(units, _SHOWN, tries=1).items()}

    def values(self, units: Sequence[str]) -> dict[str, Values]:
        """As `Manager.values`: over the manager's own socket where this process is root."""
        if self._bus is not None:
            with suppress(bus.BusError):
                found = self._bus.show(units, tuple(_BUS_NAMES))
                return {unit: _values(shown) for unit, shown in found.items()}
        return {unit: _values(item) for unit, item in self._shown_by_program(units, ("Id", *_BUS_NAMES)).items()}

    def set(self, unit: str, values: Values, *, runtime: bool) -> str:
        """As `Manager.set`."""
        if self._bus is not None:
            numbers = {LIMITS[name].bus: on_bus(value) for name, value in values.items()}
            with suppress(bus.BusError):
                (answer,) = self._bus.call([bus.set_properties(unit, numbers, runtime=runtime)])
                if answer is not bus.REFUSED:
                    return ""
        # Also for the words, which the manager's own socket gave with its refusal.
        words = (assignment(name, value) for name, value in values.items())
        done = self._systemctl(
            "set-property", *(("--runtime",) if runtime else ()), "--", unit, *words, timeout=_SET_TIMEOUT
        )
        return error_words(done)

    def reload(self) -> None:
        """As `Manager.reload`."""
        if not self._asked("Reload"):
            self._require("daemon-reload")

    # --- the machine

    def boot(self) -> str:
        """As `Manager.boot`: the number that the kernel chose at its start (random(4)); of a user's manager that counts, too."""
        found = self._fs.read("/proc/sys/kernel/random/boot_id")
        if isinstance(found, Missing):
            raise HostError(f"cannot tell one start of the host from the next: {found}", where="boot_id",
                            remedy=Remedy(title="run where /proc is mounted"))  # fmt: skip
        return found.value.strip()

    def attribute(self, cgroup: str, name: str) -> str | None:
        """As `Manager.attribute`."""
        found = self._observer.read(cgroup, name)
        if isinstance(found, Missing) and found.why not in (Why.ABSENT, Why.UNSUPPORTED):
            # Not known is neither no limit nor no memory in use.
            raise HostError(f"a file of the kernel cannot be read: {found}", where=f"{cgroup}/{name}",
                            remedy=Remedy(title="look at this file"))  # fmt: skip
        return found.value if isinstance(found, Known) else None

    def effective(self, cgroup: str) -> Effective:
        """As `Manager.effective`."""
        return self._observer.effective(cgroup)

    # --- files

    def control_files(self, unit: str, names: Sequence[str]) -> tuple[str, ...]:
        """As `Manager.control_files`: first the persistent ones, then those at run time (systemd.unit(5))."""
        folders = (f"{self._lasting()}.control", f"{self._units}.control")
        return tuple(f"{folder}/{unit}.d/{name}" for folder in folders for name in control_names(names))

    def _lasting(self) -> str:
        """Where unit files are persistent. A user's manager says it: XDG_CONFIG_HOME of its environment decides (file-hierarchy(7))."""
        if not self._known_lasting:
            done = self._systemctl("show", "--property=UnitPath")
            if done.returncode:
                raise _refused(done, "show", "--property=UnitPath")
            runtime = f"{self._units}.control"
            found = (path for path in _words(done.stdout.strip().removeprefix("UnitPath="))
                     if path.endswith(_USER_CONTROL) and path != runtime)  # fmt: skip
            self._known_lasting = next(found, f"{self._home}/.config{_USER_CONTROL}").removesuffix(".control")
        return self._known_lasting

    def hold_file(self, unit: str) -> str:
        """As `Manager.hold_file`."""
        return f"{self._units}/{unit}.d/{HOLD}"

    def read_file(self, path: str) -> str | None:
        """As `Manager.read_file`. Raises HostError for a file that exists and cannot be read."""
        found = self._fs.read(path)
        if isinstance(found, Known):
            return found.value
        if found.why is Why.ABSENT:
            return None
        exists = self._fs.exists(path)
        if isinstance(exists, Known) and not exists.value:
            return None
        fix = "look at the host and its connection" if found.why is Why.FAILED else "run as root"
        raise HostError(f"cannot read a file: {found.detail or found.why.value}", where=path, remedy=Remedy(title=fix))

    def write_file(self, path: str, text: str) -> None:
        """As `Manager.write_file`."""
        folder = os.path.dirname(path)
        if not self._by_sudo(path):
            self._fs.make_folder(folder)
            found = self._fs.status(path)
            self._fs.write(path, text.encode(), stat.S_IMODE(found.value.mode) if isinstance(found, Known) else 0o644)
            return
        for argv, stdin in (
            ((*self._prefix, "mkdir", "-p", "--", folder), b""),
            ((*self._prefix, "tee", "--", path), text.encode()),
        ):
            done = self._answer(argv, stdin=stdin)
            if done.returncode:
                raise cannot_write(path, first_line(done.stderr))

    def _by_sudo(self, path: str) -> bool:
        """Whether it takes root to write there; the files of the timer are below the user's home."""
        return bool(self._prefix) and not path.startswith(f"{self._home}/")

    def remove_files(self, paths: Sequence[str]) -> None:
        """As `Manager.remove_files`; a folder of drop-ins that is empty then goes, too."""
        if self._prefix and paths:
            self._answer((*self._prefix, "rm", "-f", "--", *paths))
        else:
            self._fs.remove(paths)
        # Never /run/systemd/system, which is often empty: without it systemctl says that systemd does not run (sd_booted(3)).
        folders = sorted({folder for path in paths if (folder := os.path.dirname(path)).endswith(".d")})
        exist = [folder for folder in folders if value_or(self._fs.exists(folder), True)]
        if exist:
            self._answer((*self._prefix, "rmdir", "--ignore-fail-on-non-empty", "--", *exist))

    def sync_files(self, paths: Sequence[str]) -> None:
        """As `Manager.sync_files`, with sync(1)."""
        known = [path for path in paths if self.read_file(path) is not None]
        folders = sorted(
            folder for folder in {os.path.dirname(path) for path in paths} if value_or(self._fs.exists(folder), False)
        )
        if known or folders:
            done = self._answer((*self._prefix, "sync", "--", *known, *folders), timeout=_SET_TIMEOUT)
            if done.returncode:
                raise cannot_write(folders[0], first_line(done.stderr))

    # --- the timer

    def arm(self, dead_man: DeadMan) -> None:
        """As `Manager.arm`: unit files that outlive this tool; those at run time go with the next start of the host."""
        other = self.armed_for()
        if other not in ("", dead_man.rollout):
            # Its tool may be on another machine. Without this timer, nobody would restore what it has changed.
            raise HostError(f"another rollout of this service manager has begun: {printable(other)[:80]}", where=_TIMER,
                            remedy=Remedy(title="wait for its end"))  # fmt: skip
        programs = {name: self._path_of(name) for name in ("systemctl", "rm", "cp", "touch", "sync")}
        folder = self._lasting() if dead_man.persistent else self._units
        plan = replace(dead_man, own=self._timer_files(folder)) if dead_man.persistent else dead_man
        texts = (wanted_text(), timer_text(plan), service_text(plan, commands(plan, programs, self._words)))
        files = dict(zip(self._timer_files(folder), texts, strict=True))
        if any(self.read_file(path) != text for path, text in files.items()):
            # The service first: what starts it must find it.
            for path in reversed(files):
                self.write_file(path, files[path])
            if dead_man.persistent:
                self.sync_files(tuple(files))
            self.reload()
        self._restart()
        if self.armed_for() != dead_man.rollout:
            raise HostError("the timer that would restore the old values does not run", where=_TIMER,
                            remedy=Remedy(title="read why", commands=(("systemctl", *self._words, "status", _TIMER),)))  # fmt: skip

    def _path_of(self, program: str) -> str:
        places = [f"{folder}/{program}" for folder in _PATH]
        return next((path for path in places if value_or(self._fs.exists(path), False)), places[0])

    def _restart(self) -> None:
        if not self._asked("RestartUnit", _TIMER, "replace") or not self._becomes("active"):
            self._require("restart", "--", _TIMER)

    def _timer_files(self, folder: str) -> tuple[str, ...]:
        return (f"{folder}/{WANTED}", f"{folder}/{_TIMER}", f"{folder}/{_SERVICE}")

    def renew(self) -> None:
        """As `Manager.renew`: quick where this process is root, because an OOM kill may be the next thing to see."""
        # A renewal that failed behind its answer is seen by the next one.
        if not (self._bus is not None and self._is(_TIMER, "active") and self._asked("RestartUnit", _TIMER, "replace")):
            self._require("restart", "--", _TIMER)

    def disarm(self) -> None:
        """As `Manager.disarm`. A restoration that has begun goes on to its end, if that is not long; then it is stopped."""
        if not self._asked("StopUnit", _TIMER, "replace"):
            self._systemctl("stop", "--", _TIMER)
        if not (self._becomes(*_OVER) and self._becomes(*_OVER, unit=_SERVICE)):
            # One by one: systemd 262 stops none of several if one of them does not exist.
            for unit in (_TIMER, _SERVICE):
                self._systemctl("stop", "--", unit)
        lasting = self._timer_files(self._lasting())
        was_lasting = any(self.read_file(path) is not None for path in lasting)
        # What starts it first: a crash here must not leave a timer that starts with the host.
        self.remove_files([*lasting, *self._timer_files(self._units)])
        if was_lasting:
            self.sync_files(lasting)
        # Until then timers.target still wants the timer, and a start of what needs that target starts a timer that was
        # stopped: of a user's manager each start of a service (systemd, transaction_add_job_and_dependencies).
        self.reload()

    def armed_for(self) -> str:
        """As `Manager.armed_for`."""
        shown = self._show([_TIMER], ("Id", "SubState", "Description")).get(_TIMER, {})
        return rollout_of(shown.get("Description", "")) if shown.get("SubState") in ("waiting", "running") else ""

    def _becomes(self, *states: str, unit: str = _TIMER) -> bool:
        """Whether a unit is in one of the states, soon."""
        return wait_until(self._clock, lambda: self._is(unit, *states), _WAIT_SECONDS, pause_max=_POLL)

    def _is(self, unit: str, *states: str) -> bool:
        return self._show([unit], ("Id", "ActiveState")).get(unit, {}).get("ActiveState", "inactive") in states

    # --- programs

    def services(self, units: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """ActiveState, InvocationID and NRestarts of services, by unit."""
        return self._show(units, ("Id", "ActiveState", "InvocationID", "NRestarts")) if units else {}

    def _show(self, units: Sequence[str], names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """Properties of units, by unit; `names` begin with Id."""
        if self._bus is not None:
            with suppress(bus.BusError):
                return dict(self._bus.show(units, names))
        return self._shown_by_program(units, names)

    def _shown_by_program(
        self, units: Sequence[str], names: Sequence[str], *, tries: int = _TRIES
    ) -> dict[str, Mapping[str, str]]:
        """As `_show`. A manager that cannot be reached is an error: no answer must not look like units without limits."""
        words = ("show", f"--property={','.join(names)}")
        while True:
            done, tries = self._systemctl(*words, "--", *units), tries - 1
            found: dict[str, Mapping[str, str]] = {
                item["Id"]: item for item in parse_unit_show(done.stdout) if "Id" in item
            }
            if found or not done.returncode:
                return found
            if tries <= 0:
                raise _refused(done, *words)
            self._clock.sleep(_PAUSE)

    def _asked(self, member: str, *words: str) -> bool:
        """Whether the manager did it, or will, without a process: over its own socket, where this process is root."""
        if self._bus is None:
            return False
        with suppress(bus.BusError):
            (answer,) = self._bus.call(
                [bus.Call(path=_OBJECT, interface=f"{_NAME}.Manager", member=member, words=words)]
            )
            return answer is not bus.REFUSED
        return False

    def _systemctl(self, *words: str, timeout: float = _TIMEOUT) -> Completed:
        return self._answer((*self._prefix, "systemctl", *self._words, *words), timeout=timeout)

    def _require(self, *words: str) -> None:
        done = self._systemctl(*words)
        if done.returncode:
            raise _refused(done, *words)

    def _answer(self, argv: tuple[str, ...], *, timeout: float = _TIMEOUT, stdin: bytes = b"") -> Completed:
        return answered(argv, self._programs.run(argv, timeout=timeout, stdin=stdin))


def _refused(done: Completed, *words: str) -> HostError:
    return HostError(error_words(done), where=f"systemctl {' '.join(words)}",
                     remedy=Remedy(title="read in the journal why systemd refused", commands=(("journalctl", "-xe"),)))  # fmt: skip


def _shown(item: Mapping[str, str]) -> Shown:
    period = item.get(_PERIOD, "infinity")
    return Shown(
        unit=item["Id"], cgroup=item.get("ControlGroup", ""), values=_values(item), period=_number(period),
        load=item.get("LoadState", ""), active=item.get("ActiveState", ""),
        transient=item.get("Transient", "no") in ("yes", "True"), drop_ins=_words(item.get("DropInPaths", "")),
    )  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    """A list, whose strange words `systemctl show` quotes (systemd, src/shared/bus-print-properties.c). Raises HostError."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise _not_understood(text) from None


def _values(item: Mapping[str, str]) -> dict[str, int | None]:
    return {_BUS_NAMES[name]: _number(text) for name, text in item.items() if name in _BUS_NAMES}


def _number(text: str) -> int | None:
    """A number of the bus, or a span as `systemctl show` words it. Raises HostError."""
    try:
        return of_bus(text) if not text[-1:].isalpha() or text == "infinity" else parse_span(text)
    except (ValueError, QuantityError):
        raise _not_understood(text) from None


def _not_understood(text: str) -> HostError:
    return HostError(f"systemd shows a value that is not understood: {text[:80]!r}", where="systemctl show",
                     remedy=Remedy(title="report this as a bug"))  # fmt: skip
