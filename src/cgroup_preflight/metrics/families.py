"""The metrics of a cgroup: names, types and help, and how the text of one file of the kernel becomes lines of a page.

Names follow the Prometheus conventions: base units, `_total` for counters, `+Inf` for no limit, and the words of
node_exporter for pressure (`some` is waiting, `full` is stalled).
"""

from collections.abc import Callable, Mapping

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.cgroupfs import parse_cpu_max, parse_limit
from cgroup_preflight.metrics.samples import parse_io_stat, total_digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: `kind` is its type in OpenMetrics."""

    name: str
    kind: str
    help: str

    @property
    def unit(self) -> str:
        """The unit that its name ends in, empty for none."""
        words = self.name.removesuffix("_total").split("_")
        return words[-1] if words[-1] in ("seconds", "bytes") else ""


def _counter(name: str, text: str) -> Family:
    return Family(name=name, kind="counter", help=text)


def _gauge(name: str, text: str) -> Family:
    return Family(name=name, kind="gauge", help=text)


CPU_USAGE = _counter("slice_cpu_usage_seconds_total", "CPU time with all cgroups below, by mode.")
CPU_PERIODS = _counter("slice_cpu_periods_total", "Periods of its own CPU quota in which it ran.")
CPU_THROTTLED_PERIODS = _counter("slice_cpu_throttled_periods_total", "Periods in which its own CPU quota was used up.")
CPU_THROTTLED = _counter(
    "slice_cpu_throttled_seconds_total",
    "Throttled time, summed over CPUs: scope own by its own quota, scope local also by the quotas of the slices above it.",
)
CPU_QUOTA = _gauge("slice_cpu_quota_cpus", "Its own CPU quota in CPUs, +Inf for none.")
CPU_EFFECTIVE = _gauge(
    "slice_cpu_effective_quota_cpus",
    "The smallest CPU quota of it and the slices above it, and the number of CPUs where a cpuset leaves it fewer; +Inf for none.",
)
CPU_WEIGHT = _gauge("slice_cpu_weight", "CPU weight among its siblings, 0 for idle.")
CPU_ENTITLEMENT = _gauge(
    "slice_cpu_entitlement_cpus",
    "CPUs that it gets if every sibling that has tasks wants all it can get, on each level.",
)
MEMORY_CURRENT = _gauge("slice_memory_current_bytes", "Memory in use, page cache included, with all cgroups below.")
MEMORY_PEAK = _gauge("slice_memory_peak_bytes", "The most memory in use since the cgroup was created.")
SWAP_CURRENT = _gauge("slice_memory_swap_current_bytes", "Swap in use, with all cgroups below.")
MEMORY_LIMIT = _gauge("slice_memory_limit_bytes", "Its own memory.max, high, low and min, +Inf for no limit.")
MEMORY_EFFECTIVE = _gauge(
    "slice_memory_effective_limit_bytes", "The smallest memory.max of it and the slices above it, +Inf for no limit."
)
MEMORY_EVENTS = _counter("slice_memory_events_total", "Memory events of it and all cgroups below, removed ones too.")
MEMORY_EVENTS_LOCAL = _counter("slice_memory_events_local_total", "Memory events of the cgroup itself.")
OOM_KILLS = _counter(
    "slice_oom_kills_total",
    "Processes killed by the OOM killer since the exporter started, kept when a unit restarts; "
    "an empty unit: kills of units of this slice that no file of a unit shows.",
)
WAITING = _counter("slice_pressure_waiting_seconds_total", "Time in which some tasks waited for the resource.")
STALLED = _counter("slice_pressure_stalled_seconds_total", "Time in which all tasks waited for the resource.")
IO_READ = _counter("slice_io_read_bytes_total", "Bytes read from a block device.")
IO_WRITTEN = _counter("slice_io_written_bytes_total", "Bytes written to a block device.")
IO_OPERATIONS = _counter("slice_io_operations_total", "Operations on a block device.")
PIDS_CURRENT = _gauge("slice_pids_current", "Tasks (processes and threads), with all cgroups below.")
PIDS_LIMIT = _gauge("slice_pids_limit", "Its own limit of tasks, +Inf for no limit.")
PIDS_MAX_EVENTS = _counter(
    "slice_pids_max_events_total", "How often a new task was refused because of a limit of tasks."
)
DYING = _gauge(
    "slice_dying_cgroups", "Cgroups below it that were removed and that memory charged to them keeps in the kernel."
)
GENERATION = Family(
    name="slice_unit_generation",
    kind="info",
    help="The cgroup of the unit: another cgroup_id after it was created again.",
)

#: In the order of the page.
FAMILIES = (
    CPU_USAGE, CPU_PERIODS, CPU_THROTTLED_PERIODS, CPU_THROTTLED, CPU_QUOTA, CPU_EFFECTIVE, CPU_WEIGHT, CPU_ENTITLEMENT,
    MEMORY_CURRENT, MEMORY_PEAK, SWAP_CURRENT, MEMORY_LIMIT, MEMORY_EFFECTIVE, MEMORY_EVENTS, MEMORY_EVENTS_LOCAL,
    OOM_KILLS, WAITING, STALLED, IO_READ, IO_WRITTEN, IO_OPERATIONS, PIDS_CURRENT, PIDS_LIMIT, PIDS_MAX_EVENTS, DYING, GENERATION,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What becomes of one file: `make` gives the lines for each of the `families`, from the labels and the file's text."""

    families: tuple[Family, ...]
    make: Callable[[str, str], tuple[str, ...]]


