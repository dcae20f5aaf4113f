"""CGP420: GOMAXPROCS is a positive whole number; the runtime ignores any other text without a message."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.plan.go_settings import procs_for

CODE = Code("CGP420", "gomaxprocs-ignored", Severity.WARNING)
PAGE = Page(
    what="Checks that GOMAXPROCS is a positive whole number.",
    fails=(
        "The runtime ignores any other text (0, 1.5, 200%) without a message, and automaxprocs does nothing either."
    ),
    fix="Write a whole number, or remove the variable.",
    about=("CPUQuota",),
    sources=("https://pkg.go.dev/runtime#hdr-Environment_Variables", "https://github.com/uber-go/automaxprocs"),
)


def _run(subject: Subject) -> Iterable[Finding]:
    text = subject.environment.get("GOMAXPROCS", "")
    if not text or subject.choice.from_environment:
        return
    quota, _ = subject.chain.cpus()
    number = procs_for(quota) if quota is not None else len(subject.chain.affinity(subject.cpus))
    yield CODE.finding(
        Status.WARN,
        subject,
        f"GOMAXPROCS={text!r} is not a positive whole number: the runtime ignores it without a message",
        set_variable("GOMAXPROCS", str(number)),
        location=subject.variable_at("GOMAXPROCS"),
        evidence={"GOMAXPROCS": text, "gomaxprocs": subject.choice.gomaxprocs},
    )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
