"""What the steps of packages showed, judged (CGP520 to CGP524). Pure."""

from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.config.model import ReadyKind
from cgroup_preflight.core import codes
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Evidence, Finding, Remedy, Status
from cgroup_preflight.packages.leftovers import Leftovers
from cgroup_preflight.packages.package_file import PackageFile
from cgroup_preflight.packages.readings import InstalledReading, told
from cgroup_preflight.packages.selection import Selection
from cgroup_preflight.packages.steps import Done
from cgroup_preflight.plan.model import ServicePlan

if TYPE_CHECKING:
    from cgroup_preflight.plan.model import Plan

_SHOWN = 8
#: The release that applies changed limits of running units only with their next change (docs/how-limits-get-lost.md).
_KEEPS_OLD = 257
_FIX_SCRIPT = Remedy(
    title="read the output of the package's scripts in the evidence, and correct the script that failed"
)
_INJECT = Remedy(
    title="put the limits into the package, then test that file",
    commands=(("cgroup-preflight", "inject"),), docs="docs/inject.md",
)  # fmt: skip
_APPLY = Remedy(
    title="let postinst restart the service (deb-systemd-invoke restart NAME.service), or set its limits with systemctl "
    "set-property --runtime",
    why="systemd does not always give changed limits to a unit that runs",
    docs="docs/packages.md",
)  # fmt: skip
_CLEAN = Remedy(
    title="stop the service in prerm, and remove in postrm what the package made (Debian policy 6.8)",
    docs="docs/packages.md",
)


def subject_of(files: Iterable[PackageFile]) -> str:
    """The packages of a step as the report names them."""
    return ", ".join(item.name for item in files)


def package_findings(selection: Selection, plan: "Plan", added: Sequence[str]) -> list[Finding]:
    """Which files were tested, and whose limits; `added` are the units whose limits the run added."""
    found = []
    for item in selection.packages:
        file = item.package
        own = {service.unit for service in plan.services if selection.owners.get(service.label) == file.name}
        own |= {unit for service in plan.services if service.unit in own for unit in service.slices}
        missing = [unit for unit in added if unit in own]
        evidence: dict[str, str | int | float | bool | None] = {
            "file": file.path, "sha256": file.sha256, "bytes": file.size,
            "limits in the package": ", ".join(sorted(file.limited & own)), "limits added by the run": ", ".join(missing),
        }  # fmt: skip
        if item.previous is not None:
            evidence |= {"previous": item.previous.path, "previous sha256": item.previous.sha256}
        tested = f"the tested file is {file.path}, sha256 {file.sha256}"
        if missing:
            message = f"{tested}; it has no limits for {', '.join(missing)}, and the run added those of the config"
            found.append(codes.PACKAGE.finding(Status.WARN, file.name, message, _INJECT, evidence=evidence))
        else:
            message = f"{tested}; its limits are those that are in it"
            found.append(codes.PACKAGE.finding(Status.PASS, file.name, message, evidence=evidence))
    return found


def _output(done: Done) -> Evidence:
    return {"seconds": round(done.seconds, 2), "output": "\n".join(done.output)}


def _why(done: Done) -> str:
    """What went wrong in a step, in one line."""
    at = f" at {done.culprit}" if done.culprit else ""
    if done.status is None:
        last = done.output[-1].strip()[:200] if done.output else "nothing"
        return f"did not end within {done.seconds:.0f} s{at}; its output so far ends with: {last}"
    said = f": {_telling(done)}" if _telling(done) else ""
    return f"failed with status {done.status}{at}{said}"


def _telling(done: Done) -> str:
    """The line of the output that says the most: dpkg's first error with the two lines after it, else the last line."""
    lines = done.output
    start = next(
        (number for number, line in enumerate(lines) if "dpkg: error" in line or "dpkg: regarding" in line), None
    )
    some = lines[start : start + 3] if start is not None else lines[-1:]
    before = lines[start - 1 : start] if start else ()
    return " / ".join(line.strip() for line in (*before, *some))[:400]


def install_finding(files: Sequence[PackageFile], done: Done, received: Sequence[str] = ()) -> Finding:
    """Whether packages could be installed; `received` are the SHA-256 of the files, before anything of them ran."""
    evidence = {**_output(done), **({"received": " ".join(received)} if received else {})}
    subject = subject_of(files)
    if done.ok:
        message = f"installed in {done.seconds:.1f} s, with its scripts"
        return codes.PACKAGE_INSTALL.finding(Status.PASS, subject, message, evidence=evidence)
    message = f"the installation {_why(done)}"
    return codes.PACKAGE_INSTALL.finding(Status.FAIL, subject, message, _FIX_SCRIPT, evidence=evidence)


