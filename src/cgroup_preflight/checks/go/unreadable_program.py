"""CGP417: the program can be looked into; a packed or damaged one keeps its Go version to itself."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    if subject.program.unreadable:
        is_program = subject.program.executable is not None
        yield check.finding(
            Status.WARN,
            subject,
            f"it cannot be looked into: it {subject.program.why_not}",
            Remedy(
                title="give the program as the Go toolchain built it"
                if is_program
                else "name a program file that can be read",
                why="without its build info nobody can say what its runtime will do, and no settings are generated",
            ),
        )


CHECK = GoCheck(code="CGP417", name="unreadable-program", run=_run, any_program=True)
