"""CGP116: the kernel has memory.zswap.max if MemoryZSwapMax is used."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP116", "zswap")
PAGE = Page(
    what="Checks that the kernel has memory.zswap.max if MemoryZSwapMax is used.",
    fails=(
        "systemd accepts the setting, and the kernel has no file for it. The file came with kernel 5.19 and needs "
        "CONFIG_ZSWAP."
    ),
    fix="Use a newer kernel, or remove MemoryZSwapMax.",
    about=("swap",),
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",),
)


def _run(context: Context) -> Iterable[Finding]:
    settings = [item for item in context.settings if item.property == "MemoryZSwapMax"]
    if not settings:
        return (CODE.finding(Status.SKIP, "zswap", "MemoryZSwapMax is not used"),)
    files = context.facts.sample.files
    if isinstance(files, Missing):
        return (unverified(CODE, "zswap", files),)
    there = "memory.zswap.max" in files.value
    evidence = {f"{files.source}/memory.zswap.max": there}
    if there:
        return (CODE.finding(Status.PASS, "zswap", "the kernel can limit compressed swap", evidence=evidence),)
    remedy = Remedy(title="remove MemoryZSwapMax, or use a kernel from 5.19 with CONFIG_ZSWAP", docs=PAGE.sources[0])
    return [
        CODE.finding(
            Status.FAIL,
            "MemoryZSwapMax",
            "this kernel has no memory.zswap.max",
            remedy,
            location=item.location,
            evidence=evidence,
        )
        for item in settings
    ]


CHECK = Check(code=CODE, page=PAGE, needs=("sample",), run=_run)
