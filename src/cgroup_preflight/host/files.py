"""Writes a file whole or not at all: temporary file in the same folder, fsync, rename, fsync of the folder."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from io import FileIO
from typing import BinaryIO

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy

#: Bytes read at once where the kernel cannot copy.
_CHUNK = 1 << 18
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

        Raises EOFError if the source is short, OSError.
        """
        while length > 0:
            try:
                if not _HAS_RANGES:
                    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
                done = os.copy_file_range(source.fileno(), self._handle, min(length, 1 << 30), start)
            except OSError as error:
                if error.errno not in _NO_RANGES:
                    raise
                data = os.pread(source.fileno(), min(length, _CHUNK), start)
                self.write(data)
                done = len(data)
            if done == 0:
                raise EOFError("the source became shorter while it was read")
            start, length = start + done, length - done

    def finish(self, mode: int, mtime: int | None) -> None:
        """Mode, and time if there is one, of a file that replaces none."""
        os.fchmod(self._handle, mode)
        if mtime is not None:
            os.utime(self._handle, (mtime, mtime))


def temporary_path(path: str) -> str:
    """The one temporary name for `path`: what a killed run left there is taken over by the next one."""
    folder, name = os.path.split(path)
    short = os.fsdecode(os.fsencode(name)[:200])  # NAME_MAX counts bytes
    return os.path.join(folder, f".{short}.cgroup-preflight.tmp")


@contextlib.contextmanager
def replacing(path: str, source: BinaryIO | None, since: os.stat_result | None = None) -> Iterator[Sink]:
    """A file that takes the place of `path` when the block ends without an exception.

    Mode, owner and extended attributes are those of `source`, the open file that is replaced. Raises UsageError where
    it cannot be written, another process writes it, or the artifact changed in the meantime (`since` it was first
    read); `path` is then as before.
    """
    temporary = temporary_path(path)
    try:
        with _locked(temporary) as file:
            done = False
            try:
                yield Sink(file.fileno())
                if source is not None:
                    _check_same(path, source, since)
                    _copy_metadata(source, file)
                os.fsync(file.fileno())
                os.rename(temporary, path)
                done = True
            finally:
                if not done:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary)
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from None


@contextlib.contextmanager
def _locked(temporary: str) -> Iterator[FileIO]:
    """The temporary file, empty and locked; a lock, unlike a name, ends with the process that holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        with os.fdopen(os.open(temporary, flags, 0o600), "r+b", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
                raise _cannot(temporary, "that file is not one of ours", "remove it")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise _cannot(temporary, "another process is writing this artifact", "wait for it") from None
            # Between open and lock another process may have finished and renamed this very file.
            if not _is_at(temporary, status):
                continue
            file.truncate()
            yield file
            return


@contextlib.contextmanager
def locked_folder(folder: str) -> Iterator[None]:
    """Holds a lock on a folder, so that one process at a time puts a tree into it. Raises UsageError, OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _cannot(folder, "another process is writing an artifact there", "wait for it") from None
        yield
    finally:
        os.close(handle)


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), status)
    except FileNotFoundError:
        return False


def _check_same(path: str, source: BinaryIO, since: os.stat_result | None) -> None:
    ours = os.fstat(source.fileno())
    written = since is not None and (since.st_mtime_ns, since.st_size) != (ours.st_mtime_ns, ours.st_size)
    if written or not _is_at(path, ours):
        raise _cannot(path, "the artifact was changed while it was read", "try again")


def _copy_metadata(source: BinaryIO, file: FileIO) -> None:
    status = os.fstat(source.fileno())
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: not Linux, no such attributes
        for name in os.listxattr(source.fileno()):
            os.setxattr(file.fileno(), name, os.getxattr(source.fileno(), name))
    os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))


def sync_folder(folder: str) -> None:
    """Makes a rename durable; a file system that cannot do it for folders (EINVAL) has no better."""
    handle = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _cannot(path: str, reason: str, title: str = "make room, or make the folder writable") -> UsageError:
    return UsageError(f"cannot write: {reason}", where=path, remedy=Remedy(title=title))
