"""The door to one machine: the files, processes, programs, clock and network that a run uses.

Whoever needs one of them is handed a door, so that the machine can be another one, or none in a unit test.
"""

import os
import select
import signal
import time
from collections.abc import Sequence

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.fs import LiveFs

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.config.model import ReadyTest
else:
    Protocol = object


class Clock:
    """The time of the machine, in seconds."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


class Processes:
    """Processes by handle (pidfd_open(2)): the kernel can give a number to another process, but never a handle."""

    def open(self, pid: int) -> int | None:
        """A handle, which the caller closes; None where there is no such process."""
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            return None

    def close(self, handle: int) -> None:
        """Gives a handle back."""
        os.close(handle)

    def signal(self, handle: int, number: signal.Signals) -> None:
        """Sends a signal; a process that has ended takes none. Raises PermissionError."""
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return

    def wait(self, handles: Sequence[int], seconds: float) -> Sequence[int]:
        """The handles whose process has ended (of pipes: that can be read), after at most `seconds`."""
        # Not select(2), which knows no descriptor above 1023.
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        return [handle for handle, _ in poll.poll(max(seconds, 0.0) * 1000)]


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
    """One machine."""

    files: LiveFs
    processes: Processes
    programs: LiveRunner
    clock: Clock
    network: Network
