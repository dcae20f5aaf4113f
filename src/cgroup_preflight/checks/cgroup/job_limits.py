"""CGP125: no cgroup above the units has a tighter limit than the config."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unread, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status
from cgroup_preflight.host.cgroupfs import CgroupReading

if TYPE_CHECKING:
    from cgroup_preflight.plan.demand import Demand
    from cgroup_preflight.plan.model import Plan

CODE = Code("CGP125", "job-limits")
PAGE = Page(
    what="Checks that no cgroup above the units has a tighter limit than the config.",
    fails=(
        "The effective limit is the minimum over all ancestors: a service with MemoryMax=2G in a job or container "
        "of 512M has 512M."
    ),
    fix="Raise the limit of the level that the message names, or give the services less.",
    about=("memory.max", "cpu.max", "pids.max", "CPUQuota", "TasksMax"),
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files",
    ),
)


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (CODE.finding(Status.SKIP, "limits", "no cgroup v2, see CGP101"),)
    if context.plan is None:
        return (CODE.finding(Status.SKIP, "limits", "no config to compare with"),)
    from cgroup_preflight.plan.demand import demand

    way = _way(context, context.plan)
    wanted = demand(context.plan)
    unknown = unread(*(reading for level in way for reading in (level.memory_max, level.cpu_max, level.pids_max)))
    findings = [unverified(CODE, "limits", unknown)] if unknown is not None else []
    # Without an engine there is no path to units: the limits are those of this job alone.
    on_way = context.engine.name is not None or context.undelegated
    for level in way:
        findings += _tight(level, wanted, on_way=on_way)
    for level in facts.own:
        if level not in way:
            findings += _tight(level, wanted, on_way=False)
    evidence = {level.memory_max.source: _shown(level) for level in way}
    message = "no level above the units has a tighter limit than the config"
    return findings or [CODE.finding(Status.PASS, "limits", message, evidence=evidence)]


def _way(context: Context, plan: "Plan") -> tuple[CgroupReading, ...]:
    """The levels above the slices of the plan."""
    place = context.engine.place
    if place is not None:
        above = (level for level in context.facts.own if f"{place.path}/".startswith(f"{level.path}/"))
        return (*(level for level in above if level.path != place.path), place.level)
    return context.facts.user_manager.levels if context.judged == "user" else _system_way(context, plan)


def _system_way(context: Context, plan: "Plan") -> tuple[CgroupReading, ...]:
    """A service without a slice runs in system.slice; the slices of the plan are directly below the root."""
    services = (context.facts.services,) if any(not item.slices for item in plan.services) else ()
    return (context.facts.root, *services)


def _shown(level: CgroupReading) -> str:
    reading = level.memory_max
    if isinstance(reading, Missing):
        return str(reading.why)
    return "max" if reading.value is None else str(reading.value)


def _tight(level: CgroupReading, wanted: "Demand", *, on_way: bool) -> list[Finding]:
    from cgroup_preflight.core.quantities import format_bytes

    found: list[Finding] = []
    memory, tasks, cpu = level.memory_max, level.pids_max, level.cpu_max
    if isinstance(memory, Known) and memory.value is not None and memory.value < wanted.memory_bytes:
        words = f"{format_bytes(memory.value)}, the config up to {format_bytes(wanted.memory_bytes)}"
        found.append(_finding(memory.source, memory.value, words, on_way=on_way))
    if isinstance(cpu, Known) and cpu.value.cpus is not None and cpu.value.cpus < wanted.cpus:
        words = f"{cpu.value.cpus:g} CPUs, the config up to {wanted.cpus:g}"
        found.append(_finding(cpu.source, f"{cpu.value.quota} {cpu.value.period}", words, on_way=on_way))
    if isinstance(tasks, Known) and tasks.value is not None and tasks.value < wanted.tasks:
        words = f"{tasks.value} tasks, the config up to {wanted.tasks}"
        found.append(_finding(tasks.source, tasks.value, words, on_way=on_way))
    return [*found, *(_tight_for_slices(level, wanted, found) if on_way else ())]


def _tight_for_slices(level: CgroupReading, wanted: "Demand", told: list[Finding]) -> list[Finding]:
    """Limits of slices that this level is below: the slice's has no effect, and its services may fit all the same."""
    from cgroup_preflight.core.quantities import format_bytes

    memory, tasks, cpu = level.memory_max, level.pids_max, level.cpu_max
    tighter: list[tuple[str, int | str, str]] = []
    if isinstance(memory, Known) and memory.value is not None and memory.value < wanted.slice_memory_bytes:
        words = f"{format_bytes(memory.value)}, a slice of the config up to {format_bytes(wanted.slice_memory_bytes)}"
        tighter.append((memory.source, memory.value, words))
    if isinstance(cpu, Known) and cpu.value.cpus is not None and cpu.value.cpus < wanted.slice_cpus:
        words = f"{cpu.value.cpus:g} CPUs, a slice of the config up to {wanted.slice_cpus:g}"
        tighter.append((cpu.source, f"{cpu.value.quota} {cpu.value.period}", words))
    if isinstance(tasks, Known) and tasks.value is not None and tasks.value < wanted.slice_tasks:
        words = f"{tasks.value} tasks, a slice of the config up to {wanted.slice_tasks}"
        tighter.append((tasks.source, tasks.value, words))
    known = {finding.subject for finding in told}
    return [
        CODE.finding(Status.WARN, source, f"{source} allows {words}: the limit of the slice has no effect",
                     Remedy(title=f"raise {source}, or give the slice less", docs=PAGE.sources[0]), evidence={source: value})
        for source, value, words in tighter if source not in known
    ]  # fmt: skip


def _finding(source: str, value: int | str, words: str, *, on_way: bool) -> Finding:
    evidence: Evidence = {source: value}
    where = "the units are below it" if on_way else "it applies to this job, not to the units"
    parts = [part for part in source.split("/") if part.endswith((".slice", ".service", ".scope"))]
    commands = (("systemctl", "show", "-p", "MemoryMax,CPUQuotaPerSecUSec,TasksMax", "--", parts[-1]),) if parts else ()
    remedy = Remedy(title=f"raise {source}, or give the services less", commands=commands, docs=PAGE.sources[0])
    status = Status.FAIL if on_way else Status.WARN
    return CODE.finding(status, source, f"{source} allows {words}; {where}", remedy, evidence=evidence)


CHECK = Check(code=CODE, page=PAGE, needs=("cgroup_mount", "root", "services", "user_manager"), uses=("own",), run=_run)
