"""Log files that other programs write: read to the end, and followed while they grow, are replaced or appear."""

import os
from collections.abc import Callable, Iterator, Mapping

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.files import open_regular

if TYPE_CHECKING:
    from typing import BinaryIO

#: Seconds between two looks.
PAUSE = 0.3
#: A longer line is shown in parts.
LINE_MAX = 1 << 16
#: What is shown of each file before it is followed: about its last lines.
TAIL = 4096


class LogFile:
    """One file at a path; lines are read as they come. Raises OSError where it exists and cannot be read."""

    def __init__(self, path: str, *, tail: bool = False) -> None:
        self._path = path
        self._tail = tail
        self._file: BinaryIO | None = None
        self._rest = b""

    def lines(self, *, last: bool = False) -> Iterator[bytes]:
        """What is new since the last call, line by line; with `last`, also a line without an end."""
        if self._file is None or self._is_other(self._file):
            self._open()
        if self._file is None:
            return
        while data := self._file.read(LINE_MAX):
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from lines
            if len(self._rest) > LINE_MAX:
                yield self._rest
                self._rest = b""
        if last and self._rest:
            yield self._rest
            self._rest = b""

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self.close()
        self._rest = b""
        try:
            file = open_regular(self._path, follow=False)
        except FileNotFoundError:
            self._tail = False
            return
        if self._tail and os.fstat(file.fileno()).st_size > TAIL:
            file.seek(-TAIL, os.SEEK_END)
            file.readline()
        self._file, self._tail = file, False

    def _is_other(self, file: "BinaryIO") -> bool:
        """Whether a new file took the name, or the file was emptied."""
        try:
            now = os.stat(self._path)
        except OSError:
            return False
        mine = os.fstat(file.fileno())
        return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino) or now.st_size < file.tell()


def lines_of_files(
    paths: Mapping[str, str], *, follow: bool, sleep: Callable[[float], None]
) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    """The lines of files by name, one file after the other; with `follow`, their last ones and then all that come.

    Raises OSError for a file that cannot be read.
    """
    files = {name: LogFile(path, tail=follow) for name, path in paths.items()}
    try:
        while True:
            for name, file in files.items():
                for line in file.lines(last=not follow):
                    yield name, line
            if not follow:
                return
            sleep(PAUSE)
    finally:
        for file in files.values():
            file.close()
