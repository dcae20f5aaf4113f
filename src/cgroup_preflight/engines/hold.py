"""The gates of a unit: finds what looks like one, and ends it.

All of it through the cgroup's own files and process handles, because each question to systemd can cost a process.
"""

import signal
from collections.abc import Callable

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.host.cgroup import Observer

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Clock, Processes

_PAUSE = 0.005
_PAUSE_MAX = 0.05


def wait_until(clock: "Clock", done: Callable[[], bool], seconds: float, *, pause_max: float = _PAUSE_MAX) -> bool:
    """Tries `done` until it is true or the time is over: the kernel's files cannot be waited on. The pauses grow.

    It is tried once more after the time, as an answer of another machine can be seconds old when it comes.
    """
    begun = clock.monotonic()
    deadline, pause = begun + seconds, _PAUSE
    while not done():
        if begun > deadline:
            return False
        clock.sleep(pause)
        pause = min(pause * 1.5, pause_max)
        begun = clock.monotonic()
    return True


def gate_process(observer: Observer, cgroup: str, *, other_than: int = 0) -> int:
    """The process that looks like the gate and is alone in the cgroup, else 0; only the engine can say that it is one.

    `other_than` is the program's main process.
    """
    inside = observer.processes(cgroup)
    if len(inside) != 1:
        return 0
    (pid,) = inside
    return pid if pid != other_than and observer.comm(pid) == "sleep" else 0


def open_gate(engine: Engine, processes: "Processes", observer: Observer, unit: str, cgroup: str, pid: int) -> None:
    """Ends the gate's process `pid` and no other; through the engine where this user may not signal it."""
    handle = processes.open(pid)
    if handle is None:
        return
    try:
        # The number could belong to another process meanwhile; the handle cannot. Of a unit with Delegate=, systemd starts
        # what is to stop it in a cgroup below (`.control`).
        if observer.is_within(pid, cgroup):
            processes.signal(handle, signal.SIGTERM)
    except PermissionError:
        engine.open_gates([unit])
    finally:
        processes.close(handle)
