"""What is left out of a recording: names of users and of the host. Pure."""

import re
from collections.abc import Callable, Mapping

from cgroup_preflight.host.siblings import UNITS

#: One answer of a recording.
Answer = dict[str, object]

#: Words that the facts' parsers, and the paths they are read from, are made of.
_WORDS = frozenset((
    "root", "user", "host", "localhost", "none", "cpu", "cpuset", "memory", "pids", "hugetlb", "rdma", "misc",
    "devices", "freezer", "blkio", "cgroup", "cgroup2", "systemd", "system", "linux", "debian", "ubuntu", "rhel",
    "fedora", "centos", "proc", "sys", "dev", "etc", "run", "usr", "var", "lib", "boot", "init", "slice", "scope",
    "service", "session", "kernel", "unified", "max", "min", "high", "low", "domain", "threaded", "invalid",
    "running", "degraded", "starting", "stopping", "initializing", "maintenance", "offline", "unknown", "docker",
    "podman", "lxc", "lxd", "wsl", "kubernetes", "microsoft", "private", "bus", "secrets", "container", "linger",
    "some", "full", "avg10", "avg60", "avg300", "total", "sched", "stat", "current", "peak", "swap", "zswap",
    "events", "weight", "type", "kill", "freeze", "pressure", "enable", "default", "cost", "qos", "deadline", "bfq",
    "kyber", "scheduler", "queue", "block", "online", "devices", "status", "passwd", "mountinfo", "cmdline", "comm",
    "MemTotal", "MemFree", "MemAvailable", "SwapTotal", "Uid", "swapaccount", "psi", "grub", "grub2", "firmware",
    "Id", "DisableControllers", "systemctl", "show", "sudo", "true", "ext4", "tmpfs", "nsdelegate", "machine",
    "read", "pieces", "names", "link", "read_only", "page_size", "cgroup_disable", "cgroup_enable", "containerenv",
    "control", "controllers", "dbus", "dockerenv", "gnu", "group", "libsystemd", "local", "manager", "meminfo",
    "memory_recursiveprot", "oom", "osrelease", "property", "self", "shared", "subtree_control",
    "system_bus_socket", "unified_cgroup_hierarchy", "legacy_systemd_cgroup_controller", "cgroup_no_v1",
    "cgroup_memory", "rt_group_sched", "cgroups", "user_manager", "release", "threads", "pid_max", "kernel_config",
    "fs", "io", "kB", "ns", "ro", "rw", "sda", "CPU", "Version", "SystemState", "device", "exists",
))  # fmt: skip


def needed(question: str, entry: Answer) -> Answer:
    """The entry without what its pieces contain besides the answer: other users, real names, parameters of another name.

    A piece was kept for what it contains: `:1000:` is also the group of other users (passwd(5)), and `psi=` is in
    `token_psi=`.
    """
    pieces, keep = entry.get("value"), entry.get("keep")
    if isinstance(pieces, list) and "cgroup.procs" in pieces and len(question.split(" ")) == 2:
        # All names in a cgroup: containers and the like can have names that tell more than those of units.
        return {**entry, "value": [name for name in pieces if name.endswith(UNITS)]}
    if not isinstance(pieces, list) or not isinstance(keep, list):
        return entry
    if question == "pieces /etc/passwd":
        users = [line.split(":")[:3] for line in pieces]
        pieces = [":".join([*user, "", "", "", ""]) for user in users if f":{user[-1]}:" in keep]
    if question == "pieces /proc/cmdline":
        pieces = [word for word in pieces if word.strip().startswith(tuple(keep))]
    return {**entry, "value": pieces}


def replacer(names: Mapping[str, str]) -> Callable[[str], str]:
    """Replaces whole names in a text, the longest first; the same everywhere, so that paths still match.

    A name that is also a word of the kernel or of systemd stays: replacing it would change what the files say.
    """
    names = {name: stand_in for name, stand_in in names.items() if _tells(name)}
    if not names:
        return lambda text: text
    words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = re.compile(rf"(?<![A-Za-z0-9_])(?:{words})(?![A-Za-z0-9_])")
    return lambda text: pattern.sub(lambda match: names[match[0]], text)


def replaced(entry: Answer, replace: Callable[[str], str]) -> Answer:
    """The entry with every text of it replaced; its keys, reasons and error names come from this tool."""
    texts = {"value", "out", "err", "detail"}
    return {key: _replaced_value(value, replace) if key in texts else value for key, value in entry.items()}


def _tells(name: str) -> bool:
    return len(name) > 1 and not name.isdigit() and name not in _WORDS


def _replaced_value(value: object, replace: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return replace(value)
    return [replace(str(item)) for item in value] if isinstance(value, list) else value
