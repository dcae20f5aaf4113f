"""CGP124: whether the job runs in a container, and what it can see from there."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Known, Missing, Reading, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status

#: How people spell them; others stand as systemd-detect-virt(1) names them.
_NAMES = {"docker": "Docker", "podman": "Podman", "kubernetes": "Kubernetes", "lxc": "LXC", "wsl": "WSL"}

CODE = Code("CGP124", "container", Severity.WARNING)
PAGE = Page(
    what="Checks whether the job runs in a container, and what it can see from there.",
    fails=(
        "Inside a container the result describes the container. The limits of the host apply too, and the root that "
        "the job sees can be the root of a cgroup namespace."
    ),
    fix="Run the check on the deploy host itself, or read its limits from outside the container.",
    about=("docker", "podman", "kubernetes", "namespace"),
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#namespace", "https://systemd.io/CONTAINER_INTERFACE/"),
)


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    for reading in (facts.container, facts.own_cgroup, facts.cgroup_namespace):
        if isinstance(reading, Missing) and not _is_version_1(context, reading):
            return (unverified(CODE, "container", reading),)
    path, namespace = value_or(facts.own_cgroup, "none in v2"), value_or(facts.cgroup_namespace, "unknown")
    running = value_or(facts.systemd_running, default=False)
    kind = value_or(facts.container, "none")
    evidence: Evidence = {
        facts.container.source: kind, facts.own_cgroup.source: path, facts.cgroup_namespace.source: namespace,
    }  # fmt: skip
    if kind == "none" and namespace == "private" and not running:
        kind = "a container of unknown kind"
    if not facts.own and isinstance(facts.own_cgroup, Known) and isinstance(facts.cgroup_mount, Known):
        return (_elsewhere(kind, path, evidence),)
    where = f"in {_NAMES.get(kind, kind)}" if kind != "none" else "not in a container"
    if kind == "none" or running:
        unseen = "; limits above its root cannot be seen from here" if namespace == "private" else ""
        message = f"{where}, {namespace} cgroup namespace{unseen}"
        return (CODE.finding(Status.PASS, kind if kind != "none" else "host", message, evidence=evidence),)
    remedy = Remedy(title="run the job on the deploy host, or on a VM like it")
    message = f"Running {where} without systemd: the result describes this container, not the host"
    return (CODE.finding(Status.WARN, kind, message, remedy, evidence=evidence),)


def _is_version_1(context: Context, reading: Reading[str]) -> bool:
    """Pure version 1 has no v2 path to read; CGP101 says so."""
    return reading is context.facts.own_cgroup and isinstance(context.facts.cgroup_mount, Missing)


def _elsewhere(kind: str, path: str, evidence: Evidence) -> Finding:
    remedy = Remedy(title="mount the cgroup file system that belongs to this namespace",
                    why="remove the bind mount of the host's /sys/fs/cgroup, or use --cgroupns=host")  # fmt: skip
    message = f"the mounted cgroup file system does not contain this job's own cgroup {path}"
    return CODE.finding(Status.WARN, kind, message, remedy, evidence=evidence)


CHECK = Check(
    code=CODE,
    page=PAGE,
    needs=("container", "own_cgroup", "cgroup_namespace"),
    uses=("own", "cgroup_mount", "systemd_running"),
    run=_run,
)
