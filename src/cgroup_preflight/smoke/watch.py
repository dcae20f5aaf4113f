"""Watches the limit files and the CPU time of a run's cgroups from the gate to the end.

A limit can be lifted and put back between two readings. Where the run waits it samples meanwhile, without a thread:
through descriptors that were opened before anything of the services ran.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from cgroup_preflight.core.reading import Known, Reading, parsed
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.cgroupfs import CpuMax, parse_cpu_max, parse_flat_keyed
from cgroup_preflight.host.delegating import DelegatingClock, DelegatingProcesses
from cgroup_preflight.host.door import Clock, Door, Processes

#: Seconds between two samples; longer where a sample takes more than a twentieth of that.
INTERVAL = 0.1
_SHARE = 20
_INTERVAL_MAX = 1.0
#: What the kernel itself changes when CPUs go: no writer of limits.
_UNWATCHED = frozenset({"cpuset.cpus.effective"})
#: No setting of systemd's: what cgroups may use above their quota, 0 until something writes there (sched-bwc.rst).
_BURST = "cpu.max.burst"
_COUNTERS = (
    "memory.peak", "memory.current", "memory.events", "memory.events.local", "cpu.stat", "cpu.stat.local", "pids.peak", "pids.events",
    "pids.events.local",
)  # fmt: skip
_CHANGES_MAX = 3
#: Another machine whose answers are this late, in seconds, was not watched meanwhile.
_LATE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A limit file had another text than at the gate; `seconds` after that."""

    attribute: str
    before: str
    text: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the samples of one cgroup showed.

    `cpu_excess_usec`: the most CPU time above quota times time in any span between two samples, `quota` that of the
    gate; `cpu_jump_usec`: the part of that which one pair of neighbouring samples shows alone. `standstill`: the longest
    time in seconds that a wait took more than it should, as on a machine that stood still. `longest_gap` between two
    samples is in seconds; `unwatched` is the same where another machine answered too late to be watched, else 0.
    """

    cgroup: str
    changes: tuple[Change, ...] = ()
    quota: CpuMax | None = None
    cpu_excess_usec: float = 0.0
    cpu_jump_usec: float = 0.0
    standstill: float = 0.0
    samples: int = 0
    longest_gap: float = 0.0
    unwatched: float = 0.0


class _Level:
    """One cgroup: texts of its limit files at the gate, and the least CPU time above its quota so far."""

    def __init__(self, observer: Observer, cgroup: str, attributes: Iterable[str]) -> None:
        self.cgroup = cgroup
        self._observer = observer
        texts = ((name, observer.read(cgroup, name)) for name in attributes)
        self._first = {name: reading.value for name, reading in texts if isinstance(reading, Known)}
        limit = parsed(Known(value=self._first.get("cpu.max", ""), source=cgroup), parse_cpu_max)
        self.quota = limit.value if isinstance(limit, Known) and limit.value.quota is not None else None
        self.changes: list[Change] = []
        self.excess = self.jump = 0.0
        self._least: float | None = None
        self._lowest = 0.0

    def sample(self, seconds: float) -> None:
        """Compares the limit files with what they were at the gate, `seconds` ago."""
        for name, before in self._first.items():
            reading = self._observer.read(self.cgroup, name)
            if isinstance(reading, Known) and reading.value != before and len(self.changes) < _CHANGES_MAX:
                change = Change(attribute=name, before=before.strip(), text=reading.value.strip(), seconds=seconds)
                if all((change.attribute, change.text) != (known.attribute, known.text) for known in self.changes):
                    self.changes.append(change)

    def files(self) -> Iterator[tuple[str, str]]:
        """What a sample reads."""
        names = self._first if self.quota is None else (*self._first, "cpu.stat")
        return ((self.cgroup, name) for name in names)

    def used(self) -> int | None:
        """CPU time in microseconds, where it has a quota."""
        if self.quota is None:
            return None
        stat: Reading[Mapping[str, int]] = parsed(self._observer.read(self.cgroup, "cpu.stat"), parse_flat_keyed)
        return stat.value.get("usage_usec") if isinstance(stat, Known) else None

    def compare(self, used: int, before: float, after: float) -> None:
        """CPU time that was read between two moments; no span is taken for shorter than it was."""
        cpus = self.quota.cpus or 0.0 if self.quota is not None else 0.0
        if self._least is not None:
            highest = used - cpus * after * 1e6
            self.excess = max(self.excess, highest - self._least)
            self.jump = max(self.jump, highest - self._lowest)
        lowest = self._lowest = used - cpus * before * 1e6
        self._least = lowest if self._least is None else min(self._least, lowest)


class Watch:
    """The samples of one run, taken where `door` waits; `also` is called with each sample."""

    def __init__(self, observer: Observer, door: Door, also: Callable[[], None] = lambda: None) -> None:
        self._observer, self._clock, self._also = observer, door.clock, also
        self._is_far = bool(door.host)
        self._levels: dict[str, _Level] = {}
        self._begun = self._last = self._standstill = self._gap = 0.0
        self._due = float("inf")
        self._samples, self._cost = 0, 1.0
        self.door = replace(door, clock=_Clock(self, door.clock), processes=_Processes(self, door.processes))

    def begin(self, limits: Mapping[str, Collection[str]]) -> None:
        """Opens the files of these cgroups, before their programs run: by cgroup the attributes that have a limit."""
        for cgroup, attributes in limits.items():
            names = (*attributes, *((_BURST,) if "cpu.max" in attributes else ()))
            self._observer.hold(cgroup, (*names, *_COUNTERS))
            self._levels[cgroup] = _Level(self._observer, cgroup, [name for name in names if name not in _UNWATCHED])
        self._begun = self._last = self._clock.monotonic()
        self.sample()

    def sample(self) -> None:
        """Reads all files once, now."""
        if not self._levels:
            return
        now = self._clock.monotonic()
        self._gap = max(self._gap, now - self._last)
        self._last = now
        self._samples += 1
        self._observer.prefetch(place for level in self._levels.values() for place in level.files())
        used = [(level, number) for level in self._levels.values() if (number := level.used()) is not None]
        after = self._clock.monotonic()
        for level, number in used:
            level.compare(number, now, after)
        for level in self._levels.values():
            level.sample(now - self._begun)
        self._observer.forget()
        self._also()
        after = self._clock.monotonic()
        # On a busy machine a sample waits for the CPU; that is no work of its own.
        self._cost = min(after - now, self._cost * 2)
        self._due = after + min(max(INTERVAL, self._cost * _SHARE), _INTERVAL_MAX)

    def seen(self, cgroup: str) -> Watched:
        """What was seen of one cgroup."""
        level = self._levels.get(cgroup)
        if level is None:
            return Watched(cgroup=cgroup)
        return Watched(
            cgroup=cgroup, changes=tuple(level.changes), quota=level.quota, cpu_excess_usec=level.excess,
            cpu_jump_usec=level.jump, standstill=self._standstill, samples=self._samples, longest_gap=self._gap,
            unwatched=self._gap if self._is_far and self._gap > _LATE else 0.0,
        )  # fmt: skip

    def end(self) -> None:
        """Closes the files."""
        self._due = float("inf")
        self._levels = {}
        self._observer.release()

    def wait(self, seconds: float, wait: Callable[[float], Sequence[int]]) -> Sequence[int]:
        """Waits with `wait` in pieces, and samples whenever that is due."""
        end = self._clock.monotonic() + seconds
        while True:
            begun = self._clock.monotonic()
            piece = max(min(end, self._due) - begun, 0.0)
            ended = wait(piece)
            now = self._clock.monotonic()
            self._standstill = max(self._standstill, now - begun - piece)
            if now >= self._due:
                self.sample()
            if ended or now >= end:
                return ended


class _Clock(DelegatingClock):
    """A clock that samples while it sleeps."""

    def __init__(self, watch: Watch, clock: Clock) -> None:
        super().__init__(clock)
        self._watch = watch

    def sleep(self, seconds: float) -> None:
        def nap(piece: float) -> tuple[int, ...]:
            self._clock.sleep(piece)
            return ()

        self._watch.wait(seconds, nap)


class _Processes(DelegatingProcesses):
    """Processes that are waited for while samples are taken."""

    def __init__(self, watch: Watch, processes: Processes) -> None:
        super().__init__(processes)
        self._watch = watch

    def wait(self, handles: Sequence[int], seconds: float, pipes: Sequence[int] = ()) -> Sequence[int]:
        return self._watch.wait(seconds, lambda piece: self._processes.wait(handles, piece, pipes))
