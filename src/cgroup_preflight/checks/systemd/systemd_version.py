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
    from cgroup_preflight.core.unit_text import UnitLine
    from cgroup_preflight.plan.model import ServicePlan

CODE = Code("CGP104", "systemd-version")
PAGE = Page(
    what="Checks that systemd satisfies [require] and knows every property that the config and its unit files use.",
    fails=(
        "systemd ignores a property that it does not know, with a warning in the journal, and the unit starts "
        "without the limit. Since 258 this includes the names of cgroup v1: MemoryLimit, CPUShares and BlockIO... in a "
        "unit file do nothing, and systemd-analyze verify still exits with 0."
    ),
    fix="Use a newer systemd, remove the property, or write its name of cgroup v2.",
    about=(
        "MemoryZSwapMax",
        "AllowedCPUs",
        "ManagedOOMMemoryPressure",
        "CPUQuotaPeriodSec",
        "MemoryMin",
        "ConcurrencyHardMax",
        "MemoryLimit",
        "CPUShares",
    ),
    sources=(
        "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html",
        "https://github.com/systemd/systemd/blob/main/NEWS",
    ),
)

#: The first systemd without cgroup v1 and its names (systemd NEWS).
_ONLY_V2 = 258
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
    services = context.plan.services if context.plan is not None else ()
    findings += [item for service in services if service.source is not None for item in _removed(service, found)]
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


def _removed(service: "ServicePlan", found: int) -> Iterable[Finding]:
    """The names of cgroup v1 in a unit of the project, which systemd translated until it removed them."""
    from cgroup_preflight.config.other_keys import RENAMED, SCALED

    lines = [item for item in service.source.lines if item.section == "Service"] if service.source else []
    present = {item.key for item in lines} | {item.property for item in service.own_settings}
    # The last line of each counts, and one that takes a limit back limits nothing.
    for item in {item.key: item for item in lines}.values():
        new = RENAMED.get(item.key) or SCALED.get(item.key, ("",))[0]
        if new and item.value not in ("", "infinity") and new not in present:
            yield _old_name(item, new, found, is_limit=item.key in RENAMED and not item.key.endswith("Weight"))


def _old_name(item: "UnitLine", new: str, found: int, *, is_limit: bool) -> Finding:
    from cgroup_preflight.core.report import Location

    gone = found >= _ONLY_V2
    does = f"systemd {found} ignores it" if gone else f"systemd {_ONLY_V2} and later ignore it"
    scale = "" if is_limit else ", which has another scale"
    remedy = Remedy(title=f"write {new}= instead{scale}", why="systemd-analyze verify does not fail for it", docs=_DOCS)
    return CODE.finding(
        Status.FAIL if gone and is_limit else Status.WARN, item.key,
        f"{item.key}={item.value} is a name of cgroup v1: {does}", remedy,
        location=Location(file=item.file, line=item.line), evidence={"systemd": found},
    )  # fmt: skip


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
