"""/proc/PID/mountinfo (proc(5), kernel Documentation/filesystems/proc.rst section 3.5)."""

import re

from cgroup_preflight.core.records import dataclass

_ESCAPE = r"\\([0-7]{3})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount: `root` is the folder of the file system that is seen at `point`; `device` is its st_dev."""

    device: str
    root: str
    point: str
    fs_type: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        """Whether the mount or its file system is read-only."""
        return "ro" in self.options or "ro" in self.super_options


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Every mount, in the order of the file: a later one at the same point hides the earlier.

    Raises ValueError on a line that is not of the documented form.
    """
    return tuple(_mount(line) for line in text.split("\n") if line)


def _mount(line: str) -> Mount:
    left, separator, right = line.partition(" - ")
    fields, tail = left.split(" "), right.split(" ")
    if not separator or len(fields) < 6 or len(tail) < 3:
        raise ValueError(f"not a mountinfo line: {line[:80]!r}")
    return Mount(
        device=fields[2], root=_unescape(fields[3]), point=_unescape(fields[4]), fs_type=tail[0],
        options=tuple(fields[5].split(",")), super_options=tuple(tail[2].split(",")),
    )  # fmt: skip


def _unescape(text: str) -> str:
    return re.sub(_ESCAPE, lambda match: chr(int(match[1], 8) & 0xFF), text) if "\\" in text else text


def mount_at(mounts: tuple[Mount, ...], point: str) -> Mount | None:
    """The mount that is seen at exactly `point`: the last one made there."""
    found = [mount for mount in mounts if mount.point == point]
    return found[-1] if found else None


def of_type(mounts: tuple[Mount, ...], fs_type: str) -> tuple[Mount, ...]:
    """The mounts of one file system type."""
    return tuple(mount for mount in mounts if mount.fs_type == fs_type)
