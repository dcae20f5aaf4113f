"""Runs the checks of the host, in the order of the table."""

import importlib

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.checks.defects import defect
from cgroup_preflight.core.report import Finding


def load_check(code: str) -> Check:
    """The check behind a code of the table."""
    module = importlib.import_module(f"cgroup_preflight.checks.{CHECKS[code]}")
    check: Check = module.CHECK
    return check


def run_checks(context: Context) -> tuple[Finding, ...]:
    """The findings of every check, in table order."""
    findings: list[Finding] = []
    for check in map(load_check, CHECKS):
        try:
            findings.extend(check.run(context))
        except Exception as error:  # noqa: BLE001 - a defect in one check must not hide the others
            findings.append(defect(check.code, "check", error, "snapshot"))
    return tuple(findings)
