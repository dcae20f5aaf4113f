"""CGP411: a program with C code allocates memory that GOMEMLIMIT does not count (information)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    program = subject.program
    dynamic = program.executable is not None and program.executable.interpreter is not None
    # CGO_ENABLED=1 alone is the default of a build and says nothing.
    if subject.info.setting("CGO_ENABLED") != "1" or not (dynamic and "cgo" in program.names):
        return
    limited = subject.choice.gomemlimit_bytes is not None
    yield check.finding(
        Status.PASS,
        subject,
        "it contains C code (cgo), whose memory counts against MemoryMax and not against GOMEMLIMIT",
        Remedy(
            title="lower gomemlimit_ratio by the share that the C code needs"
            if limited
            else "leave room for it below MemoryMax when you set GOMEMLIMIT"
        ),
        evidence={"CGO_ENABLED": "1", "interpreter": program.executable.interpreter if program.executable else None},
    )


CHECK = GoCheck(code="CGP411", name="cgo-memory", run=_run)
