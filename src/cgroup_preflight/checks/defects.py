"""A check that breaks is a finding of its own: never silence, and never the end of the other checks."""

from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status

if TYPE_CHECKING:
    from cgroup_preflight.core.codes import Located


def defect(code: Code, subject: "str | Located", error: Exception, command: str) -> Finding:
    """The finding for a check that raised `error`; the output of `command` helps whoever fixes it."""
    message = f"this check has a defect: {type(error).__name__}: {error}"[:300]
    remedy = Remedy(title=f"report it with the output of cgroup-preflight {command}")
    return code.finding(Status.UNVERIFIED, subject, message, remedy)
