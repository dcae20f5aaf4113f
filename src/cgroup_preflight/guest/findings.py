"""One list of findings from the reports of guests and from this host, each saying where it was made. Pure.

Guests decide the verdict, because their systemd set the limits and their kernel enforced them. The findings about this
host stay in the report under the subject `this host: ...` and never decide: a fail becomes a warning (it matters if
services are to run on this machine), an unverified check is skipped (the guest did it).
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.checks.kernel import kernel_version
from cgroup_preflight.checks.systemd import systemd_version
from cgroup_preflight.core import codes
from cgroup_preflight.core.machine import NOT_JUDGED
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Finding, HostSummary, Location, Remedy, Report, ServiceResult, Status
from cgroup_preflight.engines.choice import GUEST
from cgroup_preflight.guest.contents import Contents
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.recipe import MOVING
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.spec import GuestEngine

_ENGINE_NAMES = {GuestEngine.UML: "user-mode-linux", GuestEngine.QEMU: "QEMU"}
#: Checks of a host that a chosen distribution answers: the version of its systemd, and in QEMU that of its kernel.
_ABOUT_SYSTEMD = frozenset({systemd_version.CODE.code})
_ABOUT_KERNEL = frozenset({kernel_version.CODE.code})
_OTHER_GUEST = Remedy(title='choose another [target] or machine = "qemu", or run on a host that has it')
_CHECK_TARGET = Remedy(title="also check the machine that will run the services, on that machine",
                       commands=(("cgroup-preflight", "check"),))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Something that guests lack: `said` is how programs and the C library say so, `engine` None for every guest."""

    what: str
    said: re.Pattern[str]
    remedy: str
    engine: GuestEngine | None = None


#: Errors of ld.so(8), of dlopen(3), and of errno(3): EAFNOSUPPORT, ENETUNREACH; EAI_AGAIN of getaddrinfo(3).
LACKS = (
    Lack(
        what="a shared library", said=re.compile(r"\.so[.0-9]*: cannot open shared object file"),
        remedy="add the package that has the library to packages in [target], or copy it into the project and name it "
        'below [target.paths], as in "/usr/lib/x86_64-linux-gnu/libx.so.1" = "lib/libx.so.1"',
    ),
    Lack(
        # user-mode-linux charges a thread for time that other programs of this machine take. HAProxy's watchdog sees a
        # thread with seconds of CPU time and no progress, and aborts (HAProxy, src/wdt.c).
        what="exact CPU times", said=re.compile(r"cpu_ns: poll=\d+ now=\d+ diff=\d+"), engine=GuestEngine.UML,
        remedy='run again on a machine with idle CPUs, or set machine = "qemu" in [target]: the clocks of CPU time of '
        "user-mode-linux also count what other programs take",
    ),
    Lack(
        what="IPv6", said=re.compile(r"address family not supported by protocol", re.IGNORECASE), engine=GuestEngine.UML,
        remedy='set machine = "qemu" in [target]: user-mode-linux has no IPv6',
    ),
    Lack(
        # The last is what Go programs say that look for an address for others (hashicorp/go-sockaddr).
        what="a network", said=re.compile(r"network is unreachable|temporary failure in name resolution|"
                                          r"no private ip address found", re.IGNORECASE),
        remedy="set network = true in [target], or let the service start without a network",
    ),
)  # fmt: skip
_START_CODES = frozenset({codes.SERVICE_RUN.code, codes.READINESS.code, codes.SERVICE_START.code})


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRun:
    """A finished run in a guest: its report, the machine, and the seconds of each step.

    `fence` says what confined the engine. `lost_boot` is the error of a first boot that failed and was repeated, else
    empty. `image` is the name of the image, `contents` what is in it, `packages` are those that somebody named for it.
    `resumed` says that the machine did not boot but resumed from a saved state. `from_here`: its services were run from this
    host, so the report has this host's paths. `kernel_image` is the image that the kernel is from, None for that of the
    distribution, and for user-mode-linux.
    """

    report: Report
    machine: GuestMachine
    distro: str
    fence: str
    lost_boot: str
    seconds: Mapping[str, float]
    image: str = ""
    contents: Contents | None = None
    packages: tuple[str, ...] = ()
    resumed: bool = False
    from_here: bool = False
    kernel_image: RootImage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReport:
    """A run as the whole report shows it: `label` prefixes subjects and names where there are several guests.

    `chosen` means that the user named this distribution, so that its versions count. `config_path` is the config as
    the user named it.
    """

    run: GuestRun
    label: str
    chosen: bool
    config_path: str


