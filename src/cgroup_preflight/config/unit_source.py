"""The unit of a service as the project has it: its file, its drop-ins, and its socket unit. Pure."""

from collections.abc import Iterable

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.unit_text import UnitLine, last, parse_unit, values, with_names
from cgroup_preflight.core.unit_values import TYPES

#: Dependencies without which the unit would not start.
_NEEDS = ("Requires", "Requisite", "BindsTo")
#: Prefixes of the path in ExecStart= (systemd.service(5), "Command lines").
PREFIXES = "@-:+!|"
_TYPES = (*TYPES, "dbus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a unit file, with its name and the line if one is at fault, and what to write."""

    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitText:
    """One file: `path` as messages name it."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSource:
    """The unit of a service: `name` is its name on a host, `files` are the unit file and its drop-ins in order.

    `socket` are the files of the socket unit of the same name, none without one. `installed`: the machine has it, and
    not the project.
    """

    name: str
    files: tuple[UnitText, ...]
    socket: tuple[UnitText, ...] = ()
    installed: bool = False

    @property
    def lines(self) -> tuple[UnitLine, ...]:
        """Every assignment, those of drop-ins last; specifiers of the unit's name are replaced."""
        return named_lines(self.files, self.name)

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
    def program(self) -> str:
        """The absolute path of the first ExecStart=, without its prefixes; empty without one."""
        commands = self.values("ExecStart")
        return program_of(commands[0]) if commands else ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The units that it requires, which a run does not start."""
        own = f"{self.name.removesuffix('.service')}.socket" if self.socket else ""
        return tuple(
            word
            for item in self.lines
            if item.section == "Unit" and item.key in _NEEDS
            for word in item.value.split()
            if word != own
        )

    def problems(self) -> tuple[Problem, ...]:
        """What systemd would refuse, or what a run cannot do with the unit."""
        lines = self.lines
        found: list[Problem] = []
        where = self.files[0].path
        starts = values(lines, "Service", "ExecStart")
        if not any(item.section == "Service" for item in lines):
            found.append(Problem(message=f"{where} has no section [Service]", remedy="name the file of a service unit"))
        elif not starts and not values(lines, "Service", "ExecStop"):
            found.append(Problem(message=f"{where} has no ExecStart=", remedy="add ExecStart=/PATH/OF/PROGRAM"))
        for item in starts:
            if not program_of(item.value):
                found.append(Problem(message=f"{item.file}:{item.line}: ExecStart={item.value} names no program",
                                     remedy="write the absolute path of the program"))  # fmt: skip
        if self.type not in _TYPES:
            found.append(Problem(message=f"{where}: Type={self.type} is not a type of service",
                                 remedy=f"use one of {', '.join(_TYPES)}"))  # fmt: skip
        return tuple(found)


def program_of(command: str) -> str:
    """The path in a line of ExecStart=, without its prefixes and quotes."""
    word = command.lstrip(PREFIXES)
    if word.startswith('"'):
        return word[1:].partition('"')[0]
    return word.split()[0] if word.split() else ""


def named_lines(files: Iterable[UnitText], unit: str) -> tuple[UnitLine, ...]:
    """Every assignment of the files of `unit`, with the specifiers of its name replaced."""
    return tuple(_named(item, unit) for file in files for item in parse_unit(file.text, file.path))


def _named(item: UnitLine, unit: str) -> UnitLine:
    value = with_names(item.value, unit)
    return UnitLine(section=item.section, key=item.key, value=value, file=item.file, line=item.line)
