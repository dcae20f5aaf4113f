"""CGP102: every required controller is available where units get it."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.boot import add_parameter, remove_parameter
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, RemedyFile, Status
from cgroup_preflight.engines.choice import controllers_of
from cgroup_preflight.host.cgroupfs import of_type

CODE = Code("CGP102", "controllers")
PAGE = Page(
    what=(
        "Checks that every required controller is available where units get it: at the root for the system manager, "
        "at user@UID.service for a user manager."
    ),
    fails=(
        "systemd accepts MemoryMax= and CPUQuota= without the controller and reports no error, so the unit runs "
        "without the limit. Whole words are compared: cpuset is not cpu."
    ),
    fix=(
        "Remove the kernel parameter that disables the controller, delegate it to the user manager, or use another "
        "host."
    ),
    about=("cgroup.controllers", "memory", "cpu", "io", "pids", "delegate"),
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#enabling-and-disabling",
        "https://github.com/systemd/systemd/issues/13347",
    ),
)

_DOCS = "https://docs.kernel.org/admin-guide/cgroup-v2.html#enabling-and-disabling"


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.cgroup_mount, Missing):
        return (CODE.finding(Status.SKIP, "controllers", "no cgroup v2, see CGP101"),)
    offered = facts.user_manager.controllers if context.judged == "user" else controllers_of(facts, context.engine)
    if isinstance(offered, Missing):
        return (unverified(CODE, "controllers", offered),)
    return [_controller(context, name, offered.value, offered.source) for name in context.required]


def _controller(context: Context, name: str, offered: frozenset[str], source: str) -> Finding:
    evidence = {source: " ".join(sorted(offered))}
    if name in offered:
        return CODE.finding(Status.PASS, name, f"{name} is available: {source} lists it", evidence=evidence)
    remedies = (_remedy(context, name),)
    if _is_container_root(context):
        message = f"{name} is missing in {source}, which is the list of this container; the host may have it"
        return CODE.finding(Status.UNVERIFIED, name, message, *remedies, evidence=evidence)
    message = f"{name} is missing in {source}: systemd would accept the limits, but the kernel would never get them"
    return CODE.finding(Status.FAIL, name, message, *remedies, evidence=evidence)


def _is_container_root(context: Context) -> bool:
    """Whether the list is that of a container without a manager: it says nothing about the host."""
    running = value_or(context.facts.systemd_running, default=False)
    # Only the real root has no type.
    return not running and isinstance(context.facts.root.type, Known)


def _remedy(context: Context, name: str) -> Remedy:
    facts = context.facts
    words = value_or(facts.cmdline, "").split()
    disabled = [word for word in words if word.startswith("cgroup_disable=") and _names(word, name)]
    if disabled and name not in value_or(facts.root_controllers, frozenset()):
        return enable_controller(context, disabled[-1], name)
    if _is_container_root(context):
        return Remedy(
            title="run the check on the deploy host itself",
            why="a container has only the controllers that it was given",
            docs=_DOCS,
        )
    if context.judged == "user" and name in value_or(facts.root_controllers, frozenset()):
        return delegate_remedy(value_or(facts.uid, None))
    using = [mount.point for mount in of_type(value_or(facts.mounts, ()), "cgroup") if name in mount.super_options]
    if using:
        return Remedy(title=f"unmount the cgroup v1 hierarchy that uses {name}", commands=(("umount", using[0]),),
                      needs_root=True, docs=_DOCS)  # fmt: skip
    return Remedy(
        title=f"use a host where {name} is available at this level",
        why=f"the kernel is built without it, or a level above keeps {name} out of its cgroup.subtree_control",
        docs=_DOCS,
    )  # fmt: skip


def enable_controller(context: Context, word: str, name: str) -> Remedy:
    """How to enable a controller that `word` of the kernel command line disables."""
    loader = value_or(context.facts.boot_loader, "")
    if loader.endswith("cmdline.txt") and name == "memory":
        # The firmware of a Raspberry Pi adds the parameter itself, in front of what the file has.
        why = "the firmware adds cgroup_disable=memory first; the Raspberry Pi kernel obeys the later parameter"
        return add_parameter(context, f"cgroup_enable={name}", why=why, docs=_DOCS)
    return remove_parameter(context, word, why=f"it disables {name}", docs=_DOCS)


def delegate_remedy(uid: int | None) -> Remedy:
    """How a user manager gets its controllers; it reads the list once, when it starts."""
    unit = f"user@{uid if uid is not None else 'UID'}.service"
    return Remedy(
        title="delegate the controllers to user managers and restart this one",
        why="the default list is memory and pids, since systemd 252 with cpu, and never has cpuset or io; the manager "
        "reads its list once, at start",
        files=(RemedyFile(path="/etc/systemd/system/user@.service.d/50-delegate.conf",
                          content="[Service]\nDelegate=cpu cpuset io memory pids\n"),),
        commands=(("systemctl", "daemon-reload"), ("systemctl", "restart", unit)),
        needs_root=True, persistent=True, docs="https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html",
    )  # fmt: skip


def _names(word: str, name: str) -> bool:
    return name in word.partition("=")[2].split(",")


CHECK = Check(
    code=CODE,
    page=PAGE,
    needs=("cgroup_mount", "root", "user_manager"),
    uses=("systemd_running", "cmdline", "mounts", "boot_loader", "container", "kernel", "uid"),
    run=_run,
)
