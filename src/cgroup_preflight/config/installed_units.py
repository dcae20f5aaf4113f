"""Units that a machine has installed: the file and the drop-ins that a name stands for, as systemd finds them."""

import os
from collections.abc import Callable, Iterable, Sequence

from cgroup_preflight.config.model import Config
from cgroup_preflight.config.tables import nearest
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.config.units import read_text
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Finding, Remedy, Status

#: systemd.unit(5), "System Unit Search Path", without the folders of generators and of `systemctl set-property`.
SEARCH_PATH = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system",
)  # fmt: skip
#: The most links from a name to its file.
_LINKS_MAX = 10
#: Where a service names its socket. One that it does not name may be an alternative to it (Debian's ssh.socket).
_NAMES_SOCKET = frozenset({"Requires", "Requisite", "BindsTo", "Wants", "Sockets"})
_UNREADABLE = Remedy(title="name a unit file that you can read")


class NotInstalledError(UsageError):
    """The machine has no unit of this name; `unit` is that name, `names` are those of its services."""

    def __init__(self, unit: str, names: Iterable[str]) -> None:
        self.unit, self.names = unit, tuple(names)
        title = f"{nearest_unit(unit, self.names)}look for its name with: systemctl list-unit-files"
        super().__init__(f"no unit {unit} is installed", remedy=Remedy(title=title))


class UnitFolders:
    """The folders in which a machine has its units, the first one wins; `root` is empty for this machine."""

    def __init__(self, folders: Sequence[str] = SEARCH_PATH, root: str = "") -> None:
        self._folders, self._root = folders, root

    def service(self, name: str, instance: str = "") -> UnitSource:
        """The service `name`, with its drop-ins and the socket that it names; `instance` is that of a template.

        Raises UsageError: not installed (NotInstalledError), masked, or unreadable.
        """
        names = [with_instance(name, instance)]
        while True:
            path = self.find(names[-1])
            if not path:
                raise NotInstalledError(names[-1], self.names())
            if self.is_masked(path):
                raise UsageError(
                    f"{path} is masked: systemd never starts the unit",
                    remedy=Remedy(title=f"unmask it with: systemctl unmask {names[-1]}"),
                )
            # A link to a unit of another name makes this name an alias (systemd.unit(5)).
            target = with_instance(os.path.basename(self._real(path)), _template(names[-1])[1])
            if target in names or len(names) > _LINKS_MAX or not self.find(target):
                break
            names.append(target)
        files = (self.read(path), *self.drop_ins(*reversed(names)))
        found = UnitSource(name=names[-1], files=files, installed=True)
        return replace(found, socket=self._socket(found))

    def names(self) -> tuple[str, ...]:
        """The names of all services and their templates."""
        found: dict[str, None] = {}
        for folder in self._folders:
            place = f"{self._root}{folder}"
            listed = os.listdir(place) if os.path.isdir(place) else []
            found |= dict.fromkeys(name for name in sorted(listed) if name.endswith(".service"))
        return tuple(found)

    def find(self, name: str) -> str:
        """The path of the unit file `name`, or of its template; empty without one."""
        template, instance = _template(name)
        wanted = (name, template) if instance else (name,)
        paths = (f"{folder}/{item}" for item in wanted for folder in self._folders)
        return next((path for path in paths if os.path.lexists(f"{self._root}{path}")), "")

    def is_masked(self, path: str) -> bool:
        """Whether systemd never starts the unit of this file: it is a link to /dev/null, or empty."""
        real = self._real(path)
        full = f"{self._root}{real}"
        return real == os.devnull or (os.path.isfile(full) and os.path.getsize(full) == 0)

    def read(self, path: str) -> UnitText:
        """One file, also through links, as systemd reads it. Raises UsageError."""
        return read_text(f"{self._root}{self._real(path)}", path, _UNREADABLE)

    def drop_ins(self, *names: str) -> tuple[UnitText, ...]:
        """The drop-ins of a unit with these names in the order of their files' names.

        Of two files with one name the first wins, by name and then by folder (systemd, `unit_file_find_dropin_paths`).
        """
        places = [f"{folder}/{item}.d" for name in names for folder in self._folders for item in _drop_in_names(name)]
        places += [f"{folder}/{names[0].rpartition('.')[2]}.d" for folder in self._folders]
        found: dict[str, str] = {}
        for place in reversed(places):
            full = f"{self._root}{place}"
            listed = os.listdir(full) if os.path.isdir(full) else []
            found |= {file: f"{place}/{file}" for file in listed if file.endswith(".conf")}
        return tuple(self.read(path) for _, path in sorted(found.items()) if not self.is_masked(path))

    def _real(self, path: str) -> str:
        """Where the links of a file lead; absolute ones are below the root, too."""
        for _ in range(_LINKS_MAX):
            full = f"{self._root}{path}"
            if not os.path.islink(full):
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(full)))
        return path

    def _socket(self, service: UnitSource) -> tuple[UnitText, ...]:
        """The files of the socket unit of the same name, if the service names it."""
        name = f"{service.name.removesuffix('.service')}.socket"
        if not any(item.key in _NAMES_SOCKET and name in item.value.split() for item in service.lines):
            return ()
        path = self.find(name)
        return (self.read(path), *self.drop_ins(name)) if path and not self.is_masked(path) else ()


