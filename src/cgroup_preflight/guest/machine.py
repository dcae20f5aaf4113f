"""Starts the engine of a guest: makes the guest's folder with the input disk, the command line and the fence."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import bytecode, fence, inside, qemu, tools, uml
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.initrd import INPUT_DEVICE
from cgroup_preflight.guest.input_disk import Staged, stage, write_disk
from cgroup_preflight.guest.process import Fence, GuestProcess, make_folder
from cgroup_preflight.guest.saved_state import StateError
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec
from cgroup_preflight.guest.words import INPUT_DIR, PAUSE_ARGUMENT

#: Makes the engine's argv from the descriptor numbers of the guest's ends of the lines.
Command = Callable[[tuple[int, ...]], tuple[str, ...]]

#: A memory file system: on a disk, the kernel would keep writing the guest's memory back.
_SHARED_MEMORY = Path("/dev/shm")
#: Programs, their libraries and the files that they read themselves; user-mode-linux reads the features of the CPU.
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/sbin")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/proc/cpuinfo", "/dev/random", "/dev/urandom")
#: QEMU's user network resolves names with the name servers of this host.
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/run/systemd/resolve")
_SPACE = Remedy(title="free space in the temporary folder (TMPDIR) and in /dev/shm, or raise the limit of open files")
_INPUT = "input.ext4"
#: The size of the input disk of a machine whose state is saved, the same for all: the kernel reads the size only once.
INPUT_BYTES = 1 << 34
#: Bytes of files on an input disk that may be in memory, which nobody can take back from them.
_MEMORY_DISK = 128 << 20
_ROOT = "root"
_AGENT_NAME = "agent/cgroup_preflight/guest/inside"
_ORDER_NAME = "agent/load.json"


def start(spec: GuestSpec, image: RootImage, *, resumed: bool = False) -> GuestProcess:
    """Starts the engine of `spec` on `image`. Raises HostError if the engine is not installed or the disk is full.

    With `states`, the last line is that of QEMU's monitor: a machine that is `resumed` waits there for its state, another
    one pauses where that can be saved (saved_start.py). Its input disk is empty until `fill`.
    """
    newer = image.uml if spec.engine is GuestEngine.UML else None
    program = str(newer) if newer is not None else tools.find(PROGRAMS[spec.engine])
    with _explained(), contextlib.ExitStack() as undo:
        folder, files = (_removed(make_folder(), undo) for _ in range(2))
        # Not in the folder of the guest, where its engine can write: these are links to files of this host.
        staged = stage({**spec.inputs, **({} if image.bare else _agent(spec))}, files / "files")
        memory = _memory_folder(folder, spec.memory_mib, undo)
        disk = _disk_folder(folder, memory, spec, staged) / _INPUT
        (folder / "empty").mkdir()
        # A name for user-mode-linux's command line, where the path of the cache may contain separators.
        (folder / _ROOT).symlink_to(image.root)
        writable = (folder, *((memory,) if memory is not None else ()))
        # The keeper becomes ready while the disk is written, and so does QEMU where it does not read it yet.
        process = GuestProcess(
            (*writable, files), _COMMANDS[spec.engine](spec, image, program, folder, disk, resumed=resumed),
            # In TMPDIR user-mode-linux keeps the guest's memory, and QEMU what the guest writes to its disk.
            environment={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(memory or folder)},
            fence=_fence(spec, image, program, writable),
            # Each system call of a guest's process switches to user-mode-linux's kernel and back. With two CPUs, waking
            # the other one takes longer than the call itself, and longer still in a virtual machine.
            one_cpu=spec.engine is GuestEngine.UML,
            lines=spec.lines + (spec.states is not None),
        )  # fmt: skip
        undo.callback(process.close)
        if spec.states is not None:
            _make_empty(disk, INPUT_BYTES)
            process.fill = lambda *, alone: _fill(disk, _tool_alone(spec, files) if alone else staged)
        elif boots_before_disk(spec, image):
            _make_empty(disk, staged.disk_bytes)
            process.fill = lambda **_: _fill_once(disk, staged, files)
        else:
            _fill_once(disk, staged, files)
        process.begin()
        undo.pop_all()
        return process


def boots_before_disk(spec: GuestSpec, image: RootImage) -> bool:
    """Whether a guest without states boots while its input disk is written, and pauses until the disk is filled.

    The boot takes a CPU of this host, and the disk another one.
    """
    return spec.engine is GuestEngine.UML and not image.bare


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Raises HostError in place of OSError."""
    try:
        yield
    except OSError as error:
        raise HostError(
            f"cannot make the guest's files in {tempfile.gettempdir()}: {error.strerror}", remedy=_SPACE
        ) from None


def _removed(folder: Path, undo: contextlib.ExitStack) -> Path:
    undo.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _memory_folder(folder: Path, mebibytes: int, undo: contextlib.ExitStack) -> Path | None:
    """A folder of this guest in memory, with room for so much; None where there is none."""
    if not _has_room(_SHARED_MEMORY, mebibytes):
        return None
    made = _SHARED_MEMORY / folder.name
    made.mkdir(mode=0o700)
    return _removed(made, undo)


