"""What an engine is: it starts units, ends them, and says what state they are in. Nothing here knows systemctl's words.

The words for a result are those of systemd.exec(5), because the report and its readers use them.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol

    from cgroup_preflight.plan.model import UnitFile
    from cgroup_preflight.plan.run_unit import RunUnit
else:
    Protocol = object

#: Seconds after which a gate opens by itself, should this tool die.
GATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One service to start: spans in seconds; `output` is a file for stdout and stderr, empty for the engine's log;
    where a ready line is searched for, there must be one.

    `settings` are systemd's properties and their text; `Engine.start` finds them in the drop-in that `create_slices`
    wrote. `input` is a file for stdin. `own` is a unit of the project, whose file `create_slices` wrote: then `command`,
    `folder` and `type` (systemd's Type=) do not count, because that file has them. A unit waits at a gate before its
    program starts and again after it ended, so that the kernel's files can be read. The gates open by themselves after
    `hold_before` and `hold_after`, which must outlast what the tool does meanwhile; 0: there is no gate.
    """

    unit: str
    slice: str
    description: str
    command: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    env: tuple[tuple[str, str], ...] = ()
    folder: str = "/"
    uid: int | None = None
    gid: int | None = None
    start_timeout: float = 30.0
    stop_timeout: float = 10.0
    runtime_max: float = 120.0
    hold_before: float = GATE_SECONDS
    hold_after: float = GATE_SECONDS
    input: str = ""
    output: str = ""
    own: "RunUnit | None" = None
    type: str = "exec"


class Phase(enum.StrEnum):
    """How far a unit has come. AT_GATE: before its program starts; AFTER_END: only the gate after its end is left.

    ENDED: the main process ended with success, and the unit stays: what the program left behind runs on. BEFORE_SIGNAL:
    the unit was told to stop, and its program was not yet.
    """

    QUEUED = "queued"
    AT_GATE = "at the gate"
    STARTED = "started"
    ENDED = "ended"
    BEFORE_SIGNAL = "before its signal"
    STOPPING = "stopping"
    AFTER_END = "after the end"
    OVER = "over"


class How(enum.StrEnum):
    """How a process ended (waitid(2): CLD_EXITED, CLD_KILLED, CLD_DUMPED)."""

    EXITED = "exited"
    KILLED = "killed"
    DUMPED = "dumped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How the main process ended; `status` is its exit status, or the number of the signal."""

    how: How
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """One unit at one moment; without arguments, a unit that the engine does not know.

    `word` is the engine's own word for the state. `mark` differs whenever phase or word do: what `Engine.changed`
    compares. `gate_pid` is the process of the gate, before or after, `main_pid` that of the program, 0 for none. AT_GATE
    without a process of the gate: `Engine.open_gates` opens it.
    `result` is empty while it is unknown; `exit` is None until the program ended.
    """

    phase: Phase = Phase.OVER
    word: str = "unknown"
    mark: str = ""
    gate_pid: int = 0
    main_pid: int = 0
    cgroup: str = ""
    invocation: str = ""
    result: str = ""
    exit: Exit | None = None

    @property
    def is_active(self) -> bool:
        """Whether the manager takes the unit for started: its program told it so, or its type needs no word."""
        return self.word == "active" and self.phase is Phase.STARTED

    @property
    def has_begun(self) -> bool:
        """Whether the unit reached its gate, or is beyond it."""
        return self.phase is not Phase.QUEUED

    @property
    def has_ended(self) -> bool:
        """Whether the program is ending, has ended, or never starts."""
        return self.phase not in (Phase.QUEUED, Phase.AT_GATE, Phase.STARTED)

    @property
    def is_at_end(self) -> bool:
        """Whether the program has ended: at most the gate after the end is left."""
        return self.phase in (Phase.AFTER_END, Phase.OVER)


class Engine(Protocol):
    """Who starts units: a systemd manager, or this tool itself. Methods have time-outs and raise HostError when there is no answer."""

    name: str
    #: Whether this is the caller's own manager, which needs no root.
    user: bool
    unit_folder: str
    #: Whether the cgroup of a unit stays after its end until the run ends, so that no gate has to keep it.
    keeps_cgroups: bool
    #: Whether `log` has something to read.
    has_journal: bool

    def start(self, launches: Iterable[Launch]) -> dict[str, str]:
        """Starts services at the same time, without waiting for them; the reason by unit, for those refused."""

    def started(self, launches: Sequence[Launch]) -> "AbstractContextManager[dict[str, str]]":
        """As `start`, for services without gates; whatever describes them to the engine is removed at the end."""

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """The whole state by unit; a unit that the engine does not know is left out."""

    def changed(self, known: Mapping[str, UnitState]) -> dict[str, UnitState]:
        """The states of at least those units whose state differs from the `known` one."""

    def unmet(self, unit: str) -> tuple[str, ...]:
        """The conditions because of which a unit was not started, in the engine's words."""

    def phases(self, units: Iterable[str]) -> dict[str, Phase]:
        """As `states`, but only what can be asked often."""

    def main_processes(self, unit: str) -> frozenset[int]:
        """The processes that the manager itself started for a unit; none of a transient one, which a program made."""

    def open_gates(self, units: Sequence[str]) -> None:
        """Ends the process of the gate of each unit, and no other process."""

    def stop(self, units: Sequence[str]) -> None:
        """Stops units, without waiting for them."""

    def kill(self, units: Sequence[str]) -> None:
        """Kills every process of units."""

    def forget(self, units: Sequence[str]) -> None:
        """Forgets units that have ended, so that units of the same names can be started."""

    def log(self, invocation: str, lines: int, pid: int = 0) -> tuple[str, ...]:
        """The last lines that one invocation wrote, or the process `pid` of it; empty where none can be read."""

    def write_attribute(self, path: str, text: str) -> None:
        """Writes a cgroup file of the run; where that is not allowed, the file stays as it is."""

    def settings_of(self, units: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings that only the engine knows (systemd-oomd's), by unit and property."""

    def system_runs(self, unit: str) -> bool:
        """Whether the system runs a unit, whoever's manager this is."""

    def create_slices(self, files: Sequence["UnitFile"], units: Sequence[str]) -> dict[str, str]:
        """Writes unit files, also drop-ins of services, and starts the slices `units`; their cgroups. Raises HostError."""

    def active(self, scope: str, suffix: str = "") -> list[str]:
        """Units whose name begins with `scope` and ends with `suffix`, and that have something left to end."""

    def end_slice(self, scope: str, seconds: float) -> None:
        """Stops the slice of a run and forgets which of its units failed; returns when it is stopped."""

    def remove_files(self, names: Iterable[str]) -> None:
        """Removes unit files, and folders of drop-ins, of `unit_folder`; those already gone do not matter."""
