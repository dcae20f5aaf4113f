"""Who sets the kernel command line of this host, so that a remedy can name the command for it.

Sources: grub-mkconfig and update-grub(8) (Debian), grubby(8) (Red Hat), kernel-install(8), Raspberry Pi documentation
(`cmdline.txt`), Microsoft's documentation of `.wslconfig`.
"""

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, value_or
from cgroup_preflight.host.fs import HostFs

#: What `read_boot_loader` answers, or the path of a Raspberry Pi's cmdline.txt.
WSL, UPDATE_GRUB, GRUBBY = "wsl", "update-grub", "grubby"
GRUB, GRUB2, KERNEL_INSTALL = "grub", "grub2", "kernel-install"
_RED_HAT = frozenset(("rhel", "fedora", "centos"))
_DEBIAN = frozenset(("debian", "ubuntu"))


def is_off(value: str) -> bool:
    """Whether the value of a kernel parameter means no, for the kernel (kstrtobool) or for systemd (parse_boolean)."""
    return value.lower() in ("0", "n", "no", "f", "false", "off")


def read_boot_loader(fs: HostFs, kernel: Reading[str]) -> Reading[str]:
    """One of the words above, or a path that ends with `cmdline.txt`."""
    if isinstance(kernel, Known) and "microsoft" in kernel.value.lower():
        return Known(value=WSL, source=kernel.source)
    boot = fs.names("/boot", ("cmdline.txt", "firmware", "grub"))
    names: tuple[str, ...] = value_or(boot, ())
    # If the firmware has its own folder, the cmdline.txt above it only says that the file has moved.
    if "firmware" in names and value_or(fs.names("/boot/firmware", ("cmdline.txt",)), ()):
        return Known(value="/boot/firmware/cmdline.txt", source="/boot/firmware")
    if "cmdline.txt" in names:
        return Known(value="/boot/cmdline.txt", source="/boot")
    if "grub2" in names or "grub" in names:
        return Known(value=_grub(fs, names), source="/boot")
    if value_or(fs.names("/etc/kernel", ("cmdline",)), ()):
        return Known(value=KERNEL_INSTALL, source="/etc/kernel/cmdline")
    return boot if isinstance(boot, Missing) else Missing(source="/boot", why=Why.ABSENT, detail="no boot loader known")


def _grub(fs: HostFs, names: tuple[str, ...]) -> str:
    lines: tuple[str, ...] = value_or(fs.pieces("/etc/os-release", ("ID=", "ID_LIKE="), "\n"), ())
    found = {
        word
        for key, _, value in (line.partition("=") for line in lines)
        if key in ("ID", "ID_LIKE")
        for word in value.strip("\"'").split()
    }
    if found & _RED_HAT:
        return GRUBBY
    if found & _DEBIAN:
        return UPDATE_GRUB
    return GRUB2 if "grub2" in names else GRUB
