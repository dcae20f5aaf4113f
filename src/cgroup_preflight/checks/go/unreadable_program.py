"""CGP417: the build info of the program can be read; a packed or damaged program has none."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP417", "unreadable-program", Severity.WARNING)
PAGE = Page(
    what="Checks that the build info of the program can be read.",
    fails="A packed or damaged program does not show its Go version, so no settings can be generated for it.",
    fix="Use the program as the toolchain built it.",
    about=("upx", "buildinfo"),
    sources=("https://pkg.go.dev/debug/buildinfo",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    if subject.program.unreadable:
        is_program = subject.program.executable is not None
        yield CODE.finding(
            Status.WARN,
            subject,
            f"its build info cannot be read: it {subject.program.why_not}",
            Remedy(
                title="use the program as the Go toolchain built it"
                if is_program
                else "name a program file that can be read",
                why="without build info the runtime's behaviour cannot be predicted, and no settings are generated",
            ),
        )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run, any_program=True)
