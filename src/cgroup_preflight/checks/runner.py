"""Runs the checks of the table; a check that breaks is a finding of its own, never silence."""

import importlib

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.core.report import Finding, Remedy, Status


def load_check(code: str) -> Check:
    """The check behind a code of the table."""
    module = importlib.import_module(f"cgroup_preflight.checks.{CHECKS[code]}")
    check: Check = module.CHECK
    return check


def run_checks(context: Context) -> tuple[Finding, ...]:
    """The findings of every check, in table order."""
    findings: list[Finding] = []
    for code in CHECKS:
        check = load_check(code)
        try:
            findings.extend(check.run(check, context))
        except Exception as error:  # noqa: BLE001 - a defect in one check must not hide the others
            findings.append(_broken(check, error))
    return tuple(findings)


def _broken(check: Check, error: Exception) -> Finding:
    return check.finding(
        Status.UNVERIFIED, "check", f"this check has a defect: {type(error).__name__}: {error}"[:300],
        remedies=(Remedy(title="report it with the output of cgroup-preflight snapshot"),),
    )  # fmt: skip