def host_findings(findings: Iterable[Finding], why: str = "the services ran in a guest") -> tuple[Finding, ...]:
    """The findings about this host in a report whose verdict is not about it; `why` it is not."""
    return tuple(_not_deciding(item, why) for item in findings)


def _not_deciding(item: Finding, why: str) -> Finding:
    status = {Status.FAIL: Status.WARN, Status.UNVERIFIED: Status.SKIP}.get(item.status, item.status)
    note = "" if status is item.status else f" (this host was not judged: {why})"
    return replace(item, status=status, subject=f"{NOT_JUDGED}{item.subject}", message=f"{item.message}{note}")


def guest_findings(made: GuestReport) -> tuple[Finding, ...]:
    """First where the services ran, then the findings of the guest's own report."""
    return (_where(made), *(_adopted(made, item) for item in made.run.report.findings))


def _adopted(made: GuestReport, item: Finding) -> Finding:
    place = item.location if made.run.from_here else _place_here(made.config_path, item.location)
    lacking = _lacking(made, item)
    item = replace(item, location=place, subject=_labelled(made, item.subject))
    if lacking is not None:
        return replace(item, status=Status.UNVERIFIED, message=f"the guest lacks {lacking.what}: {item.message}",
                       remedies=(Remedy(title=lacking.remedy),))  # fmt: skip
    if item.status is not Status.FAIL or item.code not in CHECKS or _counts(made, item.code):
        return item
    # We made the guest: what it lacks is not a fault of the project.
    return replace(item, status=Status.UNVERIFIED, message=f"the guest lacks what the config needs: {item.message}",
                   remedies=(_OTHER_GUEST,))  # fmt: skip


def _place_here(config_path: str, place: Location | None) -> Location | None:
    """The place of a finding on this host, where the config has another path; None for what is not in the project."""
    if place is None or place.file.startswith("/") or ".." in place.file.split("/"):
        return None
    if place.file == os.path.basename(config_path):
        return replace(place, file=config_path)
    return replace(place, file=os.path.normpath(os.path.join(os.path.dirname(config_path), place.file)))


def _lacking(made: GuestReport, item: Finding) -> Lack | None:
    """What the guest lacks by the last lines of a service that failed to start or to become ready, None if nothing.

    The lines are the service's own word. That is enough: this never makes a pass.
    """
    if item.status is not Status.FAIL or item.code not in _START_CODES:
        return None
    lines = [line for one in made.run.report.services if one.name == item.subject for line in one.log_tail]
    for lack in LACKS:
        if lack.engine in (None, made.run.machine.engine) and any(lack.said.search(line) for line in lines):
            return lack
    return None


def _counts(made: GuestReport, code: str) -> bool:
    """Whether a failed check of the guest is a failure of the distribution that the user chose."""
    own_kernel = made.run.machine.engine is GuestEngine.QEMU and made.run.kernel_image is None
    return made.chosen and (code in _ABOUT_SYSTEMD or (own_kernel and code in _ABOUT_KERNEL))


