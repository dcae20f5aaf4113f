"""Finds processes of the services outside of the run's cgroups, however they are parented.

What existed before the run is known by number; everything new is looked at while the run waits. A process is one of
the services if it was seen in the cgroup of one, if its parent is one, if it has the invocation id of a unit of the run,
its mount namespace or its program. Its place is the cgroup of that service and no other of the run: a neighbour has
other limits, and a cgroup that it made next to its own has none. What is in the run's slices and in no service's cgroup
counts, whoever started it. In a guest, which belongs to the run, every other new process counts too, unless the service
manager itself started it for a unit that existed before the run. On a host so does what is in a unit that a service had made.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from cgroup_preflight.core import codes
from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.core.unit_paths import SYSTEM, TRANSIENT
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.host.cgroup import Observer, levels
from cgroup_preflight.host.door import Door
from cgroup_preflight.host.procfs import ProcessStat
from cgroup_preflight.smoke.new_units import NewUnits

#: Seconds between two looks at all processes.
INTERVAL = 0.25
#: So many units of unknown origin are named.
_NAMED = 5
#: Kernel threads, and what they start, have this parent.
_KTHREADD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A process of the run outside of its cgroups; `unit` is that of the run it belongs to, empty where unknown."""

    pid: int
    cgroup: str
    command: str
    unit: str


class _Process:
    """A process that is newer than the run. `ours`: it is of a service; `doubted`: how often it was seen elsewhere.

    `mounts`: its mount namespace, empty where it is that of a manager or cannot be read.
    """

    def __init__(self, stat: ProcessStat) -> None:
        self.stat = stat
        self.unit = self.mounts = ""
        self.ours = self.innocent = False
        self.doubted = 0


