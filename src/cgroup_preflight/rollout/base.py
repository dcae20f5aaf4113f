"""What a rollout needs of a service manager and of the machine, and the records of both."""

from collections.abc import Mapping, Sequence

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, field
from cgroup_preflight.rollout.limits import Values
from cgroup_preflight.rollout.stages import Change

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.host.cgroup import Effective
    from cgroup_preflight.rollout.judge import Window
else:
    Protocol = object


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One unit as the manager shows it; `period` is CPUQuotaPeriodUSec in microseconds, None where it is not set.

    `drop_ins` are the paths in the order in which the manager reads them: a later one wins.
    """

    unit: str
    cgroup: str
    values: Values
    period: int | None = None
    load: str = "loaded"
    active: str = "active"
    transient: bool = False
    drop_ins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPlan:
    """One unit of a rollout: what it had before, and what it is to have. Both have the same properties.

    `files` are the files that the rollout may write or remove, with their text before (None: it did not exist).
    """

    unit: str
    cgroup: str
    old: Values
    new: Values
    period: int | None = None
    files: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The texts of memory.current and memory.stat, None where the cgroup has none."""

    current: int | None
    stat: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMan:
    """What restores: `changes` in order, then `copies` (target by backup), then `removed` files; it ends with `mark`.

    `seconds` is when it does so after the last sign of life. `mark` is the file that says that it did. `own` are the unit
    files of the timer itself, which it removes at the end. `persistent`: it is also started again with the host.
    """

    rollout: str
    seconds: float
    changes: tuple[Change, ...]
    copies: Mapping[str, str]
    removed: tuple[str, ...]
    mark: str
    own: tuple[str, ...] = ()
    persistent: bool = False


class Reader(Protocol):
    """What a plan reads of a service manager and of the kernel's files of its units; methods raise HostError without an answer."""

    def show(self, units: Sequence[str]) -> dict[str, Shown]:
        """Everything about units that the manager knows."""

    def attribute(self, cgroup: str, name: str) -> str | None:
        """The text of a file of a cgroup, None where it does not exist."""

    def effective(self, cgroup: str) -> "Effective":
        """The least limits of a cgroup and all above it."""

    def control_files(self, unit: str, names: Sequence[str]) -> tuple[str, ...]:
        """The drop-ins that the manager writes when properties `names` change, with and without --runtime."""

    def hold_file(self, unit: str) -> str:
        """The drop-in of the rollout: a reload would undo a change at run time where a persistent file has another value."""

    def read_file(self, path: str) -> str | None:
        """The text of a file, None where it does not exist."""


class Manager(Reader, Protocol):
    """A service manager and the kernel's files of its units. Methods have time-outs and raise HostError without an answer."""

    name: str

    def values(self, units: Sequence[str]) -> dict[str, Values]:
        """Only the properties, as quickly as possible."""

    def set(self, unit: str, values: Values, *, runtime: bool) -> str:
        """Changes properties of a running unit with one call, all or none; the manager's words where it refused."""

    def reload(self) -> None:
        """Makes the manager read all unit files again (daemon-reload)."""

    def boot(self) -> str:
        """What differs from one start of the host to the next."""

    def write_file(self, path: str, text: str) -> None:
        """Writes a file whole, and creates its folder."""

    def remove_files(self, paths: Sequence[str]) -> None:
        """Removes files; those already gone do not matter."""

    def sync_files(self, paths: Sequence[str]) -> None:
        """Returns when files and their folders are on the disk; those that do not exist do not matter."""

    def arm(self, dead_man: DeadMan) -> None:
        """Starts the timer that restores the old values, or starts it again."""

    def renew(self) -> None:
        """Lets the time of the timer begin again."""

    def disarm(self) -> None:
        """Stops the timer and removes its files."""

    def armed_for(self) -> str:
        """The rollout that a running timer belongs to, empty without one."""


class Watcher(Protocol):
    """Reads the counters of the units of a rollout, of their neighbours and of the control slices."""

    def begin(self) -> None:
        """Takes the first sample."""

    def window(self) -> "Window":
        """The numbers since the last sample."""

    def alarms(self) -> tuple[str, ...]:
        """What must be taken back at once, since `begin` or the last window."""

    def kills(self) -> tuple[str, ...]:
        """Only OOM kills: some reads of files, for many times a second."""


class Clock(Protocol):
    """The time of the machine, in seconds."""

    def monotonic(self) -> float:
        """Never goes back."""

    def wall(self) -> float:
        """Since 1970."""

    def sleep(self, seconds: float) -> None:
        """Waits."""
