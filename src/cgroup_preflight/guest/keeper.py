"""Ends a guest's processes and removes its folders when its parent ends. Standard library only.

    python3 -I -S -c "import this; main(...)" LIFELINE PARENT ORDERS ARGV...

`LIFELINE` is the reading end of a pipe; the parent with PID `PARENT` has the other end. When it writes a byte, the keeper
starts `ARGV`, the guest. When the pipe closes or the
parent ends (also by SIGKILL), the keeper kills all its descendants and removes the folders. Until then it removes
nothing, so that the parent can read the files of a guest that died. `ORDERS` is JSON: `folders` (the first is the
guest's own), `one_cpu` (whether the guest runs on one CPU) and `fence` (the arguments of `fence.put_up`, or null).
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from cgroup_preflight.guest import fence

#: What the parent writes when the guest may start.
BEGIN = b"!"
#: The file in the guest's folder with the answer of `fence.put_up`.
FENCE_NOTE = "fence"
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_THP_DISABLE = 41
#: Seconds between checks of the parent: another process may have inherited the other end of the pipe.
_LOOK = 1.0
#: Seconds that killed processes may take to end.
_REAP = 10.0
#: How often it is looked for processes that are left, and for those that have ended; seconds.
_LOOK_AGAIN, _TURN = 0.05, 0.002


def main(argv: list[str]) -> int:
    """Runs the guest until the parent closes the pipe or ends; the exit status is always 0."""
    lifeline, parent, orders, command = int(argv[0]), int(argv[1]), json.loads(argv[2]), argv[3:]
    prctl = ctypes.CDLL(None).prctl
    # Orphans of the guest become our children and not init's, so that we find them.
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        _guard(command, lifeline, parent, lambda: _enter(orders, prctl))
    finally:
        # A second one would leave the folders behind.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill_descendants()
        for folder in orders["folders"]:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _enter(orders: dict[str, Any], prctl: "ctypes._NamedFuncPointer") -> None:
    """Runs in the guest's process before it executes the engine."""
    if orders["one_cpu"]:
        cpus = sorted(os.sched_getaffinity(0))
        # Chosen by PID, so that guests that start together use different CPUs.
        os.sched_setaffinity(0, {cpus[os.getpid() % len(cpus)]})
    if orders["fence"] is not None:
        note = os.open(os.path.join(orders["folders"][0], FENCE_NOTE), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(note, fence.put_up(**orders["fence"]).encode())
    # The guest uses some pages of each 2 MiB of its memory; a huge page would take all 2 MiB from the host.
    prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    # Last, because a change of credentials clears it (prctl(2)).
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _guard(command: list[str], lifeline: int, parent: int, enter: Callable[[], None]) -> None:
    inherited = tuple(fd for fd in _open_fds() if fd > 2 and fd != lifeline)
    if not (_is_readable(lifeline, parent) and os.read(lifeline, len(BEGIN))):
        return
    guest = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=inherited,
        preexec_fn=enter,  # noqa: PLW1509 - one thread
    )
    # The parent notices the end of the guest when the channel closes: our copies must not keep it open.
    for fd in inherited:
        os.close(fd)
    _is_readable(lifeline, parent, guest.poll)


def _is_readable(lifeline: int, parent: int, look: Callable[[], object] = lambda: None) -> bool:
    """Waits until the parent writes to the pipe or closes it; False where the parent has ended. Calls `look` meanwhile."""
    while os.getppid() == parent:
        readable, _, _ = select.select([lifeline], [], [], _LOOK)
        if readable:
            return True
        look()
    return False


def _open_fds() -> list[int]:
    fds = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the one that listed the directory
            continue
        fds.append(int(name))
    return fds


def _kill_descendants() -> None:
    deadline = time.monotonic() + _REAP
    while time.monotonic() < deadline:
        for pid in _descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # To find them takes longer than they take to end; new ones cannot have come from killed ones, but before.
        again = time.monotonic() + _LOOK_AGAIN
        while time.monotonic() < again:
            try:
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            except ChildProcessError:
                return
            time.sleep(_TURN)


def _descendants() -> list[int]:
    """All processes below this one, parents before children."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent_of(name)) is not None:
            parents.setdefault(parent, []).append(int(name))
    found = [os.getpid()]
    for pid in found:
        found.extend(parents.get(pid, ()))
    return found[1:]


def _parent_of(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            # The command name may contain spaces and parentheses: count fields from the last parenthesis.
            return int(stream.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
