"""A stream that is read, skipped and counted: unpacked chunks, or a range of a file that skips by seeking.

What the head of a compressed stream tells of how it was made: enough to write it again the same way. Pure.

Sources: RFC 1952 (gzip), the .xz file format 1.1, RFC 8878 (zstd), the LZMA SDK (lzma), dpkg's deb(5).

Applies splices to a stream or to a file; everything between them goes through as it is.

Runs the reading half of a pipeline in a thread: unpacking and packing then use two processors, as in a shell.
"""

import lzma
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

from cgroup_preflight.artifacts.model import CHUNK, Splice, corrupt
from cgroup_preflight.host.files import Sink


class Stream(Protocol):
    """`position` counts from the beginning of the stream."""

    position: int

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end only."""

    def skip(self, size: int) -> None:
        """Goes on by `size`. Raises ArtifactError if the stream is shorter."""


class ChunkStream:
    """A stream of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end only."""
        parts = []
        while size:
            part = self._some(size)
            if not part:
                break
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Goes on by `size`. Raises ArtifactError if the stream is shorter."""
        while size:
            part = self._some(size)
            if not part:
                raise corrupt("the archive ends in the middle of a member: it is truncated")
            size -= len(part)

    def _some(self, size: int) -> memoryview:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return self._rest
            self._rest = memoryview(chunk)
        part, self._rest = self._rest[:size], self._rest[size:]
        self.position += len(part)
        return part


