"""CGP403: GOMAXPROCS does not exceed the quota of the program; by how much it is throttled otherwise.

N busy threads use up a quota of Q CPUs in Q/N of each period; then all of them are stopped until the next one
(kernel Documentation/scheduler/sched-bwc.rst; golang/go#33803). Less than one CPU too many is the runtime's own
rounding and information only.
"""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.golang.runtime_libs import effects
from cgroup_preflight.plan.go_settings import procs_for

CODE = Code("CGP403", "gomaxprocs-above-quota", Severity.WARNING)
PAGE = Page(
    what="Checks that GOMAXPROCS does not exceed the quota by one CPU or more.",
    fails=(
        "N busy threads use up a quota of Q CPUs in Q/N of each period. Then the kernel stops all of them until the "
        "next period."
    ),
    fix="Set GOMAXPROCS to the quota.",
    about=("CPUQuota", "cpu.max", "throttling", "throttled"),
    sources=("https://docs.kernel.org/scheduler/sched-bwc.html", "https://github.com/golang/go/issues/33803"),
)


def _run(subject: Subject) -> Iterable[Finding]:
    quota, level = subject.chain.cpus()
    # A linked automaxprocs comes after the runtime's own choice.
    linked = [item.gomaxprocs for item in effects(subject.info, subject.environment, subject.chain) if item.gomaxprocs]
    procs = linked[0] if linked else subject.choice.gomaxprocs
    if quota is None or level is None or procs is None:
        return
    busy = min(procs, len(subject.chain.affinity(subject.cpus)))
    wanted = procs_for(quota)
    if busy <= quota or procs <= wanted:
        return
    period = level.period_usec / 1000
    stopped = period * (1 - quota / busy)
    name = "GOMAXPROCS" if subject.choice.from_environment else ""
    yield CODE.finding(
        Status.WARN if busy >= quota + 1 else Status.PASS,
        subject,
        f"GOMAXPROCS {procs} under a quota of {quota:g} CPUs: with {busy} busy threads it runs "
        f"{period - stopped:.0f} ms of each {period:g} ms and is stopped for {stopped:.0f} ms "
        f"({100 * stopped / period:.0f}%)",
        set_variable(
            "GOMAXPROCS",
            str(wanted),
            "fewer threads use up the quota more slowly, so that the program is not stopped in every period",
        ),
        location=subject.variable_at(name) if name else subject.line_of(level, "CPUQuota"),
        evidence={
            "gomaxprocs": procs,
            "quota_cpus": quota,
            "period_usec": level.period_usec,
            "stopped_share": round(stopped / period, 3),
        },
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
