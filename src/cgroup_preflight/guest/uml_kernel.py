"""The user-mode-linux of a newer Debian in the cache, for hosts whose own package is older.

Since Linux 6.16 user-mode-linux runs the processes of a guest under seccomp instead of ptrace, which nearly halves the time
of a run. The program wants a newer C library than the host may have: that comes along, and only this program uses it.
apt verifies both packages. Where this cannot be had, the program of the host is used.
"""

import contextlib
import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import builders, interpreter, store, tools, uml
from cgroup_preflight.guest.recipe import DOWNLOAD_ONLY, VALIDITY, download_command

#: The release with the newest user-mode-linux.
_SUITE = "forky"
#: seccomp came with this version of the kernel.
_WANTED = (6, 16)
_NAME = "user-mode-linux"
_LOADER = "ld-linux-x86-64.so.2"
#: What is kept of each package; all else are modules, which a guest does not load.
_FILES = {
    "user-mode-linux": ("usr/bin/linux.uml",),
    "libc6": (f"usr/lib/x86_64-linux-gnu/{_LOADER}", "usr/lib/x86_64-linux-gnu/libc.so.6"),
}
_SECONDS = 600.0
_TRY_SECONDS = 10.0
#: Downloads the packages into the root $1; mmdebstrap runs it with its settings of apt.
_HOOK = f'cd "$1" && {DOWNLOAD_ONLY} download {shlex.join(_FILES)}'
#: `tar` ends when it has the files, which are at the beginning: to read all modules takes three seconds.
_UNPACK = "\n".join((
    *(
        f"dpkg-deb --fsys-tarfile root/{package}_*.deb 2>/dev/null | "
        f"tar -x --occurrence --transform='s,.*/,,' {' '.join(f'./{name}' for name in names)}"
        for package, names in _FILES.items()
    ),
    r"""
for package in root/*.deb; do
    dpkg-deb --show --showformat='${Package} ${Version}\n' "$package"
done > contents
rm -rf --one-file-system root tmp
""",
))  # fmt: skip


def name_in(folder: Path) -> str:
    """The name of the kernel's folder in cache `folder`, whose path is part of it: the program has it inside."""
    recipe = (_SUITE, *_FILES, _UNPACK, str(folder))
    return f"{_NAME}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}"


def found_in(folder: Path) -> Path | None:
    """The program in cache `folder`, as it was built; None for none."""
    home = folder / name_in(folder)
    program = home / uml.PROGRAM
    return program if program.exists() and (store.unchanged(home) or store.same_content(home)) else None


def list_homes(folder: Path) -> tuple[Path, ...]:
    """The folders in cache `folder` with such a program, also those that another version of this tool made."""
    return tuple(sorted(manifest.parent for manifest in folder.glob(f"{_NAME}-*/{store.MANIFEST}")))


def version_of(program: str | Path) -> str:
    """What a user-mode-linux says of its version, as `6.1.176`; empty for what does not run here."""
    try:
        done = subprocess.run((str(program), "--version"), capture_output=True, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, timeout=_TRY_SECONDS, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(r"[0-9]+(?:\.[0-9]+)+", done.stdout)
    return found[0] if found and done.returncode == 0 else ""


def fetch(folder: Path, say: Callable[[str], None], *, anew: bool = False) -> None:
    """Puts the program into cache `folder`, unless it exists or this host has one with seccomp.

    With `anew` it takes the newest of the archive. What fails is said, and leaves the program of the host in use.
    """
    if not anew and (found_in(folder) or _has_seccomp()):
        return
    with _saying(say):
        tools.require(builders.PROGRAMS)
        with store.locked(folder, name_in(folder), say) as lock:
            if anew or found_in(folder) is None:
                with _started(folder, lock, say) as finish:
                    finish()


@contextlib.contextmanager
def fetching(folder: Path, say: Callable[[str], None], *, anew: bool = False) -> Iterator[None]:
    """Does what `fetch` does while the block runs, and the rest of it after that. A block that fails ends it.

    Where another job has begun it, the block does not wait for that.
    """
    if (not anew and (found_in(folder) or _has_seccomp())) or store.is_locked(folder, name_in(folder)):
        yield
        fetch(folder, say, anew=anew)
        return
    with contextlib.ExitStack() as stack:
        finish = None
        with _saying(say):
            tools.require(builders.PROGRAMS)
            lock = stack.enter_context(store.locked(folder, name_in(folder), say))
            finish = stack.enter_context(_started(folder, lock, say))
        yield
        if finish is not None:
            say("waiting for user-mode-linux")
            with _saying(say):
                finish()


@contextlib.contextmanager
def _saying(say: Callable[[str], None]) -> Iterator[None]:
    """Says what fails in the block."""
    try:
        yield
    except HostError as error:
        first = str(error).partition("\n")[0]
        say(f"no newer user-mode-linux, with which runs would take less time: {first}")


def _has_seccomp() -> bool:
    numbers = version_of(tools.find(uml.PROGRAM)).split(".") if tools.is_installed(uml.PROGRAM) else []
    return tuple(map(int, numbers[:2])) >= _WANTED


@contextlib.contextmanager
def _started(folder: Path, lock: int, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Downloads the packages next to the block; yields what waits for them and makes the program of them.

    Both raise HostError.
    """
    say("downloading a newer user-mode-linux (once)")
    work = store.work_folder(folder, name_in(folder))
    tools.remove_tree(work)
    script = "\n".join((VALIDITY, f"{download_command(_FILES, _HOOK)} {_SUITE} root", _UNPACK))
    try:
        with contextlib.ExitStack() as stack:
            with _failures(folder):
                (work / "tmp").mkdir(parents=True)
                argv, doing = ("sh", "-euc", script), "downloading user-mode-linux"
                wait = stack.enter_context(builders.started(argv, work, doing=doing, lock=lock))

            def finish() -> None:
                wait(_SECONDS, lambda _: None)
                _install(work, folder)

            yield finish
    finally:
        tools.remove_tree(work)


def _install(work: Path, folder: Path) -> None:
    """Makes the program in the folder `work` run there where that comes to: into cache `folder`. Raises HostError."""
    home = folder / name_in(folder)
    with _failures(folder):
        program = work / uml.PROGRAM
        made = interpreter.with_interpreter(program.read_bytes(), str(home / _LOADER))
        program.write_bytes(made)
        for file in (program, work / _LOADER):
            file.chmod(0o755)
        store.write_manifest(work)
        shutil.rmtree(home, ignore_errors=True)
        work.rename(home)
    if not version_of(home / uml.PROGRAM):
        # For example on a file system from which nothing may be started.
        shutil.rmtree(home, ignore_errors=True)
        raise HostError(f"user-mode-linux of {_SUITE} does not start on this host", where=str(folder), remedy=_ANEW)


@contextlib.contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """Makes HostErrors of what fails in the block."""
    try:
        yield
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise HostError(f"user-mode-linux of {_SUITE}: {what}", where=str(folder), remedy=_ANEW) from None


_ANEW = Remedy(title="build it again", commands=(("cgroup-preflight", "guest", "build", "--refresh"),))
