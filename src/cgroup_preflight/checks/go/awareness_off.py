"""CGP404: the runtime reads its CPU quota: its version can, its go line allows it, and no GODEBUG forbids it."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.limits import Level
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.golang.runtime import awareness, switched_off_by_author
from cgroup_preflight.golang.runtime_env import append_godebug, parse_godebug
from cgroup_preflight.golang.runtime_libs import effects
from cgroup_preflight.golang.runtime_rules import rules_for
from cgroup_preflight.plan.go_settings import procs_for

CODE = Code("CGP404", "cpu-quota-not-read", Severity.WARNING)
PAGE = Page(
    what="Checks that the Go runtime reads its CPU quota.",
    fails=(
        "Go below 1.25 does not, nor does a newer one if go.mod says go 1.24 or GODEBUG says containermaxprocs=0. "
        "The program then uses all CPUs of the machine and is throttled."
    ),
    fix="Build with a newer Go and go line, or set GODEBUG or GOMAXPROCS.",
    about=("CPUQuota", "cpu.max"),
    sources=("https://github.com/golang/go/issues/73193", "https://go.dev/doc/godebug#default"),
)


def _run(subject: Subject) -> Iterable[Finding]:
    quota, level = subject.chain.cpus()
    aware, words = awareness(subject.info, subject.environment)
    if quota is None or level is None or aware is True or subject.choice.from_environment:
        return
    if any(item.gomaxprocs is not None for item in effects(subject.info, subject.environment, subject.chain)):
        return
    allowed = subject.chain.allowed_cpus()
    if allowed is not None and allowed <= procs_for(quota):
        return
    in_environment = "containermaxprocs" in parse_godebug(subject.environment.get("GODEBUG", ""))
    rules = rules_for(subject.info.go_version)
    can = rules is not None and rules.reads_cpu_max
    cpus = len(subject.chain.affinity(subject.cpus))
    yield CODE.finding(
        Status.WARN,
        subject,
        f"{words}: it uses all CPUs of the machine ({cpus} here) under a quota of {quota:g}",
        *(_switches(subject, quota, level) if can else (_NEWER,)),
        set_variable("GOMAXPROCS", str(procs_for(quota)), "right for this quota only; it does not follow changes"),
        location=subject.variable_at("GODEBUG") if can and in_environment else subject.line_of(level, "CPUQuota"),
        evidence={"go_version": subject.info.go_version, "quota_cpus": quota},
    )


_NEWER = Remedy(
    title="build it with Go 1.25 or newer and a go line of 1.25 or above",
    docs="https://go.dev/doc/go1.25#container-aware-gomaxprocs",
)


def _switches(subject: Subject, quota: float, level: Level) -> Iterable[Remedy]:
    """How to make a Go that can read its quota read it; it sees the quota of its own unit only."""
    variable = subject.environment.get("GODEBUG", "")
    why = "the program reads its quota and follows changes"
    if level is not subject.chain.leaf:
        why = f"with CPUQuota={quota * 100:g}% on the service as well, {why}"
    yield set_variable("GODEBUG", append_godebug(variable, "containermaxprocs=1,updatemaxprocs=1"), why)
    if "containermaxprocs" in parse_godebug(variable):
        return
    what = (
        "remove that line" if switched_off_by_author(subject.info) else "raise the go line of go.mod to 1.25 or above"
    )
    yield Remedy(title=f"{what} and build again", docs="https://go.dev/doc/godebug#default")


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
