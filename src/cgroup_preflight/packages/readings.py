"""Limits of units that run as they are installed: the kernel's files against the plan, and where the unit runs."""

import os
from collections.abc import Iterable, Mapping

from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass, field
from cgroup_preflight.core.slack import memory_slack
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.units import FILES
from cgroup_preflight.packages.leftovers import show_units
from cgroup_preflight.plan.expect import HostNumbers, agrees, expectations
from cgroup_preflight.plan.model import Plan, ServicePlan
from cgroup_preflight.smoke.limits import LimitReading, above_limit, nowhere, read_limits

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner

_SHOWN = ("Id", "LoadState", "ActiveState", "SubState", "ControlGroup", "InvocationID", "NeedDaemonReload", *FILES)
#: Where `systemctl show` has another name than unit files (org.freedesktop.systemd1(5)).
_NAMES = {"CPUQuota": "CPUQuotaPerSecUSec"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledReading:
    """One service at one moment: systemd's words, and the readings of the service and of every slice above it.

    `said` is what systemd says of each limit, by the file. `invocation` differs when the service was started again. `place` is its cgroup, `expected_place` the one that the plan
    puts it in, empty where the plan says nothing. `slack`: so many bytes memory.current may be above memory.max in passing.
    """

    label: str
    unit: str
    state: str
    invocation: str
    place: str
    expected_place: str
    needs_reload: bool
    limits: tuple[LimitReading, ...]
    said: Mapping[str, str] = field(default_factory=dict)
    slack: int = 0

    @property
    def runs(self) -> bool:
        """Whether the service is active."""
        return self.state.startswith("active")

    @property
    def ended(self) -> bool:
        """Whether the service has ended without a failure."""
        return self.state.startswith("inactive")

    @property
    def wrong(self) -> tuple[LimitReading, ...]:
        """The readings that are not as the plan says."""
        return tuple(item for item in self.limits if not item.in_force(self.slack))

    @property
    def misplaced(self) -> str:
        """Where it runs instead of in the slice of the plan; empty where it is right."""
        right = not self.expected_place or self.place == self.expected_place
        return "" if right else f"it runs in {self.place or 'no cgroup'}, and not in {self.expected_place}"


def read_installed(
    programs: "CommandRunner", observer: Observer, plan: Plan, services: Iterable[ServicePlan], numbers: HostNumbers
) -> tuple[InstalledReading, ...]:  # fmt: skip
    """The readings of services under the names that their packages gave them."""
    wanted = tuple(services)
    units = dict.fromkeys((*(item.unit for item in wanted), *(unit for item in wanted for unit in item.slices)))
    shown = {item.get("Id", ""): item for item in show_units(programs, units, _SHOWN)}
    return tuple(_reading(observer, plan, item, shown, numbers) for item in wanted)


def _reading(
    observer: Observer, plan: Plan, service: ServicePlan, shown: Mapping[str, Mapping[str, str]], numbers: HostNumbers
) -> InstalledReading:  # fmt: skip
    own = shown.get(service.unit, {})
    levels = [(item.unit, item.settings) for item in reversed(plan.above(service))]
    levels.append((service.unit, service.settings))
    found: list[LimitReading] = []
    for unit, settings in levels:
        cgroup, expected = shown.get(unit, {}).get("ControlGroup", ""), expectations(settings, numbers)
        found += read_limits(observer, unit, cgroup, expected) if cgroup else nowhere(unit, expected)
    above = shown.get(service.slices[-1], {}).get("ControlGroup", "") if service.slices else ""
    return InstalledReading(
        label=service.label, unit=service.unit, invocation=own.get("InvocationID", ""), place=own.get("ControlGroup", ""),
        state=f"{own.get('ActiveState', 'unknown')} ({own.get('SubState', '')}, {own.get('LoadState', '')})",
        expected_place=f"{above or '/' + service.slices[-1]}/{service.unit}" if service.slices else "",
        needs_reload=own.get("NeedDaemonReload") == "yes", limits=tuple(found),
        slack=memory_slack(os.cpu_count() or 1, numbers.page_size),
        said={
            item.file: shown.get(item.unit, {}).get(_NAMES.get(name := item.expected.property.name, name), "")
            for item in found
        },
    )  # fmt: skip


def told(readings: Iterable[LimitReading]) -> str:
    """Readings that are wrong, in words."""
    return "; ".join(
        f"{item.file} is {_actual(item)!r}, but {above_limit(item)}"
        if isinstance(item.actual, Known) and agrees(item.expected, item.actual.value)
        else f"{item.file} is {_actual(item)!r}, expected {item.expected.text!r}"
        for item in readings
    )


def _actual(item: LimitReading) -> str:
    return str(item.actual) if isinstance(item.actual, Missing) else item.actual.value.strip()
