"""CGP125: Nothing above the units is tighter than what the config gives them."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.facts.model import Level
from cgroup_preflight.plan.demand import Demand, demand
from cgroup_preflight.quantities import format_bytes
from cgroup_preflight.reading import Known, Missing
from cgroup_preflight.report import Evidence, Finding, Remedy, Status

def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (check.finding(Status.SKIP, "limits", "no cgroup v2, see CGP101"),)
    # Units of the system manager hang off the root, those of a user manager below its service.
    way = facts.user_manager.levels if context.engine.name == "user" else facts.own[:1]
    wanted = demand(context.plan)
    findings = [_tight(check, level, wanted, on_way=True) for level in way]
    findings += [_tight(check, level, wanted, on_way=False) for level in facts.own if level not in way]
    real = [item for group in findings for item in group]
    evidence = {level.memory_max.source: str(level.memory_max.value) for level in way if isinstance(level.memory_max, Known)}
    message = "no level above the units is tighter than the config"
    return real or [check.finding(Status.PASS, "limits", message, evidence=evidence)]


def _tight(check: Check, level: Level, wanted: Demand, *, on_way: bool) -> list[Finding]:
    found: list[Finding] = []
    memory, tasks, cpu = level.memory_max, level.pids_max, level.cpu_max
    if isinstance(memory, Known) and memory.value is not None and memory.value < wanted.memory_bytes:
        words = f"{format_bytes(memory.value)}, the config gives up to {format_bytes(wanted.memory_bytes)}"
        found.append(_finding(check, memory.source, memory.value, words, on_way=on_way))
    if isinstance(cpu, Known) and cpu.value.cpus is not None and cpu.value.cpus < wanted.cpus:
        words = f"{cpu.value.cpus:g} CPUs, the config gives up to {wanted.cpus:g}"
        found.append(_finding(check, cpu.source, cpu.value.cpus, words, on_way=on_way))
    if isinstance(tasks, Known) and tasks.value is not None and tasks.value < wanted.tasks:
        words = f"{tasks.value} tasks, the config gives up to {wanted.tasks}"
        found.append(_finding(check, tasks.source, tasks.value, words, on_way=on_way))
    return found


def _finding(check: Check, source: str, value: float, words: str, *, on_way: bool) -> Finding:
    evidence: Evidence = {source: value}
    where = "the units are below it" if on_way else "it holds this job only, not the units"
    remedy = Remedy(title=f"lift {source}, or give the services less", docs=check.sources[0])
    status = Status.FAIL if on_way else Status.WARN
    return check.finding(status, source, f"{source} is {words}; {where}", evidence=evidence, remedies=(remedy,))


CHECK = Check(
    code="CGP125",
    name="job-limits",
    severity=Severity.ERROR,
    needs=("own", "user_manager"),
    what='Nothing above the units is tighter than what the config gives them.',
    why='The effective limit is the minimum over all ancestors: a service with MemoryMax=2G in a job or container of 512M has 512M.',
    remedy='Lift the limit of the level named, or give the services less.',
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files", "https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files",),
    run=_run,
)
