"""CGP120: the CPUs in AllowedCPUs exist and are online."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP120", "allowed-cpus")
PAGE = Page(
    what="Checks that the CPUs in AllowedCPUs exist and are online.",
    fails=(
        "The limit cannot be tested here. Where one CPU of the list does not exist, the kernel can refuse the whole "
        "list, and the unit then runs on all CPUs."
    ),
    fix="Name CPUs that the host has.",
    about=("cpuset.cpus", "cpuset"),
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files",),
)


def _run(context: Context) -> Iterable[Finding]:
    settings = [item for item in context.settings if isinstance(item.value, frozenset)]
    if not settings:
        return (CODE.finding(Status.SKIP, "cpuset", "AllowedCPUs is not used"),)
    from cgroup_preflight.core.quantities import format_cpus

    online = context.facts.online_cpus
    if isinstance(online, Missing):
        return (unverified(CODE, "cpuset", online),)
    evidence = {online.source: format_cpus(online.value)}
    findings = []
    for item in settings:
        absent = frozenset(item.value - online.value) if isinstance(item.value, frozenset) else frozenset()
        if not absent:
            continue
        remedy = Remedy(title=f"use CPUs out of {format_cpus(online.value)}", docs=PAGE.sources[0])
        message = f"AllowedCPUs={item.text}: CPU {format_cpus(absent)} is not online here"
        # Whether some of the CPUs exist or none: the limit cannot be tested here.
        status = Status.UNVERIFIED
        findings.append(CODE.finding(status, "AllowedCPUs", message, remedy, location=item.location, evidence=evidence))  # fmt: skip
    return findings or [CODE.finding(Status.PASS, "cpuset", "every CPU in AllowedCPUs is online", evidence=evidence)]


CHECK = Check(code=CODE, page=PAGE, needs=("online_cpus",), run=_run)
