"""The block devices that limits name, as the kernel numbers them on the machine of the run.

As systemd finds them (cgroup.c `lookup_block_device`, blockdev-util.c): the device itself, or that of the file system
of a path; for a partition or an encrypted device the disk below it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from cgroup_preflight.config.model import Setting
from cgroup_preflight.core.reading import Known, Reading
from cgroup_preflight.core.unit_values import device_limit
from cgroup_preflight.plan.model import Plan

_SYSFS = "/sys/dev/block"
_DEPTH = 8


class Files(Protocol):
    """What is read of the machine."""

    def block_device(self, path: str) -> Reading[str]:
        """MAJOR:MINOR of a device node, or of the file system that a path is on."""

    def exists(self, path: str) -> Reading[bool]:
        """Whether there is a file."""

    def read(self, path: str) -> Reading[str]:
        """The text of a file."""

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        """The names in a folder."""


def devices_of(plan: Plan, files: Files) -> Mapping[str, str]:
    """MAJOR:MINOR by the path that a setting of the plan has; without those that this machine lacks."""
    units = (*(item.settings for item in plan.slices), *(item.settings for item in plan.services))
    paths = {path for settings in units for path in _paths(settings)}
    return {path: number for path in sorted(paths) if (number := _number(path, files))}


def _paths(settings: Iterable[Setting]) -> Iterator[str]:
    for item in settings:
        if item.property.startswith("IO") and isinstance(item.value, tuple):
            yield from (device_limit(line).device for line in item.value)


def _number(path: str, files: Files) -> str:
    reading = files.block_device(path)
    if not isinstance(reading, Known) or reading.value.startswith("0:"):
        return ""
    number = reading.value
    for _ in range(_DEPTH):
        below = files.names(f"{_SYSFS}/{number}/slaves")
        if not isinstance(below, Known) or len(below.value) != 1:
            break
        inner = files.read(f"{_SYSFS}/{number}/slaves/{below.value[0]}/dev")
        if not isinstance(inner, Known):
            break
        number = inner.value.strip()
    if files.exists(f"{_SYSFS}/{number}/partition") == Known(value=True, source=f"{_SYSFS}/{number}/partition"):
        disk = files.read(f"{_SYSFS}/{number}/../dev")
        number = disk.value.strip() if isinstance(disk, Known) else number
    return number
