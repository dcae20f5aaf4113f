"""Root images in the user's cache: `images/DISTRO-KEY/{root.ext4,listing,manifest.json[,vmlinuz,vmlinux]}`.

An image is built in another folder and then renamed, so that it appears complete. Parallel jobs wait for the builder.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import bytecode, kernel_image, overlay, tools
from cgroup_preflight.guest.recipe import SUITES, Recipe, build_argv
from cgroup_preflight.guest.unpack import ARCHIVE
from cgroup_preflight.host.files import write_file

#: Seconds; a build downloads about a hundred packages.
_BUILD_TIMEOUT = 1800.0
#: What a build needs on the host; an ordinary user also needs `newuidmap`.
PROGRAMS = ("mmdebstrap", "mke2fs", "tar", "unshare", tools.KEYRING)
#: Bytes; file systems have holes in units of their blocks, which divide it.
_BLOCK = 1 << 16
_MANIFEST, _ROOT, _LISTING, _UNITS, _PACKAGES = "manifest.json", "root.ext4", "listing", "units.tar", "packages"
#: What apt says of names that it does not know (apt-get install).
_UNKNOWN = re.compile(
    r"E: (?:Unable to locate package |Package '?|Couldn't find any package by \S+ ')([a-z0-9][a-z0-9+.-]*)"
)
_UNREACHABLE = re.compile(
    r"(?:Temporary failure resolving|Could not resolve) '([^']+)'"
    r"|(?:Could not connect to|Cannot initiate the connection to|Unable to connect to) (\S+)"
)
_EXPIRED = re.compile(r"E: Release file for (\S+) is expired \(invalid since ([0-9]+[dhmin]+)")
#: If we are killed, all processes of a build end with their namespace, and all their files are in our folder or on a
#: mount of their own. Root in a container cannot make one: there, the tools end by SIGTERM.
_NAMESPACE = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")


@dataclass(frozen=True, slots=True, kw_only=True)
class RootImage:
    """A root file system that can boot; `kernel` only if the recipe has one.

    `listing` has the paths of its programs and libraries, one in each line; `units` is the archive of its unit files.
    `packages` are those that somebody named for it.
    """

    name: str
    root: Path
    kernel: Path | None
    listing: Path | None = None
    units: Path | None = None
    packages: tuple[str, ...] = ()


class UnknownPackagesError(HostError):
    """The distribution has no packages of these `names`."""

    def __init__(self, names: Iterable[str], distro: str) -> None:
        self.names = tuple(names)
        super().__init__(
            f"{distro} has no package {', '.join(self.names)}",
            remedy=Remedy(title=f"correct the names: packages of Debian are listed at https://packages.debian.org/{SUITES[distro]}/"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileRecord:
    size: int
    mtime_ns: int
    sha256: str


def cache_folder(environment: Mapping[str, str]) -> Path:
    """The folder of images, below XDG_CACHE_HOME or else ~/.cache (XDG base directory specification)."""
    base = environment.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "cgroup-preflight" / "images"


def ensure(
    recipe: Recipe, folder: Path, say: Callable[[str], None] = lambda _: None, *, programs: Sequence[str] = ()
) -> RootImage:  # fmt: skip
    """The image of `recipe` in cache `folder`, built if it does not exist or has changed. Raises HostError.

    A change shows in size and time, and then in the content. `programs` are needed to run the image: the error names
    all missing programs together, before anything is written. `say` gets a line about long work.
    """
    home = folder / recipe.name
    makers = (*PROGRAMS, *(("newuidmap",) if os.geteuid() != 0 else ()))
    tools.require((*programs, *(() if home.is_dir() else makers)))
    with _locked(folder, recipe.name, say) as lock:
        if not _unchanged(home) and not _same_content(home):
            tools.require(makers)
            more = f" with {', '.join(recipe.extra)}" if recipe.extra else ""
            say(f"building the {recipe.distro} guest{more} in {home} (once, about a minute)")
            _build(recipe, folder, home, lock, say)
            say(f"built, {sum(file.stat().st_blocks for file in home.iterdir()) >> 11} MB")
    return _image(recipe.name, home)


def list_images(folder: Path) -> tuple[RootImage, ...]:
    """All complete images of cache `folder`, by name."""
    homes = sorted(manifest.parent for manifest in folder.glob(f"[!.]*/{_MANIFEST}"))
    return tuple(_image(home.name, home) for home in homes)


def remove(name: str, folder: Path) -> bool:
    """Removes image `name` from the cache; False if it does not exist. Running guests keep their open files."""
    with _locked(folder, name):
        tools.remove_tree(_work(folder, name))
        home = folder / name
        if not home.is_dir():
            return False
        shutil.rmtree(home)
        return True


def _work(folder: Path, name: str) -> Path:
    """The folder of a build; the next build, or `remove`, deletes the files of a build that was killed."""
    return folder / f".{name}.building"


def _build(recipe: Recipe, folder: Path, home: Path, lock: int, say: Callable[[str], None]) -> None:
    work = _work(folder, recipe.name)
    # Nobody uses it, because we have the lock.
    tools.remove_tree(work)
    try:
        (work / "tmp").mkdir(parents=True)
        overlay.write_overlay(recipe.files, work / "overlay.tar")
        around = (*(tools.IN_NAMESPACE if os.geteuid() != 0 else ("unshare",)), *_NAMESPACE)
        if not tools.works((*around, "true")):
            around = tools.IN_NAMESPACE if os.geteuid() != 0 else ()
        try:
            tools.call(
                (*around, "env", f"TMPDIR={work / 'tmp'}", *build_argv(recipe)), cwd=work, timeout=_BUILD_TIMEOUT,
                doing=f"building the {recipe.distro} guest", lock=lock,
                parting=signal.SIGKILL if around else signal.SIGTERM, say=say,
            )  # fmt: skip
        except tools.ToolError as error:
            raise _cause(error, recipe) or error from None
        for name in ("tmp", "tree"):
            tools.remove_tree(work / name)
        if recipe.with_kernel:
            kernel_image.unpack(work)
        bytecode.keep(work / ARCHIVE, folder, recipe.name)
        if recipe.extra:
            (work / _PACKAGES).write_text("".join(f"{name}\n" for name in recipe.extra))
        _write_manifest(work)
        shutil.rmtree(home, ignore_errors=True)
        work.rename(home)
    except OSError as error:
        raise HostError(
            f"building the {recipe.distro} guest: {error.strerror or error}", where=str(folder),
            remedy=Remedy(title="free 1.5 GB there for the build, or set XDG_CACHE_HOME to another folder"),
        ) from None  # fmt: skip
    finally:
        tools.remove_tree(work)


def _image(name: str, home: Path) -> RootImage:
    listing, units, packages = home / _LISTING, home / _UNITS, home / _PACKAGES
    return RootImage(
        name=name, root=home / _ROOT, kernel=kernel_image.found_in(home),
        listing=listing if listing.exists() else None, units=units if units.exists() else None,
        packages=tuple(packages.read_text().split()) if packages.exists() else (),
    )  # fmt: skip


def _cause(error: tools.ToolError, recipe: Recipe) -> HostError | None:
    """What apt says of a build that failed, in one line; None for another cause."""
    if unknown := dict.fromkeys(match[1] for match in _UNKNOWN.finditer(error.output)):
        return UnknownPackagesError(unknown, recipe.distro)
    if hosts := dict.fromkeys(next(filter(None, match.groups())) for match in _UNREACHABLE.finditer(error.output)):
        what = f"the packages of the {recipe.distro} guest" + (f" ({', '.join(recipe.extra)})" if recipe.extra else "")
        return HostError(
            f"cannot download {what}: {', '.join(hosts)} cannot be reached",
            remedy=Remedy(title="build the guest where the network is allowed, and keep the folder of images for later jobs"),
        )  # fmt: skip
    if expired := _EXPIRED.search(error.output):
        return HostError(
            f"the package lists of {recipe.suite} have been out of date for {expired[2]}, and apt does not accept them: {expired[1]}",
            remedy=Remedy(title='wait until the mirror is up to date, or set Acquire::Check-Valid-Until "false" in the apt.conf of '
                                "this host (apt.conf(5)), which the build follows"),
        )  # fmt: skip
    return None


def _write_manifest(home: Path) -> None:
    records = {path.name: asdict(_record(path)) for path in sorted(home.iterdir())}
    (home / _MANIFEST).write_text(json.dumps(records, indent=1))


def _read_manifest(home: Path) -> dict[str, _FileRecord]:
    """Raises OSError, ValueError or TypeError for what is not the manifest of an image."""
    records = json.loads((home / _MANIFEST).read_text())
    if not isinstance(records, dict) or _ROOT not in records:
        raise ValueError("not the manifest of an image")
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
    """Whether only times differ, as in a restored CI cache; writes the new times to the manifest."""
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
    return True


def damaged(image: RootImage) -> str:
    """Which file of an image is not as it was built, although its size and time are; empty for none. Reads all of it."""
    try:
        records = _read_manifest(image.root.parent)
        return next((name for name, item in records.items() if _sha256(image.root.parent / name) != item.sha256), "")
    except (OSError, ValueError, TypeError):
        return ""  # removed or built again meanwhile


def _sha256(path: Path) -> str:
    """Of the places and contents of all blocks that are not zero: most of an image is a hole, or becomes zeros by a copy."""
    digest, size = hashlib.sha256(), path.stat().st_size
    digest.update(b"%d" % size)
    with path.open("rb", buffering=0) as stream:
        place = _next_data(stream.fileno(), 0, size)
        while place < size:
            stream.seek(place)
            block = stream.read(_BLOCK)
            if block.strip(b"\0"):
                digest.update(b"%d:" % place)
                digest.update(block)
            place = _next_data(stream.fileno(), place + _BLOCK, size)
    return digest.hexdigest()


def _next_data(file: int, place: int, size: int) -> int:
    """The first block from `place` on that is not a hole; `size` if there is none."""
    try:
        return os.lseek(file, place, os.SEEK_DATA) // _BLOCK * _BLOCK
    except OSError:
        return size


@contextlib.contextmanager
def _locked(folder: Path, name: str, say: Callable[[str], None] = lambda _: None) -> Iterator[int]:
    """Locks image `name`; yields the descriptor of the lock. Raises HostError.

    The lock file stays, because two processes could have the lock if it was removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("w")
    except OSError as error:
        raise HostError(
            f"cannot write to the cache of images: {error.strerror}", where=str(folder),
            remedy=Remedy(title="set XDG_CACHE_HOME to a writable folder"),
        ) from None  # fmt: skip
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another job that is building or removing this image")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
