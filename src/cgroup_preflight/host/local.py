"""The door to the machine that this tool runs on; its programs are `host.command.LiveRunner`."""

import errno
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, missing
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.door import Status
from cgroup_preflight.host.files import write_file
from cgroup_preflight.host.fs import LiveFs

_KEEP_SIZE, _PUNCH_HOLE, _DETACH = 1, 2, 2
#: Of a file system in memory: a kernel without huge pages refuses the first ones.
MEMORY_OPTIONS = ("mode=700,size=100%,huge=always", "mode=700,size=100%")


class LocalClock:
    """As `Clock`: there is one machine, and its clock."""

    def monotonic(self) -> float:
        """time.monotonic()."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """time.sleep()."""
        time.sleep(seconds)

    def wall(self) -> float:
        """time.time()."""
        return time.time()

    def own_cpu(self) -> float:
        """times(2)."""
        return time.process_time()


class LocalProcesses:
    """As `Processes`, by pidfd_open(2)."""

    def own(self) -> int:
        """As `Processes.own`."""
        return os.getpid()

    def cpus(self) -> frozenset[int]:
        """sched_getaffinity(2)."""
        return frozenset(os.sched_getaffinity(0))

    def count_cpus(self) -> int:
        """sysconf(3)."""
        return os.cpu_count() or 1

    def open(self, pid: int) -> int | None:
        """As `Processes.open`."""
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            return None

    def close(self, handle: int) -> None:
        """As `Processes.close`."""
        os.close(handle)

    def signal(self, handle: int, number: signal.Signals) -> None:
        """As `Processes.signal`."""
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return

    def memory(self, pid: int, address: int, size: int) -> bytes:
        """As `Processes.memory`, by proc_pid_mem(5)."""
        try:
            handle = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(handle, size, address)
            finally:
                os.close(handle)
        except (OSError, OverflowError):
            return b""

    def wait(self, handles: Sequence[int], seconds: float, pipes: Sequence[int] = ()) -> Sequence[int]:
        """As `Processes.wait`."""
        # Not select(2), which knows no descriptor above 1023.
        poll = select.poll()
        for handle in (*handles, *pipes):
            poll.register(handle, select.POLLIN)
        return [handle for handle, _ in poll.poll(max(seconds, 0.0) * 1000)]


class LocalFifo:
    """As `Fifo`."""

    def __init__(self, path: str) -> None:
        """Makes it. Raises OSError."""
        os.mkfifo(path, 0o600)
        # For reading too, so that neither side waits for the other when it opens its end.
        self._handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)

    def write(self, line: str) -> None:
        """As `Fifo.write`; a line for a reader that has left all the others unread is lost."""
        with suppress(BlockingIOError):
            os.write(self._handle, f"{line}\n".encode())

    def close(self) -> None:
        """As `Fifo.close`."""
        os.close(self._handle)


class LocalFiles(LiveFs):
    """As `Files`."""

    def status(self, path: str) -> Reading[Status]:
        """As `Files.status`."""
        try:
            found = os.stat(path)
        except OSError as error:
            return missing(path, error)
        value = Status(size=found.st_size, mode=found.st_mode, uid=found.st_uid, gid=found.st_gid, time=found.st_mtime)
        return Known(value=value, source=path)

    def writable(self, path: str) -> bool:
        """As `Files.writable`."""
        return os.access(path, os.W_OK)

    def readable(self, path: str) -> bool:
        """As `Files.readable`."""
        return os.access(path, os.R_OK)

    def real(self, path: str) -> str:
        """As `Files.real`."""
        return os.path.realpath(path)

    def attribute(self, path: str, name: str) -> Reading[bytes]:
        """As `Files.attribute`."""
        try:
            return Known(value=os.getxattr(path, name), source=f"{path} {name}")
        except OSError as error:
            if error.errno == errno.ENODATA:
                return Missing(source=f"{path} {name}", why=Why.ABSENT)
            return missing(f"{path} {name}", error)

    def tail(self, path: str, offset: int, most: int) -> Reading[bytes]:
        """As `Files.tail`."""
        try:
            # Asked often, and seldom has it grown: one call then.
            if os.stat(path).st_size <= offset:
                return Known(value=b"", source=path)
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return Known(value=os.pread(handle, most, offset), source=path)
            finally:
                os.close(handle)
        except OSError as error:
            return missing(path, error)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """As `Files.write`."""
        try:
            write_file(path, data)
        except UsageError as error:
            raise _cannot(error.where, error.message) from None
        with _reasons(path):
            os.chmod(path, mode)

    def write_all(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """As `Files.write_all`."""
        paths = {os.path.join(folder, name): data for name, data in contents.items()}
        for parent in dict.fromkeys((folder, *map(os.path.dirname, paths))):
            self.make_folder(parent)
        for path, data in paths.items():
            try:
                write_file(path, data)
            except UsageError as error:
                raise _cannot(error.where, error.message) from None
        # The kernel's own time is that of the last tick: files that come right after others would not be there for it.
        now = time.time_ns()
        with _reasons(folder), suppress(PermissionError):
            os.utime(folder, ns=(now, now))

    def upload(self, source: BinaryIO, path: str, mode: int) -> None:
        """As `Files.upload`."""
        with _reasons(path):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(handle, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                os.fchmod(handle, mode)

    def write_attribute(self, path: str, text: str) -> None:
        """As `Files.write_attribute`."""
        with _reasons(path):
            handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(handle, text.encode())
            finally:
                os.close(handle)

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """As `Files.make_folder`."""
        with _reasons(path):
            os.makedirs(path, mode, exist_ok=True)

    def private_folder(self, prefix: str) -> str:
        """As `Files.private_folder`."""
        with _reasons(tempfile.gettempdir()):
            return tempfile.mkdtemp(prefix=prefix)

    def remove_private(self, prefix: str) -> None:
        """As `Files.remove_private`."""
        top = tempfile.gettempdir()
        for name in os.listdir(top):
            path = os.path.join(top, name)
            if name.startswith(prefix) and os.lstat(path).st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)

    def fifo(self, path: str) -> LocalFifo:
        """As `Files.fifo`."""
        with _reasons(path):
            return LocalFifo(path)

    def sync(self) -> None:
        """As `Files.sync`."""
        os.sync()

    def remove(self, paths: Iterable[str]) -> None:
        """As `Files.remove`."""
        for path in paths:
            with _reasons(path), suppress(FileNotFoundError):
                try:
                    os.unlink(path)
                except IsADirectoryError:
                    shutil.rmtree(path)

    def touch(self, folder: str) -> None:
        """As `Files.touch`."""
        now = time.time_ns()
        with _reasons(folder):
            os.utime(folder, ns=(now, now))

    def mount_memory(self, folder: str) -> None:
        """As `Files.mount_memory`."""
        import ctypes  # only in a guest, where a program would take longer

        call = ctypes.CDLL(None, use_errno=True).mount
        for options in MEMORY_OPTIONS:
            if call(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options.encode()) == 0:
                return
        raise _cannot(folder, os.strerror(ctypes.get_errno()))

    def unmount(self, folder: str) -> None:
        """As `Files.unmount`."""
        import ctypes

        if ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), _DETACH) != 0:
            raise _cannot(folder, os.strerror(ctypes.get_errno()))

    def free(self, path: str, start: int, end: int) -> None:
        """As `Files.free`."""
        import ctypes  # only for a service that writes a lot

        call = ctypes.CDLL(None, use_errno=True).fallocate
        call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        with _reasons(path):
            handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                call(handle, _KEEP_SIZE | _PUNCH_HOLE, start, end - start)
            finally:
                os.close(handle)


@contextmanager
def _reasons(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from None


def _cannot(path: str, reason: str) -> HostError:
    return HostError(
        f"cannot write: {reason}", where=path, remedy=Remedy(title="free space, or make the place writable")
    )
