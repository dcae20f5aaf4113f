"""CGP412: the program is built as it will be shipped: no race detector, no sanitizer, no debug build."""

import re
from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP412", "instrumented-build", Severity.WARNING)
PAGE = Page(
    what="Checks that the program is built as it is shipped: no race detector, sanitizer or debug build.",
    fails=(
        "The race detector needs 5 to 10 times the memory, so limits that fit this build say nothing about the "
        "shipped one."
    ),
    fix="Test the build that you ship.",
    about=("race",),
    sources=("https://go.dev/doc/articles/race_detector",),
)

_DETECTORS = {
    "-race": "the race detector (5 to 10 times the memory)",
    "-msan": "the memory sanitizer",
    "-asan": "the address sanitizer",
}
_UNOPTIMISED = re.compile(r"(^|[\s='\"])-(N|l)(\s|$|['\"])")


def _run(subject: Subject) -> Iterable[Finding]:
    found = [words for flag, words in _DETECTORS.items() if subject.info.setting(flag) == "true"]
    if _UNOPTIMISED.search(subject.info.setting("-gcflags") or ""):
        found.append("-gcflags without optimisation (a build for a debugger)")
    for words in found:
        yield CODE.finding(
            Status.WARN,
            subject,
            f"it is built with {words}: limits for it say nothing about the shipped build",
            Remedy(title="test the build that will be shipped", docs="https://go.dev/doc/articles/race_detector"),
            evidence={
                flag: subject.info.setting(flag) for flag in (*_DETECTORS, "-gcflags") if subject.info.setting(flag)
            },
        )


CHECK = GoCheck(code=CODE, page=PAGE, run=_run)
