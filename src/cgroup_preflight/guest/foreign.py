"""Roots from elsewhere in the cache of images: the export of a container, or the tarball of a distribution.

Such an image is a root like those of a recipe, with our few files in it, and a name that somebody gave to it. The name of
its folder goes on with a hash of the archive. The archive is hostile (`guest.foreign_unpack`).
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cgroup_preflight
from cgroup_preflight.config.model import Target
from cgroup_preflight.config.tables import nearest
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import builders, image, store, tools
from cgroup_preflight.guest.foreign_unpack import FILE_SERVERS
from cgroup_preflight.guest.overlay import overlay
from cgroup_preflight.guest.recipe import SUITES
from cgroup_preflight.guest.words import SYSTEMD

#: The oldest systemd that knows all that this tool asks of it with cgroup v2 alone.
SYSTEMD_LEAST = 244
PROGRAMS = ("mke2fs", "unshare")
NAME = re.compile(r"[a-z][a-z0-9]*(?:[.-][a-z0-9]+){0,6}", re.ASCII)
NAME_MAX = 40
_IMPORTED = "found.json"
_SECONDS = 1800.0
#: Room in the image besides what is in the root, in MiB.
_FREE_MIB = 2048
_SCRIPT = r"""
mkdir tree
available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
size=$(stat -L -c %s "$1")
[ "$available" -lt $((size / 128 + 2097152)) ] || mount -t tmpfs -o mode=755 tmpfs tree 2>/dev/null || :
"""
_MAKE = r"""
used=$(du -sm tree/root | cut -f 1)
mke2fs -q -F -t ext4 -O ^has_journal -m 0 -L preflight -d tree/root root.ext4 "$((used + used / 4 + free))M"
rm -rf tree/root
"""

_INSTALL = Remedy(title="install them in that root and import it again, or choose a distribution that this tool builds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of a root from elsewhere: `title` is the system's own name, `systemd` its version, 0 if unknown."""

    title: str
    init: str
    systemd: int
    file_server: str
    packages: int
    left_out: int


def import_root(archive: Path, name: str, folder: Path, say: Callable[[str], None]) -> image.RootImage:
    """Makes the image `name` of an archive (tar, also with gzip, xz or bzip2). Raises HostError, UsageError.

    It replaces one of the same name.
    """
    check_name(name)
    if not archive.is_file():
        raise UsageError("no such file", where=str(archive), remedy=Remedy(title="name the tar archive of a root"))
    tools.require((*PROGRAMS, *(("newuidmap",) if os.geteuid() != 0 else ())))
    home = f"{name}-{_digest(archive)}"
    with store.locked(folder, home, say) as lock:
        say(f"importing {archive.name} as {home}")
        work = store.work_folder(folder, home)
        tools.remove_tree(work)
        try:
            (work / "tmp").mkdir(parents=True)
            work.chmod(0o700)
            _unpack(archive, name, work, lock)
            _judge(json.loads((work / _IMPORTED).read_text()), archive)
            (work / image.BARE).touch()
            store.write_manifest(work)
            for old in folder.glob(f"{name}-*"):
                if re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{16}}", old.name):
                    shutil.rmtree(old, ignore_errors=True)
            work.rename(folder / home)
        except OSError as error:
            raise HostError(f"importing {archive.name}: {error.strerror or error}", where=str(folder),
                            remedy=Remedy(title="free space there, or set XDG_CACHE_HOME to another folder")) from None  # fmt: skip
        finally:
            tools.remove_tree(work)
    return image.image_in(folder / home)


def check_name(name: str) -> None:
    """Raises UsageError for what cannot name an image from elsewhere."""
    if not NAME.fullmatch(name) or len(name) > NAME_MAX or name in SUITES:
        why = "is a distribution that this tool builds itself" if name in SUITES else "is no name for an image"
        raise UsageError(f"{name!r} {why}", where="--name",
                         remedy=Remedy(title="use lowercase letters, digits, dots and dashes, as in ubuntu-24.04"))  # fmt: skip


def imported(name: str, folder: Path) -> image.RootImage | None:
    """The image that was imported as `name`; None for none."""
    return next((item for item in list_imported(folder) if item.distro == name), None)


def unknown(name: str, folder: Path, where: str) -> UsageError:
    """The error for a name that is neither a distribution nor an imported root."""
    known = (*SUITES, *(item.distro for item in list_imported(folder)))
    return UsageError(
        f"no distribution and no imported root {name[:NAME_MAX]!r}", where=where,
        remedy=Remedy(title=f"{nearest(name, known)}choose one of: {', '.join(known)}; or import a root with guest import"),
    )  # fmt: skip