def nearest_unit(unit: str, names: Iterable[str]) -> str:
    """As `nearest`, by the names without the suffix that all of them have."""
    stems = [name.removesuffix(".service") for name in names]
    return nearest(unit.removesuffix(".service"), stems).replace("? ", ".service? ")


def with_instance(name: str, instance: str) -> str:
    """The name of an instance of the template `name`; `name` itself where it is none."""
    return name.replace("@.", f"@{instance}.") if instance else name


def with_installed(
    config: Config, folders: UnitFolders, names: Iterable[str] = (),
    remedy: Callable[[UsageError], str] = lambda error: error.remedy.title,
) -> Config:  # fmt: skip
    """The config with the text of each unit that the machine of `folders` has installed, of the services `names` or of all.

    `remedy` says what to do about a unit that it has not, or has masked. Raises ConfigError with all mistakes.
    """
    wanted = set(names)
    findings: list[Finding] = []
    services = []
    for service in config.services:
        if not service.is_installed or service.source is not None or (wanted and service.name not in wanted):
            services.append(service)
            continue
        problems: list[tuple[str, str]] = []
        try:
            source = folders.service(service.unit, service.instance)
        except UsageError as error:
            problems.append((str(error), remedy(error)))
        else:
            problems += [(item.message, item.remedy) for item in source.problems()]
            services.append(replace(service, source=source))
        findings += [
            codes.UNIT_FILE.finding(Status.FAIL, service.name, message, Remedy(title=title), location=service.unit_location)
            for message, title in problems
        ]  # fmt: skip
    if findings:
        raise ConfigError(
            f"{len(findings)} mistake{'s' if len(findings) > 1 else ''} about installed units", where=config.path,
            remedy=Remedy(title="correct the lines named above"), findings=tuple(findings),
        )  # fmt: skip
    return replace(config, services=tuple(services))


def _template(name: str) -> tuple[str, str]:
    """The template of an instance, and the instance; both are empty for another unit."""
    stem, _, suffix = name.rpartition(".")
    prefix, at, instance = stem.partition("@")
    return (f"{prefix}@.{suffix}", instance) if at and instance else ("", "")


def _drop_in_names(name: str) -> tuple[str, ...]:
    """The names whose drop-ins a unit has: its own, that of its template, and each beginning that ends in a dash."""
    stem, _, suffix = name.rpartition(".")
    template, _ = _template(name)
    parts = stem.partition("@")[0].split("-")
    begun = ("-".join((*parts[:end], "")) for end in range(len(parts) - 1, 0, -1))
    return (name, *((template,) if template else ()), *(f"{item}.{suffix}" for item in begun if item.strip("-")))