class Outside:
    """All new processes of one run; `strays` so far and `handles` of them.

    `units` were made meanwhile by services, `unclaimed` nobody knows by whom, with the command that runs in them.
    """

    def __init__(self, engine: Engine, observer: Observer, door: Door, *, inside: bool) -> None:
        self._engine, self._observer, self._door, self._inside = engine, observer, door, inside
        self._before: set[int] = set()
        self._managers: set[int] = set()
        self._shared_mounts: set[str] = set()
        self._known: dict[int, _Process] = {}
        self._invocations: Mapping[str, str] = {}
        self._programs: Mapping[tuple[int, int], str] = {}
        self._places: Mapping[str, str] = {}
        self._slices: frozenset[str] = frozenset()
        self._new_units = NewUnits(door.files, inside=inside)
        #: Whether programs were in the root cgroup before the run: systemd leaves it to the kernel's threads, others do not.
        self._root_is_used = False
        self._files_before: set[str] = set()
        self._next = float("inf")
        self.strays: list[Stray] = []
        self.handles: list[int] = []
        self.units: set[str] = set()
        self.unclaimed: dict[str, str] = {}

    def begin(self, programs: Mapping[str, str], *, root: bool = False) -> None:
        """Before anything of the services runs; `programs` by unit. `root`: one of them can be root."""
        self._before = set(self._observer.pids())
        self._observer.prefetch_processes((pid, ("comm",)) for pid in self._before)
        self._managers = {1, *(pid for pid in self._before if self._observer.comm(pid) == "systemd")}
        self._shared_mounts = set(map(self._observer.mounts, ["self", *map(str, self._managers)]))
        files = ((self._door.files.identity(path), unit) for unit, path in programs.items())
        self._programs = {reading.value: unit for reading, unit in files if isinstance(reading, Known)}
        self._new_units.begin(programs, root=root)
        self._files_before = self._unit_files() if self._inside else set()
        self._root_is_used = not self._inside and self._has_programs("")
        self._next = 0.0

    def belongs(self, invocations: Mapping[str, str], places: Mapping[str, str], slices: Iterable[str]) -> None:
        """The units of the run, by invocation id and by cgroup; what is in these is of a service, whoever started it.

        `slices` are the cgroups of the run's slices.
        """
        self._invocations, self._places = invocations, places
        # An empty path is the mount, with everything below it.
        self._slices = frozenset(filter(None, slices))
        for cgroup, unit in places.items():
            for pid in self._observer.processes(cgroup):
                if (stat := self._observer.stat(pid)) is not None:
                    process = self._known[pid] = _Process(stat)
                    process.ours, process.unit = True, unit

    def look(self) -> None:
        """Looks at all new processes, if the last look was long enough ago."""
        now = self._door.clock.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL
            self.look_now()

    def look_now(self) -> None:
        """Looks at all new processes."""
        current = set(self._observer.pids())
        # A number of an old process that is free again can be given to a new one.
        self._before &= current
        for pid in list(self._known):
            if pid not in current:
                del self._known[pid]
        fresh = sorted(current - self._before)
        self._observer.prefetch_processes(map(self._wanted, fresh))
        for pid in fresh:
            self._look_at(pid)
        self._observer.forget()
        # On another machine this is a round trip for each manager, and there the last look has to do.
        if self._inside or not self._door.host:
            self._new_units.look()

    def _wanted(self, pid: int) -> tuple[int, tuple[str, ...]]:
        """What a look reads of a process."""
        process = self._known.get(pid)
        if process is None:
            return pid, ("stat", "cgroup")
        return pid, () if process.innocent else ("cgroup",)

    def finish(self, said: Callable[[], Mapping[str, str]] = dict) -> None:
        """The last look; doubts are settled by a second one. `said` is the output by service."""
        self.look_now()
        if any(item.doubted == 1 for item in self._known.values()):
            self._door.clock.sleep(0.1)
            self.look_now()
        self._new_units.look()
        if self._new_units.found:
            self._find_owners(said)
        self._next = float("inf")

    def _find_owners(self, said: Callable[[], Mapping[str, str]]) -> None:
        """Ends the units that services had made, and notes the others."""
        new = sorted(self._new_units.found, key=lambda unit: (unit.name, unit.folder))
        asked = dict.fromkeys(new, "") if self._inside else self._new_units.asked_for(said())
        places = [] if self._inside else list(self._suspects())
        for unit in new:
            held = [(pid, where) for pid, where in places if unit.holds(where)]
            if unit not in asked:
                self.unclaimed[unit.name] = next((self._observer.command(pid) for pid, _ in held), "")
                continue
            self.units.add(unit.name)
            for pid, where in held:
                self._claim(pid, where, asked[unit])
        # Of another manager only the processes are ended.
        mine = f"{os.path.dirname(self._engine.unit_folder)}/transient"
        if names := sorted({unit.name for unit in asked if self._inside or unit.folder == mine}):
            self._engine.stop(names)

    def _claim(self, pid: int, cgroup: str, unit: str) -> None:
        process = self._known[pid]
        process.ours, process.unit = True, unit
        if all(pid != known.pid for known in self.strays):
            self._judge(pid, process, cgroup)

    def _suspects(self) -> Iterator[tuple[int, str]]:
        """The new processes that may be of a service, each with its cgroup."""
        for pid, process in self._known.items():
            where = None if process.innocent else self._observer.cgroup_of(pid)
            if isinstance(where, Known):
                yield pid, where.value

    def _look_at(self, pid: int) -> None:
        process = self._known.get(pid)
        if process is None:
            stat = self._observer.stat(pid)
            if stat is None:
                return
            process = self._known[pid] = _Process(stat)
            self._first(pid, process)
        if process.innocent:
            return
        where = self._observer.cgroup_of(pid)
        if not isinstance(where, Known):
            return
        unit = next((self._places[level] for level in levels(where.value) if level in self._places), "")
        if unit and not process.unit:
            # One that came from another service before it was seen there has that one's mounts.
            process.ours, process.unit = True, self._by_mounts(pid, process) or unit
        if unit and process.unit == unit:
            process.doubted = 0
            process.mounts = process.mounts or self._own_mounts(pid)
        elif all(pid != known.pid for known in self.strays):
            self._judge(pid, process, where.value)

    def _first(self, pid: int, process: _Process) -> None:
        parent = self._known.get(process.stat.parent)
        if process.stat.kernel or process.stat.parent == _KTHREADD:
            process.innocent = True
        elif process.stat.parent in self._before:
            # Children of what ran before are none of a service, unless they were given to a manager as orphans.
            # Other programs can adopt orphans, too (PR_SET_CHILD_SUBREAPER), but have none of their own in the run's slices.
            process.innocent = process.stat.parent not in self._managers and not self._is_in_slices(pid)
        elif parent is not None:
            process.ours, process.unit, process.innocent = parent.ours, parent.unit, parent.innocent

    def _judge(self, pid: int, process: _Process, cgroup: str) -> None:
        if not process.ours:
            self._recognise(pid, process)
        if not process.ours:
            process.doubted += 1
            if not self._is_odd(pid, cgroup):
                process.innocent = self._inside
                return
            # The manager moves what it starts from its own cgroup: only what stays elsewhere counts.
            if process.doubted < 2:
                return
        handle = self._door.processes.open(pid)
        stat = self._observer.stat(pid)
        if stat is None or stat.started != process.stat.started:
            if handle is not None:
                self._door.processes.close(handle)
            return
        if handle is not None:
            self.handles.append(handle)
        command = self._observer.command(pid)
        self.strays.append(Stray(pid=pid, cgroup=cgroup, command=command, unit=process.unit))

    def _recognise(self, pid: int, process: _Process) -> None:
        """Whether it has the invocation id of a unit of the run or its mounts, or no such id and a program of the run."""
        found = self._observer.invocation(pid)
        unit = self._invocations.get(found, "") or self._by_mounts(pid, process)
        if not unit and not found and process.stat.parent in self._managers:
            identity = self._door.files.identity(f"/proc/{pid}/exe")
            unit = self._programs.get(identity.value, "") if isinstance(identity, Known) else ""
        process.ours, process.unit = bool(unit), unit

    def _own_mounts(self, pid: int) -> str:
        """The mount namespace of a process; empty where it is one that says nothing about services."""
        found = self._observer.mounts(pid)
        return "" if found in self._shared_mounts else found

    def _by_mounts(self, pid: int, process: _Process) -> str:
        """The unit whose processes have the mount namespace of this one; empty where there is none.

        systemd makes one for each process that it starts of a unit with a sandbox, and what this starts inherits it. The
        kernel gives the number of one that is gone to the next one, so the other process must still have it.
        """
        mounts = process.mounts = process.mounts or self._own_mounts(pid)
        if not mounts:
            return ""
        others = ((each, other.unit) for each, other in self._known.items() if other.unit and other.mounts == mounts)
        return next((unit for each, unit in others if each != pid and self._observer.mounts(each) == mounts), "")

    def _is_in_slices(self, pid: int) -> bool:
        """Whether a process is in a slice of the run, on a host: in a guest the run has processes of its own there."""
        where = None if self._inside else self._observer.cgroup_of(pid)
        return isinstance(where, Known) and not self._slices.isdisjoint(levels(where.value))

    def _is_odd(self, pid: int, cgroup: str) -> bool:
        """Whether a process counts although nothing says that it is of a service."""
        if cgroup == "/":
            return not self._root_is_used
        if not self._inside:
            return not self._slices.isdisjoint(levels(cgroup))
        unit = next((part for part in reversed(cgroup.split("/")) if part.endswith((".service", ".scope"))), "")
        if not unit or pid not in self._engine.main_processes(unit):
            return True
        # The manager started it, for a unit that something wrote or changed during the run?
        return not self._files_before.issuperset({unit, f"{unit}.d"} & self._unit_files())

    def _has_programs(self, cgroup: str) -> bool:
        """Whether a process that is none of the kernel's is in exactly this cgroup."""
        pids = map(int, value_or(self._observer.read(cgroup, "cgroup.procs"), "").split())
        stats = (self._observer.stat(pid) for pid in pids)
        return any(stat is not None and not stat.kernel and stat.parent != _KTHREADD for stat in stats)

    def _unit_files(self) -> set[str]:
        """Names of unit files, and of folders with drop-ins of them; transient units are looked at apart."""
        folders = (folder for folder in SYSTEM if folder != TRANSIENT)
        return {name for folder in folders for name in value_or(self._door.files.names(folder), ())}


