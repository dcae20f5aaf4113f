"""CGP107: The cgroup2 mount has the options nsdelegate and memory_recursiveprot."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status

_WANTED = ("nsdelegate", "memory_recursiveprot")


def _run(check: Check, context: Context) -> Iterable[Finding]:
    mount = context.facts.cgroup_mount
    if isinstance(mount, Missing):
        return (check.finding(Status.SKIP, "mount", "no cgroup v2, see CGP101"),)
    options = mount.value.super_options
    evidence = {mount.source: f"{mount.value.point} {','.join(options)}"}
    lacking = [name for name in _WANTED if name not in options]
    if not lacking:
        return (check.finding(Status.PASS, "mount", f"{' and '.join(_WANTED)} are set", evidence=evidence),)
    remedy = Remedy(
        title=f"remount with {', '.join(lacking)}",
        needs_root=True,
        commands=(("mount", "-o", f"remount,{','.join([*lacking, *_others(options)])}", mount.value.point),),
        why="the option is set for the whole host, so only from outside of containers",
        docs=check.sources[0],
    )
    message = f"the mount at {mount.value.point} lacks {', '.join(lacking)}"
    return (check.finding(Status.WARN, "mount", message, evidence=evidence, remedies=(remedy,)),)


def _others(options: tuple[str, ...]) -> list[str]:
    """A remount drops the options it does not name."""
    return [name for name in options if name not in ("rw", "ro")]


CHECK = Check(
    code="CGP107",
    name="mount-options",
    severity=Severity.WARNING,
    needs=("cgroup_mount",),
    what="The cgroup2 mount has the options nsdelegate and memory_recursiveprot.",
    why=(
        "Without nsdelegate a delegated subtree can change its own limits; without memory_recursiveprot MemoryMin= "
        "and MemoryLow= of a slice do not reach its services. systemd sets both since 247."
    ),
    remedy="Remount with the options, or let systemd mount the hierarchy.",
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting",),
    run=_run,
)
