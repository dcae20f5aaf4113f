"""Root images, built once and kept in the user's cache: `images/DISTRO-KEY/{root.ext4,manifest.json[,vmlinuz,vmlinux]}`.

A folder appears complete or not at all (built beside it, renamed). Parallel jobs wait for the one that builds.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import kernel_image, overlay, tools
from cgroup_preflight.guest.recipe import Recipe, image_argv, mmdebstrap_argv
from cgroup_preflight.host.files import write_file

#: Seconds; a build downloads some hundred packages.
BUILD_TIMEOUT = 1800.0
#: What a build needs of the host, also as an ordinary user but for `newuidmap`.
PROGRAMS = ("mmdebstrap", "mke2fs", "tar", "unshare", tools.KEYRING)
_MANIFEST = "manifest.json"
#: As root mmdebstrap mounts /dev/shm of this machine into the new root. In a namespace of its own nobody who cleans up
#: after a crash can meet those mounts, and everything in it ends with us. Root in a container may not make one; there
#: mmdebstrap may not mount either, and does without.
_NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A root ready to boot; `kernel` only if the recipe asked for one."""

    name: str
    root: Path
    kernel: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileRecord:
    size: int
    mtime_ns: int
    sha256: str


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where images are kept: below XDG_CACHE_HOME, by default ~/.cache (XDG base directory specification)."""
    base = environment.get("XDG_CACHE_HOME", "")
    # The specification: a relative path there is invalid and to be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "cgroup-preflight" / "images"


def ensure(
    recipe: Recipe, folder: Path, say: Callable[[str], None] = lambda _: None, *, programs: Sequence[str] = ()
) -> Image:  # fmt: skip
    """The image of `recipe` in cache `folder`, built if it is not there; raises HostError.

    `programs` are what will run it: where something is missing, all is named at once, and nothing written.

    Also rebuilt if its files are not those that were built (size, time, else the content). `say` is told of long work.
    """
    home = folder / recipe.name
    makers = (*PROGRAMS, *(("newuidmap",) if os.geteuid() != 0 else ()))
    tools.require((*programs, *(() if home.is_dir() else makers)))
    with _locked(folder, recipe.name, say) as lock:
        if not _unchanged(home) and not _same_content(home):
            tools.require(makers)
            say(f"building the {recipe.distro} guest in {home}: once, about a minute")
            _build(recipe, folder, home, lock)
            say(f"built, {sum(file.stat().st_blocks for file in home.iterdir()) >> 11} MB")
    return _image(recipe.name, home)


def verify(image: Image) -> None:
    """Reads the whole image and compares checksums; raises HostError if a file was changed."""
    home = image.root.parent
    for name, record in _read_manifest(home).items():
        if _sha256(home / name) != record.sha256:
            raise _damaged(home / name)


def list_images(folder: Path) -> tuple[Image, ...]:
    """All complete images of cache `folder`, by name."""
    homes = sorted(manifest.parent for manifest in folder.glob(f"[!.]*/{_MANIFEST}"))
    return tuple(_image(home.name, home) for home in homes)


def remove(name: str, folder: Path) -> bool:
    """Removes image `name` from the cache; False if it is not there. Running guests keep their open files."""
    with _locked(folder, name):
        tools.remove_tree(_work(folder, name))
        home = folder / name
        if not home.is_dir():
            return False
        shutil.rmtree(home)
        return True


def _work(folder: Path, name: str) -> Path:
    """Where an image is made; what a killed build left there goes with the next one, or with the image."""
    return folder / f".{name}.building"


def _build(recipe: Recipe, folder: Path, home: Path, lock: int) -> None:
    unprivileged = os.geteuid() != 0
    work = _work(folder, recipe.name)
    # We hold the lock, so nobody is using it.
    tools.remove_tree(work)
    started = time.monotonic()
    try:
        work.mkdir()
        overlay.write_overlay(recipe.files, work / "overlay.tar")
        doing = f"building the {recipe.distro} guest"
        argv = mmdebstrap_argv(recipe, output=str(work / "root.tar"), unprivileged=unprivileged)
        alone = not unprivileged and tools.works((*_NAMESPACE, "true"))
        # Should we be killed: mmdebstrap pays no heed to SIGTERM while it works, but a namespace ends whole, and what it
        # was about is all in our folder. Elsewhere it goes on to its end, holding the lock, and then tidies up itself.
        scratch = work / "tmp"
        scratch.mkdir()
        around = (*_NAMESPACE, "env", f"TMPDIR={scratch}") if alone else ()
        tools.call((*around, *argv), cwd=work, timeout=BUILD_TIMEOUT, doing=doing, lock=lock,
                   parting=signal.SIGKILL if alone else signal.SIGTERM)  # fmt: skip
        shutil.rmtree(scratch)
        left = BUILD_TIMEOUT - (time.monotonic() - started)
        tools.call(image_argv(recipe, unprivileged=unprivileged), cwd=work, timeout=left, doing=doing, lock=lock)
        if recipe.with_kernel:
            kernel_image.unpack(work)
        _write_manifest(work)
        shutil.rmtree(home, ignore_errors=True)
        work.rename(home)
    except OSError as error:
        raise HostError(
            f"building the {recipe.distro} guest: {error.strerror or error}", where=str(folder),
            remedy=Remedy(title="make room there (an image and its making take about 1.5G), or set XDG_CACHE_HOME"),
        ) from None  # fmt: skip
    finally:
        tools.remove_tree(work)


def _image(name: str, home: Path) -> Image:
    return Image(name=name, root=home / "root.ext4", kernel=kernel_image.found_in(home))


def _write_manifest(home: Path) -> None:
    records = {path.name: asdict(_record(path)) for path in sorted(home.iterdir())}
    (home / _MANIFEST).write_text(json.dumps(records, indent=1))


def _read_manifest(home: Path) -> dict[str, _FileRecord]:
    records = json.loads((home / _MANIFEST).read_text())
    return {name: _FileRecord(**record) for name, record in records.items()}


def _record(path: Path) -> _FileRecord:
    status = path.stat()
    return _FileRecord(size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=_sha256(path))


def _unchanged(home: Path) -> bool:
    try:
        records = _read_manifest(home)
        statuses = {name: (home / name).stat() for name in records}
    except (OSError, ValueError, TypeError):
        return False
    return all(
        (status.st_size, status.st_mtime_ns) == (records[name].size, records[name].mtime_ns)
        for name, status in statuses.items()
    )


def _same_content(home: Path) -> bool:
    """Whether only times differ, as after a restored CI cache; then the manifest gets the new ones."""
    try:
        records = _read_manifest(home)
        if not all((home / name).stat().st_size == record.size for name, record in records.items()):
            return False
        if not all(_sha256(home / name) == record.sha256 for name, record in records.items()):
            return False
        fresh = {name: asdict(replace(record, mtime_ns=(home / name).stat().st_mtime_ns))
                 for name, record in records.items()}  # fmt: skip
        write_file(str(home / _MANIFEST), json.dumps(fresh, indent=1).encode())
    except (OSError, UsageError, ValueError, TypeError):
        return False
    return bool(records)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(folder: Path, name: str, say: Callable[[str], None] = lambda _: None) -> Iterator[int]:
    """Holds the lock of image `name`, and says its descriptor. Raises HostError.

    The lock file stays, since removing it would let two in.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("w")
    except OSError as error:
        raise HostError(
            f"cannot keep images there: {error.strerror}", where=str(folder),
            remedy=Remedy(title="set XDG_CACHE_HOME to a folder that can be written to"),
        ) from None  # fmt: skip
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another job that is building or removing this image")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _damaged(path: Path) -> HostError:
    return HostError(
        "the image differs from what was built",
        where=str(path),
        remedy=Remedy(
            title="remove it; the next run builds it anew",
            commands=(("cgroup-preflight", "guest", "remove", path.parent.name),),
        ),
    )
