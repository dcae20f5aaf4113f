"""Finds the host's programs that a guest needs, names the packages of missing ones, and runs them."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.ended import has_ended

#: Debian's keys, which Ubuntu does not install by default.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: Reads the files of an image; of e2fsprogs, which also makes the disks (debugfs(8)).
DEBUGFS = "debugfs"
#: The package of each program or file, in Debian and Ubuntu.
_DEBIAN_PACKAGES = {
    KEYRING: "debian-archive-keyring",
    "linux.uml": "user-mode-linux",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    DEBUGFS: "e2fsprogs",
    "tar": "tar",
    "unshare": "util-linux",
    "newuidmap": "uidmap",
    "qemu-system-x86_64": "qemu-system-x86",
}
#: How to install QEMU, by ID of os-release(5). Only Debian and Ubuntu have user-mode-linux and mmdebstrap.
_QEMU_ELSEWHERE = {
    "fedora": ("dnf", "install", "qemu-system-x86-core"),
    "arch": ("pacman", "-S", "qemu-system-x86"),
    "alpine": ("apk", "add", "qemu-system-x86_64"),
    "opensuse": ("zypper", "install", "qemu-x86"),
}
#: Begins a line of a tool that tells how far it is.
STEP = "step: "
#: Begins a line of mmdebstrap that is no error.
_INFORMATION = "I: "
_TAIL_LINES = 8
_OUTPUT_MAX = 4 << 20
_TURN_SECONDS = 0.25
_INSTALL_SECONDS = 900.0
#: Seconds that a tool may take to clean up after SIGTERM.
_TERMINATE_SECONDS = 15.0
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
#: Makes the caller root in a user namespace, where the caller's subordinate IDs own the files of a guest's users.
IN_NAMESPACE = ("unshare", "--map-root-user", "--map-auto")
#: The PATH of an ordinary user often lacks the folder of mke2fs.
_SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def find(program: str) -> str:
    """The path of `program`. Raises HostError if it is not installed."""
    require((program,))
    return str(shutil.which(program, path=_SEARCH_PATH))


def is_installed(program: str) -> bool:
    """Whether `program`, or a file given by its path, exists on this host."""
    return os.path.exists(program) if program.startswith("/") else shutil.which(program, path=_SEARCH_PATH) is not None


def works(argv: Sequence[str]) -> bool:
    """Whether a command exits with 0; for commands that do nothing but try what is allowed here."""
    try:
        done = subprocess.run(argv, timeout=_TERMINATE_SECONDS, check=False, capture_output=True)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def require(programs: Iterable[str]) -> None:
    """Raises HostError with one line that names all missing programs and how to install them."""
    missing = [program for program in programs if not is_installed(program)]
    if not missing:
        return
    how, command = _how(missing, _os_ids(_read_os_release()))
    raise HostError(
        f"the guest needs {', '.join(missing)}, which this host does not have ({how})",
        remedy=Remedy(
            title="install these programs, or run the job in the image of ci/Containerfile, which has them",
            commands=(command,) if command else (), needs_root=True, persistent=True,
        ),
    )  # fmt: skip


def install(programs: Iterable[str]) -> None:
    """Installs the missing programs with apt, as root. Raises HostError."""
    missing = [program for program in programs if not is_installed(program)]
    if not missing:
        return
    if os.geteuid() != 0 or not is_installed("apt-get"):
        require(missing)
    for argv in (("apt-get", "update", "-qq"), _apt(missing)):
        call(argv, cwd=Path("/"), timeout=_INSTALL_SECONDS, doing="installing programs for the guest")


def _apt(programs: Iterable[str]) -> tuple[str, ...]:
    packages = dict.fromkeys(_DEBIAN_PACKAGES[program] for program in programs)
    return ("apt-get", "install", "--yes", "--no-install-recommends", *packages)


def _how(missing: Sequence[str], ids: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """How to install them on a distribution with these os-release IDs, in words and as a command."""
    apt = _apt(missing)
    debian = f"Debian and Ubuntu: {' '.join(word for word in apt if not word.startswith('--'))}"
    for name in ids:
        other = _QEMU_ELSEWHERE.get(name.partition("-")[0])
        if other is None:
            continue
        if list(missing) == ["qemu-system-x86_64"]:
            return f"{name}: {' '.join(other)}", other
        return f"{debian}; {name} has only {other[-1]}", ()
    return debian, apt


def _os_ids(text: str) -> tuple[str, ...]:
    """ID and ID_LIKE of os-release(5)."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return tuple(f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split())


