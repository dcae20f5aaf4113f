"""CGP416: whether the program says which revision it was built from (information)."""

from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP416", "vcs-missing", Severity.INFORMATION)
PAGE = Page(
    what="Shows whether the program records the revision that it was built from.",
    fails="Without it nobody can tell which revision runs in production.",
    fix="Build inside the checkout, without -buildvcs=false.",
    about=("git",),
    sources=("https://pkg.go.dev/runtime/debug#BuildSetting",),
)


def _run(subject: Subject) -> Iterable[Finding]:
    if subject.info.setting("vcs.revision") is None:
        yield CODE.finding(
            Status.PASS,
            subject,
            "it does not record the revision that it was built from",
            Remedy(title="build it inside the checkout, with git installed and without -buildvcs=false"),
        )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
