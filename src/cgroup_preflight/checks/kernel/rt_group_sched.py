"""CGP114: Real-time group scheduling does not keep the cpu controller from services."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    config = facts.kernel_config
    if "cpu" not in context.required or isinstance(facts.cgroup_mount, Missing):
        return (check.finding(Status.SKIP, "cpu", "the cpu controller is not asked for, or there is no cgroup v2"),)
    if isinstance(config, Missing):
        message = f"kernel config not readable ({config.source}: {config.why})"
        return (check.finding(Status.SKIP, "cpu", message, evidence={config.source: str(config.why)}),)
    option, control = config.value.get("CONFIG_RT_GROUP_SCHED", "n"), facts.root.subtree_control
    if option != "y" or "rt_group_sched=0" in value_or(facts.cmdline, "").split():
        evidence: Evidence = {config.source: f"CONFIG_RT_GROUP_SCHED={option}"}
        return (check.finding(Status.PASS, "cpu", "no real-time group scheduling in this kernel", evidence=evidence),)
    if isinstance(control, Missing):
        return (check.unverified("cpu", control),)
    evidence = {config.source: "CONFIG_RT_GROUP_SCHED=y", control.source: " ".join(sorted(control.value))}
    if "cpu" in control.value:
        return (check.finding(Status.PASS, "cpu", "real-time group scheduling, but cpu is enabled", evidence=evidence),)
    remedy = Remedy(
        title="start a unit that wants cpu and see it enabled; if not, stop or demote the real-time threads",
        needs_root=True,
        docs=check.sources[0],
        commands=(
            ("systemd-run", "--wait", "--pipe", "-p", "CPUWeight=100", "cat", control.source),
            ("ps", "-eLo", "class,rtprio,pid,comm,cgroup"),
        ),
        why="those of class FF or RR outside the root cgroup are in the way",
    )
    message = "real-time group scheduling may refuse the cpu controller to services, and it is not enabled yet"
    return (check.finding(Status.UNVERIFIED, "cpu", message, evidence=evidence, remedies=(remedy,)),)


CHECK = Check(
    code="CGP114",
    name="rt-group-sched",
    severity=Severity.ERROR,
    needs=("cgroup_mount", "kernel_config", "root"),
    uses=("cmdline",),
    what="Real-time group scheduling does not keep the cpu controller from services.",
    why=(
        "With CONFIG_RT_GROUP_SCHED the kernel refuses to enable cpu below the root while a real-time thread runs "
        "outside of it (EINVAL), and systemd leaves the quota out in silence. On Ubuntu cloud images multipathd is "
        "one."
    ),
    remedy="Stop or demote the real-time threads, or use a kernel without the option.",
    sources=("https://github.com/containers/crun/issues/591", "https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu"),
    run=_run,
)
