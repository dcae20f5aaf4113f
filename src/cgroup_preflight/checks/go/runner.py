"""Runs the checks of Go programs, once as the program is and once with the settings that the plan adds."""

import importlib
from collections.abc import Sequence

from cgroup_preflight.checks.defects import defect
from cgroup_preflight.checks.go import CHECKS
from cgroup_preflight.checks.go.base import GoCheck, Subject
from cgroup_preflight.core import codes
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import PROBLEMS, Finding, Status


def load_check(code: str) -> GoCheck:
    """The check behind a code of the table."""
    module = importlib.import_module(f"cgroup_preflight.checks.go.{CHECKS[code]}")
    check: GoCheck = module.CHECK
    return check


def run_go_checks(bare: Subject, fitted: Subject | None = None) -> tuple[Finding, ...]:
    """All findings about one program, a summary first; `fitted` is the same one with the generated settings.

    What the generated settings fix is a pass that says so, at the line that would be wrong without them.
    """
    final, checks = fitted or bare, [load_check(code) for code in CHECKS]
    findings = _run(final, checks)
    left = {(item.code, item.location) for item in findings}
    fixed = [
        _fixed(item)
        for item in _run(bare, checks)
        if item.status in PROBLEMS and (item.code, item.location) not in left
    ]
    return (_summary(final), *findings, *(fixed if fitted is not None else ()))


def _run(subject: Subject, checks: Sequence[GoCheck]) -> list[Finding]:
    found: list[Finding] = []
    for check in checks:
        if subject.program.info is None and not check.any_program:
            continue
        try:
            found.extend(check.run(subject))
        except Exception as error:  # noqa: BLE001 - a defect in one check must not hide the others
            found.append(defect(check.code, subject, error, "inspect"))
    return found


def _fixed(item: Finding) -> Finding:
    return replace(item, status=Status.PASS, remedies=(), message=f"{item.message}; the generated settings fix this")


def _summary(subject: Subject) -> Finding:
    choice = subject.prediction
    if choice is None:
        return codes.GO_RUNTIME.finding(Status.SKIP, subject, f"no Go settings: it {subject.program.why_not}")
    procs = "unknown" if choice.gomaxprocs is None else str(choice.gomaxprocs)
    limit = "none" if choice.gomemlimit_bytes is None else f"{choice.gomemlimit_bytes} bytes"
    return codes.GO_RUNTIME.finding(
        Status.PASS,
        subject,
        f"{subject.info.go_version} will start with GOMAXPROCS {procs} and memory limit {limit}: "
        + "; ".join(choice.why),
        evidence={
            "go_version": subject.info.go_version,
            "gomaxprocs": choice.gomaxprocs,
            "gomemlimit_bytes": choice.gomemlimit_bytes,
            "follows_cpu_max": choice.follows_cpu_max,
        },
    )
