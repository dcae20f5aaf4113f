"""Files below a root: whole reads, links, folders, mount flags; errno kept, nothing written."""

import errno
import os
from typing import Protocol

from cgroup_preflight.reading import Known, Missing, Reading, Why, missing

#: No kernel file this tool reads is near this size; a larger one is refused, not cut.
TEXT_MAX = 4 << 20


class HostFs(Protocol):
    """What facts are read through; paths are absolute as the host sees them."""

    def read(self, path: str) -> Reading[str]:
        """The whole text of a file."""

    def link(self, path: str) -> Reading[str]:
        """The target of a symbolic link."""

    def names(self, path: str) -> Reading[tuple[str, ...]]:
        """The sorted names in a folder."""

    def read_only(self, path: str) -> Reading[bool]:
        """Whether the file system at `path` is mounted read-only (statvfs flag ST_RDONLY)."""

    def machine(self) -> Reading[str]:
        """The hardware name of uname(2)."""


class LiveFs:
    """The running host, or with `root` a tree of another one mounted elsewhere."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")

    def _at(self, path: str) -> str:
        return f"{self._root}{path}"

    def read(self, path: str) -> Reading[str]:
        """The whole text; binary or oversized content is malformed, never cut."""
        try:
            # O_NONBLOCK: a FIFO in a mounted tree must not hang the reader.
            handle = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                data = _read_all(handle)
            finally:
                os.close(handle)
            if len(data) > TEXT_MAX:
                return Missing(source=path, why=Why.MALFORMED, detail="larger than 4M")
            return Known(value=data.decode("utf-8"), source=path)
        except OSError as error:
            return missing(path, error)
        except UnicodeDecodeError:
            return Missing(source=path, why=Why.MALFORMED, detail="not text")

    def link(self, path: str) -> Reading[str]:
        """The target as the link spells it."""
        try:
            return Known(value=os.readlink(self._at(path)), source=path)
        except OSError as error:
            return missing(path, error)

    def names(self, path: str) -> Reading[tuple[str, ...]]:
        """The names, sorted."""
        try:
            return Known(value=tuple(sorted(os.listdir(self._at(path)))), source=path)
        except OSError as error:
            return missing(path, error)

    def read_only(self, path: str) -> Reading[bool]:
        """ST_RDONLY of the file system."""
        try:
            return Known(value=bool(os.statvfs(self._at(path)).f_flag & os.ST_RDONLY), source=f"statvfs {path}")
        except OSError as error:
            return missing(path, error)

    def machine(self) -> Reading[str]:
        """uname(2); unknown for a tree of another host."""
        if self._root:
            return Missing(source="uname", why=Why.NOT_RECORDED, errno=errno.ENOENT)
        return Known(value=os.uname().machine, source="uname")


def _read_all(handle: int) -> bytes:
    """Up to one byte more than allowed; kernel files must be read to their end, not by size."""
    parts, total = [], 0
    while total <= TEXT_MAX:
        part = os.read(handle, 1 << 16)
        if not part:
            break
        parts.append(part)
        total += len(part)
    return b"".join(parts)
