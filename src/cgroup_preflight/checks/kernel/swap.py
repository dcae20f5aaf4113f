"""CGP115: every service with a MemoryMax also has a MemorySwapMax, itself or at a slice above, if the host has swap."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Missing, Why
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status

if TYPE_CHECKING:
    from cgroup_preflight.config.model import Setting

CODE = Code("CGP115", "swap", Severity.WARNING)
PAGE = Page(
    what=(
        "Checks that every service with a MemoryMax also has a MemorySwapMax, itself or at a slice above, if the "
        "host has swap."
    ),
    fails=(
        "A service that exceeds MemoryMax is swapped out instead of killed: there is no OOM kill where one is "
        "expected, and a Go heap thrashes."
    ),
    fix="Set MemorySwapMax = 0 next to MemoryMax.",
    about=("memory.swap.max",),
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
        "https://github.com/containers/crun/issues/570",
    ),
)


def _run(context: Context) -> Iterable[Finding]:
    meminfo = context.facts.meminfo
    if isinstance(meminfo, Missing):
        return (unverified(CODE, "swap", meminfo),)
    total = meminfo.value.get("SwapTotal")
    if total is None:
        # Every kernel prints it, with and without swap.
        cut = Missing(source=meminfo.source, why=Why.MALFORMED, detail="no SwapTotal line")
        return (unverified(CODE, "swap", cut),)
    evidence = {f"{meminfo.source} SwapTotal": total}
    if total == 0:
        return (CODE.finding(Status.PASS, "swap", "the host has no swap", evidence=evidence),)
    return _with_swap(context, evidence)


def _with_swap(context: Context, evidence: dict[str, int]) -> Iterable[Finding]:
    files = context.facts.sample.files
    if isinstance(files, Missing):
        return (unverified(CODE, "swap", files),)
    if "memory.max" in files.value and "memory.swap.max" not in files.value:
        title = "boot without swapaccount=0, or disable swap"
        remedy = Remedy(title=title, commands=(("swapoff", "-a"),), needs_root=True)
        message = f"the host has swap, and the kernel cannot limit it (no memory.swap.max in {files.source})"
        return (CODE.finding(Status.WARN, "swap", message, remedy, evidence=evidence),)
    findings = [_finding(*item, evidence) for item in _open_ended(context)]
    message = "the host has swap, and every service with MemoryMax limits it"
    return findings or [CODE.finding(Status.PASS, "swap", message, evidence=evidence)]


def _open_ended(context: Context) -> "list[tuple[str, Setting]]":
    """Services under a MemoryMax whose swap nothing limits, and that MemoryMax."""
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


def _finding(label: str, limit: "Setting", evidence: dict[str, int]) -> Finding:
    remedy = Remedy(title=f"add MemorySwapMax = 0 to [services.{label}]", docs=PAGE.sources[0])
    message = f"{label} has MemoryMax and no MemorySwapMax, and the host has swap: the kernel swaps it out instead of killing it"
    return CODE.finding(Status.WARN, label, message, remedy, location=limit.location, evidence={**evidence})


CHECK = Check(code=CODE, page=PAGE, needs=("meminfo", "sample"), run=_run)
