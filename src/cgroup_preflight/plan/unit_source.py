"""A unit file of the project, and what becomes of it in a run. Pure.

A run starts a copy under a name of its own, in the slice of the run. The copy has every setting of [Service]; what
would start, stop or wait for other units of the host is left out, and so is [Install].
"""

from collections.abc import Iterable, Iterator

from cgroup_preflight.config.model import ReadyKind, Setting
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Location
from cgroup_preflight.core.unit_text import UnitLine, last, parse_unit, values, with_names

#: Of [Unit], what is about the unit itself (systemd.unit(5)); the rest names other units.
_OWN = ("Description", "Documentation", "DefaultDependencies", "RequiresMountsFor", "WantsMountsFor")
_CONDITIONS = ("Condition", "Assert")
#: Dependencies without which the unit would not start.
_NEEDS = ("Requires", "Requisite", "BindsTo")
#: What a run decides itself. The commands are put after its gate, see `Commands`.
_OF_THE_RUN = ("Slice", "Restart", "RestartSec", "ExecStartPre", "ExecStop", "ExecStopPost", "Sockets",
               "StandardOutput", "StandardError")  # fmt: skip
#: Folders of the host that belong to the unit by their names, not by its name (systemd.exec(5)).
_FOLDERS = ("StateDirectory", "RuntimeDirectory", "CacheDirectory", "LogsDirectory", "ConfigurationDirectory")
#: Types whose readiness systemd learns of (systemd.service(5), Type=).
_TELLING = ("notify", "notify-reload", "forking", "dbus")
_PREFIXES = "@-:+!|"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitText:
    """One file: `path` as messages name it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSource:
    """The unit of a service: `name` is its name on a host, `files` are the unit file and its drop-ins in order.

    `socket` are the files of the socket unit of the same name, none without one.
    """

    name: str
    files: tuple[UnitText, ...]
    socket: tuple[UnitText, ...] = ()

    @property
    def lines(self) -> tuple[UnitLine, ...]:
        """Every assignment, those of drop-ins last; specifiers of the unit's name are replaced."""
        return _lines(self.files, self.name)

    def last(self, key: str, default: str = "") -> str:
        """The value of a key of [Service]."""
        return last(self.lines, "Service", key, default)

    def values(self, key: str) -> tuple[str, ...]:
        """The values of a list of [Service]."""
        return tuple(item.value for item in values(self.lines, "Service", key))

    @property
    def type(self) -> str:
        """Type=, as systemd takes it where the unit does not say (systemd.service(5))."""
        found = self.last("Type")
        if found:
            return found
        if not self.values("ExecStart"):
            return "oneshot"
        return "dbus" if self.last("BusName") else "simple"

    @property
    def ready(self) -> ReadyKind:
        """How systemd learns that the unit is ready."""
        if self.type in _TELLING:
            return ReadyKind.NOTIFY
        return ReadyKind.EXIT if self.type == "oneshot" else ReadyKind.STARTED

    @property
    def program(self) -> str:
        """The absolute path of the first ExecStart=, without its prefixes; empty without one."""
        commands = self.values("ExecStart")
        return program_of(commands[0]) if commands else ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The units that it requires, which a run does not start."""
        return tuple(
            word for item in self.lines if item.section == "Unit" and item.key in _NEEDS for word in item.value.split()
        )

    def settings(self) -> tuple[Setting, ...]:
        """Its own limits, of the properties that this tool proves; a value in another spelling is left out."""
        found = {}
        for item in self.lines:
            if item.section != "Service" or item.key not in BY_NAME:
                continue
            found.pop(item.key, None)
            try:
                value = BY_NAME[item.key].parse(item.value)
            except QuantityError:
                continue
            at = Location(file=item.file, line=item.line)
            found[item.key] = Setting(property=item.key, text=item.value, value=value, location=at)
        return tuple(found[name] for name in BY_NAME if name in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUnit:
    """The copy of a unit for one run: its text, and the commands that a run starts around its gates, in order."""

    text: str
    type: str
    before: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    socket: str = ""


def program_of(command: str) -> str:
    """The path in a line of ExecStart=, without its prefixes and quotes."""
    word = command.lstrip(_PREFIXES)
    if word.startswith('"'):
        return word[1:].partition('"')[0]
    return word.split()[0] if word.split() else ""


def run_unit(source: UnitSource, *, program: str = "", socket: str = "") -> RunUnit:
    """The copy for a run. `program` takes the place of the path of ExecStart=; `socket` is the socket unit's name."""
    kept = [item for item in source.lines if _is_kept(item)]
    text: list[str] = []
    for section in ("Unit", "Service"):
        text.append(f"[{section}]")
        text += [f"{item.key}={_replaced(item, program)}" for item in kept if item.section == section]
    if socket:
        text.append(f"Sockets={socket}")
    return RunUnit(
        text="\n".join((*text, "")), type=source.type, before=source.values("ExecStartPre"),
        stop=source.values("ExecStop"), after=source.values("ExecStopPost"),
        socket=_socket_text(source) if socket else "",
    )  # fmt: skip


def host_conflicts(source: UnitSource) -> tuple[str, ...]:
    """What of the unit belongs to one unit of the host only, so that a copy of it must not run there."""
    found = [f"{key}={item}" for key in _FOLDERS for item in source.values(key)]
    found += [f"{key}={value}" for key in ("BusName", "PIDFile") if (value := source.last(key))]
    return (*found, *(("its socket unit",) if source.socket else ()))


def users(source: UnitSource) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The users and the groups that the unit names, without numbers and those that systemd makes (DynamicUser=)."""
    if source.last("DynamicUser") in ("yes", "true", "1", "on"):
        return (), ()
    names = tuple(name for name in (source.last("User"),) if name and not name.isdigit())
    groups = (source.last("Group"), *(word for item in source.values("SupplementaryGroups") for word in item.split()))
    return names, tuple(dict.fromkeys(name for name in groups if name and not name.isdigit()))


def _lines(files: Iterable[UnitText], unit: str) -> tuple[UnitLine, ...]:
    return tuple(_named(item, unit) for file in files for item in parse_unit(file.text, file.path))


def _named(item: UnitLine, unit: str) -> UnitLine:
    value = with_names(item.value, unit)
    return UnitLine(section=item.section, key=item.key, value=value, file=item.file, line=item.line)


def _is_kept(item: UnitLine) -> bool:
    if item.section == "Unit":
        return item.key in _OWN or item.key.startswith(_CONDITIONS)
    return item.section == "Service" and item.key not in _OF_THE_RUN


def _replaced(item: UnitLine, program: str) -> str:
    if not (program and item.section == "Service" and item.key == "ExecStart" and item.value):
        return item.value
    prefix = item.value[: len(item.value) - len(item.value.lstrip(_PREFIXES))]
    rest = item.value[len(prefix) :]
    found = program_of(item.value)
    quoted = f'"{found}"'
    return f"{prefix}{program}{rest.removeprefix(quoted if rest.startswith(quoted) else found)}"


def _socket_text(source: UnitSource) -> str:
    """The socket unit with its own section alone; the run's service is its service."""
    lines = _lines(source.socket, f"{source.name.rpartition('.')[0]}.socket")
    own: Iterator[str] = (
        f"{item.key}={item.value}" for item in lines if item.section == "Socket" and item.key != "Service"
    )
    return "\n".join(("[Socket]", *own, ""))