def replaced_finding(files: Sequence[PackageFile], changed: Sequence[str]) -> Finding:
    """Packages that changed what the run relies on, so that nothing it says from here on could be believed."""
    (what,) = _some("files", changed)
    message = f"the packages replace what this run relies on, {what}: nothing was run after that"
    remedy = Remedy(title="ship no program or library of the system, and none of the same name in /usr/local")
    return codes.PACKAGE_INSTALL.finding(Status.FAIL, subject_of(files), message, remedy)


def start_finding(
    service: ServicePlan, readings: tuple[InstalledReading, InstalledReading], refused: str, log: Sequence[str], *,
    by_script: bool,
) -> Finding:  # fmt: skip
    """Whether a service starts as it is installed, and has its limits at two moments."""
    early, late = readings
    how = "its package started it" if by_script else "started as installed"
    evidence = _limits(early, late) | {"started by": "the package" if by_script else "the run"}
    job_ended = _is_job(service) and late.ended and not refused
    if job_ended and not (early.runs and (early.wrong or early.misplaced)):
        message = f"{how}; it has ended by itself, as it should, and its limits are read in the test that follows"
        return codes.PACKAGE_START.finding(Status.SKIP, service, message, evidence=evidence)
    if refused or not (late.runs or job_ended):
        said = refused or f"{service.unit} is {late.state}{' a moment after it was started' if early.runs else ''}"
        message = f"systemd does not start {service.unit} as it is installed: {said}"
        remedy = Remedy(title="read the last lines of its log in the evidence")
        return codes.PACKAGE_START.finding(
            Status.FAIL, service, message, remedy, evidence=evidence | {"log": "\n".join(log)}
        )
    wrong = early.wrong or late.wrong
    misplaced = early.misplaced or late.misplaced
    if wrong or misplaced:
        message = "; ".join(part for part in (misplaced, told(wrong)) if part)
        remedy = Remedy(title="put the current plan into the package again", commands=(("cgroup-preflight", "inject"),))
        return codes.PACKAGE_START.finding(Status.FAIL, service, message, remedy, evidence=evidence)
    message = f"{how} in {late.place}: {len(late.limits)} limits are in force, read twice"
    return codes.PACKAGE_START.finding(Status.PASS, service, message, evidence=evidence)


def _is_job(service: ServicePlan) -> bool:
    """Whether a service is one that ends by itself: by its unit, or by the config."""
    oneshot = service.source is not None and service.source.type == "oneshot"
    return oneshot or service.smoke.ready.kind is ReadyKind.EXIT


def _limits(early: InstalledReading, late: InstalledReading) -> dict[str, str | int | float | bool | None]:
    """What the kernel had at two moments, by file."""
    found: dict[str, str | int | float | bool | None] = {"state": late.state}
    for first, second in zip(early.limits, late.limits, strict=False):
        texts = [str(getattr(item.actual, "value", item.actual)).strip() for item in (first, second)]
        found[second.file] = " then ".join(dict.fromkeys(texts))
        if word := late.said.get(second.file):
            found[f"{second.file}, systemd's word"] = printable(word)
    return found


def upgrade_failed(files: Sequence[PackageFile], done: Done) -> Finding:
    """An upgrade that ended with an error, or not at all."""
    return codes.PACKAGE_UPGRADE.finding(
        Status.FAIL, subject_of(files), f"the upgrade {_why(done)}", _FIX_SCRIPT, evidence=_output(done)
    )


def upgrade_finding(
    service: ServicePlan, readings: tuple[InstalledReading, InstalledReading], refused: str, systemd: int, done: Done
) -> Finding:
    """Whether a service that ran through an upgrade has the limits of the new package."""
    old, new = readings
    again = "was started again" if new.invocation != old.invocation else "ran on"
    evidence = {**_output(done), **_limits(old, new), "before": old.state}
    if refused or not old.runs:
        message = f"the package before does not start {service.unit}, so that nothing is known of its upgrade: {refused or old.state}"
        return codes.PACKAGE_UPGRADE.finding(Status.UNVERIFIED, service, message, _FIX_SCRIPT, evidence=evidence)
    if not new.runs:
        message = f"after the upgrade {service.unit} is {new.state}"
        remedy = Remedy(title="let postinst start the service again", docs="docs/packages.md")
        return codes.PACKAGE_UPGRADE.finding(Status.FAIL, service, message, remedy, evidence=evidence)
    if new.wrong or new.misplaced:
        message = (
            f"after the upgrade the service {again}, and {'; '.join(part for part in (new.misplaced, told(new.wrong)) if part)}: "
            f"{_cause(new, systemd, restarted=new.invocation != old.invocation)}"
        )
        return codes.PACKAGE_UPGRADE.finding(Status.FAIL, service, message, _APPLY, evidence=evidence)
    message = f"after the upgrade the service {again}, and its {len(new.limits)} limits are those of the new package"
    return codes.PACKAGE_UPGRADE.finding(Status.PASS, service, message, evidence=evidence)


