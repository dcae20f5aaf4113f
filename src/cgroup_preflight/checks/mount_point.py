"""CGP109: cgroup v2 is mounted at /sys/fs/cgroup, where systemd and the Go runtime look for it."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.reading import Missing
from cgroup_preflight.report import Finding, Remedy, Status

_PLACE = "/sys/fs/cgroup"


def _run(check: Check, context: Context) -> Iterable[Finding]:
    mount = context.facts.cgroup_mount
    if isinstance(mount, Missing):
        return (check.finding(Status.SKIP, "mount", "no cgroup v2, see CGP101"),)
    point = mount.value.point
    evidence = {mount.source: point}
    if point == _PLACE:
        return (check.finding(Status.PASS, "mount", f"mounted at {_PLACE}", evidence=evidence),)
    remedy = Remedy(
        title=f"mount it at {_PLACE} at boot", needs_root=True, commands=(("mount", "-t", "cgroup2", "none", _PLACE),)
    )
    message = f"cgroup v2 is mounted at {point} only, where systemd does not manage it"
    return (check.finding(Status.WARN, "mount", message, evidence=evidence, remedies=(remedy,)),)


CHECK = Check(
    code="CGP109",
    name="mount-point",
    severity=Severity.WARNING,
    needs=("cgroup_mount",),
    what="cgroup v2 is mounted at /sys/fs/cgroup, where systemd and the Go runtime look for it.",
    why="systemd manages only the mount at /sys/fs/cgroup; tools that look there would find nothing.",
    remedy="Mount cgroup2 at /sys/fs/cgroup at boot; normally systemd does.",
    sources=("https://systemd.io/CGROUP_DELEGATION/",),
    run=_run,
)
