"""CGP103: systemd is PID 1 here (sd_booted(3): /run/systemd/system exists)."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status

CODE = Code("CGP103", "systemd-pid1")
PAGE = Page(
    what="Checks that systemd is PID 1: /run/systemd/system exists.",
    fails=(
        "Without systemd no unit can be started, so nothing about limits can be proved here. The deploy host can "
        "still be fine."
    ),
    fix="Run the job on a host or VM with systemd as PID 1.",
    about=("container",),
    sources=("https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html",),
)


def _run(context: Context) -> Iterable[Finding]:
    running = context.facts.systemd_running
    if isinstance(running, Missing):
        return (unverified(CODE, "systemd", running),)
    pid1 = value_or(context.facts.pid1, "unknown")
    evidence: Evidence = {running.source: running.value, "/proc/1/comm": pid1}
    if running.value:
        return (CODE.finding(Status.PASS, "systemd", "systemd is PID 1", evidence=evidence),)
    if context.engine.place is not None:
        message = f"PID 1 is {pid1}; the engine cgroupfs needs no systemd"
        return (CODE.finding(Status.SKIP, "systemd", message, evidence=evidence),)
    remedy = Remedy(
        title="run this job on a host or VM with systemd as PID 1",
        why="a container without systemd cannot start units, so nothing can be proved about them here",
        docs="https://www.freedesktop.org/software/systemd/man/latest/sd_booted.html",
    )
    message = f"PID 1 is {pid1}, not systemd: services cannot be tested here"
    return (CODE.finding(Status.UNVERIFIED, "systemd", message, remedy, evidence=evidence),)


CHECK = Check(code=CODE, page=PAGE, needs=("systemd_running",), uses=("pid1",), run=_run)
