"""Whether this is inside a container, and which kind; by files only, as systemd-detect-virt(1) does.

Sources: systemd src/basic/virt.c, podman-run(1) (.containerenv), Kubernetes service account mounts, WSL.
"""

from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.reading import Known, Missing, Reading, Why, parsed


def read_container(fs: HostFs, kernel: Reading[str]) -> Reading[str]:
    """`none`, or the name of the container manager."""
    if isinstance(kernel, Known) and "microsoft" in kernel.value.lower():
        return Known(value="wsl", source=kernel.source)
    for path in ("/run/systemd/container", "/run/host/container-manager"):
        reading = parsed(fs.read(path), _word)
        if isinstance(reading, Known):
            return reading
    if isinstance(fs.names("/run/secrets/kubernetes.io", ()), Known):
        return Known(value="kubernetes", source="/run/secrets/kubernetes.io")
    for path, name in (("/run/.containerenv", "podman"), ("/.dockerenv", "docker")):
        if _is_there(fs.read(path)):
            return Known(value=name, source=path)
    if isinstance(fs.names("/dev/lxd", ()), Known) or isinstance(fs.names("/dev/.lxc", ()), Known):
        return Known(value="lxc", source="/dev/lxd")
    return Known(value="none", source="/run/systemd/container")


def _is_there(reading: Reading[str]) -> bool:
    return not (isinstance(reading, Missing) and reading.why in (Why.ABSENT, Why.NOT_RECORDED))


def _word(text: str) -> str:
    word = text.strip()
    if not word or not word.replace("-", "").isalnum() or len(word) > 40:
        raise ValueError("not the name of a container manager")
    return word
