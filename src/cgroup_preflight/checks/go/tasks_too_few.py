"""CGP414: TasksMax leaves room for the threads of the runtime: GOMAXPROCS and some 16 more (golang/go#15476)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP414", "tasks-too-few", Severity.WARNING)
PAGE = Page(
    what="Checks that TasksMax is at least GOMAXPROCS plus 16.",
    fails="A Go program that is refused a thread dies with status 2.",
    fix="Raise TasksMax.",
    about=("pids.max", "threads"),
    sources=("https://github.com/golang/go/issues/15476",),
)

#: Threads in system calls, of the garbage collector, sysmon, the signal handler.
_MORE = 16


def _run(subject: Subject) -> Iterable[Finding]:
    tasks, level = subject.chain.tasks()
    procs = subject.choice.gomaxprocs or len(subject.chain.affinity(subject.cpus))
    if tasks is None or level is None or tasks >= procs + _MORE:
        return
    yield CODE.finding(
        Status.WARN,
        subject,
        f"TasksMax={tasks} at {level.name} is too small for GOMAXPROCS {procs}: when a thread is refused, the program "
        "dies with status 2 (fatal error: newosproc)",
        Remedy(
            title=f"set TasksMax to {procs + _MORE} or more", why="threads in system calls come on top of GOMAXPROCS"
        ),
        location=subject.line_of(level, "TasksMax"),
        evidence={"tasks_max": tasks, "gomaxprocs": procs},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