def refuse(target: Target, name: str, *, packages: bool = False) -> None:
    """Raises UsageError for what only a distribution that this tool builds can do; `packages`: built ones are tested."""
    for words, is_asked in (("packages", bool(target.packages)), ("--package", packages)):
        if is_asked:
            raise UsageError(f"{name} is an imported root, with the packages that it has", where=words,
                             remedy=_INSTALL)  # fmt: skip


def list_imported(folder: Path) -> tuple[image.RootImage, ...]:
    """All images from elsewhere, by name."""
    return tuple(item for item in image.list_images(folder) if (item.root.parent / _IMPORTED).exists())


def found_of(item: image.RootImage) -> Found:
    """What is known of an image from elsewhere. Raises OSError."""
    data = json.loads((item.root.parent / _IMPORTED).read_text())
    # Words for the kernel's command line: never the archive's own.
    init, server = (word if word.lstrip("/") in known else "" for word, known in
                    ((data["init"], SYSTEMD), (data["file_server"], FILE_SERVERS)))  # fmt: skip
    return Found(title=printable(str(data["title"])), init=init, systemd=int(data["systemd"]), file_server=server,
                 packages=len(data["packages"]), left_out=int(data["left_out"]))  # fmt: skip


def kernel_args(found: Found) -> tuple[str, ...]:
    """What a kernel is told besides: where systemd is, and that it mounts cgroup v2 (the default of systemd since 248)."""
    return f"init={found.init}", "systemd.unified_cgroup_hierarchy=1"


def _digest(archive: Path) -> str:
    """Of the archive, and of what this version of the tool puts into it."""
    digest = hashlib.sha256(repr(_files("")).encode())
    with archive.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:16]


def _files(name: str) -> dict[str, dict[str, Any]]:
    """Our files by path. There are no users of ours in it, and so no rights for them."""
    machine_id = hashlib.sha256(name.encode()).hexdigest()[:32]
    return {
        file.path: {"content": file.content, "mode": file.mode, "link": file.link}
        for file in overlay(hostname="guest", machine_id=machine_id, bare=True)
        if not file.path.startswith("/etc/sudoers.d/")
    } | {path: {"content": "", "mode": 0o644, "link": ""} for path in ("/etc/.updated", "/var/.updated")}  # fmt: skip


def _unpack(archive: Path, name: str, work: Path, lock: int) -> None:
    """Makes root.ext4, listing, units.tar and found.json in `work`. Raises HostError."""
    (work / "files.json").write_text(json.dumps(_files(name)))
    source = str(Path(cgroup_preflight.__file__).parent.parent)
    program = ("env", f"PYTHONPATH={source}", sys.executable, "-m", "cgroup_preflight.guest.foreign_unpack")
    script = "\n".join((
        _SCRIPT, f'{shlex.join(program)} "$1" tree/root . < files.json', f"free={_FREE_MIB}", _MAKE, "rm files.json",
    ))  # fmt: skip
    try:
        builders.call(("sh", "-euc", script, "import", str(archive.resolve())), work, timeout=_SECONDS,
                      doing=f"importing {archive.name}", lock=lock)  # fmt: skip
    except tools.ToolError as error:
        refused = [line for line in error.output.splitlines() if line.startswith("refused: ")]
        if not refused:
            raise
        raise _refused(archive, printable(refused[0].removeprefix("refused: "))[:300]) from None
    for made in ("tmp", "tree"):
        tools.remove_tree(work / made)


def _judge(found: dict[str, Any], archive: Path) -> None:
    """Raises HostError that names all that a root lacks."""
    lacks = [f"the program {name}" for name in found["lacks"]]
    if not found["init"]:
        lacks.insert(0, "systemd")
    elif found["foreign"]:
        lacks.insert(0, "a systemd for x86-64")
    elif 0 < found["systemd"] < SYSTEMD_LEAST:
        lacks.insert(0, f"systemd {SYSTEMD_LEAST} or later (it has {found['systemd']})")
    if lacks:
        raise _refused(archive, f"it lacks {', '.join(lacks)}")


def _refused(archive: Path, why: str) -> HostError:
    return HostError(
        f"{archive.name} cannot become a guest: {why}", where=str(archive),
        remedy=Remedy(title="install systemd, dbus, coreutils, util-linux and mount in that root, and export it again"),
    )  # fmt: skip
