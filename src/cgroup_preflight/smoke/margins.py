"""How near to its limits a service was: memory that was left at the peak, and throttling. Pure.

Both are warnings, and [policy] sets from where on.
"""

from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.config.model import Policy
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.smoke.counters import unit_name
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.limits import LimitReading
from cgroup_preflight.smoke.throttling import percent, throttled_findings

#: A proposed MemoryMax leaves this much more than the policy asks for, as a share.
_MARGIN = 0.1
_STEP = 16 << 20
_CACHE = Remedy(
    title="raise MemoryMax only if the service is slow, or lower headroom_min in its policy table",
    why="file cache grows up to any limit; what the service itself needs has room enough",
)


def margin_findings(
    seen: Iterable[ServiceEvidence], policy: Policy, policies: Mapping[str, Policy]
) -> tuple[Finding, ...]:
    """Warnings about services and slices; `policies` are those of services by name, `policy` is for slices."""
    found: dict[tuple[str, str], Finding] = {}
    services = tuple(seen)
    for one in services:
        for item in one.limits:
            cgroup = "/" + item.file.rpartition("/")[0]
            mine = policies.get(one.service.label, policy) if cgroup == one.cgroup else policy
            throttled = throttled_findings(one, item, cgroup, mine, services)
            for finding in (*_headroom(one, item, cgroup, mine), *_slowed(one, item, cgroup, mine), *throttled):
                # Services in one slice all have its numbers.
                found.setdefault((finding.code, cgroup), finding)
    return tuple(found.values())


def proposed_max(needed: float) -> str:
    """At least `needed` bytes in whole steps of 16M, as systemd spells it."""
    megabytes = max(-(-int(needed) // _STEP), 1) * _STEP >> 20
    return f"{megabytes // 1024}G" if megabytes % 1024 == 0 else f"{megabytes}M"


def _subject(seen: ServiceEvidence, cgroup: str) -> str:
    return seen.service.label if cgroup == seen.cgroup else unit_name(cgroup)


def _headroom(seen: ServiceEvidence, item: LimitReading, cgroup: str, policy: Policy) -> Iterator[Finding]:
    limit = item.expected.number
    counters = next((level for level in (seen.counters, *seen.slices) if level and level.cgroup == cgroup), None)
    if item.expected.attribute != "memory.max" or not limit or counters is None:
        return
    peak = value_or(counters.memory_peak, None)
    # A kill is a fail of its own, with a proposal of its own.
    if (
        peak is None
        or value_or(counters.memory_events, {}).get("oom_kill")
        or peak <= limit * (1 - policy.headroom_min)
    ):
        return
    share = max(1 - peak / limit, 0)
    proposed = proposed_max(peak / max(1 - policy.headroom_min - _MARGIN, 0.05))
    cache = _cache(seen, cgroup)
    is_cache = peak - cache <= limit * (1 - policy.headroom_min)
    words = f", and {format_bytes(cache)} of it was file cache, which the kernel can drop" if is_cache else ""
    yield codes.HEADROOM.finding(
        Status.WARN, _subject(seen, cgroup),
        f"headroom {percent(share)} is below {percent(policy.headroom_min)}: peak {format_bytes(peak)} of "
        f"{item.expected.property.name}={format_bytes(int(limit))}{words}",
        _CACHE if is_cache else
        Remedy(title=f"raise MemoryMax to {proposed}, or reduce what it uses",
               why="the next request, or the next version, needs a little more than this run did"),
        location=item.expected.location,
        evidence={"memory_peak_bytes": peak, "memory_max_bytes": int(limit),
                  "memory.current after the end": value_or(counters.memory_current, None)},
    )  # fmt: skip


def _slowed(seen: ServiceEvidence, item: LimitReading, cgroup: str, policy: Policy) -> Iterator[Finding]:
    """A service above its MemoryHigh waits at each allocation, and runs on: nothing else tells.

    File cache that reaches it is what it is for, so it counts only where it is known how much of that there was.
    """
    limit, parts = item.expected.number, seen.stay.memory if seen.stay is not None else {}
    if item.expected.attribute != "memory.high" or not limit or cgroup != seen.cgroup or "shmem" not in parts:
        return
    times = value_or(seen.counters.memory_events, {}).get("high", 0) if seen.counters is not None else 0
    peak = value_or(seen.counters.memory_peak, None) if seen.counters is not None else None
    if not times or peak is None or peak - _cache(seen, cgroup) <= limit * (1 - policy.headroom_min):
        return
    proposed = proposed_max(peak / max(1 - policy.headroom_min - _MARGIN, 0.05))
    yield codes.HEADROOM.finding(
        Status.WARN, seen.service,
        f"the kernel slowed it down {times} times at MemoryHigh={format_bytes(int(limit))}: peak {format_bytes(peak)}",
        Remedy(title=f"raise MemoryHigh to {proposed} and run again, or reduce what it uses",
               why="above it the service waits at each allocation, as long as there is nothing to reclaim"),
        location=item.expected.location, evidence={"memory.events high": times, "memory_peak_bytes": peak},
    )  # fmt: skip


def _cache(seen: ServiceEvidence, cgroup: str) -> int:
    """Bytes of a service's own cgroup that the kernel drops before it kills anything; 0 where that is unknown."""
    parts = seen.stay.memory if seen.stay is not None and cgroup == seen.cgroup else {}
    return max(parts.get("file", 0) - parts.get("shmem", 0), 0) if "shmem" in parts else 0
