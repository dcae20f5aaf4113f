"""CGP121: systemd has finished starting, and no unit of the host has failed."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP121", "system-state", Severity.WARNING)
PAGE = Page(
    what="Checks that systemd has finished starting and that no unit of the host has failed.",
    fails="While the host is starting, or in rescue mode, units start and stop during the test.",
    fix="Wait for the end of the boot, or look at the failed units.",
    about=("degraded", "boot"),
    sources=("https://www.freedesktop.org/software/systemd/man/latest/systemctl.html#is-system-running",),
)

_REMEDIES = {
    "degraded": Remedy(title="look at the failed units", commands=(("systemctl", "--failed"),)),
    "starting": Remedy(title="wait for the boot to end", commands=(("systemctl", "is-system-running", "--wait"),)),
}
_OTHERWISE = Remedy(title="look at the state of the host", commands=(("systemctl", "status"),))


def _run(context: Context) -> Iterable[Finding]:
    state = context.facts.system_state
    if isinstance(state, Missing):
        if not value_or(context.facts.systemd_running, default=False):
            return (CODE.finding(Status.SKIP, "systemd", "systemd does not run, see CGP103"),)
        remedy = Remedy(title="ask systemd", commands=(("systemctl", "is-system-running"),))
        message, seen = f"the state of systemd is unknown: {state}", {state.source: str(state.why)}
        return (CODE.finding(Status.WARN, "systemd", message, remedy, evidence=seen),)
    evidence = {state.source: state.value}
    if state.value == "running":
        return (CODE.finding(Status.PASS, "systemd", "the host is running", evidence=evidence),)
    remedy = _REMEDIES.get(state.value, _OTHERWISE)
    return (
        CODE.finding(Status.WARN, "systemd", f"systemd reports the state {state.value}", remedy, evidence=evidence),
    )


CHECK = Check(code=CODE, page=PAGE, needs=("system_state",), uses=("systemd_running",), run=_run)
