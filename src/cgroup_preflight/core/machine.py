"""Warnings about the machine: true, and no reason to change anything in the project. Pure."""

from cgroup_preflight.core.codes import GUEST
from cgroup_preflight.core.report import Finding, Status

_HOST = "CGP1"
#: How the subject of a finding begins that is about this host, where the services ran in a guest.
NOT_JUDGED = "this host: "


def is_about_machine(item: Finding) -> bool:
    """Whether it is a warning about where the run happened: no line of the config causes it, no policy asks for it."""
    if item.status is not Status.WARN or item.policy is not None:
        return False
    if item.subject.startswith(NOT_JUDGED):
        return True
    return item.location is None and (item.code.startswith(_HOST) or item.code == GUEST.code)
