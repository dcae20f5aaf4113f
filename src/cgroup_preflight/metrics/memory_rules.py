"""Why a cgroup waited for memory, or lost processes: a limit of its own or above (M1), reclaim of the whole host (M2),
or a protection that could not be kept (M3). Pure.

`memory.events` counts at the level whose limit was reached and at those above it, `memory.events.local` at that level
alone; `oom_kill` counts kills of any cause (cgroup-v2.rst).
"""

from collections.abc import Iterator, Sequence

from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.metrics import proposals
from cgroup_preflight.metrics.diagnosis import Confidence, Diagnosis, at_most, grade, percent
from cgroup_preflight.metrics.window import LIMIT_EVENTS, Group, Memory, Series, name_of, parent_of

#: A cgroup in which tasks wait for memory this share of the time is a victim (node_exporter's `waiting`).
_WAITING = 0.10
#: All tasks of the host at once, this share of the time: the kernel reclaims everywhere.
_HOST_WAITING = 0.05
#: oomd's memory_above and memory_growth: a cgroup is named from half of the memory, or a growth of a quarter.
_LARGE, _GROWTH, _GROWN = 0.5, 0.25, 32 << 20
_PAGE = 4096
#: A host with less than this share of its memory available is short of it; so much read again each second is much.
_SCARCE, _REREAD = 0.10, 1 << 20
#: Of what it read from devices, this share had been reclaimed before.
_MOST = 0.5
_STEADY, _LONG = 0.7, 0.2
#: Counted at the level whose limit ran out, before the kernel kills (mm/memcontrol.c): without it, the host ran out.
_OOM = ("oom",)
#: With less than this more than its limit, what a cgroup had does not show what it wants.
_SHOWN = 1.2
_GO = Remedy(title="for a Go service, set GOMEMLIMIT to nine tenths of the new limit",
             why="without it, the Go heap grows up to any limit before the garbage collector runs")  # fmt: skip


def memory_diagnoses(series: Series, victims: frozenset[str]) -> tuple[Diagnosis, ...]:
    """One answer at most for each of these cgroups, and one for each protection that was not kept."""
    found: list[Diagnosis] = []
    for group in series.whole.leaves():
        if group.path in victims and group.memory is not None:
            found += [*_judged(series, group, group.memory)][:1]
    named = {item.cause for item in found}
    # The innermost first: the slices above count the same kills.
    for path, group in sorted(series.whole.groups.items(), key=lambda item: -item[0].count("/")):
        if path in victims and group.memory is not None:
            if (
                path not in named
                and _kills(group.memory)
                and not any(f"{item.victim}/".startswith(f"{path}/") for item in found)
            ):
                found += [*_gone(series, group, group.memory)]
            found += [*_protection(series, group, group.memory)]
    return tuple(found)


def _judged(series: Series, group: Group, memory: Memory) -> Iterator[Diagnosis]:
    waits = max(_waited(memory), _waited_for_io(group))
    if waits < _WAITING and not _kills(memory):
        return
    level = _limit_level(series, group, _OOM if _kills(memory) else LIMIT_EVENTS)
    if level is not None and level.memory is not None and (_kills(memory) or _waited(memory) >= _WAITING):
        yield _limit(series, group, memory, level, level.memory)
    if (
        _waited(memory) >= _WAITING
        or (_kills(memory) and level is None)
        or (level is None and _reread(series, group, memory))
    ):
        yield from _reclaim(series, group, memory)


def _waited(memory: Memory) -> float:
    return memory.pressure.waiting if memory.pressure else 0.0


def _reread(series: Series, group: Group, memory: Memory) -> bool:
    """Whether it waited for a device to read pages again that the host, short of memory, had reclaimed.

    Pressure counts that as waiting for memory only for pages that were in use often (mm/workingset.c).
    """
    return (
        _short(series)
        and _waited_for_io(group) >= _WAITING
        and memory.refaults * _PAGE >= _REREAD * series.whole.seconds
    )


def _short(series: Series) -> bool:
    """Whether the host had little memory available at the end of a part of the time, caches counted as available."""
    return any(
        host.memory_available is not None and host.memory_available < _SCARCE * (host.memory_total or 0)
        for host in (part.host for part in (*series.parts, series.whole))
    )


