"""CGP414: TasksMax leaves room for the threads of the runtime: GOMAXPROCS and some 16 more (golang/go#15476)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core.report import Finding, Remedy, Status

#: Threads in system calls, of the garbage collector, sysmon, the signal handler.
_MORE = 16


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    tasks, level = subject.chain.tasks()
    procs = subject.choice.gomaxprocs or len(subject.chain.affinity(subject.cpus))
    if tasks is None or level is None or tasks >= procs + _MORE:
        return
    yield check.finding(
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


CHECK = GoCheck(code="CGP414", name="tasks-too-few", run=_run)
