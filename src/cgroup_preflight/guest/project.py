"""The files of a project that go into a guest: its config, its binaries and the files that the config names."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from cgroup_preflight.config.model import Config, Service
from cgroup_preflight.config.places import allows, allows_program, path_of
from cgroup_preflight.core.codes import BINARY, NO_MATCH
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.guest.words import INPUT_DIR
from cgroup_preflight.host import globs

_TREE = "project"
_ABSOLUTE = "absolute"
_FILES_MAX = 10_000
_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`inputs` are files of the host by their names in the input folder; `folder` is the config's folder in the guest.

    `outside` are the binaries and unit files with absolute paths and the `paths` of `[target]`, as pairs of (path where it arrives, path
    that the services know), both in the guest. `programs` are the binaries by the names that the config has for them.
    `size` is in bytes, without what is in folders.
    """

    inputs: Mapping[str, Path]
    folder: str
    config_name: str
    outside: tuple[tuple[str, str], ...]
    size: int
    programs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Path]:
        """The files of the host by their paths in the guest, also those in folders."""
        places = {f"{INPUT_DIR}/{name}": path for name, path in self.inputs.items()}
        for arrived, place in self.outside:
            places[place] = places[arrived]
        found: dict[str, Path] = {}
        for place, path in places.items():
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            found.update((os.path.normpath(f"{place}/{file.relative_to(path)}"), file) for file in files)
        return found


def project_of(config: Config, names: Iterable[str] = ()) -> Project:
    """The files for the services `names` (empty: all).

    Raises UsageError for too many files or bytes, ConfigError where a glob of `[target]` matches no file or a program is
    a link out of the folder of the config, OSError.
    """
    wanted = set(names)
    home = Path(config.folder)
    services = [item for item in config.services if not wanted or item.name in wanted]
    _refuse_links_out(config, services)
    binaries = [item.binary for item in services if item.binary]
    needed = (*binaries, *_unit_files(services))
    near = [os.path.normpath(path_of(config.folder, path)) for path in needed if not os.path.isabs(path)]
    # One of them may be outside of the config's folder: the tree in the guest starts at the common parent of all.
    top = Path(os.path.commonpath([str(home), *(os.path.dirname(path) for path in near)]))
    config_name = os.path.basename(config.path)
    outside = tuple(dict.fromkeys(os.path.normpath(path) for path in needed if os.path.isabs(path)))
    places = {_inside(top, path): path for path in (*near, *_files(config))}
    places |= {_inside(top, path): path for path in _certificates(config, services)}
    places[_inside(top, str(home / config_name))] = str(home / config_name)
    places |= {f"{_ABSOLUTE}{path}": path for path in outside}
    places |= {f"{_ABSOLUTE}{place}": str(path) for place, path in _paths(config)}
    # A unit of the project finds its program where its ExecStart= has it.
    started = {item.source.program: item.binary for item in services if item.source is not None and item.binary}
    places |= {f"{_ABSOLUTE}{place}": path_of(config.folder, binary) for place, binary in started.items()}
    named = (*started, *(place for place, _ in config.target.paths))
    outside += tuple(place for place in dict.fromkeys(named) if place not in outside)
    # The target of a link goes in, because the link itself would be dangling in the guest.
    inputs = {name: Path(os.path.realpath(path)) for name, path in places.items()}
    return Project(
        inputs=inputs, folder=str(PurePosixPath(INPUT_DIR) / _TREE / home.relative_to(top)), config_name=config_name,
        outside=tuple((f"{INPUT_DIR}/{_ABSOLUTE}{path}", path) for path in outside),
        size=sum(path.stat().st_size for path in inputs.values()),
        programs={binary: Path(os.path.realpath(path_of(config.folder, binary))) for binary in binaries},
    )  # fmt: skip


def _certificates(config: Config, services: Iterable[Service]) -> Iterator[str]:
    """The files that answers are checked against; one that is a link out of the folder is refused before (`require_certificates`)."""
    for service in services:
        if service.smoke.ready_ca and allows(config, service.smoke.ready_ca):
            yield os.path.normpath(path_of(config.folder, service.smoke.ready_ca))


def _unit_files(services: Iterable[Service]) -> Iterator[str]:
    """The unit files of services, with their drop-ins and sockets, as the config names them."""
    for service in services:
        if service.source is not None and not service.package:
            yield from (item.path for item in (*service.source.files, *service.source.socket))


def _refuse_links_out(config: Config, services: Iterable[Service]) -> None:
    """A link would take another file of this machine into the guest, where a service can read it and send it away."""
    found = tuple(
        BINARY.finding(
            Status.FAIL, item.name, f"binary {item.binary!r} of {item.name} is a link out of the folder of the config",
            Remedy(title="copy the program into that folder, or allow its folder for this call: --allow-outside DIR"),
            location=item.location,
        )
        for item in services if item.binary and not allows_program(config, item.binary)
    )  # fmt: skip
    if found:
        raise ConfigError(
            f"{len(found)} program(s) may not go into a guest", where=config.path, findings=found,
            remedy=Remedy(title="correct the lines named above"),
        )  # fmt: skip


def _inside(top: Path, path: str) -> str:
    return f"{_TREE}/{Path(path).relative_to(top)}"


def _paths(config: Config) -> Iterable[tuple[str, Path]]:
    """Each path in the guest with the file or folder of the project for it, never one outside of the project."""
    for place, name in config.target.paths:
        path = Path(os.path.realpath(path_of(config.folder, name)))
        if not path.exists() or not allows(config, name):
            raise UsageError(
                f"{name!r} {'is a link out of the folder of the config' if path.exists() else 'does not exist'}",
                where=f'[target.paths] "{place}"',
                remedy=Remedy(title="name a file or folder below the folder of the config, as deploy/etc"),
            )  # fmt: skip
        yield place, path


def _files(config: Config) -> Iterable[str]:
    """Files below the config's folder that match; links that lead out of it are left out."""
    home = config.folder
    found: dict[str, None] = {}
    total = 0
    missing = []
    for pattern in config.target.files:
        near = [path for path in globs.files(home, pattern) if os.path.isfile(path) and allows(config, path)]
        if not near:
            missing.append(_without_file(config, pattern))
        for path in near:
            if path in found:
                continue
            found[path] = None
            total += os.stat(path).st_size
            if len(found) > _FILES_MAX or total > _BYTES_MAX:
                raise UsageError(
                    f"files in [target] match more than {_FILES_MAX} files or {_BYTES_MAX >> 30}G", where=pattern,
                    remedy=Remedy(title="name only what the services read"),
                )  # fmt: skip
    if missing:
        raise ConfigError(
            f"{len(missing)} glob(s) of [target] match no file", where=config.path, findings=tuple(missing),
            remedy=Remedy(title="correct the lines named above"),
        )  # fmt: skip
    return found


def _without_file(config: Config, pattern: str) -> Finding:
    """A service would not find its files in the guest: better told before the boot."""
    if any(globs.folders(config.folder, pattern)):
        what, remedy = (
            "matches a folder, and only files are copied",
            f"use {pattern.rstrip('/')}/** for all files in it",
        )
    elif globs.files(config.folder, pattern):
        what, remedy = "matches nothing but what is outside of the folder of the config", "copy the files into it"
    else:
        what, remedy = "matches no file", "make the files first, or correct the glob (relative to the config's folder)"
    return NO_MATCH.finding(
        Status.FAIL, pattern, f"files in [target]: {pattern!r} {what}", Remedy(title=remedy),
        location=config.target.files_location,
    )  # fmt: skip
