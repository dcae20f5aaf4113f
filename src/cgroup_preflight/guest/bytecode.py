"""Compiles this package for the guest's Python and caches the result, because this takes a second or two.

The compiled modules decide the verdicts of all later guests. They are therefore made when the image is built, before any
script of a package that somebody named, or in a guest before the first service starts.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
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


def keep(archive: Path, folder: Path, image_name: str) -> None:
    """Caches what `pack_compiled` made for an image, if it did."""
    if archive.exists():
        _keep(archive.read_bytes(), _home(folder, image_name))
        archive.unlink()


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
        _keep(packed.stdout, _home(folder, image_name))
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
        _remove_old(home)
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


def _remove_old(home: Path) -> None:
    """Removes the modules of older sources after a day; another job may still be reading younger ones."""
    for other in home.parent.glob(f"{home.name.rpartition('+')[0]}+*"):
        if time.time() - other.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


def _home(folder: Path, image_name: str) -> Path:
    return folder.parent / "bytecode" / f"{image_name}+{_source_key()}"


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
