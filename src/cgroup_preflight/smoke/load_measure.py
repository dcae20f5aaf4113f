"""Runs the processes of the load probe and reads, window by window, how much CPU time each level received."""

import math
from collections.abc import Callable, Mapping, Sequence

from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding
from cgroup_preflight.host.remote.stamps import AFTER, BEFORE, span_of
from cgroup_preflight.plan.shares import shares
from cgroup_preflight.smoke.lifted import is_limited, lifted
from cgroup_preflight.smoke.load import LoadPlan
from cgroup_preflight.smoke.load_findings import (
    EARLY_SECONDS,
    LoadHost,
    LoadWindow,
    is_clear,
    judge_load,
    untested,
    without_effect,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cgroup_preflight.engines.base import Engine
    from cgroup_preflight.host.cgroup import Observer
    from cgroup_preflight.host.door import Door
    from cgroup_preflight.smoke.payloads import Payloads
    from cgroup_preflight.smoke.probe_plan import ProbeUnit

#: How long each of the first windows is, and each later one: a quiet machine shows the shares in the first ones; seconds.
#: With ticks of 10 ms the scheduler needs 50 ms to divide time in five parts, so they are a multiple of that.
FIRST_WINDOWS, FIRST_SECONDS, WINDOW_SECONDS = 12, 0.1, 0.3
#: How many windows there are at most, their seconds in all, and how long the processes have at least before that.
WINDOWS = 42
MOST_SECONDS = FIRST_WINDOWS * FIRST_SECONDS + (WINDOWS - FIRST_WINDOWS) * WINDOW_SECONDS
SETTLE_SECONDS = 0.05
#: After these seconds it is measured all the same. A process that used so much CPU time has begun; before, it waited.
_SETTLE_MOST, _BEGUN = 0.6, 0.003
_UP_SECONDS = 60.0
#: The longest that it measures on a machine that is busy; seconds.
_LONGEST = 20.0
_PAUSE = 0.02
#: How much longer than the quickest one a reading of another machine may take there: it is of so many moments; seconds.
_LATE = 0.2
_STAT = "/proc/stat"
#: Seconds that everything may take longer than planned, on a machine whose CPUs are all in use.
_GRACE = 60.0
_OUTPUT_MAX = 1 << 16
_ENDED = "a process of the probe ended before its time"
#: The fields of a line of /proc/stat (proc_stat(5)), in ticks; guest time is also in user and nice.
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_BUSY = ("user", "nice", "system", "irq", "softirq")
_TICKS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """CPU seconds so far: of each unit, of the CPUs in use by the fields of /proc/stat, and of this process.

    `is_late`: an answer of another machine was late, so that the files are not of one moment.
    """

    time: float
    is_late: bool
    own: float
    used: Mapping[str, float]
    machine: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlace:
    """Where the probe runs: `slices` are the cgroups of the run's slices by unit."""

    payloads: "Payloads"
    engine: "Engine"
    observer: "Observer"
    door: "Door"
    slices: Mapping[str, str]


def weigh(
    place: LoadPlace, load: LoadPlan | None, reason: str, say: Callable[[str], None], *, required: bool
) -> tuple[Finding, ...]:  # fmt: skip
    """The finding about the weights of a plan, from the answer of `plan_load`; none where no weight has a sibling.

    `required`: weights without effect are a fail. Raises HostError.
    """
    if load is None:
        return (without_effect(reason),) if reason else ()
    say(f"testing CPUWeight with {len(load.hogs)} services at the same time")
    return LoadProbe(load, place).run(required=required)


class LoadProbe:
    """The probe on one machine."""

    def __init__(self, load: LoadPlan, place: LoadPlace) -> None:
        self._load, self._payloads, self._engine, self._observer = load, place.payloads, place.engine, place.observer
        self._files, self._clock, self._slices = place.door.files, place.door.clock, place.slices
        self._is_far = bool(place.door.host)
        #: How long the quickest reading took on the machine's own clock.
        self._quickest = math.inf

    def run(self, *, required: bool = True) -> tuple[Finding, ...]:
        """Starts all processes, measures until the shares are clear, and ends them; one finding. Raises HostError.

        `required`: weights without effect are a fail.
        """
        longest = _LONGEST + _UP_SECONDS + _GRACE
        with self._lifted(), self._payloads.started(self._load.hogs, longest) as refused:
            refused = refused or {item.unit: why for item in self._load.hogs if (why := self._payloads.enter(item))}
            if refused:
                return (untested(f"a process could not start: {next(iter(refused.values()))}"),)
            # Again: systemd can write the limits of a slice when it starts a unit in it.
            with self._lifted():
                if not self._all_said("up", {item.unit: 1 for item in self._load.hogs}):
                    return (untested(f"its processes did not start within {_UP_SECONDS:g} s"),)
                return self._measured(required=required)

    def _lifted(self) -> "AbstractContextManager[None]":
        return lifted(self._engine, self._observer, self._places())

    def _lift_again(self) -> bool:
        """Lifts what systemd has set again, which it can do some time after it has started a unit; whether there was any."""
        back = [place for place in self._places() if is_limited(self._observer, *place)]
        for place in back:
            self._engine.write_attribute(self._observer.path(*place), "max")
        return bool(back)

    def _places(self) -> list[tuple[str, str]]:
        return [(cgroup, attribute) for cgroup in self._slices.values() for attribute in self._load.lifted]

    def _measured(self, *, required: bool) -> tuple[Finding, ...]:
        hogs, payloads = self._load.hogs, self._payloads
        cgroups = dict(self._slices) | {self._load.unit_of[item.unit]: payloads.cgroup(item) for item in hogs}
        for item in hogs:
            payloads.ask(item, f"load {','.join(map(str, self._cpus(item)))}")
        if not self._all_said("bound", {item.unit: len(self._cpus(item)) for item in hogs}):
            return (untested(_ENDED),)
        idle = self._moment(cgroups)
        # Those that will receive least begin first: later they would hardly get to read the line.
        given = shares(self._load.tree.top)
        for item in sorted(hogs, key=lambda item: given[self._load.unit_of[item.unit]]):
            payloads.ask(item, "go")
        self._settle(idle, cgroups)
        windows: list[LoadWindow] = []
        planned = 0.0
        # The time for reading is of the next window.
        began = self._clock.monotonic()
        before = self._moment(cgroups)
        end = self._clock.monotonic() + _LONGEST
        while (
            len(windows) < WINDOWS
            and self._clock.monotonic() < end
            and not (windows and is_clear(self._load, windows, MOST_SECONDS))
        ):
            seconds = FIRST_SECONDS if len(windows) < FIRST_WINDOWS else WINDOW_SECONDS
            planned += seconds
            self._clock.sleep(max(began + seconds - self._clock.monotonic(), 0.0))
            began = self._clock.monotonic()
            now = self._moment(cgroups)
            if before is None or now is None:
                return (untested("cpu.stat or /proc/stat could not be read"),)
            if self._lift_again():
                windows.clear()
                planned, before = 0.0, now
            elif before.is_late:
                planned, before = 0.0, now
            elif not now.is_late:
                windows.append(self._window(before, now))
                before = now
        # One that the kernel killed, for memory, says nothing; its cgroup stays where the engine keeps it.
        if any(len(self._observer.processes(payloads.cgroup(item))) <= len(self._cpus(item)) for item in hogs):
            return (untested(_ENDED),)
        if before is not None and before.is_late:
            return (untested("the machine answered too slowly"),)
        if not is_clear(self._load, windows, MOST_SECONDS) and sum(one.seconds for one in windows) < EARLY_SECONDS:
            return (untested("a limit of the run's slices was set again and again"),)
        return judge_load(self._load, windows, self._host(cgroups, planned), required=required)

    def _settle(self, idle: _Moment | None, cgroups: Mapping[str, str]) -> None:
        """Until all processes have begun: what one that is late does not use goes to the others."""
        end = self._clock.monotonic() + _SETTLE_MOST
        self._clock.sleep(SETTLE_SECONDS)
        while idle is not None and self._clock.monotonic() < end and (now := self._moment(cgroups)) is not None:
            if all(used - idle.used[name] >= _BEGUN for name, used in now.used.items()):
                return
            self._clock.sleep(_PAUSE)

    def _cpus(self, item: "ProbeUnit") -> list[int]:
        """The CPUs that a payload uses, with a process on each."""
        mask = self._load.masks[item.unit]
        return [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1]

    def _all_said(self, word: str, counts: Mapping[str, int]) -> bool:
        """Whether each payload has said a word as often as `counts` has it for its unit; waits until the time is over.

        At once where one has said that a CPU was refused to it.
        """
        end = self._clock.monotonic() + _UP_SECONDS
        todo = {self._payloads.output(item): counts[item.unit] for item in self._load.hogs}
        while todo := {path: count for path, count in todo.items() if self._text(path).count(f"{word} ") < count}:
            if self._clock.monotonic() > end or any("refused " in self._text(path) for path in todo):
                return False
            self._clock.sleep(_PAUSE)
        return True

    def _text(self, path: str) -> str:
        return value_or(self._files.tail(path, 0, _OUTPUT_MAX), b"").decode("utf-8", "replace")

    def _host(self, cgroups: Mapping[str, str], planned: float) -> LoadHost:
        undivided = [
            parent.name for parent in self._load.parents()
            if any(self._lacks_weight(cgroups.get(child.name, "")) for child in parent.children)
        ]  # fmt: skip
        state, ops, autogroup = (
            value_or(self._files.read(path), "").strip()
            for path in ("/sys/kernel/sched_ext/state", "/sys/kernel/sched_ext/root/ops",
                         "/proc/sys/kernel/sched_autogroup_enabled")
        )  # fmt: skip
        return LoadHost(
            undivided=tuple(undivided), other_scheduler=(ops[:80] or "unknown") if state == "enabled" else "",
            autogroup=autogroup == "1", planned_seconds=planned,
        )  # fmt: skip

    def _lacks_weight(self, cgroup: str) -> bool:
        reading = self._observer.read(cgroup, "cpu.weight") if cgroup else None
        return isinstance(reading, Missing) and reading.why is Why.ABSENT

    def _moment(self, cgroups: Mapping[str, str]) -> _Moment | None:
        """What is known now; None where a counter is missing."""
        units = [name for name in self._load.tree.entries if name in cgroups]
        if self._is_far:
            # All in one answer, as they are compared; its clock before and after them.
            paths = (self._observer.path(cgroups[name], "cpu.stat") for name in units)
            self._files.prefetch((BEFORE, *paths, _STAT, AFTER))
        used = {name: self._observer.cpu_stat(cgroups[name]).get("usage_usec") for name in units}
        machine = self._files.read(_STAT)
        ticks = _ticks(machine.value, self._load.cpus) if isinstance(machine, Known) else {}
        if not ticks or any(value is None for value in used.values()):
            return None
        time, took = self._clock.monotonic(), 0.0
        if self._is_far:
            span = span_of(self._files.quick(BEFORE), self._files.quick(AFTER))
            time, took = span.middle_ns / 1e9, 2 * span.slack_ns / 1e9
        self._quickest = min(self._quickest, took)
        return _Moment(
            time=time, is_late=took > self._quickest + _LATE, own=self._clock.own_cpu(), machine=ticks,
            used={name: value / 1e6 for name, value in used.items() if value is not None},
        )  # fmt: skip

    def _window(self, begin: _Moment, end: _Moment) -> LoadWindow:
        used = {name: max(value - begin.used[name], 0.0) for name, value in end.used.items()}
        machine = {name: max(value - begin.machine[name], 0.0) for name, value in end.machine.items()}
        busy = sum(machine[name] for name in _BUSY) - (end.own - begin.own)
        return LoadWindow(
            seconds=max(end.time - begin.time, 0.001), used=used, steal=machine["steal"],
            others=max(busy - used.get(self._load.top, 0.0), 0.0),
        )  # fmt: skip


def _ticks(text: str, cpus: frozenset[int]) -> dict[str, float]:
    """Seconds by field of the lines of these CPUs together; empty for what is not such a file."""
    found = dict.fromkeys(_FIELDS, 0.0)
    lines: dict[str, Sequence[str]] = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(" ")
        lines[name] = rest.split()[: len(_FIELDS)]
    for cpu in cpus:
        words = lines.get(f"cpu{cpu}", ())
        if len(words) < len(_FIELDS) or not all(word.isdecimal() for word in words):
            return {}
        for name, word in zip(_FIELDS, words, strict=True):
            found[name] += int(word) / _TICKS
    return found
