"""CGP103: systemd is PID 1 here (sd_booted(3): /run/systemd/system exists)."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    running = context.facts.systemd_running
    if isinstance(running, Missing):
        return (check.unverified("systemd", running),)
    pid1 = value_or(context.facts.pid1, "unknown")
    evidence: Evidence = {running.source: running.value, "/proc/1/comm": pid1}
    if running.value:
        return (check.finding(Status.PASS, "systemd", "systemd is PID 1", evidence=evidence),)
    remedy = Remedy(
        title="run this job on a host or virtual machine with systemd as PID 1",
        why="a container without systemd cannot start units, so nothing can be proved about them here",
        docs="https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html",
    )
    message = f"systemd is not PID 1 here (that is {pid1}): services cannot be tried"
    return (check.finding(Status.UNVERIFIED, "systemd", message, evidence=evidence, remedies=(remedy,)),)


CHECK = Check(
    code="CGP103",
    name="systemd-pid1",
    severity=Severity.ERROR,
    needs=("systemd_running",),
    uses=("pid1",),
    what="systemd is PID 1 here: /run/systemd/system exists.",
    why=(
        "Without a running systemd no unit can be started, so nothing can be proved about its limits here; the "
        "deploy host may be fine."
    ),
    remedy="Run the job on a host or virtual machine with systemd as PID 1.",
    sources=("https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html",),
    run=_run,
)
