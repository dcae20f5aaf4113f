"""CGP113: the kernel was built with what the required controllers need, if its configuration can be read."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP113", "kernel-config")
PAGE = Page(
    what=(
        "Checks that the kernel was built with the options that the required controllers need, if its configuration "
        "can be read."
    ),
    fails=(
        "A kernel without CFS_BANDWIDTH has cpu.weight but no cpu.max. A kernel without MEMCG has no memory limits."
    ),
    fix="Use a kernel that was built with the option.",
    about=("CPUQuota", "MemoryMax", "TasksMax", "IOWeight", "AllowedCPUs"),
    sources=("https://docs.kernel.org/scheduler/sched-bwc.html", "https://docs.kernel.org/admin-guide/cgroup-v2.html"),
)

#: Option, the controller that needs it, what is lost without it.
_NEEDS = (
    ("CONFIG_MEMCG", "memory", "memory limits"),
    ("CONFIG_CGROUP_SCHED", "cpu", "CPU weights and quotas"),
    ("CONFIG_CGROUP_PIDS", "pids", "TasksMax"),
    ("CONFIG_CPUSETS", "cpuset", "AllowedCPUs"),
    ("CONFIG_BLK_CGROUP", "io", "IO weights"),
)
_QUOTA = "CONFIG_CFS_BANDWIDTH"


def _run(context: Context) -> Iterable[Finding]:
    config = context.facts.kernel_config
    findings = list(_without_quota(context))
    if isinstance(config, Missing):
        # Most containers and some hosts have none; the files of the controllers are better evidence.
        message, seen = (
            f"the kernel's configuration cannot be read here ({config.source}: {config.why})",
            {config.source: str(config.why)},
        )
        return (*findings, CODE.finding(Status.SKIP, "kernel config", message, evidence=seen))
    for option, controller, lost in _NEEDS:
        if config.value.get(option) == "n" and controller in context.required:
            findings.append(_lacks(Status.FAIL, option, lost, {config.source: f"{option}=n"}))
    if config.value.get("CONFIG_BLK_CGROUP_IOCOST") == "n" and any(
        item.property == "IOWeight" for item in context.settings
    ):
        seen = {config.source: "CONFIG_BLK_CGROUP_IOCOST=n"}
        lost = "io.cost, so IOWeight acts only on disks with bfq"
        findings.append(_lacks(Status.WARN, "CONFIG_BLK_CGROUP_IOCOST", lost, seen))
    if config.value.get("CONFIG_PSI") == "n":
        seen = {config.source: "CONFIG_PSI=n"}
        findings.append(_lacks(Status.WARN, "CONFIG_PSI", "pressure stall information", seen))
    evidence = {config.source: ", ".join(f"{name}={value}" for name, value in sorted(config.value.items()))}
    message = "the kernel has every option that is needed"
    return findings or [CODE.finding(Status.PASS, "kernel config", message, evidence=evidence)]


def _without_quota(context: Context) -> Iterable[Finding]:
    """A kernel without CFS_BANDWIDTH has the cpu controller and no cpu.max: its files and its configuration show it."""
    config, files = context.facts.kernel_config, context.facts.sample.files
    evidence: dict[str, str] = {}
    if isinstance(config, Known) and config.value.get(_QUOTA) == "n":
        evidence[config.source] = f"{_QUOTA}=n"
    if isinstance(files, Known) and "cpu.weight" in files.value and "cpu.max" not in files.value:
        evidence[files.source] = "cpu.weight, but no cpu.max"
    if not evidence or "cpu" not in context.required:
        return
    # With a config it is known whether a quota is used.
    wanted = context.plan is None or any(item.property == "CPUQuota" for item in context.settings)
    yield _lacks(Status.FAIL if wanted else Status.WARN, _QUOTA, "CPU quotas", evidence)


def _lacks(status: Status, option: str, lost: str, evidence: dict[str, str]) -> Finding:
    remedy = Remedy(title=f"use a kernel built with {option}=y", docs=PAGE.sources[0])
    message = f"the kernel is built without {option}: no {lost}"
    return CODE.finding(status, option, message, remedy, evidence=evidence)


CHECK = Check(code=CODE, page=PAGE, needs=("kernel_config",), uses=("sample",), run=_run)
