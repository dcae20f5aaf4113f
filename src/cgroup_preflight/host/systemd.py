"""Output of `systemctl show UNIT...`: `Key=Value` lines, an empty line between units (systemctl(1)).

Facts about service managers: which run, which version, in which state, and who may use them.

Controllers that systemd keeps out of a slice (`DisableControllers=`, systemd.resource-control(5)).
"""

import re

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.cgroupfs import CgroupReading, parse_words, read_levels
from cgroup_preflight.host.container import read_pid_namespace
from cgroup_preflight.host.facts import UserManager
from cgroup_preflight.host.fs import HostFs

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner, Completed

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner


def parse_unit_show(text: str) -> tuple[dict[str, str], ...]:
    """One dictionary a unit, in the order asked; lines without `=` are not part of a value we ask for."""
    units: list[dict[str, str]] = [{}]
    for line in text.split("\n"):
        if not line:
            units.append({})
            continue
        key, separator, value = line.partition("=")
        if separator:
            units[-1][key] = value
    return tuple(unit for unit in units if unit)


#: Properties of the manager, and the command that shows them.
MANAGER_PROPERTIES = ("Version", "SystemState")
SHOW_MANAGER = ("systemctl", "show", f"--property={','.join(MANAGER_PROPERTIES)}")
_STATES = ("initializing", "starting", "running", "degraded", "maintenance", "stopping", "offline", "unknown")


def systemd_running(fs: HostFs, pid1: Reading[str]) -> Reading[bool]:
    """Whether systemd is PID 1 here: its folder exists (sd_booted(3)), and PID 1 is not another program.

    A container can be given the folder of the host below, with all of /run. Where PID 1 is hidden from others
    (hidepid, proc(5)), the folder decides if this is the first PID namespace.
    """
    folder = fs.exists("/run/systemd/system")
    if isinstance(folder, Missing) or not folder.value:
        return folder
    if isinstance(pid1, Known):
        return folder if pid1.value == "systemd" else Known(value=False, source=pid1.source)
    if pid1.why in (Why.ABSENT, Why.DENIED) and value_or(read_pid_namespace(fs), "private") == "host":
        return folder
    return pid1


def system_manager(runner: "CommandRunner", *, running: bool) -> tuple[Reading[str], Reading[str]]:
    """Release (such as `252.39`) and state of PID 1 by its own word: what is installed may be newer than what runs.

    systemctl(1) show. Where PID 1 does not answer, the release is that of systemctl.
    """
    if not running:
        gone = Missing(source="systemctl", why=Why.ABSENT, detail="systemd does not run")
        return gone, gone
    answer = runner.run(SHOW_MANAGER)
    state = parsed(answer, _state)
    release = parsed(answer, lambda done: _release(_properties(done).get("Version", "")))
    if isinstance(release, Missing):
        release = parsed(runner.run(("systemctl", "--version")), lambda done: _release(done.stdout))
    return release, state


def version_of(release: str) -> int:
    """The version of a release: properties come with versions, not with the releases that fix them."""
    return int(release.partition(".")[0])


def _properties(done: "Completed") -> dict[str, str]:
    return {key: value for unit in parse_unit_show(done.stdout) for key, value in unit.items()}


def _release(text: str) -> str:
    """Of `252.39-1~deb12u2`, or of `systemd 252 (252.39-1~deb12u2)`."""
    match = re.match(r"(?:systemd [0-9]{1,6} \()?([0-9]{1,6}(?:\.[0-9]{1,6})*)", text) or re.match(
        r"systemd ([0-9]{1,6})", text
    )
    if match is None:
        raise ValueError(f"not a version: {text[:40]!r}")
    return match[1]


def _state(done: "Completed") -> str:
    word = _properties(done).get("SystemState", "")
    if word not in _STATES:
        raise ValueError(f"answered {word[:40]!r}" if word else f"no answer: {done.stderr.strip()[:80]}")
    return word


