"""What packages leave on a machine after their removal: files, links, units, processes; users and groups may stay."""

import os
from collections.abc import Iterable, Iterator

from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.systemd import parse_unit_show

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner

#: Where packages have files; /run and /tmp do not outlive a boot.
_TOPS = ("/usr", "/etc", "/var", "/opt", "/srv")
#: What dpkg, systemd and the tools for users write for every package, and logs of the system itself.
_OF_THE_SYSTEM = (
    "/var/lib/dpkg", "/var/log/dpkg.log", "/var/log/alternatives.log", "/var/log/apt", "/var/log/journal", "/var/cache/apt",
    "/var/cache/ldconfig", "/var/cache/debconf", "/var/lib/systemd/catalog", "/var/lib/systemd/random-seed",
    "/var/lib/systemd/timers", "/var/lib/systemd/coredump", "/var/tmp",  # noqa: S108 - not written
    "/var/lib/private", "/var/cache/private",
    "/var/log/private", "/var/lib/ucf", "/var/lib/pam", "/etc/.updated", "/var/.updated", "/etc/.pwd.lock", "/etc/ld.so.cache",
)  # fmt: skip
_ACCOUNTS = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
_DELETED = " (deleted)"
_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A machine at one moment: paths of files and links, names of users and groups."""

    paths: frozenset[str]
    users: frozenset[str]
    groups: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What stayed. `data` are files below /var, /opt and /srv that no package has in its list: made while it ran.

    `accounts` and `slices` may stay: users and groups by Debian's practice, an empty slice until the next boot.
    """

    files: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


def scene(root: str = "") -> Scene:
    """The machine as it is; `root` is before every path that is read."""
    return Scene(
        paths=frozenset(path for top in _TOPS for path in _walk(root, top)),
        users=frozenset(_names(f"{root}/etc/passwd")), groups=frozenset(_names(f"{root}/etc/group")),
    )  # fmt: skip


def _walk(root: str, top: str) -> Iterator[str]:
    todo = [top]
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(root + folder))
        except OSError:
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}"
            if _is_of_the_system(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                todo.append(path)
            else:
                yield path


def _is_of_the_system(path: str) -> bool:
    if any(path == item or path.startswith(f"{item}/") for item in _OF_THE_SYSTEM) or path.endswith(".pyc"):
        return True
    return path.startswith("/etc/") and path.removeprefix("/etc/").rstrip("-+").removesuffix(".org") in _ACCOUNTS


def _names(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from (line.partition(":")[0] for line in file)
    except OSError:
        return


def _listed(shipped: frozenset[str]) -> frozenset[str]:
    """On a merged /usr a package may name a file below /lib that is below /usr/lib."""
    return frozenset((*shipped, *(f"/usr{path}" for path in shipped)))


def left_files(before: Scene, after: Scene, shipped: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files that must go, and the data that services made."""
    fresh = after.paths - before.paths
    listed = _listed(shipped)
    must_go = sorted(path for path in fresh if path in listed or path.startswith(("/usr/", "/etc/")))
    return tuple(must_go), tuple(sorted(fresh - set(must_go)))


def left_accounts(before: Scene, after: Scene) -> tuple[str, ...]:
    """Users and groups that were added."""
    users = (f"user {name}" for name in sorted(after.users - before.users))
    return (*users, *(f"group {name}" for name in sorted(after.groups - before.groups)))


def left_processes(shipped: frozenset[str], proc: str = "/proc") -> tuple[str, ...]:
    """Processes that run a file of the packages, or were started with one as an argument."""
    listed = _listed(shipped)
    found = []
    for name in os.listdir(proc):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            program = os.readlink(f"{proc}/{name}/exe").removesuffix(_DELETED)
            with open(f"{proc}/{name}/cmdline", "rb") as file:
                words = file.read(1 << 12).decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if program in listed or not listed.isdisjoint(word for word in words[:3] if word.startswith("/")):
            found.append(f"{name} ({' '.join(words).strip()[:120]})")
    return tuple(found)


def left_units(programs: "CommandRunner", units: Iterable[str]) -> tuple[str, ...]:
    """Those of `units` that are still active or failed, with their state, and those that systemd says nothing of."""
    wanted = tuple(units)
    shown = show_units(programs, wanted, ("Id", "LoadState", "ActiveState"))
    states = {item.get("Id", ""): item.get("ActiveState", "unknown") for item in shown}
    found = [f"{unit} ({state})" for unit, state in states.items() if state != "inactive"]
    # Of an alias the Id is another name, but as many answers come.
    silent = [unit for unit in wanted if unit not in states] if len(shown) < len(wanted) else []
    return (*found, *(f"{unit} (systemd does not tell its state)" for unit in silent))


def show_units(programs: "CommandRunner", units: Iterable[str], names: Iterable[str]) -> tuple[dict[str, str], ...]:
    """Properties of units; nothing where systemd does not answer."""
    wanted = tuple(units)
    if not wanted:
        return ()
    answer = programs.run(("systemctl", "show", f"--property={','.join(names)}", "--", *wanted), timeout=_SECONDS)
    return () if isinstance(answer, Missing) else tuple(parse_unit_show(answer.value.stdout))
