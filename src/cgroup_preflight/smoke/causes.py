"""Why a service was killed for memory, did not become ready or stopped answering: the finding names the limit. Pure."""

import re

from cgroup_preflight.config.model import WITH_PORT, ReadyTest
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.engines.http_answer import UNTRUSTED
from cgroup_preflight.engines.ready import address
from cgroup_preflight.engines.session import ENDED_FIRST
from cgroup_preflight.host.cgroup import Counters
from cgroup_preflight.smoke.counters import unit_name
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.margins import proposed_max

#: Of how many CPU periods a service was throttled when its quota may be why it was not ready.
_THROTTLED = 0.25
#: The peak of a killed process stops at the limit. Twice as much leaves a third free for one that needs a third more.
_MORE = 2
_LISTENS = r"(?i)\b(?:listen|listens|listening|serving|bound)\b.{0,80}?[: ](\d{2,5})\b"
_LOG_LINE_MAX = 120


def oom_finding(seen: ServiceEvidence, oom_kills: int | None) -> Finding:
    """The kernel killed a process of the service for memory, `oom_kills` times by its own count."""
    effective = seen.effective
    limit = effective.memory_bytes if effective else None
    peak = value_or(seen.counters.memory_peak, None) if seen.counters else None
    # The kernel counts in batches, so the peak can be a few pages above the limit.
    proposed = proposed_max(_MORE * min(peak or limit or 0, limit or peak or 0))
    location = next((item.location for item in seen.service.settings if item.property == "MemoryMax"), None)
    at = f" (limit {format_bytes(limit)} at {effective.memory_at or 'the unit'})" if limit and effective else ""
    ready = "" if seen.ready is None or seen.ready.ok else " before it was ready"
    if oom_kills and not _reached_a_limit(seen):
        return _no_memory_left(seen, ready, peak)
    if _is_below(seen):
        return _own_limit(seen, ready, oom_kills)
    return codes.OOM_KILL.finding(
        Status.FAIL,
        seen.service,
        f"the kernel killed a process for memory{ready}: peak {format_bytes(peak) if peak else 'unknown'}{at}",
        Remedy(
            title=f"raise MemoryMax to {proposed} and run again, or reduce what the service uses",
            why="the peak stops at the limit, so the real need can be higher; the next run measures it",
        ),
        location=location,
        evidence={
            "memory_peak_bytes": peak,
            "memory_max_bytes": limit,
            "oom_kill": oom_kills,
            "result": seen.state.result or None,
        },
    )


def _reached_a_limit(seen: ServiceEvidence) -> bool:
    """Whether the kernel found a limit of the run reached, or it is unknown.

    `oom` of memory.events counts that at the level of the limit and above it, `oom_kill` any kill (cgroup-v2.rst).
    """
    levels = [level.memory_events for level in (seen.counters, *seen.slices) if level is not None]
    return any(value_or(events, {}).get("oom", 1) for events in levels)


def _is_below(seen: ServiceEvidence) -> bool:
    """Whether only limits below the service were reached, as a container runtime sets them (Delegate=)."""
    levels = [level.memory_local for level in (seen.counters, *seen.slices) if level is not None]
    return bool(levels) and not any(value_or(events, {}).get("oom", 1) for events in levels)


def _own_limit(seen: ServiceEvidence, ready: str, oom_kills: int | None) -> Finding:
    return codes.OOM_KILL.finding(
        Status.FAIL, seen.service,
        f"the kernel killed a process for memory{ready} at a limit that the service itself set, in a cgroup below its own",
        Remedy(title="raise the limit that the service gives to what it starts, or reduce what that uses",
               why="no limit of the config was reached"),
        evidence={"oom_kill": oom_kills, "result": seen.state.result or None},
    )  # fmt: skip


def _no_memory_left(seen: ServiceEvidence, ready: str, peak: int | None) -> Finding:
    return codes.OOM_KILL.finding(
        Status.UNVERIFIED, seen.service,
        f"the kernel killed a process for memory{ready}, but no limit of the run was reached: the machine, or a cgroup "
        f"above the run, had no memory left (peak {format_bytes(peak) if peak else 'unknown'})",
        Remedy(title="run where more memory is free, or give the guest more with memory in [target]",
               why="the limits of all services of a run can add up to more than the machine has"),
        evidence={"memory_peak_bytes": peak, "oom": 0},
    )  # fmt: skip


