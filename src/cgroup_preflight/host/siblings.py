"""The cgroups in one cgroup that have processes, with their CPU weights and quotas: what competes there for CPU time."""

from collections.abc import Iterator

from cgroup_preflight.core.reading import Known, Missing, Reading, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.cgroupfs import parse_cpu_max, parse_flat_keyed, parse_limit
from cgroup_preflight.host.procfs import read_kernel

if TYPE_CHECKING:
    from cgroup_preflight.host.fs import HostFs

#: What the cgroup of a unit ends with (systemd.unit(5)).
UNITS = (".slice", ".scope", ".service", ".socket", ".mount", ".swap")
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """One cgroup with processes: `weight` is 0 for idle and 100 where the cpu controller is off; `quota` is QUOTA, PERIOD."""

    name: str
    weight: int
    quota: tuple[int, int] | None = None


def read_siblings(fs: "HostFs", mount: str, cgroup: str) -> Reading[tuple[Sibling, ...]]:
    """The units in the cgroup at a path below the mount, an empty path for the top, by name."""
    folder = f"{mount.rstrip('/')}{cgroup}"
    names = fs.names(folder)
    if isinstance(names, Missing):
        return names
    units = [name for name in names.value if name.endswith(UNITS)][:_MOST]
    return Known(value=tuple(_siblings(fs, folder, units)), source=folder)


def _siblings(fs: "HostFs", folder: str, names: list[str]) -> Iterator[Sibling]:
    for name in names:
        place = f"{folder}/{name}"
        events = value_or(read_kernel(fs, f"{place}/cgroup.events", parse_flat_keyed), {})
        if not events.get("populated"):
            continue
        idle = value_or(read_kernel(fs, f"{place}/cpu.idle", parse_limit), 0)
        weight = value_or(read_kernel(fs, f"{place}/cpu.weight", parse_limit), 100)
        quota = value_or(read_kernel(fs, f"{place}/cpu.max", parse_cpu_max), None)
        limited = quota is not None and quota.quota is not None
        yield Sibling(
            name=name, weight=0 if idle else weight or 100,
            quota=(quota.quota, quota.period) if quota is not None and quota.quota is not None and limited else None,
        )  # fmt: skip
