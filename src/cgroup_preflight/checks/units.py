"""CGP128: what systemd says of the limits of each unit is what the kernel has. Pure.

`systemctl show` prints what systemd wants, not what the kernel took: a write that failed is only logged, a change on
disk may not be loaded, and systemd 257 leaves the old limits in force after a reload of the manager. Nor is a limit in
force because its file reads so: newer systemd writes memory.max without waiting, and newer kernels leave the usage above it.
"""

import re
from collections.abc import Iterable, Mapping

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core import codes
from cgroup_preflight.core import quantities as q
from cgroup_preflight.core.quantities import format_bytes
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Finding, Location, Remedy, Status
from cgroup_preflight.core.slack import memory_slack
from cgroup_preflight.host.cgroupfs import parse_limit
from cgroup_preflight.host.units import FILES, ShownUnit
from cgroup_preflight.plan.expect import quota_usec

#: The release that applies changed limits of running units only with their next change (see docs/how-limits-get-lost.md).
_KEEPS_OLD = 257
_NO_LIMIT = "infinity"
_LONG_MAX = (1 << 63) - 1
#: Shares and protections that systemd does not set, and a quota that is none, leave the kernel's own value.
_UNSET = ("", "[not set]", "18446744073709551615", "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    property: str
    wanted: str
    attribute: str
    actual: str


def unit_findings(
    units: Reading[tuple[ShownUnit, ...]], *, page_size: int, systemd: int, cpus: int = 1
) -> tuple[Finding, ...]:  # fmt: skip
    """One finding for each unit whose limits in the kernel are not those of systemd, or one that they all agree.

    With more `cpus`, the kernel's counters may be further above a limit in passing.
    """
    if isinstance(units, Missing):
        message = f"the units of this host could not be read: {units}"
        remedy = Remedy(title="run on a host with systemd")
        return (codes.UNIT_LIMITS.finding(Status.UNVERIFIED, "units", message, remedy),)
    if not units.value:
        message = "no unit of this host has a cgroup below the mount point that is seen here"
        remedy = Remedy(title="run on the host itself, and not in a container")
        return (codes.UNIT_LIMITS.finding(Status.UNVERIFIED, "units", message, remedy),)
    findings, count = [], 0
    for unit in units.value:
        wrong, compared, unread = _compare(unit, page_size)
        count += compared
        if wrong:
            findings.append(_wrong(unit, wrong, systemd))
        elif (most := _memory_max(unit)) is not None and (unit.used or 0) > most + memory_slack(cpus, page_size):
            findings.append(_above(unit, most))
        elif unread:
            message = f"could not be read: {unread}"
            findings.append(
                codes.UNIT_LIMITS.finding(Status.UNVERIFIED, unit.unit, message, Remedy(title="run as root"))
            )
    if findings:
        return tuple(findings)
    message = f"the kernel has the {count} limits and weights that systemd has for {len(units.value)} unit{'s' if len(units.value) > 1 else ''}"
    return (codes.UNIT_LIMITS.finding(Status.PASS, "units", message),)


def _compare(unit: ShownUnit, page_size: int) -> tuple[list[_Difference], int, Missing | None]:
    """The differences of a unit, how many values were compared, and the first file that could not be read."""
    shown, files = dict(unit.shown), dict(unit.files)
    wrong: list[_Difference] = []
    count, unread = 0, None
    for name, attribute in FILES.items():
        wanted = _wanted(name, shown, page_size)
        if wanted is None:
            continue
        reading = files[attribute]
        if isinstance(reading, Known):
            actual = reading.value.strip()
            agrees = actual.split()[:1] == ["max"] if wanted == "max" else q.says(attribute, wanted, actual)
            count += wanted not in ("max", "0")
        elif reading.why is Why.ABSENT:
            # Without the controller there is no file: then only "no limit" is true.
            actual, agrees = "no such file", wanted in ("max", "0")
        else:
            unread = unread or reading
            continue
        if not agrees:
            wrong.append(_Difference(property=name, wanted=wanted, attribute=attribute, actual=actual))
    return wrong, count, unread


def _wanted(name: str, shown: Mapping[str, str], page_size: int) -> str | None:
    """What the file must say by systemd's word; None where systemd sets nothing."""
    text = shown.get(name, "")
    if name == "CPUQuotaPerSecUSec":
        return _quota(shown)
    if name in ("CPUWeight", "AllowedCPUs"):
        return None if text in _UNSET else text
    if text == _NO_LIMIT or (text.isdigit() and int(text) >= _LONG_MAX):
        return "max"
    if not text.isdigit():
        return None
    return text if name == "TasksMax" else str(int(text) // page_size * page_size)


def _quota(shown: Mapping[str, str]) -> str | None:
    text = shown.get("CPUQuotaPerSecUSec", "")
    if text == _NO_LIMIT:
        return "max"
    try:
        settings = [_setting("CPUQuota", q.Permyriad(value=q.parse_span(text) // 100))]
        period = shown.get("CPUQuotaPeriodUSec", _NO_LIMIT)
        if period != _NO_LIMIT:
            settings.append(_setting("CPUQuotaPeriodSec", q.parse_span(period)))
    except q.QuantityError:
        return None
    quota = quota_usec({item.property: item for item in settings})
    return f"{quota[0]} {quota[1]}" if quota else None


def _memory_max(unit: ShownUnit) -> int | None:
    reading = dict(unit.files).get("memory.max")
    return value_or(parsed(reading, parse_limit), None) if isinstance(reading, Known) else None


def _above(unit: ShownUnit, most: int) -> Finding:
    """Systemd and the kernel's file agree, and the usage contradicts both."""
    used, file = unit.used or 0, f"{unit.cgroup}/memory.max"
    restart = Remedy(
        title="restart the unit, so that it starts below its limit, or raise the limit above its usage", needs_root=True,
        why="systemd of 2025 and later writes memory.max without waiting; kernels from 6.16 on then leave the usage above "
        "it, kill nobody, and count no event until the unit asks for more memory",
        commands=(("systemctl", "restart", "--", unit.unit),),
    )  # fmt: skip
    message = (
        f"memory.max is {most} ({format_bytes(most)}), as systemd says, but memory.current is {used} ({format_bytes(used)}): "
        "the limit was lowered below the usage and is not in force"
    )
    evidence = {file: most, f"{unit.cgroup}/memory.current": used}
    return codes.UNIT_LIMITS.finding(Status.FAIL, unit.unit, message, restart, evidence=evidence)


def _setting(name: str, value: q.Permyriad | int) -> Setting:
    return Setting(property=name, text="", value=value, location=Location(file="", line=0))


def _wrong(unit: ShownUnit, wrong: Iterable[_Difference], systemd: int) -> Finding:
    differences = tuple(wrong)
    texts = [f"{item.attribute} is {item.actual!r}, systemd says {item.wanted!r}" for item in differences]
    missing = any(item.actual == "no such file" for item in differences)
    evidence = {f"{unit.cgroup}/{item.attribute}": item.actual for item in differences}
    cause, remedy = _cause(unit, differences[0], systemd, missing=missing)
    message = f"{'; '.join(texts)}: {cause}"
    return codes.UNIT_LIMITS.finding(Status.FAIL, unit.unit, message, remedy, evidence=evidence)


def _cause(unit: ShownUnit, first: _Difference, systemd: int, *, missing: bool) -> tuple[str, Remedy]:
    if unit.needs_reload:
        reload = Remedy(title="load the unit files again", commands=(("systemctl", "daemon-reload"),), needs_root=True)
        return "its unit files changed on disk and are not loaded", reload
    if missing:
        check = Remedy(title="find the level where the controller ends", commands=(("cgroup-preflight", "check"),))
        return "the controller is not enabled for this cgroup", check
    if first.attribute == "cpuset.cpus" and not first.actual:
        name = Remedy(title="name only CPUs that this machine has in AllowedCPUs", commands=(("lscpu",),))
        return (
            "the kernel refuses the whole list for one CPU that the machine lacks, and the unit runs on all CPUs",
            name,
        )
    # Any change of a property makes systemd write all limits of the unit again.
    again = Remedy(
        title="have systemd write the limits of this unit again", needs_root=True,
        commands=(("systemctl", "set-property", "--runtime", unit.unit, f"{_property(first)}={_text(first)}"),),
    )  # fmt: skip
    if systemd == _KEEPS_OLD:
        return f"systemd {systemd} keeps the old limits of running units in the kernel after a daemon-reload", again
    return "something else wrote the file, or the kernel refused what systemd wrote (see the journal)", again


def _property(item: _Difference) -> str:
    return "CPUQuota" if item.property == "CPUQuotaPerSecUSec" else item.property


def _text(item: _Difference) -> str:
    """The value in the spelling of a unit file."""
    if item.property != "CPUQuotaPerSecUSec":
        return _NO_LIMIT if item.wanted == "max" else item.wanted
    words = re.findall(r"\d+", item.wanted)
    return f"{int(words[0]) * 100 / int(words[1]):g}%" if len(words) == 2 else ""
