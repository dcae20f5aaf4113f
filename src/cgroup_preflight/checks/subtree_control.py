"""CGP110: Every required controller is enabled in each cgroup.subtree_control on the way to where units are created."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.checks.controllers import delegate_remedy
from cgroup_preflight.facts.model import Level
from cgroup_preflight.reading import Known, Missing, value_or
from cgroup_preflight.report import Finding, Remedy, Status

def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (check.finding(Status.SKIP, "controllers", "no cgroup v2, see CGP101"),)
    if context.engine.name != "user":
        return _system(check, context)
    above = facts.user_manager.levels[:-1]
    return [_way(check, context, name, above) for name in context.required]


def _system(check: Check, context: Context) -> Iterable[Finding]:
    control = context.facts.root_subtree_control
    if isinstance(control, Missing):
        return (check.unverified("controllers", control),)
    waiting = [name for name in context.required if name not in control.value]
    later = f"; PID 1 enables {', '.join(waiting)} when a unit asks for it" if waiting else ""
    evidence = {control.source: " ".join(sorted(control.value))}
    message = f"enabled at the root: {' '.join(sorted(control.value)) or 'none'}{later}"
    return (check.finding(Status.PASS, "controllers", message, evidence=evidence),)


def _way(check: Check, context: Context, name: str, above: tuple[Level, ...]) -> Finding:
    for level in above:
        control = level.subtree_control
        if isinstance(control, Missing):
            return check.unverified(name, control)
        if name not in control.value:
            evidence = {control.source: " ".join(sorted(control.value))}
            message = f"{name} ends at {level.path or 'the root'}: {control.source} does not enable it"
            return check.finding(Status.FAIL, name, message, evidence=evidence, remedies=(_remedy(context, level),))
    last = above[-1].subtree_control if above else context.facts.root_subtree_control
    evidence = {last.source: " ".join(sorted(last.value))} if isinstance(last, Known) else {}
    return check.finding(Status.PASS, name, f"{name} is enabled on every level down to the manager", evidence=evidence)


def _remedy(context: Context, level: Level) -> Remedy:
    if level.path.startswith("/user.slice"):
        return delegate_remedy(value_or(context.facts.uid, None))
    return Remedy(
        title=f"find what keeps it out of {level.path or 'the root'}", needs_root=True,
        commands=(("systemctl", "show", "-p", "DisableControllers", "user.slice"),),
    )


CHECK = Check(
    code="CGP110",
    name="subtree-control",
    severity=Severity.ERROR,
    needs=("user_manager", "root_controllers", "root_subtree_control"),
    what='Every required controller is enabled in each cgroup.subtree_control on the way to where units are created.',
    why='A controller in cgroup.controllers at the root can end at any level below. The system manager enables controllers on demand at the root, a user manager below its own service; on the way between only the level above can.',
    remedy='Delegate the controller, or drop DisableControllers= at the level named.',
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#top-down-constraint", "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html#DisableControllers=",),
    run=_run,
)
