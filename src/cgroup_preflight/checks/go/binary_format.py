"""CGP401: the program is one that the target can execute: format, machine, and its interpreter is there."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.golang.executable import fit

_WHOLE = Remedy(title="build it or copy it again, to its end")
_OTHER_BUILD = Remedy(
    title="build it for this machine: GOOS=linux and the right GOARCH",
    commands=(("env", "GOOS=linux", "go", "build"),),
)


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    program = subject.program
    executable = program.executable
    if executable is None:
        return
    answer = fit(executable, subject.machine)
    if answer.ok is not True:
        status = Status.FAIL if answer.ok is False else Status.WARN
        yield check.finding(
            status,
            subject,
            f"it cannot run on {subject.machine}: {answer.why}",
            _WHOLE if executable.missing else _OTHER_BUILD,
        )
    if answer.ok is not False and not program.interpreter_here:
        yield check.finding(
            Status.FAIL,
            subject,
            f"it asks for the interpreter {executable.interpreter}, which is not here",
            Remedy(
                title="build it static, or on the distribution that it will run on",
                why="a Go program that uses cgo needs the C library that it was built with",
                commands=(("env", "CGO_ENABLED=0", "go", "build"),),
            ),
        )


CHECK = GoCheck(code="CGP401", name="binary-format", run=_run, any_program=True)
