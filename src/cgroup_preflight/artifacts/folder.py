"""Folders: a tree of hard links next to the artifact is edited and takes its place in one step.

Where that is impossible (a mount point, the folder of this process, a file system without links) each file is replaced
on its own, the manifest last; `whole` tells which it was.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from typing import NoReturn

from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.model import CHUNK, MODE_FILE, MODE_FOLDER, Member, MemberKind, NewFile, unsafe
from cgroup_preflight.artifacts.scan import Scan, clean_path
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.beneath import folder_below
from cgroup_preflight.host.files import locked_folder, open_regular, replacing, sync_folder, temporary_path

#: <fcntl.h>, <linux/fs.h>.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
#: shutil walks a tree by recursion, which has a limit.
_DEPTH_MAX = 250
_KINDS = {stat.S_IFDIR: MemberKind.FOLDER, stat.S_IFREG: MemberKind.FILE, stat.S_IFLNK: MemberKind.SYMLINK, stat.S_IFCHR: MemberKind.DEVICE,
          stat.S_IFBLK: MemberKind.DEVICE}  # fmt: skip
#: Errors that mean "not possible in this place", not "broken": then each file is replaced on its own.
_NOT_HERE = (errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.EINVAL, errno.ENOSYS, errno.EBUSY, errno.EROFS,
             errno.EOPNOTSUPP)  # fmt: skip


class FolderFormat:
    """A folder at the absolute path `root`, which may be a name of `host.beneath`."""

    all_folders = True
    wraps = False
    package = ""
    signatures: tuple[str, ...] = ()

    def __init__(self, root: str) -> None:
        self._root = root
        self.whole = True

    def scan(self, scan: Scan) -> None:
        """Looks at every file, in the order of their names. Raises ArtifactError, UsageError."""
        for path in _walk(os.fsencode(self._root)):
            relative = clean_path(self._relative(path))
            if relative.count("/") > _DEPTH_MAX:
                raise unsafe(f"a folder is more than {_DEPTH_MAX} levels deep", "remove it")
            status = os.lstat(path)
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), MemberKind.OTHER)
            member = Member(
                path=relative, raw_name=relative, kind=kind, mtime=int(status.st_mtime),
                size=status.st_size if kind is MemberKind.FILE else 0, executable=bool(status.st_mode & 0o111),
                link=os.fsdecode(os.readlink(path)) if kind is MemberKind.SYMLINK else "",
            )  # fmt: skip
            if scan.member(member):
                scan.content(member, _chunks(path))

    def sha256(self) -> str:
        r"""The hash of the list of files with their hashes, as `sha256sum` prints it, in the order of their paths.

        `find * -type f | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum` in the folder says the same.
        """
        lines = []
        for path in _walk(os.fsencode(self._root)):
            if stat.S_ISREG(os.lstat(path).st_mode):
                digest = hashlib.sha256()
                for chunk in _chunks(path):
                    digest.update(chunk)
                lines.append((self._relative(path), digest.hexdigest()))
        listing = b"".join(b"%s  %s\n" % (digest.encode(), path) for path, digest in sorted(lines))
        return hashlib.sha256(listing).hexdigest()

    def _relative(self, path: bytes) -> bytes:
        return os.path.relpath(path, os.fsencode(self._root))

    def write(self, edit: Edit, source_date: int | None) -> None:
        """Applies the edit; with an empty one only removes what a killed run left. Raises UsageError."""
        if edit.empty and not os.path.lexists(temporary_path(self._root)):
            return
        try:
            with locked_folder(os.path.dirname(self._root)):
                temporary = temporary_path(self._root)
                shutil.rmtree(temporary, ignore_errors=True)
                if edit.empty:
                    return
                self.whole = self._swappable() and self._swap(temporary, edit, source_date)
                if not self.whole:
                    self._one_by_one(edit, source_date)
        except OSError as error:
            raise UsageError(f"cannot write: {error.strerror or error}", where=error.filename or self._root,
                             remedy=Remedy(title="make the folder writable, or work on a copy"))  from None  # fmt: skip

    def _swappable(self) -> bool:
        """A mount point cannot be renamed; a process in the folder would stay in the old one."""
        here, root = os.path.realpath(os.getcwd()), os.path.realpath(self._root)
        return not os.path.ismount(root) and not f"{here}/".startswith(f"{root.rstrip('/')}/")

    def _swap(self, temporary: str, edit: Edit, source_date: int | None) -> bool:
        try:
            _clone(self._root, temporary)
            for found in edit.dropped:
                _remove(temporary, found.member.path)
            for new in (*(new for _, new in edit.replaced), *edit.added):
                _make(temporary, new, source_date)
            exchange(temporary, self._root)
            if newer := _newer(temporary, edit):
                exchange(temporary, self._root)
                raise UsageError("another process wrote it at the same time; nothing was put in", where=newer,
                                 remedy=Remedy(title="try again after the build has ended"))  # fmt: skip
        except OSError as error:
            if error.errno in _NOT_HERE:
                return False
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(os.path.dirname(self._root))
        return True

    def _one_by_one(self, edit: Edit, source_date: int | None) -> None:
        for new in (*(new for _, new in edit.replaced), *edit.added):
            _make(self._root, new, source_date)
        for found in edit.dropped:
            _remove(self._root, found.member.path)


def _walk(root: bytes) -> Iterator[bytes]:
    """Everything below `root`, a folder before what is in it; without recursion, which a deep tree would exhaust."""
    folders = [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            _refuse(error)
        for entry in entries:
            if not entry.name.endswith(b".cgroup-preflight.tmp"):
                yield entry.path
        folders += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]


def _refuse(error: OSError) -> NoReturn:
    raise UsageError(f"cannot read: {error.strerror}", where=os.fsdecode(error.filename or ""),
                     remedy=Remedy(title="make the folder readable"))  # fmt: skip


def _chunks(path: bytes) -> Iterator[bytes]:
    with open_regular(path, follow=False) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _clone(source: str, target: str) -> None:
    """The same tree with the same files (hard links); folders with mode, owner, times and attributes."""
    os.mkdir(target, 0o700)
    with os.scandir(source) as found:
        for entry in found:
            place = os.path.join(target, entry.name)
            if entry.is_dir(follow_symlinks=False):
                _clone(entry.path, place)
            elif not entry.name.endswith(".cgroup-preflight.tmp"):
                os.link(entry.path, place, follow_symlinks=False)
    status = os.lstat(source)
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)


def exchange(first: str, second: str) -> None:
    """Two paths of one file system change places, by renameat2(2), which Python does not offer.

    Raises OSError; ENOSYS where the C library or kernel cannot.
    """
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), first) from None
    if function(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), ctypes.c_uint(_RENAME_EXCHANGE)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), first)


def _newer(old: str, edit: Edit) -> str:
    """A file of the old tree that was written after the clone was made: it has one name only. Empty if none."""
    ours = {found.member.path for found in (*(found for found, _ in edit.replaced), *edit.dropped)}
    for path in map(os.fsdecode, _walk(os.fsencode(old))):
        status, relative = os.lstat(path), os.path.relpath(path, old)
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink == 1 and relative not in ours:
            return relative
    return ""


def _make(root: str, new: NewFile, source_date: int | None) -> None:
    folder, name = os.path.split(new.path)
    with folder_below(root, folder, mode=MODE_FOLDER) as place, replacing(os.path.join(place, name), None) as sink:
        sink.write(new.data)
        sink.finish(MODE_FILE, source_date)


def _remove(root: str, path: str) -> None:
    """Removes a file of ours, and its drop-in folder if that becomes empty."""
    folder, name = os.path.split(path)
    with folder_below(root, folder) as place:
        os.unlink(os.path.join(place, name))
    if folder.endswith(".d"):
        above, name = os.path.split(folder)
        with folder_below(root, above) as place, contextlib.suppress(OSError):
            os.rmdir(os.path.join(place, name))
