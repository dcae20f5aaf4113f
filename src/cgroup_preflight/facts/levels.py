"""The cgroups on a way down from the mount, each read once."""

from cgroup_preflight.facts.limits import parse_cpu_max, parse_limit
from cgroup_preflight.facts.model import Level
from cgroup_preflight.facts.proc_files import parse_line
from cgroup_preflight.facts.words import parse_words
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.reading import parsed

#: A path deeper than this is not a real one.
_DEPTH_MAX = 64


def way_down(path: str) -> tuple[str, ...]:
    """The paths from the mount (an empty one) down to `path`: "", "/a", "/a/b"."""
    parts = [part for part in path.split("/") if part][:_DEPTH_MAX]
    return tuple("".join(f"/{part}" for part in parts[:end]) for end in range(len(parts) + 1))


def read_levels(fs: HostFs, mount_point: str, path: str) -> tuple[Level, ...]:
    """Every level from the mount down to `path`."""
    return tuple(_level(fs, mount_point, item) for item in way_down(path))


def _level(fs: HostFs, mount_point: str, path: str) -> Level:
    folder = f"{mount_point}{path}"
    return Level(
        path=path,
        controllers=parsed(fs.read(f"{folder}/cgroup.controllers"), parse_words),
        subtree_control=parsed(fs.read(f"{folder}/cgroup.subtree_control"), parse_words),
        type=parsed(fs.read(f"{folder}/cgroup.type"), parse_line),
        memory_max=parsed(fs.read(f"{folder}/memory.max"), parse_limit),
        cpu_max=parsed(fs.read(f"{folder}/cpu.max"), parse_cpu_max),
        pids_max=parsed(fs.read(f"{folder}/pids.max"), parse_limit),
    )
