"""CGP408: GOMEMLIMIT is not too near what the program really keeps, as the smoke run measured it.

Within a tenth of the live heap throughput falls to a twentieth while nothing dies; with a quarter on top the cost
is a fifth (measured with Go 1.24 and 1.27 on a live heap of 200 MiB; golang/go#58106, golang/go#66569).
"""

from collections.abc import Iterable

from cgroup_preflight.gochecks.base import GoCheck, Subject
from cgroup_preflight.quantities import format_bytes
from cgroup_preflight.report import Finding, Remedy, Status

_NEAR = 1.25
_STEP = 16 << 20


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    limit, measured = subject.choice.gomemlimit_bytes, subject.measured
    if limit is None or measured is None or measured.live is None:
        return
    need = measured.live + measured.other
    if limit >= need * _NEAR:
        return
    wanted = -(-int(need * _NEAR / 0.9) // _STEP) * _STEP
    _, level = subject.chain.memory_max()
    yield check.finding(
        Status.WARN,
        subject,
        f"GOMEMLIMIT of {format_bytes(limit)} is {'below' if limit < need else 'too near'} the {format_bytes(need)} "
        "that the program keeps after a collection: it will collect without a pause instead of working",
        Remedy(
            title=f"raise MemoryMax to {format_bytes(wanted)} or more, and GOMEMLIMIT with it",
            docs="https://go.dev/doc/gc-guide#Memory_limit",
        ),
        location=subject.variables_at.get("GOMEMLIMIT") or subject.line_of(level, "MemoryMax"),
        evidence={"gomemlimit_bytes": limit, "live_heap_bytes": measured.live, "other_bytes": measured.other},
    )


CHECK = GoCheck(code="CGP408", name="gomemlimit-near-heap", run=_run)
