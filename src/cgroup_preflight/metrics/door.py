"""The files of cgroups: with kept descriptors on the running kernel, or from a recorded host or a tree of files.

An open file of a removed cgroup answers ENODEV, and never speaks for a new cgroup of the same name.
"""

import errno
import os
from collections.abc import Mapping, Sequence

from cgroup_preflight.core.reading import Known, Missing, Reading
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.fs import HostFs

if TYPE_CHECKING:
    from typing import Protocol, TypeVar

    T = TypeVar("T")
else:
    Protocol = object

#: What one read returns at most of a file of the kernel; more takes another read.
_PAGE = 4096
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
#: Descriptors that are left for connections, outputs and folders.
_RESERVED = 200


class Folder(Protocol):
    """The folder of one cgroup, from its creation to its removal."""

    @property
    def identity(self) -> int:
        """Its inode number; 0 where a recording has none."""

    def enter(self) -> None:
        """Says that its files are read now."""

    def read(self, name: str, keep: bool = True) -> bytes:  # noqa: FBT001, FBT002 - called for every file
        """The text of one file, which stays open with `keep`. Raises OSError; ENODEV when the cgroup was removed."""

    def news(self, names: Sequence[str], known: Mapping[str, bytes]) -> dict[str, bytes]:
        """Of those `names` that are in `known`, the files that have another text now. Raises OSError as `read`."""

    def children(self) -> Sequence[str]:
        """The names of the cgroups in it. Raises OSError."""

    def close(self) -> None:
        """Gives back what is open."""


class Door(Protocol):
    """All cgroups below one mount."""

    def open(self, cgroup: str) -> Folder:
        """The folder at a path below the mount; an empty path is the root. Raises OSError."""

    def turn(self) -> None:
        """Begins the next reading of the tree."""


class RecordedDoor:
    """Cgroups of a recorded host, or of a tree of files, through its `HostFs`."""

    def __init__(self, fs: HostFs, mount: str) -> None:
        self._fs = fs
        self._mount = mount.rstrip("/")

    def open(self, cgroup: str) -> "RecordedFolder":
        """As `Door.open`."""
        path = f"{self._mount}{cgroup}"
        found = _value(self._fs.exists(path))
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return RecordedFolder(self._fs, path)

    def turn(self) -> None:
        """As `Door.turn`; a recording never changes."""


class RecordedFolder:
    """A cgroup of a recorded host."""

    identity = 0

    def __init__(self, fs: HostFs, path: str) -> None:
        self._fs = fs
        self._path = path

    def enter(self) -> None:
        """As `Folder.enter`; nothing is kept."""

    def read(self, name: str, keep: bool = True) -> bytes:  # noqa: ARG002, FBT001, FBT002
        """As `Folder.read`; nothing is kept."""
        return _value(self._fs.read(f"{self._path}/{name}")).encode()

    def news(self, names: Sequence[str], known: Mapping[str, bytes]) -> dict[str, bytes]:
        """As `Folder.news`."""
        found = {name: self.read(name) for name in names if name in known}
        return {name: data for name, data in found.items() if data != known[name]}

    def children(self) -> Sequence[str]:
        """As `Folder.children`: every cgroup has a file `cgroup.procs`."""
        names = _value(self._fs.names(self._path))
        return tuple(name for name in names if self._has_processes(name))

    def _has_processes(self, name: str) -> bool:
        found = self._fs.exists(f"{self._path}/{name}/cgroup.procs")
        return isinstance(found, Known) and found.value

    def close(self) -> None:
        """As `Folder.close`; nothing is open."""


def _value(reading: "Reading[T]") -> "T":
    if isinstance(reading, Missing):
        number = reading.errno or errno.ENOENT
        raise OSError(number, os.strerror(number), reading.source)
    return reading.value


