"""Makes the readings of a host: its cgroup mount, the chosen slices, the number of CPUs."""

import difflib
import os
from collections.abc import Sequence

from cgroup_preflight.checks.cgroup.hierarchy import PAGE, hierarchy_name
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.reading import Known, Missing, Why, value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.fs import HostFs, MachineFs
from cgroup_preflight.host.gather import read_mounts
from cgroup_preflight.host.procfs import parse_cpu_list, read_kernel
from cgroup_preflight.metrics.door import LiveDoor
from cgroup_preflight.metrics.names import ROOT_SLICE, slice_path
from cgroup_preflight.metrics.page import Page
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.tree import Scope, Tree
from cgroup_preflight.metrics.watch import Watch

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.core.reading import Reading

    class SlicesFs(Protocol):
        """What finds slices."""

        def exists(self, path: str) -> Reading[bool]:
            """Whether a path exists."""

        def folders(self, path: str) -> Reading[tuple[str, ...]]:
            """The names of the folders in a folder."""


_NEAREST_MAX = 256


def cgroup_mount(fs: HostFs) -> str:
    """Where cgroup v2 is mounted. Raises HostError for a host that has v1 there, or nothing."""
    mounts, mount = read_mounts(fs)
    if isinstance(mount, Known):
        return mount.value.point
    if mount.why is not Why.ABSENT or isinstance(mounts, Missing):
        raise HostError("the cgroup mount cannot be read", where=str(mount),
                        remedy=Remedy(title="run it where /proc and /sys/fs/cgroup are visible"))  # fmt: skip
    kind = hierarchy_name(mounts.value)
    words = "no cgroup file system is mounted" if kind == "none" else f"this host uses cgroup v1 ({kind} hierarchy)"
    raise HostError(f"{words}; these metrics come from cgroup v2", where=mount.source, remedy=Remedy(title=PAGE.fix))


def scope_of(fs: "SlicesFs", mount: str, names: Sequence[str], depth: int) -> Scope:
    """The scope of the chosen slices; none for all. Raises UsageError for one that does not exist, with the nearest."""
    chosen = () if ROOT_SLICE in names else names
    return Scope(slices=tuple(_slice(fs, mount, name) for name in chosen), depth=depth)


def _slice(fs: "SlicesFs", mount: str, name: str) -> str:
    full = name if name.endswith(".slice") else f"{name}.slice"
    try:
        path = slice_path(full)
    except ValueError:
        raise UsageError(f"{name!r} is not the name of a slice", where="--slice",
                         remedy=Remedy(title="use a name such as system.slice; `systemctl list-units -t slice` lists them")) from None  # fmt: skip
    if value_or(fs.exists(f"{mount}{path}"), default=False):
        return path
    near = difflib.get_close_matches(full[:_NEAREST_MAX], _slices(fs, mount), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"there is no slice {full}", where="--slice",
                     remedy=Remedy(title=f"{hint}`systemctl list-units -t slice` lists those that run"))  # fmt: skip


def _slices(fs: "SlicesFs", mount: str) -> list[str]:
    """The names of all slices that exist."""
    found, todo = list[str](), [mount]
    while todo:
        folder = todo.pop()
        names = [name for name in value_or(fs.folders(folder), ()) if name.endswith(".slice")]
        found += names
        todo += (f"{folder}/{name}" for name in names)
    return found


def readings_of(fs: MachineFs, mount: str, scope: Scope, *, follow: bool) -> tuple[Readings, Watch | None]:
    """Readings of the cgroups below `mount`, and with `follow` the watch that reports to them, where there can be one."""
    online = read_kernel(fs, "/sys/devices/system/cpu/online", parse_cpu_list)
    cpus = len(online.value) if isinstance(online, Known) else os.cpu_count() or 1
    watch = None
    if follow:
        try:
            watch = Watch(mount)
        except OSError:
            watch = None
    readings = Readings(Tree(LiveDoor(mount), scope), Page(cpus, scope.covers), watch)
    if follow and watch is None:
        readings.own.errors["watch"] += 1
    return readings, watch
