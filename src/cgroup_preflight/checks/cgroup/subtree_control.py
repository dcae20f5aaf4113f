"""CGP110: every required controller is enabled in each cgroup.subtree_control on the path to the units."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.cgroup.controllers import delegate_remedy
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.cgroupfs import CgroupReading

CODE = Code("CGP110", "subtree-control")
PAGE = Page(
    what="Checks that every required controller is enabled in each cgroup.subtree_control on the path to the units.",
    fails=(
        "A controller that the root lists in cgroup.controllers can be missing at any level below. The system "
        "manager enables controllers on demand at the root, a user manager below its own service; between them only "
        "the level above can."
    ),
    fix="Delegate the controller, or remove DisableControllers= at the level that the message names.",
    about=("delegate",),
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#top-down-constraint",
        "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html#DisableControllers=",
    ),
)


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (CODE.finding(Status.SKIP, "controllers", "no cgroup v2, see CGP101"),)
    if context.engine.place is not None:
        message = f"the engine cgroupfs enables them itself below {context.engine.place.path or '/'}"
        return (CODE.finding(Status.SKIP, "controllers", message),)
    if context.judged != "user":
        return _system(context)
    if isinstance(facts.disabled_controllers, Missing):
        return (unverified(CODE, "controllers", facts.disabled_controllers),)
    above = facts.user_manager.levels[:-1]
    kept_out = [item for name in context.required for item in _kept_out(context, name)]
    return kept_out or [_way(context, name, above) for name in context.required]


def _system(context: Context) -> Iterable[Finding]:
    """PID 1 enables a controller when a unit needs it, unless DisableControllers= forbids it for a slice."""
    facts = context.facts
    running, control, kept_out = facts.systemd_running, facts.root.subtree_control, facts.disabled_controllers
    if isinstance(running, Missing):
        return (unverified(CODE, "controllers", running),)
    if not running.value:
        return (CODE.finding(Status.SKIP, "controllers", "no systemd here to enable them, see CGP103"),)
    for reading in (control, kept_out):
        if isinstance(reading, Missing):
            return (unverified(CODE, "controllers", reading),)
    findings = [item for name in context.required for item in _kept_out(context, name)]
    enabled = value_or(control, frozenset())
    waiting = [name for name in context.required if name not in enabled]
    later = f"; PID 1 enables {', '.join(waiting)} when a unit needs it" if waiting else ""
    evidence = {control.source: " ".join(sorted(enabled)), f"DisableControllers {kept_out.source}": "none required"}
    message = f"enabled at the root: {' '.join(sorted(enabled)) or 'none'}{later}"
    return findings or [CODE.finding(Status.PASS, "controllers", message, evidence=evidence)]


def _kept_out(context: Context, name: str) -> Iterable[Finding]:
    """What systemd disables when it next touches the slice, even if the kernel still has it enabled."""
    slices = ["-.slice"]
    if context.judged == "user":
        slices.append("user.slice")
    elif context.plan is not None and any(not item.slices for item in context.plan.services):
        slices.append("system.slice")
    kept_out = context.facts.disabled_controllers
    for unit in slices:
        names = value_or(kept_out, {}).get(unit, frozenset())
        if name in names:
            evidence = {f"{kept_out.source} {unit} DisableControllers": " ".join(sorted(names))}
            message = f"DisableControllers= of {unit} disables {name} for every unit below it"
            yield CODE.finding(Status.FAIL, name, message, _drop(unit), evidence=evidence)


def _drop(unit: str) -> Remedy:
    return Remedy(
        title=f"remove DisableControllers= from {unit}",
        needs_root=True,
        persistent=True,
        commands=(("systemctl", "cat", "--", unit), ("systemctl", "edit", "--", unit)),
    )


def _way(context: Context, name: str, above: tuple[CgroupReading, ...]) -> Finding:
    for level in above:
        control = level.subtree_control
        if isinstance(control, Missing):
            return unverified(CODE, name, control)
        if name not in control.value:
            evidence = {control.source: " ".join(sorted(control.value))}
            message = f"{name} is not available below {level.path or 'the root'}: {control.source} does not enable it"
            return CODE.finding(Status.FAIL, name, message, _remedy(context, level, name), evidence=evidence)
    last = above[-1].subtree_control
    evidence = {last.source: " ".join(sorted(last.value))} if isinstance(last, Known) else {}
    return CODE.finding(Status.PASS, name, f"{name} is enabled on every level down to the manager", evidence=evidence)


def _remedy(context: Context, level: CgroupReading, name: str) -> Remedy:
    # PID 1 enables a controller at the root, too, as soon as it delegates it (systemd 258 boots without cpu there).
    if level.path.startswith("/user.slice") or name in value_or(context.facts.root_controllers, frozenset()):
        return delegate_remedy(value_or(context.facts.uid, None))
    unit = level.path.rpartition("/")[2] or "-.slice"
    return Remedy(
        title=f"find out why {level.path or 'the root'} does not have it (CGP102)",
        needs_root=True,
        commands=(("systemctl", "show", "-p", "DisableControllers", "--", unit, "user.slice"),),
    )


CHECK = Check(
    code=CODE,
    page=PAGE,
    needs=("cgroup_mount", "user_manager", "root", "systemd_running", "disabled_controllers"),
    uses=("uid",),
    run=_run,
)