def number(value: float | None) -> str:
    """A number as the page has it; None is no limit. A whole number has no point."""
    if value is None:
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)


def line(family: Family, labels: str, value: str) -> str:
    """One sample."""
    return f"{family.name}{{{labels}}} {value}\n"


def _flat(text: str) -> dict[str, str]:
    """The digits of each key of a flat file. Raises ValueError."""
    words = text.split()
    keys, values = words[::2], words[1::2]
    digits = "".join(values)
    if words and (len(keys) != len(values) or not (digits.isascii() and digits.isdigit())):
        raise ValueError(f"not a flat file: {text[:40]!r}")
    return dict(zip(keys, values))  # noqa: B905 - they are of one length, and `strict` takes three times as long


def _seconds(digits: str) -> str:
    """Microseconds as seconds with all six decimals."""
    if len(digits) < 7:
        digits = digits.zfill(7)
    return f"{digits[:-6]}.{digits[-6:]}"


def _cpu_stat(labels: str, text: str) -> tuple[str, ...]:
    stat = _flat(text)
    usage = ""
    if "user_usec" in stat:
        usage = f'slice_cpu_usage_seconds_total{{{labels},mode="user"}} {_seconds(stat["user_usec"])}\n'
    if "system_usec" in stat:
        usage += f'slice_cpu_usage_seconds_total{{{labels},mode="system"}} {_seconds(stat["system_usec"])}\n'
    if "nr_periods" not in stat:
        return (usage, "", "", "")
    return (
        usage,
        f"slice_cpu_periods_total{{{labels}}} {stat['nr_periods']}\n",
        f"slice_cpu_throttled_periods_total{{{labels}}} {stat['nr_throttled']}\n" if "nr_throttled" in stat else "",
        _throttled(labels, "own", stat),
    )


def _cpu_stat_local(labels: str, text: str) -> tuple[str, ...]:
    return (_throttled(labels, "local", _flat(text)),)


def _throttled(labels: str, scope: str, stat: Mapping[str, str]) -> str:
    if "throttled_usec" not in stat:
        return ""
    return f'slice_cpu_throttled_seconds_total{{{labels},scope="{scope}"}} {_seconds(stat["throttled_usec"])}\n'


def _events(family: Family) -> Source:
    def make(labels: str, text: str) -> tuple[str, ...]:
        events = _flat(text).items()
        return ("".join([f'{family.name}{{{labels},event="{escaped(key)}"}} {value}\n' for key, value in events]),)

    return Source(families=(family,), make=make)


