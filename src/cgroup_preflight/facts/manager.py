"""Facts about service managers: which run, which version, in which state, and who may use them."""

import re
from typing import TYPE_CHECKING

from cgroup_preflight.facts.container import read_pid_namespace
from cgroup_preflight.facts.levels import read_levels
from cgroup_preflight.facts.model import Level, UserManager
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.reading import Known, Missing, Reading, Why, parsed, value_or

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner

_LIBRARY = re.compile(r"libsystemd-shared-(\d+)")
_LIBRARY_FOLDERS = ("/usr/lib/{triplet}/systemd", "/usr/lib/systemd", "/usr/lib64/systemd", "/lib/systemd")
_MULTIARCH = {"armv6l": "arm-linux-gnueabihf", "armv7l": "arm-linux-gnueabihf", "i686": "i386-linux-gnu",
              "ppc64le": "powerpc64le-linux-gnu"}  # fmt: skip
_STATES = ("initializing", "starting", "running", "degraded", "maintenance", "stopping", "offline", "unknown")


def exists(fs: HostFs, path: str, *, folder: str = "") -> Reading[bool]:
    """Whether a folder is there; with `folder`, whether that holds the name at the end of `path`."""
    name = path.rpartition("/")[2]
    names = fs.names(folder or path, (name,) if folder else ())
    if isinstance(names, Known):
        return Known(value=not folder or name in names.value, source=path)
    return Known(value=False, source=path) if names.why is Why.ABSENT else names


def systemd_running(fs: HostFs, pid1: Reading[str]) -> Reading[bool]:
    """Whether systemd is PID 1 here: its folder is there (sd_booted(3)), and PID 1 is not another program.

    A container can be given the folder of the host below, with all of /run. Where PID 1 is hidden from others
    (hidepid, proc(5)), the folder decides if this is the first PID namespace.
    """
    folder = exists(fs, "/run/systemd/system")
    if isinstance(folder, Missing) or not folder.value:
        return folder
    if isinstance(pid1, Known):
        return folder if pid1.value == "systemd" else Known(value=False, source=pid1.source)
    if pid1.why in (Why.ABSENT, Why.DENIED) and value_or(read_pid_namespace(fs), "private") == "host":
        return folder
    return pid1


def systemd_version(fs: HostFs, runner: "CommandRunner", machine: str, *, running: bool) -> Reading[int]:
    """From the name of systemd's own library; asks `systemctl --version` only where that is not found."""
    triplet = _MULTIARCH.get(machine, f"{machine}-linux-gnu")
    closed: Missing | None = None
    for folder in _LIBRARY_FOLDERS:
        place = folder.format(triplet=triplet)
        listed = fs.names(place, ("libsystemd-shared-",))
        if isinstance(listed, Missing) and listed.why is not Why.ABSENT:
            closed = closed or listed
        names: tuple[str, ...] = value_or(listed, ())
        found = sorted(int(match[1]) for match in map(_LIBRARY.match, names) if match)
        if found:
            return Known(value=found[-1], source=f"{place}/libsystemd-shared-{found[-1]}")
    if not running:
        return Missing(source="systemctl --version", why=Why.ABSENT, detail="systemd does not run")
    answer = runner.run(("systemctl", "--version"))
    if isinstance(answer, Missing):
        return closed or answer
    match = re.match(r"systemd (\d+)", answer.value.stdout)
    if match is None:
        return Missing(source=answer.source, why=Why.MALFORMED)
    return Known(value=int(match[1]), source=answer.source)


def system_state(runner: "CommandRunner", *, running: bool) -> Reading[str]:
    """`running`, `degraded`, `starting` and so on (systemctl(1) is-system-running)."""
    if not running:
        return Missing(source="systemctl is-system-running", why=Why.ABSENT, detail="systemd does not run")
    answer = runner.run(("systemctl", "is-system-running"))
    if isinstance(answer, Missing):
        return answer
    word = answer.value.stdout.strip()
    if word not in _STATES:
        return Missing(source=answer.source, why=Why.MALFORMED, detail=f"answered {word[:40]!r}")
    return Known(value=word, source=answer.source)


def sudo(runner: "CommandRunner", uid: Reading[int], *, running: bool) -> Reading[bool]:
    """Whether `sudo -n` works without a password; asked only where it could help."""
    if not running or value_or(uid, 0) == 0:
        return Missing(source="sudo -n true", why=Why.ABSENT, detail="not needed")
    answer = runner.run(("sudo", "-n", "true"))
    if isinstance(answer, Missing):
        return Known(value=False, source="sudo") if answer.why is Why.ABSENT else answer
    return Known(value=answer.value.returncode == 0, source="sudo -n true")


def user_manager(fs: HostFs, point: str, uid: Reading[int], known: tuple[Level, ...]) -> UserManager:
    """The caller's own manager. Every level of the way to its cgroup is read, those of `known` not again."""
    if isinstance(uid, Missing):
        return UserManager(socket=uid, bus=uid, linger=uid, controllers=uid, levels=())
    folder = f"/run/user/{uid.value}"
    path = f"/user.slice/user-{uid.value}.slice/user@{uid.value}.service"
    levels = read_levels(fs, point, path, known)
    there = exists(fs, f"{folder}/systemd/private", folder=f"{folder}/systemd")
    socket: Reading[str] = there if isinstance(there, Missing) else Known(value=there.source, source=there.source)
    if isinstance(there, Known) and not there.value:
        socket = Missing(source=f"{folder}/systemd/private", why=Why.ABSENT)
    return UserManager(
        socket=socket,
        bus=exists(fs, f"{folder}/bus", folder=folder),
        linger=_linger(fs, uid.value),
        controllers=levels[-1].controllers,
        levels=levels,
    )


def _linger(fs: HostFs, uid: int) -> Reading[bool]:
    """Whether the user's manager runs without a session: a file named after the user (loginctl(1))."""
    entry = parsed(fs.pieces("/etc/passwd", (f":{uid}:",), "\n"), lambda lines: _user_name(lines, uid))
    if isinstance(entry, Missing):
        return entry
    return exists(fs, f"/var/lib/systemd/linger/{entry.value}", folder="/var/lib/systemd/linger")


def _user_name(lines: tuple[str, ...], uid: int) -> str:
    for line in lines:
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid) and fields[0] and "/" not in fields[0]:
            return fields[0]
    raise ValueError(f"no user {uid} in it")
