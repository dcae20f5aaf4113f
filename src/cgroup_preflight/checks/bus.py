"""CGP122: The bus through which units are started is reachable."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.reading import Known, Missing, value_or
from cgroup_preflight.report import Finding, Remedy, Status

def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if context.engine.name is None:
        return (check.finding(Status.SKIP, "bus", "no engine, see CGP105"),)
    if context.engine.name == "user":
        socket = facts.user_manager.socket
        if isinstance(socket, Missing):
            return (check.unverified("bus", socket),)
        return (check.finding(Status.PASS, "bus", f"the user manager answers at {socket.value}",
                              evidence={socket.source: True}),)  # fmt: skip
    bus = facts.system_bus
    evidence = {"/run/dbus/system_bus_socket": value_or(bus, None)}
    # Root and sudo reach PID 1 over its private socket; the bus is for everybody else.
    if isinstance(bus, Known) and bus.value:
        return (check.finding(Status.PASS, "bus", "the system bus is there", evidence=evidence),)
    remedy = Remedy(title="start the bus", commands=(("systemctl", "start", "dbus.socket"),), needs_root=True)
    message = "there is no system bus; only root reaches PID 1, over its private socket"
    return (check.finding(Status.WARN, "bus", message, evidence=evidence, remedies=(remedy,)),)


CHECK = Check(
    code="CGP122",
    name="bus",
    severity=Severity.ERROR,
    needs=("system_bus", "user_manager", "uid"),
    what='The bus through which units are started is reachable.',
    why='systemd-run talks to the manager over D-Bus; root and a user manager have a private socket as well.',
    remedy='Start dbus, or export XDG_RUNTIME_DIR=/run/user/UID for the job.',
    sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd-run.html",),
    run=_run,
)
