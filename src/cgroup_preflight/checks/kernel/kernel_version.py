"""CGP106: the kernel is known, and a version that [require] accepts."""

import re
from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    kernel = context.facts.kernel
    if isinstance(kernel, Missing):
        return (check.unverified("kernel", kernel),)
    evidence = {kernel.source: kernel.value}
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", kernel.value)
    spec = context.require.kernel if context.require else ""
    if match is None:
        remedy = Remedy(title="say which kernel this is in a bug report", commands=(("uname", "-a"),))
        message = f"{kernel.value} is not a kernel version"
        return (check.finding(Status.UNVERIFIED, "kernel", message, evidence=evidence, remedies=(remedy,)),)
    if not spec:
        return (check.finding(Status.PASS, "kernel", f"the kernel is {kernel.value}", evidence=evidence),)
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(spec).contains(match[0]):
        return (check.finding(Status.PASS, "kernel", f"kernel {match[0]} satisfies {spec}", evidence=evidence),)
    remedy = Remedy(title=f"use a host with kernel {spec}, or change kernel in [require]")
    message = f"kernel {match[0]} does not satisfy {spec}"
    return (
        check.finding(Status.FAIL, "kernel", message, evidence=evidence, remedies=(remedy,),
                      location=context.require.location if context.require else None),
    )  # fmt: skip


CHECK = Check(
    code="CGP106",
    name="kernel-version",
    severity=Severity.ERROR,
    needs=("kernel",),
    what="The kernel is known, and satisfies [require].",
    why=(
        "Features are tested by their files, not by version, since distributions backport; the version is for what "
        "only it can tell."
    ),
    remedy="Use a host with a newer kernel, or change kernel in [require].",
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html",),
    run=_run,
)
