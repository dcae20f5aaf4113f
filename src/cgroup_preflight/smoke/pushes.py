"""Lets payloads push against limits, and reads in the kernel's files what the limits do.

A payload only starts and ends processes (`smoke.payload`). What it used, and when, comes from the kernel's counts and from
the clock of this side: a payload that is throttled or refused could not read them in time.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress

from cgroup_preflight.core.reading import Known, Missing, Why, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.cgroupfs import parse_flat_keyed, parse_limit
from cgroup_preflight.smoke.payloads import Payloads
from cgroup_preflight.smoke.probe_plan import PERIODS_LEAST, Probe, ProbeUnit, allowed_usec, shows_quota

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Door, Files

UP_SECONDS = 20.0
_DEADLINE = 15.0
#: Seconds that a slow kernel takes to start one task, and the longest that a probe of tasks may take.
_TASK_SECONDS = 0.05
_TASKS_DEADLINE = 60.0
#: The longest that is waited for a payload that still starts and ends processes: a busy machine takes seconds for each.
LONGEST = 60.0
_LOOK = 0.5
#: How often counts are read at most while a quota acts, and while a payload will say most of what they tell; seconds.
_OFTEN, _SELDOM = 0.02, 0.1
_OUTPUT_MAX, _DIGITS = 1 << 16, 20

Said = Mapping[str, object]


def deadline(probe: Probe) -> float:
    """Seconds that a probe may push; starting many tasks takes long."""
    return min(_DEADLINE + probe.amount * _TASK_SECONDS, _TASKS_DEADLINE) if probe.kind == "tasks" else _DEADLINE


class Pushes:
    """Asks payloads, as generators: each `yield` gives other probes their turn."""

    def __init__(self, observer: Observer, door: "Door", payloads: Payloads) -> None:
        self._observer, self._payloads = observer, payloads
        self._files, self._clock = door.files, door.clock
        #: Units whose tasks stay for the next push.
        self._crowded: set[str] = set()

    def is_up(self, item: ProbeUnit) -> Generator[None, None, bool]:
        """Whether a payload waits for its first line, in time."""
        said = self._said(item)
        yield from self._until(said.up, UP_SECONDS)
        return said.up()

    def push(
        self, item: ProbeUnit, probe: Probe, target: str, before: Mapping[str, int], kind: str = "", *, stay: bool = False
    ) -> Generator[None, None, tuple[Said, ...]]:  # fmt: skip
        """Pushes against the limit of the cgroup `target`: what was read of it, none where the payload ended.

        `before` are its `events`. With the kind `rival` it has memory as programs have it, and is killed no sooner. Tasks
        can `stay` for the next push of tasks; processes that use CPU time stay until the caller drops them.
        """
        if probe.kind != "tasks":
            yield from self._clear(item)
        if probe.kind == "cpu":
            return (yield from self._burn(item, probe, target))
        pushed = self._crowd if probe.kind == "tasks" else self._eat
        seen = yield from pushed(item, probe, target, before, kind)
        if stay:
            self._crowded.add(item.unit)
        else:
            yield from self.drop(item)
        return seen

    def keep(self, item: ProbeUnit, kind: str, amount: int) -> Generator[None, None, bool]:
        """Lets a payload keep bytes of memory, as `keep` or as `own`, until `drop`; whether it does."""
        yield from self._clear(item)
        said = self._asked(item, f"{kind} {amount}")
        yield from self._until(lambda: said.has("full", "ended"), 2 * _DEADLINE, item=item)
        return said.has("full")

    def drop(self, item: ProbeUnit) -> Iterator[None]:
        """Waits until all has ended that a payload has started."""
        self._crowded.discard(item.unit)
        said = self._asked(item, "drop 0")
        yield from self._until(lambda: said.has("over"), 2 * _DEADLINE, item=item)

    def _clear(self, item: ProbeUnit) -> Iterator[None]:
        """Drops tasks that have stayed."""
        if item.unit in self._crowded:
            yield from self.drop(item)

    def events(self, target: str, own: str, kind: str) -> Mapping[str, int]:
        """The counters that tell whether the limit of `target` acted; empty where one cannot be read.

        A refused fork counts at the cgroup that tried it before kernel 6.11, and at that of the limit since. A memory
        limit can end a probe of tasks first, which the count of kills tells.
        """
        with suppress(_UnreadError):
            return self._events(target, own, kind)
        return {}

    def _events(self, target: str, own: str, kind: str) -> Mapping[str, int]:
        if kind == "cpu":
            return {}
        if kind == "tasks":
            return {
                "max": sum(self._keyed(cgroup, "pids.events").get("max", 0) for cgroup in {own, target}),
                "oom_kill": max(self._keyed(cgroup, "memory.events").get("oom_kill", 0) for cgroup in {own, target}),
            }
        if kind == "swap":
            peak = parsed(self._observer.read(target, "memory.swap.peak"), parse_limit)
            if isinstance(peak, Missing) and peak.why is not Why.ABSENT:
                raise _UnreadError
            return {
                "oom_kill": self._keyed(own, "memory.events").get("oom_kill", 0),
                "swap max": self._keyed(target, "memory.swap.events").get("max", 0),
                "swap peak": value_or(peak, None) or 0,
            }
        local = self._keyed(target, "memory.events.local")
        return {**local, "oom_kill": self._keyed(target, "memory.events").get("oom_kill", 0)}

    def _burn(self, item: ProbeUnit, probe: Probe, target: str) -> Generator[None, None, tuple[Said, ...]]:
        """CPU time beyond the quota: until two or three periods were throttled, or the time is over.

        A kernel that enforces the quota makes the group pay back what it used beyond it in the next periods. A machine
        that stood still for a while (an emulated CPU counts that as use) is measured until the group has paid.
        """
        period = probe.expectation.period_usec / 1e6
        start_before, start, start_after = self._stamped(target)
        if not start:
            return ()
        self._payloads.ask(item, f"cpu {probe.amount}")

        look_at = start_after + (PERIODS_LEAST - 1) * period

        def is_clear() -> bool:
            nonlocal look_at
            if self._clock.monotonic() < look_at:
                return False
            before, now, after = self._stamped(target)
            throttled = now.get("nr_throttled", 0) - start.get("nr_throttled", 0)
            # The kernel counts at the end of each period, so it is clear no sooner than after those that lack.
            look_at = after + max((PERIODS_LEAST - 1 - throttled) * period, _OFTEN)
            used = now.get("usage_usec", 0) - start.get("usage_usec", 0)
            # As it is judged: what a slice has given beyond the quota stays, so that a smaller bound may never be met.
            if not shows_quota(probe, throttled, (before - start_after) * 1e6):
                return False
            return used <= allowed_usec(probe, (after - start_before) * 1e6)

        yield from self._until(is_clear, deadline(probe), item=item)
        before, end, after = self._stamped(target)
        if self.is_gone(item):
            return ()
        stat = {key: value - start.get(key, 0) for key, value in end.items()}
        return ({"shortest": before - start_after, "longest": after - start_before, "stat": stat},)

    def _stamped(self, cgroup: str) -> tuple[float, Mapping[str, int], float]:
        """cpu.stat with the time before and after it was read: what goes on in between must not matter."""
        before = self._clock.monotonic()
        stat = self._observer.cpu_stat(cgroup)
        return before, stat, self._clock.monotonic()

    def _crowd(
        self, item: ProbeUnit, probe: Probe, target: str, before: Mapping[str, int], _kind: str
    ) -> Generator[None, None, tuple[Said, ...]]:
        """More tasks than the limit allows: until the kernel has refused one, killed one, or all have started."""
        own, now = self._payloads.cgroup(item), dict(before)

        def alive() -> int | None:
            """By the kernel's count, which has tasks that have ended until their parent asks for them; None without one."""
            text = self._text(own, "pids.current") or ""
            return int(text) if text.isdigit() else None

        # The payload itself, and tasks that have stayed.
        first = alive() or 1
        said = self._asked(item, f"tasks {max(probe.amount + 1 - first, 1)}")

        def are_all() -> bool:
            """Whether the kernel counts as many as have started, next to the first and the process that starts them."""
            count, started = alive(), said.number("started")
            return started is not None and (count is None or count - first - 1 >= started)

        def has_acted() -> bool:
            now.update(self.events(target, own, "tasks"))
            return now != before

        yield from self._until(lambda: has_acted() or are_all(), deadline(probe), item=item)
        if self.is_gone(item):
            return ()
        count, started = alive(), said.number("started") or 0
        count = started if count is None else count
        files = {name: self._text(target, name) for name in ("pids.current", "pids.max")}
        return (
            {"refused": now["max"] > before["max"], "started": started + first - 1 if started else count, "alive": count,
             "killed": started > 0 and not are_all(), **files},
        )  # fmt: skip

    def _eat(
        self, item: ProbeUnit, probe: Probe, target: str, before: Mapping[str, int], kind: str
    ) -> Generator[None, None, tuple[Said, ...]]:
        """Memory beyond the limit: until the kernel has acted, or all is in use."""
        own, counts = self._payloads.cgroup(item), ("oom_kill", *(("high",) if probe.kind == "high" else ()))
        # Pages of a file that nobody has written are not swapped while the file gets them (kernel, shmem.c).
        own_memory = kind == "rival" or probe.kind == "swap"
        said = self._asked(item, f"{'own' if own_memory else 'push'} {probe.amount}")

        def has_acted() -> bool:
            now = self.events(target, own, probe.kind)
            return any(now.get(key, 0) > before.get(key, 0) for key in counts)

        looks = self._now_and_then(has_acted, _SELDOM)
        yield from self._until(lambda: said.has("full", "ended") or looks(), deadline(probe), item=item)
        if not said.has("full"):
            return ()
        current = value_or(parsed(self._observer.read(target, "memory.current"), parse_limit), None)
        if probe.kind == "max" and current is not None and current < probe.limit:
            # Not in this cgroup, or no longer: that says nothing about the limit.
            return ()
        return ({"eaten": probe.amount, "finished": True, "current": current},)

    def _text(self, cgroup: str, attribute: str) -> str | None:
        """What a file has, None without it."""
        reading = self._observer.read(cgroup, attribute)
        return reading.value.strip() or None if isinstance(reading, Known) else None

    def _keyed(self, cgroup: str, attribute: str) -> Mapping[str, int]:
        """Counts of a file, none where this kernel lacks it. What cannot be read is not 0: raises _UnreadError."""
        reading = parsed(self._observer.read(cgroup, attribute), parse_flat_keyed)
        if isinstance(reading, Known):
            return reading.value
        if reading.why is Why.ABSENT:
            return {}
        raise _UnreadError

    def _said(self, item: ProbeUnit) -> "_Said":
        return _Said(self._files, self._payloads.output(item))

    def _asked(self, item: ProbeUnit, line: str) -> "_Said":
        """Gives a payload a line; what it says from now on."""
        said = self._said(item)
        said.skip()
        self._payloads.ask(item, line)
        return said

    def is_gone(self, item: ProbeUnit) -> bool:
        """Whether the payload has ended."""
        return self._processes(item) == ""

    def _processes(self, item: ProbeUnit) -> str | None:
        """The processes of a payload, as the kernel lists them; empty if it has ended, None where that cannot be read."""
        reading = self._observer.read(self._payloads.cgroup(item), "cgroup.procs")
        if isinstance(reading, Known):
            return reading.value.strip()
        return "" if reading.why is Why.ABSENT else None

    def _now_and_then(self, look: Callable[[], bool], seconds: float) -> Callable[[], bool]:
        """As `look`, and False as long as less than `seconds` are over since it looked."""
        due = self._clock.monotonic() + seconds

        def looks() -> bool:
            nonlocal due
            now = self._clock.monotonic()
            if now < due:
                return False
            due = now + seconds
            return look()

        return looks

    def _until(self, done: Callable[[], bool], seconds: float, *, item: ProbeUnit | None = None) -> Iterator[None]:
        """Lets other lanes have their turn until `done`, or the time is over, or the payload `item` has ended.

        The time begins again whenever other processes than before are in the payload: then the machine is slow. To look
        takes CPU time from the processes under test, so it looks twice a second.
        """
        now = self._clock.monotonic()
        last, end, look_at = now + max(seconds, LONGEST), now + seconds, now + _LOOK
        seen: str | None = None
        while not done() and now < end:
            if item and now > look_at:
                found, look_at = self._processes(item), now + _LOOK
                if found == "":
                    return
                if seen and found and found != seen:
                    end = min(now + seconds, last)
                seen = found or seen
            yield
            now = self._clock.monotonic()


