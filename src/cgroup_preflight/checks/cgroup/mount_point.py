"""CGP109: cgroup v2 is mounted at /sys/fs/cgroup, where systemd and the Go runtime expect it."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP109", "mount-point")
PAGE = Page(
    what="Checks that cgroup v2 is mounted at /sys/fs/cgroup, where systemd and the Go runtime expect it.",
    fails=(
        "systemd manages only the mount at /sys/fs/cgroup. If only this job sees it elsewhere, the mounts of PID 1 "
        "show that."
    ),
    fix="Mount cgroup2 at /sys/fs/cgroup at boot; normally systemd does this.",
    sources=("https://systemd.io/CGROUP_DELEGATION/",),
)

_PLACE = "/sys/fs/cgroup"


def _run(context: Context) -> Iterable[Finding]:
    mount = context.facts.cgroup_mount
    if isinstance(mount, Missing):
        return (CODE.finding(Status.SKIP, "mount", "no cgroup v2, see CGP101"),)
    point = mount.value.point
    evidence = {mount.source: point}
    if point == _PLACE:
        return (CODE.finding(Status.PASS, "mount", f"mounted at {_PLACE}", evidence=evidence),)
    remedy = Remedy(
        title=f"mount it at {_PLACE} at boot", needs_root=True, commands=(("mount", "-t", "cgroup2", "none", _PLACE),)
    )
    manager = context.facts.manager_mount
    status, message = Status.WARN, f"cgroup v2 is mounted at {point} only"
    if isinstance(manager, Known):
        message += f" for this job; PID 1 sees it at {_PLACE}"
        evidence |= {manager.source: manager.value.point}
    elif value_or(context.facts.systemd_running, default=False):
        status = Status.UNVERIFIED
        message += f", but systemd manages the mount at {_PLACE}: {manager}"
        evidence |= {manager.source: str(manager.why)}
    return (CODE.finding(status, "mount", message, remedy, evidence=evidence),)


CHECK = Check(code=CODE, page=PAGE, needs=("cgroup_mount",), uses=("manager_mount", "systemd_running"), run=_run)
