"""CGP118: the kernel has memory.peak, cgroup.kill, memory.oom.group and the throttling counters of cpu.stat."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Missing, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.facts import Sample

CODE = Code("CGP118", "kernel-files", Severity.WARNING)
PAGE = Page(
    what=(
        "Checks that the kernel has memory.peak, cgroup.kill, memory.oom.group and the throttling counters of cpu.stat."
    ),
    fails=(
        "A report has gaps: without memory.peak the peak of a service is unknown. Limits still act. Each file is "
        "looked for in a cgroup of systemd, because distributions backport features."
    ),
    fix="Use a newer kernel: memory.peak came with 5.19, cgroup.kill with 5.14.",
    sources=(
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
        "https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files",
    ),
)

_FILES = (("memory", "memory.peak"), ("memory", "memory.oom.group"), ("", "cgroup.kill"))


def _run(context: Context) -> Iterable[Finding]:
    sample = context.facts.sample
    if isinstance(context.facts.cgroup_mount, Missing):
        return (CODE.finding(Status.SKIP, "files", "no cgroup v2, see CGP101"),)
    if isinstance(sample.files, Missing):
        return (unverified(CODE, "files", sample.files),)
    names = sample.files.value
    enabled = {name.partition(".")[0] for name in names if name in ("memory.max", "cpu.max")}
    lacking = [name for controller, name in _FILES if (not controller or controller in enabled) and name not in names]
    if isinstance(sample.cpu_stat, Missing):
        return (unverified(CODE, "files", sample.cpu_stat),)
    if "cpu" in enabled and "nr_throttled" not in sample.cpu_stat.value:
        lacking.append("cpu.stat nr_throttled")
    evidence = {sample.files.source: _seen(sample, names)}
    if not lacking:
        return (CODE.finding(Status.PASS, "files", "the kernel has every file and counter", evidence=evidence),)
    remedy = Remedy(title="use a newer kernel", why="limits act without them, but the report has gaps",
                    docs=PAGE.sources[0])  # fmt: skip
    message = f"this kernel lacks {', '.join(lacking)}"
    return (CODE.finding(Status.WARN, "files", message, remedy, evidence=evidence),)


def _seen(sample: Sample, names: tuple[str, ...]) -> str:
    wanted = [name for _, name in _FILES if name in names]
    keys: dict[str, int] = dict(value_or(sample.cpu_stat, {}))
    return " ".join([*wanted, *(f"cpu.stat:{key}" for key in keys if key.startswith("nr_"))])


CHECK = Check(code=CODE, page=PAGE, needs=("cgroup_mount", "sample"), run=_run)
