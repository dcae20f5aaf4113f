"""The units of this host as systemd shows them, each with the files of its cgroup that hold limits."""

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.cgroupfs import parse_limit
from cgroup_preflight.host.systemd import parse_unit_show

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner
    from cgroup_preflight.host.fs import HostFs

#: Properties of `systemctl show` that have a file in the cgroup (systemd.resource-control(5), org.freedesktop.systemd1(5)).
FILES = {
    "MemoryMin": "memory.min", "MemoryLow": "memory.low", "MemoryHigh": "memory.high", "MemoryMax": "memory.max",
    "MemorySwapMax": "memory.swap.max", "MemoryZSwapMax": "memory.zswap.max", "CPUQuotaPerSecUSec": "cpu.max",
    "CPUWeight": "cpu.weight", "AllowedCPUs": "cpuset.cpus", "TasksMax": "pids.max",
}  # fmt: skip
_SHOW = ("Id", "ControlGroup", "NeedDaemonReload", "CPUQuotaPeriodUSec", *FILES)
_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownUnit:
    """One unit with a cgroup: `shown` is systemd's word by property, `files` what the kernel says by attribute file.

    `used` is memory.current in bytes, read after the limits; None where the unit has no memory controller.
    """

    unit: str
    cgroup: str
    needs_reload: bool
    shown: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, Reading[str]], ...]
    used: int | None = None


def read_units(fs: "HostFs", runner: "CommandRunner", mount: str) -> Reading[tuple[ShownUnit, ...]]:
    """Every service, slice and scope that the system manager runs, and its files below `mount`."""
    kinds = ("*.service", "*.slice", "*.scope")
    answer = runner.run(("systemctl", "show", f"--property={','.join(_SHOW)}", "--", *kinds), timeout=_SECONDS)
    if isinstance(answer, Missing):
        return answer
    if answer.value.returncode != 0:
        return Missing(source="systemctl show", why=Why.MALFORMED, detail=answer.value.stderr.strip()[:200])
    units = (_unit(fs, mount, shown) for shown in parse_unit_show(answer.value.stdout))
    return Known(value=tuple(unit for unit in units if unit is not None), source="systemctl show")


def _unit(fs: "HostFs", mount: str, shown: dict[str, str]) -> ShownUnit | None:
    name, cgroup = shown.get("Id", ""), shown.get("ControlGroup", "")
    folder = f"{mount.rstrip('/')}{cgroup}"
    exists = fs.exists(f"{folder}/cgroup.procs") if name and cgroup.startswith("/") else None
    if not isinstance(exists, Known) or not exists.value:
        return None
    files = {attribute: fs.read(f"{folder}/{attribute}") for item, attribute in FILES.items() if item in shown}
    return ShownUnit(
        unit=name, cgroup=cgroup, needs_reload=shown.get("NeedDaemonReload") == "yes",
        shown=tuple(shown.items()), files=tuple(files.items()),
        used=value_or(parsed(fs.read(f"{folder}/memory.current"), parse_limit), None),
    )  # fmt: skip
