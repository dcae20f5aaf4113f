"""CGP101: cgroup v2 is mounted where services will run."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unread, unverified
from cgroup_preflight.checks.boot import add_parameter, remove_parameter
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status
from cgroup_preflight.host import boot
from cgroup_preflight.host.cgroupfs import Mount, of_type

CODE = Code("CGP101", "hierarchy")
PAGE = Page(
    what="Checks that cgroup v2 is mounted where services run: /sys/fs/cgroup has the file system type cgroup2.",
    fails=(
        "On a hybrid or legacy host cgroup v1 has the controllers: systemd accepts every v2 limit, and the kernel "
        "never gets it. The existence of a file proves nothing, because hybrid hosts have cgroup2 at "
        "/sys/fs/cgroup/unified."
    ),
    fix="Boot with systemd.unified_cgroup_hierarchy=1 (systemd 226 to 257), or use a host with a newer systemd.",
    about=("cgroup2", "v1", "v2", "hybrid", "legacy", "unified"),
    sources=("https://systemd.io/CGROUP_DELEGATION/", "https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting"),
)

_DOCS = "https://systemd.io/CGROUP_DELEGATION/"
_NSPAWN = "https://systemd.io/ENVIRONMENT/"
_ASKED = "systemd.unified_cgroup_hierarchy="
_UNIFIED = f"{_ASKED}1"
#: systemd's first version with cgroup v2 and that parameter, and the first one that knows nothing else.
_FIRST_UNIFIED, _ONLY_UNIFIED = 226, 258
_V1_CONTROLLERS = frozenset((
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio",
    "perf_event", "pids", "rdma",
))  # fmt: skip
_SHOW_IT = Remedy(
    title="run the job where it sees /sys/fs/cgroup as the host does",
    why="a sandbox (bubblewrap, ProtectControlGroups=, a mount namespace of its own) hides it", docs=_DOCS,
)  # fmt: skip
_WORDS = {
    "hybrid": "the hierarchy is hybrid: cgroup v1 has the controllers, v2 has none for services",
    "legacy": "only cgroup v1 is mounted",
    "none": "no cgroup file system is mounted",
}
_NO_CONTROLLERS = "cgroup v2 is not mounted at /sys/fs/cgroup, and no cgroup v1 mount has a controller"


def _run(context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.mounts, Missing):
        return (unverified(CODE, "hierarchy", facts.mounts),)
    if isinstance(facts.cgroup_mount, Missing):
        if facts.cgroup_mount.why is not Why.ABSENT:
            return (unverified(CODE, "hierarchy", facts.cgroup_mount),)
        return (_without(context, facts.mounts.value, facts.mounts.source),)
    mount = facts.cgroup_mount.value
    evidence = {facts.mounts.source: f"{mount.point} {mount.fs_type} {','.join(mount.options)}"}
    return (CODE.finding(Status.PASS, "hierarchy", f"cgroup v2 is mounted at {mount.point}", evidence=evidence),)


def hierarchy_name(mounts: tuple[Mount, ...]) -> str:
    """`hybrid`, `legacy` or `none`, for a host without the unified hierarchy at its usual place."""
    if of_type(mounts, "cgroup"):
        return "hybrid" if of_type(mounts, "cgroup2") else "legacy"
    return "none"


def _without(context: Context, mounts: tuple[Mount, ...], source: str) -> Finding:
    kind, facts = hierarchy_name(mounts), context.facts
    seen = [f"{mount.point} {mount.fs_type}" for mount in mounts if mount.fs_type in ("cgroup", "cgroup2")]
    evidence: Evidence = {source: ", ".join(seen) or "no cgroup mount", "hierarchy": kind}
    manager = facts.manager_mount
    if isinstance(manager, Known):
        evidence = {**evidence, manager.source: f"{manager.value.point} {manager.value.fs_type}"}
        message = f"this job does not see the cgroup v2 mount that systemd (PID 1) uses at {manager.value.point}"
        return CODE.finding(Status.UNVERIFIED, "hierarchy", message, _SHOW_IT, evidence=evidence)
    if kind == "none" and value_or(facts.systemd_running, default=False) and (unknown := unread(manager)):
        return unverified(CODE, "hierarchy", unknown)
    words = _WORDS[kind] if kind != "hybrid" or _has_controllers(mounts) else _NO_CONTROLLERS
    return CODE.finding(Status.FAIL, "hierarchy", words, _remedy(context, kind), evidence=evidence)


def _remedy(context: Context, kind: str) -> Remedy:
    if kind == "none":
        return Remedy(
            title="mount cgroup v2 (normally the init system does this)", needs_root=True,
            commands=(("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"),), docs=_DOCS,
        )  # fmt: skip
    if value_or(context.facts.container, "") == "systemd-nspawn":
        return Remedy(
            title="start the container with cgroup v2: SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn",
            why="systemd-nspawn uses v1 if it finds no systemd, or an old one, in the container's files", docs=_NSPAWN,
        )  # fmt: skip
    if value_or(context.facts.boot_loader, "") == boot.WSL:
        why = "older WSL mounts cgroup v1 before systemd starts"
        return add_parameter(context, "cgroup_no_v1=all", why=why, docs=_DOCS)
    facts = context.facts
    running = value_or(facts.systemd_running, default=False)
    if running and (remedy := _of_version(value_or(facts.systemd_version, None))) is not None:
        return remedy
    words = value_or(facts.cmdline, "").split()
    off = [word for word in words if word.startswith(_ASKED) and boot.is_off(word.removeprefix(_ASKED))]
    if off:
        return remove_parameter(context, off[-1], why="it asks systemd for cgroup v1 (up to 257)", docs=_DOCS)
    if not _has_controllers(value_or(facts.mounts, ())):
        return Remedy(title="make the init system mount cgroup v2 at /sys/fs/cgroup", needs_root=True,
                      persistent=True, docs=_DOCS)  # fmt: skip
    if not running and value_or(facts.container, "none") == "none":
        return Remedy(title="use a host with cgroup v2 and systemd as PID 1", why="see CGP103", docs=_DOCS)
    why = "systemd 226 to 257 chooses the hierarchy at boot; from 258 there is only v2"
    return add_parameter(context, _UNIFIED, why=why, docs=_DOCS)


def _of_version(version: int | None) -> Remedy | None:
    """The remedy where systemd is too old for v2, or so new that its kernel parameter does nothing (systemd NEWS)."""
    if version is None or _FIRST_UNIFIED <= version < _ONLY_UNIFIED:
        return None
    if version < _FIRST_UNIFIED:
        return Remedy(title=f"use a host with systemd {_FIRST_UNIFIED} or later",
                      why=f"systemd {version} cannot use cgroup v2", docs=_DOCS)  # fmt: skip
    return Remedy(
        title="find out what mounts cgroup v1 before systemd starts, and remove it", needs_root=True, docs=_DOCS,
        why=f"systemd {version} knows only cgroup v2 and ignores {_ASKED}", commands=(("findmnt", "-t", "cgroup"),),
    )  # fmt: skip


def _has_controllers(mounts: tuple[Mount, ...]) -> bool:
    """Whether any cgroup v1 mount has a controller; the one of an init system has a name only."""
    return any(_V1_CONTROLLERS.intersection(mount.super_options) for mount in of_type(mounts, "cgroup"))


CHECK = Check(
    code=CODE,
    page=PAGE,
    needs=("mounts", "cgroup_mount"),
    uses=("manager_mount", "boot_loader", "cmdline", "container", "kernel", "systemd_running", "systemd_version"),
    run=_run,
)
