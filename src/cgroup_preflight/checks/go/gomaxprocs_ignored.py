"""CGP420: GOMAXPROCS is a number that the runtime takes; any other text it ignores without a word."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.plan.go_settings import procs_for


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    text = subject.environment.get("GOMAXPROCS", "")
    if not text or subject.choice.from_environment:
        return
    quota, _ = subject.chain.cpus()
    number = procs_for(quota) if quota is not None else len(subject.chain.affinity(subject.cpus))
    yield check.finding(
        Status.WARN,
        subject,
        f"GOMAXPROCS={text!r} is no positive whole number: the runtime ignores it without a word",
        set_variable("GOMAXPROCS", str(number)),
        location=subject.variable_at("GOMAXPROCS"),
        evidence={"GOMAXPROCS": text, "gomaxprocs": subject.choice.gomaxprocs},
    )


CHECK = GoCheck(code="CGP420", name="gomaxprocs-ignored", run=_run)
