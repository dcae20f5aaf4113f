"""CGP108: The cgroup file system can be written to by whoever starts the units."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status

_REMEDIES = {
    "docker": Remedy(title="start the container with --privileged, or use a host with systemd"),
    "podman": Remedy(title="start the container with --security-opt unmask=/sys/fs/cgroup --cgroups=split"),
    "kubernetes": Remedy(title="set cgroup_writable in containerd 2.1 or later, or use a runner on a virtual machine"),
}
_OTHERWISE = Remedy(title="run the job on a host or virtual machine where systemd is PID 1")


def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (check.finding(Status.SKIP, "mount", "no cgroup v2, see CGP101"),)
    mount, flag = facts.cgroup_mount.value, facts.cgroup_read_only
    if isinstance(flag, Missing):
        return (check.unverified("mount", flag),)
    read_only = flag.value or mount.read_only
    evidence: Evidence = {flag.source: read_only, facts.cgroup_mount.source: f"{mount.point} {','.join(mount.options)}"}
    if not read_only:
        return (check.finding(Status.PASS, "mount", "mounted read-write", evidence=evidence),)
    if context.engine.name is not None:
        return (_manager_view(check, context, evidence),)
    remedy = _REMEDIES.get(value_or(facts.container, "none"), _OTHERWISE)
    message = "the cgroup file system is read-only here: nothing can be limited from inside"
    return (check.finding(Status.UNVERIFIED, "mount", message, evidence=evidence, remedies=(remedy,)),)


def _manager_view(check: Check, context: Context, evidence: Evidence) -> Finding:
    """The manager starts the units: its view of the mount decides, and this job may have one of its own."""
    seen = context.facts.manager_mount
    if isinstance(seen, Missing):
        return check.unverified("mount", seen)
    evidence = {**evidence, f"{seen.source} read-only": seen.value.read_only}
    if not seen.value.read_only:
        message = "read-only for this job alone; PID 1, which starts the units, sees it read-write"
        return check.finding(Status.PASS, "mount", message, evidence=evidence)
    point = context.facts.mount_point
    remedy = Remedy(title="mount it read-write", commands=(("mount", "-o", "remount,rw", point),), needs_root=True)
    message = "the cgroup file system is read-only for systemd, too: units get no cgroup, and no limit"
    return check.finding(Status.FAIL, "mount", message, evidence=evidence, remedies=(remedy,))


CHECK = Check(
    code="CGP108",
    name="read-only",
    severity=Severity.ERROR,
    needs=("cgroup_read_only", "cgroup_mount", "manager_mount"),
    uses=("container",),
    what="The cgroup file system can be written to by whoever starts the units.",
    why=(
        "In a container without extra rights it is mounted read-only: nothing can be limited from inside. A job "
        "whose own view is read-only can still use a service manager outside of that view."
    ),
    remedy="Give the container a writable cgroup file system, or use a host where a service manager runs.",
    sources=("https://github.com/moby/moby/issues/46763", "https://github.com/kubernetes/kubernetes/issues/121190"),
    run=_run,
)
