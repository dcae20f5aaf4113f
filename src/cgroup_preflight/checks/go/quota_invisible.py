"""CGP402: the Go runtime can see the quota that limits the program (golang/go#81180)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.plan.go_settings import procs_for

CODE = Code("CGP402", "quota-invisible", Severity.WARNING)
PAGE = Page(
    what="Checks that the Go runtime can see the quota that limits the program.",
    fails=(
        "Go 1.25 and later read cpu.max of their own cgroup only. Under a quota on the slice alone the program uses "
        "all CPUs."
    ),
    fix="Repeat CPUQuota on the service, or set GOMAXPROCS.",
    about=("slice", "cpu.max"),
    sources=("https://github.com/golang/go/issues/81180", "https://github.com/golang/go/issues/73193"),
)


def _run(subject: Subject) -> Iterable[Finding]:
    quota, level = subject.chain.cpus()
    leaf = subject.chain.leaf
    if quota is None or level is None or level is leaf or not subject.choice.aware or subject.choice.from_environment:
        return
    allowed = subject.chain.allowed_cpus()
    if allowed is not None and allowed <= procs_for(quota):
        return
    seen = f"the looser one of {leaf.name} ({leaf.cpus:g} CPUs)" if leaf.cpus is not None else "none"
    yield CODE.finding(
        Status.WARN,
        subject,
        f"the quota of {quota:g} CPUs at {level.name} is invisible to {subject.info.go_version}: it reads cpu.max of "
        f"its own unit only, and sees {seen}",
        Remedy(
            title=f"repeat it on the service: CPUQuota={quota * 100:g}%",
            why="a second quota of the same size costs nothing, and Go follows the one of its own unit",
            docs="https://github.com/golang/go/issues/81180",
        ),
        set_variable("GOMAXPROCS", str(procs_for(quota)), "a fixed number is not updated when the quota changes"),
        location=subject.line_of(level, "CPUQuota"),
        evidence={
            "quota_cpus": quota,
            "quota_at": level.name,
            "seen_cpus": leaf.cpus,
            "gomaxprocs": subject.choice.gomaxprocs,
        },
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
