"""CGP115: Where the host has swap, services with MemoryMax have MemorySwapMax, too."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.reading import Missing, value_or
from cgroup_preflight.report import Finding, Remedy, Status

def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.meminfo, Missing):
        return (check.unverified("swap", facts.meminfo),)
    total = facts.meminfo.value.get("SwapTotal", 0)
    evidence = {f"{facts.meminfo.source} SwapTotal": total}
    if total == 0:
        return (check.finding(Status.PASS, "swap", "the host has no swap", evidence=evidence),)
    names = value_or(facts.sample.files, ())
    if names and "memory.max" in names and "memory.swap.max" not in names:
        remedy = Remedy(title="boot without swapaccount=0, or switch swap off: swapoff -a", needs_root=True)
        message = "the host has swap, and the kernel cannot limit it (no memory.swap.max)"
        return (check.finding(Status.WARN, "swap", message, evidence=evidence, remedies=(remedy,)),)
    open_ended = [item for item in context.plan.services if _lacks(item)] if context.plan else []
    findings = [_finding(check, item, evidence) for item in open_ended]
    message = "the host has swap, and every service with MemoryMax limits it"
    return findings or [check.finding(Status.PASS, "swap", message, evidence=evidence)]


def _lacks(service: ServicePlan) -> bool:
    names = {item.property for item in service.settings}
    return "MemoryMax" in names and "MemorySwapMax" not in names


def _finding(check: Check, service: ServicePlan, evidence: dict[str, int]) -> Finding:
    location = next(item.location for item in service.settings if item.property == "MemoryMax")
    remedy = Remedy(title=f"add MemorySwapMax = 0 to [services.{service.label}]", docs=check.sources[0])
    message = f"{service.label} has MemoryMax and no MemorySwapMax, and the host has swap: it will be swapped, not killed"
    return check.finding(
        Status.WARN, service.label, message, evidence={**evidence}, remedies=(remedy,), location=location
    )


CHECK = Check(
    code="CGP115",
    name="swap",
    severity=Severity.WARNING,
    needs=("meminfo", "sample"),
    what='Where the host has swap, services with MemoryMax have MemorySwapMax, too.',
    why='Without it a service that exceeds MemoryMax is swapped out instead of killed: no out-of-memory kill where one was expected, and a Go heap that thrashes.',
    remedy='Set MemorySwapMax = 0 beside MemoryMax.',
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files", "https://github.com/containers/crun/issues/570",),
    run=_run,
)