def _where(made: GuestReport) -> Finding:
    run, machine = made.run, made.run.machine
    host = run.report.host
    kernel, systemd = (host.kernel, host.systemd) if host else (None, None)
    uml = machine.engine is GuestEngine.UML
    facts = [_titled(run), f"{machine.cpus} CPU{'s' if machine.cpus > 1 else ''}", f"{machine.memory_mib} MiB",
             *(("no PSI",) if uml else ())]  # fmt: skip
    details = [
        f"systemd {systemd or 'unknown'}, kernel {kernel or 'unknown'} ({_ENGINE_NAMES[machine.engine]})",
        *((f"the kernel is not that of {_title(run.distro)}",) if made.chosen and uml else ()),
        *((f"the kernel is that of {_title(run.kernel_image.distro)}",) if run.kernel_image is not None else ()),
        *machine.gaps,
    ]
    return codes.GUEST.finding(
        Status.WARN, made.label or "guest",
        f"Tested in a VM ({', '.join(facts)}), not on this machine: {'; '.join(details)}", _CHECK_TARGET,
        evidence={
            "machine": str(machine.engine), "distro": _titled(run), "kernel": kernel, "systemd": systemd, "cpus": machine.cpus,
            "memory_mib": machine.memory_mib, "fence": run.fence, **_inside(run),
            **({"first boot": run.lost_boot} if run.lost_boot else {}),
            **({"resumed": True} if run.resumed else {}),
            **{f"{step}_seconds": taken for step, taken in run.seconds.items()},
        },
    )  # fmt: skip


#: Packages whose versions a report always names, besides the kernel and those that somebody named.
_SHOWN = ("systemd", "libc6", "python3")


def _inside(run: GuestRun) -> dict[str, str]:
    """What is in the image of a guest: evidence for the report."""
    if run.contents is None:
        kernels = {"kernel_image": run.kernel_image.name} if run.kernel_image is not None else {}
        return {"image": run.image, **kernels} if run.from_here else {}
    named = [name.partition(":")[0] for name in run.packages]
    known = [f"{name} {run.contents.packages[name]}" for name in dict.fromkeys((*_SHOWN, *named))
             if name in run.contents.packages]  # fmt: skip
    kernel = [f"linux-image {run.contents.kernel}"] if run.contents.kernel else []
    return {
        "image": run.image, "archive": run.contents.day or "of an unknown day",
        "packages": printable(f"{len(run.contents.packages)}, among them {', '.join((*known, *kernel))}"),
    }  # fmt: skip


def _titled(run: GuestRun) -> str:
    """The distribution, and for a moving one the day that its packages are from."""
    day = run.contents.day if run.contents is not None and run.distro in MOVING else ""
    return f"{_title(run.distro)} as of {day}" if day else _title(run.distro)


def _title(distro: str) -> str:
    """`debian-12` as people write it: Debian 12."""
    return distro.replace("-", " ").capitalize()


def lost_guest(
    label: str, what: str, console: Sequence[str], remedy: Remedy, location: Location | None = None
) -> Finding:
    """The finding about a guest that verified nothing."""
    return codes.GUEST.finding(
        Status.UNVERIFIED, label or "guest", what, remedy, location=location,
        evidence={"console": "\n".join(console)} if console else None,
    )  # fmt: skip


def guest_services(made: GuestReport) -> tuple[ServiceResult, ...]:
    """The services of one guest's report."""
    return tuple(replace(item, engine=GUEST, name=_labelled(made, item.name)) for item in made.run.report.services)


def _labelled(made: GuestReport, text: str) -> str:
    return f"{made.label}: {text}" if made.label else text


def guest_summary(parts: Sequence[GuestReport]) -> HostSummary | None:
    """Where the services ran, versions of several guests joined; None where no guest said."""
    seen = [item.run.report.host for item in parts if item.run.report.host is not None]
    if not seen:
        return None
    return replace(
        seen[0], engine=GUEST, kernel=_joined(item.kernel for item in seen),
        systemd=_joined(item.systemd for item in seen),
    )  # fmt: skip


def _joined(words: Iterable[str | None]) -> str | None:
    known = [word for word in words if word is not None]
    return " / ".join(dict.fromkeys(known)) or None
