"""CGP126: the host has the memory that the config guarantees, and no limit is above what the host has."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing
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
    memory, cpus = max(wanted.memory_bytes, wanted.slice_memory_bytes), max(wanted.cpus, wanted.slice_cpus)
    if memory > total:
        limit = format_bytes(memory)
        message = f"a limit of {limit} is above the host's {format_bytes(total)}: it has no effect"
        remedy = Remedy(title="lower MemoryMax, or use a host with more memory")
        findings.append(CODE.finding(Status.WARN, "memory", message, remedy, evidence=evidence))
    if cpus > len(online.value):
        message = f"a quota of {cpus:g} CPUs is above the host's {len(online.value)}: it has no effect"
        remedy = Remedy(title="lower CPUQuota, or use a host with more CPUs")
        findings.append(CODE.finding(Status.WARN, "cpu", message, remedy, evidence={online.source: len(online.value)}))  # fmt: skip
    findings += _tasks(context, max(wanted.tasks, wanted.slice_tasks))
    message = "the host has the memory and the CPUs that the config assumes"
    return findings or [CODE.finding(Status.PASS, "capacity", message, evidence=evidence)]


def _tasks(context: Context, wanted: int) -> Iterable[Finding]:
    from cgroup_preflight.checks.numbers import numbers_of

    numbers, facts = numbers_of(context.facts), context.facts
    if numbers is not None and wanted > numbers.tasks_max:
        message = f"a limit of {wanted} tasks is above the host's {numbers.tasks_max}: it has no effect"
        evidence = {item.source: item.value for item in (facts.pid_max, facts.threads_max) if isinstance(item, Known)}
        yield CODE.finding(Status.WARN, "tasks", message, Remedy(title="lower TasksMax"), evidence=evidence)


CHECK = Check(
    code=CODE,
    page=PAGE,
    needs=("meminfo", "online_cpus"),
    uses=("pid_max", "threads_max", "root", "page_size"),
    run=_run,
)
