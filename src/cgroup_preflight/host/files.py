"""Files that are written whole or not at all, and regular files that are opened safely.

A file is written to a temporary file in the same folder, then fsync, rename, fsync of the folder.
"""

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy

if TYPE_CHECKING:
    from typing import BinaryIO

#: Bytes read at once where the kernel cannot copy.
_CHUNK = 1 << 18
#: What copy_file_range(2) answers where it cannot do it; then it is read and written instead.
_NO_RANGES = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EIO, errno.EBADF)
#: Python offers it on Linux only; artifacts are also built elsewhere.
_HAS_RANGES = hasattr(os, "copy_file_range")
#: As the kernel: more links in one path are taken for a loop (path_resolution(7)).
_LINKS_MAX = 40
#: How long a small file waits for another process that writes the same one.
_WAIT_SECONDS = 10.0


class NotRegularError(OSError):
    """The path leads to a FIFO, socket or device, or to a link that must not be followed."""


class Sink:
    """Writes whole chunks to a file descriptor; its owner closes it."""

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

    def copy(self, source: "BinaryIO", start: int, length: int) -> None:
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
        """Mode, and time in seconds of the epoch if there is one, of a file that replaces none."""
        os.fchmod(self._handle, mode)
        if mtime is not None:
            os.utime(self._handle, (mtime, mtime))


def open_regular(path: str | bytes, *, follow: bool) -> "BinaryIO":
    """A regular file, open for reading; with `follow` the last part of `path` may be a symbolic link.

    Nothing else is opened: a FIFO would block, and opening some devices (watchdog, tape) has effects of its own.
    Raises NotRegularError, IsADirectoryError, other OSError.
    """
    return os.fdopen(regular_handle(path, follow=follow), "rb")


def regular_handle(path: str | bytes, *, follow: bool, may_be_device: bool = True) -> int:
    """As `open_regular`, a descriptor that the caller closes; where no device can be, nothing is asked before the open."""
    if may_be_device:
        _require_regular(os.stat(path, follow_symlinks=follow), path)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    try:
        _require_regular(os.fstat(handle), path)  # again: it may have been replaced in between
    except OSError:
        os.close(handle)
        raise
    return handle


def _require_regular(status: os.stat_result, path: str | bytes) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(errno.EINVAL, "not a regular file", path)


def write_output(path: str, data: bytes) -> None:
    """Writes to the file that a user named, as a shell's `>` does: links, devices and FIFOs are written through.

    A regular file is written whole or not at all; `/dev/stdout` and the like go to the open descriptor itself, so that
    the mode (append) and position that the caller gave it hold. A reader that closes a pipe early is no error, as on
    stdout. Raises UsageError.
    """
    try:
        number = _descriptor(path)
        if number is not None:
            Sink(number).write(data)
            return
        real = os.path.realpath(path)
        if os.path.islink(real):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if os.path.exists(real) and not os.path.isfile(real):
            handle = os.open(real, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            with os.fdopen(handle, "wb", buffering=0):
                Sink(handle).write(data)
            return
    except BrokenPipeError:
        return
    except OSError as error:
        raise _cannot(path, error.strerror or str(error), "choose another file") from None
    write_file(real, data)


def _descriptor(path: str) -> int | None:
    """The number of the open descriptor that `path` names through links (`/dev/stdout`, `/dev/fd/63`), else None."""
    own = re.compile(rf"/proc/{os.getpid()}(?:/task/\d+)?/fd|/dev/fd")
    for _ in range(_LINKS_MAX):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder or ".")
        if own.fullmatch(folder) and name.isascii() and name.isdecimal():
            return int(name)
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def write_file(path: str, data: bytes) -> None:
    """Replaces or creates one regular file, whole or not at all; mode and owner of a file that is replaced stay.

    A link at `path` is replaced, not followed: what lies in a folder may come from somebody else. Waits a few seconds
    for another process that writes the same file. Raises UsageError.
    """
    try:
        source = open_regular(path, follow=False)
    except OSError:
        source = None
    with source or contextlib.nullcontext(), _replaced(path, source, mode=0o666, wait=_WAIT_SECONDS) as sink:
        sink.write(data)


