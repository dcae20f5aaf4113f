"""Makes the initial RAM disk of a machine of QEMU: it loads the drivers of disks and goes on with the root on the first.

Debian's kernels have NVMe and ext4 built in, but not the drivers of virtio. QEMU cannot save the state of NVMe, so the
root is a disk of virtio, and something has to load its driver. That is a program of about ten system calls, with the
modules in it. It needs nothing of the image, and an emulated CPU runs it in no time.

Format: Documentation/driver-api/early-userspace/buffer-format.rst (newc).
"""

import re
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import machine_code, tools, user_network
from cgroup_preflight.guest.kernel_image import unpacked
from cgroup_preflight.guest.machine_code import (
    CHDIR,
    CHROOT,
    INIT_MODULE,
    MKDIR,
    MOUNT,
    SOCKET,
    UMOUNT,
    Data,
    become,
    call,
    requests,
)
from cgroup_preflight.guest.words import SYSTEMD

#: The init that mounts the root read-only, for a machine whose state is saved; the usual one is /init.
READ_ONLY_INIT = "/init-ro"
#: The init of a root from elsewhere: its modules are on a third disk, the root of the image that has this kernel.
FOREIGN_INIT = "/init-foreign"
ROOT_DEVICE, INPUT_DEVICE, _MODULES_DEVICE = "/dev/vda", "/dev/vdb", "/dev/vdc"
_FILE = "initrd"
#: The drivers; what a kernel has built in has no module. The console's is here so that the line exists early.
_DRIVERS = ("virtio_pci", "virtio_blk", "virtio_console", "ext4")
#: A root from elsewhere may have no program that loads modules.
_FOREIGN_DRIVERS = (*_DRIVERS, "virtio_net")
_MODULES = "/usr/lib/modules"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_~-]*", re.ASCII)
_SECONDS = 60.0
_MS_RDONLY, _MS_BIND, _MS_MOVE, _MNT_DETACH = 1, 4096, 8192, 2
_FOLDER, _PROGRAM, _DEVICE = 0o40755, 0o100755, 0o20600


def write(folder: Path) -> None:
    """Writes the initial RAM disk of the image in `folder` next to it. Raises HostError, OSError."""
    read = _reader(folder / "root.ext4")
    (folder / _FILE).write_bytes(archive(drivers(read), drivers(read, _FOREIGN_DRIVERS)))


def found_in(folder: Path) -> Path | None:
    """That of the image in `folder`, None if it has none."""
    path = folder / _FILE
    return path if path.exists() else None


def drivers(read: Callable[[str], bytes], names: Sequence[str] = _DRIVERS) -> tuple[bytes, ...]:
    """The modules of these names (those that the root needs to be mounted), each after those that it needs.

    `read` returns the content of a file of the image, and the names in a folder, one in each line.
    """
    kernels = [name for name in read(f"{_MODULES}/").decode("utf-8", "replace").split() if name not in (".", "..")]
    if len(kernels) != 1 or not _NAME.fullmatch(kernels[0]):
        return ()
    home = f"{_MODULES}/{kernels[0]}"
    needs = _dependencies(read(f"{home}/modules.dep").decode("utf-8", "replace"))
    paths = {_stem(path): path for path in needs}
    wanted: dict[str, None] = {}
    for name in names:
        if name in paths:
            # modprobe(8) loads the last one of the list first (depmod writes them in this order).
            wanted |= dict.fromkeys((*reversed(needs[paths[name]]), paths[name]))
    return tuple(unpacked(read(f"{home}/{path}")) for path in wanted)