def outside_findings(
    strangers: Iterable[Stray], units: Iterable[str], unclaimed: Mapping[str, str]
) -> Iterator[Finding]:  # fmt: skip
    """Fails for processes and units that appeared during the run outside of it; a warning for units of unknown origin."""
    remedy = Remedy(title="start these programs as services of their own, with limits of their own")
    for stray in strangers:
        message = (
            f"process {stray.pid} appeared in {stray.cgroup} during the run, outside of all limits: {stray.command}"
        )
        evidence = {"cgroup": stray.cgroup, "command": stray.command}
        yield codes.PROCESS_PLACE.finding(Status.FAIL, "run", message, remedy, evidence=evidence)
    for unit in units:
        message = f"the unit {unit} was started during the run, outside of all limits"
        yield codes.PROCESS_PLACE.finding(Status.FAIL, "run", message, remedy, evidence={"unit": unit})
    if unclaimed:
        yield _unclaimed(unclaimed)


def _unclaimed(units: Mapping[str, str]) -> Finding:
    named = [f"{name} ({command})" if command else name for name, command in units.items()]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return codes.PROCESS_PLACE.finding(
        Status.WARN, "run",
        f"units were made during the run, and systemd does not say by whom: {', '.join(named[:_NAMED])}{more}; "
        "if by a service, no limit of it applied to them, and they were not ended",
        Remedy(title="run in a guest (--engine guest), where nothing but the services makes units",
               why="on this host another program may have made them"),
        evidence={"units": len(named)},
    )  # fmt: skip
