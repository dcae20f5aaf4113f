"""Compiles this package for the guest's Python and caches the result, because this takes a second or two.

The compiled modules decide the verdicts of all later guests. They are therefore made when the image is built, before any
script of a package that somebody named, or in a guest before the first service starts.

Their folders are `bytecode/IMAGE+SOURCE` next to the images. A run locks the one it uses, so that nobody removes it meanwhile.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cgroup_preflight
from cgroup_preflight.guest.inside import bundle
from cgroup_preflight.guest.spec import CommandResult
from cgroup_preflight.guest.words import INPUT_DIR

if TYPE_CHECKING:
    import tarfile

#: The input that holds the package, as source or compiled.
SOURCE_INPUT = "src"
PACKAGE = "cgroup_preflight"
#: Where the distribution has the libraries that the tool needs.
LIBRARIES = "/usr/lib/python3/dist-packages"
#: Where a compiled package and its libraries are in a guest, as Python looks for them.
FOLDERS = (f"{INPUT_DIR}/{SOURCE_INPUT}", LIBRARIES)
_SIZE_MAX = 64 << 20
_KEPT_SECONDS = 86400.0
_WORK = "/var/tmp/compiled"
#: Puts compiled files in the place of the source, so that Python does not look for the source. With
#: PYTHONPYCACHEPREFIX it would also look there for the standard library's.
_COMPILE = f"""
import compileall, pathlib, py_compile, shutil
work, source = "{_WORK}", "{INPUT_DIR}/{SOURCE_INPUT}"
shutil.copytree(source, work)
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
if not compileall.compile_dir(work, quiet=2, legacy=True, stripdir=work, prependdir=source, invalidation_mode=mode):
    raise SystemExit(1)
for path in pathlib.Path(work).rglob("*.py"):
    path.unlink()
"""


def source_folder() -> Path:
    """The folder of this package on the host."""
    return Path(cgroup_preflight.__file__).parent


def cached(folder: Path, image_name: str) -> Path | None:
    """The folder of modules that this image's Python compiled, None if there is none for this source."""
    home = _home(folder, image_name)
    return home if home.is_dir() else None


@contextlib.contextmanager
def in_use(folder: Path, image_name: str) -> Iterator[Path | None]:
    """What `cached` returns, which `remove_unused` leaves until the end."""
    home = cached(folder, image_name)
    lock = _lock(home, fcntl.LOCK_SH) if home is not None else None
    try:
        if lock is not None:
            with contextlib.suppress(OSError):
                os.utime(lock)
        yield home if lock is not None else None
    finally:
        if lock is not None:
            os.close(lock)


def remove_unused(folder: Path) -> None:
    """Removes modules of images that are not in cache `folder`, and those of other sources that nobody used for a day.

    It leaves those that a run has locked.
    """
    try:
        homes = list(_bytecode(folder).iterdir())
    except OSError:  # there are none
        return
    source = _source_key()
    for home in homes:
        if not _is_of_use(home, folder, source):
            _remove(home)


def start_compiling(root: Path) -> "subprocess.Popen[bytes] | None":
    """Starts to compile this package with the Python in the tree `root`; None where it has none. Raises OSError."""
    if not os.path.lexists(root / "usr/bin/python3"):
        return None
    place = root / INPUT_DIR[1:] / SOURCE_INPUT / PACKAGE
    shutil.copytree(source_folder(), place, ignore=shutil.ignore_patterns("__pycache__"))
    (root / _WORK[1:]).parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(("chroot", str(root), "/usr/bin/python3", "-I", "-c", _COMPILE), stdin=subprocess.DEVNULL)


def pack_compiled(root: Path, process: "subprocess.Popen[bytes]", archive: Path) -> None:
    """Waits for the end of `process`, and moves what it compiled to `archive`; a first guest compiles what fails here."""
    work = root / _WORK[1:]
    if process.wait() == 0:
        subprocess.run(("tar", "-cf", str(archive), "-C", str(work / PACKAGE), "."), check=False, capture_output=True)
    for folder in (work, (root / INPUT_DIR[1:]).parent):
        shutil.rmtree(folder, ignore_errors=True)


