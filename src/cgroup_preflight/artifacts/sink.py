"""The file being written: unbuffered, since ranges are copied past any buffer by the kernel."""

import errno
import os
from typing import BinaryIO

from cgroup_preflight.artifacts.errors import corrupt
from cgroup_preflight.artifacts.model import CHUNK

#: What copy_file_range(2) answers where it cannot do it; then it is read and written instead.
_NO_RANGES = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EIO, errno.EBADF)

#: Python offers it on Linux only; artifacts are also built elsewhere.
_HAS_RANGES = hasattr(os, "copy_file_range")


class Sink:
    """Writes whole chunks to a file descriptor that belongs to somebody else."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def write(self, data: bytes | memoryview) -> None:
        """All of `data`. Raises OSError."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]

    def tell(self) -> int:
        """Where the next byte goes."""
        return os.lseek(self._handle, 0, os.SEEK_CUR)

    def patch(self, offset: int, data: bytes) -> None:
        """Overwrites what was written before; the position stays."""
        if os.pwrite(self._handle, data, offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def copy(self, source: BinaryIO, start: int, length: int) -> None:
        """A range of `source`; shares blocks or copies in the kernel where it can.

        Raises ArtifactError if the source is short, OSError.
        """
        while length > 0:
            try:
                if not _HAS_RANGES:
                    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
                done = os.copy_file_range(source.fileno(), self._handle, min(length, 1 << 30), start)
            except OSError as error:
                if error.errno not in _NO_RANGES:
                    raise
                data = os.pread(source.fileno(), min(length, CHUNK), start)
                self.write(data)
                done = len(data)
            if done == 0:
                raise corrupt("the artifact became shorter while it was read")
            start, length = start + done, length - done

    def finish(self, mode: int, mtime: int | None) -> None:
        """Mode, and time if there is one, of a file that replaces none."""
        os.fchmod(self._handle, mode)
        if mtime is not None:
            os.utime(self._handle, (mtime, mtime))
