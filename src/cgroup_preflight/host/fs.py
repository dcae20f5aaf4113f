"""Files below a root: whole reads, links, folders, mount flags; errno kept, nothing written."""

import errno
import os
import stat
from collections.abc import Iterable, Mapping

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, missing, parsed
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.files import NotRegularError, regular_handle

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

#: No kernel file this tool reads is near this size; a larger one is refused, not cut.
TEXT_MAX = 4 << 20
_SELF = "/proc/self"
#: File systems of the kernel without device nodes, for sysfs and cgroups; in /proc, links lead anywhere.
_NO_DEVICES = "/sys/"
_PAGE = 1 << 16
#: Parts and links of one path; more is a loop.
_STEPS_MAX = 400


#: Bytes of a memory page, on any machine of Linux.
PAGE_SIZES = tuple(1 << bits for bits in range(12, 20))


class HostFs(Protocol):
    """What facts are read through; paths are absolute as the host sees them."""

    def read(self, path: str) -> Reading[str]:
        """The whole text of a file."""

    def pieces(self, path: str, keep: tuple[str, ...], separator: str) -> Reading[tuple[str, ...]]:
        """Of a file's pieces between `separator`s, those that contain one of `keep`; a recording has no others."""

    def link(self, path: str) -> Reading[str]:
        """The target of a symbolic link."""

    def exists(self, path: str) -> Reading[bool]:
        """Whether the path exists; missing where that cannot be read."""

    def device(self, path: str) -> Reading[str]:
        """`MAJOR:MINOR` of the file system at `path`, as mountinfo spells it."""

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        """The sorted names in a folder, with `keep` only those that begin with one of them."""

    def read_only(self, path: str) -> Reading[bool]:
        """Whether the file system at `path` is mounted read-only (statvfs flag ST_RDONLY)."""

    def machine(self) -> Reading[str]:
        """The hardware name of uname(2)."""

    def page_size(self) -> Reading[int]:
        """Bytes of a memory page."""


