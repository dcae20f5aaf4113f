"""CGP114: real-time group scheduling does not keep the cpu controller from services."""

from collections.abc import Iterable, Mapping

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing, Reading
from cgroup_preflight.core.report import Evidence, Finding, Remedy, ServiceResult, Status
from cgroup_preflight.host.boot import is_off

CODE = Code("CGP114", "rt-group-sched")
PAGE = Page(
    what="Checks that real-time group scheduling does not keep the cpu controller from services.",
    fails=(
        "With CONFIG_RT_GROUP_SCHED the kernel refuses to enable cpu below the root while a real-time thread runs "
        "outside the root cgroup (EINVAL). systemd then omits the quota without an error. On Ubuntu cloud images "
        "multipathd is such a thread. A kernel with CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED needs rt_group_sched=1 for "
        "that. Where a run had a quota in force, the question is settled."
    ),
    fix="Stop the real-time threads or give them a normal priority, or use a kernel without the option.",
    about=("CPUQuota", "CPUWeight", "realtime"),
    sources=("https://github.com/containers/crun/issues/591", "https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu"),
)

_OFF = "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED"


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    config = facts.kernel_config
    if "cpu" not in context.required or isinstance(facts.cgroup_mount, Missing):
        return (CODE.finding(Status.SKIP, "cpu", "the cpu controller is not required, or cgroup v2 is not mounted"),)
    if isinstance(config, Missing):
        message = f"the kernel's configuration cannot be read ({config.source}: {config.why})"
        return (CODE.finding(Status.SKIP, "cpu", message, evidence={config.source: str(config.why)}),)
    option, control = config.value.get("CONFIG_RT_GROUP_SCHED", "n"), facts.root.subtree_control
    if option != "y" or _is_off(config.value, facts.cmdline):
        off = f", {_OFF}=y" if config.value.get(_OFF) == "y" else ""
        evidence: Evidence = {config.source: f"CONFIG_RT_GROUP_SCHED={option}{off}"}
        return (CODE.finding(Status.PASS, "cpu", "no real-time group scheduling in this kernel", evidence=evidence),)
    if isinstance(control, Missing):
        return (unverified(CODE, "cpu", control),)
    evidence = {config.source: "CONFIG_RT_GROUP_SCHED=y", control.source: " ".join(sorted(control.value))}
    if "cpu" in control.value:
        return (
            CODE.finding(
                Status.PASS, "cpu", "the kernel has real-time group scheduling, but cpu is enabled", evidence=evidence
            ),
        )
    remedy = Remedy(
        title="start a unit that needs cpu and check that cpu gets enabled; if not, stop the real-time threads",
        needs_root=True,
        docs=PAGE.sources[0],
        commands=(
            ("systemd-run", "--wait", "--pipe", "-p", "CPUWeight=100", "cat", control.source),
            ("ps", "-eLo", "class,rtprio,pid,comm,cgroup"),
        ),
        why="threads of class FF or RR outside the root cgroup prevent it",
    )
    message = "the kernel may refuse cpu to services because of real-time group scheduling, and cpu is not enabled yet"
    return (CODE.finding(Status.UNVERIFIED, "cpu", message, remedy, evidence=evidence),)


def _is_off(config: Mapping[str, str], cmdline: Reading[str]) -> bool:
    """Whether the kernel was built with it and booted without it; the last word decides (linux, kernel/sched/rt.c).

    Not where the words are unknown, which can have turned it on.
    """
    if isinstance(cmdline, Missing):
        return False
    words = cmdline.value.split()
    said = [word.partition("=")[2] for word in words if word.startswith("rt_group_sched=")]
    return is_off(said[-1]) if said else config.get(_OFF) == "y"


def settled(findings: Iterable[Finding], services: Iterable[ServiceResult]) -> list[Finding]:
    """The findings, where a quota that was in force in a run answers what this check could only ask."""
    proof = next((item for one in services for item in one.limits if item.ok and item.file.endswith("/cpu.max")), None)
    return [
        CODE.finding(
            Status.PASS, item.subject, "the kernel has real-time group scheduling, and the run had a CPU quota in force",
            evidence={**item.evidence, proof.file: proof.actual},
        )
        if proof is not None and item.code == CODE.code and item.status is Status.UNVERIFIED
        else item
        for item in findings
    ]  # fmt: skip


CHECK = Check(code=CODE, page=PAGE, needs=("cgroup_mount", "kernel_config", "root"), uses=("cmdline",), run=_run)
