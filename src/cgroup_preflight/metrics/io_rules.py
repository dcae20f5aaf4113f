"""Why a cgroup waited for a device (I1): one neighbour has most of its traffic. Pure.

`io.stat` counts by device; pages that the kernel writes back later are charged to the cgroup that made them dirty only
on file systems that support it (cgroup-v2.rst, "Writeback"), so writes can be missing or charged to another cgroup.
"""

from collections.abc import Iterator

from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.metrics import proposals
from cgroup_preflight.metrics.diagnosis import Confidence, Diagnosis, at_most, grade, percent
from cgroup_preflight.metrics.window import Group, Io, Series, Traffic, name_of

_WAITING = 0.10
#: A neighbour is named from this share of a device's bytes or operations on.
_MOST = 0.5
#: Less traffic than this on a device, each second, is none that could fill it.
_BYTES, _OPERATIONS = 1 << 20, 20
_STEADY = 0.7


def io_diagnoses(series: Series, victims: frozenset[str]) -> tuple[Diagnosis, ...]:
    """One answer at most for each of these cgroups."""
    found: list[Diagnosis] = []
    leaves = series.whole.leaves()
    totals = _totals(leaves)
    for group in leaves:
        if group.path in victims and group.io is not None and _waited(group.io) >= _WAITING:
            found += [*_judged(series, group, group.io, leaves, totals)][:1]
    return tuple(found)


def _waited(io: Io) -> float:
    return io.pressure.waiting if io.pressure else 0.0


def _totals(leaves: tuple[Group, ...]) -> dict[str, Traffic]:
    totals: dict[str, Traffic] = {}
    for group in leaves:
        for device, mine in (group.io.devices if group.io else {}).items():
            so_far = totals.get(device, Traffic(bytes=0, operations=0))
            totals[device] = Traffic(bytes=so_far.bytes + mine.bytes, operations=so_far.operations + mine.operations)
    return totals


def _judged(
    series: Series, victim: Group, io: Io, leaves: tuple[Group, ...], totals: dict[str, Traffic]
) -> Iterator[Diagnosis]:  # fmt: skip
    """The neighbour with the largest share of a device that the victim uses."""
    seconds = series.whole.seconds
    best: tuple[float, str, Group, Traffic] | None = None
    for device, mine in io.devices.items():
        total = totals[device]
        if not (mine.bytes or mine.operations) or (
            total.bytes < _BYTES * seconds and total.operations < _OPERATIONS * seconds
        ):
            continue
        for group in leaves:
            theirs = group.io.devices.get(device) if group.io and group.path != victim.path else None
            if theirs is None or _share(mine, total) >= _share(theirs, total):
                continue
            share = _share(theirs, total)
            if share > _MOST and (best is None or share > best[0]):
                best = (share, device, group, theirs)
    if best is not None:
        yield _neighbour(series, victim, io, *best)


def _share(mine: Traffic, total: Traffic) -> float:
    return max(
        mine.bytes / total.bytes if total.bytes else 0.0,
        mine.operations / total.operations if total.operations else 0.0,
    )


def _neighbour(
    series: Series, victim: Group, io: Io, share: float, device: str, other: Group, theirs: Traffic
) -> Diagnosis:  # fmt: skip
    seconds = series.whole.seconds
    rate, steps = int(theirs.bytes / seconds), int(theirs.operations / seconds)
    confidence = grade(_steady(series, victim.path), share >= 0.7)
    if victim.memory is not None and victim.memory.pressure is not None and victim.memory.pressure.waiting >= _WAITING:
        # Pages that come back from a disk count as both kinds of waiting: memory is the nearer cause.
        confidence = at_most(confidence, Confidence.LOW)
    limit = next((name_of(level.path) for level in (victim, *series.whole.above(victim.path))
                  if level.io is not None and device in level.io.limited), "")  # fmt: skip
    if limit:
        # What a limit delays counts as waiting, whatever the neighbours do.
        confidence = at_most(confidence, Confidence.LOW)
    return Diagnosis(
        code=codes.IO_NEIGHBOUR, rule="I1", victim=victim.path, cause=other.path, confidence=confidence,
        message=f"waited for I/O in {percent(_waited(io))} of the time, and {name_of(other.path)} has {percent(share)} "
                f"of the traffic of device {device} ({format_bytes(rate)} and {steps} operations each second); "
                "writeback can be charged to another cgroup"
                f"{f'; {limit} has a limit of its own for that device, which can be the cause' if limit else ''}",
        evidence={"io_waiting": round(_waited(io), 3), "io_stalled": round(io.pressure.stalled, 3) if io.pressure else None,
                  "device": device, "neighbour_share": round(share, 3), "neighbour_bytes_per_second": rate,
                  "neighbour_operations_per_second": steps},
        remedies=tuple(_limits(victim.path, other.path, device, rate, steps)),
    )  # fmt: skip


def _limits(victim: str, other: str, device: str, rate: int, steps: int) -> Iterator[Remedy]:
    place = f"/dev/block/{device}"
    yield proposals.set_property(victim, "IOWeight=1000", "it needs a scheduler that knows weights: bfq, or io.cost")
    half = f"{max(rate >> 21, 1)}M"
    yield proposals.set_property(other, f"IOReadBandwidthMax={place} {half}", "half of what it used; IOWriteBandwidthMax for writes")  # fmt: skip
    if steps > 1:
        yield proposals.set_property(other, f"IOReadIOPSMax={place} {max(steps // 2, 1)}", "half of its operations")


def _steady(series: Series, path: str) -> bool:
    found = [group.io for part in series.parts if (group := part.groups.get(path)) and group.io]
    return bool(found) and sum(_waited(item) >= _WAITING for item in found) >= _STEADY * len(found)
