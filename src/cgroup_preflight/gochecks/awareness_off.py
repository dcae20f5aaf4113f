"""CGP404: the runtime looks at its CPU quota: a Go that can, a go line that lets it, no GODEBUG against it."""

from collections.abc import Iterable

from cgroup_preflight.gochecks.base import GoCheck, Subject, set_variable
from cgroup_preflight.golang.runtime import awareness
from cgroup_preflight.golang.runtime_env import append_godebug, parse_godebug
from cgroup_preflight.golang.runtime_libs import effects
from cgroup_preflight.golang.runtime_rules import rules_for
from cgroup_preflight.plan.gofit import procs_for
from cgroup_preflight.report import Finding, Location, Remedy, Status


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    quota, level = subject.chain.cpus()
    aware, words = awareness(subject.info, subject.environment)
    if quota is None or aware is True or subject.choice.from_environment:
        return
    if any(item.gomaxprocs is not None for item in effects(subject.info, subject.environment, subject.chain)):
        return
    number = set_variable("GOMAXPROCS", str(procs_for(quota)), "for this quota; it is not updated when that changes")
    remedies: tuple[Remedy, ...]
    rules = rules_for(subject.info.go_version)
    location: Location | None = subject.line_of(level, "CPUQuota")
    if rules is not None and rules.reads_cpu_max:
        variable = subject.environment.get("GODEBUG", "")
        if "containermaxprocs" in parse_godebug(variable):
            location = subject.variable_at("GODEBUG")
        more = append_godebug(variable, "containermaxprocs=1,updatemaxprocs=1")
        remedies = (
            set_variable("GODEBUG", more, "the program takes its quota and follows it"),
            Remedy(
                title="raise the go line of go.mod to 1.25 or above and build again",
                docs="https://go.dev/doc/godebug#default",
            ),
            number,
        )
    else:
        remedies = (
            Remedy(
                title="build it with Go 1.25 or newer and a go line of 1.25 or above",
                docs="https://go.dev/doc/go1.25#container-aware-gomaxprocs",
            ),
            number,
        )
    cpus = len(subject.chain.affinity(subject.cpus))
    yield check.finding(
        Status.WARN,
        subject,
        f"{words}: it takes all CPUs of the machine ({cpus} here) under a quota of {quota:g}",
        *remedies,
        location=location,
        evidence={"go_version": subject.info.go_version, "quota_cpus": quota},
    )


CHECK = GoCheck(code="CGP404", name="cpu-quota-not-read", run=_run)
