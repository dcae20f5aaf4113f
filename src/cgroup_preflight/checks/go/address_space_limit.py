"""CGP413: no LimitAS on a Go program: its runtime reserves address space that it never uses.

With RLIMIT_AS at 500 MB a program that prints a line dies with "failed to reserve page summary memory".
"""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP413", "address-space-limit", Severity.WARNING)
PAGE = Page(
    what="Checks that no LimitAS applies to a Go program.",
    fails="The Go runtime reserves address space that it never uses. With a limit of 500 MB it does not even start.",
    fix="Use MemoryMax instead.",
    about=("ulimit",),
    sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    limit = subject.measured.address_space if subject.measured is not None else None
    if limit is None:
        return
    yield CODE.finding(
        Status.WARN,
        subject,
        f"its address space is limited to {format_bytes(limit)} (LimitAS), and Go reserves far more than it uses",
        Remedy(title="remove LimitAS (DefaultLimitAS of the manager, ulimit -v) and use MemoryMax"),
        evidence={"Max address space": limit},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
