"""From findings to the verdict, and from the verdict to the exit status. Pure; no other module decides either."""

from collections.abc import Iterable

from cgroup_preflight.core.errors import ExitStatus
from cgroup_preflight.core.report import VERDICTS_WORST_FIRST, Finding, Status, Verdict


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of several reports together; of none it is unverified, because silence is not success."""
    return min(verdicts, key=VERDICTS_WORST_FIRST.index, default=Verdict.UNVERIFIED)


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Fail if a check failed, else unverified if a required check could not run, else pass.

    No finding at all is unverified: silence is not success.
    """
    seen = {finding.status for finding in findings}
    if Status.FAIL in seen:
        return Verdict.FAIL
    if Status.UNVERIFIED in seen or not seen & {Status.PASS, Status.WARN}:
        return Verdict.UNVERIFIED
    return Verdict.PASS


def exit_status_of(verdict: Verdict, *, allow_unverified: bool = False, exit_zero: bool = False) -> ExitStatus:
    """The exit status of a verdict; `exit_zero` is for CI steps that read the report themselves."""
    if exit_zero or verdict is Verdict.PASS or (allow_unverified and verdict is Verdict.UNVERIFIED):
        return ExitStatus.PASS
    return ExitStatus.FAIL if verdict is Verdict.FAIL else ExitStatus.UNVERIFIED
