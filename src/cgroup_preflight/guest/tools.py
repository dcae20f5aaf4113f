"""Programs the guest needs from the host: found, or named together with the Debian package that has them."""

import os
import shutil
import subprocess
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
    raise HostError(
        f"the guest needs {', '.join(missing)}, not installed here (Debian and Ubuntu: apt-get install {' '.join(packages)})",
        remedy=Remedy(
            title="install what the guest needs",
            commands=(("apt-get", "install", "--yes", "--no-install-recommends", *packages),),
            needs_root=True,
            persistent=True,
        ),
    )


def call(argv: Sequence[str], *, cwd: Path, timeout: float, doing: str) -> None:
    """Runs a tool in `cwd` for at most `timeout` seconds; raises HostError with its last lines if it fails."""
    environment = {**os.environ, "PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(  # noqa: S603 - argv lists made by the recipe
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(doing, f"{argv[0]} took longer than {timeout:.0f} s", "") from None
    if done.returncode != 0:
        tail = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-8:]
        raise _failed(doing, f"{argv[0]} exited with {done.returncode}", "\n".join(tail))


def _failed(doing: str, what: str, tail: str) -> HostError:
    text = f"{doing}: {what}"
    return HostError(
        f"{text}\n{tail}" if tail else text,
        remedy=Remedy(
            title="read the lines above; most often the package mirror could not be reached or the disk is full"
        ),
    )
