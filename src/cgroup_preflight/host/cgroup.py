"""Reads the kernel's files of one cgroup and of every level above it. Reads only, decides nothing."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.host.cgroupfs import (
    parse_cpu_max,
    parse_flat_keyed,
    parse_limit,
    parse_pressure,
    parse_proc_cgroup,
)
from cgroup_preflight.host.fs import MachineFs
from cgroup_preflight.host.procfs import ProcessStat, parse_stat

N = TypeVar("N", int, float)
#: A limit, None for none, and the cgroup that sets it.
_Tightest = tuple[N | None, str]
_COMMAND_MAX = 120
_DELETED = " (deleted)"
#: The last eight characters of the program's name at most (systemd, `rename_process_from_path`).
_SET_UP = r"\(.{1,8}\)"


#: The files of `Counters`.
_COUNTED = (
    "cpu.stat", "memory.events", "memory.events.local", "memory.peak", "memory.current", "pids.events", "pids.peak", "pids.events.local",
    "cpu.stat.local", "cpu.pressure", "memory.pressure", "io.pressure",
)  # fmt: skip
#: Keys of memory.stat (Documentation/admin-guide/cgroup-v2.rst).
MEMORY_PARTS = ("anon", "file", "kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """The tightest limits over the whole chain, each with the cgroup that sets it; None: no limit."""

    memory_bytes: int | None
    memory_at: str
    cpus: float | None
    cpus_at: str
    tasks: int | None
    tasks_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The kernel's counters of one cgroup; a missing file keeps its reason.

    `memory_local` is `memory.events.local`: what happened at the limits of this cgroup itself, and not below it.
    `pids_local` and `cpu_local` are `pids.events.local` and `cpu.stat.local`, which kernels from 6.12 on have: what the
    cgroup's own pids.max refused, and how long the cgroup stood still under the quotas of all levels.
    """

    cgroup: str
    cpu_stat: Reading[Mapping[str, int]]
    memory_events: Reading[Mapping[str, int]]
    memory_peak: Reading[int | None]
    memory_current: Reading[int | None]
    pids_events: Reading[Mapping[str, int]]
    pressure: Mapping[str, Reading[Mapping[str, float]]]
    pids_peak: Reading[int | None] = Missing(source="pids.peak", why=Why.ABSENT)
    pids_local: Reading[Mapping[str, int]] = Missing(source="pids.events.local", why=Why.ABSENT)
    cpu_local: Reading[Mapping[str, int]] = Missing(source="cpu.stat.local", why=Why.ABSENT)
    memory_local: Reading[Mapping[str, int]] = Missing(source="memory.events.local", why=Why.ABSENT)


