"""Facts about one host: frozen readings, each with its source or the reason it is missing."""

from collections.abc import Mapping

from cgroup_preflight.core.reading import Known, Reading
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.cgroupfs import CgroupReading, Mount


@dataclass(frozen=True, slots=True, kw_only=True)
class UserManager:
    """The user manager of the caller: its socket, bus, lingering, and the levels down to its cgroup."""

    socket: Reading[str]
    bus: Reading[bool]
    linger: Reading[bool]
    controllers: Reading[frozenset[str]]
    levels: tuple[CgroupReading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A cgroup that systemd has created: it shows which files this kernel has in one."""

    path: str
    files: Reading[tuple[str, ...]]
    cpu_stat: Reading[Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """What IOWeight needs: the scheduler of each block device, and whether io.cost is on."""

    names: Reading[tuple[str, ...]]
    schedulers: Mapping[str, Reading[str]]
    io_cost_qos: Reading[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was read; `cgroup_mount` is the cgroup v2 mount that services use.

    `root` is the top of that mount, `own` the caller's levels, empty where its cgroup is not below the mount.
    `services` is system.slice, where units without a slice of their own run. `cgroup_namespace` is `host` or `private`.
    `manager_mount` is what PID 1 has at /sys/fs/cgroup, read only where this job's own view differs or is
    read-only. `disabled_controllers` are those that systemd disables for a slice, by the slice's name.
    `boot_loader` is a word of `host.boot`.
    """

    kernel: Reading[str]
    machine: Reading[str]
    uid: Reading[int]
    mounts: Reading[tuple[Mount, ...]]
    cgroup_mount: Reading[Mount]
    cgroup_read_only: Reading[bool]
    manager_mount: Reading[Mount]
    cgroup_namespace: Reading[str]
    own_cgroup: Reading[str]
    own: tuple[CgroupReading, ...]
    root: CgroupReading
    services: CgroupReading
    cmdline: Reading[str]
    kernel_config: Reading[Mapping[str, str]]
    boot_loader: Reading[str]
    systemd_running: Reading[bool]
    systemd_release: Reading[str]
    systemd_version: Reading[int]
    system_state: Reading[str]
    system_bus: Reading[bool]
    disabled_controllers: Reading[Mapping[str, frozenset[str]]]
    pid1: Reading[str]
    sudo: Reading[bool]
    user_manager: UserManager
    container: Reading[str]
    sample: Sample
    pressure: Reading[Mapping[str, float]]
    disks: Disks
    online_cpus: Reading[frozenset[int]]
    possible_cpus: Reading[frozenset[int]]
    meminfo: Reading[Mapping[str, int]]
    pid_max: Reading[int]
    threads_max: Reading[int]
    page_size: int

    @property
    def mount_point(self) -> str:
        """Where cgroup v2 is mounted; /sys/fs/cgroup when that is unknown."""
        return self.cgroup_mount.value.point if isinstance(self.cgroup_mount, Known) else "/sys/fs/cgroup"

    @property
    def root_controllers(self) -> Reading[frozenset[str]]:
        """`cgroup.controllers` at the mount."""
        return self.root.controllers