class FileStream:
    """`length` bytes of a file from `start`; what is skipped is never read."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length = file, start, length
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end only."""
        size = min(size, self._length - self.position)
        parts = []
        while size > 0 and (part := os.pread(self._file.fileno(), size, self._start + self.position)):
            parts.append(part)
            self.position += len(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Goes on by `size`. Raises ArtifactError if the stream is shorter."""
        if self.position + size > self._length:
            raise corrupt("the archive ends in the middle of a member: it is truncated")
        self.position += size


def take(stream: Stream, size: int) -> Iterator[bytes]:
    """The next `size` bytes in chunks. Raises ArtifactError if the stream is shorter."""
    while size:
        chunk = stream.read(min(size, CHUNK))
        if not chunk:
            raise corrupt("the archive ends in the middle of a member: it is truncated")
        yield chunk
        size -= len(chunk)


MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
#: A head this long holds every field; gzip's file name and comment have no limit of their own.
HEAD = 1 << 16
_FEXTRA, _FNAME, _FCOMMENT, _FHCRC = 4, 8, 16, 2
_PRESETS = {1 << 18: 0, 1 << 20: 1, 1 << 21: 2, 1 << 22: 4, 1 << 23: 6, 1 << 24: 7, 1 << 25: 8, 1 << 26: 9}
#: zstd's window when the size is not known in advance to the level that has it (clevels.h); dpkg-deb uses 19.
_ZSTD_LEVELS = {19: 1, 20: 2, 21: 3, 22: 12, 23: 19}


def codec_of(head: bytes) -> str:
    """The codec by magic number; empty if it is none of them. `lzma` has no magic: only a name can tell it."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def gzip_header(head: bytes) -> bytes:
    """The header of the first member as it is. Raises IndexError if it is cut or longer than HEAD."""
    flags, end = head[3], 10
    if flags & _FEXTRA:
        end += 2 + int.from_bytes(head[end : end + 2], "little")
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            end = _after_zero(head, end)
    if flags & _FHCRC:
        end += 2
    if end > len(head):
        raise IndexError(end)
    return head[:end]


def _after_zero(head: bytes, start: int) -> int:
    zero = head.find(0, start)
    if zero < 0:
        raise IndexError(start)
    return zero + 1


def gzip_level(header: bytes) -> int:
    """The level by XFL, as gzip, zlib and Go set it: 2 for the best, 4 for the fastest, else the default."""
    return {2: 9, 4: 1}.get(header[8], 6)


def bzip2_level(head: bytes) -> int:
    """The block size digit, 1 to 9."""
    level = head[3] - ord("0")
    return level if 1 <= level <= 9 else 9


def lzma_filters(head: bytes) -> list[dict[str, Any]]:
    """The filter of a .lzma file: the preset that has its dictionary."""
    size = int.from_bytes(head[1:5], "little")
    return [{"id": lzma.FILTER_LZMA1, "preset": _preset(size), "dict_size": max(size, 4096)}]


def xz_settings(head: bytes) -> tuple[int, list[dict[str, Any]] | None]:
    """Integrity check and filter chain of the first block; None for the default chain."""
    check, position = head[7] & 0x0F, 12
    if head[position] == 0:
        return check, None
    flags, position = head[position + 1], position + 2
    for flag in (0x40, 0x80):
        if flags & flag:
            _, position = _vli(head, position)
    chain: list[dict[str, Any]] = []
    for _ in range((flags & 3) + 1):
        number, position = _vli(head, position)
        length, position = _vli(head, position)
        properties, position = head[position : position + length], position + length
        chain.append(_filter(number, properties))
    return check, chain


def _filter(number: int, properties: bytes) -> dict[str, Any]:
    if number == lzma.FILTER_LZMA2:
        bits = properties[0]
        size = (2 | (bits & 1)) << (bits // 2 + 11) if bits < 40 else 0xFFFFFFFF
        return {"id": number, "preset": _preset(size), "dict_size": min(size, 1 << 26)}
    if number == lzma.FILTER_DELTA:
        return {"id": number, "dist": properties[0] + 1}
    return {"id": number}


def _vli(head: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 63, 7):
        byte, position = head[position], position + 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
    return value, position


def _preset(size: int) -> int:
    return _PRESETS.get(size, 6)


def zstd_settings(head: bytes) -> tuple[int, bool]:
    """Level, by the window, and whether there is a checksum; level 3, zstd's own, where the window tells nothing."""
    descriptor = head[4]
    checksum = bool(descriptor & 4)
    if descriptor & 0x20:
        return 3, checksum
    window = 10 + (head[5] >> 3)
    return _ZSTD_LEVELS.get(window, 19 if window > 23 else 3), checksum


def spliced(chunks: Iterable[bytes], splices: Sequence[Splice]) -> Iterator[bytes]:
    """`chunks` with `splices`, which are in order and do not overlap. Raises ArtifactError if the stream is short."""
    position, pending, gone = 0, list(splices), 0
    for chunk in chunks:
        view, end = memoryview(chunk), position + len(chunk)
        while pending and pending[0].offset <= end:
            first = pending.pop(0)
            if first.offset > position:
                yield bytes(view[: first.offset - position])
                view, position = view[first.offset - position :], first.offset
            yield first.data
            gone += first.remove
            cut = min(gone, len(view))
            view, position, gone = view[cut:], position + cut, gone - cut
        cut = min(gone, len(view))
        view, gone = view[cut:], gone - cut
        if view:
            yield bytes(view)
        position = end
    if gone or any(item.offset != position or item.remove for item in pending):
        raise corrupt("the artifact became shorter while it was read")
    yield from (item.data for item in pending)


def copy_spliced(source: BinaryIO, sink: Sink, start: int, length: int, splices: Sequence[Splice]) -> None:
    """Copies `length` bytes of `source` from `start`, with `splices` (offsets from `start`).

    What stays goes from file to file in the kernel.
    """
    position = 0
    for item in splices:
        copy_range(sink, source, start + position, item.offset - position)
        sink.write(item.data)
        position = item.offset + item.remove
    copy_range(sink, source, start + position, length - position)


def read_range(source: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """The range in chunks. Raises ArtifactError if the file is short."""
    while length > 0:
        chunk = os.pread(source.fileno(), min(length, CHUNK), start)
        if not chunk:
            raise corrupt("the file ends too early")
        yield chunk
        start, length = start + len(chunk), length - len(chunk)


#: Chunks in flight; more only cost memory.
_DEPTH = 8


def read_ahead(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same chunks; what they raise is raised here. The thread ends when this generator does."""
    fifo: queue.Queue[bytes | BaseException | None] = queue.Queue(_DEPTH)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(chunks, fifo, stop), daemon=True)
    thread.start()
    try:
        while (item := fifo.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while thread.is_alive():
            try:
                fifo.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()


def _fill(chunks: Iterable[bytes], fifo: "queue.Queue[bytes | BaseException | None]", stop: threading.Event) -> None:
    try:
        for chunk in chunks:
            fifo.put(chunk)
            if stop.is_set():
                return
        fifo.put(None)
    except BaseException as error:  # noqa: BLE001 - it is raised again on the other side
        fifo.put(error)


def copy_range(sink: Sink, source: BinaryIO, start: int, length: int) -> None:
    """A range of an artifact into the new one. Raises ArtifactError if the artifact became shorter, OSError."""
    try:
        sink.copy(source, start, length)
    except EOFError:
        raise corrupt("the artifact became shorter while it was read") from None
