"""How long goroutines that could run waited until they ran, from the steps of a trace; in slots of a tenth of a second.

Pure. A program that is stopped by a quota while it runs shows no waiting goroutine, but no event either: the longest
time without any event, while a goroutine runs, is the other half of the picture.
"""

from array import array
from collections.abc import Iterable, Mapping

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.trace import OTHER, RUNNABLE, RUNNING, Generation

_SLOT = 10**8
_STATES_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A tenth of a second: goroutine seconds that waited and that ran, and its longest time without an event."""

    waiting: float = 0.0
    running: float = 0.0
    silent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GoDelays:
    """One Go process; `path` is its cgroup, times are CLOCK_MONOTONIC in seconds, delays in seconds.

    `slots` are by their number: slot 12 begins at 1.2 s. `source` says how the trace was read, `whole` whether to its
    end, `procs` is GOMAXPROCS.
    """

    path: str
    source: str
    begin: float
    end: float
    count: int
    median: float
    p99: float
    longest: float
    procs: int | None
    whole: bool
    slots: Mapping[int, Slot]

    def share(self, begin: float, end: float) -> tuple[float, float, float] | None:
        """Goroutines that waited and that ran on average, and the longest silence in seconds; None without the trace."""
        begin, end = max(begin, self.begin), min(end, self.end)
        if end - begin < 0.05:
            return None
        numbers = range(int(begin * 10), int(end * 10) + 1)
        parts = [(self.slots.get(number, Slot()), _overlap(number, begin, end)) for number in numbers]
        waited = sum(slot.waiting * part for slot, part in parts) / (end - begin)
        ran = sum(slot.running * part for slot, part in parts) / (end - begin)
        return waited, ran, max((slot.silent for slot, part in parts if part > 0), default=0.0)


def _overlap(number: int, begin: float, end: float) -> float:
    return max(min(end, (number + 1) / 10) - max(begin, number / 10), 0.0) * 10


class _Tally:
    """Adds up spans of time, each to the slots that it touches."""

    def __init__(self) -> None:
        self.slots: dict[int, list[float]] = {}
        self.delays = array("q")

    def add(self, kind: int, begin: int, end: int) -> None:
        """Adds a span in nanoseconds: kind 0 waited, 1 ran."""
        number = begin // _SLOT
        while begin < end:
            stop = min(end, (number + 1) * _SLOT)
            self.slots.setdefault(number, [0.0, 0.0, 0.0])[kind] += (stop - begin) / 1e9
            begin, number = stop, number + 1

    def silence(self, begin: int, end: int) -> None:
        """Notes a time without any event at the slots that it touches."""
        for number in range(begin // _SLOT, end // _SLOT + 1):
            slot = self.slots.setdefault(number, [0.0, 0.0, 0.0])
            slot[2] = max(slot[2], (end - begin) / 1e9)


def delays_of(generations: Iterable[Generation], path: str, source: str, begin: float, end: float) -> GoDelays | None:
    """The delays of one process between two moments; None where the trace has nothing of that time."""
    tally, states = _Tally(), dict[int, tuple[str, int]]()
    low, high = int(begin * 1e9), int(end * 1e9)
    first, last, procs, whole = None, 0, None, True
    for generation in generations:
        whole = whole and generation.whole
        procs = generation.procs or procs
        first = generation.begin if first is None else first
        last = max(last, generation.end)
        _follow(generation, tally, states, low, high)
    if first is None or last <= low or first >= high:
        return None
    for state, since in states.values():
        if state != OTHER:
            tally.add(0 if state == RUNNABLE else 1, max(since, low), min(last, high))
    delays = sorted(tally.delays)
    return GoDelays(
        path=path, source=source, begin=max(first, low) / 1e9, end=min(last, high) / 1e9, count=len(delays),
        median=_rank(delays, 0.5), p99=_rank(delays, 0.99), longest=_rank(delays, 1.0), procs=procs, whole=whole,
        slots={number: Slot(waiting=slot[0], running=slot[1], silent=slot[2]) for number, slot in tally.slots.items()},
    )  # fmt: skip


def _follow(generation: Generation, tally: _Tally, states: dict[int, tuple[str, int]], low: int, high: int) -> None:
    running = sum(state == RUNNING for state, _ in states.values())
    before = generation.begin
    for step in generation.steps:
        now = min(max(step.time, low), high)
        if running and step.time - before > 10**7 and low <= before and step.time <= high:
            tally.silence(before, step.time)
        before = step.time
        state, since = states.get(step.goroutine, (OTHER, step.time))
        if state == step.state:
            continue  # a generation begins with the state of each goroutine
        if state != OTHER:
            tally.add(0 if state == RUNNABLE else 1, max(since, low), now)
        if state == RUNNABLE and step.state == RUNNING and low <= step.time <= high:
            tally.delays.append(max(step.time - since, 0))
        running += (step.state == RUNNING) - (state == RUNNING)
        if step.state == OTHER:
            states.pop(step.goroutine, None)
        elif len(states) < _STATES_MAX:
            states[step.goroutine] = (step.state, now)


def _rank(delays: list[int], share: float) -> float:
    return delays[min(int(share * len(delays)), len(delays) - 1)] / 1e9 if delays else 0.0
