"""How near to its limits a service was: memory that was left at the peak, and throttling after the start. Pure.

Both are warnings, and [policy] sets from where on. A start may use all the CPU it is given, so only the periods of the
hold count: from when the service was ready (of a slice: when all were) until the end of their time.
"""

from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.config.model import Policy, ReadyKind
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.smoke.counters import unit_name
from cgroup_preflight.smoke.evidence import Hold, ServiceEvidence
from cgroup_preflight.smoke.limits import LimitReading

#: With fewer periods than these, one that was throttled by chance would be a large share.
_PERIODS_LEAST = 10
#: A proposed MemoryMax leaves this much more than the policy asks for, as a share.
_MARGIN = 0.1
_STEP = 16 << 20
_CACHE = Remedy(
    title="raise MemoryMax only if the service is slow, or lower headroom_min in its policy table",
    why="file cache grows up to any limit; what the service itself needs has room enough",
)
#: A service that needs more than this share of its start_timeout is slow to start.
_SLOW = 0.5


def margin_findings(
    seen: Iterable[ServiceEvidence], policy: Policy, policies: Mapping[str, Policy]
) -> tuple[Finding, ...]:
    """Warnings about services and slices; `policies` are those of services by name, `policy` is for slices."""
    found: dict[tuple[str, str], Finding] = {}
    for one in seen:
        for item in one.limits:
            cgroup = "/" + item.file.rpartition("/")[0]
            mine = policies.get(one.service.label, policy) if cgroup == one.cgroup else policy
            for finding in (*_headroom(one, item, cgroup, mine), *_throttled(one, item, cgroup, mine)):
                # Services in one slice all have its numbers.
                found.setdefault((finding.code, cgroup), finding)
    return tuple(found.values())


def proposed_max(needed: float) -> str:
    """At least `needed` bytes in whole steps of 16M, as systemd spells it."""
    megabytes = max(-(-int(needed) // _STEP), 1) * _STEP >> 20
    return f"{megabytes // 1024}G" if megabytes % 1024 == 0 else f"{megabytes}M"


def proposed_quota(cpus: float) -> str:
    """One and a half times a quota, in whole steps of 5 %."""
    return f"{-(-int(cpus * 150) // 5) * 5}%"


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
        f"headroom {_percent(share)} is below {_percent(policy.headroom_min)}: peak {format_bytes(peak)} of "
        f"{item.expected.property.name}={format_bytes(int(limit))}{words}",
        _CACHE if is_cache else
        Remedy(title=f"raise MemoryMax to {proposed}, or reduce what it uses",
               why="the next request, or the next version, needs a little more than this run did"),
        location=item.expected.location,
        evidence={"memory_peak_bytes": peak, "memory_max_bytes": int(limit),
                  "memory.current after the end": value_or(counters.memory_current, None)},
    )  # fmt: skip


def _cache(seen: ServiceEvidence, cgroup: str) -> int:
    """Bytes of a service's own cgroup that the kernel drops before it kills anything; 0 where that is unknown."""
    parts = seen.stay.memory if seen.stay is not None and cgroup == seen.cgroup else {}
    return max(parts.get("file", 0) - parts.get("shmem", 0), 0) if "shmem" in parts else 0


def _throttled(seen: ServiceEvidence, item: LimitReading, cgroup: str, policy: Policy) -> Iterator[Finding]:
    cpus = item.expected.number
    hold = next((level for level in seen.hold if level.cgroup == cgroup), None)
    if item.expected.attribute != "cpu.max" or not cpus or hold is None or _is_job(seen):
        return
    periods, throttled = hold.counted("nr_periods"), hold.counted("nr_throttled")
    if periods < _PERIODS_LEAST or throttled <= periods * policy.throttled_max:
        return
    yield codes.THROTTLED.finding(
        Status.WARN, _subject(seen, cgroup),
        f"throttled in {_percent(throttled / periods)} of {periods} periods after the start, more than "
        f"{_percent(policy.throttled_max)}: CPUQuota={cpus * 100:g}%{_suffered(seen, cgroup)}",
        Remedy(title=f"raise CPUQuota to {proposed_quota(cpus)} and run again, or reduce what it computes",
               why="a throttled service waits in each period until the next one begins"),
        location=item.expected.location, evidence=_numbers(hold),
    )  # fmt: skip


def _numbers(hold: Hold) -> dict[str, str | int | float | bool | None]:
    return {key: hold.counted(key) for key in ("nr_periods", "nr_throttled", "throttled_usec", "usage_usec")}


def _is_job(seen: ServiceEvidence) -> bool:
    """Whether it ends by itself: a job may use all the CPU it is given."""
    return seen.service.smoke.ready.kind is ReadyKind.EXIT


def _suffered(seen: ServiceEvidence, cgroup: str) -> str:
    """What the service could not do in time, where the quota is its own."""
    ready, timeout = seen.ready, seen.service.smoke.start_timeout
    if cgroup != seen.cgroup or ready is None:
        return ""
    if seen.silent:
        return "; it did not answer at the end of its time"
    if ready.ok and ready.seconds > timeout * _SLOW:
        return f"; it needed {ready.seconds:.0f} s of its start_timeout of {timeout:g} s to become ready"
    return ""


def _percent(share: float) -> str:
    """Rounded down, as the table has it: 19.9% is not the 20% that it is below."""
    return f"{int(100 * share + 1e-9)}%"
