"""Makes the second disk of a guest: an ext4 file system with the files that go in.

The guest reads it by its page cache. The kernel charges each page to the cgroup that touches it first, as on any disk,
while pages of a memory file system belong to whoever wrote them.
"""

import os
import shutil
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

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


def write_disk(inputs: Mapping[str, Path], target: Path, staging: Path) -> None:
    """Writes each file or folder of `inputs` under its name to the file system image `target`.

    `staging` is a folder to make and remove, best on the file system of the inputs. In the image root owns all files,
    and their times are zero. Raises OSError, HostError.
    """
    try:
        staging.mkdir(mode=0o755)
        size, count = 0, 0
        for name, path in sorted(inputs.items()):
            # The paths have no links; one that is found now was put there meanwhile.
            with without_links(str(path)) as place:
                staged = _stage(Path(place), staging / name)
            for file in staged:
                size, count = size + file.stat(follow_symlinks=False).st_size, count + 1
        _make(staging, target, size=size, count=count)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _disown(target)


def _make(staging: Path, target: Path, *, size: int, count: int) -> None:
    # A file takes whole blocks, and its folder an inode.
    blocks = (size + 8192 * count + _FREE_BYTES) >> 12
    argv = (PROGRAM, "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-O", _FEATURES, "-m", "0",
            "-N", str(2 * count + _FREE_INODES), "-d", str(staging), str(target), str(blocks))  # fmt: skip
    tools.call(argv, cwd=target.parent, timeout=_SECONDS, doing="making the guest's input disk")


def _stage(source: Path, place: Path) -> list[Path]:
    """Puts `source`, a file or a folder, at `place`; returns the files. Sockets and devices are left out."""
    _folder(place.parent)
    if source.is_dir():
        staged = []
        for folder, names, files, handle in os.fwalk(source):
            names[:] = [name for name in names if name not in _SKIPPED]
            here = place / os.path.relpath(folder, source)
            _folder(here)
            links = [name for name in names if os.path.islink(os.path.join(folder, name))]
            opened = f"/proc/self/fd/{handle}"
            staged += [file for name in (*files, *links) for file in _stage_file(Path(opened, name), here / name)]
        return staged
    return _stage_file(source, place)


def _folder(path: Path) -> None:
    """Makes a folder that all users of the guest can enter, whatever the umask of the job is."""
    if not path.is_dir():
        _folder(path.parent)
        path.mkdir()
        path.chmod(0o755)


def _stage_file(source: Path, place: Path) -> list[Path]:
    if source.is_symlink():
        place.symlink_to(os.readlink(source))
    elif stat.S_ISREG(source.stat().st_mode):
        _link(source, place)
    else:
        return []
    return [place]


def _link(source: Path, place: Path, link: Callable[[Path, Path], None] = os.link) -> None:
    try:
        link(source, place)
    except FileNotFoundError:
        raise
    except OSError:
        # Another file system, or a file of another user (proc(5), protected_hardlinks).
        shutil.copy(source, place)


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
