"""How a CPU quota slowed a service: its work after the start, and a start that nearly took too long. Pure.

A start may use all the CPU it is given, so what counts is the hold: from when the service was ready (of a slice: when all
were) until the end of their time. Only a slow start counts, too.
"""

from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.config.model import Policy, ReadyKind
from cgroup_preflight.core import codes
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.smoke.counters import unit_name
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.limits import LimitReading

#: With fewer periods than these, one that was throttled by chance would be a large share: then the time counts.
_PERIODS_LEAST = 10
#: A service that needs more than this share of its start_timeout is slow to start.
_SLOW = 0.5
_COUNTERS = ("nr_periods", "nr_throttled", "throttled_usec", "usage_usec")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """How much of a span of time was throttled, and by which count."""

    share: float = 0.0
    words: str = ""


def throttled_findings(
    seen: ServiceEvidence, item: LimitReading, cgroup: str, policy: Policy, services: Iterable[ServiceEvidence]
) -> Iterator[Finding]:  # fmt: skip
    """A warning where the quota `item` of a service or of a slice above it throttled more than the policy allows.

    `services` are all of the run: of those in `cgroup`, one that suffered is named.
    """
    cpus, period = item.expected.number, item.expected.period_usec or 0
    hold = next((level for level in seen.hold if level.cgroup == cgroup), None)
    if item.expected.attribute != "cpu.max" or not cpus or hold is None or _is_job(seen):
        return
    grown = {key: hold.counted(key) for key in _COUNTERS}
    after = _span(grown, hold.seconds, period)
    within = [one for one in services if not _is_job(one) and f"{one.cgroup}/".startswith(f"{cgroup}/")]
    slow = next((one for one in within if _is_slow(one)), None)
    start = _span(hold.before, slow.ready.seconds, period) if slow is not None and slow.ready is not None else _Span()
    is_after, is_start = after.share > policy.throttled_max, start.share > policy.throttled_max
    if not is_after and not is_start:
        return
    message = f"throttled {after.words} after the start"
    silent = next((one for one in within if one.silent), None)
    if is_start and slow is not None:
        late = f", and {after.words} after it" if is_after else ""
        message = f"{_who(slow, cgroup)} {_needed(slow)}, throttled {start.words} of the start{late}"
    elif silent is not None:
        message = f"{_who(silent, cgroup)} did not answer at the end of its time, {message}"
    yield codes.THROTTLED.finding(
        Status.WARN, seen.service.label if cgroup == seen.cgroup else unit_name(cgroup),
        f"{message}, more than {percent(policy.throttled_max)}: CPUQuota={cpus * 100:g}%",
        Remedy(title=f"raise CPUQuota to {proposed_quota(cpus)} and run again, or reduce what it computes",
               why="a throttled service waits in each period until the next one begins"),
        location=item.expected.location,
        evidence=dict(grown if is_after else {key: hold.before.get(key, 0) for key in _COUNTERS}),
    )  # fmt: skip


def proposed_quota(cpus: float) -> str:
    """One and a half times a quota, in whole steps of 5 %."""
    return f"{-(-int(cpus * 150) // 5) * 5}%"


def _span(stat: Mapping[str, int], seconds: float, period_usec: int) -> _Span:
    """The share of its periods; where they are few, of its `seconds`.

    The kernel adds up the time of all CPUs (kernel/sched/fair.c, `unthrottle_cfs_rq`), which can be more than went by.
    """
    periods, throttled = stat.get("nr_periods", 0), stat.get("nr_throttled", 0)
    if periods >= _PERIODS_LEAST:
        share = throttled / periods
        return _Span(share=share, words=f"in {percent(share)} of {periods} periods")
    waited = min(stat.get("throttled_usec", 0), throttled * period_usec) / 1e6
    if not waited or seconds <= 0:
        return _Span()
    return _Span(share=min(waited / seconds, 1.0), words=f"for {waited:.1f} s of {seconds:.1f} s")


def _is_job(seen: ServiceEvidence) -> bool:
    """Whether it ends by itself: a job may use all the CPU it is given."""
    return seen.service.smoke.ready.kind is ReadyKind.EXIT


def _is_slow(seen: ServiceEvidence) -> bool:
    return seen.ready is not None and seen.ready.ok and seen.ready.seconds > seen.service.smoke.start_timeout * _SLOW


def _needed(seen: ServiceEvidence) -> str:
    seconds = seen.ready.seconds if seen.ready is not None else 0.0
    return f"needed {seconds:.0f} s of its start_timeout of {seen.service.smoke.start_timeout:g} s to become ready"


def _who(seen: ServiceEvidence, cgroup: str) -> str:
    return "it" if seen.cgroup == cgroup else seen.service.label


def percent(share: float) -> str:
    """A share for a message, rounded down: 19.9% is not the 20% that it is below."""
    return f"{int(100 * share + 1e-9)}%"
