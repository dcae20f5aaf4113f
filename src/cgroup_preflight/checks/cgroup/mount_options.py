"""CGP107: the cgroup2 mount has the options nsdelegate and memory_recursiveprot."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP107", "mount-options", Severity.WARNING)
PAGE = Page(
    what="Checks that the cgroup2 mount has the options nsdelegate and memory_recursiveprot.",
    fails=(
        "Without nsdelegate a delegated subtree can change its own limits. Without memory_recursiveprot the "
        "MemoryMin= and MemoryLow= of a slice do not protect its services. systemd sets both since 247."
    ),
    fix="Remount with the options, or let systemd mount the hierarchy.",
    about=("memory.min", "memory.low"),
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting",),
)

_WANTED = ("nsdelegate", "memory_recursiveprot")


def _run(context: Context) -> Iterable[Finding]:
    mount = context.facts.cgroup_mount
    if isinstance(mount, Missing):
        return (CODE.finding(Status.SKIP, "mount", "no cgroup v2, see CGP101"),)
    options = mount.value.super_options
    evidence = {mount.source: f"{mount.value.point} {','.join(options)}"}
    lacking = [name for name in _WANTED if name not in options]
    if not lacking:
        return (CODE.finding(Status.PASS, "mount", f"{' and '.join(_WANTED)} are set", evidence=evidence),)
    remedy = Remedy(
        title=f"remount with {', '.join(lacking)}",
        needs_root=True,
        commands=(("mount", "-o", f"remount,{','.join([*lacking, *_others(options)])}", mount.value.point),),
        why="the options apply to the whole host, so remount outside of containers",
        docs=PAGE.sources[0],
    )
    message = f"the mount at {mount.value.point} lacks {', '.join(lacking)}"
    return (CODE.finding(Status.WARN, "mount", message, remedy, evidence=evidence),)


def _others(options: tuple[str, ...]) -> list[str]:
    """A remount drops the options it does not name."""
    return [name for name in options if name not in ("rw", "ro")]


CHECK = Check(code=CODE, page=PAGE, needs=("cgroup_mount",), run=_run)
