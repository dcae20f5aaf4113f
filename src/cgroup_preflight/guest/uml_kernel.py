"""The user-mode-linux of a newer Debian in the cache, for hosts whose own package is older.

Since Linux 6.16 user-mode-linux runs the processes of a guest under seccomp instead of ptrace, which nearly halves the time
of a run. The program wants a newer C library than the host may have: that comes along, and only this program uses it.
apt verifies both packages. Where this cannot be had, the program of the host is used.
"""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import builders, interpreter, store, tools, uml
from cgroup_preflight.guest.recipe import DOWNLOAD_ONLY, VALIDITY, download_command

#: The release with the newest user-mode-linux, and the package with its C library.
_SUITE, _PACKAGES = "forky", ("user-mode-linux", "libc6")
#: seccomp came with this version of the kernel.
_WANTED = (6, 16)
_NAME = "user-mode-linux"
_LOADER = "ld-linux-x86-64.so.2"
#: What is kept of the packages; all else are modules, which a guest does not load.
_FILES = ("usr/bin/linux.uml", f"usr/lib/x86_64-linux-gnu/{_LOADER}", "usr/lib/x86_64-linux-gnu/libc.so.6")
_SECONDS = 600.0
_TRY_SECONDS = 10.0
#: Downloads the packages into the root $1 and unpacks $_FILES; mmdebstrap runs it with its settings of apt.
_HOOK = f'cd "$1" && {DOWNLOAD_ONLY} download {" ".join(_PACKAGES)}'
_UNPACK = f"""
for package in root/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --wildcards --transform='s,.*/,,' {" ".join(f"'./{name}'" for name in _FILES)} 2>/dev/null || :
done
for package in root/*.deb; do
    dpkg-deb --show --showformat='${{Package}} ${{Version}}\\n' "$package"
done > contents
rm -rf --one-file-system root tmp
"""


def name_in(folder: Path) -> str:
    """The name of the kernel's folder in cache `folder`, whose path is part of it: the program has it inside."""
    recipe = (_SUITE, _PACKAGES, _HOOK, _UNPACK, str(folder))
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
    try:
        tools.require(builders.PROGRAMS)
        with store.locked(folder, name_in(folder), say) as lock:
            if anew or found_in(folder) is None:
                say("downloading a newer user-mode-linux (once)")
                _build(folder, lock)
    except HostError as error:
        first = str(error).partition("\n")[0]
        say(f"no newer user-mode-linux, with which runs would take less time: {first}")


def _has_seccomp() -> bool:
    numbers = version_of(tools.find(uml.PROGRAM)).split(".") if tools.is_installed(uml.PROGRAM) else []
    return tuple(map(int, numbers[:2])) >= _WANTED


def _build(folder: Path, lock: int) -> None:
    name = name_in(folder)
    work, home = store.work_folder(folder, name), folder / name
    tools.remove_tree(work)
    try:
        (work / "tmp").mkdir(parents=True)
        script = "\n".join((VALIDITY, f"{download_command(_HOOK)} {_SUITE} root", _UNPACK))
        builders.call(("sh", "-euc", script), work, timeout=_SECONDS, doing="downloading user-mode-linux", lock=lock)
        program = work / uml.PROGRAM
        made = interpreter.with_interpreter(program.read_bytes(), str(home / _LOADER))
        program.write_bytes(made)
        for file in (program, work / _LOADER):
            file.chmod(0o755)
        store.write_manifest(work)
        shutil.rmtree(home, ignore_errors=True)
        work.rename(home)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise HostError(f"user-mode-linux of {_SUITE}: {what}", where=str(folder), remedy=_ANEW) from None
    finally:
        tools.remove_tree(work)
    if not version_of(home / uml.PROGRAM):
        # For example on a file system from which nothing may be started.
        shutil.rmtree(home, ignore_errors=True)
        raise HostError(f"user-mode-linux of {_SUITE} does not start on this host", where=str(folder), remedy=_ANEW)


_ANEW = Remedy(title="build it again", commands=(("cgroup-preflight", "guest", "build", "--refresh"),))
