"""Finds and reads the unit files that `init` is to take over: in the project, elsewhere, or installed on this host."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cgroup_preflight.cli.init.scan import Walk
from cgroup_preflight.config.installed_units import SEARCH_PATH, UnitFolders
from cgroup_preflight.config.places import is_below
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.config.units import SIZE_MAX, read_unit, unit_text
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.core.unit_text import last, parse_unit
from cgroup_preflight.host.files import open_regular

_UNITS_MAX = 100
_NAME = re.compile(r"[A-Za-z0-9:_.@\\-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUnit:
    """A service unit: `unit` is its file relative to the config, or the name of one that the host has installed.

    It is empty for another file that is not below the config's folder. `path` is the file as messages name it,
    `instance` that of a template.
    """

    path: str
    unit: str
    instance: str
    source: UnitSource


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSlice:
    """A slice unit, `name` without `.slice`, and its files in order; none where only its name is known."""

    name: str
    files: tuple[UnitText, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUnits:
    """What was found, sorted by name; slices that the services name are among the slices."""

    services: tuple[FoundUnit, ...]
    slices: tuple[FoundSlice, ...]


def from_paths(paths: Iterable[str], base: str) -> FoundUnits:
    """The units in files and folders; `base` is the folder of the config. Raises UsageError."""
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    if not files:
        raise UsageError(
            "no .service or .slice file there", where="--from-units",
            remedy=Remedy(title="name a unit file, or a folder with unit files; --installed NAME reads this host's"),
        )  # fmt: skip
    if len(files) > _UNITS_MAX:
        raise UsageError(f"{len(files)} unit files, which is more than {_UNITS_MAX}", where="--from-units",
                         remedy=Remedy(title="name the files of this project"))  # fmt: skip
    services = [_service(file, base) for file in files if file.endswith(".service")]
    folders = list(dict.fromkeys(os.path.dirname(file) or "." for file in files))
    names = [os.path.basename(file) for file in files if file.endswith(".slice")]
    return _with_slices(services, names, UnitFolders(folders))


def from_host(names: Iterable[str], search_path: Sequence[str] = SEARCH_PATH) -> FoundUnits:
    """The units of these names on this host, with their drop-ins. Raises UsageError."""
    services, slices = [], []
    folders = UnitFolders(search_path)
    for name in names:
        unit = name if name.endswith((".service", ".slice")) else f"{name}.service"
        if not _NAME.fullmatch(unit):
            raise UsageError(f"{name[:80]!r} is not the name of a unit", where="--installed",
                             remedy=Remedy(title="use a name such as redis-server.service"))  # fmt: skip
        if unit.endswith(".slice"):
            slices.append(unit)
        else:
            services.append(_installed(unit, folders))
    return _with_slices(services, slices, folders)


def _files(path: str) -> Iterator[str]:
    if os.path.isdir(path):
        found = [os.path.join(path, parent, entry.name) for parent, entry in Walk(path).entries()
                 if entry.name.endswith((".service", ".slice"))]  # fmt: skip
        yield from sorted(os.path.normpath(file) for file in found)
    elif not os.path.exists(path):
        raise UsageError("no such file or folder", where=path, remedy=Remedy(title="correct the path"))
    elif path.endswith((".service", ".slice")):
        yield os.path.normpath(path)
    else:
        raise UsageError("not a .service or .slice file", where=path, remedy=Remedy(title="name a unit file"))


def _service(path: str, base: str) -> FoundUnit:
    """A unit in a file; one below `base` can be named in the config."""
    top, real, file = os.path.realpath(base), os.path.realpath(path), _read(path)
    name = os.path.basename(path)
    template, instance = _template(name)
    if template and not instance:
        instance = _default_instance(file)
        name = name.replace("@.", f"@{instance}.")
    if is_below(real, top) and real.endswith(".service"):
        unit = os.path.relpath(real, top)
        unit = unit if "/" in unit else f"./{unit}"
        instance = instance if unit.endswith("@.service") else ""
        return FoundUnit(path=path, unit=unit, instance=instance, source=read_unit(top, unit, instance))
    files = (file, *UnitFolders([os.path.dirname(path) or "."]).drop_ins(name))
    return FoundUnit(path=path, unit="", instance="", source=UnitSource(name=name, files=files))


def _installed(name: str, folders: UnitFolders) -> FoundUnit:
    """A unit of this host by its name; a template gets its default instance."""
    path, (template, instance) = folders.find(name), _template(name)
    try:
        chosen = _default_instance(folders.read(path)) if path and template and not instance else ""
        source = folders.service(name, chosen)
    except UsageError as error:
        raise UsageError(error.message, where=error.where or "--installed", remedy=error.remedy) from None
    return FoundUnit(path=path, unit=name, instance=chosen, source=source)


def _template(name: str) -> tuple[bool, str]:
    """Whether the unit is a template or an instance of one, and the instance."""
    stem, at, instance = name.rpartition(".")[0].partition("@")
    return bool(stem and at), instance


def _default_instance(file: UnitText) -> str:
    """DefaultInstance= of systemd.unit(5), else a word that is to be replaced."""
    return last(parse_unit(file.text), "Install", "DefaultInstance") or "example"


def _with_slices(services: list[FoundUnit], names: Iterable[str], folders: UnitFolders) -> FoundUnits:
    """The slices of these names, those that the services are in, and those around them that have a file."""
    used = [f"{name}.slice" for item in services if (name := slice_of(item.source))]
    needed = dict.fromkeys((*names, *used))
    around = dict.fromkeys(f"{part}.slice" for name in needed for part in _parents(name.removesuffix(".slice")))
    slices = []
    for name in sorted({*needed, *around}):
        path = folders.find(name)
        own = (folders.read(path),) if path and not folders.is_masked(path) else ()
        if (files := (*own, *folders.drop_ins(name))) or name in needed:
            slices.append(FoundSlice(name=name.removesuffix(".slice"), files=files))
    return FoundUnits(services=tuple(sorted(services, key=lambda item: item.source.name)), slices=tuple(slices))


def slice_of(source: UnitSource) -> str:
    """The slice of a service, without `.slice`; empty without one, and for a text that cannot be one."""
    name = source.last("Slice")
    return name.removesuffix(".slice") if name.endswith(".slice") and _NAME.fullmatch(name) else ""


def _parents(name: str) -> Iterator[str]:
    """`a` and `a-b` of `a-b-c` (systemd.slice(5))."""
    parts = name.split("-")
    for end in range(1, len(parts)):
        if all(parts[:end]):
            yield "-".join(parts[:end])


def _read(path: str) -> UnitText:
    """One file, also through links, as systemd reads it. Raises UsageError."""
    remedy = Remedy(title="name a unit file that you can read")
    try:
        with open_regular(path, follow=True) as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise UsageError(f"cannot read the unit file: {error.strerror}", where=path, remedy=remedy) from None
    return unit_text(path, data, remedy)
