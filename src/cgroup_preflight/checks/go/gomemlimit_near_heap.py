"""CGP408: GOMEMLIMIT is not too near what the program really keeps, as the smoke run measured it.

Within a tenth of the live heap throughput drops to a twentieth while nothing dies; with a quarter on top the cost
is a fifth (measured with Go 1.24 and 1.27 on a live heap of 200 MiB; golang/go#58106, golang/go#66569).
"""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP408", "gomemlimit-near-heap", Severity.WARNING)
PAGE = Page(
    what=(
        "Checks that GOMEMLIMIT is at least a quarter above what the program keeps, as measured, and never below 4M."
    ),
    fails=(
        "Near the size of the live heap the garbage collector runs all the time: throughput drops to a twentieth, "
        "and nothing is killed."
    ),
    fix="Raise MemoryMax, and GOMEMLIMIT with it.",
    about=("heap",),
    sources=("https://go.dev/doc/gc-guide#Memory_limit", "https://github.com/golang/go/issues/58106"),
)

_NEAR = 1.25
#: An idle program that prints a line has 2 to 3 MiB, bytes.
_LEAST = 4 << 20
_STEP = 16 << 20


def _run(subject: Subject) -> Iterable[Finding]:
    limit = subject.choice.gomemlimit_bytes
    if limit is None:
        return
    if limit < _LEAST:
        if subject.measured is None:
            yield _too_small(subject, limit)
        return
    yield from _measured(subject, limit)


def _too_small(subject: Subject, limit: int) -> Finding:
    """Known without a run: 512 without a unit is 512 bytes."""
    text = subject.environment.get("GOMEMLIMIT", "")
    return CODE.finding(
        Status.WARN,
        subject,
        f"GOMEMLIMIT={text} is {limit} bytes, less than any Go program needs: the garbage collector will never pause",
        set_variable("GOMEMLIMIT", f"{limit}MiB" if 0 < limit < 1 << 20 else "off", "a number without a unit is bytes"),
        location=subject.variable_at("GOMEMLIMIT"),
        evidence={"gomemlimit_bytes": limit},
    )


def _measured(subject: Subject, limit: int) -> Iterable[Finding]:
    measured = subject.measured
    if measured is None or measured.live is None:
        return
    need = measured.live + measured.other
    if limit >= need * _NEAR:
        return
    wanted = -(-int(need * _NEAR / 0.9) // _STEP) * _STEP
    _, level = subject.chain.memory_max()
    yield CODE.finding(
        Status.WARN,
        subject,
        f"GOMEMLIMIT of {format_bytes(limit)} is {'below' if limit < need else 'too near'} the {format_bytes(need)} "
        "that the program keeps after a collection: the garbage collector will never pause",
        Remedy(
            title=f"raise MemoryMax to {format_bytes(wanted)} or more, and GOMEMLIMIT with it",
            docs="https://go.dev/doc/gc-guide#Memory_limit",
        ),
        location=subject.variables_at.get("GOMEMLIMIT") or subject.line_of(level, "MemoryMax"),
        evidence={"gomemlimit_bytes": limit, "live_heap_bytes": measured.live, "other_bytes": measured.other},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
