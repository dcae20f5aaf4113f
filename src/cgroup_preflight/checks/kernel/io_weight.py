"""CGP119: IOWeight has an effect, through io.cost or through the bfq scheduler of a disk."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unread, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.core.report import Evidence, Finding, Remedy, RemedyFile, Status

CODE = Code("CGP119", "io-weight", Severity.WARNING)
PAGE = Page(
    what="Checks that IOWeight has an effect: through io.cost, or through the bfq scheduler of a disk.",
    fails=(
        "systemd and the kernel accept IOWeight without either of them, and it does nothing. Virtual disks of CI "
        "runners usually have neither."
    ),
    fix="Switch a disk to bfq or enable io.cost, or remove IOWeight.",
    about=("io.weight", "io.cost.qos"),
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files",
        "https://github.com/systemd/systemd/issues/22897",
    ),
)


def _run(context: Context) -> Iterable[Finding]:
    settings = [item for item in context.settings if item.property == "IOWeight"]
    if not settings:
        return (CODE.finding(Status.SKIP, "io", "IOWeight is not used"),)
    disks = context.facts.disks
    unknown = unread(disks.names, *disks.schedulers.values(), disks.io_cost_qos)
    if unknown is not None:
        return (unverified(CODE, "io", unknown),)
    schedulers = {name: item.value for name, item in disks.schedulers.items() if isinstance(item, Known)}
    bfq = [name for name, text in schedulers.items() if "[bfq]" in text]
    cost = "enable=1" in value_or(disks.io_cost_qos, "")
    evidence: Evidence = {
        disks.io_cost_qos.source: value_or(disks.io_cost_qos, "absent").strip() or "empty",
        **{f"/sys/block/{name}/queue/scheduler": text for name, text in sorted(schedulers.items())},
    }  # fmt: skip
    if bfq or cost:
        by = f"bfq on {', '.join(bfq)}" if bfq else "io.cost"
        return (CODE.finding(Status.PASS, "io", f"IOWeight has an effect through {by}", evidence=evidence),)
    remedy = _remedy(sorted(schedulers))
    message = "IOWeight has no effect: no disk uses bfq, and io.cost is off"
    return [
        CODE.finding(Status.WARN, "IOWeight", message, remedy, location=item.location, evidence=evidence)
        for item in settings
    ]


def _remedy(disks: list[str]) -> Remedy:
    if not disks:
        return Remedy(title="remove IOWeight: this host shows no disk", docs=PAGE.sources[0])
    rule = f'ACTION=="add|change", KERNEL=="{disks[0]}", ATTR{{queue/scheduler}}="bfq"\n'
    return Remedy(
        title=f"switch {disks[0]} to bfq, or remove IOWeight", needs_root=True, persistent=True, docs=PAGE.sources[0],
        files=(RemedyFile(path="/etc/udev/rules.d/60-bfq.rules", content=rule),),
        commands=(
            ("modprobe", "bfq"), ("udevadm", "control", "--reload"), ("udevadm", "trigger", f"/sys/block/{disks[0]}"),
        ),
    )  # fmt: skip


CHECK = Check(code=CODE, page=PAGE, needs=("disks",), run=_run)
