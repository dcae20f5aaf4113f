"""CGP421: the GOMEMLIMITs of services under one shared limit fit into it together.

Each runtime counts its own memory only: under a limit of the slice alone, each one waits for 0.9 of all of it.
"""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP421", "memory-limit-shared", Severity.WARNING)
PAGE = Page(
    what="Checks that the GOMEMLIMITs of services under one shared limit fit into it together.",
    fails=(
        "Under a limit of the slice alone each service waits for 0.9 of the whole limit before it collects, and the "
        "kernel kills first."
    ),
    fix="Give each service its own MemoryMax.",
    about=("slice", "memory.max"),
    sources=("https://go.dev/doc/gc-guide#Memory_limit",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    limit, level, name = subject.chain.memory()
    own = subject.choice.gomemlimit_bytes
    if limit is None or level is None or own is None or level.services < 2 or own * level.services <= limit:
        return
    yield CODE.finding(
        Status.WARN,
        subject,
        f"{level.services} services share {name}={format_bytes(limit)} at {level.name}, but its GOMEMLIMIT of "
        f"{format_bytes(own)} takes no account of the others: together they reach the limit before any of them collects garbage",
        Remedy(
            title=f"give each service a MemoryMax of its own, such as {max(limit // level.services >> 20, 1)}M",
            why="its GOMEMLIMIT then follows from that",
        ),
        location=subject.line_of(level, name),
        evidence={"limit_bytes": limit, "services": level.services, "gomemlimit_bytes": own},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