def taken(archive: Path) -> bytes:
    """What `pack_compiled` made, which goes from its place; nothing where it made none. Raises OSError."""
    if not archive.exists():
        return b""
    packed = archive.read_bytes()
    archive.unlink()
    return packed


def keep(packed: bytes, folder: Path, image_name: str) -> None:
    """Caches `taken` modules, if there are any, for an image that is in cache `folder`; removes those that are of no use."""
    if packed:
        _keep(packed, _home(folder, image_name))
    remove_unused(folder)


class Runs(Protocol):
    """What this module uses of a guest."""

    def run(self, argv: Sequence[str], *, timeout: float = ...) -> CommandResult:
        """Runs a command in it to its end."""


def compile_in(guest: Runs, folder: Path, image_name: str) -> str:
    """Compiles the source in a fresh `guest` and caches the result.

    Returns the folder of the package in this guest: that of the source, if compiling failed.
    """
    done = guest.run(["python3", "-I", "-c", _COMPILE], timeout=120)
    if done.returncode != 0:
        return f"{INPUT_DIR}/{SOURCE_INPUT}"
    packed = guest.run(["tar", "-cf", "-", "-C", f"{_WORK}/{PACKAGE}", "."], timeout=60)
    if packed.returncode == 0 and len(packed.stdout) <= _SIZE_MAX:
        keep(packed.stdout, folder, image_name)
    return _WORK


def _keep(packed: bytes, home: Path) -> None:
    import io
    import tarfile

    home.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=home.parent))
    try:
        (work / PACKAGE).mkdir(mode=0o700)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for member in archive:
                _unpack(archive, member, work / PACKAGE)
        bundle.pack(work / PACKAGE)
        (work / PACKAGE).rename(home)
    except (OSError, tarfile.TarError):  # another job was faster, or the disk is full
        return
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpack(archive: "tarfile.TarFile", member: "tarfile.TarInfo", target: Path) -> None:
    parts = Path(member.name).parts
    content = archive.extractfile(member) if member.isreg() else None
    if content is None or ".." in parts or member.name.startswith("/") or not member.name.endswith((".py", ".pyc")):
        return
    path = target.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.read())


def _is_of_use(home: Path, folder: Path, source: str) -> bool:
    """Whether modules belong to an image that exists, and to this `source` or to one that was used not long ago."""
    image_name, _, its_source = home.name.rpartition("+")
    # What has no image in its name is a part of a job, which was killed if it is old.
    if image_name and not (folder / image_name).is_dir():
        return False
    try:
        return its_source == source or time.time() - home.stat().st_mtime < _KEPT_SECONDS
    except OSError:  # another job has removed it
        return True


def _remove(home: Path) -> None:
    """Removes a folder, unless a run uses it. The rename keeps runs from finding a part of it."""
    lock = _lock(home, fcntl.LOCK_EX)
    if lock is None:
        return
    try:
        with contextlib.suppress(OSError):
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=home.parent))
            home.rename(old)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(home: Path, how: int) -> int | None:
    """The descriptor of a folder that is locked now; None if another job has locked or removed it."""
    try:
        lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(lock, how | fcntl.LOCK_NB)
        if os.stat(home).st_ino == os.fstat(lock).st_ino:
            return lock
    os.close(lock)
    return None


def _bytecode(folder: Path) -> Path:
    return folder.parent / "bytecode"


def _home(folder: Path, image_name: str) -> Path:
    return _bytecode(folder) / f"{image_name}+{_source_key()}"


def _source_key() -> str:
    """16 hex digits over the source."""
    return digest_of(source_folder(), ".py")[:16]


def digest_of(folder: Path, *ends: str) -> str:
    """64 hex digits over the files of a folder whose names end with one of `ends`, and their places in it. Raises OSError."""
    digest, top, endings = hashlib.sha256(), os.fsencode(folder), tuple(map(os.fsencode, ends))
    paths = (os.path.join(here, name) for here, _, names in os.walk(top) for name in names if name.endswith(endings))
    # Not with pathlib, which takes longer than all the rest.
    for path in sorted(paths):
        with open(path, "rb") as file:
            digest.update(path[len(top) :] + b"\0" + file.read() + b"\0")
    return digest.hexdigest()
