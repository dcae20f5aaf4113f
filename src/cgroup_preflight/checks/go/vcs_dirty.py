"""CGP415: whether the program was built from a clean checkout (information)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Status

CODE = Code("CGP415", "vcs-dirty", Severity.INFORMATION)
PAGE = Page(
    what="Shows whether the program was built from changed files.",
    fails="Nobody can build exactly this program again.",
    fix="Commit, then build.",
    about=("git",),
    sources=("https://pkg.go.dev/runtime/debug#BuildSetting",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    if subject.info.setting("vcs.modified") == "true":
        revision = subject.info.setting("vcs.revision")
        yield CODE.finding(
            Status.PASS,
            subject,
            f"it was built from changed files on top of revision {(revision or 'unknown')[:40]}",
            evidence={"vcs.revision": revision, "vcs.modified": True},
        )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
