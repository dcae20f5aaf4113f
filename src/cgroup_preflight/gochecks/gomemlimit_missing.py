"""CGP405: a Go program under a memory limit has a GOMEMLIMIT (golang/go#75164: none comes from the cgroup)."""

import math
from collections.abc import Iterable

from cgroup_preflight.config.model import GOMEMLIMIT_RATIO
from cgroup_preflight.gochecks.base import GoCheck, Subject, set_variable
from cgroup_preflight.golang.runtime_libs import effects
from cgroup_preflight.plan.gofit import LEAST_MEMORY_LIMIT
from cgroup_preflight.quantities import format_bytes
from cgroup_preflight.report import Finding, Status


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    limit, level, name = subject.chain.memory()
    choice = subject.choice
    if limit is None or level is None or choice.gomemlimit_bytes is not None or choice.fatal:
        return
    if any(item.gomemlimit_bytes is not None for item in effects(subject.info, subject.environment, subject.chain)):
        return
    value = math.floor(limit * GOMEMLIMIT_RATIO)
    where = f"{name}={format_bytes(limit)} at {level.name}"
    status, words = Status.WARN, "its default lets the heap grow to twice what is in use, and the kernel kills it first"
    if subject.environment.get("GOMEMLIMIT") == "off":
        status, words = Status.PASS, "GOMEMLIMIT=off was set on purpose"
    elif value < LEAST_MEMORY_LIMIT:
        status, words = Status.PASS, "below 64M a GOMEMLIMIT does more harm than good"
    yield check.finding(
        status,
        subject,
        f"no GOMEMLIMIT under {where}: {words}",
        set_variable(
            "GOMEMLIMIT",
            f"{value >> 20}MiB",
            f"{GOMEMLIMIT_RATIO:g} of the limit; the rest is for what Go does not count",
        ),
        location=subject.line_of(level, name),
        evidence={"limit_bytes": limit, "limit_at": level.name},
    )


CHECK = GoCheck(code="CGP405", name="gomemlimit-missing", run=_run)
