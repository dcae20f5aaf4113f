"""CGP416: whether the program says which revision it was built from (information)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    if subject.info.setting("vcs.revision") is None:
        yield check.finding(
            Status.PASS,
            subject,
            "it does not say which revision it was built from",
            Remedy(title="build it inside the checkout, with git there and without -buildvcs=false"),
        )


CHECK = GoCheck(code="CGP416", name="vcs-missing", run=_run)
