"""CGP126: The host has the memory that is guaranteed to services, and their limits are not above what it has."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    if context.plan is None:
        return (check.finding(Status.SKIP, "capacity", "no config to compare with"),)
    from cgroup_preflight.core.quantities import format_bytes
    from cgroup_preflight.plan.demand import demand

    meminfo, online = context.facts.meminfo, context.facts.online_cpus
    if isinstance(meminfo, Missing):
        return (check.unverified("memory", meminfo),)
    if isinstance(online, Missing):
        return (check.unverified("cpu", online),)
    total, wanted = meminfo.value["MemTotal"], demand(context.plan)
    evidence: Evidence = {f"{meminfo.source} MemTotal": total, "guaranteed": wanted.guaranteed_bytes}
    findings = []
    if wanted.guaranteed_bytes > total:
        message = f"{format_bytes(wanted.guaranteed_bytes)} are guaranteed, the host has {format_bytes(total)}"
        remedy = Remedy(title="lower MemoryMin and MemoryLow, or use a host with more memory")
        findings.append(check.finding(Status.FAIL, "memory", message, evidence=evidence, remedies=(remedy,)))
    memory, cpus = max(wanted.memory_bytes, wanted.slice_memory_bytes), max(wanted.cpus, wanted.slice_cpus)
    if memory > total:
        limit = format_bytes(memory)
        message = f"a limit of {limit} is above the host's {format_bytes(total)}: it cannot act"
        remedy = Remedy(title="lower MemoryMax, or use a host with more memory")
        findings.append(check.finding(Status.WARN, "memory", message, evidence=evidence, remedies=(remedy,)))
    if cpus > len(online.value):
        message = f"a quota of {cpus:g} CPUs is above the host's {len(online.value)}: it cannot act"
        remedy = Remedy(title="lower CPUQuota, or use a host with more CPUs")
        findings.append(check.finding(Status.WARN, "cpu", message, evidence={online.source: len(online.value)},
                                      remedies=(remedy,)))  # fmt: skip
    findings += _tasks(check, context, max(wanted.tasks, wanted.slice_tasks))
    message = "the host has what is guaranteed and limited"
    return findings or [check.finding(Status.PASS, "capacity", message, evidence=evidence)]


def _tasks(check: Check, context: Context, wanted: int) -> Iterable[Finding]:
    from cgroup_preflight.checks.numbers import numbers_of

    numbers = numbers_of(context.facts)
    if numbers is not None and wanted > numbers.tasks_max:
        message = f"a limit of {wanted} tasks is above the host's {numbers.tasks_max}: it cannot act"
        facts = context.facts
        evidence = {item.source: item.value for item in (facts.pid_max, facts.threads_max) if isinstance(item, Known)}
        yield check.finding(Status.WARN, "tasks", message, evidence=evidence,
                            remedies=(Remedy(title="lower TasksMax"),))  # fmt: skip


CHECK = Check(
    code="CGP126",
    name="capacity",
    severity=Severity.ERROR,
    needs=("meminfo", "online_cpus"),
    uses=("pid_max", "threads_max", "root", "page_size"),
    what="The host has the memory that is guaranteed to services, and their limits are not above what it has.",
    why=(
        "MemoryMin= and MemoryLow= beyond the memory of the host protect nothing; a MemoryMax= or CPUQuota= above "
        "it can never act."
    ),
    remedy="Guarantee less, or use a larger host.",
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",),
    run=_run,
)