@contextlib.contextmanager
def replacing(path: str, source: "BinaryIO | None", since: os.stat_result | None = None) -> Iterator[Sink]:
    """A file that takes the place of `path` when the block ends without an exception.

    Mode, owner and extended attributes are those of `source`, the open file that is replaced. Raises UsageError where
    it cannot be written, another process writes it, or `source` changed since it was first read (`since`); `path` is
    then as before.
    """
    with _replaced(path, source, mode=0o600, wait=0.0) as sink:
        yield sink
        if source is not None:
            _check_same(path, source, since)


@contextlib.contextmanager
def _replaced(path: str, source: "BinaryIO | None", *, mode: int, wait: float) -> Iterator[Sink]:
    temporary = temporary_path(path)
    try:
        with _locked(temporary, mode, wait) as handle:
            done = False
            try:
                yield Sink(handle)
                if source is not None:
                    _copy_metadata(source, handle)
                os.fsync(handle)
                os.rename(temporary, path)
                done = True
            finally:
                if not done:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary)
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from None


def temporary_path(path: str) -> str:
    """The one temporary name for `path`: what a killed run left there is taken over by the next one."""
    folder, name = os.path.split(path)
    short = os.fsdecode(os.fsencode(name)[:200])  # NAME_MAX counts bytes
    return os.path.join(folder, f".{short}.cgroup-preflight.tmp")


@contextlib.contextmanager
def _locked(temporary: str, mode: int, wait: float) -> Iterator[int]:
    """The temporary file, empty and locked; a lock, unlike a name, ends with the process that holds it."""
    deadline = time.monotonic() + wait
    while True:
        handle = _open_temporary(temporary, mode)
        try:
            if not _lock(handle):
                if time.monotonic() >= deadline:
                    raise _cannot(temporary, "another process is writing this file", "wait until it has ended")
                time.sleep(0.02)
            # Between open and lock another process may have finished and renamed this very file.
            elif _is_at(temporary, os.fstat(handle)):
                os.truncate(handle, 0)
                yield handle
                return
        finally:
            os.close(handle)


def _open_temporary(temporary: str, mode: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(temporary, flags | os.O_EXCL, mode)
    except FileExistsError:
        handle = os.open(temporary, flags, mode)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_uid != os.geteuid():
        os.close(handle)
        raise _cannot(temporary, "a file that this tool did not make is in the way", "remove it")
    return handle


def _lock(handle: int) -> bool:
    """Locks a file or folder; False where another process has the lock. Raises OSError."""
    import fcntl  # only who writes needs it

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked_folder(folder: str) -> Iterator[None]:
    """Locks a folder, so that one process at a time puts a tree into it. Raises UsageError, OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _lock(handle):
            raise _cannot(folder, "another process is writing an artifact in this folder", "wait until it has ended")
        yield
    finally:
        os.close(handle)


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), status)
    except FileNotFoundError:
        return False


def _check_same(path: str, source: "BinaryIO", since: os.stat_result | None) -> None:
    ours = os.fstat(source.fileno())
    written = since is not None and (since.st_mtime_ns, since.st_size) != (ours.st_mtime_ns, ours.st_size)
    if written or not _is_at(path, ours):
        raise _cannot(path, "the file was changed while it was read", "try again")


def _copy_metadata(source: "BinaryIO", handle: int) -> None:
    status = os.fstat(source.fileno())
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(PermissionError):
            os.fchown(handle, status.st_uid, status.st_gid)
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: not Linux, no such attributes
        for name in os.listxattr(source.fileno()):
            os.setxattr(handle, name, os.getxattr(source.fileno(), name))
    os.fchmod(handle, stat.S_IMODE(status.st_mode))


def sync_folder(folder: str) -> None:
    """Makes a rename durable; a file system that cannot do it for folders (EINVAL) has no better. Raises OSError."""
    handle = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _cannot(path: str, reason: str, title: str = "free space, or make the folder writable") -> UsageError:
    return UsageError(f"cannot write: {reason}", where=path, remedy=Remedy(title=title))
