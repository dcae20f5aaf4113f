"""Whether a cgroup belongs to this job: who may write to it, and whether a systemd manages it.

Sources: kernel Documentation/admin-guide/cgroup-v2.rst "Delegation" (a folder and three files in it); systemd,
https://systemd.io/CGROUP_DELEGATION/ and src/core/cgroup.c `cgroup_xattr_apply` (the attributes user.delegate, since 251,
and trusted.delegate, which only root can read, mark a cgroup with Delegate=; a user's manager sets neither).
"""

import errno
import os
from collections.abc import Callable

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, missing, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.cgroupfs import CgroupReading, read_levels

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner
    from cgroup_preflight.host.facts import Facts
    from cgroup_preflight.host.fs import HostFs

#: What has to be the job's own, besides the folder (cgroup-v2.rst, "Model of Delegation").
DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
#: The cgroup that holds the processes of the job during a run; one that crashed leaves it.
LEAF = "cgpf-job"
_UNITS = (".service", ".scope", ".slice")
#: The first systemd with user.delegate.
_MARKS_SINCE = 251
_ATTRIBUTES = ("user.delegate", "trusted.delegate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cgroup in which a run could make its own; `level` is what its files say, `path` is below the mount.

    `denied` are those of the folder and its three files that this job cannot write. `unit` is the nearest unit of a systemd
    that the cgroup is in, empty where none manages it; `marked`: whether that unit has Delegate=. `named`: the user named
    the cgroup. `unreachable`: the cgroup of which this job may not move a process to `path`, empty for none.
    """

    path: str
    level: CgroupReading
    denied: tuple[str, ...] = ()
    unit: str = ""
    marked: Reading[bool]
    named: bool = False
    unreachable: str = ""


def read_place(
    fs: "HostFs", facts: "Facts", named: str = "", *, writable: Callable[[str], bool] | None = None,
    attribute: Callable[[str, str], Reading[bytes]] | None = None, ask: Callable[[str], Reading[bool]] | None = None,
) -> Place | None:  # fmt: skip
    """The cgroup that the user `named`, else that of this job; None where it is not below the mount.

    `ask` says whether a manager delegates a unit, by the path of its cgroup: of one that may have marked none, and where
    no mark can be read.
    """
    writable, attribute = writable or _writable, attribute or _attribute
    own = facts.own[-1].path if facts.own else None
    if own is not None and own.rpartition("/")[2] == LEAF:
        own = own.rpartition("/")[0]
    path = _below(facts.mount_point, named) if named else own
    if path is None:
        return None
    level = read_levels(fs, facts.mount_point, path)[-1]
    folder = f"{facts.mount_point}{path}"
    denied = [name for name in ("", *DELEGATED) if not writable(f"{folder}/{name}".rstrip("/"))]
    managed = value_or(facts.systemd_running, default=False)
    unit = _unit_of(path) if managed else ""
    marked: Reading[bool] = Known(value=not managed, source="/run/systemd/system")
    if unit:
        marked = _marked(f"{facts.mount_point}{unit}", attribute)
        # A machine asked from elsewhere often has no program that reads attributes.
        unknown = isinstance(marked, Missing) or _is_of_user(unit) or value_or(facts.systemd_version, 0) < _MARKS_SINCE
        if ask is not None and unknown and not value_or(marked, default=False):
            marked = ask(unit)
    common = _common(own or "", path)
    crossed = named != "" and common != path and not writable(f"{facts.mount_point}{common}/cgroup.procs")
    return Place(
        path=path, level=level, denied=tuple(name or folder for name in denied), unit=unit.rpartition("/")[2], marked=marked,
        named=bool(named), unreachable=(common or "/") if crossed else "",
    )  # fmt: skip


def _below(mount: str, named: str) -> str:
    """The path below the mount of a cgroup that the user named: as a folder of the file system, or below the mount."""
    path = os.path.normpath(named)
    point = mount.rstrip("/")
    if f"{path}/".startswith(f"{point}/"):
        path = path.removeprefix(point)
    path = path.strip("/")
    return f"/{path}" if path and path != "." else ""


def _unit_of(path: str) -> str:
    """The path of the nearest unit that a cgroup is in, itself included; empty where no level is named like one."""
    parts = path.split("/")
    for end in range(len(parts), 0, -1):
        if parts[end - 1].endswith(_UNITS):
            return "/".join(parts[:end])
    return ""


def _is_of_user(unit: str) -> bool:
    """Whether the manager of a user made the unit with this path."""
    return "/user@" in unit.rpartition("/")[0]


def _marked(folder: str, attribute: Callable[[str, str], Reading[bytes]]) -> Reading[bool]:
    """Whether systemd has marked a cgroup as delegated; missing where no attribute can tell."""
    answers = [attribute(folder, name) for name in _ATTRIBUTES]
    known = [item for item in answers if isinstance(item, Known)]
    if known:
        return Known(value=any(item.value == b"1" for item in known), source=known[0].source)
    denied = next((item for item in answers if isinstance(item, Missing) and item.why is not Why.ABSENT), None)
    return denied or Known(value=False, source=f"{folder} {_ATTRIBUTES[0]}")


def _common(one: str, other: str) -> str:
    """The innermost cgroup that contains both: who moves a process may write to its cgroup.procs."""
    parts = []
    for left, right in zip(one.split("/"), other.split("/"), strict=False):
        if left != right:
            break
        parts.append(left)
    return "/".join(parts)


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK)


def _attribute(path: str, name: str) -> Reading[bytes]:
    try:
        return Known(value=os.getxattr(path, name), source=f"{path} {name}")
    except OSError as error:
        if error.errno == errno.ENODATA:
            return Missing(source=f"{path} {name}", why=Why.ABSENT)
        return missing(f"{path} {name}", error)


def ask_systemd(runner: "CommandRunner") -> Callable[[str], Reading[bool]]:
    """Whether systemd delegates a unit, as it says itself; a unit below a user's manager is that one's."""

    def ask(path: str) -> Reading[bool]:
        user = ("--user",) if _is_of_user(path) else ()
        argv = ("systemctl", *user, "show", "--property=Delegate", "--", path.rpartition("/")[2])
        return parsed(runner.run(argv), lambda done: _yes(done.stdout.strip()))

    return ask


def _yes(line: str) -> bool:
    """Raises ValueError for what is no answer."""
    if line not in ("Delegate=yes", "Delegate=no"):
        raise ValueError("systemctl does not say Delegate=yes or no")
    return line == "Delegate=yes"
