"""CGP124: It is said in which container the job runs, if in any, and what it can see from there."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.reading import Known, Missing, value_or
from cgroup_preflight.report import Evidence, Finding, Remedy, Status

def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    container = facts.container
    if isinstance(container, Missing):
        return (check.unverified("container", container),)
    path = value_or(facts.own_cgroup, "unknown")
    namespace = _namespace(context, path)
    evidence: Evidence = {container.source: container.value, "/proc/self/cgroup": path, "cgroup namespace": namespace}
    if path.startswith("/.."):
        remedy = Remedy(title="mount the cgroup file system that belongs to this namespace",
                        why="drop the bind mount of the host's /sys/fs/cgroup, or use --cgroupns=host")  # fmt: skip
        message = f"the cgroup file system seen here is another namespace's: own path {path}"
        return (check.finding(Status.WARN, container.value, message, evidence=evidence, remedies=(remedy,)),)
    if container.value == "none":
        return (check.finding(Status.PASS, "host", "not in a container", evidence=evidence),)
    if value_or(facts.systemd_running, default=False):
        message = f"in {container.value} with systemd as PID 1, {namespace} cgroup namespace"
        return (check.finding(Status.PASS, container.value, message, evidence=evidence),)
    remedy = Remedy(title="run the job on the deploy host, or on a virtual machine like it")
    message = f"in {container.value} without systemd, {namespace} cgroup namespace: only the container is judged"
    return (check.finding(Status.WARN, container.value, message, evidence=evidence, remedies=(remedy,)),)


def _namespace(context: Context, path: str) -> str:
    """The real root has no memory.max; the root of a namespace has one, where memory is enabled."""
    own = context.facts.own
    if own and isinstance(own[0].type, Known):
        return "private"
    return "host" if path != "/" else "unknown"


CHECK = Check(
    code="CGP124",
    name="container",
    severity=Severity.WARNING,
    needs=("container", "own_cgroup", "own"),
    what='It is said in which container the job runs, if in any, and what it can see from there.',
    why='Inside a container the verdict is about the container: real limits belong to the host below, and the root that is seen may be the root of a cgroup namespace.',
    remedy='Judge the deploy host itself, or read its limits from outside of the container.',
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#namespace", "https://systemd.io/CONTAINER_INTERFACE/",),
    run=_run,
)
