"""CGP106: the kernel is known, and a version that [require] accepts."""

import re
from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP106", "kernel-version")
PAGE = Page(
    what="Checks that the kernel's version is known and satisfies [require].",
    fails=(
        "The kernel is older or newer than the config allows. Other checks test features by their files, because "
        "distributions backport them; this one compares the version."
    ),
    fix="Use a host with another kernel, or change kernel in [require].",
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html",),
)


def _run(context: Context) -> Iterable[Finding]:
    kernel = context.facts.kernel
    if isinstance(kernel, Missing):
        return (unverified(CODE, "kernel", kernel),)
    evidence = {kernel.source: kernel.value}
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", kernel.value)
    spec = context.require.kernel if context.require else ""
    if match is None:
        remedy = Remedy(title="report this version string as a bug", commands=(("uname", "-a"),))
        message = f"{kernel.value} is not a kernel version"
        return (CODE.finding(Status.UNVERIFIED, "kernel", message, remedy, evidence=evidence),)
    if not spec:
        return (CODE.finding(Status.PASS, "kernel", f"the kernel is {kernel.value}", evidence=evidence),)
    from cgroup_preflight.core import versions

    if all(one.contains(match[0]) for one in versions.comparisons(spec)):
        return (CODE.finding(Status.PASS, "kernel", f"kernel {match[0]} satisfies {spec}", evidence=evidence),)
    remedy = Remedy(title=f"use a host with kernel {spec}, or change kernel in [require]")
    message = f"kernel {match[0]} does not satisfy {spec}"
    return (
        CODE.finding(Status.FAIL, "kernel", message, remedy, location=context.require.location if context.require else None, evidence=evidence),
    )  # fmt: skip


CHECK = Check(code=CODE, page=PAGE, needs=("kernel",), run=_run)
