"""CGP122: The bus through which units are started is reachable."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status


def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if context.engine.name is None:
        return (check.finding(Status.SKIP, "bus", "no engine, see CGP105"),)
    user = context.engine.name == "user"
    # Managers answer their own user at a private socket, too; systemd-run --wait wants the bus.
    bus = facts.user_manager.bus if user else facts.system_bus
    if isinstance(bus, Missing):
        return (check.unverified("bus", bus),)
    evidence = {bus.source: bus.value}
    if bus.value:
        message = f"the {'user' if user else 'system'} bus is at {bus.source}"
        return (check.finding(Status.PASS, "bus", message, evidence=evidence),)
    start = ("systemctl", *(("--user",) if user else ()), "start", "dbus.socket")
    remedy = Remedy(title="install dbus (dbus-user-session) and start it", commands=(start,), needs_root=not user)
    message = f"there is no bus at {bus.source}: the manager is reached only over its private socket"
    return (check.finding(Status.WARN, "bus", message, evidence=evidence, remedies=(remedy,)),)


CHECK = Check(
    code="CGP122",
    name="bus",
    severity=Severity.WARNING,
    needs=("system_bus", "user_manager"),
    what="The bus through which units are started is reachable.",
    why="systemd-run talks to the manager over D-Bus; root and a user manager have a private socket as well.",
    remedy="Start dbus, or export XDG_RUNTIME_DIR=/run/user/UID for the job.",
    sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd-run.html",),
    run=_run,
)
