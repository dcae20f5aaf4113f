"""CGP412: the program is built as it will be shipped: no race detector, no sanitizer, no debug build."""

import re
from collections.abc import Iterable

from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core.report import Finding, Remedy, Status

_DETECTORS = {
    "-race": "the race detector (5 to 10 times the memory)",
    "-msan": "the memory sanitizer",
    "-asan": "the address sanitizer",
}
_UNOPTIMISED = re.compile(r"(^|[\s='\"])-(N|l)(\s|$|['\"])")


def _run(check: GoCheck, subject: Subject) -> Iterable[Finding]:
    found = [words for flag, words in _DETECTORS.items() if subject.info.setting(flag) == "true"]
    if _UNOPTIMISED.search(subject.info.setting("-gcflags") or ""):
        found.append("-gcflags without optimisation (a build for a debugger)")
    for words in found:
        yield check.finding(
            Status.WARN,
            subject,
            f"it is built with {words}: its limits say nothing about the real one",
            Remedy(title="try the build that will be shipped", docs="https://go.dev/doc/articles/race_detector"),
            evidence={
                flag: subject.info.setting(flag) for flag in (*_DETECTORS, "-gcflags") if subject.info.setting(flag)
            },
        )


CHECK = GoCheck(code="CGP412", name="instrumented-build", run=_run)
