"""CGP122: the bus through which units are started exists."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP122", "bus", Severity.WARNING)
PAGE = Page(
    what="Checks that the D-Bus socket through which units are started exists.",
    fails=(
        "systemd-run talks to the manager over D-Bus. Without the bus only the manager's private socket works, "
        "which root and the user of a user manager can use."
    ),
    fix="Start dbus, or set XDG_RUNTIME_DIR=/run/user/UID for the job.",
    about=("dbus",),
    sources=("https://www.freedesktop.org/software/systemd/man/latest/systemd-run.html",),
)


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if context.engine.name is None:
        return (CODE.finding(Status.SKIP, "bus", "no engine, see CGP105"),)
    if context.engine.place is not None:
        return (CODE.finding(Status.SKIP, "bus", "the engine cgroupfs asks no service manager"),)
    user = context.engine.name == "user"
    # Managers answer their own user at a private socket as well, but systemd-run --wait needs the bus.
    bus = facts.user_manager.bus if user else facts.system_bus
    if isinstance(bus, Missing):
        return (unverified(CODE, "bus", bus),)
    evidence = {bus.source: bus.value}
    if bus.value:
        message = f"the {'user' if user else 'system'} bus is at {bus.source}"
        return (CODE.finding(Status.PASS, "bus", message, evidence=evidence),)
    start = ("systemctl", *(("--user",) if user else ()), "start", "dbus.socket")
    remedy = Remedy(title="install dbus (dbus-user-session) and start it", commands=(start,), needs_root=not user)
    message = f"no bus at {bus.source}: the manager can be reached only through its private socket"
    return (CODE.finding(Status.WARN, "bus", message, remedy, evidence=evidence),)


CHECK = Check(code=CODE, page=PAGE, needs=("system_bus", "user_manager"), run=_run)
