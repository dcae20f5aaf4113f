"""The door to one machine: the files, processes, programs, service manager, clock and network that a run uses.

Whoever needs one of them is handed a door, so that the machine can be another one, or none in a unit test. The door to
this machine is in `host.local`, that to a machine at the other end of a line in `host.remote`.

A machine that does not answer: reads are `Missing` (why FAILED, and the reason), everything else raises HostError. Paths
are absolute paths of the machine. Every call has a time-out.
"""

import signal
from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.fs import MachineFs

if TYPE_CHECKING:
    from typing import BinaryIO, Protocol

    from cgroup_preflight.config.model import ReadyTest
    from cgroup_preflight.core.reading import Reading
    from cgroup_preflight.host.command import Programs
else:
    Protocol = object


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What stat(2) says of a file: `time` is its last change in seconds since 1970, by the machine's clock."""

    size: int
    mode: int
    uid: int
    gid: int
    time: float


class Fifo(Protocol):
    """A FIFO that one program of the machine reads lines from."""

    def write(self, line: str) -> None:
        """Gives the reader its next line; never waits for it."""

    def close(self) -> None:
        """Lets the reader come to its end, where it has opened the FIFO for reading only."""


class Files(MachineFs, Protocol):
    """The files of the machine, also written; every write raises HostError with the system's reason."""

    def status(self, path: str) -> "Reading[Status]":
        """stat(2); a link is followed."""

    def writable(self, path: str) -> bool:
        """Whether this user may write to a file or folder (access(2))."""

    def readable(self, path: str) -> bool:
        """Whether this user may read a file (access(2))."""

    def real(self, path: str) -> str:
        """The path without links (realpath(3)); as it is where that cannot be read."""

    def attribute(self, path: str, name: str) -> "Reading[bytes]":
        """The value of an extended attribute; absent where the file has none of this name (getxattr(2))."""

    def tail(self, path: str, offset: int, most: int) -> "Reading[bytes]":
        """At most `most` bytes from `offset` on, of a file that grows; empty at its end."""

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Creates or replaces a file, whole or not at all: a temporary file in its folder, fsync, rename."""

    def write_all(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """As `write`, of files by their paths below a folder, and makes the folders; the folder has a new time then.

        By its time systemd notices new unit files (lookup_paths_timestamp_hash_same).
        """

    def upload(self, source: "BinaryIO", path: str, mode: int) -> None:
        """Copies an open file of this tool to a new file of the machine, from its position on, in pieces."""

    def write_attribute(self, path: str, text: str) -> None:
        """Writes a file of the kernel, in one write(2) to the file itself."""

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Makes a folder and those above it; one that exists stays as it is."""

    def private_folder(self, prefix: str) -> str:
        """Makes a folder in the machine's folder for temporary files that only this user can enter; its path."""

    def remove_private(self, prefix: str) -> None:
        """Removes what `private_folder` made with this prefix; a folder of another user stays."""

    def fifo(self, path: str) -> Fifo:
        """Makes a FIFO that only this user can open."""

    def remove(self, paths: Iterable[str]) -> None:
        """Removes files, and folders with all that is in them; what is already gone does not matter."""

    def touch(self, folder: str) -> None:
        """Sets the time of a folder to now, by the machine's clock: so systemd sees new unit files in it."""

    def mount_memory(self, folder: str) -> None:
        """Mounts a file system in memory there, with room for all memory, and huge pages where the kernel has them (tmpfs(5))."""

    def unmount(self, folder: str) -> None:
        """Takes a file system of `mount_memory` away; files in it that are open stay until they are closed (MNT_DETACH)."""

    def free(self, path: str, start: int, end: int) -> None:
        """Gives back the blocks between two offsets (fallocate(2), FALLOC_FL_PUNCH_HOLE); nothing where that cannot be."""

    def sync(self) -> None:
        """Writes what the page cache has to the disks (sync(2))."""


class Clock(Protocol):
    """Time, in seconds. Time-outs count on the clock of this tool; only what is compared with the machine's files does not."""

    def monotonic(self) -> float:
        """Seconds since some moment, on the clock of this tool; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Waits."""

    def wall(self) -> float:
        """Seconds since 1970 on the machine's own clock, with which the times of its files agree."""

    def own_cpu(self) -> float:
        """The CPU time that this tool has used on the machine; 0 where it does not run there."""


class Processes(Protocol):
    """Processes by handle: the kernel can give a number to another process, but a handle stays with the one it was made for."""

    def own(self) -> int:
        """The process that stands for this tool on the machine: it ends when this tool ends, or its connection."""

    def cpus(self) -> frozenset[int]:
        """The CPUs that this tool may use there."""

    def count_cpus(self) -> int:
        """How many CPUs of the machine are online."""

    def open(self, pid: int) -> int | None:
        """A handle, which the caller closes; None where there is no such process. Never negative."""

    def close(self, handle: int) -> None:
        """Gives a handle back."""

    def signal(self, handle: int, number: signal.Signals) -> None:
        """Sends a signal; a process that has ended takes none. Raises PermissionError."""

    def memory(self, pid: int, address: int, size: int) -> bytes:
        """Bytes of the memory of a process; empty where they cannot be read, as on every other machine."""

    def wait(self, handles: Sequence[int], seconds: float, pipes: Sequence[int] = ()) -> Sequence[int]:
        """The handles whose process has ended, and the `pipes` of this tool that can be read, after at most `seconds`."""


class Stream(Protocol):
    """Bytes in both directions, to a socket or program of the machine; all methods raise OSError (TimeoutError)."""

    def sendall(self, data: bytes, /) -> None:
        """Sends all of it."""

    def read(self, size: int, /) -> bytes:
        """Exactly `size` bytes; fewer only at the end."""

    def readline(self, most: int, /) -> bytes:
        """A line with its end, at most `most` bytes."""

    def close(self) -> None:
        """Ends it in both directions."""


class Manager(Protocol):
    """The way to the service manager's D-Bus interface that needs no process for each question."""

    def usable(self) -> bool:
        """Whether this user may use it: root, where systemd runs."""

    def connect(self) -> Stream:
        """A new line to the system manager itself, without a bus: systemd's private socket. Raises OSError."""


class Network(Protocol):
    """How services on the machine are asked whether they are ready."""

    def listens(self, test: "ReadyTest") -> bool:
        """Whether something accepts connections at the address of a test."""

    def ask(self, test: "ReadyTest") -> str:
        """Empty when the service at the address of an HTTP or gRPC test says that it is ready, else what it says."""

    def fetch(self, test: "ReadyTest", path: str, most: int) -> bytes:
        """The first `most` bytes of a page at the address of an HTTP test, empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One machine; `host` is its name, empty for the one that this tool runs on."""

    files: Files
    processes: Processes
    programs: "Programs"
    clock: Clock
    network: Network
    manager: Manager | None = None
    host: str = ""
