"""CGP108: whoever starts the units can write to the cgroup file system."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status

CODE = Code("CGP108", "read-only")
PAGE = Page(
    what="Checks that whoever starts the units can write to the cgroup file system.",
    fails=(
        "In a container without extra privileges the mount is read-only, so nothing can be limited from inside. A "
        "service manager outside the container can still set limits."
    ),
    fix="Give the container a writable cgroup file system, or use a host where a service manager runs.",
    about=("docker", "podman", "kubernetes"),
    sources=("https://github.com/moby/moby/issues/46763", "https://github.com/kubernetes/kubernetes/issues/121190"),
)

_REMEDIES = {
    "docker": Remedy(title="start the container with --privileged, or use a host with systemd"),
    "podman": Remedy(title="start the container with --security-opt unmask=/sys/fs/cgroup --cgroups=split"),
    "kubernetes": Remedy(title="set cgroup_writable in containerd 2.1 or later, or use a runner on a VM"),
}
_OTHERWISE = Remedy(title="run the job on a host or VM where systemd is PID 1")


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (CODE.finding(Status.SKIP, "mount", "no cgroup v2, see CGP101"),)
    mount, flag = facts.cgroup_mount.value, facts.cgroup_read_only
    if isinstance(flag, Missing):
        return (unverified(CODE, "mount", flag),)
    read_only = flag.value or mount.read_only
    evidence: Evidence = {flag.source: read_only, facts.cgroup_mount.source: f"{mount.point} {','.join(mount.options)}"}
    if not read_only:
        return (CODE.finding(Status.PASS, "mount", "mounted read-write", evidence=evidence),)
    if context.engine.name is not None:
        return (_manager_view(context, evidence),)
    remedy = _REMEDIES.get(value_or(facts.container, "none"), _OTHERWISE)
    message = "the cgroup file system is read-only here: nothing can be limited from inside"
    return (CODE.finding(Status.UNVERIFIED, "mount", message, remedy, evidence=evidence),)


def _manager_view(context: Context, evidence: Evidence) -> Finding:
    """The manager starts the units, so its view of the mount decides; this job may have another."""
    seen = context.facts.manager_mount
    if isinstance(seen, Missing):
        return unverified(CODE, "mount", seen)
    evidence = {**evidence, f"{seen.source} read-only": seen.value.read_only}
    if not seen.value.read_only:
        message = "read-only for this job alone; PID 1, which starts the units, sees it read-write"
        return CODE.finding(Status.PASS, "mount", message, evidence=evidence)
    point = context.facts.mount_point
    remedy = Remedy(title="mount it read-write", commands=(("mount", "-o", "remount,rw", point),), needs_root=True)
    message = "the cgroup file system is read-only for systemd as well: units get neither a cgroup nor a limit"
    return CODE.finding(Status.FAIL, "mount", message, remedy, evidence=evidence)


CHECK = Check(
    code=CODE, page=PAGE, needs=("cgroup_read_only", "cgroup_mount", "manager_mount"), uses=("container",), run=_run
)
