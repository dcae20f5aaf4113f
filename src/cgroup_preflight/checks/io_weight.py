"""CGP119: Where IOWeight is used, something makes it act: io.cost, or the bfq scheduler on a disk."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.reading import Known, value_or
from cgroup_preflight.report import Evidence, Finding, Remedy, Status

def _run(check: Check, context: Context) -> Iterable[Finding]:
    settings = [item for item in context.settings if item.property == "IOWeight"]
    if not settings:
        return (check.finding(Status.SKIP, "io", "IOWeight is not used"),)
    disks = context.facts.disks
    names = value_or(context.facts.sample.files, ())
    schedulers = {name: item.value for name, item in disks.schedulers.items() if isinstance(item, Known)}
    bfq = [name for name, text in schedulers.items() if "[bfq]" in text]
    cost = "enable=1" in value_or(disks.io_cost_qos, "")
    evidence: Evidence = {
        "io.weight": "io.weight" in names, "io.bfq.weight": "io.bfq.weight" in names, "io.cost enabled": cost,
        **{f"/sys/block/{name}/queue/scheduler": text for name, text in sorted(schedulers.items())},
    }  # fmt: skip
    if bfq or cost:
        by = f"bfq on {', '.join(bfq)}" if bfq else "io.cost"
        return (check.finding(Status.PASS, "io", f"IO weights act through {by}", evidence=evidence),)
    disk = next(iter(sorted(schedulers)), "DISK")
    remedy = Remedy(
        title=f"switch {disk} to bfq, or remove IOWeight", needs_root=True, docs=check.sources[0],
        commands=(("sh", "-c", f"echo bfq > /sys/block/{disk}/queue/scheduler"),),
    )
    message = "IOWeight has no effect: no disk uses bfq, and io.cost is off"
    return [
        check.finding(Status.WARN, "IOWeight", message, evidence=evidence, remedies=(remedy,), location=item.location)
        for item in settings
    ]


CHECK = Check(
    code="CGP119",
    name="io-weight",
    severity=Severity.WARNING,
    needs=("sample", "disks"),
    what='Where IOWeight is used, something makes it act: io.cost, or the bfq scheduler on a disk.',
    why='IOWeight is accepted and silent without either; virtual disks of CI runners have neither as a rule.',
    remedy='Switch a disk to bfq or enable io.cost, or remove IOWeight.',
    sources=("https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files", "https://github.com/systemd/systemd/issues/22897",),
    run=_run,
)
