"""CGP126: the host has the memory that the config guarantees, and no limit is above what the host has."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status

CODE = Code("CGP126", "capacity")
PAGE = Page(
    what=(
        "Checks that the host has the memory that the config guarantees, and that no limit is above what the host has."
    ),
    fails=(
        "MemoryMin= and MemoryLow= beyond the memory of the host protect nothing. A MemoryMax= or CPUQuota= above "
        "what the host has is never reached; that is a warning."
    ),
    fix="Guarantee less, or use a larger host.",
    about=("memory.min", "memory.low"),
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",),
)


def _run(context: Context) -> Iterable[Finding]:
    if context.plan is None:
        return (CODE.finding(Status.SKIP, "capacity", "no config to compare with"),)
    from cgroup_preflight.core.quantities import format_bytes
    from cgroup_preflight.plan.demand import demand

    meminfo, online = context.facts.meminfo, context.facts.online_cpus
    if isinstance(meminfo, Missing):
        return (unverified(CODE, "memory", meminfo),)
    if isinstance(online, Missing):
        return (unverified(CODE, "cpu", online),)
    total, wanted = meminfo.value["MemTotal"], demand(context.plan)
    evidence: Evidence = {f"{meminfo.source} MemTotal": total, "guaranteed": wanted.guaranteed_bytes}
    findings = []
    if wanted.guaranteed_bytes > total:
        message = f"the config guarantees {format_bytes(wanted.guaranteed_bytes)}, the host has {format_bytes(total)}"
        remedy = Remedy(title="lower MemoryMin and MemoryLow, or use a host with more memory")
        findings.append(CODE.finding(Status.FAIL, "memory", message, remedy, evidence=evidence))
    if wanted.memory_bytes > total:
        limit = format_bytes(wanted.memory_bytes)
        message = f"a limit of {limit} is above the host's {format_bytes(total)}: it has no effect"
        remedy = Remedy(title="lower MemoryMax, or use a host with more memory")
        findings.append(CODE.finding(Status.WARN, "memory", message, remedy, evidence=evidence))
    if wanted.cpus > len(online.value):
        message = f"a quota of {wanted.cpus:g} CPUs is above the host's {len(online.value)}: it has no effect"
        remedy = Remedy(title="lower CPUQuota, or use a host with more CPUs")
        findings.append(CODE.finding(Status.WARN, "cpu", message, remedy, evidence={online.source: len(online.value)}))  # fmt: skip
    message = "the host has the memory and the CPUs that the config assumes"
    return findings or [CODE.finding(Status.PASS, "capacity", message, evidence=evidence)]


CHECK = Check(code=CODE, page=PAGE, needs=("meminfo", "online_cpus"), run=_run)