class Observer:
    """Reads below one cgroup mount."""

    def __init__(self, fs: MachineFs, mount: str) -> None:
        self._fs = fs
        self._mount = mount.rstrip("/")
        self._held: dict[str, Reading[int]] = {}
        self._folders: dict[str, Reading[tuple[int, int]]] = {}

    def path(self, cgroup: str, attribute: str) -> str:
        """The path of one attribute file."""
        return f"{self._mount}{cgroup}/{attribute}"

    def read(self, cgroup: str, attribute: str) -> Reading[str]:
        """The text of one attribute file."""
        path = self.path(cgroup, attribute)
        held = self._held.get(path)
        if held is None:
            return self._fs.read(path)
        return self._fs.reread(held.value, path) if isinstance(held, Known) else held

    def prefetch(self, places: Iterable[tuple[str, str]]) -> None:
        """Reads attribute files, by cgroup and name, in one round trip where the machine is another one."""
        self._fs.prefetch(self.path(cgroup, attribute) for cgroup, attribute in places)

    def prefetch_members(self, cgroups: Iterable[str]) -> None:
        """As `prefetch`, of what `processes` and `exists` ask about cgroups without others in them."""
        folders = [f"{self._mount}{cgroup}" for cgroup in cgroups if cgroup]
        self._fs.prefetch((f"{folder}/cgroup.procs" for folder in folders), folders=folders, statuses=folders)

    def prefetch_processes(self, wanted: Iterable[tuple[int, Sequence[str]]]) -> None:
        """As `prefetch`, of files of processes, by number and names."""
        self._fs.prefetch(f"/proc/{pid}/{name}" for pid, names in wanted for name in names)

    def forget(self) -> None:
        """From now on every read asks the machine again, also where `prefetch` read the file."""
        self._fs.forget()

    def hold(self, cgroup: str, attributes: Iterable[str]) -> None:
        """Opens files that exist; from now on they are read through that, whatever is mounted over them."""
        self._folders.setdefault(cgroup, self._fs.identity(f"{self._mount}{cgroup}"))
        device = value_or(self._fs.device(self._mount or "/"), "")
        paths = (self.path(cgroup, attribute) for attribute in attributes)
        found = self._fs.hold_all([path for path in paths if path not in self._held], device)
        for path, reading in found.items():
            if isinstance(reading, Known) or reading.why is not Why.ABSENT:
                self._held[path] = reading

    def is_covered(self, cgroup: str) -> bool:
        """Whether the folder of a cgroup is another one than at `hold`, because something was mounted over it."""
        first, now = self._folders.get(cgroup), self._fs.identity(f"{self._mount}{cgroup}")
        return isinstance(first, Known) and isinstance(now, Known) and first.value != now.value

    def release(self) -> None:
        """Closes what `hold` opened."""
        held, self._held, self._folders = self._held, {}, {}
        for reading in held.values():
            if isinstance(reading, Known):
                self._fs.release(reading.value)

    def exists(self, cgroup: str) -> bool:
        """Whether the cgroup still exists."""
        return value_or(self._fs.exists(f"{self._mount}{cgroup}"), default=False)

    def effective(self, cgroup: str) -> Effective:
        """The minimum over the cgroup and all its ancestors below the mount."""
        memory: _Tightest[int] = (None, "")
        cpus: _Tightest[float] = (None, "")
        tasks: _Tightest[int] = (None, "")
        self.prefetch((level, name) for level in levels(cgroup) for name in ("memory.max", "cpu.max", "pids.max"))
        for level in levels(cgroup):
            memory = _tighter(memory, self._limit(level, "memory.max"), level)
            cpu = parsed(self.read(level, "cpu.max"), parse_cpu_max)
            cpus = _tighter(cpus, cpu.value.cpus if isinstance(cpu, Known) else None, level)
            tasks = _tighter(tasks, self._limit(level, "pids.max"), level)
        return Effective(
            memory_bytes=memory[0], memory_at=memory[1], cpus=cpus[0], cpus_at=cpus[1],
            tasks=tasks[0], tasks_at=tasks[1],
        )  # fmt: skip

    def _limit(self, cgroup: str, attribute: str) -> int | None:
        reading = parsed(self.read(cgroup, attribute), parse_limit)
        return reading.value if isinstance(reading, Known) else None

    def cpu_stat(self, cgroup: str) -> Mapping[str, int]:
        """The counters of CPU time of one cgroup, empty where they cannot be read."""
        return value_or(parsed(self.read(cgroup, "cpu.stat"), parse_flat_keyed), {})

    def counters(self, cgroup: str) -> Counters:
        """Everything the kernel counted for one cgroup."""
        self.prefetch((cgroup, name) for name in _COUNTED)
        return Counters(
            cgroup=cgroup,
            cpu_stat=parsed(self.read(cgroup, "cpu.stat"), parse_flat_keyed),
            memory_events=parsed(self.read(cgroup, "memory.events"), parse_flat_keyed),
            memory_peak=parsed(self.read(cgroup, "memory.peak"), parse_limit),
            memory_current=parsed(self.read(cgroup, "memory.current"), parse_limit),
            pids_events=parsed(self.read(cgroup, "pids.events"), parse_flat_keyed),
            pids_peak=parsed(self.read(cgroup, "pids.peak"), parse_limit),
            pids_local=parsed(self.read(cgroup, "pids.events.local"), parse_flat_keyed),
            cpu_local=parsed(self.read(cgroup, "cpu.stat.local"), parse_flat_keyed),
            memory_local=parsed(self.read(cgroup, "memory.events.local"), parse_flat_keyed),
            pressure={
                name: parsed(self.read(cgroup, f"{name}.pressure"), parse_pressure) for name in ("cpu", "memory", "io")
            },
        )

    def memory_parts(self, cgroup: str) -> dict[str, int]:
        """What the memory of a cgroup is, in bytes: `anon`, `file` and `kernel` of memory.stat; empty where unknown.

        `shmem` is the part of `file` that no disk has: the kernel cannot drop it.
        Anonymous memory is of processes alone, file memory the cache of files; kernels before 5.18 have no `kernel`.
        """
        stat = value_or(parsed(self.read(cgroup, "memory.stat"), parse_flat_keyed), {})
        return {key: stat[key] for key in (*MEMORY_PARTS, "shmem") if key in stat}

    def processes(self, cgroup: str) -> frozenset[int]:
        """Every process in the cgroup and below it."""
        found, todo = set[int](), [cgroup]
        while todo:
            current = todo.pop()
            found.update(map(int, value_or(self.read(current, "cgroup.procs"), "").split()))
            todo += (f"{current}/{name}" for name in value_or(self._fs.folders(f"{self._mount}{current}"), ()))
        return frozenset(found)

    def cgroup_of(self, pid: int) -> Reading[str]:
        """The cgroup a process is really in, from /proc/PID/cgroup; of a zombie that which was removed."""
        found = parsed(self._proc(f"/proc/{pid}/cgroup"), parse_proc_cgroup)
        # A program can name a cgroup like that of its unit, with the kernel's mark at the end: then it exists.
        if isinstance(found, Known) and found.value.endswith(_DELETED):
            folder = self._fs.names(f"{self._mount}{found.value}")
            if isinstance(folder, Missing) and folder.why is Why.ABSENT:
                return replace(found, value=found.value.removesuffix(_DELETED))
        return found

    def _proc(self, path: str) -> Reading[str]:
        """A file of /proc: names of processes and cgroups are bytes, and one that is no text must hide nothing."""
        return parsed(self._fs.quick(path), os.fsdecode)

    def is_in(self, pid: int, cgroup: str) -> bool:
        """Whether a process is in exactly this cgroup."""
        reading = self.cgroup_of(pid)
        return isinstance(reading, Known) and reading.value == cgroup

    def is_within(self, pid: int, cgroup: str) -> bool:
        """Whether a process is in a cgroup or below it."""
        reading = self.cgroup_of(pid)
        return isinstance(reading, Known) and cgroup in levels(reading.value)

    def comm(self, pid: int) -> str:
        """The name of a process, empty when it is gone."""
        reading = self._proc(f"/proc/{pid}/comm")
        return reading.value.strip() if isinstance(reading, Known) else ""

    def is_manager(self, pid: int) -> bool:
        """Whether a process is still systemd's own, which sets it up and then executes the program of its unit.

        Its name is in parentheses until then. A program can call itself so, too, but is not systemd; only its own user can
        see that (proc(5), exe).
        """
        if not re.fullmatch(_SET_UP, self.comm(pid)):
            return False
        program = self._fs.link(f"/proc/{pid}/exe")
        name = program.value.removesuffix(_DELETED).rpartition("/")[2] if isinstance(program, Known) else ""
        return name in ("", "systemd", "systemd-executor")

    def children(self) -> dict[int, list[int]]:
        """The children of each process that has some."""
        found: dict[int, list[int]] = {}
        pids = self.pids()
        self.prefetch_processes((pid, ("stat",)) for pid in pids)
        for each in pids:
            stat = self.stat(each)
            if stat is not None:
                found.setdefault(stat.parent, []).append(each)
        return found

    def descendants(self, pid: int, children: Mapping[int, Sequence[int]]) -> dict[int, Reading[str]]:
        """The process and its children's children, each with the cgroup it is in; `children` are those of all."""
        found, todo = dict[int, Reading[str]](), [pid]
        while todo:
            current = todo.pop()
            found[current] = self.cgroup_of(current)
            todo.extend(child for child in children.get(current, ()) if child not in found)
        return found

    def invoked(self, invocations: Iterable[str]) -> dict[int, str]:
        """Processes with one of these invocation ids, which systemd gives to a unit and every child inherits."""
        wanted = {f"INVOCATION_ID={item}": item for item in invocations if item}
        found: dict[int, str] = {}
        pids = self.pids()
        self.prefetch_processes((pid, ("environ",)) for pid in pids)
        for pid in pids:
            found.update((pid, wanted[word]) for word in self._environ(pid) if word in wanted)
        return found

    def invocation(self, pid: int) -> str:
        """The invocation id in the environment of a process, empty where there is none or none can be read."""
        words = (word for word in self._environ(pid) if word.startswith("INVOCATION_ID="))
        return next(words, "").removeprefix("INVOCATION_ID=")

    def mounts(self, pid: int | str) -> str:
        """The mount namespace of a process, or of `self`; empty where it cannot be read."""
        return value_or(self._fs.link(f"/proc/{pid}/ns/mnt"), "")

    def _environ(self, pid: int) -> list[str]:
        reading = self._proc(f"/proc/{pid}/environ")
        return reading.value.split("\0") if isinstance(reading, Known) else []

    def command(self, pid: int) -> str:
        """The command line of a process, for a message: printable, and cut to a readable length."""
        reading = self._proc(f"/proc/{pid}/cmdline")
        words = reading.value.rstrip("\0").replace("\0", " ") if isinstance(reading, Known) else ""
        return printable((words or self.comm(pid))[:_COMMAND_MAX])

    def stat(self, pid: int) -> ProcessStat | None:
        """Who a process is; None when it has ended."""
        reading = parsed(self._proc(f"/proc/{pid}/stat"), parse_stat)
        return reading.value if isinstance(reading, Known) else None

    def pids(self) -> tuple[int, ...]:
        """The numbers of all processes."""
        names = self._fs.names("/proc")
        return tuple(int(name) for name in (names.value if isinstance(names, Known) else ()) if name.isdigit())

    def allowed_cpus(self, pid: int) -> str:
        """`Cpus_allowed_list` of a process, empty when it cannot be read."""
        reading = self._proc(f"/proc/{pid}/status")
        lines = reading.value.splitlines() if isinstance(reading, Known) else []
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("Cpus_allowed_list:")), "")


def levels(cgroup: str) -> tuple[str, ...]:
    """The cgroup and every one above it up to the mount, innermost first; the mount itself is an empty path."""
    parts = [part for part in cgroup.split("/") if part]
    return tuple("".join(f"/{part}" for part in parts[:end]) for end in range(len(parts), -1, -1))


def _tighter(known: _Tightest[N], value: N | None, level: str) -> _Tightest[N]:
    if value is not None and (known[0] is None or value < known[0]):
        return value, level
    return known
