"""A clock and processes that pass each call on to others: a child adds to one of them what happens while somebody waits."""

from collections.abc import Sequence

from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.door import Clock, Processes

if TYPE_CHECKING:
    import signal


class DelegatingClock(Clock):
    """As `clock`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        """As `Clock.monotonic`."""
        return self._clock.monotonic()

    def wall(self) -> float:
        """As `Clock.wall`."""
        return self._clock.wall()

    def own_cpu(self) -> float:
        """As `Clock.own_cpu`."""
        return self._clock.own_cpu()

    def sleep(self, seconds: float) -> None:
        """As `Clock.sleep`."""
        self._clock.sleep(seconds)


class DelegatingProcesses(Processes):
    """As `processes`."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def own(self) -> int:
        """As `Processes.own`."""
        return self._processes.own()

    def cpus(self) -> frozenset[int]:
        """As `Processes.cpus`."""
        return self._processes.cpus()

    def count_cpus(self) -> int:
        """As `Processes.count_cpus`."""
        return self._processes.count_cpus()

    def open(self, pid: int) -> int | None:
        """As `Processes.open`."""
        return self._processes.open(pid)

    def close(self, handle: int) -> None:
        """As `Processes.close`."""
        self._processes.close(handle)

    def signal(self, handle: int, number: "signal.Signals") -> None:
        """As `Processes.signal`."""
        self._processes.signal(handle, number)

    def memory(self, pid: int, address: int, size: int) -> bytes:
        """As `Processes.memory`."""
        return self._processes.memory(pid, address, size)

    def wait(self, handles: Sequence[int], seconds: float, pipes: Sequence[int] = ()) -> Sequence[int]:
        """As `Processes.wait`."""
        return self._processes.wait(handles, seconds, pipes)
