"""What this host offers to a guest."""

import os

from cgroup_preflight.guest import tools
from cgroup_preflight.guest.machine import PROGRAMS
from cgroup_preflight.guest.requirements import HostCapacity
from cgroup_preflight.guest.spec import GuestEngine


def host_capacity() -> HostCapacity:
    """What this host offers now."""
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = _available_mib(file.read())
    return HostCapacity(
        qemu=tools.is_installed(PROGRAMS[GuestEngine.QEMU]), cpus=len(os.sched_getaffinity(0)), memory_mib=memory
    )


def _available_mib(meminfo: str) -> int:
    """MemAvailable of /proc/meminfo (proc(5), in kB); 1024 where the kernel does not say."""
    lines = (line.split() for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    return next((int(words[1]) >> 10 for words in lines), 1024)
