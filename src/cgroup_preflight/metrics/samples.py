"""What the kernel's files of many cgroups said at one moment, and the difference between two moments.

A sample keeps the text of the files and parses it where it is used: most of what is read again has not changed, and keys
that this version does not know are kept. Formats: Documentation/admin-guide/cgroup-v2.rst, Documentation/accounting/psi.rst.
"""

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, missing, parsed
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, field
from cgroup_preflight.host.cgroupfs import CpuMax, parse_cpu_max, parse_flat_keyed, parse_limit, parse_pressure
from cgroup_preflight.host.procfs import parse_cpu_list
from cgroup_preflight.metrics.names import Labels, labels

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

#: `*.pressure` files; kernels with CONFIG_IRQ_TIME_ACCOUNTING have irq (6.1).
RESOURCES = ("cpu", "memory", "io", "irq")
#: No counter of the kernel is larger than 2**64: more digits would be no number that can be divided as a float.
HUGE = re.compile(rb"[0-9]{21}")
#: The keys of io.stat that are counters; others (`cost.*` of iocost) are not.
IO_KEYS = ("rbytes", "wbytes", "rios", "wios", "dbytes", "dios")
_FLAT = ("cpu.stat", "cpu.stat.local", "memory.events", "memory.events.local", "pids.events", "pids.events.local")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One cgroup at one moment.

    `cgroup` is its path below the mount, empty for the root. `cgroup_id` is the inode number of its folder, another one
    for each cgroup that is created; 0 where a recording has none. `stamp_ns` is CLOCK_MONOTONIC, in nanoseconds, when
    its files were read. `files` has the text of each file that could be read, `errors` the error number of each file that
    exists and could not.
    """

    cgroup: str
    cgroup_id: int
    stamp_ns: int
    files: Mapping[str, bytes]
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        """The slice and the unit that the cgroup belongs to."""
        return labels(self.cgroup)

    def read(self, name: str, parse: "Callable[[str], T]") -> "Reading[T]":
        """The value of one file, or why there is none. `parse` raises ValueError for what is malformed."""
        source = f"{self.cgroup}/{name}"
        data = self.files.get(name)
        if data is not None:
            return parsed(Known(value=data, source=source), lambda found: parse(found.decode()))
        if name in self.errors:
            return missing(source, OSError(self.errors[name], ""))
        return Missing(source=source, why=Why.ABSENT, errno=errno.ENOENT)

    @property
    def cpu_stat(self) -> Reading[Mapping[str, int]]:
        """`usage_usec`, `user_usec`, `system_usec` with all below; `nr_throttled` and the like of its own quota only."""
        return self.read("cpu.stat", parse_flat_keyed)

    @property
    def cpu_stat_local(self) -> Reading[Mapping[str, int]]:
        """`throttled_usec` by its own quota and by that of every cgroup above it; kernel 6.7 or later."""
        return self.read("cpu.stat.local", parse_flat_keyed)

    @property
    def cpu_max(self) -> Reading[CpuMax]:
        """Its own quota."""
        return self.read("cpu.max", parse_cpu_max)

    @property
    def cpu_weight(self) -> Reading[int]:
        """1 to 10000; 0 where `cpu.idle` is 1."""
        idle = self.read("cpu.idle", int)
        if isinstance(idle, Known) and idle.value == 1:
            return Known(value=0, source=idle.source)
        return self.read("cpu.weight", int)

    @property
    def cpus(self) -> Reading[frozenset[int]]:
        """The CPUs that it may use."""
        return self.read("cpuset.cpus.effective", parse_cpu_list)

    @property
    def memory_current(self) -> Reading[int]:
        """Bytes, with all below."""
        return self.read("memory.current", int)

    @property
    def memory_peak(self) -> Reading[int]:
        """The largest `memory_current` since the cgroup was created; kernel 5.19 or later."""
        return self.read("memory.peak", int)

    @property
    def swap_current(self) -> Reading[int]:
        """Bytes of swap, with all below."""
        return self.read("memory.swap.current", int)

    def memory_limit(self, kind: str) -> Reading[int | None]:
        """`max`, `high`, `low`, `min` or `swap.max`, in bytes; None for no limit."""
        return self.read(f"memory.{kind}", parse_limit)

    @property
    def memory_events(self) -> Reading[Mapping[str, int]]:
        """Events of it and of all below, also of cgroups that were removed."""
        return self.read("memory.events", parse_flat_keyed)

    @property
    def memory_events_local(self) -> Reading[Mapping[str, int]]:
        """Its own events only."""
        return self.read("memory.events.local", parse_flat_keyed)

    def pressure(self, resource: str) -> Reading[Mapping[str, float]]:
        """`some_avg10`, `full_total` and so on for `cpu`, `memory`, `io` or `irq`; percent, totals in microseconds."""
        return self.read(f"{resource}.pressure", parse_pressure)

    @property
    def io_stat(self) -> Reading[Mapping[str, Mapping[str, int]]]:
        """The counters of each device, by MAJOR:MINOR."""
        return self.read("io.stat", parse_io_stat)

    @property
    def pids_current(self) -> Reading[int]:
        """Tasks, with all below."""
        return self.read("pids.current", int)

    @property
    def pids_max(self) -> Reading[int | None]:
        """The most tasks; None for no limit."""
        return self.read("pids.max", parse_limit)

    @property
    def pids_events(self) -> Reading[Mapping[str, int]]:
        """`max`: how often a new task was refused."""
        return self.read("pids.events", parse_flat_keyed)

    def counters(self) -> dict[str, int]:
        """Every counter of its files by `FILE KEY`, such as `cpu.stat usage_usec` or `io.stat 8:0 rbytes`.

        Pressure: `cpu.pressure some`, in microseconds. What is malformed is left out.
        """
        return dict(_counters(self))


def _counters(sample: Sample) -> Iterator[tuple[str, int]]:
    for name in _FLAT:
        flat = sample.read(name, parse_flat_keyed)
        if isinstance(flat, Known):
            yield from ((f"{name} {key}", value) for key, value in flat.value.items())
    for resource in RESOURCES:
        totals = sample.read(f"{resource}.pressure", parse_totals)
        if isinstance(totals, Known):
            yield from ((f"{resource}.pressure {kind}", value) for kind, value in totals.value.items())
    devices = sample.io_stat
    if isinstance(devices, Known):
        for device, values in devices.value.items():
            yield from ((f"io.stat {device} {key}", values[key]) for key in IO_KEYS if key in values)


def parse_io_stat(text: str) -> dict[str, dict[str, int]]:
    """io.stat by device, whole numbers only.

    Kernels before 5.14 print devices without counters, and no end of line after them. Raises ValueError.
    """
    devices: dict[str, dict[str, int]] = {}
    current: dict[str, int] | None = None
    for word in text.split():
        key, separator, value = word.partition("=")
        if not separator:
            current = devices.setdefault(_device(word), {})
        elif current is None:
            raise ValueError(f"not an io.stat: {text[:40]!r}")
        elif value.isascii() and value.isdigit():
            current[key] = int(value)
    return devices


def _device(word: str) -> str:
    major, separator, minor = word.partition(":")
    if not (separator and word.isascii() and major.isdigit() and minor.isdigit()):
        raise ValueError(f"not a device: {word[:40]!r}")
    return word


def parse_totals(text: str) -> dict[str, int]:
    """Microseconds of `some` and `full` in a pressure file. Raises ValueError."""
    return {kind: int(total) for kind, total in zip(("some", "full"), total_digits(text), strict=True) if total}


def total_digits(text: str) -> tuple[str, str]:
    """The digits of the totals of `some` and `full`, empty for a line that does not exist. Raises ValueError."""
    some = full = ""
    for line in text.splitlines():
        digits = line.rpartition(" total=")[2]
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"not a pressure line: {line[:80]!r}")
        if line.startswith("some "):
            some = digits
        elif line.startswith("full "):
            full = digits
        else:
            raise ValueError(f"not a pressure line: {line[:80]!r}")
    return some, full


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All cgroups of one reading of the tree, by path; a sample is older than the snapshot where nothing changed.

    `started_ns` and `stamp_ns` are CLOCK_MONOTONIC when the reading began and ended, `wall` the wall clock at its end in
    seconds. `errors` counts what could not be read so far, by reason: `vanished`, `denied` or `failed`. `changed` has the
    paths that came, went or changed since the last reading of the same tree, each with the files that changed.
    `slack_ns` is how wrong the stamps of the samples are at most, where another host was asked.
    """

    started_ns: int
    stamp_ns: int
    wall: float
    samples: Mapping[str, Sample]
    errors: Mapping[str, int]
    changed: Mapping[str, AbstractSet[str]] = field(default_factory=dict)
    slack_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How the counters of one cgroup grew from one snapshot to the next.

    `counters` has the keys of `Sample.counters` that both have. `void` says why nothing can be said: the cgroup is
    another one now, or a counter went back; then `counters` is empty.
    """

    before: Sample
    after: Sample
    seconds: float
    counters: Mapping[str, int]
    void: str = ""


def differences(before: Snapshot, after: Snapshot) -> dict[str, Difference]:
    """The difference of each cgroup that both snapshots have, by path."""
    both = (path for path in after.samples if path in before.samples)
    seconds = (after.stamp_ns - before.stamp_ns) / 1e9
    return {path: _difference(before.samples[path], after.samples[path], seconds) for path in both}


def _difference(before: Sample, after: Sample, seconds: float) -> Difference:
    if before is not after:
        seconds = (after.stamp_ns - before.stamp_ns) / 1e9
    if before.cgroup_id != after.cgroup_id:
        void = "the cgroup was removed and created again"
        return Difference(before=before, after=after, seconds=seconds, counters={}, void=void)
    old, new = before.counters(), after.counters()
    grown = {key: value - old[key] for key, value in new.items() if key in old}
    back = next((key for key, value in grown.items() if value < 0), "")
    if back or seconds < 0:
        void = f"{back} went back" if back else "the clock went back"
        return Difference(before=before, after=after, seconds=seconds, counters={}, void=void)
    return Difference(before=before, after=after, seconds=seconds, counters=grown)
