"""How the main process of a service really started: user, group, capabilities, open files and folder, from /proc.

systemd starts a service with less than its unit says in some cases, and does not say so: it takes the nearest
limit that the kernel allows (setrlimit_closest), and a program with file capabilities or another owner loses ambient
ones (capabilities(7)). Sources: proc(5), systemd.exec(5).
"""

import re
from collections.abc import Iterator, Mapping

from cgroup_preflight.core import codes
from cgroup_preflight.core.reading import Known, Reading, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Finding, Location, Remedy, Status
from cgroup_preflight.core.unit_values import CAPABILITIES
from cgroup_preflight.host.procfs import parse_open_files, parse_status
from cgroup_preflight.plan.model import ServicePlan

if TYPE_CHECKING:
    from cgroup_preflight.host.fs import MachineFs

#: The settings that a process shows, those of a unit that a run reads.
_SHOWN = ("User", "Group", "AmbientCapabilities", "LimitNOFILE", "WorkingDirectory")
_OTHER_ROOT = ("RootDirectory", "RootImage")
#: A command with + or a single ! starts as root whatever these say (systemd.service(5), "Command lines").
_OF_USER = ("User", "Group", "AmbientCapabilities")
_KEEPS_ROOT = r"[-@:|]*(?:\+|!(?!!))"
_HARD = "a hard limit of "
_MANUAL = "https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One setting: what the config or the unit says, what the process has, and whether that is the same.

    `severe`: systemd did not set it, or a program with rights of its own changed it.
    """

    property: str
    wanted: str
    actual: str
    same: bool
    severe: bool
    location: Location


def started(files: "MachineFs", pid: int, service: ServicePlan) -> tuple[Shown, ...]:
    """Each setting of the start of a service that its main process shows; what cannot be read is left out."""
    status = value_or(parsed(_text(files, f"/proc/{pid}/status"), parse_status), {})
    readers = {
        "User": lambda text: _identity(files, "/etc/passwd", text, status.get("Uid", "")),
        "Group": lambda text: _identity(files, "/etc/group", text, status.get("Gid", "")),
        "AmbientCapabilities": lambda text: _capabilities(text, status.get("CapAmb", "")),
        "LimitNOFILE": lambda text: _open_files(text, _hard_limit(files, pid)),
        "WorkingDirectory": lambda text: _folder(files, pid, text),
    }
    manager = _hard_limit(files, status.get("PPid", ""))
    found = []
    for name, (text, location) in _wanted(service).items():
        if (answer := readers[name](text)) is not None:
            actual, same = answer
            severe = name in ("User", "Group") or (name == "LimitNOFILE" and _is_lowered(text, actual, manager))
            found.append(Shown(property=name, wanted=text, actual=actual, same=same, severe=severe, location=location))
    return tuple(found)


def started_findings(service: ServicePlan, shown: tuple[Shown, ...]) -> Iterator[Finding]:
    """One finding for each setting that differs, one for those that do not."""
    same = [item for item in shown if item.same]
    if same:
        message = f"{', '.join(item.property for item in same)}: the main process has what they say"
        evidence = {item.property: item.actual for item in same}
        yield codes.START_SETTINGS.finding(Status.PASS, service, message, evidence=evidence)
    for item in shown:
        if not item.same:
            yield codes.START_SETTINGS.finding(
                Status.FAIL if item.severe else Status.WARN, service,
                f"{item.property}={item.wanted}, but the main process has {item.actual}", _REMEDIES[item.property],
                location=item.location, evidence={item.property: item.actual},
            )  # fmt: skip


_OF_PROGRAM = "the program changes its user itself, or it has the set-user-ID bit"
_REMEDIES = {
    "User": Remedy(title="let systemd alone set the user, or remove User", why=_OF_PROGRAM, docs=_MANUAL),
    "Group": Remedy(title="let systemd alone set the group, or remove Group", why=_OF_PROGRAM, docs=_MANUAL),
    "AmbientCapabilities": Remedy(
        title="remove file capabilities and the set-user-ID bit from the program (getcap, ls -l)",
        why="a program that has them starts without ambient capabilities; a program can also give them up itself",
        docs="https://man7.org/linux/man-pages/man7/capabilities.7.html",
    ),
    "LimitNOFILE": Remedy(
        title="lower LimitNOFILE, or raise what bounds it: fs.nr_open, the limit of the user's manager, or the program's own setting",
        why="systemd takes the nearest limit that it is allowed to set, and does not say so; a program can also set its own",
        docs=_MANUAL,
    ),
    "WorkingDirectory": Remedy(
        title="use absolute paths in the service, or keep it from changing its folder (daemon(3) does)", docs=_MANUAL,
    ),
}  # fmt: skip


def _wanted(service: ServicePlan) -> Mapping[str, tuple[str, Location]]:
    """What unit and config say; the config wins, because it ships as a drop-in."""
    found: dict[str, tuple[str, Location]] = {}
    source, keeps_root = service.source, None
    if source is not None:
        changed_root = any(map(source.last, _OTHER_ROOT))
        keeps_root = re.match(_KEEPS_ROOT, next(iter(source.values("ExecStart")), ""))
        for item in source.lines:
            if item.section == "Service" and item.key in _SHOWN:
                found[item.key] = (item.value, Location(file=item.file, line=item.line))
        if len(source.values("AmbientCapabilities")) > 1:
            found["AmbientCapabilities"] = (" ".join(source.values("AmbientCapabilities")), service.location)
        if changed_root:
            found.pop("WorkingDirectory", None)
    found |= {
        item.property: (item.text, item.location) for item in service.own_settings if item.property in _SHOWN
    }  # fmt: skip
    if keeps_root:
        found = {name: item for name, item in found.items() if name not in _OF_USER}
    return {name: item for name, item in found.items() if item[0]}


def _text(files: "MachineFs", path: str) -> Reading[str]:
    return parsed(files.quick(path), lambda data: data.decode("utf-8", "replace"))


def _identity(files: "MachineFs", path: str, wanted: str, line: str) -> tuple[str, bool] | None:
    """The effective user or group, a number of `line`; None where the name is not in the file (another source of names)."""
    names = [entry.split(":") for entry in value_or(files.read(path), "").splitlines()]
    numbers = {entry[0]: entry[2] for entry in names if len(entry) > 2}
    number, words = numbers.get(wanted, wanted), line.split()
    # A daemon that starts as root gives that up itself.
    if len(words) != 4 or not number.isdigit() or number == "0":
        return None
    actual = next((name for name, of in numbers.items() if of == words[1]), words[1])
    return actual, words[1] == number


def _capabilities(wanted: str, line: str) -> tuple[str, bool] | None:
    words = wanted.upper().split()
    if not line or any(word.removeprefix("CAP_") not in CAPABILITIES for word in words):
        return None
    mask = int(line, 16)
    lacking = [word for word in words if not mask >> CAPABILITIES.index(word.removeprefix("CAP_")) & 1]
    return (f"not {', '.join(lacking)}" if lacking else wanted), not lacking


def _hard_limit(files: "MachineFs", pid: int | str) -> str:
    """The hard limit of open files of a process; empty where it cannot be read."""
    return value_or(parsed(_text(files, f"/proc/{pid}/limits"), parse_open_files), ("", ""))[1]


def _open_files(wanted: str, actual: str) -> tuple[str, bool] | None:
    """The hard limit alone: Go programs, and others, raise the soft one to it (os package, since Go 1.19)."""
    hard = wanted.rpartition(":")[2]
    if not re.fullmatch(r"\d+", hard, re.ASCII) or not actual:
        return None
    return f"{_HARD}{actual}", actual == hard


def _is_lowered(wanted: str, actual: str, manager: str) -> bool:
    """Whether the process has what its manager itself may have at most, and that is less than `wanted`.

    Any other number is the program's own doing: memcached sets what it needs for its connections.
    """
    hard = wanted.rpartition(":")[2]
    return manager.isdigit() and actual == f"{_HARD}{manager}" and int(manager) < int(hard)


def _folder(files: "MachineFs", pid: int, wanted: str) -> tuple[str, bool] | None:
    """Compared by what it is and not by its name: /var/lib/NAME may be a link (systemd.exec(5), DynamicUser=)."""
    path = wanted.removeprefix("-")
    there, expected = files.identity(f"/proc/{pid}/cwd"), files.identity(f"/proc/{pid}/root{path}")
    if not path.startswith("/") or not isinstance(there, Known) or not isinstance(expected, Known):
        return None
    return value_or(files.link(f"/proc/{pid}/cwd"), "another folder"), there.value == expected.value
