"""Programs the guest needs from the host: found, or named together with the Debian package that has them."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cgroup_preflight.errors import HostError
from cgroup_preflight.report import Remedy

#: Program to Debian package (also Ubuntu's).
DEBIAN_PACKAGES = {
    "linux.uml": "user-mode-linux",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "tar": "tar",
    "unshare": "util-linux",
    "newuidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
}
_TAIL_LINES = 8
#: Seconds a terminated tool has to clean up after itself.
_TERMINATE_SECONDS = 15.0
#: An ordinary user's PATH often lacks the directory where mke2fs lives.
_SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def find(program: str) -> str:
    """The path of `program`; raises HostError if it is not installed."""
    require((program,))
    return str(shutil.which(program, path=_SEARCH_PATH))


def require(programs: Iterable[str]) -> None:
    """Raises HostError with one line naming all programs that are missing and how to install them."""
    missing = [program for program in programs if shutil.which(program, path=_SEARCH_PATH) is None]
    if not missing:
        return
    packages = tuple(dict.fromkeys(DEBIAN_PACKAGES[program] for program in missing))
    names, installs = ", ".join(missing), " ".join(packages)
    raise HostError(
        f"the guest needs {names}, not installed here (Debian and Ubuntu: apt-get install {installs})",
        remedy=Remedy(
            title="install what the guest needs",
            commands=(("apt-get", "install", "--yes", "--no-install-recommends", *packages),),
            needs_root=True,
            persistent=True,
        ),
    )


def call(argv: Sequence[str], *, cwd: Path, timeout: float, doing: str) -> None:
    """Runs a tool in `cwd` for at most `timeout` seconds; raises HostError with its last lines if it fails.

    The tool and all it started are ended with us, on a time-out and on Ctrl-C.
    """
    environment = {**os.environ, "PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise _failed(doing, f"{argv[0]} took longer than {timeout:.0f} s", "") from None
        finally:
            _end(process)
        output.seek(0)
        tail = output.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    if process.returncode != 0:
        raise _failed(doing, f"{argv[0]} exited with {process.returncode}", "\n".join(tail))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process group first: mmdebstrap undoes its mounts when terminated."""
    for number, patience in ((signal.SIGTERM, _TERMINATE_SECONDS), (signal.SIGKILL, None)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _failed(doing: str, what: str, tail: str) -> HostError:
    text = f"{doing}: {what}"
    return HostError(
        f"{text}\n{tail}" if tail else text,
        remedy=Remedy(
            title="read the lines above; most often the package mirror could not be reached or the disk is full"
        ),
    )
