"""The findings of a report by who must read them: what is about the project, about the machine, and ignored. Pure."""

import re
from collections.abc import Callable

from cgroup_preflight.core import codes
from cgroup_preflight.core.machine import NOT_JUDGED, is_about_machine
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import PROBLEMS, By, Finding, HostSummary, Report, Status
from cgroup_preflight.report.escape import clip

#: A report with one of these findings is about services; without, the machine is what was asked about.
_OF_SERVICES = (codes.LIMITS_IN_FORCE.code, codes.SERVICE_RUN.code, codes.SERVICE_START.code)
#: Names of two checks of a host.
_PRESSURE, _CONTAINER = "pressure", "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """`problems` are to be read, the worst first; `machine` are warnings about where the run happened.

    `ignored` are those that the config ignores, `forgiven` those that the baseline has; `policy` says what the policy changed
    besides; `rest` passed or was skipped.
    """

    problems: tuple[Finding, ...]
    machine: tuple[Finding, ...]
    ignored: tuple[Finding, ...]
    forgiven: tuple[Finding, ...]
    policy: tuple[Finding, ...]
    rest: tuple[Finding, ...]


def view_of(report: Report) -> View:
    """Each finding of the report, in one of the groups."""
    groups: dict[str, list[Finding]] = {name: [] for name in View.__slots__}
    served = is_about_services(report)
    for item in report.findings:
        groups[_group(item, served=served)].append(item)
    for name in ("ignored", "forgiven"):
        groups[name].sort(key=lambda item: not item.is_accepted_fail)
    return View(**{name: tuple(found) for name, found in groups.items()})


def _group(item: Finding, *, served: bool) -> str:
    if item.policy is not None and item.is_waived:
        return "ignored" if item.policy.by is By.IGNORE else "forgiven"
    if item.code == codes.THRESHOLDS.code:
        return "policy"
    if item.status not in PROBLEMS:
        return "rest"
    return "machine" if served and is_about_machine(item) else "problems"


def is_about_services(report: Report) -> bool:
    """Whether services were run, so that warnings about the machine are not what the reader asked about."""
    return bool(report.services) or any(item.code in _OF_SERVICES for item in report.findings)


def noise_of(report: Report) -> Callable[[Finding], bool]:
    """Tells the findings that a list of problems of the project leaves out, also if the policy has accepted them."""
    served = is_about_services(report)
    return lambda item: served and is_about_machine(_as_found(item))


def _as_found(item: Finding) -> Finding:
    if item.policy is None or not item.is_waived:
        return item
    return replace(item, status=item.policy.was, policy=None)


def excuse(item: Finding) -> str:
    """Why a finding does not count, or has another status than its check gave; empty without a policy."""
    ruling = item.policy
    if ruling is None:
        return ""
    if ruling.by is By.BASELINE:
        return f"{ruling.was}, and the baseline has it, too"
    if ruling.by is By.IGNORE:
        until = f" until {ruling.until}" if ruling.until else ""
        at = f" [{ruling.location.file}:{ruling.location.line}]" if ruling.location else ""
        return f"{ruling.was}, ignored{until}: {ruling.reason}{at}"
    if ruling.by is By.MACHINE_WARNINGS or ruling.was is item.status:
        return ""
    return f"{ruling.was} by the check, {item.status} by {ruling.by} in [policy]"


def host_words(host: HostSummary) -> tuple[tuple[str, str], ...]:
    """What a header says of the machine, by name.

    Who knows the hierarchy and not its mount point has read the kernel's counters alone, and has not asked whether there is a service manager.
    """
    kernel, cgroup = ("kernel", host.kernel or "unknown"), ("cgroup", host.hierarchy or "unknown")
    if host.hierarchy == "unified" and host.mount_point is None:
        return kernel, cgroup
    return kernel, ("systemd", host.systemd or "none"), cgroup, ("engine", host.engine or "none")


def surroundings(report: Report) -> str:
    """What a reader must know of where the run happened, in one line that is safe on a terminal; may be empty."""
    guests = [_guest(item) for item in report.findings if item.code == codes.GUEST.code and "machine" in item.evidence]
    warned = [item for item in report.findings if Status.WARN in (item.status, item.policy and item.policy.was)]
    container = next((item.subject for item in warned if item.name == _CONTAINER), "")
    elsewhere = any(item.subject.startswith(NOT_JUDGED) for item in report.findings)
    here = [f"in a VM ({'; '.join(guests)})"] if guests else []
    if any(item.name == _PRESSURE for item in warned):
        here.append("no PSI")
    parts = [", ".join(here)] if here else []
    name = _inert(container.removeprefix(NOT_JUDGED))
    if elsewhere:
        parts.append(f"this host{f' ({name})' if name else ''} was not judged")
    elif name:
        parts.append(f"in a container ({name})")
    return "; ".join(parts)


def _guest(item: Finding) -> str:
    cpus, memory, distro = (item.evidence.get(key) for key in ("cpus", "memory_mib", "distro"))
    sizes = [str(distro or "unknown system"), f"{cpus} CPU{'' if cpus == 1 else 's'}", f"{memory} MiB"]
    return _inert(", ".join(sizes))


def _inert(text: str) -> str:
    """A short text in which nothing has a meaning: the report may be one of strangers."""
    return re.sub(r"[^A-Za-z0-9 .,-]", "?", clip(text, 80))
