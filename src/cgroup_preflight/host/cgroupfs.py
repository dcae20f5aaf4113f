"""The formats of the cgroup file system, and the cgroups from its mount down to one, each read once.

Formats: /proc/PID/mountinfo (proc(5), kernel Documentation/filesystems/proc.rst section 3.5); /proc/PID/cgroup
(cgroups(7)), whose line `0::` is version 2; files of whole words (`cgroup.controllers`), flat keyed files (`cpu.stat`,
`memory.events`: `KEY VALUE` in each line) and files with one limit (`memory.max`, `cpu.max`), all in cgroup-v2.rst;
`*.pressure` (kernel Documentation/accounting/psi.rst).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

from cgroup_preflight.core.reading import Missing, Reading, Why
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.host.procfs import DIGITS_MAX, parse_line, read_kernel

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


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


def parse_proc_cgroup(text: str) -> str:
    """The path of the `0::` line, as the reader's cgroup namespace shows it.

    The kernel adds ` (deleted)` for a zombie whose cgroup was removed, but a cgroup can have such a name, too.
    Raises ValueError where there is none (pure version 1) or a line is not of the documented form.
    """
    path = None
    for line in filter(None, text.split("\n")):
        number, first, rest = line.partition(":")
        controllers, second, name = rest.partition(":")
        if not first or not second or not number.isdigit():
            raise ValueError(f"not a cgroup line: {line[:80]!r}")
        if number == "0" and not controllers:
            path = name
    if path is None or not path.startswith("/"):
        raise ValueError("no 0:: line: no cgroup v2 hierarchy")
    return path


def parse_words(text: str) -> frozenset[str]:
    """The words between blanks; `cpuset` is not `cpu`. Raises ValueError on text that cannot be such a file."""
    words = frozenset(text.split())
    for word in words:
        if not word.replace("_", "").replace(".", "").isalnum() or not word.isascii():
            raise ValueError(f"not a word: {word[:40]!r}")
    return words


def parse_flat_keyed(text: str) -> dict[str, int]:
    """Values by key. Raises ValueError on a line of another form."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if not key or not value.isascii() or not value.isdigit() or len(value) > DIGITS_MAX:
            raise ValueError(f"not a KEY VALUE line: {line[:80]!r}")
        values[key] = int(value)
    return values


@dataclass(frozen=True, slots=True)
class CpuMax:
    """`cpu.max`: microseconds of `quota` (None: no limit) in each `period`."""

    quota: int | None
    period: int

    @property
    def cpus(self) -> float | None:
        """The quota as a number of CPUs."""
        return None if self.quota is None else self.quota / self.period


def parse_limit(text: str) -> int | None:
    """A number, or None for `max`. Raises ValueError; -1 is version 1 and refused."""
    word = text.strip()
    if word == "max":
        return None
    if not word.isascii() or not word.isdigit() or len(word) > DIGITS_MAX:
        raise ValueError(f"not a limit: {word[:40]!r}")
    return int(word)


def parse_cpu_max(text: str) -> CpuMax:
    """`QUOTA PERIOD` or `max PERIOD`. Raises ValueError."""
    words = text.split()
    period = parse_limit(words[1]) if len(words) == 2 else None
    if not period:
        raise ValueError(f"not a cpu.max: {text[:40]!r}")
    return CpuMax(parse_limit(words[0]), period)


def parse_pressure(text: str) -> dict[str, float]:
    """`some_avg10`, `some_total`, `full_avg10` and so on; percent, totals in microseconds. Raises ValueError."""
    values: dict[str, float] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        if kind not in ("some", "full"):
            raise ValueError(f"not a pressure line: {line[:80]!r}")
        for pair in pairs:
            key, separator, value = pair.partition("=")
            if not separator:
                raise ValueError(f"not a pressure line: {line[:80]!r}")
            number = float(value[:DIGITS_MAX])
            if not math.isfinite(number):
                raise ValueError(f"not a number: {value[:40]!r}")
            values[f"{kind}_{key}"] = number
    if not values:
        raise ValueError("nothing in it")
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupReading:
    """What the files of one cgroup say; `path` is below the mount, and empty for the mount itself.

    The real root has no limits; a root with limits is the root of a cgroup namespace.
    """

    path: str
    controllers: Reading[frozenset[str]]
    subtree_control: Reading[frozenset[str]]
    type: Reading[str]
    memory_max: Reading[int | None]
    cpu_max: Reading[CpuMax]
    pids_max: Reading[int | None]


#: A path deeper than this is not a real one.
_DEPTH_MAX = 64


def _way_down(path: str) -> tuple[str, ...]:
    """The paths from the mount (an empty one) down to `path`: "", "/a", "/a/b"."""
    parts = [part for part in path.split("/") if part][:_DEPTH_MAX]
    return tuple("".join(f"/{part}" for part in parts[:end]) for end in range(len(parts) + 1))


def below_mount(path: str, mount: Mount | None) -> str | None:
    """Where the cgroup `path` of /proc/PID/cgroup is below the mount, None if the mount does not show it.

    A mount can show another part of the tree than the reader's namespace: then its root, or the path, climbs with
    `/..` (cgroup_namespaces(7)).
    """
    root = "" if mount is None or mount.root == "/" else mount.root
    if ".." in path.split("/") or ".." in root.split("/"):
        return None
    if not f"{path}/".startswith(f"{root}/"):
        return None
    return path.removeprefix(root)


def read_levels(
    fs: HostFs, mount_point: str, path: str, known: Iterable[CgroupReading] = ()
) -> tuple[CgroupReading, ...]:
    """Every level from the mount down to `path`; those of `known` are not read again."""
    there = {level.path: level for level in known}
    return tuple(there.get(item) or _level(fs, mount_point, item) for item in _way_down(path))


def _level(fs: HostFs, mount_point: str, path: str) -> CgroupReading:
    folder = f"{mount_point}{path}"
    controllers = read_kernel(fs, f"{folder}/cgroup.controllers", parse_words)
    # Every cgroup has that file: without it there is no cgroup, and the other files need not be read.
    gone = isinstance(controllers, Missing) and controllers.why is Why.ABSENT

    def read(name: str, parse: Callable[[str], T]) -> Reading[T]:
        place = f"{folder}/{name}"
        return Missing(source=place, why=Why.ABSENT) if gone else read_kernel(fs, place, parse)

    return CgroupReading(
        path=path,
        controllers=controllers,
        subtree_control=read("cgroup.subtree_control", parse_words),
        type=read("cgroup.type", parse_line),
        memory_max=read("memory.max", parse_limit),
        cpu_max=read("cpu.max", parse_cpu_max),
        pids_max=read("pids.max", parse_limit),
    )
