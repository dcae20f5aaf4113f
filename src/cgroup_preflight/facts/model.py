"""Facts about one host: frozen readings, each with its source or the reason it is missing."""

from collections.abc import Mapping
from dataclasses import dataclass

from cgroup_preflight.facts.limits import CpuMax
from cgroup_preflight.facts.mountinfo import Mount
from cgroup_preflight.reading import Known, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One cgroup on a way down from the mount; `path` is empty for the mount itself.

    The limits are absent at the real root; a root with limits is the root of a cgroup namespace.
    """

    path: str
    controllers: Reading[frozenset[str]]
    subtree_control: Reading[frozenset[str]]
    type: Reading[str]
    memory_max: Reading[int | None]
    cpu_max: Reading[CpuMax]
    pids_max: Reading[int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserManager:
    """The user manager of the caller: its socket, bus, lingering, and the way down to its cgroup."""

    socket: Reading[str]
    bus: Reading[bool]
    linger: Reading[bool]
    controllers: Reading[frozenset[str]]
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A cgroup that systemd has made, taken to see which files this kernel offers in one."""

    path: str
    files: Reading[tuple[str, ...]]
    cpu_stat: Reading[Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """What IOWeight needs: the scheduler of each block device, and whether io.cost is on."""

    schedulers: Mapping[str, Reading[str]]
    io_cost_qos: Reading[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was read; `cgroup_mount` is the mount of version 2 that services use, `own` the caller's levels."""

    kernel: Reading[str]
    machine: Reading[str]
    uid: Reading[int]
    mounts: Reading[tuple[Mount, ...]]
    cgroup_mount: Reading[Mount]
    cgroup_read_only: Reading[bool]
    own_cgroup: Reading[str]
    own: tuple[Level, ...]
    root_controllers: Reading[frozenset[str]]
    root_subtree_control: Reading[frozenset[str]]
    cmdline: Reading[str]
    kernel_config: Reading[Mapping[str, str]]
    systemd_running: Reading[bool]
    systemd_version: Reading[int]
    system_state: Reading[str]
    system_bus: Reading[bool]
    pid1: Reading[str]
    sudo: Reading[bool]
    user_manager: UserManager
    container: Reading[str]
    sample: Sample
    pressure: Reading[Mapping[str, float]]
    disks: Disks
    online_cpus: Reading[frozenset[int]]
    meminfo: Reading[Mapping[str, int]]
    pid_max: Reading[int]
    threads_max: Reading[int]
    page_size: int

    @property
    def mount_point(self) -> str:
        """Where version 2 is mounted; the customary place when that is unknown."""
        return self.cgroup_mount.value.point if isinstance(self.cgroup_mount, Known) else "/sys/fs/cgroup"
