"""The time that a time-out counts where many programs start or stop at once and no CPU is idle.

A time-out is meant for one program that has the machine for itself: of eight that share one CPU, each gets an eighth of
the time. What waits for something else than a CPU leaves the CPUs idle, and is charged for all the time that passes.
"""

from cgroup_preflight.core.reading import Known, parsed
from cgroup_preflight.core.records import TYPE_CHECKING

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Clock
    from cgroup_preflight.host.fs import MachineFs

#: Time passes at most so many times slower: a program that never becomes ready must end, too.
SLOWEST = 8.0
#: With more idle time than this share, a program that wants a CPU gets one.
_IDLE = 0.1
#: /proc/stat counts in ticks of 10 ms: in this many seconds there are enough of them.
_INTERVAL = 0.5


class FairTime:
    """A clock for programs that all want to run."""

    def __init__(self, files: "MachineFs", clock: "Clock") -> None:
        self._files, self._clock = files, clock
        self._last = self._measured = clock.monotonic()
        self._idle, self._total, self._cpus = self._ticks()
        self._busy = False

    def passed(self, programs: int) -> float:
        """The seconds since the last call that count for each of the `programs` that started or stopped meanwhile."""
        now = self._clock.monotonic()
        seconds, self._last = now - self._last, now
        if now - self._measured >= _INTERVAL:
            idle, total, self._cpus = self._ticks()
            self._busy = total > self._total and idle - self._idle < _IDLE * (total - self._total)
            self._measured, self._idle, self._total = now, idle, total
        if not self._busy or not self._cpus:
            return seconds
        return seconds / min(max(programs / self._cpus, 1.0), SLOWEST)

    def _ticks(self) -> tuple[int, int, int]:
        """Idle time of all CPUs and all time, in ticks, and how many CPUs there are; zeros where that cannot be read."""
        found = parsed(self._files.quick("/proc/stat"), parse_ticks)
        return found.value if isinstance(found, Known) else (0, 0, 0)


def parse_ticks(data: bytes) -> tuple[int, int, int]:
    """As proc_stat(5) has them: user nice system idle iowait irq softirq steal. Raises ValueError."""
    lines = [line.split() for line in data.decode("ascii").splitlines() if line.startswith("cpu")]
    if not lines or len(lines[0]) < 5:
        raise ValueError("no line of all CPUs")
    ticks = [int(word) for word in lines[0][1:9]]
    # A program that waits for a disk wants no CPU.
    return sum(ticks[3:5]), sum(ticks), len(lines) - 1
