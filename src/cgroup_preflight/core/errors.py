"""Exit statuses of the command line, stable across releases, and the errors that a user can cause or meet.

Each error has its exit status and says what to do next.
"""

import enum

from cgroup_preflight.core.report import Finding, Remedy


@enum.unique
class ExitStatus(enum.IntEnum):
    """What the process exits with; the table in README.md is compared with this."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    UNVERIFIED = 3
    DEFECT = 4
    NOT_DELIVERED = 5
    INTERRUPTED = 130
    TERMINATED = 143


class PreflightError(Exception):
    """What went wrong, where, and what to do next; printed without a traceback.

    `where` names the file and line, unit or cgroup path concerned; empty when there is none.
    """

    exit_status = ExitStatus.USAGE

    def __init__(self, message: str, *, where: str = "", remedy: Remedy) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(PreflightError):
    """The call is wrong: an option, an argument, a missing file."""


class ConfigError(PreflightError):
    """The config is wrong; `findings` are all mistakes, each with its line."""

    def __init__(self, message: str, *, where: str, remedy: Remedy, findings: tuple[Finding, ...]) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.findings = findings


class HostError(PreflightError):
    """The host could not do what the run needed: the result is unverified, not a fail."""

    exit_status = ExitStatus.UNVERIFIED
