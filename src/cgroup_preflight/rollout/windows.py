"""Two readings of all cgroups to the numbers that the judge needs. Pure."""

from collections.abc import Callable, Iterable, Mapping

from cgroup_preflight.core.reading import Missing, Reading, Why
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.host.cgroupfs import parse_flat_keyed
from cgroup_preflight.metrics.samples import Difference, Snapshot, differences, parse_totals
from cgroup_preflight.rollout.judge import Answer, Window

#: The kernel counts nothing there: without the controller a cgroup has no file, and without PSI nothing is in it.
NO_FILE = (Why.ABSENT, Why.UNSUPPORTED)
_JUDGED: Mapping[str, Callable[[str], object]] = {
    "memory.events": parse_flat_keyed, "cpu.stat": parse_flat_keyed, "cpu.pressure": parse_totals, "memory.pressure": parse_totals,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Paths of cgroups below the mount: the units of the rollout, the control slices, and the siblings of the units."""

    units: tuple[str, ...]
    control: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the manager says of the services in the units: by unit, ActiveState, InvocationID and NRestarts."""

    states: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def neighbours_of(units: Iterable[str], paths: Iterable[str], control: Iterable[str]) -> tuple[str, ...]:
    """The siblings of units, at every level that is not the units' own, without what belongs to the rollout."""
    chosen = tuple(units)
    parents = {path.rpartition("/")[0] for path in chosen}
    others = (*chosen, *control)
    return tuple(sorted(
        path for path in paths
        if path and path.rpartition("/")[0] in parents and not any(f"{other}/".startswith(f"{path}/") for other in others)
    ))  # fmt: skip


def window_of(
    before: Snapshot, after: Snapshot, watched: Watched, *,
    stalled_max: float, services: tuple[Services, Services] = (Services(), Services()), answers: tuple[Answer, ...] = (),
) -> Window:  # fmt: skip
    """The numbers between two snapshots. What is taken back at once is in it even if the rest is void."""
    found = differences(before, after)
    units = {path: found.get(path) for path in watched.units}
    seconds = (after.stamp_ns - before.stamp_ns) / 1e9
    at_once = (*_kills(before, after, watched.units), *troubles(*services))
    slack = (before.slack_ns + after.slack_ns) / 1e9
    void = next((f"{path}: {why}" for path, item in units.items() if (why := _void(item))), "")
    if not void and seconds <= slack:
        void = (
            f"the host answered too slowly: {slack:.2g}s of {seconds:.2g}s are in doubt"
            if seconds > 0
            else "no time has passed"
        )
    if void:
        return Window(seconds=max(seconds, 0.0), void=void, at_once=at_once, answers=answers)
    known = [item for item in units.values() if item is not None]
    control = [item for path in watched.control if (item := found.get(path)) is not None and not item.void]
    stalled = _most(_share(item, "memory.pressure full") for item in known)
    # Taken back at once is only what is certain.
    if stalled is not None and stalled * seconds / (seconds + slack) > stalled_max:
        at_once = (
            *at_once,
            f"all tasks waited for memory {stalled:.0%} of {seconds:.0f}s, and {stalled_max:.0%} is allowed",
        )
    ratios = [item for item in map(_throttled, known) if item is not None]
    worst = max(ratios, default=None)
    if worst is None and not answers and not any(item.counters for item in known):
        return Window(seconds=seconds, void="the kernel shows no counters", at_once=at_once)
    return Window(
        seconds=seconds, slack=slack, at_once=at_once,
        periods=worst[1] if worst else 0, throttled=worst[0] if worst else None,
        cpu_waiting=_most(_share(item, "cpu.pressure some") for item in known), memory_stalled=stalled,
        memory_events=_most(_rate(item, ("memory.events high", "memory.events max")) for item in known),
        control_throttled=_most(ratio[0] for ratio in map(_throttled, control) if ratio is not None),
        control_waiting=_most(_share(item, "cpu.pressure some") for item in control),
        neighbours={
            path.rpartition("/")[2]: share
            for path in watched.neighbours
            if (item := found.get(path)) is not None and not item.void
            and (share := _most((_share(item, "cpu.pressure some"), _share(item, "memory.pressure some")))) is not None
        },
        answers=answers,
    )  # fmt: skip


def _void(item: Difference | None) -> str:
    """Why nothing can be said of a unit; a file that exists and cannot be read must not look like no event."""
    if item is None:
        return "it has no cgroup"
    readings = (sample.read(name, parse) for sample in (item.before, item.after) for name, parse in _JUDGED.items())
    unknown = (str(found) for found in readings if isinstance(found, Missing) and found.why not in NO_FILE)
    return item.void or next(unknown, "")


def _throttled(item: Difference) -> tuple[float, int] | None:
    """The share of throttled periods and the number of periods; nested slices count at the level of the quota."""
    periods = item.counters.get("cpu.stat nr_periods", 0)
    return (item.counters.get("cpu.stat nr_throttled", 0) / periods, periods) if periods else None


def _share(item: Difference, name: str) -> float | None:
    """Microseconds of pressure as a share of the time."""
    grown = item.counters.get(name)
    return min(grown / 1e6 / item.seconds, 1.0) if grown is not None and item.seconds > 0 else None


def _rate(item: Difference, names: Iterable[str]) -> float | None:
    known = [item.counters[name] for name in names if name in item.counters]
    return sum(known) / item.seconds if known and item.seconds > 0 else None


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _kills(before: Snapshot, after: Snapshot, paths: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    for path in paths:
        old, new = (snapshot.samples.get(path) for snapshot in (before, after))
        if old is not None and new is not None and old.cgroup_id == new.cgroup_id:
            first, last = (killed(sample.memory_events) for sample in (old, new))
            if first is not None and last is not None:
                found += kills(path, first, last)
    return tuple(found)


def killed(events: Reading[Mapping[str, int]]) -> int | None:
    """The OOM kills in memory.events, 0 without such a file; None where it exists and cannot be read."""
    if isinstance(events, Missing):
        return 0 if events.why in NO_FILE else None
    return events.value.get("oom_kill", 0)


def kills(path: str, before: int, after: int) -> tuple[str, ...]:
    """OOM kills in a cgroup or anywhere below it, from one number of them to the next."""
    count = after - before
    return (f"{count} OOM kill{'s' if count > 1 else ''} in {path.rpartition('/')[2]}",) if count > 0 else ()


def troubles(before: Services, after: Services) -> tuple[str, ...]:
    """Services that failed or were started again."""
    found = []
    for unit, old in before.states.items():
        new = after.states.get(unit, {})
        if new.get("ActiveState") == "failed" and old.get("ActiveState") != "failed":
            found.append(f"{unit} failed")
        elif old.get("ActiveState") == "active" and (
            new.get("NRestarts", "0") != old.get("NRestarts", "0") or new.get("ActiveState") == "activating"
        ):
            found.append(f"{unit} was started again")
    return tuple(found)