def _pressure(resource: str) -> Source:
    waiting, stalled, label = f"{WAITING.name}{{", f"{STALLED.name}{{", f',resource="{resource}"}} '

    def make(labels: str, text: str) -> tuple[str, ...]:
        some, full = total_digits(text)
        return (
            f"{waiting}{labels}{label}{_seconds(some)}\n" if some else "",
            f"{stalled}{labels}{label}{_seconds(full)}\n" if full else "",
        )

    return Source(families=(WAITING, STALLED), make=make)


def _amount(family: Family, more: str = "") -> Source:
    name = family.name

    def make(labels: str, text: str) -> tuple[str, ...]:
        value = parse_limit(text)
        return (f"{name}{{{labels}{more}}} {'+Inf' if value is None else value}\n",)

    return Source(families=(family,), make=make)


def _cpu_max(labels: str, text: str) -> tuple[str, ...]:
    return (line(CPU_QUOTA, labels, number(parse_cpu_max(text).cpus)),)


def _pids_events(labels: str, text: str) -> tuple[str, ...]:
    events = _flat(text)
    return (line(PIDS_MAX_EVENTS, labels, events["max"]) if "max" in events else "",)


def _cgroup_stat(labels: str, text: str) -> tuple[str, ...]:
    stat = _flat(text)
    return (line(DYING, labels, stat["nr_dying_descendants"]) if "nr_dying_descendants" in stat else "",)


def _io_stat(labels: str, text: str) -> tuple[str, ...]:
    read, written, operations = [], [], []
    for device, values in parse_io_stat(text).items():
        at = f'{labels},device="{device}"'
        if "rbytes" in values:
            read.append(line(IO_READ, at, str(values["rbytes"])))
        if "wbytes" in values:
            written.append(line(IO_WRITTEN, at, str(values["wbytes"])))
        for op, key in (("read", "rios"), ("write", "wios"), ("discard", "dios")):
            if key in values:
                operations.append(line(IO_OPERATIONS, f'{at},op="{op}"', str(values[key])))
    return ("".join(read), "".join(written), "".join(operations))


#: By the name of the file.
SOURCES: Mapping[str, Source] = {
    "cpu.stat": Source(families=(CPU_USAGE, CPU_PERIODS, CPU_THROTTLED_PERIODS, CPU_THROTTLED), make=_cpu_stat),
    "cpu.stat.local": Source(families=(CPU_THROTTLED,), make=_cpu_stat_local),
    "cpu.max": Source(families=(CPU_QUOTA,), make=_cpu_max),
    "memory.current": _amount(MEMORY_CURRENT),
    "memory.peak": _amount(MEMORY_PEAK),
    "memory.swap.current": _amount(SWAP_CURRENT),
    **{f"memory.{kind}": _amount(MEMORY_LIMIT, f',kind="{kind}"') for kind in ("max", "high", "low", "min")},
    "memory.events": _events(MEMORY_EVENTS),
    "memory.events.local": _events(MEMORY_EVENTS_LOCAL),
    **{f"{resource}.pressure": _pressure(resource) for resource in ("cpu", "memory", "io", "irq")},
    "io.stat": Source(families=(IO_READ, IO_WRITTEN, IO_OPERATIONS), make=_io_stat),
    "pids.current": _amount(PIDS_CURRENT),
    "pids.max": _amount(PIDS_LIMIT),
    "pids.events": Source(families=(PIDS_MAX_EVENTS,), make=_pids_events),
    "cgroup.stat": Source(families=(DYING,), make=_cgroup_stat),
}


def label_text(slice_name: str, unit: str) -> str:
    """The two labels that every metric of a cgroup has."""
    return f'slice="{escaped(slice_name)}",unit="{escaped(unit)}"'


def escaped(text: str) -> str:
    """A label's value. In names of cgroups, bytes that are no UTF-8 and characters that cannot be printed become numbers."""
    if text.isascii() and text.isprintable() and not {"\\", '"'} & set(text):
        return text
    known = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    known = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in known)
    return known.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
