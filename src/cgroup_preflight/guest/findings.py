"""Reports made in guests and the host's own findings as one list: what was judged where is said plainly. Pure.

What decides is the guest: its systemd set the limits and its kernel held them. The host's own findings stay
beside, under the subject `this host: ...`, and none of them decides: what failed here is a warning (it matters if
services are to run on this machine), what could not be tried here is skipped (the guest tried it).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.kernel import kernel_version
from cgroup_preflight.checks.systemd import systemd_version
from cgroup_preflight.core import codes
from cgroup_preflight.core.report import Finding, HostSummary, Location, Remedy, Report, ServiceResult, Status
from cgroup_preflight.guest.requirements import Machine
from cgroup_preflight.guest.spec import GuestEngine

ENGINE = "guest"
_WORDS = {GuestEngine.UML: "user-mode-linux", GuestEngine.QEMU: "QEMU"}
#: Checks of a host whose answer belongs to the system that was asked for: its systemd's version; in QEMU its kernel's.
_OF_SYSTEMD = frozenset({systemd_version.CODE.code})
_OF_KERNEL = frozenset({kernel_version.CODE.code})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One guest's part: `label` goes before subjects and names where there are several guests.

    `chosen`: the user asked for this very system, so that its versions are part of the answer.
    """

    label: str
    distro: str
    machine: Machine
    report: Report
    chosen: bool
    fence: str
    lost_boot: str
    seconds: dict[str, float]
    shown_config: str


def host_findings(findings: Iterable[Finding], why: str = "the services ran in a guest") -> tuple[Finding, ...]:
    """The host's own findings as they stand beside a verdict that is not about this host; `why` it is not."""
    return tuple(_beside(item, why) for item in findings)


def _beside(item: Finding, why: str) -> Finding:
    status = {Status.FAIL: Status.WARN, Status.UNVERIFIED: Status.SKIP}.get(item.status, item.status)
    note = "" if status is item.status else f" (this host was not judged: {why})"
    return replace(item, status=status, subject=f"this host: {item.subject}", message=f"{item.message}{note}")


def guest_findings(judged: Judged) -> tuple[Finding, ...]:
    """What a guest found, and before it what that guest was."""
    return (_where(judged), *(_from(judged, item) for item in judged.report.findings))


def _from(judged: Judged, item: Finding) -> Finding:
    place = item.location
    if place is not None:
        # The config's folder has another name in there.
        place = Location(file=judged.shown_config, line=place.line)
    item = replace(item, location=place, subject=_labelled(judged, item.subject))
    if item.status is not Status.FAIL or item.code not in CHECKS or _counts(judged, item.code):
        return item
    # The guest is of our making: that it lacks something is no fault of the project.
    message = f"the guest lacks what is asked for: {item.message}"
    return replace(item, status=Status.UNVERIFIED, message=message, remedies=(_OTHER_GUEST,))


_OTHER_GUEST = Remedy(title='choose another [target] or machine = "qemu", or run on a host that has it')


def _counts(judged: Judged, code: str) -> bool:
    own_kernel = judged.machine.engine is GuestEngine.QEMU
    return judged.chosen and (code in _OF_SYSTEMD or (own_kernel and code in _OF_KERNEL))


def _where(judged: Judged) -> Finding:
    host, machine = judged.report.host, judged.machine
    kernel, systemd = (host.kernel, host.systemd) if host else (None, None)
    own_kernel = machine.engine is GuestEngine.QEMU
    message = (
        f"judged in a guest, not on this host: {judged.distro}, systemd {systemd}, kernel {kernel} "
        f"({_WORDS[machine.engine]}), {machine.cpus} CPU{'s' if machine.cpus > 1 else ''}, {machine.memory_mib}M"
    )
    if judged.chosen and not own_kernel:
        message += f"; the kernel is user-mode-linux's, not that of {judged.distro}"
    return codes.GUEST.finding(
        Status.WARN, judged.label or "guest", "; ".join((message, *machine.consequences)),
        Remedy(title="judge the machine that will carry the services as well, there",
               commands=(("cgroup-preflight", "check"),)),
        evidence={
            "machine": str(machine.engine), "kernel": kernel, "systemd": systemd, "cpus": machine.cpus,
            "memory_mib": machine.memory_mib, "fence": judged.fence,
            **({"first boot": judged.lost_boot} if judged.lost_boot else {}),
            **{f"{step}_seconds": taken for step, taken in judged.seconds.items()},
        },
    )  # fmt: skip


def lost(label: str, what: str, console: Sequence[str], remedy: Remedy, location: Location | None = None) -> Finding:
    """The finding for a guest that verified nothing."""
    return codes.GUEST.finding(
        Status.UNVERIFIED, label or "guest", what, remedy, location=location,
        evidence={"console": "\n".join(console)} if console else None,
    )  # fmt: skip


def guest_services(judged: Judged) -> tuple[ServiceResult, ...]:
    """The services of one guest's report."""
    return tuple(replace(item, engine=ENGINE, name=_labelled(judged, item.name)) for item in judged.report.services)


def _labelled(judged: Judged, text: str) -> str:
    return f"{judged.label}: {text}" if judged.label else text


def summary(host: HostSummary | None, parts: Sequence[Judged]) -> HostSummary | None:
    """Where services ran: the guests' own words, several joined; `host` itself where no guest reported."""
    seen = [item.report.host for item in parts if item.report.host is not None]
    if not seen:
        return replace(host, engine=ENGINE) if host else None
    return replace(
        seen[0], engine=ENGINE, kernel=_joined(item.kernel for item in seen),
        systemd=_joined(item.systemd for item in seen),
    )  # fmt: skip


def _joined(words: Iterable[str | None]) -> str | None:
    known = [word for word in words if word is not None]
    return " / ".join(dict.fromkeys(known)) or None
