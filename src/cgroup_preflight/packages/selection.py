"""Which service of the config is installed from which package, and under which unit; the same on host and in guest."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from cgroup_preflight.config.model import Config, Service
from cgroup_preflight.config.places import allows, path_of
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.packages.package_file import PackageFile, read_package

#: What a guest can run (dpkg --print-architecture); `all` is for every machine.
_ARCHITECTURES = ("amd64", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A package to install, and the one to upgrade from, if any."""

    package: PackageFile
    previous: PackageFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The packages of one run. `units` are the units of services, `owners` the names of their packages, by service.

    `alone`: the command line named packages, so that services outside of them are not tested.
    """

    packages: tuple[Selected, ...]
    units: Mapping[str, str]
    owners: Mapping[str, str]
    alone: bool = False

    @property
    def files(self) -> tuple[PackageFile, ...]:
        """Every file, those of a package and of the one before it together."""
        return tuple(file for item in self.packages for file in (item.package, item.previous) if file is not None)

    def of(self, label: str) -> PackageFile | None:
        """The package of a service."""
        return next((item.package for item in self.packages if item.package.name == self.owners.get(label)), None)


def select(config: Config, named: Sequence[str], previous: Sequence[str]) -> Selection | None:
    """The packages that the config and the command line name; None where there is none. Raises UsageError."""
    shown = {path: path for path in named}
    own: dict[str, list[Service]] = {}
    for service in config.services:
        if service.package and not named:
            own.setdefault(service.package, []).append(service)
    if not named and not own:
        return None
    prefix = config.artifacts.prefix
    packages = [read_package(path, path, prefix) for path in shown]
    packages += [_of_config(config, path) for path in own]
    older = [read_package(path, path, prefix) for path in previous]
    older += [_of_config(config, path) for path in dict.fromkeys(item.previous for item in config.services if item.previous and not named)]  # fmt: skip
    for file in (*packages, *older):
        _refuse_machine(file)
    selected = _paired(packages, older)
    units: dict[str, str] = {}
    owners: dict[str, str] = {}
    for item in packages:
        candidates = own.get(item.path) if not named else None
        for label, unit in _units(item, candidates, config.services).items():
            units[label], owners[label] = unit, item.name
    return Selection(packages=selected, units=units, owners=owners, alone=bool(named))


def _of_config(config: Config, path: str) -> PackageFile:
    """A package that the config names, never one that a link leads to outside of its folder."""
    if not allows(config, path):
        raise UsageError(
            "the package is outside of the folder of the config", where=path,
            remedy=Remedy(title="copy it into that folder, or allow its folder for this call: --allow-outside DIR"),
        )  # fmt: skip
    return read_package(path_of(config.folder, path), path, config.artifacts.prefix)


def _refuse_machine(file: PackageFile) -> None:
    machine = file.fields.get("architecture", "amd64")
    if machine not in _ARCHITECTURES:
        raise UsageError(
            f"the package is for {machine}, and a guest runs amd64", where=file.path,
            remedy=Remedy(title="name the package for amd64, or for all"),
        )  # fmt: skip


def _paired(packages: Sequence[PackageFile], older: Iterable[PackageFile]) -> tuple[Selected, ...]:
    """Each package with the one before it: of the same name, or the only one."""
    before = dict[str, PackageFile]()
    names = [item.name for item in packages]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise UsageError(f"{twice} is named twice", where="--package", remedy=Remedy(title="name each package once"))
    for file in older:
        same_kind = [item for item in packages if item.kind == file.kind == "tar"]
        found = next((item.name for item in packages if item.name == file.name), "")
        if not found and len(same_kind) == 1:
            found = same_kind[0].name  # the name of a tar archive has its version in it
        if not found:
            raise UsageError(
                f"it is a package {file.name}, and none of that name is to be installed", where=file.path,
                remedy=Remedy(title=f"name an older version of {', '.join(names)}"),
            )  # fmt: skip
        before[found] = file
    return tuple(Selected(package=item, previous=before.get(item.name)) for item in packages)


def _units(package: PackageFile, own: Sequence[Service] | None, services: Iterable[Service]) -> dict[str, str]:
    """The unit of each service of a package: those that the config gives to it, else those with the name of a unit."""
    if not package.services:
        raise UsageError(
            "the package has no service unit", where=package.path,
            remedy=Remedy(title="ship NAME.service in usr/lib/systemd/system (of a tar archive: below [artifacts] prefix)"),
        )  # fmt: skip
    found = {item.name: unit for item in own or services if (unit := _unit_of(item, package))}
    if own:
        for item in own:
            if item.name not in found and not item.unit and len(own) == 1 and len(package.services) == 1:
                found[item.name] = package.services[0]
            if item.name not in found:
                raise _no_unit(package, f"it has no unit {_wanted(item)} for the service {item.name}")
    if not found:
        raise _no_unit(package, "none of its units is a service of the config")
    return found


def _no_unit(package: PackageFile, what: str) -> UsageError:
    first = package.services[0]
    return UsageError(
        f"{what}; its service units are {', '.join(package.services)}", where=package.path,
        remedy=Remedy(title=f'name the unit in the service of the config: unit = "{first}"'),
    )  # fmt: skip


def _wanted(service: Service) -> str:
    return os.path.basename(service.unit) or f"{service.name}.service"


def _unit_of(service: Service, package: PackageFile) -> str:
    """The unit of a service that is in the package, of a template its instance; empty for none."""
    wanted = _wanted(service)
    if wanted not in package.services:
        return ""
    return wanted.replace("@.", f"@{service.instance}.") if service.instance else wanted


def applied(config: Config, selection: Selection) -> Config:
    """The config for this run: services of packages have the unit that is installed, and no program of the project."""
    services = [
        _installed(item, selection) if item.name in selection.units else item
        for item in config.services
        if item.name in selection.units or not selection.alone
    ]
    return replace(config, services=tuple(services))


def _installed(service: Service, selection: Selection) -> Service:
    package = selection.of(service.name)
    assert package is not None
    unit = selection.units[service.name]
    return replace(service, binary="", unit=unit, source=source_of(package, unit), package=package.path)


def source_of(package: PackageFile, unit: str) -> UnitSource:
    """The unit file with its drop-ins and its socket unit, as the package has them."""
    stem, at, _ = unit.removesuffix(".service").partition("@")
    file = f"{stem}@.service" if at and not _file(package, unit) else unit
    socket = f"{file.removesuffix('.service')}.socket"
    files = (*_file(package, file), *_drop_ins(package, dict.fromkeys((file, unit))))
    sockets = (*_file(package, socket), *_drop_ins(package, (socket,)))
    return UnitSource(name=unit, files=files, socket=sockets if _file(package, socket) else ())


def _file(package: PackageFile, unit: str) -> tuple[UnitText, ...]:
    """The file that systemd reads: that of the first folder."""
    return tuple(_text(package, path) for path in package.units if os.path.basename(path) == unit)[:1]


def _drop_ins(package: PackageFile, units: Iterable[str]) -> tuple[UnitText, ...]:
    """The drop-ins by the order of their names; of two with one name the one in the first folder."""
    found: dict[str, str] = {}
    for unit in units:
        for path in package.units:
            if os.path.basename(os.path.dirname(path)) == f"{unit}.d":
                found.setdefault(os.path.basename(path), path)
    return tuple(_text(package, found[name]) for name in sorted(found))


def _text(package: PackageFile, path: str) -> UnitText:
    return UnitText(path=f"/{path}", text=package.units[path])


def dumped(selection: Selection, places: Mapping[str, str]) -> str:
    """JSON for the run in a guest; `places` are the paths of files in the guest, by those on this host."""

    def moved(file: PackageFile) -> dict[str, object]:
        return asdict(replace(file, real=places[file.real]))

    packages = [
        {"package": moved(item.package), "previous": moved(item.previous) if item.previous is not None else None}
        for item in selection.packages
    ]
    return json.dumps(
        {
            "packages": packages,
            "units": dict(selection.units),
            "owners": dict(selection.owners),
            "alone": selection.alone,
        }
    )


def loaded(text: str) -> Selection:
    """What `dumped` wrote: the host makes it, and nothing else."""
    data = json.loads(text)
    packages = tuple(
        Selected(
            package=PackageFile(**item["package"]),
            previous=PackageFile(**item["previous"]) if item["previous"] is not None else None,
        )
        for item in data.pop("packages")
    )
    return Selection(packages=packages, **data)
