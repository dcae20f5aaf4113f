"""CGP120: Where AllowedCPUs is used, those CPUs are there and online."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    settings = [item for item in context.settings if isinstance(item.value, frozenset)]
    if not settings:
        return (check.finding(Status.SKIP, "cpuset", "AllowedCPUs is not used"),)
    from cgroup_preflight.core.quantities import format_cpus

    online = context.facts.online_cpus
    if isinstance(online, Missing):
        return (check.unverified("cpuset", online),)
    evidence = {online.source: format_cpus(online.value)}
    findings = []
    for item in settings:
        absent = frozenset(item.value - online.value) if isinstance(item.value, frozenset) else frozenset()
        if not absent:
            continue
        remedy = Remedy(title=f"use CPUs of {format_cpus(online.value)}", docs=check.sources[0])
        message = f"AllowedCPUs={item.text}: CPU {format_cpus(absent)} is not online here"
        # None of them there is a limit that cannot be; some of them there is a limit that was not tried.
        status = Status.UNVERIFIED
        findings.append(check.finding(status, "AllowedCPUs", message, evidence=evidence, remedies=(remedy,),
                                      location=item.location))  # fmt: skip
    return findings or [check.finding(Status.PASS, "cpuset", "every CPU asked for is online", evidence=evidence)]


CHECK = Check(
    code="CGP120",
    name="allowed-cpus",
    severity=Severity.ERROR,
    needs=("online_cpus",),
    what="Where AllowedCPUs is used, those CPUs are there and online.",
    why="cpuset.cpus is a request: a CPU that does not exist is dropped from cpuset.cpus.effective without an error.",
    remedy="Name CPUs that the host has.",
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files",),
    run=_run,
)
