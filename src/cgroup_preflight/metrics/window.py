"""What each cgroup and the host did during one window of time: the input of every rule of the diagnosis. Pure records.

Shares are parts of the window, 0 to 1. CPUs are CPU seconds per second. None: the kernel has no such file, or it could
not be read at both ends of the window.
"""

from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.core.records import dataclass, field

#: Events of `memory.events` that mean: the limit of this cgroup made the kernel reclaim or kill.
LIMIT_EVENTS = ("high", "max", "oom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """PSI of one resource: `waiting` is the line `some`, `stalled` the line `full` (kernel accounting/psi.rst)."""

    waiting: float
    stalled: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU of one cgroup.

    `periods`, `throttled` and `throttled_cpus` (throttled_usec per time, summed over CPUs) count its own quota only,
    `local_cpus` is throttled_usec of `cpu.stat.local`: its own quota and those of all levels above (cgroup-v2.rst).
    `allowed` is how many CPUs it may run on, `cpuset` which. `divided`: whether the cpu controller is enabled for it;
    without it, its threads and those of its siblings compete as equals, and no weight counts.
    """

    usage: float
    quota: float | None = None
    weight: int = 100
    periods: int = 0
    throttled: int = 0
    throttled_cpus: float = 0.0
    local_cpus: float | None = None
    allowed: int | None = None
    cpuset: frozenset[int] | None = None
    divided: bool = True
    pressure: Pressure | None = None

    @property
    def ratio(self) -> float:
        """The share of the quota's periods in which it was used up."""
        return self.throttled / self.periods if self.periods else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of one cgroup in bytes; `grown` is by how much memory and swap grew, events are what the window added.

    `events` count this cgroup and those below, `local` (`memory.events.local`) this cgroup alone. `refaults` are pages
    that were read again soon after they were reclaimed, `scanned` pages that reclaim looked at.
    """

    current: int = 0
    grown: int = 0
    swap: int = 0
    peak: int | None = None
    max: int | None = None
    high: int | None = None
    low: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    local: Mapping[str, int] | None = None
    refaults: int = 0
    scanned: int = 0
    pressure: Pressure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one cgroup read and wrote on one device; `read` is the part of `bytes` that it read."""

    bytes: int
    operations: int
    read: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """Input and output of one cgroup, by device number `MAJOR:MINOR`; `limited` are the devices with a limit in `io.max`."""

    limited: frozenset[str] = frozenset()
    devices: Mapping[str, Traffic] = field(default_factory=dict)
    pressure: Pressure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One cgroup; `path` is relative to the mount and begins with `/`. `tasks` is pids.current.

    `reborn` is in how many parts of the time it was removed and created again, as when systemd starts a service again.
    """

    path: str
    cpu: Cpu | None = None
    memory: Memory | None = None
    io: Io | None = None
    tasks: int | None = None
    reborn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine: `busy` and `steal` are shares of the time of all its CPUs (/proc/stat)."""

    cpus: int
    busy: float | None = None
    steal: float | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    cpu: Pressure | None = None
    memory: Pressure | None = None
    io: Pressure | None = None
    other_scheduler: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Everything between two readings; times are CLOCK_MONOTONIC in seconds."""

    begin: float
    end: float
    host: Host
    groups: Mapping[str, Group]

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end - self.begin

    def by_parent(self) -> dict[str, list[Group]]:
        """The cgroups by the path of the one above; an empty path is the mount."""
        found: dict[str, list[Group]] = {}
        for path, group in self.groups.items():
            found.setdefault(parent_of(path), []).append(group)
        return found

    def siblings(self, path: str) -> tuple[Group, ...]:
        """The other cgroups below the same one."""
        parent = parent_of(path)
        return tuple(group for name, group in self.groups.items() if name != path and parent_of(name) == parent)

    def leaves(self) -> tuple[Group, ...]:
        """The cgroups without any below them: where the processes are."""
        parents = {parent_of(path) for path in self.groups}
        return tuple(group for path, group in self.groups.items() if path not in parents)

    def above(self, path: str) -> Iterator[Group]:
        """The known cgroups above one, innermost first, without the mount itself."""
        while path := parent_of(path):
            if path in self.groups:
                yield self.groups[path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The whole time, and the parts between its readings in order; `notes` are what was wrong with the readings.

    `local_stat` and `pressure`: whether this kernel has `cpu.stat.local` and `*.pressure` at all.
    """

    whole: Window
    parts: tuple[Window, ...]
    notes: tuple[str, ...] = ()
    pressure: bool = True
    local_stat: bool = True


def parent_of(path: str) -> str:
    """The path of the cgroup above; empty for the mount."""
    return path.rpartition("/")[0]


def name_of(path: str) -> str:
    """The last part of a path: the unit."""
    return path.rpartition("/")[2] or "the root cgroup"


def waiting(pressure: Pressure | None) -> float:
    """The share of the time in which a task waited; 0 where unknown."""
    return pressure.waiting if pressure else 0.0


def below(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of these cgroups, or below one."""
    return any(path == top or path.startswith(f"{top}/") for top in tops)
