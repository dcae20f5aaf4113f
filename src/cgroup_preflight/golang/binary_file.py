"""One open binary file: bounded reads at an offset, and the only error that hostile content can cause.

Reads are `pread`, not mmap: a file that a build truncates meanwhile gives a short read, while a mapping of it
would end this process with SIGBUS.

The address map of a program file: which bytes of the file land at which address of the process.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cgroup_preflight.core.records import dataclass

#: No single read may be larger, bytes; the largest real build info seen is below 1 MiB (golang/go#61644).
_MAX_READ = 16 << 20
#: The headers of a program file are together, and so are the parts of its build info; bytes.
_NEAR = 4096


class BinaryError(Exception):
    """A file that cannot be opened or whose content contradicts its format; the text is for people.

    `reason` is one line without the path: the caller knows how the user named the file.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Image(Protocol):
    """Random access to the bytes of one file; `size` in bytes."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`.

        Raises:
            BinaryError: they are not all inside the file, or more than _MAX_READ.

        """


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesImage:
    """An image in memory, for content that is not a file of its own."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        return self.data[offset : offset + length]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubImage:
    """A part of another image, as the architectures of a universal Mach-O file are."""

    whole: Image
    start: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        return self.whole.read(self.start + offset, length)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileImage:
    """An image behind a file descriptor, which the caller owns."""

    descriptor: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        check_range(self.size, offset, length)
        try:
            data = os.pread(self.descriptor, length, offset)
        except OSError as error:
            raise BinaryError(f"cannot be read: {error.strerror}") from error
        if len(data) != length:
            raise BinaryError("was truncated while it was read")
        return data


class NearImage:
    """An image of which each read costs a lot: what follows a part is read with it, and the next reads are near it."""

    def __init__(self, whole: Image) -> None:
        self._whole, self.size = whole, whole.size
        self._start, self._data = 0, b""

    def read(self, offset: int, length: int) -> bytes:
        """As `Image.read`."""
        check_range(self.size, offset, length)
        if not self._start <= offset <= offset + length <= self._start + len(self._data):
            self._data = self._whole.read(offset, max(length, min(_NEAR, self.size - offset)))
            self._start = offset
        return self._data[offset - self._start : offset - self._start + length]


def check_range(size: int, offset: int, length: int) -> None:
    """Refuse a range that is not wholly inside `size` bytes, or longer than _MAX_READ.

    Raises:
        BinaryError: as said.

    """
    if offset < 0 or length < 0 or offset + length > size:
        raise BinaryError(f"is truncated or damaged: {length} bytes at offset {offset} of {size}")
    if length > _MAX_READ:
        raise BinaryError(f"is damaged: it claims a part of {length} bytes")


@contextmanager
def open_image(path: Path) -> Iterator[FileImage]:
    """Open a regular file (links are followed) without waiting for a FIFO or waking a device.

    Raises:
        BinaryError: no such file, no permission, or not a regular file.

    """
    try:
        # Before open(): opening some devices (watchdog, tape) has effects of its own.
        _require_regular(path.stat().st_mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BinaryError(f"cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise BinaryError(f"cannot be opened: {error}") from error
    try:
        status = os.fstat(descriptor)
        _require_regular(status.st_mode)  # again: it may have been replaced in between
        yield FileImage(descriptor=descriptor, size=status.st_size)
    finally:
        os.close(descriptor)


def _require_regular(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    raise BinaryError(f"is {kinds.get(stat.S_IFMT(mode), 'not a file')}, not a regular file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """`size` bytes that the file holds at `offset` and the process sees at `address`."""

    address: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a format module found: all mapped regions, and those where build info may be, likeliest first."""

    image: Image
    mapped: tuple[Region, ...]
    candidates: tuple[Region, ...]

    def read(self, address: int, length: int) -> bytes:
        """Exactly `length` bytes at `address`, all from one region.

        Raises:
            BinaryError: no region holds them all, or the file is shorter than its headers say.

        """
        for region in self._at(address):
            if address + length <= region.address + region.size:
                return self.image.read(region.offset + address - region.address, length)
        raise BinaryError(f"is damaged: its headers map no {length} bytes at address {address:#x}")

    def read_up_to(self, address: int, length: int) -> bytes:
        """At most `length` bytes at `address`; fewer at the end of the region.

        Raises:
            BinaryError: no region holds the address.

        """
        for region in self._at(address):
            return self.read(address, min(length, region.address + region.size - address))
        raise BinaryError(f"is damaged: its headers map nothing at address {address:#x}")

    def _at(self, address: int) -> Iterator[Region]:
        return (part for part in self.mapped if part.address <= address < part.address + part.size)


def clip_region(region: Region, image: Image) -> Region | None:
    """The part of a region that the file really holds; None if that is nothing.

    A truncated file keeps the build info that precedes the cut.
    """
    size = min(region.size, image.size - region.offset)
    if size <= 0:
        return None
    return Region(address=region.address, offset=region.offset, size=size)
