"""CGP127: no cgroup v1 mount next to v2 uses a required controller."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.cgroupfs import of_type

CODE = Code("CGP127", "stray-v1")
PAGE = Page(
    what="Checks that no cgroup v1 mount next to v2 uses a required controller.",
    fails=(
        "A controller can belong to one hierarchy only. A v1 mount (some VPN clients mount net_cls) is harmless "
        "unless it takes a controller that services need."
    ),
    fix="Unmount it, or boot with cgroup_no_v1=all.",
    about=("v1", "net_cls"),
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting",
        "https://github.com/mullvad/mullvadvpn-app/issues/3299",
    ),
)


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing) or isinstance(facts.mounts, Missing):
        return (CODE.finding(Status.SKIP, "cgroup v1", "no cgroup v2 in use, see CGP101"),)
    findings = []
    for mount in of_type(facts.mounts.value, "cgroup"):
        used = [name for name in context.required if name in mount.super_options]
        evidence = {facts.mounts.source: f"{mount.point} {','.join(mount.super_options)}"}
        remedy = Remedy(title="unmount it", commands=(("umount", mount.point),), needs_root=True, docs=PAGE.sources[0])
        status = Status.FAIL if used else Status.WARN
        message = f"cgroup v1 is mounted at {mount.point}" + (
            f" and uses {', '.join(used)}" if used else ", without a required controller"
        )
        findings.append(CODE.finding(status, mount.point, message, remedy, evidence=evidence))
    message, seen = "no cgroup v1 mount next to v2", {facts.mounts.source: "cgroup2 only"}
    return findings or [CODE.finding(Status.PASS, "cgroup v1", message, evidence=seen)]


CHECK = Check(code=CODE, page=PAGE, needs=("mounts", "cgroup_mount"), run=_run)
