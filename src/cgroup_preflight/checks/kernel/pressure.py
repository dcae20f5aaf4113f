"""CGP117: pressure stall information can be read."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.boot import add_parameter, remove_parameter
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code, Severity
from cgroup_preflight.core.reading import Missing, Why, value_or
from cgroup_preflight.core.report import Finding, Remedy, Status

CODE = Code("CGP117", "pressure", Severity.WARNING)
PAGE = Page(
    what="Checks that pressure stall information (PSI) can be read.",
    fails=(
        "With psi=0, or a kernel without PSI, the files are missing or give EOPNOTSUPP. A busy host cannot be told "
        "from a tight quota then, and systemd-oomd cannot work."
    ),
    fix="Boot with psi=1, or use a kernel with CONFIG_PSI.",
    about=("memory.pressure", "cpu.pressure", "io.pressure", "psi", "oomd", "ManagedOOMMemoryPressure"),
    sources=("https://docs.kernel.org/accounting/psi.html",),
)


def _run(context: Context) -> Iterable[Finding]:
    pressure = context.facts.pressure
    if not isinstance(pressure, Missing):
        evidence = {f"{pressure.source} {key}": value for key, value in pressure.value.items() if key.endswith("avg10")}
        return (CODE.finding(Status.PASS, "pressure", "pressure stall information can be read", evidence=evidence),)
    if pressure.why not in (Why.ABSENT, Why.UNSUPPORTED):
        return (unverified(CODE, "pressure", pressure),)
    message = f"no pressure stall information: {pressure}"
    evidence_missing = {pressure.source: str(pressure.why)}
    remedies = (_remedy(context),)
    return (CODE.finding(Status.WARN, "pressure", message, *remedies, evidence=evidence_missing),)


def _remedy(context: Context) -> Remedy:
    """A kernel parameter helps where the file exists and gives EOPNOTSUPP."""
    docs = PAGE.sources[0]
    words = value_or(context.facts.cmdline, "").split()
    off = [word for word in words if word.startswith("psi=")]
    if off:
        return remove_parameter(context, off[-1], why="it disables pressure stall information", docs=docs)
    built = value_or(context.facts.kernel_config, {})
    if built.get("CONFIG_PSI_DEFAULT_DISABLED") == "y":
        return add_parameter(context, "psi=1", why="this kernel disables it by default", docs=docs)
    return Remedy(title="use a kernel built with CONFIG_PSI=y", why="limits act without it", docs=docs)


CHECK = Check(
    code=CODE,
    page=PAGE,
    needs=("pressure",),
    uses=("cmdline", "kernel_config", "boot_loader", "container", "kernel"),
    run=_run,
)
