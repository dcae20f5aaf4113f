"""CGP105: a service manager can start units here: the system manager, or a user manager with delegation."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.checks.cgroup.controllers import delegate_remedy
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status
from cgroup_preflight.engines.choice import does_not_answer

CODE = Code("CGP105", "engine")
PAGE = Page(
    what=(
        "Checks that this job can start units with the required limits: through the system manager (as root or with "
        "sudo -n), through a user manager with delegation, or by itself below a cgroup that was delegated to it."
    ),
    fails=(
        "No service can be tested here. Each manager has its own list of controllers; the message says why each one "
        "cannot be used."
    ),
    fix="Run as root, allow sudo without a password, or enable lingering and delegation for the user.",
    about=("delegate", "linger", "sudo"),
    sources=(
        "https://systemd.io/CGROUP_DELEGATION/",
        "https://www.freedesktop.org/software/systemd/man/latest/loginctl.html",
    ),
)

_RECORD = Remedy(
    title="record the host itself: run cgroup-preflight snapshot there",
    why="a mounted tree or an older recording does not show whether systemd answers",
)
_ASK = Remedy(title="find out why systemd does not answer", commands=(("systemctl", "status"),))


def _run(context: Context) -> Iterable[Finding]:
    choice = context.engine
    evidence: Evidence = {**_seen(context), **dict(choice.reasons)}
    if choice.name is not None:
        way = " through sudo -n" if choice.sudo else ""
        better = f" (rejected: {choice.why_not})" if choice.reasons else ""
        if choice.place is not None:
            message = f"this tool makes cgroups itself below {choice.place.path or '/'}{better}"
            return (CODE.finding(Status.PASS, choice.name, message, evidence=evidence),)
        message = f"the {'system' if choice.name == 'systemd' else 'user'} manager starts the units{way}{better}"
        return (CODE.finding(Status.PASS, choice.name, message, evidence=evidence),)
    # A manager that cannot give the limits makes the host wrong; without any manager nothing was tested.
    status = Status.FAIL if context.undelegated or choice.lacking_at else Status.UNVERIFIED
    message = f"no service manager here can start units with these limits: {choice.why_not}"
    return (CODE.finding(status, "engine", message, _remedy(context), evidence=evidence),)


def _seen(context: Context) -> Evidence:
    facts = context.facts
    readings: list[Reading[bool] | Reading[int] | Reading[str]] = [
        facts.systemd_running, facts.system_state, facts.uid, facts.sudo,
    ]  # fmt: skip
    return {item.source: item.value for item in readings if isinstance(item, Known)}


def _remedy(context: Context) -> Remedy:
    facts = context.facts
    if context.engine.lacking_at:
        return Remedy(
            title=f"enable these controllers for {context.engine.lacking_at}: the cgroup above needs them in cgroup.subtree_control",
            why="a controller reaches a cgroup only if each cgroup above enables it for its children",
            docs="https://docs.kernel.org/admin-guide/cgroup-v2.html",
        )  # fmt: skip
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
        why=f"a lingering user manager runs without a session; the job then needs XDG_RUNTIME_DIR=/run/user/{number}",
        needs_root=True, persistent=True,
        docs="https://www.freedesktop.org/software/systemd/man/latest/loginctl.html",
    )  # fmt: skip


CHECK = Check(
    code=CODE,
    page=PAGE,
    needs=("uid", "sudo", "user_manager", "systemd_running", "system_state", "cgroup_mount"),
    run=_run,
)
