"""CGP415: whether the program was built from a clean checkout (information)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core.report import Finding, Status


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    if subject.info.setting("vcs.modified") == "true":
        revision = subject.info.setting("vcs.revision")
        yield check.finding(
            Status.PASS,
            subject,
            f"it was built from changed files on top of revision {(revision or 'unknown')[:40]}",
            evidence={"vcs.revision": revision, "vcs.modified": True},
        )


CHECK = GoCheck(code="CGP415", name="vcs-dirty", run=_run)
