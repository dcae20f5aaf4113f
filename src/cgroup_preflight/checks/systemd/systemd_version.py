"""CGP104: systemd is a version that [require] accepts and that knows every property used."""

from collections.abc import Iterable

from cgroup_preflight.checks.base import Check, Context, unverified
from cgroup_preflight.checks.page import Page
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status

if TYPE_CHECKING:
    from cgroup_preflight.config.model import Require, Setting

CODE = Code("CGP104", "systemd-version")
PAGE = Page(
    what="Checks that systemd satisfies [require] and knows every property that the config uses.",
    fails=(
        "systemd ignores a property that it does not know, with a warning in the journal, and the unit starts "
        "without the limit."
    ),
    fix="Use a newer systemd, or remove the property.",
    about=(
        "MemoryZSwapMax",
        "AllowedCPUs",
        "ManagedOOMMemoryPressure",
        "CPUQuotaPeriodSec",
        "MemoryMin",
        "ConcurrencyHardMax",
    ),
    sources=(
        "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html",
        "https://github.com/systemd/systemd/blob/main/NEWS",
    ),
)

_DOCS = "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html"


def _run(context: Context) -> Iterable[Finding]:
    release, version, running = (
        context.facts.systemd_release,
        context.facts.systemd_version,
        context.facts.systemd_running,
    )
    if isinstance(running, Missing):
        return (unverified(CODE, "systemd", running),)
    if not running.value:
        # The version installed in a container says nothing about the systemd that will run the services.
        return (CODE.finding(Status.SKIP, "systemd", "systemd does not run here, see CGP103"),)
    if isinstance(release, Missing):
        return (unverified(CODE, "systemd", release),)
    if isinstance(version, Missing):
        return (unverified(CODE, "systemd", version),)
    found = version.value
    evidence: Evidence = {version.source: found}
    require = context.require
    findings = [_required(require, release.value, version.source)] if require and require.systemd else []
    findings += [_unknown(setting, found, evidence) for setting in context.settings if _since(setting) > found]
    message = f"systemd {found} knows every property used"
    return findings or [CODE.finding(Status.PASS, "systemd", message, evidence=evidence)]


def _required(require: "Require", release: str, source: str) -> Finding:
    from cgroup_preflight.core import versions

    spec = require.systemd
    evidence: Evidence = {source: release, "[require] systemd": spec}
    # As exact as the specifier: 252.39 satisfies ==252, and does not satisfy >252.
    whole = release.partition(".")[0]
    if all(one.contains(release if "." in one.version else whole) for one in versions.comparisons(spec)):
        return CODE.finding(Status.PASS, "systemd", f"systemd {release} satisfies {spec}", evidence=evidence)
    remedy = Remedy(title=f"use a host with systemd {spec}, or change systemd in [require]", docs=_DOCS)
    return CODE.finding(Status.FAIL, "systemd", f"systemd {release} does not satisfy {spec}", remedy, location=require.location, evidence=evidence)  # fmt: skip


def _since(setting: "Setting") -> int:
    from cgroup_preflight.config.properties import BY_NAME

    item = BY_NAME[setting.property]
    return dict(item.later).get(setting.text, item.since)


def _unknown(setting: "Setting", found: int, evidence: Evidence) -> Finding:
    since = _since(setting)
    message = f"{setting.property}={setting.text} needs systemd {since}, but this host has {found}, which ignores it"
    remedy = Remedy(title=f'remove {setting.property}, or set systemd = ">={since}" in [require]', docs=_DOCS)
    return CODE.finding(Status.FAIL, setting.property, message, remedy, location=setting.location, evidence={**evidence, "since": since})  # fmt: skip


CHECK = Check(code=CODE, page=PAGE, needs=("systemd_release", "systemd_version", "systemd_running"), run=_run)
