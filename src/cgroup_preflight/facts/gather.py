"""The only function that reads a host's facts; every file is read once."""

import re
import resource

from cgroup_preflight.facts import proc_files
from cgroup_preflight.facts.model import Facts, UserManager
from cgroup_preflight.facts.mountinfo import Mount, mount_at, of_type, parse_mountinfo
from cgroup_preflight.facts.proc_cgroup import parse_proc_cgroup
from cgroup_preflight.facts.words import parse_words
from cgroup_preflight.host.command import CommandRunner
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.reading import Known, Missing, Reading, Why, parsed, value_or

CGROUP_ROOT = "/sys/fs/cgroup"
_LIBRARY = re.compile(r"libsystemd-shared-(\d+)")
_LIBRARY_FOLDERS = ("/usr/lib/{machine}-linux-gnu/systemd", "/usr/lib/systemd", "/usr/lib64/systemd", "/lib/systemd")


def gather(fs: HostFs, runner: CommandRunner) -> Facts:
    """Everything the checks and engines ask for; nothing is written and no privilege is taken."""
    mounts = parsed(fs.read("/proc/self/mountinfo"), parse_mountinfo)
    mount = _cgroup_mount(mounts)
    point = mount.value.point if isinstance(mount, Known) else CGROUP_ROOT
    uid = parsed(fs.read("/proc/self/status"), proc_files.parse_uid)
    own = parsed(fs.read("/proc/self/cgroup"), parse_proc_cgroup)
    machine = fs.machine()
    running = _exists(fs, "/run/systemd/system")
    return Facts(
        kernel=parsed(fs.read("/proc/sys/kernel/osrelease"), proc_files.parse_line),
        machine=machine,
        uid=uid,
        mounts=mounts,
        cgroup_mount=mount,
        own_cgroup=own,
        root_controllers=parsed(fs.read(f"{point}/cgroup.controllers"), parse_words),
        root_subtree_control=parsed(fs.read(f"{point}/cgroup.subtree_control"), parse_words),
        own_controllers=_own_controllers(fs, point, own),
        cmdline=fs.read("/proc/cmdline"),
        systemd_running=running,
        systemd_version=_systemd_version(fs, runner, value_or(machine, "x86_64"), value_or(running, default=False)),
        pid1=parsed(fs.read("/proc/1/comm"), proc_files.parse_line),
        sudo=_sudo(runner, uid, value_or(running, default=False)),
        user_manager=_user_manager(fs, point, uid),
        online_cpus=parsed(fs.read("/sys/devices/system/cpu/online"), proc_files.parse_cpu_list),
        meminfo=parsed(fs.read("/proc/meminfo"), proc_files.parse_meminfo),
        pid_max=parsed(fs.read("/proc/sys/kernel/pid_max"), proc_files.parse_number),
        threads_max=parsed(fs.read("/proc/sys/kernel/threads-max"), proc_files.parse_number),
        page_size=resource.getpagesize(),
    )


def _cgroup_mount(mounts: Reading[tuple[Mount, ...]]) -> Reading[Mount]:
    """The version 2 mount that services use: the one at /sys/fs/cgroup, else the only one elsewhere.

    A version 2 mount beside version 1 at /sys/fs/cgroup (hybrid) holds no controllers for services.
    """
    if isinstance(mounts, Missing):
        return mounts
    top = mount_at(mounts.value, CGROUP_ROOT)
    if top is not None and top.fs_type == "cgroup2":
        return Known(value=top, source=mounts.source)
    elsewhere = of_type(mounts.value, "cgroup2")
    if top is None and elsewhere:
        return Known(value=elsewhere[-1], source=mounts.source)
    detail = f"{CGROUP_ROOT} is {top.fs_type}" if top else f"nothing is mounted at {CGROUP_ROOT}"
    return Missing(source=mounts.source, why=Why.ABSENT, detail=detail)


def _exists(fs: HostFs, path: str) -> Reading[bool]:
    names = fs.names(path)
    if isinstance(names, Known):
        return Known(value=True, source=path)
    return Known(value=False, source=path) if names.why is Why.ABSENT else names


def _own_controllers(fs: HostFs, point: str, own: Reading[str]) -> Reading[frozenset[str]]:
    if isinstance(own, Missing):
        return own
    return parsed(fs.read(f"{point}{own.value.rstrip('/')}/cgroup.controllers"), parse_words)


def _systemd_version(fs: HostFs, runner: CommandRunner, machine: str, running: bool) -> Reading[int]:
    """From the name of systemd's own library; asks `systemctl --version` only where that is not found."""
    for folder in _LIBRARY_FOLDERS:
        names = value_or(fs.names(folder.format(machine=machine)), ())
        found = sorted(int(match[1]) for match in map(_LIBRARY.match, names) if match)
        if found:
            return Known(value=found[-1], source=f"{folder.format(machine=machine)}/libsystemd-shared-{found[-1]}")
    if not running:
        return Missing(source="systemctl --version", why=Why.ABSENT, detail="systemd does not run")
    answer = runner.run(("systemctl", "--version"))
    if isinstance(answer, Missing):
        return answer
    match = re.match(r"systemd (\d+)", answer.value.stdout)
    if match is None:
        return Missing(source=answer.source, why=Why.MALFORMED)
    return Known(value=int(match[1]), source=answer.source)


def _sudo(runner: CommandRunner, uid: Reading[int], running: bool) -> Reading[bool]:
    """Whether `sudo -n` works without a password; asked only where it could help."""
    if not running or value_or(uid, 0) == 0:
        return Missing(source="sudo -n true", why=Why.ABSENT, detail="not needed")
    answer = runner.run(("sudo", "-n", "true"))
    if isinstance(answer, Missing):
        return Known(value=False, source="sudo") if answer.why is Why.ABSENT else answer
    return Known(value=answer.value.returncode == 0, source="sudo -n true")


def _user_manager(fs: HostFs, point: str, uid: Reading[int]) -> UserManager:
    if isinstance(uid, Missing):
        return UserManager(socket=uid, controllers=uid)
    folder = f"/run/user/{uid.value}/systemd"
    names = fs.names(folder)
    socket: Reading[str] = names if isinstance(names, Missing) else Known(value=f"{folder}/private", source=folder)
    if isinstance(names, Known) and "private" not in names.value:
        socket = Missing(source=f"{folder}/private", why=Why.ABSENT)
    cgroup = f"{point}/user.slice/user-{uid.value}.slice/user@{uid.value}.service"
    return UserManager(socket=socket, controllers=parsed(fs.read(f"{cgroup}/cgroup.controllers"), parse_words))
