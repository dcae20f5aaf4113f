"""CGP117: Pressure stall information can be read."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, Severity
from cgroup_preflight.reading import Missing
from cgroup_preflight.report import Finding, Remedy, Status

def _run(check: Check, context: Context) -> Iterable[Finding]:
    pressure = context.facts.pressure
    if not isinstance(pressure, Missing):
        evidence = {f"{pressure.source} {key}": value for key, value in pressure.value.items() if key.endswith("avg10")}
        return (check.finding(Status.PASS, "pressure", "pressure information is there", evidence=evidence),)
    remedy = Remedy(title="boot with psi=1, or a kernel with CONFIG_PSI", needs_root=True, persistent=True,
                    docs=check.sources[0])  # fmt: skip
    message = f"no pressure information: {pressure}"
    evidence_missing = {pressure.source: str(pressure.why)}
    return (check.finding(Status.WARN, "pressure", message, evidence=evidence_missing, remedies=(remedy,)),)


CHECK = Check(
    code="CGP117",
    name="pressure",
    severity=Severity.WARNING,
    needs=("pressure",),
    what='Pressure stall information can be read.',
    why='With psi=0, or a kernel without it, the files are missing or give EOPNOTSUPP: a busy host cannot be told from a tight quota, and systemd-oomd cannot work.',
    remedy='Boot with psi=1, or use a kernel with CONFIG_PSI.',
    sources=("https://docs.kernel.org/accounting/psi.html",),
    run=_run,
)
