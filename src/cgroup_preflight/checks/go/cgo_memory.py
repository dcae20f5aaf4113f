"""CGP411: a program with C code allocates memory that GOMEMLIMIT does not count (information)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP411", "cgo-memory", Severity.INFORMATION)
PAGE = Page(
    what="Shows whether the program contains C code, whose memory GOMEMLIMIT does not count.",
    fails="That memory counts against MemoryMax all the same.",
    fix="Lower gomemlimit_ratio by its share.",
    about=("cgo",),
    sources=("https://go.dev/doc/gc-guide#Memory_limit",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    program = subject.program
    dynamic = program.executable is not None and program.executable.interpreter is not None
    # CGO_ENABLED=1 alone is the default of a build and says nothing.
    if subject.info.setting("CGO_ENABLED") != "1" or not (dynamic and "cgo" in program.names):
        return
    limited = subject.choice.gomemlimit_bytes is not None
    yield CODE.finding(
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


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
