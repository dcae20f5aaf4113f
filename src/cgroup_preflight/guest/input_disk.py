"""Makes the second disk of a guest: an ext4 file system with the files that go in.

The guest reads it by its page cache. The kernel charges each page to the cgroup that touches it first, as on any disk,
while pages of a memory file system belong to whoever wrote them.
"""

import errno
import os
import shutil
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.guest import tools
from cgroup_preflight.host.beneath import without_links

PROGRAM = "mke2fs"
#: Folders that never go into a guest.
_SKIPPED = frozenset({"__pycache__", ".git", ".mypy_cache", ".ruff_cache"})
#: Room for what services write, and files that they may make. The image is sparse, so that unused room takes no space.
_FREE_BYTES = 512 << 20
_FREE_INODES = 4096
_SECONDS = 300.0
#: No journal, because nothing outlives the guest, and no checksums, because `_disown` changes inodes.
_FEATURES = "^has_journal,^resize_inode,^metadata_csum,^uninit_bg,^64bit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Files in the folder `place`, as they are to be on the disk: their `size` in bytes and their `count`."""

    place: Path
    size: int
    count: int

    @property
    def disk_bytes(self) -> int:
        """The size of the disk, of which the free part takes no space on this host."""
        # A file takes whole blocks, and its folder an inode.
        return self.size + 8192 * self.count + _FREE_BYTES


def stage(inputs: Mapping[str, Path], place: Path) -> Staged:
    """Puts each file or folder of `inputs` under its name into `place`, a folder to make, best on their file system.

    The files are links to those of `inputs`: nothing that runs in a guest may write there. An input can be below another
    one, whose files it replaces, but not behind a link in it. Raises OSError.
    """
    place.mkdir(mode=0o755)
    sizes: list[int] = []
    for name, path in sorted(inputs.items()):
        # The paths have no links; one that is found now was put there meanwhile.
        with without_links(str(path)) as found:
            _stage(found, place, name, sizes)
    return Staged(place=place, size=sum(sizes), count=len(sizes))


def write_disk(staged: Staged, target: Path) -> None:
    """Writes the files to the file system image `target`. Raises OSError, HostError.

    In the image root owns all files, and their times are zero.
    """
    argv = (PROGRAM, "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-O", _FEATURES, "-m", "0",
            "-N", str(2 * staged.count + _FREE_INODES), "-d", str(staged.place), str(target),
            str(staged.disk_bytes >> 12))  # fmt: skip
    tools.call(argv, cwd=target.parent, timeout=_SECONDS, doing="making the guest's input disk")
    _disown(target)


def _stage(source: str, top: Path, under: str, sizes: list[int]) -> None:
    """Puts `source`, a file or a folder, at `under` in the folder `top`, and adds the sizes of its files.

    Sockets and devices are left out.
    """
    place = top / under
    _folder(place.parent, top)
    if not os.path.isdir(source):
        folder, name = os.path.split(source)
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _stage_file(name, handle, place, sizes)
        finally:
            os.close(handle)
        return
    for path, names, files, handle in os.fwalk(source):
        names[:] = [name for name in names if name not in _SKIPPED]
        here = place / os.path.relpath(path, source)
        _folder(here, top)
        for name in (*names, *files):
            _stage_file(name, handle, f"{here}/{name}", sizes)


def _folder(path: Path, top: Path) -> None:
    """Makes a folder in `top` that all users of the guest can enter, whatever the umask of the job is.

    A link of an input that was put there before would lead out of `top`, to files of this host.
    """
    if path == top:
        return
    _folder(path.parent, top)
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"/{path.relative_to(top)} is below another input, which has a link there")
    if not path.is_dir():
        path.mkdir()
        path.chmod(0o755)


def _stage_file(name: str, folder: int, place: str | Path, sizes: list[int]) -> None:
    """Puts the file or link `name` of the folder with this descriptor at `place`, where it replaces another one."""
    status = os.lstat(name, dir_fd=folder)
    if not stat.S_ISDIR(status.st_mode) and os.path.lexists(place):
        # Never written to: it is a link to a file of this host.
        os.unlink(place)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=folder), place)
    elif stat.S_ISREG(status.st_mode):
        _link(name, folder, place)
    else:
        return
    sizes.append(status.st_size)


def _link(name: str, folder: int, place: str | Path, link: Callable[..., None] = os.link) -> None:
    try:
        link(name, place, src_dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        # Another file system, or a file of another user (proc(5), protected_hardlinks).
        shutil.copy(f"/proc/self/fd/{folder}/{name}", place, follow_symlinks=False)


def _disown(image: Path) -> None:
    """Makes root the owner of all files of an ext4 image, and their times zero.

    mke2fs takes owners and times from the host. Layout: Documentation/filesystems/ext4 (super, group_descr, inodes).
    """
    with image.open("r+b") as file:
        head = _read(file.fileno(), 1024, 1024)
        (inodes,), (per_group,) = struct.unpack_from("<I", head, 0), struct.unpack_from("<I", head, 40)
        (inode_size,) = struct.unpack_from("<H", head, 88)
        for group in range(-(-inodes // per_group)):
            # The descriptors follow the block of the superblock.
            (table,) = struct.unpack("<I", _read(file.fileno(), 4096 + 32 * group + 8, 4))
            raw = bytearray(_read(file.fileno(), table * 4096, per_group * inode_size))
            before = bytes(raw)
            for at in range(0, len(raw), inode_size):
                if raw[at : at + 2] != b"\0\0":
                    for field, length in _OWNER_AND_TIMES:
                        raw[at + field : at + field + length] = bytes(length)
            if raw != before:
                os.pwrite(file.fileno(), raw, table * 4096)


#: Offset and length in an inode: user; access, change and modification time; group; upper halves of user and group;
#: the fractions of the times and the time of creation.
_OWNER_AND_TIMES = ((2, 2), (8, 12), (24, 2), (120, 4), (132, 20))


def _read(file: int, at: int, length: int) -> bytes:
    return os.pread(file, length, at)
