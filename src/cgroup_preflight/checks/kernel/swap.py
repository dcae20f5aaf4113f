"""CGP115: Where the host has swap, services under a MemoryMax have MemorySwapMax, too, or a slice above them."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing, Why
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status

if TYPE_CHECKING:
    from cgroup_preflight.config.model import Setting


def _run(check: Check, context: Context) -> Iterable[Finding]:
    meminfo = context.facts.meminfo
    if isinstance(meminfo, Missing):
        return (check.unverified("swap", meminfo),)
    total = meminfo.value.get("SwapTotal")
    if total is None:
        # Every kernel prints it, with and without swap.
        cut = Missing(source=meminfo.source, why=Why.MALFORMED, detail="no SwapTotal line")
        return (check.unverified("swap", cut),)
    evidence = {f"{meminfo.source} SwapTotal": total}
    if total == 0:
        return (check.finding(Status.PASS, "swap", "the host has no swap", evidence=evidence),)
    return _with_swap(check, context, evidence)


def _with_swap(check: Check, context: Context, evidence: dict[str, int]) -> Iterable[Finding]:
    files = context.facts.sample.files
    if isinstance(files, Missing):
        return (check.unverified("swap", files),)
    if "memory.max" in files.value and "memory.swap.max" not in files.value:
        title = "boot without swapaccount=0, or switch swap off"
        remedy = Remedy(title=title, commands=(("swapoff", "-a"),), needs_root=True)
        message = f"the host has swap, and the kernel cannot limit it (no memory.swap.max in {files.source})"
        return (check.finding(Status.WARN, "swap", message, evidence=evidence, remedies=(remedy,)),)
    findings = [_finding(check, *item, evidence) for item in _open_ended(context)]
    message = "the host has swap, and every service with MemoryMax limits it"
    return findings or [check.finding(Status.PASS, "swap", message, evidence=evidence)]


def _open_ended(context: Context) -> "list[tuple[str, Setting]]":
    """Services under a MemoryMax, and that: nothing limits their swap, neither their own setting nor a slice above."""
    found = []
    slices = {item.unit: item.settings for item in context.plan.slices} if context.plan else {}
    for service in context.plan.services if context.plan else ():
        way = [_by_name(service.settings), *(_by_name(slices[unit]) for unit in reversed(service.slices))]
        limits = [settings["MemoryMax"] for settings in way if "MemoryMax" in settings]
        if limits and not any("MemorySwapMax" in settings for settings in way):
            found.append((service.label, limits[0]))
    return found


def _by_name(settings: "tuple[Setting, ...]") -> "dict[str, Setting]":
    return {item.property: item for item in settings}


def _finding(check: Check, label: str, limit: "Setting", evidence: dict[str, int]) -> Finding:
    remedy = Remedy(title=f"add MemorySwapMax = 0 to [services.{label}]", docs=check.sources[0])
    message = f"{label} has MemoryMax and no MemorySwapMax, and the host has swap: it is swapped, not killed"
    return check.finding(
        Status.WARN, label, message, evidence={**evidence}, remedies=(remedy,), location=limit.location
    )


CHECK = Check(
    code="CGP115",
    name="swap",
    severity=Severity.WARNING,
    needs=("meminfo", "sample"),
    what="Where the host has swap, services under a MemoryMax have MemorySwapMax, too, or a slice above them.",
    why=(
        "Without it a service that exceeds MemoryMax is swapped out instead of killed: no out-of-memory kill where "
        "one was expected, and a Go heap that thrashes."
    ),
    remedy="Set MemorySwapMax = 0 beside MemoryMax.",
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
        "https://github.com/containers/crun/issues/570",
    ),
    run=_run,
)
