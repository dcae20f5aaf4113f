"""Packages that the package of an installed unit recommends, and that the guest was built without.

apt installs them by default (Debian Policy, 7.2: "in all but unusual installations"), so what fails without them may well
work where the service runs.
"""

import re
from collections.abc import Iterable, Sequence

from cgroup_preflight.config.model import Service
from cgroup_preflight.core import codes
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.fs import MachineFs

_INFO = "/var/lib/dpkg/info"
_STATUS = "/var/lib/dpkg/status"
_CODES = frozenset({codes.SERVICE_RUN.code, codes.READINESS.code})
#: A package in a list of relations, without its version, its architecture and its profile (Debian Policy, 7.1).
_PACKAGE = r"[a-z0-9][a-z0-9+.-]+"


def excused(
    findings: Iterable[Finding], services: Iterable[Service], packages: Sequence[str], files: MachineFs
) -> list[Finding]:  # fmt: skip
    """The findings, of which those about a service that failed without a recommended package are unverified.

    `packages` are those of the config, whose units the services may be.
    """
    units = {item.name: item.source.files[0].path for item in services if item.source and item.source.installed}
    return [
        _excused(item, units[item.subject], packages, files)
        if item.status is Status.FAIL and item.code in _CODES and item.subject in units and not _is_limited(item)
        else item
        for item in findings
    ]


def _is_limited(item: Finding) -> bool:
    """Whether a limit of the run stopped the service: TasksMax refused it a process or a thread."""
    return bool(item.evidence.get("tasks_refused"))


def _excused(item: Finding, unit: str, packages: Sequence[str], files: MachineFs) -> Finding:
    name = unit.rpartition("/")[2]
    for package in packages:
        if f"/systemd/system/{name}" not in value_or(files.read(f"{_INFO}/{package}.list"), ""):
            continue
        if lacking := lacking_of(package, value_or(files.read(_STATUS), "")):
            words = ", ".join(lacking)
            return replace(
                item, status=Status.UNVERIFIED, message=f"the guest lacks what {package} recommends ({words}): {item.message}",
                remedies=(Remedy(title=f"add to packages in [target]: {words}"), *item.remedies),
            )  # fmt: skip
    return item


def lacking_of(package: str, status: str) -> tuple[str, ...]:
    """What `package` recommends and dpkg's `status` (deb822) has not installed; of alternatives the first."""
    known = [_fields(stanza) for stanza in status.split("\n\n")]
    here = [item for item in known if item.get("Status", "").endswith(" installed")]
    installed = {item.get("Package", "") for item in here}
    installed |= {name for item in here for name in _names(item.get("Provides", ""))}
    wanted = next((item.get("Recommends", "") for item in here if item.get("Package") == package), "")
    groups = [[name for one in group.split("|") for name in _names(one)] for group in wanted.split(",")]
    return tuple(group[0] for group in groups if group and not installed.intersection(group))


def _names(relations: str) -> list[str]:
    found = (re.match(_PACKAGE, item.strip()) for item in relations.split(","))
    return [match[0] for match in found if match]


def _fields(stanza: str) -> dict[str, str]:
    """The fields on one line each, as dpkg writes those that are read here."""
    lines = (line.partition(":") for line in stanza.splitlines() if line[:1] not in (" ", "\t"))
    return {key: value.strip() for key, colon, value in lines if colon}
