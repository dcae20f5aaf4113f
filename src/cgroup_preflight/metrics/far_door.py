"""The files of cgroups of another machine: read in batches, because each question takes its way there and back."""

import errno
import os
from collections.abc import Mapping, Sequence

from cgroup_preflight.core.reading import Missing, Reading, Why
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.fs import MachineFs

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


class FarDoor:
    """As `door.Door`. Each turn begins with one batch: all files that the turn before has read."""

    def __init__(self, files: MachineFs, mount: str) -> None:
        self._files = files
        self._mount = mount.rstrip("/")
        self._asked: dict[str, None] = {}

    def turn(self) -> None:
        """As `Door.turn`."""
        asked, self._asked = self._asked, {}
        self._files.forget()
        self._files.prefetch(asked)

    def open(self, cgroup: str) -> "FarFolder":
        """As `Door.open`; a folder that does not exist has no files."""
        return FarFolder(self, f"{self._mount}{cgroup}")

    def read(self, path: str) -> bytes:
        """The content of a file. Raises OSError."""
        # Also what does not exist: it is asked for again.
        self._asked[path] = None
        return _value(self._files.data(path))

    def folders(self, path: str) -> Sequence[str]:
        """The names of the folders in a folder. Raises OSError."""
        return _value(self._files.folders(path))


class FarFolder:
    """As `door.Folder`. No number says whether a cgroup was removed and made again: its counters do."""

    identity = 0

    def __init__(self, door: FarDoor, path: str) -> None:
        self._door, self._path = door, path

    def enter(self) -> None:
        """As `Folder.enter`; nothing is kept."""

    def read(self, name: str, keep: bool = True) -> bytes:  # noqa: ARG002, FBT001, FBT002
        """As `Folder.read`."""
        return self._door.read(f"{self._path}/{name}")

    def news(self, names: Sequence[str], known: Mapping[str, bytes]) -> dict[str, bytes]:
        """As `Folder.news`."""
        found = {name: self.read(name) for name in names if name in known}
        return {name: data for name, data in found.items() if data != known[name]}

    def children(self) -> Sequence[str]:
        """As `Folder.children`: each folder in the folder of a cgroup is a cgroup."""
        return self._door.folders(self._path)

    def close(self) -> None:
        """As `Folder.close`; nothing is open."""


def _value(reading: "Reading[T]") -> "T":
    if isinstance(reading, Missing):
        number = reading.errno or (errno.ENOENT if reading.why is Why.ABSENT else errno.EIO)
        raise OSError(number, os.strerror(number), reading.source)
    return reading.value