def _disk_folder(folder: Path, memory: Path | None, spec: GuestSpec, staged: Staged) -> Path:
    """Where the input disk is best: in memory, because mke2fs waits until it is on the disk of the host.

    A machine with states has a disk so large that the guest could fill the memory of the host.
    """
    whole = spec.memory_mib + (staged.disk_bytes >> 20)
    fits = memory is not None and spec.states is None and staged.size <= _MEMORY_DISK and _has_room(memory, whole)
    return memory if memory is not None and fits else folder


def _agent(spec: GuestSpec) -> dict[str, Path]:
    return {_AGENT_NAME: spec.tool / "guest" / "inside" if spec.tool is not None else Path(inside.__file__).parent}


def _tool_alone(spec: GuestSpec, files: Path) -> Staged:
    """The inputs of a machine that loads the tool and pauses then: nothing of the project (inside/loaded.py)."""
    assert spec.tool is not None
    name = f"{bytecode.SOURCE_INPUT}/{bytecode.PACKAGE}"
    order = {"folders": bytecode.FOLDERS, "disk": INPUT_DEVICE, "place": INPUT_DIR}
    (files / "order").write_text(json.dumps(order))
    return stage({**_agent(spec), name: spec.tool, _ORDER_NAME: files / "order"}, files / "tool")


def _make_empty(disk: Path, size: int) -> None:
    with disk.open("xb") as file:
        file.truncate(size)


def _fill_once(disk: Path, staged: Staged, files: Path) -> None:
    """Writes an input disk and removes the folder of its files. Raises HostError."""
    with _explained():
        write_disk(staged, disk)
    shutil.rmtree(files, ignore_errors=True)


def _fill(disk: Path, staged: Staged) -> None:
    """Writes the input disk of a machine that has not read it yet, or pauses. Raises HostError, StateError.

    QEMU has the file open, and knows its size: it only changes while the machine pauses.
    """
    if staged.disk_bytes > INPUT_BYTES:
        raise StateError("the inputs are larger than the disk of such machines")
    with _explained():
        if disk.stat().st_blocks:
            os.truncate(disk, 0)
            os.truncate(disk, INPUT_BYTES)
        write_disk(staged, disk)
        shutil.rmtree(staged.place, ignore_errors=True)


def _fence(spec: GuestSpec, image: RootImage, program: str, writable: Iterable[Path]) -> Fence:
    """Only what the engine needs of this host."""
    files = [path for path in (image.root, image.kernel, image.initrd, _modules(image)) if path is not None]
    network = _NETWORK_FILES if spec.network else ()
    kvm = ("/dev/kvm",) if spec.accelerator == "kvm" else ()
    return Fence(
        programs=(*_SYSTEM_FOLDERS, os.path.dirname(os.path.realpath(program))),
        readable=(*_SYSTEM_FILES, *network, *map(str, files)),
        writable=("/dev/null", *kvm, *map(str, writable)),
        network=spec.network,
    )


def _modules(image: RootImage) -> Path | None:
    return image.kernel_image.root if image.kernel_image is not None else None


def _uml(spec: GuestSpec, image: RootImage, program: str, folder: Path, disk: Path, **_: bool) -> Command:
    return lambda lines: uml.uml_argv(
        uml.UmlMachine(
            program=program,
            root=folder / _ROOT,
            input=disk,
            work=folder,
            line_fds=lines,
            memory_mib=spec.memory_mib,
            mode=spec.mode,
            seccomp=fence.version() > 0,
            kernel_args=(*((PAUSE_ARGUMENT,) if boots_before_disk(spec, image) else ()), *spec.kernel_args),
        )
    )


def _qemu(
    spec: GuestSpec, image: RootImage, program: str, _folder: Path, disk: Path, *, resumed: bool
) -> Command:  # fmt: skip
    machine = qemu_machine(spec, image, program, disk)

    def command(lines: tuple[int, ...]) -> tuple[str, ...]:
        own, monitor = (lines, -1) if spec.states is None else (lines[:-1], lines[-1])
        return qemu.qemu_argv(replace(machine, line_fds=own, monitor_fd=monitor, resumed=resumed))

    return command


def qemu_machine(spec: GuestSpec, image: RootImage, program: str, disk: Path) -> qemu.QemuMachine:
    """The machine of `spec` with the input `disk`, still without the descriptors of lines and monitor."""
    if image.kernel is None or image.initrd is None:
        raise ValueError(f"image {image.name} has no kernel, and QEMU needs one")
    return qemu.QemuMachine(
        program=program, kernel=image.kernel, initrd=image.initrd, root=image.root, input=disk, line_fds=(), cpus=spec.cpus,
        memory_mib=spec.memory_mib, mode=spec.mode, accelerator=spec.accelerator, network=spec.network,
        kernel_args=spec.kernel_args, paused=spec.states is not None,
        modules=_modules(image),
    )  # fmt: skip


def _has_room(folder: Path, mebibytes: int) -> bool:
    """Whether we may write to `folder`, and it has the space and allows executable mappings; in containers often not."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return not status.f_flag & os.ST_NOEXEC and status.f_bavail * status.f_frsize > mebibytes << 20


#: The program of each engine.
PROGRAMS = {GuestEngine.UML: uml.PROGRAM, GuestEngine.QEMU: qemu.PROGRAM}
_COMMANDS = {GuestEngine.UML: _uml, GuestEngine.QEMU: _qemu}