def not_ready(seen: ServiceEvidence) -> Finding:
    """The service did not become ready in its time, or ended before it was."""
    why = seen.ready.why if seen.ready else "never started"
    result, status = seen.state.result, str(seen.state.exit.status) if seen.state.exit else ""
    ended = f" (result {result}, exit status {status})" if why == ENDED_FIRST else ""
    seconds = f" after {seen.ready.seconds:.0f} s" if seen.ready and why != ENDED_FIRST else ""
    quota = _throttled_words(seen)
    raise_quota = "raise CPUQuota, or " if quota else ""
    remedy = Remedy(
        title=f"{raise_quota}{read_log(seen)}; if it only needs longer, raise start_timeout in its smoke table"
    )
    if why.startswith(UNTRUSTED):
        remedy = _trust(seen.service.smoke.ready)
    return codes.READINESS.finding(
        Status.FAIL,
        seen.service,
        f"not ready{seconds}: {why}{ended}{quota}{_other_port(seen)}",
        remedy,
        location=seen.service.ready_location,
        evidence={"result": result, "exit_status": status},
    )


def _trust(ready: ReadyTest) -> Remedy:
    """How to make a test of a service whose certificate was refused, however long it waits."""
    host, port = address(ready)
    ways = "give it the certificate of the authority in ready_ca"
    if ready.ca:
        ways = "correct ready_ca, or name the host as the certificate does"
    where = f"[{host}]" if ":" in host else host
    return Remedy(
        title=f'{ways}, or use ready = "tcp://{where}:{port}", which looks at no certificate',
        why="the service answers; waiting longer does not change its certificate",
    )


def doubtful(seen: ServiceEvidence, doubt: str) -> Finding:
    """Something answered, and nothing shows that it was this service."""
    return codes.READINESS.finding(
        Status.UNVERIFIED, seen.service, f"its address answers, but it is unknown by whom: {doubt}",
        Remedy(title="run the preflight as the user of the service, or as root"),
        location=seen.service.ready_location,
    )  # fmt: skip


def fell_silent(seen: ServiceEvidence) -> Finding:
    """The service was ready, and did not answer at the end of its time."""
    return codes.READINESS.finding(
        Status.FAIL,
        seen.service,
        f"it was ready, but did not answer {seen.service.smoke.duration:g} s later: {seen.silent}{_throttled_words(seen)}",
        Remedy(title=f"{read_log(seen)}: it still runs, but hangs or refuses connections"),
        location=seen.service.ready_location,
    )


def read_log(seen: ServiceEvidence) -> str:
    """What to do with the log of a service, which the report has where there is one."""
    return "read its log below" if seen.log else "find out why it wrote no log"


def _throttled_words(seen: ServiceEvidence) -> str:
    """That the CPU quota may be the reason, where it throttled the service often."""
    shares = [(_share(level), level.cgroup) for level in (seen.counters, *reversed(seen.slices)) if level is not None]
    share, cgroup = max(shares, key=lambda item: item[0], default=(0.0, ""))
    if share < _THROTTLED:
        return ""
    quota = next((item.text for item in seen.service.settings if item.property == "CPUQuota"), "")
    limit = f"CPUQuota={quota}" if quota else "a CPU quota of a slice above"
    if cgroup != seen.cgroup:
        limit = f"the CPUQuota of {unit_name(cgroup)}"
    return f" (throttled in {100 * share:.0f}% of periods: {limit} may be too low)"


def _share(level: Counters) -> float:
    """In which share of its periods the quota of one level throttled: each level counts only its own."""
    stat = value_or(level.cpu_stat, {})
    return stat.get("nr_throttled", 0) / max(stat.get("nr_periods", 0), 1)


def _other_port(seen: ServiceEvidence) -> str:
    """That the service says in its log which port it listens on, where the readiness test asks another one."""
    ready = seen.service.smoke.ready
    if ready.kind not in WITH_PORT or (seen.ready and "the service listens at " in seen.ready.why):
        return ""
    port = str(address(ready)[1])
    for line in seen.log:
        said = re.search(_LISTENS, line, re.ASCII)
        if said and said[1] != port:
            return f"; its log says {line.strip()[:_LOG_LINE_MAX]!r}, and the readiness test asks port {port}"
    return ""