def _cause(new: InstalledReading, systemd: int, *, restarted: bool) -> str:
    if new.needs_reload:
        return "systemd has not loaded the new unit files (its word and the kernel have the old limits)"
    if restarted:
        return "the new package has other limits than the config"
    if systemd == _KEEPS_OLD:
        return f"systemd {systemd} keeps the old limits of running units in the kernel after a daemon-reload"
    return "the kernel has other limits than the config after a daemon-reload"


def removal_finding(
    files: Sequence[PackageFile], steps: tuple[Done, Done], left: Leftovers, when: str, seconds: Mapping[str, float]
) -> Finding:
    """Whether packages can be removed and purged, and what is left of them; `seconds` are those of all steps so far."""
    removed, purged = steps
    subject = subject_of(files)
    evidence: dict[str, str | int | float | bool | None] = {
        "seconds": ", ".join(f"{step} {taken:g}" for step, taken in seconds.items()),
        "output": "\n".join((*removed.output, *purged.output)[-30:]), "stays": ", ".join((*left.accounts, *left.slices))[:1000],
        "data": "\n".join(left.data[:20]),
    }  # fmt: skip
    for done in steps:
        if not done.ok:
            message = f"the {done.what}{when} {_why(done)}"
            return codes.PACKAGE_REMOVAL.finding(Status.FAIL, subject, message, _FIX_SCRIPT, evidence=evidence)
    bad = [
        *_some("processes", left.processes), *_some("units", left.units), *_some("files", left.files),
    ]  # fmt: skip
    if bad:
        message = f"after removal and purge{when} there are still {'; '.join(bad)}"
        return codes.PACKAGE_REMOVAL.finding(Status.FAIL, subject, message, _CLEAN, evidence=evidence)
    if left.data:
        message = f"removed{when}; what its services wrote stays: {', '.join(left.data[:_SHOWN])}"
        return codes.PACKAGE_REMOVAL.finding(Status.WARN, subject, message, _CLEAN, evidence=evidence)
    stays = f"; {', '.join(left.accounts)} may stay" if left.accounts else ""
    message = f"removed and purged{when} in {removed.seconds + purged.seconds:.1f} s, and nothing of it is left{stays}"
    return codes.PACKAGE_REMOVAL.finding(Status.PASS, subject, message, evidence=evidence)


def _some(what: str, items: Sequence[str]) -> tuple[str, ...]:
    if not items:
        return ()
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return (f"{what}: {', '.join(items[:_SHOWN])}{more}",)


def contradiction(selection: Selection, plan: "Plan", findings: Iterable[Finding]) -> str:
    """What a pass from a guest lacks: a step without its finding, or another file than the one that was sent."""
    seen = tuple(findings)
    subject = subject_of(item.package for item in selection.packages)
    good = (Status.PASS, Status.WARN)

    def has(code: codes.Code, name: str, statuses: Iterable[Status]) -> bool:
        return any(item.code == code.code and item.subject == name and item.status in statuses for item in seen)

    installed = [item for item in seen if item.code == codes.PACKAGE_INSTALL.code and item.subject == subject]
    wanted = " ".join(item.package.sha256 for item in selection.packages)
    if not any(item.status is Status.PASS and item.evidence.get("received") == wanted for item in installed):
        return "a pass without the installation of the packages that it was given"
    if not has(codes.PACKAGE_REMOVAL, subject, good):
        return "a pass without the removal of the packages"
    upgraded = {item.package.name for item in selection.packages if item.previous is not None}
    for service in plan.services:
        if service.label not in selection.units:
            continue
        accepted = (Status.PASS, Status.SKIP) if _is_job(service) else (Status.PASS,)
        if not has(codes.PACKAGE_START, service.label, accepted):
            return f"a pass without the start of {service.label} as it is installed"
        if selection.owners[service.label] in upgraded and not has(
            codes.PACKAGE_UPGRADE, service.label, (Status.PASS,)
        ):
            return f"a pass without the upgrade of {service.label}"
    return ""
