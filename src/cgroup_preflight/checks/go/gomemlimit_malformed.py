"""CGP406: GOMEMLIMIT is one that the runtime can read; with any other the program ends at once with status 2."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject, set_variable
from cgroup_preflight.core.report import Finding, Status
from cgroup_preflight.golang.runtime_env import gomemlimit_hint


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    if not subject.choice.fatal:
        return
    text = subject.environment.get("GOMEMLIMIT", "")
    yield check.finding(
        Status.FAIL,
        subject,
        subject.choice.fatal,
        set_variable(
            "GOMEMLIMIT",
            gomemlimit_hint(text),
            "Go spells sizes with KiB, MiB, GiB and TiB, systemd with K, M, G and T",
        ),
        location=subject.variable_at("GOMEMLIMIT"),
        evidence={"GOMEMLIMIT": text},
    )


CHECK = GoCheck(code="CGP406", name="gomemlimit-malformed", run=_run)
