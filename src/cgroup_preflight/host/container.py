"""Whether this is inside a container, and which kind; by files only, as systemd-detect-virt(1) does.

Sources: systemd src/basic/virt.c, podman-run(1) (.containerenv), Kubernetes service account mounts, WSL;
cgroup_namespaces(7), and the kernel's include/linux/proc_ns.h for the number of the first namespace.
"""

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed
from cgroup_preflight.host.fs import HostFs

#: PROC_CGROUP_INIT_INO and PROC_PID_INIT_INO.
_FIRST_CGROUP_NAMESPACE = "cgroup:[4026531835]"
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
_MARKS = (
    ("/run/.containerenv", "podman"), ("/.dockerenv", "docker"), ("/run/secrets/kubernetes.io", "kubernetes"),
    ("/dev/lxd", "lxc"), ("/dev/.lxc", "lxc"),
)  # fmt: skip


def read_container(fs: HostFs, kernel: Reading[str]) -> Reading[str]:
    """`none`, or the name of the container manager; missing where a mark of one could not be read."""
    unknown: Missing | None = None
    for path in ("/run/systemd/container", "/run/host/container-manager"):
        reading = parsed(fs.read(path), _word)
        if isinstance(reading, Known):
            return reading
        unknown = unknown or _unless_absent(reading)
    for path, name in _MARKS:
        mark = fs.exists(path)
        if isinstance(mark, Missing):
            unknown = unknown or mark
        elif mark.value:
            return Known(value=name, source=path)
    if unknown is not None:
        return unknown
    if isinstance(kernel, Known) and "microsoft" in kernel.value.lower():
        return Known(value="wsl", source=kernel.source)
    return Known(value="none", source="/run/systemd/container")


def read_namespace(fs: HostFs) -> Reading[str]:
    """`host` or `private`: whether the cgroup namespace is the first one of the kernel."""
    link = fs.link("/proc/self/ns/cgroup")
    return parsed(link, lambda target: _namespace(target, "cgroup:[", _FIRST_CGROUP_NAMESPACE))


def read_pid_namespace(fs: HostFs) -> Reading[str]:
    """`host` or `private`, for the PID namespace."""
    link = fs.link("/proc/self/ns/pid")
    return parsed(link, lambda target: _namespace(target, "pid:[", _FIRST_PID_NAMESPACE))


def _namespace(target: str, kind: str, first: str) -> str:
    if not target.startswith(kind) or not target.endswith("]"):
        raise ValueError("not the link of a namespace")
    return "host" if target == first else "private"


def _unless_absent(reading: Missing) -> Missing | None:
    return None if reading.why is Why.ABSENT else reading


def _word(text: str) -> str:
    word = text.strip()
    if not word or not word.replace("-", "").isalnum() or len(word) > 40:
        raise ValueError("not the name of a container manager")
    return word
