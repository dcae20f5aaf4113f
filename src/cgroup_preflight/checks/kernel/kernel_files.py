"""CGP118: The kernel offers memory.peak, cgroup.kill, memory.oom.group and the throttling counters of cpu.stat."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.facts import Sample

_FILES = (("memory", "memory.peak"), ("memory", "memory.oom.group"), ("", "cgroup.kill"))


def _run(check: Check, context: Context) -> Iterable[Finding]:
    sample = context.facts.sample
    if isinstance(context.facts.cgroup_mount, Missing):
        return (check.finding(Status.SKIP, "files", "no cgroup v2, see CGP101"),)
    if isinstance(sample.files, Missing):
        return (check.unverified("files", sample.files),)
    names = sample.files.value
    enabled = {name.partition(".")[0] for name in names if name in ("memory.max", "cpu.max")}
    lacking = [name for controller, name in _FILES if (not controller or controller in enabled) and name not in names]
    if isinstance(sample.cpu_stat, Missing):
        return (check.unverified("files", sample.cpu_stat),)
    if "cpu" in enabled and "nr_throttled" not in sample.cpu_stat.value:
        lacking.append("cpu.stat nr_throttled")
    evidence = {sample.files.source: _seen(sample, names)}
    if not lacking:
        return (check.finding(Status.PASS, "files", "every counter wanted is there", evidence=evidence),)
    remedy = Remedy(title="use a newer kernel", why="without them a report has gaps, the limits still act",
                    docs=check.sources[0])  # fmt: skip
    message = f"this kernel lacks {', '.join(lacking)}"
    return (check.finding(Status.WARN, "files", message, evidence=evidence, remedies=(remedy,)),)


def _seen(sample: Sample, names: tuple[str, ...]) -> str:
    wanted = [name for _, name in _FILES if name in names]
    keys: dict[str, int] = dict(value_or(sample.cpu_stat, {}))
    return " ".join([*wanted, *(f"cpu.stat:{key}" for key in keys if key.startswith("nr_"))])


CHECK = Check(
    code="CGP118",
    name="kernel-files",
    severity=Severity.WARNING,
    needs=("cgroup_mount", "sample"),
    what="The kernel offers memory.peak, cgroup.kill, memory.oom.group and the throttling counters of cpu.stat.",
    why=(
        "Each is tested by its presence in a cgroup that systemd made, since distributions backport; without "
        "memory.peak the peak of a service is not known."
    ),
    remedy="Use a newer kernel: memory.peak came with 5.19, cgroup.kill with 5.14.",
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files",
    ),
    run=_run,
)
