"""CGP121: systemd has finished starting, and no unit of the host has failed."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status

_REMEDIES = {
    "degraded": Remedy(title="look at the failed units", commands=(("systemctl", "--failed"),)),
    "starting": Remedy(title="wait for the boot to end", commands=(("systemctl", "is-system-running", "--wait"),)),
}
_OTHERWISE = Remedy(title="look at the state of the host", commands=(("systemctl", "status"),))


def _run(check: Check, context: Context) -> Iterable[Finding]:
    state = context.facts.system_state
    if isinstance(state, Missing):
        if not value_or(context.facts.systemd_running, default=False):
            return (check.finding(Status.SKIP, "systemd", "systemd does not run, see CGP103"),)
        remedy = Remedy(title="ask systemd", commands=(("systemctl", "is-system-running"),))
        message, seen = f"the state of systemd is not known: {state}", {state.source: str(state.why)}
        return (check.finding(Status.WARN, "systemd", message, evidence=seen, remedies=(remedy,)),)
    evidence = {state.source: state.value}
    if state.value == "running":
        return (check.finding(Status.PASS, "systemd", "the host is up", evidence=evidence),)
    remedy = _REMEDIES.get(state.value, _OTHERWISE)
    return (check.finding(Status.WARN, "systemd", f"the host is {state.value}", evidence=evidence, remedies=(remedy,)),)


CHECK = Check(
    code="CGP121",
    name="system-state",
    severity=Severity.WARNING,
    needs=("system_state",),
    uses=("systemd_running",),
    what="systemd has finished starting, and no unit of the host has failed.",
    why="While the host is still starting, or in rescue mode, a smoke run can meet units that come and go.",
    remedy="Wait for the boot to end, or look at the failed units.",
    sources=("https://www.freedesktop.org/software/systemd/man/latest/systemctl.html#is-system-running",),
    run=_run,
)
