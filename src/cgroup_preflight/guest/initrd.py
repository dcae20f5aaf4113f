"""Makes the initial RAM disk of a machine of QEMU: it loads the drivers of disks and goes on with the root on the first.

Debian's kernels have NVMe and ext4 built in, but not the drivers of virtio. QEMU cannot save the state of NVMe, so the
root is a disk of virtio, and something has to load its driver. That is a program of about ten system calls, with the
modules in it. It needs nothing of the image, and an emulated CPU runs it in no time.

Formats: elf(5), Documentation/driver-api/early-userspace/buffer-format.rst (newc); calls by the x86-64 table of the kernel.
"""

import re
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import tools
from cgroup_preflight.guest.kernel_image import unpacked
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
_EXECVE, _EXIT, _CHDIR, _MKDIR, _CHROOT, _MOUNT, _UMOUNT, _INIT_MODULE = 59, 60, 80, 83, 161, 165, 166, 175
_MS_RDONLY, _MS_BIND, _MS_MOVE, _MNT_DETACH = 1, 4096, 8192, 2
#: The registers of the arguments of a system call: `mov $imm64, %rdi`, %rsi, %rdx, %r10, %r8.
_REGISTERS = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8")
#: The kernel leaves the count of arguments, the arguments and the environment on the stack: they are those of init.
#: lea 8(%rsp), %rsi; mov (%rsp), %rax; lea 16(%rsp,%rax,8), %rdx
_SAME_ARGUMENTS = b"\x48\x8d\x74\x24\x08\x48\x8b\x04\x24\x48\x8d\x54\xc4\x10"
_ADDRESS, _HEADERS = 0x400000, 120
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
    return _program(lambda data: _mounted(modules, flags, data, b"") + _become(("sbin/init",), data))


def foreign_init(modules: Sequence[bytes]) -> bytes:
    """A program that loads `modules`, mounts a root from elsewhere with all modules of the kernel, and becomes its systemd.

    Paths of the root are resolved inside of it, because its links may begin with a slash.
    """
    return _program(
        lambda data: _mounted(modules, 0, data, _with_modules(data)) + _bound(data) + _become(SYSTEMD, data)
    )


def _program(calls: "Callable[[_Data], bytes]") -> bytes:
    """An ELF program with the code of `calls`, which puts its data behind it."""
    length = len(calls(_Data(0)))
    data = _Data(_ADDRESS + _HEADERS + length)
    body = calls(data) + data.content
    size = _HEADERS + len(body)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    # One segment with the whole file, which can be read and executed.
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 4096) + body


class _Data:
    """Bytes that follow the code; `put` returns their address."""

    def __init__(self, address: int) -> None:
        self._address = address
        self.content = b""

    def put(self, data: bytes) -> int:
        # Modules are read as tables of words.
        self.content += bytes(-(self._address + len(self.content)) % 8)
        place = self._address + len(self.content)
        self.content += data
        return place

    def text(self, text: str) -> int:
        return self.put(text.encode() + b"\0")


def _mounted(modules: Sequence[bytes], flags: int, data: _Data, more: bytes) -> bytes:
    """The drivers, then the root as /; `more` is done when it is mounted, and not yet /."""
    text = data.text
    code = _call(_MOUNT, text("devtmpfs"), text("/dev"), text("devtmpfs"), 0, 0)
    for module in modules:
        code += _call(_INIT_MODULE, data.put(module), len(module), text(""))
    code += _call(_MOUNT, text(ROOT_DEVICE), text("/root"), text("ext4"), flags, 0)
    code += more + _call(_CHDIR, text("/root"))
    code += _call(_MOUNT, text("."), text("/"), 0, _MS_MOVE, 0)
    return code + _call(_CHROOT, text("."))


def _with_modules(data: _Data) -> bytes:
    return _call(_MOUNT, data.text(_MODULES_DEVICE), data.text("/root/run"), data.text("ext4"), _MS_RDONLY, 0)


def _bound(data: _Data) -> bytes:
    """The modules in place of those of the root, which are for another kernel."""
    code = _call(_MKDIR, data.text("/lib/modules"), 0o755)
    code += _call(_MOUNT, data.text(f"/run{_MODULES}"), data.text("/lib/modules"), 0, _MS_BIND, 0)
    return code + _call(_UMOUNT, data.text("/run"), _MNT_DETACH)


def _become(programs: Sequence[str], data: _Data) -> bytes:
    """The first of these paths that is a program."""
    code = b"".join(_SAME_ARGUMENTS + _call(_EXECVE, data.text(f"/{path}")) for path in programs)
    # Only if there is none: the kernel then panics, which ends the machine.
    return code + _call(_EXIT, 1)


def _call(number: int, *arguments: int) -> bytes:
    """A system call; those that fail show in the end, when init cannot be started."""
    moves = (move + struct.pack("<Q", value) for move, value in zip(_REGISTERS, arguments, strict=False))
    return b"".join(moves) + b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"


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
