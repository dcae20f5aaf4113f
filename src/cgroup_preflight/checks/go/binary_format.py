"""CGP401: the machine can execute the program: format, architecture, and its interpreter exists."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core import codes
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.golang.executable import fit

if TYPE_CHECKING:
    from cgroup_preflight.golang.program import Binary
    from cgroup_preflight.host.facts import Facts
    from cgroup_preflight.plan.model import ServicePlan

CODE = codes.BINARY_FORMAT
PAGE = Page(
    what="Checks that the machine can execute the program: format, architecture, interpreter.",
    fails="A program for another machine, or one whose C library does not exist here, never starts.",
    fix="Build it for the target machine; a build with CGO_ENABLED=0 needs no interpreter.",
    about=("GOARCH", "GOOS", "elf"),
    sources=("https://go.dev/doc/install/source#environment",),
)

_WHOLE = Remedy(title="build or copy it again: the file is incomplete")
_OTHER_BUILD = Remedy(
    title="build it for this machine: GOOS=linux and the right GOARCH",
    commands=(("env", "GOOS=linux", "go", "build"),),
)


def _run(subject: Subject) -> Iterable[Finding]:
    program = subject.program
    executable = program.executable
    if executable is None:
        return
    answer = fit(executable, subject.machine)
    if answer.ok is not True:
        status = Status.FAIL if answer.ok is False else Status.WARN
        yield CODE.finding(
            status,
            subject,
            f"it cannot run on {subject.machine}: {answer.why}",
            _WHOLE if executable.missing else _OTHER_BUILD,
        )
    if answer.ok is not False and not program.interpreter_here:
        yield CODE.finding(
            Status.FAIL,
            subject,
            f"it needs the interpreter {executable.interpreter}, which does not exist here",
            Remedy(
                title="build it statically, or on the distribution that it will run on",
                why="a Go program that uses cgo needs the C library that it was built with",
                commands=(("env", "CGO_ENABLED=0", "go", "build"),),
            ),
        )


def unrunnable_programs(services: "Iterable[ServicePlan]", facts: "Facts") -> list[Finding]:
    """The programs that this machine cannot run: for another system or architecture, damaged, or no program at all."""
    machine = value_or(facts.machine, None)
    if machine is None:
        # The machine may be another one than that of this tool: its programs are tried.
        return []
    found: list[Finding] = []
    for service in services:
        reason = _reason(service.program, machine)
        if reason:
            message = f"binary {service.path!r} cannot run here: {reason}"
            found.append(CODE.finding(Status.FAIL, service, message, _OTHER_BUILD))
    return found


def _reason(program: "Binary | None", machine: str) -> str:
    """Why the program cannot run on the machine; empty where nothing is known against it."""
    if program is None or program.executable is None:
        return program.why_not if program is not None else ""
    answer = fit(program.executable, machine)
    return answer.why if answer.ok is False else ""


CHECK = GoCheck(code=CODE, page=PAGE, run=_run, any_program=True)
