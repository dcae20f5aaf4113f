"""Whose socket answers at an address: that of a process in a service's cgroup, or of another program.

A connection alone shows only that somebody listens: a proxy, systemd for a socket unit, or another service of the run.
"""

import os
from collections.abc import Iterable

from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.engines.ready import address
from cgroup_preflight.engines.run_scope import PREFIX
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.door import Files
from cgroup_preflight.host.sockets import Listener, UnixListener, parse_listeners, parse_unix_listeners, reached

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_UNIX = "/proc/net/unix"
_SYSTEMD = "systemd"
#: Processes whose sockets are read together.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who listens at an address: the service if both are empty; `other` names another program.

    `doubt`: why it is unknown.
    """

    other: str = ""
    doubt: str = ""


class Listeners:
    """The listening sockets of one machine and their owners."""

    def __init__(self, files: Files, observer: Observer) -> None:
        self._files = files
        self._observer = observer
        self._known: dict[int, str] = {}

    def answerer(self, test: ReadyTest, cgroup: str) -> Answerer:
        """Who listens at the address of a test of the service in `cgroup`."""
        inodes, missing = self._reached(test)
        if not inodes:
            return Answerer(doubt=str(missing) if missing else "no socket of this machine listens there")
        own, denied = self._sockets(self._observer.processes(cgroup))
        foreign = inodes - own
        if not foreign:
            return Answerer()
        other = self._owner(min(foreign))
        if denied and not other:
            return Answerer(doubt=str(denied))
        return Answerer(other=other or "a program of another user")

    def listens(self, test: ReadyTest) -> bool:
        """Whether a socket listens at the address of a test, by the kernel's tables."""
        return bool(self._reached(test)[0])

    def holder(self, test: ReadyTest) -> str:
        """The program that listens at an address before any service runs, empty where it cannot be told."""
        inodes, _ = self._reached(test)
        return next((name for inode in sorted(inodes) if (name := self._owner(inode))), "")

    def tcp(self) -> tuple[Listener, ...]:
        """All TCP sockets of this machine that listen, as far as that can be read."""
        return tuple(self._listeners()[0])

    def owned(self, listeners: Iterable[Listener], cgroup: str) -> tuple[Listener, ...]:
        """Those of `listeners` that processes in a cgroup have, as far as that can be read."""
        own, _ = self._sockets(self._observer.processes(cgroup))
        return tuple(item for item in listeners if item.inode in own)

    def addresses(self, cgroup: str) -> tuple[str, ...]:
        """Where the processes in a cgroup listen, as far as that can be read."""
        own, _ = self._sockets(self._observer.processes(cgroup))
        listeners, _ = self._listeners()
        sockets, _ = self._unix_listeners()
        shown = {item.shown for item in listeners if item.inode in own}
        return tuple(sorted(shown | {item.shown for item in sockets if item.inode in own}))

    def _reached(self, test: ReadyTest) -> tuple[frozenset[int], Missing | None]:
        """The inodes of the sockets that a connection can reach, and why some cannot be read."""
        if test.kind is not ReadyKind.UNIX:
            listeners, missing = self._listeners()
            return reached(listeners, *address(test)), missing
        sockets, missing = self._unix_listeners()
        # Of several with one path the last one that was bound answers, which the table does not tell.
        same = frozenset(item.inode for item in sockets if item.path == test.target)
        if not same and test.target.startswith("/"):
            # The program may have bound another path to the same place: Debian's PostgreSQL one below /var/run, a link.
            real = self._files.real(test.target)
            paths = (item for item in sockets if item.path.startswith("/"))
            same = frozenset(item.inode for item in paths if self._files.real(item.path) == real)
        return same, missing

    def _unix_listeners(self) -> tuple[tuple[UnixListener, ...], Missing | None]:
        # A path is bytes, and one that is no text must not hide the others.
        found = parsed(self._files.quick(_UNIX), lambda data: parse_unix_listeners(os.fsdecode(data)))
        return (found.value, None) if isinstance(found, Known) else ((), found)

    def _listeners(self) -> tuple[list[Listener], Missing | None]:
        """All that can be read, and why the rest cannot; a kernel without IPv6 has no table of it."""
        readings: list[Reading[tuple[Listener, ...]]] = [
            parsed(self._files.read(path), parse_listeners) for path in _TABLES
        ]
        found = [item for reading in readings if isinstance(reading, Known) for item in reading.value]
        return found, next((reading for reading in readings if isinstance(reading, Missing)), None)

    def _sockets(self, pids: Iterable[int]) -> tuple[frozenset[int], Missing | None]:
        """The inodes of the sockets that processes have open, and why those of some cannot be read."""
        found, denied = self._sockets_by_process(pids)
        return frozenset().union(*found.values()), denied

    def _sockets_by_process(self, pids: Iterable[int]) -> tuple[dict[int, set[int]], Missing | None]:
        """As `_sockets`, by process; in a few round trips where the machine is another one."""
        folders = {pid: f"/proc/{pid}/fd" for pid in pids}
        self._files.prefetch((), names=folders.values())
        listed, denied = dict[int, list[str]](), None
        for pid, folder in folders.items():
            names = self._files.names(folder)
            if isinstance(names, Known):
                listed[pid] = [f"{folder}/{name}" for name in names.value]
            # A process that ended has no sockets.
            elif names.why is not Why.ABSENT:
                denied = names
        listed |= self._of_threads([pid for pid, paths in listed.items() if not paths])
        self._files.prefetch((), links=(path for paths in listed.values() for path in paths))
        found: dict[int, set[int]] = {pid: set() for pid in folders}
        for pid, paths in listed.items():
            for path in paths:
                target = self._files.link(path)
                if isinstance(target, Known) and target.value.startswith("socket:["):
                    found[pid].add(int(target.value[len("socket:[") : -1]))
        return found, denied

    def _of_threads(self, pids: Iterable[int]) -> dict[int, list[str]]:
        """The open files of processes whose first thread has ended, and with it their own folder (pthread_exit(3))."""
        tops = {pid: f"/proc/{pid}/task" for pid in pids}
        self._files.prefetch((), names=tops.values())
        folders = {
            pid: [f"{top}/{task}/fd" for task in value_or(self._files.names(top), ()) if task != str(pid)]
            for pid, top in tops.items()
        }
        self._files.prefetch((), names=(folder for several in folders.values() for folder in several))
        found = dict[int, list[str]]()
        for pid, several in folders.items():
            listed = ([f"{folder}/{name}" for name in value_or(self._files.names(folder), ())] for folder in several)
            # Threads share their files.
            found[pid] = next(filter(None, listed), [])
        return found

    def _owner(self, inode: int) -> str:
        """The program of a socket, empty where it cannot be told; it looks into every process, so once a socket."""
        if inode not in self._known:
            self._known[inode] = self._searched(inode)
        return self._known[inode]

    def _searched(self, inode: int) -> str:
        pids = self._observer.pids()
        for first in range(0, len(pids), _AT_ONCE):
            found, _ = self._sockets_by_process(pids[first : first + _AT_ONCE])
            owner = next((pid for pid, inodes in found.items() if inode in inodes), None)
            if owner is not None:
                return self._words(owner)
        return ""

    def _words(self, pid: int) -> str:
        comm, cgroup = self._observer.comm(pid), self._observer.cgroup_of(pid)
        if comm == _SYSTEMD:
            return f"systemd (PID {pid}), for a socket unit"
        unit = cgroup.value.rpartition("/")[2] if isinstance(cgroup, Known) else ""
        # A service of the run by its name in the config.
        unit = unit.partition("-")[2] if unit.startswith(PREFIX) else unit
        return f"{comm or 'a program'} (PID {pid})" + (f" of {unit}" if unit else "")