def _only_reread(group: Group, memory: Memory) -> bool:
    """Whether most of what it read from devices had been reclaimed, so that its waiting for I/O is for memory."""
    read = sum(device.read for device in group.io.devices.values()) if group.io else 0
    return read > 0 and memory.refaults * _PAGE >= _MOST * read


def _waited_for_io(group: Group) -> float:
    return group.io.pressure.waiting if group.io and group.io.pressure else 0.0


def _kills(memory: Memory) -> int:
    return memory.events.get("oom_kill", 0)


def _local(memory: Memory, below: list[Memory]) -> dict[str, int]:
    """The events of a level's own limits; without `memory.events.local`, what its children do not account for."""
    if memory.local is not None:
        return {key: memory.local.get(key, 0) for key in LIMIT_EVENTS}
    return {
        key: max(memory.events.get(key, 0) - sum(child.events.get(key, 0) for child in below), 0)
        for key in LIMIT_EVENTS
    }


def _limit_level(series: Series, group: Group, events: Sequence[str]) -> Group | None:
    """The innermost level, from the cgroup up, with one of these events of a limit of its own."""
    children = series.whole.by_parent()
    for level in (group, *series.whole.above(group.path)):
        below = [child.memory for child in children.get(level.path, []) if child.memory is not None]
        if level.memory is not None and any(_local(level.memory, below)[event] for event in events):
            return level
    return None


def _gone(series: Series, group: Group, memory: Memory) -> Iterator[Diagnosis]:
    """M1 or M2 of a slice whose killed service is gone: a service that systemd starts again has a new cgroup, and its
    counters begin at 0; the slice keeps the count (memory.events is hierarchical).

    Where only one unit in the slice was started again, and the slice reached no limit of its own, it is that one.
    """
    level = _limit_level(series, group, _OOM)
    if level is None and not memory.events.get("oom", 0):
        yield from _reclaim(series, group, memory)
        return
    if level is not None and level.memory is not None and level is not group:
        yield _limit(series, group, memory, level, level.memory)
        return
    children = [child for child in series.whole.groups.values() if parent_of(child.path) == group.path]
    again = [child for child in children if child.reborn and child.memory is not None]
    own = _local(memory, [child.memory for child in children if child.memory is not None])
    if len(again) == 1 and again[0].memory is not None and memory.local is not None and not any(own.values()):
        one = replace(again[0].memory, events=memory.events, local=None)
        yield _limit(series, replace(again[0], memory=one), one, replace(again[0], memory=one), one)
    else:
        yield _limit(series, group, memory, group, memory)


def _limit(series: Series, group: Group, memory: Memory, level: Group, at: Memory) -> Diagnosis:
    events = {key: at.events.get(key, 0) for key in (*LIMIT_EVENTS, "oom_kill") if at.events.get(key)}
    kills = _kills(memory)
    own = level.path == group.path
    name, limit = _limit_name(at)
    words = f"{name}={format_bytes(limit)}" if limit is not None else "a memory limit"
    where = (
        f"its own {words}"
        if own and limit is not None
        else f"{words} below it"
        if own
        else f"{words} of {name_of(level.path)} above it"
    )
    what = f"the kernel killed {kills} of its processes for memory at" if kills else "waited for memory in "
    what += "" if kills else f"{percent(_waited(memory))} of the time at"
    above = _kills_above(series, group)
    what = what.replace("killed", "killed at least", 1) if above > kills else what
    counted = ", ".join(f"{key} {count}" for key, count in events.items())
    confidence = grade(
        bool(kills) or memory.pressure is not None, limit is not None,
        bool(kills) or _steady(series, group.path),
    )  # fmt: skip
    return Diagnosis(
        code=codes.MEMORY_LIMIT, rule="M1", victim=group.path, cause=level.path, confidence=confidence,
        message=f"{what} {where} (memory.events: {counted})",
        evidence={**_evidence(memory), **{f"events_{key}": count for key, count in events.items()},
                  "oom_kills_of_the_level_above": above or None, "level_current_bytes": at.current, "level_limit_bytes": limit},
        remedies=tuple(_raised(level.path, at, name, limit)),
    )  # fmt: skip


