"""CGP116: Where MemoryZSwapMax is used, the kernel has memory.zswap.max."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    settings = [item for item in context.settings if item.property == "MemoryZSwapMax"]
    if not settings:
        return (check.finding(Status.SKIP, "zswap", "MemoryZSwapMax is not used"),)
    files = context.facts.sample.files
    if isinstance(files, Missing):
        return (check.unverified("zswap", files),)
    there = "memory.zswap.max" in files.value
    evidence = {f"{files.source}/memory.zswap.max": there}
    if there:
        return (check.finding(Status.PASS, "zswap", "the kernel limits compressed swap", evidence=evidence),)
    remedy = Remedy(title="remove MemoryZSwapMax, or use a kernel from 5.19 with CONFIG_ZSWAP", docs=check.sources[0])
    return [
        check.finding(
            Status.FAIL,
            "MemoryZSwapMax",
            "this kernel has no memory.zswap.max",
            evidence=evidence,
            remedies=(remedy,),
            location=item.location,
        )
        for item in settings
    ]


CHECK = Check(
    code="CGP116",
    name="zswap",
    severity=Severity.ERROR,
    needs=("sample",),
    what="Where MemoryZSwapMax is used, the kernel has memory.zswap.max.",
    why="The file came with kernel 5.19 and needs CONFIG_ZSWAP; without it systemd ignores the limit.",
    remedy="Use a newer kernel, or remove MemoryZSwapMax.",
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",),
    run=_run,
)
