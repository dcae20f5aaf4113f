"""CGP409: MemoryHigh on a Go program needs a GOMEMLIMIT below it, or swap.

Without either the kernel reclaims what cannot be reclaimed, and the program crawls instead of being killed: the
unit stays "active" for hours (FootprintAI/Containarium#1454, kittors/CliRelay#1037).
"""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_memory_limit
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.golang.runtime_libs import effects

CODE = Code("CGP409", "memory-high-live-lock", Severity.WARNING)
PAGE = Page(
    what="Checks that a Go program with MemoryHigh has a GOMEMLIMIT below it, or swap.",
    fails=(
        "Without either the kernel tries to reclaim what cannot be reclaimed: the program runs extremely slowly and "
        "is never killed."
    ),
    fix="Set GOMEMLIMIT, or remove MemoryHigh.",
    about=("memory.high",),
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    high, level = subject.chain.memory_high()
    if high is None or level is None or subject.choice.gomemlimit_bytes is not None or subject.choice.fatal:
        return
    maximum, _ = subject.chain.memory_max()
    forbidden = any(item.swap_max == 0 for item in subject.chain.levels)
    if (maximum is not None and maximum <= high) or (subject.swap is not False and not forbidden):
        return
    linked = [item.gomemlimit_bytes for item in effects(subject.info, subject.environment, subject.chain)]
    if any(value is not None and value < high for value in linked):
        return
    yield CODE.finding(
        Status.WARN,
        subject,
        f"MemoryHigh={format_bytes(high)} at {level.name} without GOMEMLIMIT and without swap: above it the program "
        "runs extremely slowly and is never killed",
        *set_memory_limit(high, "MemoryHigh"),
        Remedy(title="remove MemoryHigh, so that MemoryMax ends the program"),
        location=subject.line_of(level, "MemoryHigh"),
        evidence={"memory_high_bytes": high, "limit_at": level.name},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
