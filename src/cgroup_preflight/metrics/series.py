"""From readings to windows: what the rules judge. Pure.

A part of the time in which a counter of a cgroup went back, or the cgroup was made again, does not count for it: what
remains is divided by the whole time, so that too little is said rather than too much.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, replace
from cgroup_preflight.host.cgroupfs import parse_flat_keyed, parse_limit
from cgroup_preflight.host.procfs import parse_meminfo
from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.samples import Difference, Sample, differences, parse_totals
from cgroup_preflight.metrics.window import Cpu, Group, Host, Io, Memory, Pressure, Series, Traffic, Window

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

#: Two clocks that differ by more than this many seconds within one part: somebody set the wall clock.
_JUMP = 2.0
_NOTES_MAX = 20
_REFAULTS, _SCANNED = "memory.stat refaults", "memory.stat scanned"
_JIFFIES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


def series_of(moments: Sequence[Moment]) -> Series:
    """The windows between readings. Raises ValueError where there are fewer than two of different times."""
    notes: list[str] = []
    pairs: list[tuple[Moment, Moment]] = []
    kept = list(moments[:1])
    for after in moments[1:]:
        before = kept[-1]
        if after.time <= before.time:
            notes.append(f"a reading was left out: the clock went back by {before.time - after.time:.1f} s")
            continue
        drift = (after.snapshot.wall - before.snapshot.wall) - (after.time - before.time)
        if abs(drift) > _JUMP:
            notes.append(f"the wall clock jumped by {drift:+.0f} s; times are those of the monotonic clock")
        pairs.append((before, after))
        kept.append(after)
    if not pairs:
        raise ValueError("two readings at different times are needed")
    # One part after the other: the counters of all cgroups in all parts at once would be a gigabyte for a thousand cgroups.
    total, parts = _Sum(), list[Window]()
    for before, after in pairs:
        part = _Sum()
        for path, item in differences(before.snapshot, after.snapshot).items():
            item = replace(item, counters={**item.counters, **_memory_stat(item)})
            part.add(path, item)
            total.add(path, item)
        parts.append(part.window(before, after))
    notes += _void(total.void, len(pairs))
    last = kept[-1].snapshot.samples
    return Series(
        whole=total.window(pairs[0][0], pairs[-1][1]), parts=tuple(parts), notes=tuple(notes[:_NOTES_MAX]),
        pressure=any("cpu.pressure" in sample.files for sample in last.values()),
        local_stat=any("cpu.stat.local" in sample.files for sample in last.values()),
    )  # fmt: skip


def _void(found: Mapping[tuple[str, str], int], parts: int) -> Iterator[str]:
    for (path, why), times in found.items():
        yield f"{path or 'the root'}: {why}, in {times} of {parts} parts of the time, which do not count for it"


class _Sum:
    """What the counters of each cgroup grew by in one part of the time, or in all."""

    def __init__(self) -> None:
        self.void: dict[tuple[str, str], int] = {}
        self._first: dict[str, Sample] = {}
        self._last: dict[str, Sample] = {}
        self._counters: dict[str, dict[str, int]] = {}
        self._reborn: dict[str, int] = {}
        #: One that was created again in each part has no counters to compare, but limits and a size.
        self._again: dict[str, Sample] = {}

    def add(self, path: str, item: Difference) -> None:
        """Adds a part."""
        if item.void:
            self.void[path, item.void] = self.void.get((path, item.void), 0) + 1
        if path and not item.void:
            self._first.setdefault(path, item.before)
            self._last[path] = item.after
            counters = self._counters.setdefault(path, {})
            for key, value in item.counters.items():
                counters[key] = counters.get(key, 0) + value
        elif path and item.before.cgroup_id != item.after.cgroup_id:
            self._reborn[path] = self._reborn.get(path, 0) + 1
            self._again[path] = item.after

    def window(self, begin: Moment, end: Moment) -> Window:
        """The window between two readings that all this is from."""
        seconds = end.time - begin.time
        groups = {
            path: _group(self._first.get(path, last), last, self._counters.get(path, {}), seconds, self._reborn.get(path, 0))
            for path, last in {**self._again, **self._last}.items()
        }  # fmt: skip
        return Window(begin=begin.time, end=end.time, host=_host(begin, end), groups=groups)


def _group(first: Sample, last: Sample, counters: Mapping[str, int], seconds: float, reborn: int) -> Group:
    return Group(
        path=last.cgroup,
        cpu=_cpu(last, counters, seconds),
        memory=_memory(first, last, counters, seconds),
        io=_io(last, counters, seconds),
        tasks=value_or(last.pids_current, None),
        reborn=reborn,
    )


def _pressure(counters: Mapping[str, int], resource: str, seconds: float) -> Pressure | None:
    some = counters.get(f"{resource}.pressure some")
    if some is None:
        return None
    full = counters.get(f"{resource}.pressure full", 0)
    return Pressure(waiting=min(some / 1e6 / seconds, 1.0), stalled=min(full / 1e6 / seconds, 1.0))


def _cpu(last: Sample, counters: Mapping[str, int], seconds: float) -> Cpu | None:
    used = counters.get("cpu.stat usage_usec")
    if used is None:
        return None
    quota, allowed = last.cpu_max, last.cpus
    local = counters.get("cpu.stat.local throttled_usec")
    return Cpu(
        usage=used / 1e6 / seconds,
        quota=quota.value.cpus if isinstance(quota, Known) else None,
        weight=value_or(last.cpu_weight, 100),
        periods=counters.get("cpu.stat nr_periods", 0),
        throttled=counters.get("cpu.stat nr_throttled", 0),
        throttled_cpus=counters.get("cpu.stat throttled_usec", 0) / 1e6 / seconds,
        local_cpus=None if local is None else local / 1e6 / seconds,
        divided=isinstance(last.cpu_weight, Known),
        allowed=len(allowed.value) or None if isinstance(allowed, Known) else None,
        cpuset=allowed.value or None if isinstance(allowed, Known) else None,
        pressure=_pressure(counters, "cpu", seconds),
    )


def _memory(first: Sample, last: Sample, counters: Mapping[str, int], seconds: float) -> Memory | None:
    if isinstance(last.memory_current, Missing):
        return None
    events = {key.partition(" ")[2]: value for key, value in counters.items() if key.startswith("memory.events ")}
    local = {key.partition(" ")[2]: value for key, value in counters.items() if key.startswith("memory.events.local ")}
    swap = value_or(last.swap_current, 0)
    before = value_or(first.memory_current, 0) + value_or(first.swap_current, 0)
    # Of a cgroup that was made again, the part before that is another one's.
    same = first.cgroup_id == last.cgroup_id
    return Memory(
        current=last.memory_current.value,
        grown=last.memory_current.value + swap - before if same else 0,
        swap=swap,
        peak=value_or(last.memory_peak, None),
        max=_limit(last, "max"),
        high=_limit(last, "high"),
        low=_limit(last, "low") or 0,
        events=events,
        local=local or None,
        refaults=counters.get(_REFAULTS, 0),
        scanned=counters.get(_SCANNED, 0),
        pressure=_pressure(counters, "memory", seconds),
    )


def _limit(sample: Sample, kind: str) -> int | None:
    return value_or(sample.read(f"memory.{kind}", parse_limit), None)


def _memory_stat(item: Difference) -> dict[str, int]:
    """How much the counters of memory.stat grew that the rules use."""
    if item.void:
        return {}
    before, after = (value_or(each.read("memory.stat", parse_flat_keyed), {}) for each in (item.before, item.after))
    return {
        name: sum(max(value - before.get(key, value), 0) for key, value in after.items() if key.startswith(prefix))
        for name, prefix in ((_REFAULTS, "workingset_refault_"), (_SCANNED, "pgscan"))
    }


def _io(last: Sample, counters: Mapping[str, int], seconds: float) -> Io | None:
    pressure = _pressure(counters, "io", seconds)
    sums: dict[str, list[int]] = {}
    for key, value in counters.items():
        if key.startswith("io.stat "):
            device, _, name = key.removeprefix("io.stat ").partition(" ")
            found = sums.setdefault(device, [0, 0, 0])
            found[0 if name.endswith("bytes") else 1] += value
            found[2] += value if name == "rbytes" else 0
    if pressure is None and not sums and "io.stat" not in last.files:
        return None
    return Io(
        devices={device: Traffic(bytes=item[0], operations=item[1], read=item[2]) for device, item in sums.items()},
        pressure=pressure, limited=_limited(last),
    )  # fmt: skip


def _limited(sample: Sample) -> frozenset[str]:
    """The devices of `io.max`, whose lines are `MAJOR:MINOR rbps=BYTES wbps=max riops=max wiops=max`."""
    text = sample.files.get("io.max", b"").decode(errors="replace")
    rows = (line.split() for line in text.splitlines())
    return frozenset(words[0] for words in rows if any(not word.endswith("=max") for word in words[1:]))


def _host(begin: Moment, end: Moment) -> Host:
    ticks, cpus = _ticks(begin, end)
    total = sum(ticks.values())
    busy = None if not total else 1 - (ticks["idle"] + ticks["iowait"]) / total
    memory = _parsed(end, "/proc/meminfo", parse_meminfo) or {}
    state = (end.host.get("/sys/kernel/sched_ext/state") or b"").strip()
    other = (end.host.get("/sys/kernel/sched_ext/root/ops") or b"").decode(errors="replace").strip()
    return Host(
        cpus=cpus,
        busy=busy,
        steal=ticks["steal"] / total if total else None,
        memory_total=memory.get("MemTotal"),
        memory_available=memory.get("MemAvailable"),
        cpu=_host_pressure(begin, end, "cpu"),
        memory=_host_pressure(begin, end, "memory"),
        io=_host_pressure(begin, end, "io"),
        other_scheduler=(other or "unknown") if state == b"enabled" else "",
    )


def _ticks(begin: Moment, end: Moment) -> tuple[dict[str, int], int]:
    """How the counters of the line `cpu` of /proc/stat grew, and how many CPUs there are."""
    before, after = (_cpu_line(moment.host.get("/proc/stat", b"")) for moment in (begin, end))
    cpus = sum(line[:3] == b"cpu" and line[3:4].isdigit() for line in end.host.get("/proc/stat", b"").splitlines())
    # iowait can go back (proc(5)).
    return {name: max(now - then, 0) for name, now, then in zip(_JIFFIES, after, before, strict=True)}, max(cpus, 1)


def _cpu_line(text: bytes) -> tuple[int, ...]:
    words = text.split(b"\n", 1)[0].split()[1 : len(_JIFFIES) + 1]
    numbers = tuple(int(word) if word.isdigit() else 0 for word in words)
    return numbers + (0,) * (len(_JIFFIES) - len(numbers))


def _parsed(moment: Moment, path: str, parse: "Callable[[str], T]") -> "T | None":
    data = moment.host.get(path)
    try:
        return None if data is None else parse(data.decode())
    except ValueError:
        return None


def _host_pressure(begin: Moment, end: Moment, resource: str) -> Pressure | None:
    before, after = (_parsed(moment, f"/proc/pressure/{resource}", parse_totals) for moment in (begin, end))
    if not before or not after:
        return None
    seconds = end.time - begin.time
    shares = {key: min(max(after.get(key, 0) - before.get(key, 0), 0) / 1e6 / seconds, 1.0) for key in ("some", "full")}
    return Pressure(waiting=shares["some"], stalled=shares["full"])
