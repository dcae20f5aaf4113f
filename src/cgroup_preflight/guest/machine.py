"""From a spec and an image to a started engine: makes the guest's folder and picks the command line."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from cgroup_preflight.guest import inside, pack, qemu, tools, uml
from cgroup_preflight.guest.image import Image
from cgroup_preflight.guest.process import GuestProcess, make_folder
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec

#: From the number of the channel's descriptor to the engine's argv.
Command = Callable[[int], tuple[str, ...]]

#: A memory file system where there is one; on a disk, the kernel would write the guest's memory back all the time.
_SHARED_MEMORY = Path("/dev/shm")
_INPUT = "input.tar"
_AGENT_NAME = "agent/cgroup_preflight/guest/inside"


def start(spec: GuestSpec, image: Image) -> GuestProcess:
    """Starts the engine of `spec` on `image`; raises HostError if it is not installed, OSError on a full disk."""
    program = tools.find(PROGRAMS[spec.engine])
    folder = make_folder()
    try:
        (folder / "empty").mkdir()
        source = {_AGENT_NAME: spec.agent or Path(inside.__file__).parent}
        pack.write_input({**spec.inputs, **source}, folder / _INPUT)
        command = _COMMANDS[spec.engine](spec, image, program, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return GuestProcess(folder, command, environment=_environment(spec, folder))


def _uml(spec: GuestSpec, image: Image, program: str, folder: Path) -> Command:
    return lambda channel: uml.uml_argv(
        uml.UmlMachine(
            program=program,
            root=image.root,
            input=folder / _INPUT,
            work=folder,
            channel_fd=channel,
            memory_mib=spec.memory_mib,
            mode=spec.mode,
            kernel_args=spec.kernel_args,
        )
    )


def _qemu(spec: GuestSpec, image: Image, program: str, folder: Path) -> Command:
    if image.kernel is None:
        raise ValueError(f"image {image.name} was made without a kernel, which QEMU needs")
    kernel = image.kernel
    return lambda channel: qemu.qemu_argv(
        qemu.QemuMachine(
            program=program,
            kernel=kernel,
            root=image.root,
            input=folder / _INPUT,
            channel_fd=channel,
            cpus=spec.cpus,
            memory_mib=spec.memory_mib,
            mode=spec.mode,
            accelerator=spec.accelerator,
            network=spec.network,
            kernel_args=spec.kernel_args,
        )
    )


def _environment(spec: GuestSpec, folder: Path) -> dict[str, str]:
    """What the engine gets of our environment. TMPDIR is where user-mode-linux maps the guest's memory from."""
    memory = _SHARED_MEMORY if _holds_memory(_SHARED_MEMORY, spec.memory_mib) else folder
    return {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(memory)}


def _holds_memory(folder: Path, mebibytes: int) -> bool:
    """Whether `folder` can hold that much, and lets it be mapped executable, as container engines' often does not."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return not status.f_flag & os.ST_NOEXEC and status.f_bavail * status.f_frsize > mebibytes << 20


#: The program that runs each engine's guests.
PROGRAMS = {GuestEngine.UML: uml.PROGRAM, GuestEngine.QEMU: qemu.PROGRAM}
_COMMANDS = {GuestEngine.UML: _uml, GuestEngine.QEMU: _qemu}
