"""CGP113: The kernel was built with what the required controllers need, where its configuration can be read."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.reading import Missing
from cgroup_preflight.report import Finding, Remedy, Status

#: Option, the controller that cannot do without it, what is lost.
_NEEDS = (
    ("CONFIG_MEMCG", "memory", "memory limits"),
    ("CONFIG_CGROUP_SCHED", "cpu", "CPU weights and quotas"),
    ("CONFIG_CFS_BANDWIDTH", "cpu", "CPU quotas"),
    ("CONFIG_CGROUP_PIDS", "pids", "TasksMax"),
    ("CONFIG_CPUSETS", "cpuset", "AllowedCPUs"),
    ("CONFIG_BLK_CGROUP", "io", "IO weights"),
)
_NICE = (("CONFIG_PSI", "pressure information"), ("CONFIG_BLK_CGROUP_IOCOST", "IOWeight without the bfq scheduler"))


def _run(check: Check, context: Context) -> Iterable[Finding]:
    config = context.facts.kernel_config
    if isinstance(config, Missing):
        # Most containers and some hosts have none; the files of the controllers are the better witness.
        return (check.finding(Status.SKIP, "kernel config", f"not readable here ({config.source}: {config.why})"),)
    findings = []
    for option, controller, lost in _NEEDS:
        if config.value.get(option) == "n" and controller in context.required:
            findings.append(_lacks(check, Status.FAIL, option, lost, config.source))
    for option, lost in _NICE:
        if config.value.get(option) == "n":
            findings.append(_lacks(check, Status.WARN, option, lost, config.source))
    evidence = {config.source: ", ".join(f"{name}={value}" for name, value in sorted(config.value.items()))}
    message = "the kernel has every option needed"
    return findings or [check.finding(Status.PASS, "kernel config", message, evidence=evidence)]


def _lacks(check: Check, status: Status, option: str, lost: str, source: str) -> Finding:
    remedy = Remedy(title=f"use a kernel built with {option}=y", docs=check.sources[0])
    message = f"the kernel is built without {option}: no {lost}"
    return check.finding(status, option, message, evidence={source: f"{option}=n"}, remedies=(remedy,))


CHECK = Check(
    code="CGP113",
    name="kernel-config",
    severity=Severity.ERROR,
    needs=("kernel_config",),
    what='The kernel was built with what the required controllers need, where its configuration can be read.',
    why='A kernel without CFS_BANDWIDTH has cpu.weight but no cpu.max; one without MEMCG has no memory limits at all.',
    remedy='Use a kernel built with the option.',
    sources=("https://docs.kernel.org/scheduler/sched-bwc.html", "https://docs.kernel.org/admin-guide/cgroup-v2.html",),
    run=_run,
)