def _dependencies(text: str) -> dict[str, tuple[str, ...]]:
    lines = (line.partition(":") for line in text.splitlines())
    return {path: tuple(needed.split()) for path, _, needed in lines if path}


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def archive(modules: Sequence[bytes], foreign: Sequence[bytes]) -> bytes:
    """The initial RAM disk whose init loads `modules`; that of a root from elsewhere loads those of `foreign`."""
    entries: Mapping[str, tuple[int, bytes, tuple[int, int]]] = {
        "dev": (_FOLDER, b"", (0, 0)),
        # The kernel opens it for the standard streams of init.
        "dev/console": (_DEVICE, b"", (5, 1)),
        "root": (_FOLDER, b"", (0, 0)),
        "init": (_PROGRAM, init(modules, 0), (0, 0)),
        READ_ONLY_INIT[1:]: (_PROGRAM, init(modules, _MS_RDONLY), (0, 0)),
        FOREIGN_INIT[1:]: (_PROGRAM, foreign_init(foreign), (0, 0)),
        "TRAILER!!!": (0, b"", (0, 0)),
    }
    made = b""
    for number, (name, (mode, content, device)) in enumerate(entries.items(), 1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields)
        made = _aligned(made + name.encode() + b"\0")
        made = _aligned(made + content)
    return made


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def init(modules: Sequence[bytes], flags: int) -> bytes:
    """A program that loads `modules`, mounts the root with `flags` (mount(2)) and becomes its init."""
    return machine_code.program(lambda data: _mounted(modules, flags, data, b"") + become(("/sbin/init",), data))


def foreign_init(modules: Sequence[bytes]) -> bytes:
    """A program that loads `modules`, mounts a root from elsewhere with all modules of the kernel, and becomes its systemd.

    Paths of the root are resolved inside of it, because its links may begin with a slash. A network device gets its
    addresses here, because such a root may have no program for that; there is none unless the config asks for it.
    """
    programs = [f"/{path}" for path in SYSTEMD]
    return machine_code.program(
        lambda data: (
            _mounted(modules, 0, data, _with_modules(data)) + _bound(data) + _connected(data) + become(programs, data)
        )
    )


def _mounted(modules: Sequence[bytes], flags: int, data: Data, more: bytes) -> bytes:
    """The drivers, then the root as /; `more` is done when it is mounted, and not yet /."""
    text = data.text
    code = call(MOUNT, text("devtmpfs"), text("/dev"), text("devtmpfs"), 0, 0)
    for module in modules:
        code += call(INIT_MODULE, data.put(module), len(module), text(""))
    code += call(MOUNT, text(ROOT_DEVICE), text("/root"), text("ext4"), flags, 0)
    code += more + call(CHDIR, text("/root"))
    code += call(MOUNT, text("."), text("/"), 0, _MS_MOVE, 0)
    return code + call(CHROOT, text("."))


def _with_modules(data: Data) -> bytes:
    return call(MOUNT, data.text(_MODULES_DEVICE), data.text("/root/run"), data.text("ext4"), _MS_RDONLY, 0)


def _bound(data: Data) -> bytes:
    """The modules in place of those of the root, which are for another kernel."""
    code = call(MKDIR, data.text("/lib/modules"), 0o755)
    code += call(MOUNT, data.text(f"/run{_MODULES}"), data.text("/lib/modules"), 0, _MS_BIND, 0)
    return code + call(UMOUNT, data.text("/run"), _MNT_DETACH)


def _connected(data: Data) -> bytes:
    return requests(call(SOCKET, socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0), user_network.IOCTLS, data)


def _reader(root: Path) -> Callable[[str], bytes]:
    program = tools.find(tools.DEBUGFS)

    def read(path: str) -> bytes:
        # Its answer to `ls -l` would have columns; `-p` has one line for each file, with fields between slashes.
        listed = path.endswith("/")
        argv = (program, "-R", f"ls -p {path}" if listed else f"cat {path}", str(root))
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False)
        if listed:
            return b"\n".join(line.split(b"/")[5] for line in done.stdout.splitlines() if line.count(b"/") >= 6)
        # The exit status is 0 whatever happens.
        if not done.stdout:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise HostError(
                f"cannot read the kernel's modules in the image: {words[-1][-200:] if words else path}", where=str(root),
                remedy=Remedy(title="free space in the cache of images, and build the image again"),
            )  # fmt: skip
        return done.stdout

    return read
