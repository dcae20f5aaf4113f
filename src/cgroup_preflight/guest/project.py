"""The files of a project that go into a guest: its config, its binaries and the files that the config names."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.overlay import INPUT_DIR

_TREE = "project"
_ABSOLUTE = "absolute"
_FILES_MAX = 10_000
_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`inputs` are files of the host by their names in the input folder; `folder` is the config's folder in the guest.

    `outside` are the binaries with absolute paths, as pairs of (path where it arrives, path in the config), both in the
    guest. `size` is in bytes.
    """

    inputs: Mapping[str, Path]
    folder: str
    config_name: str
    outside: tuple[tuple[str, str], ...]
    size: int


def project_of(config: Config, names: Iterable[str] = ()) -> Project:
    """The files for the services `names` (empty: all). Raises UsageError for too many files or bytes, OSError."""
    wanted = set(names)
    home = Path(config.folder)
    binaries = [item.binary for item in config.services if not wanted or item.name in wanted]
    near = [os.path.normpath(home / binary) for binary in binaries if not os.path.isabs(binary)]
    # A binary may be outside of the config's folder: the tree in the guest starts at the common parent of all.
    top = Path(os.path.commonpath([str(home), *(os.path.dirname(path) for path in near)]))
    config_name = os.path.basename(config.path)
    outside = tuple(dict.fromkeys(os.path.normpath(binary) for binary in binaries if os.path.isabs(binary)))
    places = {_inside(top, path): path for path in (*near, *map(str, _files(home, config.target.files)))}
    places[_inside(top, str(home / config_name))] = str(home / config_name)
    places |= {f"{_ABSOLUTE}{path}": path for path in outside}
    # The target of a link goes in, because the link itself would be dangling in the guest.
    inputs = {name: Path(os.path.realpath(path)) for name, path in places.items()}
    return Project(
        inputs=inputs, folder=str(PurePosixPath(INPUT_DIR) / _TREE / home.relative_to(top)), config_name=config_name,
        outside=tuple((f"{INPUT_DIR}/{_ABSOLUTE}{path}", path) for path in outside),
        size=sum(path.stat().st_size for path in inputs.values()),
    )  # fmt: skip


def _inside(top: Path, path: str) -> str:
    return f"{_TREE}/{Path(path).relative_to(top)}"


def _files(home: Path, globs: Iterable[str]) -> Iterable[Path]:
    """Regular files below `home` that match; links that lead out of `home` are left out."""
    found: dict[Path, None] = {}
    total = 0
    for pattern in globs:
        for path in sorted(home.glob(pattern)):
            if not path.is_file() or not path.resolve().is_relative_to(home.resolve()) or path in found:
                continue
            found[path] = None
            total += path.stat().st_size
            if len(found) > _FILES_MAX or total > _BYTES_MAX:
                raise UsageError(
                    f"files in [target] match more than {_FILES_MAX} files or {_BYTES_MAX >> 30}G", where=pattern,
                    remedy=Remedy(title="name only what the services read"),
                )  # fmt: skip
    return found
