"""Reports made in guests and the host's own findings as one list that says what was tested where. Pure.

The guest decides: its systemd set the limits and its kernel enforced them. The host's own findings stay in the
report under the subject `this host: ...`, and none of them decides: a failure on the host is a warning (it matters
if services are to run on this machine), what could not be tested on the host is skipped (the guest tested it).
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
#: Checks whose answer in a guest is about the chosen system: the version of systemd; in QEMU that of the kernel.
_OF_SYSTEMD = frozenset({systemd_version.CODE.code})
_OF_KERNEL = frozenset({kernel_version.CODE.code})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One guest's part: `label` goes before subjects and names where there are several guests.

    `chosen`: the user named this system, so that its versions are part of the answer.
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
    """The host's own findings under a verdict that is not about this host; `why` it is not."""
    return tuple(_of_host(item, why) for item in findings)


def _of_host(item: Finding, why: str) -> Finding:
    status = {Status.FAIL: Status.WARN, Status.UNVERIFIED: Status.SKIP}.get(item.status, item.status)
    note = "" if status is item.status else f" (not a verdict on this host: {why})"
    return replace(item, status=status, subject=f"this host: {item.subject}", message=f"{item.message}{note}")


def guest_findings(judged: Judged) -> tuple[Finding, ...]:
    """What the guest was, then what it found."""
    return (_where(judged), *(_from(judged, item) for item in judged.report.findings))


def _from(judged: Judged, item: Finding) -> Finding:
    place = item.location
    if place is not None:
        # The config's folder has another name in the guest.
        place = Location(file=judged.shown_config, line=place.line)
    item = replace(item, location=place, subject=_labelled(judged, item.subject))
    if item.status is not Status.FAIL or item.code not in CHECKS or _counts(judged, item.code):
        return item
    # This tool builds the guest, so that what it lacks is no fault of the project.
    message = f"the guest does not have what is required: {item.message}"
    return replace(item, status=Status.UNVERIFIED, message=message, remedies=(_OTHER_GUEST,))


_OTHER_GUEST = Remedy(title='choose another [target] or machine = "qemu", or run on a host that has what is required')


def _counts(judged: Judged, code: str) -> bool:
    own_kernel = judged.machine.engine is GuestEngine.QEMU
    return judged.chosen and (code in _OF_SYSTEMD or (own_kernel and code in _OF_KERNEL))


def _where(judged: Judged) -> Finding:
    host, machine = judged.report.host, judged.machine
    kernel, systemd = (host.kernel, host.systemd) if host else (None, None)
    own_kernel = machine.engine is GuestEngine.QEMU
    message = (
        f"Tested in a VM ({judged.distro}, systemd {systemd}, kernel {kernel}, {_WORDS[machine.engine]}, "
        f"{machine.cpus} CPU{'s' if machine.cpus > 1 else ''}, {machine.memory_mib} MiB), not on this machine"
    )
    if judged.chosen and not own_kernel:
        message += f"; the kernel is that of user-mode-linux, not that of {judged.distro}"
    return codes.GUEST.finding(
        Status.WARN, judged.label or "guest", "; ".join((message, *machine.consequences)),
        Remedy(title="also run the check on the machine that will run the services",
               commands=(("cgroup-preflight", "check"),)),
        evidence={
            "machine": str(machine.engine), "kernel": kernel, "systemd": systemd, "cpus": machine.cpus,
            "memory_mib": machine.memory_mib, "fence": judged.fence,
            **({"first boot": judged.lost_boot} if judged.lost_boot else {}),
            **{f"{step}_seconds": taken for step, taken in judged.seconds.items()},
        },
    )  # fmt: skip


def lost(label: str, what: str, console: Sequence[str], remedy: Remedy, location: Location | None = None) -> Finding:
    """The finding for a guest that tested nothing."""
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
    """Where the services ran: the summaries of the guests, joined; `host` itself if no guest reported."""
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