def _kills_above(series: Series, group: Group) -> int:
    """Kills that the level above counts and its other cgroups do not: those of the cgroup's own earlier lives, too."""
    level = next(series.whole.above(group.path), None)
    if level is None or level.memory is None:
        return 0
    others = sum(_kills(other.memory) for other in series.whole.siblings(group.path) if other.memory)
    return max(_kills(level.memory) - others, 0)


def _limit_name(memory: Memory) -> tuple[str, int | None]:
    """The property whose limit acted, and its bytes."""
    events = memory.local if memory.local is not None else memory.events
    if events.get("max", 0) or events.get("oom", 0) or memory.high is None:
        return "MemoryMax", memory.max
    return "MemoryHigh", memory.high


def _raised(path: str, memory: Memory, name: str, limit: int | None) -> Iterator[Remedy]:
    """A limit that would have been enough, or a first step where the kernel's numbers cannot show one."""
    if limit is None:
        yield Remedy(title=f"read the limits below {name_of(path)}: systemctl status shows them",
                     why="the cgroup that reached its limit is gone; the level above keeps only the count")  # fmt: skip
        return
    reread = min(memory.refaults * _PAGE, 4 * limit)
    needed = max(memory.current, limit) + memory.swap + reread
    if memory.events.get("oom", 0) or memory.events.get("oom_kill", 0) or needed < _SHOWN * limit:
        needed = max(needed, 2 * limit)
        why = "nothing shows how much more than the limit it wants: measure again with this value"
    else:
        why = f"it had {format_bytes(memory.current)}, {format_bytes(memory.swap)} more in swap, and read {format_bytes(reread)} again"
    yield proposals.set_property(path, f"{name}={proposals.size(needed)}", why)
    yield _GO


def _reclaim(series: Series, group: Group, memory: Memory) -> Iterator[Diagnosis]:
    """M2: the host ran out of memory; the largest or fastest growing cgroup is named if one stands out."""
    host = series.whole.host
    pressed = host.memory is not None and host.memory.waiting >= _HOST_WAITING
    reread = _reread(series, group, memory)
    if not pressed and not _kills(memory) and not reread:
        return
    other, kills = _aggressor(series, group.path), bool(_kills(memory))
    touched = kills and _limit_level(series, group, LIMIT_EVENTS) is not None
    only = reread and _only_reread(group, memory)
    total, most = host.memory_total or 0, max(_sizes(series, other.path), default=0) if other else 0
    yield Diagnosis(
        code=codes.HOST_MEMORY, rule="M2", victim=group.path, cause=other.path if other else "",
        confidence=at_most(
            grade((pressed and (_waited(memory) >= _WAITING or only)) or kills, other is not None,
                  kills or _waited(memory) >= _LONG or _steady(series, group.path, with_io=only)),
            Confidence.MEDIUM if touched else Confidence.HIGH),
        message=f"{_suffered(memory, reread=reread)}, and "
                f"{'not at a limit on its path' if touched else 'no limit on its path was reached'}: the host has too little memory; "
                f"{_who(group.path, other, most, total)}",
        evidence={**_evidence(memory), "host_memory_waiting": round(host.memory.waiting, 3) if host.memory else None,
                  "neighbour_most_bytes": most or None,
                  "neighbour_grown_bytes": other.memory.grown if other and other.memory else None},
        remedies=tuple(_protect(group, memory, other, most, total)),
    )  # fmt: skip


def _suffered(memory: Memory, *, reread: bool) -> str:
    if _kills(memory):
        return f"the kernel killed {_kills(memory)} of its processes for memory"
    if reread and _waited(memory) < _WAITING:
        return f"read {format_bytes(memory.refaults * _PAGE)} again that the kernel had reclaimed"
    return f"waited for memory in {percent(_waited(memory))} of the time"


