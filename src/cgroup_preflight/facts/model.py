"""Facts about one host: frozen readings, each with its source or the reason it is missing."""

from collections.abc import Mapping
from dataclasses import dataclass

from cgroup_preflight.facts.mountinfo import Mount
from cgroup_preflight.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class UserManager:
    """The user manager of the caller: its socket and what its cgroup offers."""

    socket: Reading[str]
    controllers: Reading[frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was read; `cgroup_mount` is the mount of version 2 that services use, `own` the caller's path."""

    kernel: Reading[str]
    machine: Reading[str]
    uid: Reading[int]
    mounts: Reading[tuple[Mount, ...]]
    cgroup_mount: Reading[Mount]
    own_cgroup: Reading[str]
    root_controllers: Reading[frozenset[str]]
    root_subtree_control: Reading[frozenset[str]]
    own_controllers: Reading[frozenset[str]]
    cmdline: Reading[str]
    systemd_running: Reading[bool]
    systemd_version: Reading[int]
    pid1: Reading[str]
    sudo: Reading[bool]
    user_manager: UserManager
    online_cpus: Reading[frozenset[int]]
    meminfo: Reading[Mapping[str, int]]
    pid_max: Reading[int]
    threads_max: Reading[int]
    page_size: int


    @property
    def mount_point(self) -> str:
        """Where version 2 is mounted; the customary place when that is unknown."""
        from cgroup_preflight.reading import Known  # noqa: PLC0415

        return self.cgroup_mount.value.point if isinstance(self.cgroup_mount, Known) else "/sys/fs/cgroup"