def sudo(runner: "CommandRunner", uid: Reading[int], *, running: bool) -> Reading[bool]:
    """Whether `sudo -n` works without a password; asked only where it could help."""
    if not running or value_or(uid, 0) == 0:
        return Missing(source="sudo -n true", why=Why.ABSENT, detail="not needed")
    answer = runner.run(("sudo", "-n", "true"))
    if isinstance(answer, Missing):
        return Known(value=False, source="sudo") if answer.why is Why.ABSENT else answer
    return Known(value=answer.value.returncode == 0, source="sudo -n true")


def user_manager(fs: HostFs, point: str, uid: Reading[int], known: tuple[CgroupReading, ...]) -> UserManager:
    """The caller's own manager. Every level of the way to its cgroup is read, those of `known` not again."""
    if isinstance(uid, Missing):
        return UserManager(socket=uid, bus=uid, linger=uid, controllers=uid, levels=())
    folder = f"/run/user/{uid.value}"
    path = f"/user.slice/user-{uid.value}.slice/user@{uid.value}.service"
    levels = read_levels(fs, point, path, known)
    there = fs.exists(f"{folder}/systemd/private")
    socket: Reading[str] = there if isinstance(there, Missing) else Known(value=there.source, source=there.source)
    if isinstance(there, Known) and not there.value:
        socket = Missing(source=f"{folder}/systemd/private", why=Why.ABSENT)
    return UserManager(
        socket=socket,
        bus=fs.exists(f"{folder}/bus"),
        linger=_linger(fs, uid.value),
        controllers=levels[-1].controllers,
        levels=levels,
    )


def _linger(fs: HostFs, uid: int) -> Reading[bool]:
    """Whether the user's manager runs without a session: a file named after the user (loginctl(1))."""
    entry = parsed(fs.pieces("/etc/passwd", (f":{uid}:",), "\n"), lambda lines: _user_name(lines, uid))
    if isinstance(entry, Missing):
        return entry
    return fs.exists(f"/var/lib/systemd/linger/{entry.value}")


def _user_name(lines: tuple[str, ...], uid: int) -> str:
    for line in lines:
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid) and fields[0] and "/" not in fields[0]:
            return fields[0]
    raise ValueError(f"no user {uid} in it")


#: Above units with a slice of their own, units without, and those of user managers.
_SLICES = ("-.slice", "system.slice", "user.slice")
#: The first two have no file of their own; `slice.d` is for all slices.
_FILES = ("-.slice", "system.slice", "user.slice.d", "slice.d")
#: systemd.unit(5), the search path of the system manager; the last is what `set-property` writes.
_FOLDERS = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system", "/run/systemd/system.control", "/etc/systemd/system.control",
)  # fmt: skip


def disabled_controllers(fs: HostFs, runner: "CommandRunner", *, running: bool) -> "Reading[dict[str, frozenset[str]]]":
    """What is kept out of each of `_SLICES`. Only where a file could say something, systemd is asked."""
    if not running:
        return Missing(source="DisableControllers", why=Why.ABSENT, detail="systemd does not run")
    listed = [fs.names(folder, _FILES) for folder in _FOLDERS]
    for names in listed:
        if isinstance(names, Missing) and names.why is not Why.ABSENT:
            return names
    if not any(isinstance(names, Known) and names.value for names in listed):
        return Known(value={}, source=_FOLDERS[0])
    answer = runner.run(("systemctl", "show", "--property=Id,DisableControllers", "--", *_SLICES))
    return parsed(answer, lambda done: _by_slice(done.stdout))


def _by_slice(text: str) -> dict[str, frozenset[str]]:
    found = {unit.get("Id", ""): parse_words(unit["DisableControllers"])
             for unit in parse_unit_show(text) if "DisableControllers" in unit}  # fmt: skip
    if set(found) != set(_SLICES):
        raise ValueError("not an answer about each of the slices")
    return found
