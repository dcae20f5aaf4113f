"""What the kernel reports of slices through inotify(7): hints where to look, never a count.

A folder's watch reports what is created and removed in it, and each file in it that changes: kernfs reports a change of
memory.events or cgroup.events to the folder, too, if the file is open somewhere (fs/kernfs/file.c, kernfs_notify).
Reports are joined, at most 100 a second for each file (kernel/cgroup/cgroup.c), and lost when the queue is full.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterable, Iterator

from cgroup_preflight.core.records import dataclass

_MODIFY, _CREATE, _DELETE, _OVERFLOW, _IGNORED, _ONLY_FOLDERS = 0x2, 0x100, 0x200, 0x4000, 0x8000, 0x01000000
_MASK = _MODIFY | _CREATE | _DELETE | _ONLY_FOLDERS
_IS_FOLDER = 0x40000000
_EVENT = struct.Struct("iIII")
_BUFFER = 1 << 16
_EVENT_FILES = ("memory.events", "memory.events.local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What came at once: paths of cgroups.

    `events`: new memory events; `limits`: another file changed, such as a limit or `cgroup.events`; `created` and `removed`:
    the path of
    the parent and the name. `count` is the number of reports; `overflow`: some were lost.
    """

    events: frozenset[str] = frozenset()
    limits: frozenset[str] = frozenset()
    created: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    count: int = 0
    overflow: bool = False


class Watch:
    """One inotify instance. Raises OSError where there can be none."""

    def __init__(self, mount: str) -> None:
        self._mount = mount.rstrip("/")
        self._library = ctypes.CDLL(None, use_errno=True)
        self.handle = self._call(self._library.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)
        self._paths: dict[int, str] = {}
        self._numbers: dict[str, int] = {}

    def _call(self, function: Callable[..., int], *arguments: object) -> int:
        result = function(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    def follow(self, paths: Iterable[str]) -> Iterator[str]:
        """Watches the folders at these paths and no others; yields each that is new. Raises OSError."""
        wanted = set(paths)
        for path in self._numbers.keys() - wanted:
            self._remove(path)
        for path in sorted(wanted - self._numbers.keys()):
            folder = os.fsencode(f"{self._mount}{path}" or "/")
            try:
                number = self._call(self._library.inotify_add_watch, self.handle, folder, _MASK)
            except FileNotFoundError:
                continue
            self._paths[number], self._numbers[path] = path, number
            yield path

    def forget(self, paths: Iterable[str] | None = None) -> None:
        """Ends the watches of these folders, or all: the kernel does not always say that a folder is another one now.

        Before Linux 7.1 it does not tell when a watched cgroup is removed (fs/kernfs), and such a report can be lost.
        """
        for path in self._numbers.keys() & (self._numbers.keys() if paths is None else set(paths)):
            self._remove(path)

    def _remove(self, path: str) -> None:
        number = self._numbers.pop(path)
        self._paths.pop(number, None)
        self._library.inotify_rm_watch(self.handle, number)

    def reports(self) -> Reports:
        """All reports so far, without waiting."""
        events, limits = set[str](), set[str]()
        created, removed = list[tuple[str, str]](), list[tuple[str, str]]()
        count, overflow = 0, False
        for number, mask, name in self._read():
            count += 1
            if mask & _OVERFLOW:
                overflow = True
            path = self._paths.get(number)
            if path is None:
                continue
            if mask & _IGNORED:
                del self._paths[number]
                self._numbers.pop(path, None)
            elif mask & _IS_FOLDER:
                (removed if mask & _DELETE else created).append((path, name))
            elif mask & _MODIFY:
                (events if name in _EVENT_FILES else limits).add(path)
        return Reports(
            events=frozenset(events), limits=frozenset(limits), created=tuple(created), removed=tuple(removed),
            count=count, overflow=overflow,
        )  # fmt: skip

    def _read(self) -> Iterator[tuple[int, int, str]]:
        while True:
            try:
                data = os.read(self.handle, _BUFFER)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                return
            at = 0
            while at < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                yield number, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
                at += length

    def close(self) -> None:
        """Ends all watches."""
        os.close(self.handle)