class _UnreadError(Exception):
    """A counter that exists cannot be read."""


class _Said:
    """What one unit's payload has said so far: a word and a number on each line; other lines are left out."""

    def __init__(self, files: "Files", path: str) -> None:
        self._files, self._path = files, path
        self._data = b""
        self._already = 0
        self._all: tuple[tuple[str, int], ...] = ()

    def skip(self) -> None:
        """Leaves out what it has said until now."""
        self._already = len(self._lines())

    def up(self) -> bool:
        return self.number("up") is not None

    def has(self, *words: str) -> bool:
        """Whether it has said one of these words."""
        return any(word in words for word, _ in self._lines()[self._already :])

    def number(self, word: str) -> int | None:
        """The number that it said with a word; None where it has not said it."""
        return next((number for said, number in self._lines()[self._already :] if said == word), None)

    def _lines(self) -> tuple[tuple[str, int], ...]:
        size = len(self._data)
        self._data += value_or(self._files.tail(self._path, size, _OUTPUT_MAX - size), b"")
        if len(self._data) > size:
            lines = (line.split() for line in self._data.decode("utf-8", "replace").splitlines())
            self._all = tuple(
                (words[0], int(words[1])) for words in lines
                if len(words) == 2 and words[1].isdecimal() and len(words[1]) <= _DIGITS
            )  # fmt: skip
        return self._all
