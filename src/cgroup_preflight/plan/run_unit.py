"""What becomes of a unit of the project in a run. Pure.

A run starts a copy under a name of its own, in the slice of the run. The copy has every setting of [Service]; what
would start, stop or wait for other units of the host is left out, and so is [Install].
"""

from collections.abc import Iterable, Iterator

from cgroup_preflight.config.properties import FOLDERS
from cgroup_preflight.config.unit_source import PREFIXES, UnitSource, named_lines, program_of
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.unit_text import UnitLine
from cgroup_preflight.core.unit_values import is_no, is_user_name, is_yes

#: Of [Unit], what is about the unit itself (systemd.unit(5)); the rest names other units.
_OWN = ("Description", "Documentation", "DefaultDependencies", "RequiresMountsFor", "WantsMountsFor")
_CONDITIONS = ("Condition", "Assert")
#: What a run decides itself. Its drop-in has the commands, with its gates around them.
_OF_THE_RUN = ("Slice", "Restart", "RestartSec", "ExecStartPre", "ExecStop", "ExecStopPost", "Sockets",
               "StandardOutput", "StandardError")  # fmt: skip
_OF_THE_SOCKET = ("Service", "Slice", "Accept")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUnit:
    """The copy of a unit for one run: its text, and the commands that a run starts around its gates, in order.

    `origins` are the lines of the project's files that the lines of the text come from, None for those of the run.
    `socket` is the text of its socket unit, whose name is `socket_unit`; both are empty without one. `kill_mode` says which
    processes systemd ends with the unit (KillMode= of systemd.kill(5)).
    """

    text: str
    type: str
    origins: tuple[UnitLine | None, ...] = ()
    delegates: bool = False
    has_user: bool = False
    before: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    socket: str = ""
    socket_unit: str = ""
    kill_mode: str = ""


def run_unit(source: UnitSource, unit: str, slice_unit: str, *, program: str = "") -> RunUnit:
    """The copy for a run, named `unit`, in `slice_unit`. `program` takes the place of the path of ExecStart=."""
    socket = f"{unit.removesuffix('.service')}.socket" if source.socket else ""
    kept = [item for item in source.lines if _is_kept(item)]
    text: list[str] = []
    origins: list[UnitLine | None] = []
    for section in ("Unit", "Service"):
        own = [item for item in kept if item.section == section]
        text += [f"[{section}]", *(f"{item.key}={_replaced(item, program)}" for item in own)]
        origins += [None, *own]
    if socket:
        text.append(f"Sockets={socket}")
    return RunUnit(
        text="\n".join((*text, "")), origins=tuple(origins), type=source.type, before=source.values("ExecStartPre"),
        stop=source.values("ExecStop"), after=source.values("ExecStopPost"),
        delegates=not is_no(source.last("Delegate", "no")),
        has_user=bool(source.last("User")) or is_yes(source.last("DynamicUser")),
        socket=_socket_text(source, unit, slice_unit) if socket else "", socket_unit=socket, kill_mode=source.last("KillMode"),
    )  # fmt: skip


def host_conflicts(source: UnitSource) -> tuple[str, ...]:
    """What of the unit belongs to one unit of the host only, so that a copy of it must not run there."""
    found = [f"{key}={item}" for key in FOLDERS for item in source.values(key)]
    found += [f"{key}={value}" for key in ("BusName", "PIDFile") if (value := source.last(key))]
    return (*found, *(("its socket unit",) if source.socket else ()))


def users(source: UnitSource) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The users and the groups that the unit names, without numbers and those that systemd makes (DynamicUser=)."""
    if is_yes(source.last("DynamicUser")):
        return (), ()
    groups = (source.last("Group"), *(word for item in source.values("SupplementaryGroups") for word in item.split()))
    return named((source.last("User"),)), named(groups)


def named(names: Iterable[str]) -> tuple[str, ...]:
    """Those that are names of users or groups, and no numbers."""
    return tuple(dict.fromkeys(name for name in names if is_user_name(name)))


def _is_kept(item: UnitLine) -> bool:
    if item.section == "Unit":
        return item.key in _OWN or item.key.startswith(_CONDITIONS)
    return item.section == "Service" and item.key not in _OF_THE_RUN


def _replaced(item: UnitLine, program: str) -> str:
    if not (program and item.section == "Service" and item.key == "ExecStart" and item.value):
        return item.value
    prefix = item.value[: len(item.value) - len(item.value.lstrip(PREFIXES))]
    rest = item.value[len(prefix) :]
    found = program_of(item.value)
    quoted = f'"{found}"'
    return f"{prefix}{program}{rest.removeprefix(quoted if rest.startswith(quoted) else found)}"


def _socket_text(source: UnitSource, unit: str, slice_unit: str) -> str:
    """The socket unit with its own section alone; the run's service is its service."""
    lines = named_lines(source.socket, f"{source.name.rpartition('.')[0]}.socket")
    own: Iterator[str] = (
        f"{item.key}={item.value}" for item in lines if item.section == "Socket" and item.key not in _OF_THE_SOCKET
    )
    return "\n".join(("[Socket]", *own, f"Service={unit}", f"Slice={slice_unit}", ""))
