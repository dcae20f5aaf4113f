"""CGP101: cgroup v2 is mounted where services will run."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.facts.mountinfo import Mount, of_type
from cgroup_preflight.reading import Missing, Why, value_or
from cgroup_preflight.report import Finding, Remedy, Status

_DOCS = "https://systemd.io/CGROUP_DELEGATION/"


def _run(check: Check, context: Context) -> Iterable[Finding]:
    facts = context.facts
    if isinstance(facts.mounts, Missing):
        return (check.unverified("hierarchy", facts.mounts),)
    mounts = facts.mounts.value
    if isinstance(facts.cgroup_mount, Missing):
        if facts.cgroup_mount.why is not Why.ABSENT:
            return (check.unverified("hierarchy", facts.cgroup_mount),)
        return (_failed(check, mounts, value_or(facts.systemd_version, None)),)
    mount = facts.cgroup_mount.value
    evidence = {"mount": mount.point, "type": mount.fs_type, "options": ",".join(mount.options)}
    return (check.finding(Status.PASS, "hierarchy", f"cgroup v2 is mounted at {mount.point}", evidence=evidence),)


def hierarchy_name(mounts: tuple[Mount, ...]) -> str:
    """`hybrid`, `legacy` or `none`, for a host without the unified hierarchy at its place."""
    if of_type(mounts, "cgroup"):
        return "hybrid" if of_type(mounts, "cgroup2") else "legacy"
    return "none"


def _failed(check: Check, mounts: tuple[Mount, ...], version: int | None) -> Finding:
    kind = hierarchy_name(mounts)
    words = {
        "hybrid": "the hierarchy is hybrid: controllers are on cgroup v1, v2 holds none for services",
        "legacy": "only cgroup v1 is mounted",
        "none": "no cgroup file system is mounted",
    }
    points = " ".join(mount.point for mount in of_type(mounts, "cgroup"))
    evidence = {"hierarchy": kind, "v1 mounts": points, "v2 mounts": " ".join(m.point for m in of_type(mounts, "cgroup2"))}
    return check.finding(Status.FAIL, "hierarchy", words[kind], evidence=evidence, remedies=(_remedy(kind, version),))


def _remedy(kind: str, version: int | None) -> Remedy:
    if kind == "none":
        return Remedy(
            title="mount cgroup v2 (normally the init system's job)", needs_root=True,
            commands=(("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"),), docs=_DOCS,
        )  # fmt: skip
    parameter = "systemd.unified_cgroup_hierarchy=1"
    why = "systemd up to 257 chooses the hierarchy at boot; from 258 there is only v2"
    if version is None:
        why = "inside a container or sandbox this is decided by the host below; " + why
    return Remedy(
        title=f"boot the host with the kernel parameter {parameter}", why=why, needs_root=True, persistent=True,
        commands=(
            ("sed", "-i", f's/^GRUB_CMDLINE_LINUX="/&{parameter} /', "/etc/default/grub"), ("update-grub",), ("reboot",),
        ),
        docs=_DOCS,
    )  # fmt: skip


CHECK = Check(
    code="CGP101",
    name="hierarchy",
    severity=Severity.ERROR,
    needs=("mounts", "cgroup_mount", "systemd_version"),
    what='cgroup v2 is mounted where services will run: the file system at /sys/fs/cgroup is of type cgroup2.',
    why='On a hybrid or legacy host the controllers are on cgroup v1, and every v2 limit is accepted and lost. The existence of a file proves nothing: hybrid hosts have cgroup2 at /sys/fs/cgroup/unified.',
    remedy='Boot with systemd.unified_cgroup_hierarchy=1 (systemd up to 257), or use a host with systemd 258 or later.',
    sources=("https://systemd.io/CGROUP_DELEGATION/", "https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting",),
    run=_run,
)
