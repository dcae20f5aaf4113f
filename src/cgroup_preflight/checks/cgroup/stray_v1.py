"""CGP127: No cgroup v1 mount beside v2 holds a required controller."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.cgroupfs import of_type


def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing) or isinstance(facts.mounts, Missing):
        return (check.finding(Status.SKIP, "cgroup v1", "no cgroup v2 in use, see CGP101"),)
    findings = []
    for mount in of_type(facts.mounts.value, "cgroup"):
        held = [name for name in context.required if name in mount.super_options]
        evidence = {facts.mounts.source: f"{mount.point} {','.join(mount.super_options)}"}
        remedy = Remedy(title="unmount it", commands=(("umount", mount.point),), needs_root=True, docs=check.sources[0])
        status = Status.FAIL if held else Status.WARN
        message = f"cgroup v1 is mounted at {mount.point}" + (f" and holds {', '.join(held)}" if held else "; harmless")
        findings.append(check.finding(status, mount.point, message, evidence=evidence, remedies=(remedy,)))
    message, seen = "no cgroup v1 mount beside v2", {facts.mounts.source: "cgroup2 only"}
    return findings or [check.finding(Status.PASS, "cgroup v1", message, evidence=seen)]


CHECK = Check(
    code="CGP127",
    name="stray-v1",
    severity=Severity.ERROR,
    needs=("mounts", "cgroup_mount"),
    what="No cgroup v1 mount beside v2 holds a required controller.",
    why=(
        "A controller can be on one hierarchy only. A stray v1 mount (a VPN client mounts net_cls) is harmless "
        "unless it holds a controller that services need."
    ),
    remedy="Unmount it, or boot with cgroup_no_v1=all.",
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting",
        "https://github.com/mullvad/mullvadvpn-app/issues/3299",
    ),
    run=_run,
)
