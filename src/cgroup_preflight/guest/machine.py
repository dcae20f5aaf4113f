"""From a spec and an image to a started engine: makes the guest's folder and picks the command line."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from cgroup_preflight.guest import inside, pack, tools, uml
from cgroup_preflight.guest.image import Image
from cgroup_preflight.guest.process import GuestProcess, make_folder
from cgroup_preflight.guest.spec import GuestEngine, GuestSpec

_AGENT_NAME = "agent/cgroup_preflight/guest/inside"


def start(spec: GuestSpec, image: Image) -> GuestProcess:
    """Starts the engine of `spec` on `image`; raises HostError if it is not installed, OSError on a full disk."""
    program = tools.find(_PROGRAMS[spec.engine])
    folder = make_folder()
    try:
        (folder / "empty").mkdir()
        source = {_AGENT_NAME: Path(inside.__file__).parent}
        pack.write_input({**spec.inputs, **source}, folder / "input.tar")
        command = _COMMANDS[spec.engine](spec, image, program, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return GuestProcess(folder, command, environment=_environment())


def _uml(spec: GuestSpec, image: Image, program: str, folder: Path) -> Callable[[int], tuple[str, ...]]:
    return lambda channel: uml.uml_argv(
        uml.UmlMachine(
            program=program,
            root=image.root,
            input=folder / "input.tar",
            work=folder,
            channel_fd=channel,
            memory_mib=spec.memory_mib,
            mode=spec.mode,
            kernel_args=spec.kernel_args,
        )
    )


def _environment() -> dict[str, str]:
    """What the engine gets of our environment: nothing of it may reach the guest's init."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/"}


_PROGRAMS = {GuestEngine.UML: uml.PROGRAM}
_COMMANDS = {GuestEngine.UML: _uml}
