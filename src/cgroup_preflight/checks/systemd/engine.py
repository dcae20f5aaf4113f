"""CGP105: somebody can start units here: the system manager, or a user manager with delegation."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.checks.cgroup.controllers import delegate_remedy
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status
from cgroup_preflight.engines.choice import does_not_answer

_RECORD = Remedy(
    title="record the host itself: run cgroup-preflight snapshot there",
    why="whether systemd answers is not in its files: a mounted tree, or an older recording, does not tell",
)
_ASK = Remedy(title="ask systemd, and mend what keeps it from answering", commands=(("systemctl", "status"),))


def _run(check: Check, context: Context) -> Iterable[Finding]:
    choice = context.engine
    evidence: Evidence = {**_seen(context), **dict(choice.reasons)}
    if choice.name is not None:
        way = " through sudo -n" if choice.sudo else ""
        better = f"; not {choice.why_not}" if choice.reasons else ""
        message = f"units are started by the {'system' if choice.name == 'systemd' else 'user'} manager{way}{better}"
        return (check.finding(Status.PASS, choice.name, message, evidence=evidence),)
    # A manager that is there but cannot give the limits is a wrong host; none at all is an untried one.
    status = Status.FAIL if context.undelegated else Status.UNVERIFIED
    message = f"nobody can start units with these limits here: {choice.why_not}"
    return (check.finding(status, "engine", message, evidence=evidence, remedies=(_remedy(context),)),)


def _seen(context: Context) -> Evidence:
    facts = context.facts
    readings: list[Reading[bool] | Reading[int] | Reading[str]] = [
        facts.systemd_running, facts.system_state, facts.uid, facts.sudo,
    ]  # fmt: skip
    return {item.source: item.value for item in readings if isinstance(item, Known)}


def _remedy(context: Context) -> Remedy:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing) or not value_or(facts.systemd_running, default=False):
        return Remedy(title="use a host with cgroup v2 and systemd as PID 1", why="see CGP101 and CGP103")
    uid = value_or(facts.uid, None)
    if context.undelegated:
        return delegate_remedy(uid)
    if isinstance(facts.system_state, Missing) and facts.system_state.why is Why.NOT_RECORDED:
        return _RECORD
    if does_not_answer(facts):
        return _ASK
    number = str(uid) if uid is not None else "UID"
    return Remedy(
        title="run as root, allow sudo without a password, or keep a user manager running",
        commands=(("loginctl", "enable-linger", number),),
        why=f"a lingering user manager runs without a session; the job then wants XDG_RUNTIME_DIR=/run/user/{number}",
        needs_root=True, persistent=True,
        docs="https://www.freedesktop.org/software/systemd/man/latest/loginctl.html",
    )  # fmt: skip


CHECK = Check(
    code="CGP105",
    name="engine",
    severity=Severity.ERROR,
    needs=("uid", "sudo", "user_manager", "systemd_running", "system_state", "cgroup_mount"),
    what=(
        "Somebody can start units with the limits here: the system manager (as root or by sudo -n) or a user "
        "manager with delegation."
    ),
    why=(
        "Each engine has a list of controllers of its own; the verdict is about the one that will be used, and "
        "says why the better ones cannot be."
    ),
    remedy="Run as root, allow sudo without a password, or enable lingering and delegation for the user.",
    sources=(
        "https://systemd.io/CGROUP_DELEGATION/",
        "https://www.freedesktop.org/software/systemd/man/latest/loginctl.html",
    ),
    run=_run,
)
