"""How the payloads of probes come into the cgroups that they push in: as services, or by moving processes there.

As services everywhere but in a guest. There starting processes takes most of the time of a run, and half of that is
the service manager's part. So in a guest, whose only user is this run, payloads start while the services run and wait
for their time to be over. They have the least weight then: they take the CPU time that no service wants. Later each
is moved into a slice of its own, which the manager makes with the settings that a service would have.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.plan.unit_syntax import setting_pairs
from cgroup_preflight.plan.unitfile import slice_file
from cgroup_preflight.smoke.payload import SCRIPT
from cgroup_preflight.smoke.probe_plan import ProbeUnit, probe_launch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol

    from cgroup_preflight.host.command import Running
    from cgroup_preflight.host.door import Door, Fifo, Files
    from cgroup_preflight.plan.model import UnitFile
else:
    Protocol = object

#: The most payloads that wait at the same time.
AT_ONCE = 8
_SHELL, _SCRIPT = "/bin/sh", "payload.sh"
#: The file system in memory of a guest. Elsewhere it is also for other programs, which a full one would harm.
STORES = "/dev/shm"  # noqa: S108 - its names are made up for the run
_PIPE_MAX = 1 << 16
#: On another machine nothing keeps the FIFO open between two lines, so the payload does: its input never comes to an end.
_KEEPS_INPUT = 'exec <>"$0"; exec "$@"'


class Payloads(Protocol):
    """What `Probes` uses: payloads in their cgroups, each with a file for what it says."""

    def started(self, units: Sequence[ProbeUnit], longest: float) -> "AbstractContextManager[dict[str, str]]":
        """Starts payloads, which live `longest` seconds at most; why by unit, for those that did not start."""

    def enter(self, item: ProbeUnit) -> str:
        """Moves a payload to its cgroup unless it is in it; why that could not be, else empty."""

    def cgroup(self, item: ProbeUnit) -> str:
        """The cgroup of a payload."""

    def ask(self, item: ProbeUnit, line: str) -> None:
        """Gives a payload its next line."""

    def output(self, item: ProbeUnit) -> str:
        """The file with what a payload says."""

    def heard(self, seconds: float) -> bool:
        """Waits until a payload says something, for at most `seconds`; False, at once, where only its file shows that."""


class _Lines:
    """The program of payloads, and for each the FIFO for its lines and its gate."""

    def __init__(self, files: "Files", folder: str) -> None:
        self._files, self._folder = files, folder
        self._asks: dict[str, Fifo] = {}
        self._drops: dict[str, int] = {}
        #: Those that have something to do.
        self._busy: set[str] = set()
        self._has_script = False

    def file(self, name: str, kind: str) -> str:
        return os.path.join(self._folder, f"{name}.{kind}")

    def command(self, name: str) -> tuple[str, ...]:
        """How a payload starts, with its gate."""
        if not self._has_script:
            self._files.write_all(self._folder, {_SCRIPT: SCRIPT.encode()})
            self._has_script = True
        gate = self.file(name, "gate")
        self._files.fifo(gate).close()
        return _SHELL, os.path.join(self._folder, _SCRIPT), gate

    def open(self, name: str) -> str:
        path = self.file(name, "ask")
        self._asks[name] = self._files.fifo(path)
        return path

    def ask(self, name: str, line: str) -> None:
        self._asks[name].write(line)
        if line.startswith("drop "):
            self._drops[name] = self._drops.get(name, 0) + 1
            self._busy.discard(name)
        else:
            self._busy.add(name)

    def is_idle(self, name: str) -> bool:
        """Whether all has ended that a payload has started."""
        said = self._files.data(self.file(name, "out"))
        return (
            name not in self._busy
            and isinstance(said, Known)
            and said.value.count(b"over ") == self._drops.get(name, 0)
        )

    def close(self, name: str) -> None:
        if (fifo := self._asks.pop(name, None)) is not None:
            fifo.close()


class ServicePayloads:
    """Payloads as services of the engine, as `user` (uid, gid); `slices` are the cgroups of slices by unit."""

    def __init__(
        self, engine: Engine, files: "Files", slices: Mapping[str, str], folder: str, user: tuple[int, int] | None,
        *, keeps_input: bool = False,
    ) -> None:  # fmt: skip
        """`keeps_input`: on another machine."""
        self._engine, self._slices, self._user = engine, slices, user
        self._lines = _Lines(files, folder)
        self._keeps_input = keeps_input

    @contextmanager
    def started(self, units: Sequence[ProbeUnit], longest: float) -> Iterator[dict[str, str]]:
        """As `Payloads.started`. Raises HostError."""
        with ExitStack() as stack:
            launches = []
            for item in units:
                stack.callback(self._lines.close, item.unit)
                ask, command = self._lines.open(item.unit), self._lines.command(item.unit)
                if self._keeps_input:
                    ask, command = "", (_SHELL, "-c", _KEEPS_INPUT, ask, *command)
                launches.append(probe_launch(item, command=command, user=self._user, longest=longest, ask=ask,
                                             output=self.output(item)))  # fmt: skip
            yield stack.enter_context(self._engine.started(launches))

    def enter(self, item: ProbeUnit) -> str:  # noqa: ARG002 - a service begins in its cgroup
        return ""

    def cgroup(self, item: ProbeUnit) -> str:
        return f"{self._slices[item.in_slice]}/{item.unit}"

    def ask(self, item: ProbeUnit, line: str) -> None:
        self._lines.ask(item.unit, line)

    def output(self, item: ProbeUnit) -> str:
        return self._lines.file(item.unit, "out")

    def heard(self, seconds: float) -> bool:  # noqa: ARG002 - a service has no pipe to this tool
        return False


class MovedPayloads:
    """Payloads that this process starts, and moves into slices that the engine makes; as root, in a guest.

    One that has answered stays where it is, until it is moved again for the next unit.
    """

    def __init__(self, engine: Engine, observer: Observer, door: "Door", scope: str, folder: str) -> None:
        self._engine, self._observer, self._programs = engine, observer, door.programs
        self._files, self._processes = door.files, door.processes
        self._scope, self._folder = scope, folder
        #: A file system in memory for them alone, and whether it was tried to make one.
        self._store, self._has_tried = STORES, False
        # No dash: the slice is next to that of the run, and not in it.
        self._waiting = f"{scope}_wait.slice"
        self._lines = _Lines(door.files, folder)
        self._cgroups: dict[str, str] = {}
        #: By name, which is that of the first unit; and the names by the unit that each is for now.
        self._begun: dict[str, Running] = {}
        self._names: dict[str, str] = {}

    def begin(self, units: Sequence[ProbeUnit], later: Sequence[ProbeUnit], pause: Callable[[], None]) -> None:
        """Starts the first payloads, which wait, and calls `pause` after each; makes their slices, and of `later` ones, too.

        Nothing is in these slices meanwhile. The manager has time for them now, and much to do later. Raises HostError,
        OSError.
        """
        if not units:
            return
        waiting = slice_file(self._waiting, (("CPUWeight", "1"),))
        cgroup = self._make((*units[:AT_ONCE], *later[:AT_ONCE]), waiting)[self._waiting]
        for item in units[:AT_ONCE]:
            self._start(item)
            self._put(item, cgroup)
            pause()

    def _make(self, units: Sequence[ProbeUnit], *more: "UnitFile") -> Mapping[str, str]:
        """The slices of those units that have none, and `more`; their cgroups by unit."""
        # No slice of a config can have the name: the scope in it is random.
        new = [item for item in units if item.unit not in self._cgroups]
        places = {
            item.unit: f"{item.in_slice.removesuffix('.slice')}-{self._scope}_{number}.slice"
            for number, item in enumerate(new, len(self._cgroups))
        }
        files = [slice_file(places[item.unit], (*setting_pairs(item.settings), *item.extra)) for item in new]
        made = [*more, *files]
        cgroups = self._engine.create_slices(made, [file.path for file in made]) if made else {}
        self._cgroups |= {unit: cgroups[place] for unit, place in places.items()}
        return cgroups

    def close(self) -> None:
        """Ends all."""
        for name, process in self._begun.items():
            self._lines.close(name)
            self._programs.stop(process)
        self._begun.clear()
        if self._store != STORES:
            with suppress(HostError):
                self._files.unmount(self._store)
            self._store = STORES

    @contextmanager
    def started(self, units: Sequence[ProbeUnit], longest: float) -> Iterator[dict[str, str]]:  # noqa: ARG002 - it ends with the guest
        """As `Payloads.started`. Raises HostError, OSError.

        They wait elsewhere, because services can still be in the slices: no limit refuses a task that is moved.
        """
        self._make(units)
        with ExitStack() as stack:
            for item in units:
                stack.callback(self._end, item)
                if item.unit not in self._names:
                    self._start(item)
            yield {}

    def enter(self, item: ProbeUnit) -> str:
        cgroup, pid = self._cgroups[item.unit], self._process(item).pid
        if not self._observer.is_in(pid, cgroup):
            self._put(item, cgroup)
        return "" if self._observer.is_in(pid, cgroup) else f"its process could not be moved to {cgroup}"

    def cgroup(self, item: ProbeUnit) -> str:
        return self._cgroups[item.unit]

    def ask(self, item: ProbeUnit, line: str) -> None:
        self._lines.ask(self._names[item.unit], line)

    def output(self, item: ProbeUnit) -> str:
        return self._lines.file(self._names[item.unit], "out")

    def heard(self, seconds: float) -> bool:
        pipes = {
            item.stdout.fileno(): item.stdout for item in self._begun.values() if item.stdout and not item.stdout.closed
        }
        for number in self._processes.wait((), seconds, [*pipes]):
            # One that has ended can be read at once, again and again.
            if not os.read(number, _PIPE_MAX):
                pipes[number].close()
        return True

    def _process(self, item: ProbeUnit) -> "Running":
        return self._begun[self._names[item.unit]]

    def _start(self, item: ProbeUnit) -> None:
        """One that has nothing to do, or a new one."""
        free = next((name for name in self._begun if name not in self._names.values()), None)
        self._names[item.unit] = free or item.unit
        if free is None:
            stores = (f"{self._make_store()}/{item.unit}", f"{STORES}/{item.unit}.kept")
            files = (*stores, self._lines.open(item.unit), self._lines.file(item.unit, "out"))
            self._begun[item.unit] = self._programs.start((*self._lines.command(item.unit), *files))

    def _make_store(self) -> str:
        """A folder in memory for all payloads: one of their own has huge pages, and room for all memory of the guest.

        The usual one has room for half of it, and a payload whose file is full goes on with the memory of a process.
        """
        if not self._has_tried:
            self._has_tried = True
            with suppress(HostError):
                place = os.path.join(self._folder, "store")
                self._files.make_folder(place, 0o700)
                self._files.mount_memory(place)
                self._store = place
        return self._store

    def _put(self, item: ProbeUnit, cgroup: str) -> None:
        self._engine.write_attribute(self._observer.path(cgroup, "cgroup.procs"), str(self._process(item).pid))

    def _end(self, item: ProbeUnit) -> None:
        """Its work is over: it is free for the next unit, or ended where it still does something."""
        name = self._names.pop(item.unit, "")
        if not name or (self._lines.is_idle(name) and self._begun[name].poll() is None):
            return
        self._lines.close(name)
        self._programs.stop(self._begun.pop(name))