def _who(victim: str, other: Group | None, most: int, total: int) -> str:
    if other is None or other.memory is None:
        return "no single cgroup stands out"
    mine = "it had itself" if other.path == victim else f"{name_of(other.path)} had"
    grown = other.memory.grown
    growth = f", {format_bytes(grown)} more than before" if grown > 0 else ""
    return f"{mine} up to {format_bytes(most)} of {format_bytes(total)}{growth}"


def _aggressor(series: Series, victim: str) -> Group | None:
    """The leaf with most of the memory or with the largest growth, if it is large or grew a lot, as oomd chooses.

    What counts is the most that it had at the end of a part of the time: a batch job takes and frees memory in turns.
    """
    total = series.whole.host.memory_total or 0
    best: tuple[float, Group] | None = None
    for group in series.whole.leaves():
        memory = group.memory
        if memory is None or not total:
            continue
        most = max([memory.current + memory.swap, *_sizes(series, group.path)])
        grew = memory.grown >= _GROWN and memory.grown >= _GROWTH * max(most - memory.grown, _GROWN)
        score = most / total + max(memory.grown, 0) / total
        # An equal one is no reason to blame a neighbour: the victim itself wins a draw.
        score += 1e-9 if group.path == victim else 0
        if (grew or most > _LARGE * total) and (best is None or score > best[0]):
            best = (score, group)
    return best[1] if best else None


def _sizes(series: Series, path: str) -> list[int]:
    """Memory and swap of a cgroup at the end of each part."""
    found = (part.groups.get(path) for part in series.parts)
    return [item.memory.current + item.memory.swap for item in found if item and item.memory]


def _protect(group: Group, memory: Memory, other: Group | None, most: int, total: int) -> Iterator[Remedy]:
    if other is not None and other.path != group.path:
        room = most - max(memory.refaults * _PAGE, total >> 4)
        yield proposals.set_property(
            other.path, f"MemoryHigh={max(room >> 20, 16)}M", "that leaves to the others what they had to read again")  # fmt: skip
    if other is None or other.path != group.path:
        needed = memory.current + min(memory.refaults * _PAGE, total >> 2)
        yield proposals.set_property(
            group.path, f"MemoryLow={proposals.size(needed)}",
            "the kernel then reclaims from the others first; the slices above need it, too")  # fmt: skip
    else:
        yield Remedy(
            title="let it use less, or run it on a host with more memory", why="it has most of the memory itself"
        )


def _protection(series: Series, group: Group, memory: Memory) -> Iterator[Diagnosis]:
    """M3: reclaimed although it was below its `memory.low`."""
    events = memory.local if memory.local is not None else memory.events
    if not events.get("low", 0) or not memory.low:
        return
    yield Diagnosis(
        code=codes.MEMORY_PROTECTION, rule="M3", victim=group.path, cause="",
        confidence=grade(memory.local is not None, series.whole.host.memory is not None),
        message=f"lost memory {events['low']} times although it was below its MemoryLow={format_bytes(memory.low)}: "
                "the protected memory of all cgroups is more than the kernel can keep",
        evidence={**_evidence(memory), "events_low": events["low"], "memory_low_bytes": memory.low},
        remedies=(Remedy(title="lower MemoryLow of the neighbours, or set it on the slices above, too",
                         why="a level protects at most what the level above it protects"),),
    )  # fmt: skip


def _steady(series: Series, path: str, *, with_io: bool = False) -> bool:
    """Whether it waited most of the time for memory, or with `with_io` for a device."""
    waits = [
        max(_waited(group.memory), _waited_for_io(group) if with_io else 0.0) for part in series.parts
        if (group := part.groups.get(path)) and group.memory and group.memory.pressure
    ]  # fmt: skip
    return bool(waits) and sum(wait >= _WAITING for wait in waits) >= _STEADY * len(waits)


def _evidence(memory: Memory) -> dict[str, str | int | float | bool | None]:
    found: dict[str, str | int | float | bool | None] = {
        "memory_current_bytes": memory.current,
        "memory_grown_bytes": memory.grown,
        "memory_waiting": round(memory.pressure.waiting, 3) if memory.pressure else None,
        "memory_stalled": round(memory.pressure.stalled, 3) if memory.pressure else None,
        "oom_kills": _kills(memory),
        "refaults": memory.refaults,
    }
    return found