class MachineFs(HostFs, Protocol):
    """What can also be read of a running machine, this one or another.

    `prefetch` and `many` read all their paths in one round trip. What `prefetch` read answers later reads of these paths
    once each, or until `forget`; on this machine it does nothing, because a read costs nothing here.
    """

    def prefetch(
        self, paths: Iterable[str], *, folders: Iterable[str] = (), statuses: Iterable[str] = (),
        names: Iterable[str] = (), links: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Reads files that are about to be read, and what `folders`, `status`, `names` and `link` are about to return."""

    def forget(self) -> None:
        """From now on, every read asks the machine again."""

    def many(self, paths: Iterable[str]) -> Mapping[str, Reading[bytes]]:
        """The content of files, by path."""

    def data(self, path: str) -> Reading[bytes]:
        """The whole content; a gzip file unpacked, one larger than 4M malformed."""

    def block_device(self, path: str) -> Reading[str]:
        """MAJOR:MINOR of a block device node, or else of the file system that a path is on."""

    def folders(self, path: str) -> Reading[tuple[str, ...]]:
        """The names of the folders in a folder, sorted; links are none."""

    def quick(self, path: str) -> Reading[bytes]:
        """The content of a file of /proc that is read often."""

    def identity(self, path: str) -> Reading[tuple[int, int]]:
        """Two numbers of a file that are the same for each name of it, and differ from those of every other file."""

    def hold(self, path: str, device: str) -> Reading[int]:
        """A number for `reread`, which the caller gives to `release`; `device` is that of its file system."""

    def hold_all(self, paths: Iterable[str], device: str) -> Mapping[str, Reading[int]]:
        """As `hold`, of several files of one file system in few round trips. `prefetch` reads them as `reread` does."""

    def reread(self, handle: int, path: str) -> Reading[str]:
        """The whole text of an open file, as it is now."""

    def release(self, handle: int) -> None:
        """Closes a file that was open."""


class LiveFs:
    """The running host, or with `root` a tree of another one mounted elsewhere."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")

    def _at(self, path: str) -> str:
        """Where to look. In a tree, a link that leads out of it would answer for the running host. Raises OSError."""
        if not self._root:
            return path
        if f"{path}/".startswith(f"{_SELF}/") and os.path.islink(f"{self._root}{_SELF}"):
            # A /proc of a running host: there, "self" would be this program.
            path = f"/proc/1{path.removeprefix(_SELF)}"
        return inside(self._root, path)

    def read(self, path: str) -> Reading[str]:
        """The whole text; binary or oversized content is malformed, never cut."""
        return parsed(self.data(path), text_of)

    def data(self, path: str) -> Reading[bytes]:
        """The whole content; a gzip file unpacked, an oversized one malformed."""
        try:
            may_be_device = bool(self._root) or not path.startswith(_NO_DEVICES)
            handle = regular_handle(self._at(path), follow=True, may_be_device=may_be_device)
            try:
                data = _read_all(handle)
            finally:
                os.close(handle)
        except NotRegularError:
            return Missing(source=path, why=Why.MALFORMED, detail="not a file")
        except OSError as error:
            return missing(path, error)
        return whole(path, data)

    def prefetch(
        self, paths: Iterable[str], *, folders: Iterable[str] = (), statuses: Iterable[str] = (),
        names: Iterable[str] = (), links: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """As `MachineFs.prefetch`."""

    def forget(self) -> None:
        """As `MachineFs.forget`."""

    def many(self, paths: Iterable[str]) -> Mapping[str, Reading[bytes]]:
        """As `MachineFs.many`."""
        return {path: self.data(path) for path in paths}

    def pieces(self, path: str, keep: tuple[str, ...], separator: str) -> Reading[tuple[str, ...]]:
        """The pieces wanted, in the order of the file; binary content matters only inside one of them."""
        return parsed(self.data(path), lambda data: pieces_of(data, keep, separator))

    def link(self, path: str) -> Reading[str]:
        """The target as the link spells it."""
        try:
            folder, _, name = path.rpartition("/")
            return Known(value=os.readlink(f"{self._at(folder)}/{name}"), source=path)
        except OSError as error:
            return missing(path, error)

    def exists(self, path: str) -> Reading[bool]:
        """True or false; a link is followed."""
        try:
            os.stat(self._at(path))
        except OSError as error:
            reading = missing(path, error)
            return Known(value=False, source=path) if reading.why is Why.ABSENT else reading
        return Known(value=True, source=path)

    def device(self, path: str) -> Reading[str]:
        """stat(2): it shows which file system is visible, also where mounts cover each other."""
        try:
            number = os.stat(self._at(path)).st_dev
        except OSError as error:
            return missing(path, error)
        return Known(value=f"{os.major(number)}:{os.minor(number)}", source=path)

    def block_device(self, path: str) -> Reading[str]:
        """MAJOR:MINOR of a block device node, or else of the file system that a path is on."""
        try:
            status = os.stat(self._at(path))
        except OSError as error:
            return missing(path, error)
        number = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
        return Known(value=f"{os.major(number)}:{os.minor(number)}", source=path)

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        """The names, sorted."""
        try:
            found = sorted(os.listdir(self._at(path)))
            kept = found if keep is None else [name for name in found if name.startswith(keep)]
            return Known(value=tuple(kept), source=path)
        except OSError as error:
            return missing(path, error)

    def folders(self, path: str) -> Reading[tuple[str, ...]]:
        """The names of the folders in a folder, sorted; links are none."""
        try:
            with os.scandir(self._at(path)) as items:
                return Known(
                    value=tuple(sorted(item.name for item in items if item.is_dir(follow_symlinks=False))), source=path
                )
        except OSError as error:
            return missing(path, error)

    def quick(self, path: str) -> Reading[bytes]:
        """The content of a file of /proc that is read often: it is known to be a regular one."""
        try:
            handle = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return Known(value=_read_all(handle)[:TEXT_MAX], source=path)
            finally:
                os.close(handle)
        except OSError as error:
            return missing(path, error)

    def identity(self, path: str) -> Reading[tuple[int, int]]:
        """Device and number of a file, the same for each name of it (stat(2))."""
        try:
            found = os.stat(self._at(path))
        except OSError as error:
            return missing(path, error)
        return Known(value=(found.st_dev, found.st_ino), source=path)

    def hold(self, path: str, device: str) -> Reading[int]:
        """A descriptor for `reread`, which the caller gives to `release`; `device` is that of its file system.

        A file of another one is malformed: something was mounted over the one that is wanted.
        """
        try:
            handle = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            return missing(path, error)
        number = os.fstat(handle).st_dev
        if f"{os.major(number)}:{os.minor(number)}" != device:
            os.close(handle)
            return Missing(source=path, why=Why.MALFORMED, detail="another file is mounted over it")
        return Known(value=handle, source=path)

    def hold_all(self, paths: Iterable[str], device: str) -> Mapping[str, Reading[int]]:
        """As `MachineFs.hold_all`."""
        return {path: self.hold(path, device) for path in paths}

    def reread(self, handle: int, path: str) -> Reading[str]:
        """The whole text of an open file, as it is now; at most a page, as of most kernel files."""
        try:
            return parsed(Known(value=os.pread(handle, _PAGE, 0), source=path), text_of)
        except OSError as error:
            return missing(path, error)

    def release(self, handle: int) -> None:
        """Closes a file that was open."""
        os.close(handle)

    def read_only(self, path: str) -> Reading[bool]:
        """ST_RDONLY of the file system."""
        try:
            return Known(value=bool(os.statvfs(self._at(path)).f_flag & os.ST_RDONLY), source=f"statvfs {path}")
        except OSError as error:
            return missing(f"statvfs {path}", error)

    def machine(self) -> Reading[str]:
        """uname(2); unknown for a tree of another host."""
        if self._root:
            return Missing(source="uname", why=Why.NOT_RECORDED, errno=errno.ENOENT)
        return Known(value=os.uname().machine, source="uname")

    def page_size(self) -> Reading[int]:
        """sysconf(3); unknown for a tree of another host."""
        if self._root:
            return Missing(source="page size", why=Why.NOT_RECORDED)
        return Known(value=os.sysconf("SC_PAGE_SIZE"), source="page size")


def inside(root: str, path: str) -> str:
    """Where `path` of the tree at `root` is, with each link taken as that tree means it (chroot(2)). Raises OSError."""
    done: list[str] = []
    left = path.split("/")[::-1]
    for _ in range(_STEPS_MAX):
        if not left:
            return "/".join([root, *done])
        part = left.pop()
        if part == "..":
            del done[-1:]
        if part in ("", ".", ".."):
            continue
        try:
            target = os.readlink("/".join([root, *done, part]))
        except OSError:
            # No link. If it is broken, opening it fails with the reason.
            done.append(part)
            continue
        done = [] if target.startswith("/") else done
        left += target.split("/")[::-1]
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _pieces_with(text: str, keep: tuple[str, ...], separator: str) -> tuple[str, ...]:
    """The pieces of `text` that contain one of `keep`, in order; a kernel config has ten thousand, so no loop over all."""
    found: dict[int, str] = {}
    for word in keep:
        at = text.find(word)
        while at >= 0:
            start = text.rfind(separator, 0, at) + 1
            end = text.find(separator, at)
            end = len(text) if end < 0 else end
            found[start] = text[start:end]
            at = text.find(word, end)
    return tuple(found[start] for start in sorted(found))


def whole(path: str, data: bytes) -> Reading[bytes]:
    """The content of a file, of which at most a byte more than is allowed was read; a gzip file unpacked."""
    if data.startswith(b"\x1f\x8b"):
        data = _unpacked(data)
    if len(data) > TEXT_MAX:
        return Missing(source=path, why=Why.MALFORMED, detail="larger than 4M")
    return Known(value=data, source=path)


def pieces_of(data: bytes, keep: tuple[str, ...], separator: str) -> tuple[str, ...]:
    """As `HostFs.pieces`, of the content of a file. Raises ValueError where one of them is no text."""
    # Any user can mount something (FUSE) whose name is not UTF-8; the other lines must stay readable.
    found = _pieces_with(data.decode("utf-8", "surrogateescape"), keep, separator)
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        raise ValueError("not text") from None
    return found


def text_of(data: bytes) -> str:
    """The content of a file as text. Raises ValueError where it is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not text") from None


def _unpacked(data: bytes) -> bytes:
    """/proc/config.gz; what cannot be unpacked stays as it is, and is then not text."""
    import zlib  # only where a file is packed

    try:
        return zlib.decompressobj(wbits=31).decompress(data, TEXT_MAX + 1)
    except zlib.error:
        return data


def _read_all(handle: int) -> bytes:
    """Up to one byte more than allowed; kernel files must be read to their end, not by size."""
    parts, total = [], 0
    while total <= TEXT_MAX:
        part = os.read(handle, 1 << 16)
        if not part:
            break
        parts.append(part)
        total += len(part)
    return b"".join(parts)
