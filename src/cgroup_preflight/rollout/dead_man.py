"""The timer of the manager that restores the old values if this tool no longer does. Pure: two unit files.

The commands are plain programs of the system, so that they work without this tool, its session and the network.
"""

from collections.abc import Mapping, Sequence

from cgroup_preflight.plan.unit_syntax import command_line, specifiers
from cgroup_preflight.rollout.base import DeadMan, UnitPlan
from cgroup_preflight.rollout.limits import assignment
from cgroup_preflight.rollout.stages import Change, changes

UNIT = "cgroup-preflight-rollout"
#: What starts the timer again with the manager: after a start of the host, and of a user's manager, which keeps /run.
WANTED = f"timers.target.d/{UNIT}.conf"
_WHO = "cgroup-preflight rollout "


def restoring(units: Sequence[UnitPlan], left: Sequence[str] = ()) -> tuple[Change, ...]:
    """The calls that set every old value again, whatever stage is in force, without the `UNIT PROPERTY` of `left`."""
    new = {item.unit: dict(item.new) for item in units}
    old = {item.unit: dict(item.old) for item in units}
    needed = [change for change in changes(new, old) if change.values]
    named = {(change.unit, name) for change in needed for name in change.values}
    # MemoryHigh may be lower for a while without being a target; setting what is in force already is harmless.
    rest = {
        unit: {name: value for name, value in values.items() if (unit, name) not in named}
        for unit, values in old.items()
    }
    calls = (*needed, *(Change(unit=unit, values=values) for unit, values in rest.items() if values))
    kept = [
        Change(unit=call.unit, values={name: value for name, value in call.values.items() if f"{call.unit} {name}" not in left})
        for call in calls
    ]  # fmt: skip
    return tuple(call for call in kept if call.values)


def commands(plan: DeadMan, programs: Mapping[str, str], manager: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The argv in order; before one that may fail there is a `-`, as in a unit file.

    The values come first, whatever else fails; then the files. Both again, where a full disk or a manager without an answer
    was in the way: what fails then is tried again later. `programs` are absolute paths by name, `manager` the words after
    systemctl, such as --user.
    """
    systemctl = (programs["systemctl"], *manager)
    values: list[tuple[str, ...]] = [
        (*systemctl, "set-property", "--runtime", "--", call.unit, *(assignment(name, value) for name, value in call.values.items()))
        for call in plan.changes
    ]  # fmt: skip
    gone = [(programs["rm"], "-f", "--", *plan.removed)] if plan.removed else []
    copied: list[tuple[str, ...]] = [
        (programs["cp"], "--", backup, target) for backup, target in sorted(plan.copies.items())
    ]
    if copied:
        copied.append((programs["sync"], "--", *sorted(plan.copies.values())))
    found = [
        *(("-", *argv) for argv in (*values, *gone)), *values, *gone, *copied,
        (*systemctl, "daemon-reload"), (programs["touch"], "--", plan.mark),
    ]  # fmt: skip
    if plan.own:
        # Last: until here, the next start of the host begins all of this again.
        found.append((programs["rm"], "-f", "--", *plan.own))
    return tuple(found)


def service_text(plan: DeadMan, argvs: Sequence[Sequence[str]]) -> str:
    """The service. It is tried again for an hour (systemd.service(5), Restart= of a oneshot: systemd 244)."""
    lines = (
        f"ExecStart=-{command_line(argv[1:])}" if argv[0] == "-" else f"ExecStart={command_line(argv)}"
        for argv in argvs
    )
    return "\n".join([
        "[Unit]", f"Description={_WHO}{specifiers(plan.rollout)}: restore the old limits", "DefaultDependencies=no",
        "StartLimitIntervalSec=2h", "StartLimitBurst=360", "",
        "[Service]", "Type=oneshot", "TimeoutStartSec=5min", "Restart=on-failure", "RestartSec=10s", *lines, "",
    ])  # fmt: skip


def timer_text(plan: DeadMan) -> str:
    """The timer; `systemctl restart` lets its time begin again (systemd.timer(5), OnActiveSec=)."""
    return "\n".join([
        # Each renewal is a start, and after five in 10s systemd would refuse: then nothing would restore.
        "[Unit]", f"Description={_WHO}{specifiers(plan.rollout)}", "DefaultDependencies=no", "StartLimitIntervalSec=0", "",
        "[Timer]", f"OnActiveSec={plan.seconds:g}s", "AccuracySec=100ms", f"Unit={UNIT}.service", "",
    ])  # fmt: skip


def wanted_text() -> str:
    """The drop-in of timers.target."""
    return f"[Unit]\nWants={UNIT}.timer\n"


def rollout_of(description: str) -> str:
    """The rollout that the timer with this description belongs to; empty for another unit."""
    return description.removeprefix(_WHO) if description.startswith(_WHO) else ""