class LiveDoor:
    """Cgroups of the running kernel below a mount, or a tree of files at any other place.

    Files stay open between readings, as many as `budget`; then those of cgroups that were not read in the last two
    readings are closed. Where there are none, a cgroup is read through a folder that is opened for that time only.
    """

    def __init__(self, mount: str, budget: int | None = None) -> None:
        self._mount = mount.rstrip("/")
        self._budget = descriptors() if budget is None else budget
        self._used: dict[LiveFolder, None] = {}
        #: What can be closed, the oldest last; None until it is needed.
        self._old: list[LiveFolder] | None = None
        self._passing: LiveFolder | None = None
        self.now = 0
        self.kept = 0

    def turn(self) -> None:
        """As `Door.turn`."""
        self.now += 1
        self._old = None

    def open(self, cgroup: str) -> "LiveFolder":
        """As `Door.open`."""
        path = f"{self._mount}{cgroup}"
        handle = os.open(path or "/", _FOLDER)
        return LiveFolder(self, path, handle)

    def admit(self, folder: "LiveFolder") -> bool:
        """Whether `folder` may keep its files open; where there is no room, it is closed when the next one is read."""
        passing, self._passing = self._passing, None
        if passing is not None and passing is not folder:
            passing.close()
        if self._has_room():
            self._used[folder] = None
            return True
        self._passing = folder
        return False

    def _has_room(self) -> bool:
        if self.kept >= self._budget:
            if self._old is None:
                # Closing what every reading needs, to read it again through the next one, would keep nothing.
                self._old = sorted(
                    (each for each in self._used if each.turn < self.now - 1), key=lambda each: -each.turn
                )
            while self._old and self.kept >= self._budget:
                self._old.pop().close()
        return self.kept < self._budget

    def leave(self, folder: "LiveFolder") -> None:
        """Notes that `folder` has closed everything."""
        self._used.pop(folder, None)
        if self._passing is folder:
            self._passing = None


class LiveFolder:
    """The folder of one cgroup of the running kernel."""

    __slots__ = ("_door", "_files", "_handle", "_is_kept", "_path", "identity", "turn")

    def __init__(self, door: LiveDoor, path: str, handle: int) -> None:
        self._door = door
        self._path = path
        self._handle = handle
        self._files: dict[str, int] = {}
        self.identity = os.fstat(handle).st_ino
        self.turn = -1
        self._is_kept = False
        door.kept += 1

    def enter(self) -> None:
        """As `Folder.enter`."""
        self.turn = self._door.now
        if not self._is_kept:
            self._is_kept = self._door.admit(self)

    def news(self, names: Sequence[str], known: Mapping[str, bytes]) -> dict[str, bytes]:
        """As `Folder.news`."""
        files, found, pread = self._files, dict[str, bytes](), os.pread
        for name in names:
            old = known.get(name)
            if old is not None:
                handle = files.get(name)
                data = self.read(name) if handle is None else pread(handle, _PAGE, 0)
                if data != old:
                    found[name] = data if handle is None or len(data) < _PAGE // 2 else _rest(handle, data)
        return found

    def read(self, name: str, keep: bool = True) -> bytes:  # noqa: FBT001, FBT002
        """As `Folder.read`."""
        handle = self._files.get(name)
        if handle is None:
            if not keep:
                return self._read_once(name)
            handle = self._open(name)
        data = os.pread(handle, _PAGE, 0)
        if len(data) < _PAGE // 2:
            return data
        return _rest(handle, data)

    def _read_once(self, name: str) -> bytes:
        handle = os.open(name, _FILE, dir_fd=self._folder())
        try:
            return _rest(handle, os.pread(handle, _PAGE, 0))
        finally:
            os.close(handle)

    def _open(self, name: str) -> int:
        handle = os.open(name, _FILE, dir_fd=self._folder())
        self._files[name] = handle
        self._door.kept += 1
        return handle

    def _folder(self) -> int:
        """The open folder; the one at its path may be another one now."""
        if self._handle < 0:
            try:
                handle = os.open(self._path or "/", _FOLDER)
            except FileNotFoundError:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), self._path) from None
            if os.fstat(handle).st_ino != self.identity:
                os.close(handle)
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), self._path)
            self._handle = handle
            self._door.kept += 1
        return self._handle

    def children(self) -> Sequence[str]:
        """As `Folder.children`; links are none."""
        with os.scandir(self._folder()) as items:
            return [item.name for item in items if item.is_dir(follow_symlinks=False)]

    def close(self) -> None:
        """As `Folder.close`; it is opened again when it is read."""
        self._door.leave(self)
        self._is_kept = False
        handles = [*self._files.values(), *([self._handle] if self._handle >= 0 else ())]
        self._files, self._handle = {}, -1
        self._door.kept -= len(handles)
        for handle in handles:
            os.close(handle)

    def __del__(self) -> None:
        """A reading that nobody has any more keeps no file open."""
        self.close()


def _rest(handle: int, data: bytes) -> bytes:
    """The whole text: the kernel returns a long file in parts."""
    parts, total = [data], len(data)
    while part := os.pread(handle, _PAGE, total):
        parts.append(part)
        total += len(part)
    return b"".join(parts)


def descriptors() -> int:
    """How many files this process can keep open, after raising its soft limit to the hard one (setrlimit(2))."""
    import resource  # only who reads a whole tree needs it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1 << 20)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass
    return max(soft - _RESERVED, 0)
