"""Runs the processes of the load probe and reads, window by window, how much CPU time each level received."""

from collections.abc import Mapping, Sequence

from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding
from cgroup_preflight.smoke.load import LoadHost, LoadPlan, LoadWindow, judge_load, untested

if TYPE_CHECKING:
    from cgroup_preflight.host.cgroup import Observer
    from cgroup_preflight.host.door import Clock
    from cgroup_preflight.host.fs import HostFs
    from cgroup_preflight.smoke.payloads import Payloads

#: How often is measured and how long each time, and how long the scheduler has before to spread the processes; seconds.
WINDOWS, WINDOW_SECONDS, SETTLE_SECONDS = 3, 3.0, 1.0
_UP_SECONDS = 30.0
_PAUSE = 0.1
#: Seconds that everything may take longer than planned, on a machine whose CPUs are all in use.
_GRACE = 60.0
_OUTPUT_MAX = 1 << 12
#: The fields of the first line of /proc/stat (proc_stat(5)), in ticks; guest time is also in user and nice.
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_BUSY = ("user", "nice", "system", "irq", "softirq")
_TICKS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """CPU seconds so far: of each unit, and of the machine by the fields of /proc/stat."""

    time: float
    used: Mapping[str, float]
    machine: Mapping[str, float]


class LoadProbe:
    """The probe on one machine; `slices` are the cgroups of the run's slices by unit."""

    def __init__(
        self, load: LoadPlan, payloads: "Payloads", observer: "Observer", files: "HostFs", clock: "Clock",
        slices: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._load, self._payloads, self._observer = load, payloads, observer
        self._files, self._clock, self._slices = files, clock, slices

    def run(self) -> tuple[Finding, ...]:
        """Starts all processes, measures, and ends them; one finding. Raises HostError."""
        seconds = SETTLE_SECONDS + WINDOWS * WINDOW_SECONDS
        hogs = self._load.hogs
        with self._payloads.started(hogs, seconds + _UP_SECONDS + _GRACE) as refused:
            if refused:
                return (untested(f"a process could not start: {next(iter(refused.values()))}"),)
            if not self._all_up():
                return (untested(f"its processes did not start within {_UP_SECONDS:g} s"),)
            cgroups = dict(self._slices) | {self._load.unit_of[item.unit]: self._payloads.cgroup(item) for item in hogs}
            host = self._host(cgroups)
            for item in hogs:
                folder = self._observer.path(self._payloads.cgroup(item), "")
                self._payloads.ask(item, f"load {self._load.workers} {seconds + _GRACE:g} {folder}")
            self._clock.sleep(SETTLE_SECONDS)
            moments = [self._moment(cgroups)]
            for _ in range(WINDOWS):
                self._clock.sleep(WINDOW_SECONDS)
                moments.append(self._moment(cgroups))
        if any(moment is None for moment in moments):
            return (untested("cpu.stat or /proc/stat could not be read"),)
        known = [moment for moment in moments if moment is not None]
        windows = [self._window(known[number], known[number + 1]) for number in range(WINDOWS)]
        return judge_load(self._load, windows, host)

    def _all_up(self) -> bool:
        """Whether each payload has said that it waits; asks until the time is over."""
        deadline = self._clock.monotonic() + _UP_SECONDS
        todo = [self._payloads.output(item) for item in self._load.hogs]
        while todo := [path for path in todo if not _is_up(path)]:
            if self._clock.monotonic() > deadline:
                return False
            self._clock.sleep(_PAUSE)
        return True

    def _host(self, cgroups: Mapping[str, str]) -> LoadHost:
        undivided = [
            parent.name for parent in self._load.parents()
            if any(self._lacks_weight(cgroups.get(child.name, "")) for child in parent.children)
        ]  # fmt: skip
        state = value_or(self._files.read("/sys/kernel/sched_ext/state"), "").strip()
        ops = value_or(self._files.read("/sys/kernel/sched_ext/root/ops"), "").strip()[:80]
        return LoadHost(
            cpus=len(self._load.tree.cpus), undivided=tuple(undivided),
            other_scheduler=(ops or "unknown") if state == "enabled" else "",
        )  # fmt: skip

    def _lacks_weight(self, cgroup: str) -> bool:
        reading = self._observer.read(cgroup, "cpu.weight") if cgroup else None
        return isinstance(reading, Missing) and reading.why is Why.ABSENT

    def _moment(self, cgroups: Mapping[str, str]) -> _Moment | None:
        """What is known now; None where a counter is missing."""
        units = [name for name in self._load.tree.entries if name in cgroups]
        used = {name: self._observer.cpu_stat(cgroups[name]).get("usage_usec") for name in units}
        machine = self._files.read("/proc/stat")
        ticks = _ticks(machine.value) if isinstance(machine, Known) else {}
        if not ticks or any(value is None for value in used.values()):
            return None
        return _Moment(
            time=self._clock.monotonic(), machine=ticks,
            used={name: value / 1e6 for name, value in used.items() if value is not None},
        )  # fmt: skip

    def _window(self, begin: _Moment, end: _Moment) -> LoadWindow:
        used = {name: max(value - begin.used[name], 0.0) for name, value in end.used.items()}
        machine = {name: max(value - begin.machine[name], 0.0) for name, value in end.machine.items()}
        busy = sum(machine[name] for name in _BUSY)
        return LoadWindow(
            seconds=max(end.time - begin.time, 0.001), used=used, steal=machine["steal"],
            others=max(busy - used.get(self._load.top, 0.0), 0.0),
        )  # fmt: skip


def _is_up(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "'up'" in file.read(_OUTPUT_MAX)
    except OSError:
        return False


def _ticks(text: str) -> dict[str, float]:
    """Seconds by field of the line of all CPUs; empty for what is not such a file."""
    words: Sequence[str] = text.partition("\n")[0].split()
    if len(words) < 1 + len(_FIELDS) or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:9]):
        return {}
    return {name: int(word) / _TICKS for name, word in zip(_FIELDS, words[1:], strict=False)}
