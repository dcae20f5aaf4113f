"""The two holds of a unit: finding the `sleep` that holds it, and letting the unit go on.

Everything here goes through the cgroup's own files and pidfds, since each question to the manager is a process.
"""

import os
import signal
import time
from collections.abc import Callable

from cgroup_preflight.engines import command_lines
from cgroup_preflight.engines.systemd import Manager
from cgroup_preflight.host.cgroup import Observer

_PAUSE = 0.005
_PAUSE_MAX = 0.05


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Looks again and again until `done` or the time is over; for files of the kernel, which cannot be waited on."""
    deadline, pause = time.monotonic() + seconds, _PAUSE
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _PAUSE_MAX)
    return True


def holder(observer: Observer, cgroup: str, *, other_than: int = 0) -> int:
    """The process that holds the unit when it is alone in the cgroup, else 0; `other_than` is an earlier one."""
    inside = observer.processes(cgroup)
    if len(inside) != 1:
        return 0
    (pid,) = inside
    return pid if pid != other_than and observer.comm(pid) == "sleep" else 0


def let_go(manager: Manager, observer: Observer, unit: str, cgroup: str, pid: int) -> None:
    """Ends the holding process and nothing else (0: there is none); through the manager where we may not signal."""
    if pid == 0:
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The number could belong to somebody else by now; the open handle cannot change any more.
        if observer.is_in(pid, cgroup):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        manager.systemctl(*command_lines.release([unit]))
    finally:
        os.close(handle)