def _read_os_release() -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        with contextlib.suppress(OSError):
            return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


class ToolError(HostError):
    """A tool failed; `output` is all that it printed. The message has one line and then the last of those lines."""

    def __init__(self, message: str, output: str) -> None:
        self.output = output
        lines = [line for line in output.splitlines() if not line.startswith((STEP, _INFORMATION))]
        tail = "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:])
        super().__init__(
            f"{message}\n{tail}" if tail else message,
            remedy=Remedy(title="read the lines above; common causes are an unreachable package mirror and a full disk"),
        )  # fmt: skip


def call(
    argv: Sequence[str], *, cwd: Path, timeout: float, doing: str, lock: int | None = None,
    parting: signal.Signals = signal.SIGTERM, say: Callable[[str], None] = lambda _: None,
) -> None:  # fmt: skip
    """Runs a tool in `cwd` for at most `timeout` seconds. Raises ToolError with its last lines if it fails.

    A time-out and Ctrl-C end the tool and all that it started. If we are killed, the tool gets the signal `parting`, and
    its remaining processes keep the descriptor `lock` open. Lines that begin with STEP go to `say` while it runs.
    """
    with started(argv, cwd=cwd, doing=doing, lock=lock, parting=parting) as wait:
        wait(timeout, say)


@contextlib.contextmanager
def started(
    argv: Sequence[str], *, cwd: Path, doing: str, lock: int | None = None, parting: signal.Signals = signal.SIGTERM,
) -> Iterator[Callable[[float, Callable[[str], None]], None]]:  # fmt: skip
    """Runs a tool next to the block, as `call` does; yields what waits for its end. At the end of the block, it ends."""
    environment = {**os.environ, "PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8"}
    prctl = ctypes.CDLL(None).prctl
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
            preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, parting, 0, 0, 0),  # noqa: PLW1509 - one thread
        )

        def wait(timeout: float, say: Callable[[str], None]) -> None:
            try:
                _wait(process, output, timeout, say)
            except subprocess.TimeoutExpired:
                raise ToolError(f"{doing}: {argv[0]} took longer than {timeout:.0f} s", "") from None
            if process.returncode != 0:
                said = os.pread(output.fileno(), _OUTPUT_MAX, 0).decode(errors="replace").strip()
                raise ToolError(f"{doing}: {argv[0]} exited with {process.returncode}", said)

        try:
            yield wait
        finally:
            _end(process)


def _wait(
    process: "subprocess.Popen[bytes]", output: IO[bytes], timeout: float, say: Callable[[str], None]
) -> None:  # fmt: skip
    """Waits for the end of a process and says its steps meanwhile. Raises TimeoutExpired."""
    deadline, place, rest = time.monotonic() + timeout, 0, b""
    ended = False
    while not ended:
        ended = has_ended(process, _TURN_SECONDS)
        if not ended and time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(process.args, timeout)
        # Not with the descriptor's own position: the tool writes at it.
        data = os.pread(output.fileno(), _OUTPUT_MAX, place)
        place += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(STEP.encode()):
                say(line.decode(errors="replace").removeprefix(STEP))


def remove_tree(path: Path) -> None:
    """Removes a folder, also with files of other user IDs, which an unprivileged build leaves."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists() and os.geteuid() != 0:
        works((*IN_NAMESPACE, "rm", "-rf", "--", str(path)))


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM first, because mmdebstrap then removes its mounts; SIGKILL after that."""
    for number, patience in ((signal.SIGTERM, _TERMINATE_SECONDS), (signal.SIGKILL, None)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
