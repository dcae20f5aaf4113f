"""What the kernel counted for a service and for every slice above it, and the tightest limit over all levels: pure."""

from collections.abc import Iterable, Iterator

from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.engines.run_scope import PREFIX
from cgroup_preflight.host.cgroup import MEMORY_PARTS, Counters, Effective
from cgroup_preflight.smoke.evidence import ServiceEvidence

_EVENTS = ("high", "max", "oom", "oom_kill")
_PART_NAMES = {"anon": "anonymous", "file": "file", "kernel": "kernel"}
_THROTTLING = ("nr_periods", "nr_throttled", "throttled_usec")


def counted_findings(seen: Iterable[ServiceEvidence]) -> tuple[Finding, ...]:
    """One finding for each service that ran; counters that this kernel does not have are left out."""
    return tuple(_counted(one, one.counters) for one in seen if one.counters is not None)


def _counted(seen: ServiceEvidence, own: Counters) -> Finding:
    levels = (own, *reversed(seen.slices))
    evidence: dict[str, str | int | float | bool | None] = {}
    for level in levels:
        evidence.update(_numbers(unit_name(level.cgroup), level))
    memory = seen.stay.memory if seen.stay else {}
    evidence.update((f"{key} memory", memory[key]) for key in MEMORY_PARTS if key in memory)
    evidence.update(_effective(seen.effective) if seen.effective else ())
    words = "; ".join(f"{unit_name(level.cgroup)} {text}" for level in levels if (text := _words(level)))
    if memory:
        parts = ", ".join(f"{_PART_NAMES[key]} {format_bytes(memory[key])}" for key in MEMORY_PARTS if key in memory)
        words += f"; memory while it ran: {parts}"
    message = words or "the kernel has no counters here"
    return codes.KERNEL_COUNTERS.finding(Status.PASS, seen.service, message, evidence=evidence)


def unit_name(cgroup: str) -> str:
    """The unit without the generated name of the run: `api.slice`, and `run.slice` for the run's own.

    A cgroup that is not of the run keeps its whole path.
    """
    unit = cgroup.rpartition("/")[2]
    return (unit.partition("-")[2] or "run.slice") if unit.startswith(PREFIX) else cgroup or "/"


def _effective(tightest: Effective) -> Iterator[tuple[str, float | str]]:
    """The minimum over all levels, and the level that sets it; a limit that no level sets is left out."""
    for attribute, value, level in (
        ("memory.max", tightest.memory_bytes, tightest.memory_at),
        ("cpu.max", tightest.cpus, tightest.cpus_at),
        ("pids.max", tightest.tasks, tightest.tasks_at),
    ):
        if value is not None:
            yield f"effective {attribute}", value
            yield f"effective {attribute} is of", unit_name(level)


def _numbers(name: str, level: Counters) -> Iterator[tuple[str, float]]:
    peak = value_or(level.memory_peak, None)
    if peak is not None:
        yield f"{name} memory.peak", peak
    events, stat = value_or(level.memory_events, {}), value_or(level.cpu_stat, {})
    yield from ((f"{name} memory.events {key}", events[key]) for key in _EVENTS if key in events)
    yield from ((f"{name} cpu.stat {key}", stat[key]) for key in _THROTTLING if key in stat)
    # Which of these files counts differs by kernel: see the table in docs/golden-signals.md.
    for file, reading, key in (
        ("cpu.stat.local", level.cpu_local, "throttled_usec"), ("pids.events", level.pids_events, "max"),
        ("pids.events.local", level.pids_local, "max"),
    ):  # fmt: skip
        number = value_or(reading, {}).get(key)
        if number:
            yield f"{name} {file} {key}", number
    for kind, pressure in level.pressure.items():
        if isinstance(pressure, Known):
            totals = ((key, value) for key, value in pressure.value.items() if key.endswith("_total"))
            yield from ((f"{name} {kind}.pressure {key}", value) for key, value in totals)


def _words(level: Counters) -> str:
    stat, peak = value_or(level.cpu_stat, {}), value_or(level.memory_peak, None)
    parts = [f"peak {format_bytes(peak)}"] if peak is not None else []
    if stat.get("nr_periods"):
        parts.append(f"throttled in {100 * stat.get('nr_throttled', 0) / stat['nr_periods']:.0f}% of periods")
    elif stood := value_or(level.cpu_local, {}).get("throttled_usec"):
        # Without a quota of its own, it is that of a level above.
        parts.append(f"stood still for {stood / 1e6:.2f} s of CPU time under the quota of a slice above")
    stalled = {
        kind: pressure.value.get("some_total", 0.0)
        for kind, pressure in level.pressure.items()
        if isinstance(pressure, Known)
    }
    parts += [f"stalled {value / 1e6:.2f} s for {kind}" for kind, value in stalled.items() if value]
    return ", ".join(parts)
