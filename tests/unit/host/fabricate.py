"""A host made of a few file texts, and a runner that starts nothing: what `gather` reads in unit tests."""

import dataclasses
import errno
import functools

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, missing
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.facts import Facts
from cgroup_preflight.host.gather import gather

UNIFIED = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
ROOT_MOUNT = (
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "23 22 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw\n"
)
MEMINFO = "MemTotal: 4030456 kB\nMemFree: 100 kB\nMemAvailable: 3204568 kB\nSwapTotal: 0 kB\nHugePages_Total: 0\n"
CONTROLLERS = "cpuset cpu io memory hugetlb pids rdma misc\n"
HYBRID = (
    ROOT_MOUNT
    + "31 22 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    + "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    + "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
LEGACY = HYBRID[: HYBRID.index("41 31")]
USER = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"


SHOW = "systemctl show --property=Version,SystemState"
RUNNING = {SHOW: (0, "Version=252.39-1~deb12u1\nSystemState=running\n")}


class FakeFs:
    """`HostFs` over texts by path; a number is the errno that reading gives; a path with `/` at its end is a folder."""

    def __init__(self, files: dict[str, str | int]) -> None:
        self.files = files

    def _lookup(self, path: str) -> str | int:
        above = path
        while above := above.rpartition("/")[0]:
            if isinstance(self.files.get(above), int):
                return self.files[above]
        if path in self.files:
            return self.files[path]
        return errno.EISDIR if self._children(path) else errno.ENOENT

    def _children(self, path: str) -> list[str]:
        start = path.rstrip("/") + "/"
        found = {name[len(start) :].partition("/")[0] for name in self.files if name.startswith(start)}
        return sorted(found - {""}) + ([""] if start in self.files else [])

    def read(self, path: str) -> Reading[str]:
        found = self._lookup(path)
        return missing(path, OSError(found, "fake")) if isinstance(found, int) else Known(value=found, source=path)

    def pieces(self, path: str, keep: tuple[str, ...], separator: str) -> Reading[tuple[str, ...]]:
        reading = self.read(path)
        if isinstance(reading, Missing):
            return reading
        return Known(
            value=tuple(part for part in reading.value.split(separator) if any(word in part for word in keep)),
            source=path,
        )

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        found = self._lookup(path)
        if isinstance(found, str):
            return missing(path, OSError(errno.ENOTDIR, "fake"))
        if found != errno.EISDIR:
            return missing(path, OSError(found, "fake"))
        return Known(
            value=tuple(name for name in self._children(path) if name and (keep is None or name.startswith(keep))),
            source=path,
        )

    def exists(self, path: str) -> Reading[bool]:
        found = self._lookup(path)
        if isinstance(found, str) or found == errno.EISDIR:
            return Known(value=True, source=path)
        return Known(value=False, source=path) if found == errno.ENOENT else missing(path, OSError(found, "fake"))

    def device(self, path: str) -> Reading[str]:
        return Known(value="0:26", source=path)

    def link(self, path: str) -> Reading[str]:
        return missing(path, OSError(errno.EINVAL, "fake"))

    def read_only(self, path: str) -> Reading[bool]:
        return Known(value=False, source=path)

    def machine(self) -> Reading[str]:
        return Known(value="x86_64", source="uname")

    def page_size(self) -> Reading[int]:
        return Known(value=4096, source="page size")


class FakeRunner:
    """Answers by command line; what it does not know is not installed. `asked` keeps the questions."""

    def __init__(self, answers: dict[str, tuple[int, str]] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[str] = []

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        line = " ".join(argv)
        self.asked.append(line)
        if line not in self.answers:
            return Missing(source=line, why=Why.ABSENT, errno=errno.ENOENT)
        status, out = self.answers[line]
        return Known(value=Completed(argv=argv, returncode=status, stdout=out, stderr=""), source=line)


def host(uid: int = 0, **changes: str | int | None) -> dict[str, str | int]:
    """The files of a good Debian 12 host; `changes` are by file name (see KEYS), None takes a file away."""
    files: dict[str, str | int] = {
        "/proc/self/mountinfo": ROOT_MOUNT + UNIFIED,
        "/proc/self/status": f"Name:\tpython3\nUmask:\t0022\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t0\t0\t0\t0\n",
        "/proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
        "/proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
        "/proc/sys/kernel/pid_max": "4194304\n",
        "/proc/sys/kernel/threads-max": "31402\n",
        "/proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet\n",
        "/proc/1/comm": "systemd\n",
        "/proc/meminfo": MEMINFO,
        "/proc/pressure/memory": "".join(
            f"{kind} avg10=0.00 avg60=0.00 avg300=0.00 total=0\n" for kind in ("some", "full")
        ),
        "/sys/devices/system/cpu/online": "0-3\n",
        "/sys/devices/system/cpu/possible": "0-7\n",
        "/sys/fs/cgroup/cgroup.controllers": CONTROLLERS,
        "/sys/fs/cgroup/cgroup.subtree_control": CONTROLLERS,
        "/sys/fs/cgroup/system.slice/memory.max": "max\n",
        f"{USER}/cgroup.controllers": "cpu io memory pids\n",
        f"{USER}/cgroup.subtree_control": "cpu memory pids\n",
        "/run/systemd/system/": "",
        "/run/dbus/system_bus_socket": "",
        "/run/user/1000/systemd/private": "",
        "/run/user/1000/bus": "",
        "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000::/home/me:/bin/bash\n",
    }
    for key, value in changes.items():
        path = KEYS[key]
        if value is None:
            for name in [name for name in files if name == path or name.startswith(path.rstrip("/") + "/")]:
                del files[name]
        else:
            files[path] = value
    return files


KEYS = {
    "mountinfo": "/proc/self/mountinfo",
    "status": "/proc/self/status",
    "cgroup": "/proc/self/cgroup",
    "osrelease": "/proc/sys/kernel/osrelease",
    "cmdline": "/proc/cmdline",
    "comm": "/proc/1/comm",
    "meminfo": "/proc/meminfo",
    "controllers": "/sys/fs/cgroup/cgroup.controllers",
    "user_controllers": f"{USER}/cgroup.controllers",
    "booted": "/run/systemd/system",
    "private": "/run/user/1000/systemd/private",
    "user_run": "/run/user/1000",
    "pid_max": "/proc/sys/kernel/pid_max",
    "threads_max": "/proc/sys/kernel/threads-max",
    "online": "/sys/devices/system/cpu/online",
}


def gathered(uid: int = 0, *, answers: dict[str, tuple[int, str]] | None = None, **changes: str | int | None) -> Facts:
    """What `gather` makes of such a host."""
    return gather(FakeFs(host(uid, **changes)), FakeRunner(RUNNING if answers is None else answers))


def facts(user: int = 0, /, **overrides: object) -> Facts:
    """The facts of a good host with some of them replaced; a plain value becomes a known one."""
    base = _good(user)
    plain = {"user_manager", "page_size", "own", "root", "services", "sample", "disks"}
    values = {
        name: value
        if name in plain or isinstance(value, Known | Missing)
        else Known(value=value, source=f"fake {name}")
        for name, value in overrides.items()
    }
    if "root_controllers" in values:
        values["root"] = dataclasses.replace(base.root, controllers=values.pop("root_controllers"))
    return dataclasses.replace(base, **values)


@functools.cache
def _good(user: int) -> Facts:
    return gathered(user, answers={"sudo -n true": (0, ""), **RUNNING})


def unreadable(source: str = "/proc/fake", why: Why = Why.DENIED) -> Missing:
    """A fact that could not be had."""
    return Missing(source=source, why=why, errno=errno.EACCES if why is Why.DENIED else None)
