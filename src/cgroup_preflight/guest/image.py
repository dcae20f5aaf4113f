"""Root images in the user's cache: `images/DISTRO-KEY/{root.ext4,listing,contents,manifest.json[,vmlinuz,vmlinux]}`.

The name of an image of a moving suite goes on with the day of the archive and a hash of the versions.

An image is built in another folder and then renamed, so that it appears complete. Parallel jobs wait for the builder.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import builders, bytecode, initrd, kernel_image, overlay, store, tools, uml, uml_kernel
from cgroup_preflight.guest.contents import Contents, contents_in
from cgroup_preflight.guest.recipe import SUITES, Recipe, build_argv

#: Seconds; a build downloads about a hundred packages.
_BUILD_TIMEOUT = 1800.0
#: What a build needs on the host; an ordinary user also needs `newuidmap`.
PROGRAMS = ("mmdebstrap", "mke2fs", tools.DEBUGFS, "tar", "unshare", tools.KEYRING)
_ROOT, _LISTING, _UNITS, _PACKAGES = "root.ext4", "listing", "units.tar", "packages"
#: The file of an image without an agent.
BARE = "bare"
#: The name of a recipe at the beginning of an image's, and in it that of the distribution.
_RECIPE_NAME = re.compile(r"(.+)-[0-9a-f]{16}")
#: What apt says of names that it does not know (apt-get install).
_UNKNOWN = re.compile(
    r"E: (?:Unable to locate package |Package '?|Couldn't find any package by \S+ ')([a-z0-9][a-z0-9+.-]*)"
)
_UNREACHABLE = re.compile(
    r"(?:Temporary failure resolving|Could not resolve) '([^']+)'"
    r"|(?:Could not connect to|Cannot initiate the connection to|Unable to connect to) (\S+)"
)
_EXPIRED = re.compile(r"E: Release file for (\S+) is expired \(invalid since ([0-9]+[dhmin]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RootImage:
    """A root file system that can boot; `kernel` only if the recipe has one.

    With a kernel, `initrd` loads the drivers that mount the root.
    `uml` is a user-mode-linux that is newer than that of the host, None to use the host's.
    `listing` has the paths of its programs and libraries, one in each line; `units` is the archive of its unit files.
    `bare`: it has a shell at its first line (`guest.starter`), and no agent.
    `kernel_image` is the image that the kernel and its modules are from, where that is another one.
    `packages` are those that somebody named for it; `contents` is None for an image that does not say what is in it.
    """

    name: str
    root: Path
    kernel: Path | None
    initrd: Path | None = None
    uml: Path | None = None
    listing: Path | None = None
    units: Path | None = None
    packages: tuple[str, ...] = ()
    bare: bool = False
    kernel_image: "RootImage | None" = None
    contents: Contents | None = None

    @property
    def recipe_name(self) -> str:
        """The name of its recipe, for what is no image its own."""
        found = _RECIPE_NAME.match(self.name)
        return found[0] if found else self.name

    @property
    def distro(self) -> str:
        """The distribution by its name."""
        found = _RECIPE_NAME.match(self.name)
        return found[1] if found else ""


class UnknownPackagesError(HostError):
    """The distribution has no packages of these `names`."""

    def __init__(self, names: Iterable[str], distro: str) -> None:
        self.names = tuple(names)
        super().__init__(
            f"{distro} has no package {', '.join(self.names)}",
            remedy=Remedy(title=f"correct the names: packages of Debian are listed at https://packages.debian.org/{SUITES[distro]}/"),
        )  # fmt: skip


def cache_folder(environment: Mapping[str, str]) -> Path:
    """The folder of images, below XDG_CACHE_HOME or else ~/.cache (XDG base directory specification)."""
    base = environment.get("XDG_CACHE_HOME", "")
    # The specification says to ignore a relative path.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "cgroup-preflight" / "images"


def ensure(
    recipe: Recipe, folder: Path, say: Callable[[str], None] = lambda _: None, *, programs: Sequence[str] = (),
    anew: bool = False, keep_program: bool = False,
) -> RootImage:  # fmt: skip
    """The image of `recipe` in cache `folder`, built if it does not exist or has changed. Raises HostError.

    With `anew` it is built from the archive as it is now, and replaces those of the same recipe. The newest
    user-mode-linux comes with it, unless `keep_program` says that the one in the cache has just come.

    A change shows in size and time, and then in the content. `programs` are needed to run the image: the error names
    all missing programs together, before anything is written. `say` gets a line about long work.
    """
    tools.require(needed_programs(recipe, folder, programs))
    with store.locked(folder, recipe.name, say) as lock:
        # Another job may have built it meanwhile.
        home = _newest(folder, recipe)
        if anew or (not store.unchanged(home) and not store.same_content(home)):
            tools.require(_makers())
            more = f" with {', '.join(recipe.extra)}" if recipe.extra else ""
            say(f"building the {recipe.distro} guest{more} in {folder / recipe.name} (once, about a minute)")
            with (
                contextlib.nullcontext()
                if recipe.with_kernel
                else uml_kernel.fetching(folder, say, anew=anew and not keep_program)
            ):
                home = _build(recipe, folder, lock, say)
            say(f"built, {sum(file.stat().st_blocks for file in home.iterdir()) >> 11} MB")
    return image_in(home)


def needed_programs(recipe: Recipe, folder: Path, programs: Sequence[str]) -> tuple[str, ...]:
    """What this host must have for the image of `recipe`: those of `programs` to run it, and what builds a missing one."""
    needed = [name for name in programs if name != uml.PROGRAM or uml_kernel.found_in(folder) is None]
    return (*needed, *(() if exists(recipe, folder) else _makers()))


def exists(recipe: Recipe, folder: Path) -> bool:
    """Whether cache `folder` has an image of `recipe`, changed or not."""
    return _newest(folder, recipe).is_dir()


def _makers() -> tuple[str, ...]:
    return (*PROGRAMS, *(("newuidmap",) if os.geteuid() != 0 else ()))


def _newest(folder: Path, recipe: Recipe) -> Path:
    """The folder of the image of `recipe`; of a moving suite, that of the latest day."""
    if not recipe.moving:
        return folder / recipe.name
    homes = [manifest.parent for manifest in folder.glob(f"{recipe.name}-*/{store.MANIFEST}")]
    return max(homes, key=lambda home: (home.name.split("-")[-2], home.stat().st_mtime), default=folder / recipe.name)


def list_images(folder: Path) -> tuple[RootImage, ...]:
    """All complete images of cache `folder`, by name."""
    homes = sorted(
        manifest.parent for manifest in folder.glob(f"[!.]*/{store.MANIFEST}") if (manifest.parent / _ROOT).exists()
    )
    return tuple(image_in(home) for home in homes)


def remove(name: str, folder: Path) -> bool:
    """Removes image `name` from the cache; False if it does not exist. Running guests keep their open files."""
    recipe = found[0] if (found := _RECIPE_NAME.match(name)) else name
    with store.locked(folder, recipe):
        tools.remove_tree(store.work_folder(folder, recipe))
        home = folder / name
        if not home.is_dir():
            return False
        shutil.rmtree(home)
        return True


def _build(recipe: Recipe, folder: Path, lock: int, say: Callable[[str], None]) -> Path:
    """Builds the image; returns its folder, after which no other image of the recipe exists."""
    from cgroup_preflight.guest.unpack import ARCHIVE  # a run with an image that exists starts sooner

    work = store.work_folder(folder, recipe.name)
    # Nobody uses it, because we have the lock.
    tools.remove_tree(work)
    try:
        (work / "tmp").mkdir(parents=True)
        overlay.write_overlay(recipe.files, work / "overlay.tar")
        try:
            builders.call(
                build_argv(recipe), work, timeout=_BUILD_TIMEOUT, doing=f"building the {recipe.distro} guest", lock=lock,
                say=say,
            )  # fmt: skip
        except tools.ToolError as error:
            raise _cause(error, recipe) or error from None
        for name in ("tmp", "tree"):
            tools.remove_tree(work / name)
        if recipe.with_kernel:
            kernel_image.unpack(work)
            initrd.write(work)
        home = folder / _name(recipe, work)
        compiled = bytecode.taken(work / ARCHIVE)
        if recipe.extra:
            (work / _PACKAGES).write_text("".join(f"{name}\n" for name in recipe.extra))
        if recipe.bare:
            (work / BARE).touch()
        store.write_manifest(work)
        for old in (home, *folder.glob(f"{recipe.name}-*")):
            shutil.rmtree(old, ignore_errors=True)
        work.rename(home)
        # Not before: modules without their image are removed.
        bytecode.keep(compiled, folder, home.name)
        return home
    except OSError as error:
        raise HostError(
            f"building the {recipe.distro} guest: {error.strerror or error}", where=str(folder),
            remedy=Remedy(title="free 1.5 GB there for the build, or set XDG_CACHE_HOME to another folder"),
        ) from None  # fmt: skip
    finally:
        tools.remove_tree(work)


def _name(recipe: Recipe, home: Path) -> str:
    found = contents_in(home) if recipe.moving else None
    return f"{recipe.name}-{found.stamp}" if found is not None else recipe.name


def image_in(home: Path) -> RootImage:
    """The image in a folder of the cache."""
    listing, units, packages = home / _LISTING, home / _UNITS, home / _PACKAGES
    kernel = kernel_image.found_in(home)
    return RootImage(
        name=home.name, root=home / _ROOT, kernel=kernel, initrd=initrd.found_in(home),
        uml=uml_kernel.found_in(home.parent) if kernel is None else None,
        listing=listing if listing.exists() else None, units=units if units.exists() else None,
        packages=tuple(packages.read_text().split()) if packages.exists() else (), bare=(home / BARE).exists(),
        contents=contents_in(home),
    )  # fmt: skip


def _cause(error: tools.ToolError, recipe: Recipe) -> HostError | None:
    """What apt says of a build that failed, in one line; None for another cause."""
    if unknown := dict.fromkeys(match[1] for match in _UNKNOWN.finditer(error.output)):
        return UnknownPackagesError(unknown, recipe.distro)
    if hosts := dict.fromkeys(
        next(filter(None, match.groups())).rstrip(":") for match in _UNREACHABLE.finditer(error.output)
    ):
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
