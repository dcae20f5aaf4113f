"""The cgroups on a way down from the mount, each read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cgroup_preflight.core.reading import Missing, Reading, Why
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.facts.kernel_text import read_kernel
from cgroup_preflight.facts.limits import parse_cpu_max, parse_limit
from cgroup_preflight.facts.model import Level
from cgroup_preflight.facts.mountinfo import Mount
from cgroup_preflight.facts.proc_files import parse_line
from cgroup_preflight.facts.words import parse_words
from cgroup_preflight.host.fs import HostFs

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

#: A path deeper than this is not a real one.
_DEPTH_MAX = 64


def way_down(path: str) -> tuple[str, ...]:
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


def read_levels(fs: HostFs, mount_point: str, path: str, known: Iterable[Level] = ()) -> tuple[Level, ...]:
    """Every level from the mount down to `path`; those of `known` are not read again."""
    there = {level.path: level for level in known}
    return tuple(there.get(item) or _level(fs, mount_point, item) for item in way_down(path))


def _level(fs: HostFs, mount_point: str, path: str) -> Level:
    folder = f"{mount_point}{path}"
    controllers = read_kernel(fs, f"{folder}/cgroup.controllers", parse_words)
    # Every cgroup has that file: without it there is no cgroup, and none of the others need be asked for.
    gone = isinstance(controllers, Missing) and controllers.why is Why.ABSENT

    def read(name: str, parse: Callable[[str], T]) -> Reading[T]:
        place = f"{folder}/{name}"
        return Missing(source=place, why=Why.ABSENT) if gone else read_kernel(fs, place, parse)

    return Level(
        path=path,
        controllers=controllers,
        subtree_control=read("cgroup.subtree_control", parse_words),
        type=read("cgroup.type", parse_line),
        memory_max=read("memory.max", parse_limit),
        cpu_max=read("cpu.max", parse_cpu_max),
        pids_max=read("pids.max", parse_limit),
    )
