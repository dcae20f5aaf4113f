"""CGP407: GOMEMLIMIT < MemoryHigh < MemoryMax, with room for what the runtime does not count.

A limit at or above memory.max never acts: the kernel kills first. Above memory.high the kernel slows the program
down before its collector does anything (odigos-io/odigos#5258).
"""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_memory_limit
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP407", "gomemlimit-above-limit")
PAGE = Page(
    what="Checks that GOMEMLIMIT is below MemoryHigh and MemoryMax, with some room.",
    fails=(
        "The kernel reaches its limit first: it kills or slows the program down before the garbage collector reacts."
    ),
    fix="Set GOMEMLIMIT to 0.9 of the smaller limit.",
    about=("memory.max", "memory.high"),
    sources=("https://go.dev/doc/gc-guide#Memory_limit",),
)

#: Stacks of C code, page tables and file pages of the binary are a few MiB even in a small program.
_ROOM = 0.95
_LEAVE_OUT = Remedy(title="remove GOMEMLIMIT (below 64M it does more harm than good), or raise the limit")


def _run(subject: Subject) -> Iterable[Finding]:
    limit = subject.choice.gomemlimit_bytes
    if limit is None:
        return
    for name, (bound, level) in (
        ("MemoryMax", subject.chain.memory_max()),
        ("MemoryHigh", subject.chain.memory_high()),
    ):
        if bound is None or level is None or limit <= bound * _ROOM:
            continue
        above = limit >= bound
        if name == "MemoryMax":
            status = Status.FAIL if above else Status.WARN
            words = (
                "the kernel kills the program before its garbage collector reacts"
                if above
                else "that leaves too little room"
            )
        else:
            status, words = Status.WARN, "the kernel slows the program down before its garbage collector reacts"
        yield CODE.finding(
            status,
            subject,
            f"GOMEMLIMIT of {format_bytes(limit)} is {'not below' if above else 'close to'} "
            f"{name}={format_bytes(bound)} at {level.name}: {words}",
            *(set_memory_limit(bound, name) or (_LEAVE_OUT,)),
            location=subject.variable_at("GOMEMLIMIT"),
            evidence={"gomemlimit_bytes": limit, "limit_bytes": bound, "limit_at": level.name},
        )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
