"""What is still running after the services have ended: ends it, or names it, before the token is given to the next step.

A process of the same user can read the environment and the memory of the step that publishes.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Set as AbstractSet

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_CGROUPS = "/sys/fs/cgroup"
#: Where units of the distribution are: starting a command may start them (a bus, an agent), and no service made them.
_SHIPPED = ("/usr/lib/systemd/user", "/etc/systemd/user", "/usr/lib/systemd/system", "/etc/systemd/system")
_SECONDS = 10.0


def adopt() -> None:
    """From now on a process that a program of this one leaves behind becomes a child of this one."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def groups() -> frozenset[str]:
    """All cgroups, as paths below the mount point."""
    return frozenset(folder.removeprefix(_CGROUPS) for folder, _, _ in os.walk(_CGROUPS))


def end_children() -> tuple[str, ...]:
    """Kills what is left of this process's children, and theirs; returns their names. At most 10 s."""
    found: list[str] = []
    deadline = time.monotonic() + _SECONDS
    while (children := _children(os.getpid())) and time.monotonic() < deadline:
        for pid in children:
            found.append(_name(pid))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)
    return tuple(dict.fromkeys(found))


def strangers(before: AbstractSet[str]) -> tuple[str, ...]:
    """Processes of this user in a unit that began since and that no distribution ships: a service started them.

    Empty for root, who may do everything anyway.
    """
    if os.getuid() == 0:
        return ()
    return tuple(
        f"{_name(pid)} in {_plain(group)}"
        for pid in _pids()
        if _is_mine(pid) and (group := _group(pid)) and group not in before and not _is_shipped(group)
    )


def _pids() -> tuple[int, ...]:
    return tuple(int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid())


def _read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""


def _children(parent: int) -> list[int]:
    # The name of a process may have spaces and brackets; state and parent follow the last bracket (proc(5)).
    return [pid for pid in _pids() if _read(pid, "stat").rpartition(")")[2].split()[1:2] == [str(parent)]]


def _is_mine(pid: int) -> bool:
    uids = re.search(r"^Uid:\s+(\d+)\s+(\d+)", _read(pid, "status"), re.MULTILINE)
    return uids is not None and str(os.getuid()) in uids.groups()


def _group(pid: int) -> str:
    found = re.search(r"^0::(.*)$", _read(pid, "cgroup"), re.MULTILINE)
    return found[1] if found else ""


def _is_shipped(group: str) -> bool:
    unit = group.rpartition("/")[2]
    if not unit:
        return False
    template = re.sub(r"@[^.]*", "@", unit)
    return any(os.path.exists(f"{folder}/{name}") for folder in _SHIPPED for name in (unit, template))


def _name(pid: int) -> str:
    return f"{_plain(_read(pid, 'comm').strip()) or 'a process'} ({pid})"


def _plain(text: str) -> str:
    """A process chooses its name itself."""
    return re.sub(r"[^A-Za-z0-9_./@-]", "?", text)[-100:]
