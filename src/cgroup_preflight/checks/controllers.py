"""CGP102: every required controller is offered at the place from which units get it."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.engines import controllers_of
from cgroup_preflight.reading import Missing, value_or
from cgroup_preflight.report import Finding, Remedy, RemedyFile, Status

_DOCS = "https://docs.kernel.org/admin-guide/cgroup-v2.html#enabling-and-disabling"


def _run(check: Check, context: Context) -> Iterable[Finding]:
    if isinstance(context.facts.cgroup_mount, Missing):
        return (check.finding(Status.SKIP, "controllers", "no cgroup v2, see CGP101"),)
    offered = controllers_of(context.facts, context.engine)
    if isinstance(offered, Missing):
        return (check.unverified("controllers", offered),)
    return [_controller(check, context, name, offered.value, offered.source) for name in context.required]


def _controller(check: Check, context: Context, name: str, offered: frozenset[str], source: str) -> Finding:
    evidence = {"file": source, "value": " ".join(sorted(offered))}
    if name in offered:
        return check.finding(Status.PASS, name, f"{name} is offered in {source}", evidence=evidence)
    message = f"{name} is missing in {source}: systemd would accept the limits, the kernel never gets them"
    return check.finding(Status.FAIL, name, message, evidence=evidence, remedies=(_remedy(context, name),))


def _remedy(context: Context, name: str) -> Remedy:
    words = value_or(context.facts.cmdline, "").split()
    disabled = [word for word in words if word.startswith(("cgroup_disable=", "cgroup_no_v1=")) and _names(word, name)]
    if disabled and disabled[-1].startswith("cgroup_disable="):
        return Remedy(
            title=f"remove {disabled[-1]} from the kernel command line and reboot", why=f"it switches {name} off",
            needs_root=True, persistent=True, docs=_DOCS,
        )  # fmt: skip
    if context.engine.name == "user" and name in value_or(context.facts.root_controllers, frozenset()):
        return delegate_remedy(value_or(context.facts.uid, None))
    held = [mount.point for mount in value_or(context.facts.mounts, ()) if mount.fs_type == "cgroup" and name in mount.super_options]
    if held:
        return Remedy(title=f"unmount the cgroup v1 mount that holds {name}", commands=(("umount", held[0]),),
                      needs_root=True, docs=_DOCS)  # fmt: skip
    return Remedy(
        title=f"use a host whose kernel offers {name} to this place",
        why=f"the kernel is built without it, or a level above keeps {name} out of its cgroup.subtree_control",
        docs=_DOCS,
    )  # fmt: skip


def delegate_remedy(uid: int | None) -> Remedy:
    """How a user manager gets its controllers; it reads its list once, at its own start."""
    unit = f"user@{uid if uid is not None else 'UID'}.service"
    return Remedy(
        title="delegate the controllers to user managers and restart this one",
        why="the default list has no cpu before systemd 252; the manager reads its list once, at start",
        files=(RemedyFile(path="/etc/systemd/system/user@.service.d/50-delegate.conf",
                          content="[Service]\nDelegate=cpu cpuset io memory pids\n"),),
        commands=(("systemctl", "daemon-reload"), ("systemctl", "restart", unit)),
        needs_root=True, persistent=True, docs="https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html",
    )  # fmt: skip


def _names(word: str, name: str) -> bool:
    return name in word.partition("=")[2].split(",")


CHECK = Check(
    code="CGP102",
    name="controllers",
    severity=Severity.ERROR,
    needs=("root_controllers", "user_manager", "cmdline", "mounts"),
    what='Every required controller is offered at the place from which units get it: the root for the system manager, user@UID.service for a user manager.',
    why='systemd accepts MemoryMax= and CPUQuota= without the controller, and says nothing. Words are compared whole: cpuset is not cpu.',
    remedy='Remove the kernel parameter that switches it off, delegate it to the user manager, or use another host.',
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#enabling-and-disabling", "https://github.com/systemd/systemd/issues/13347",),
    run=_run,
)
