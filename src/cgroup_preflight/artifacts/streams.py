"""Streams of bytes: read, skipped and counted; with splices put in; read by a thread.

A stream is a chain of unpacked chunks, or a range of a file that skips by seeking.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

from cgroup_preflight.artifacts.model import CHUNK, Splice, corrupt
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.host.files import Sink

if TYPE_CHECKING:
    import queue
    import threading

#: Chunks in flight; more only cost memory.
_DEPTH = 8
_TRUNCATED = "the archive ends in the middle of a member: it is truncated"


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
                raise corrupt(_TRUNCATED)
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


#: FileStream: up to how many bytes are read together with those behind them, and how many together.
_SMALL, _NEAR = 512, 8192


class FileStream:
    """`length` bytes of a file from `start`; of what is skipped at most a few blocks are read."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length = file, start, length
        self.position = 0
        #: Bytes that were read together, and the position of the first: headers of small members are near each other.
        self._near, self._near_at = b"", 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end only."""
        size = min(size, self._length - self.position)
        if size <= _SMALL:
            at = self.position - self._near_at
            if at + size > len(self._near):
                wanted = min(_NEAR, self._length - self.position)
                self._near = os.pread(self._file.fileno(), wanted, self._start + self.position)
                self._near_at, at = self.position, 0
            if at + size <= len(self._near):
                self.position += size
                return self._near[at : at + size]
        parts = []
        while size > 0 and (part := os.pread(self._file.fileno(), size, self._start + self.position)):
            parts.append(part)
            self.position += len(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Goes on by `size`. Raises ArtifactError if the stream is shorter."""
        if self.position + size > self._length:
            raise corrupt(_TRUNCATED)
        self.position += size


def take(stream: Stream, size: int) -> Iterator[bytes]:
    """The next `size` bytes in chunks. Raises ArtifactError if the stream is shorter."""
    while size:
        chunk = stream.read(min(size, CHUNK))
        if not chunk:
            raise corrupt(_TRUNCATED)
        yield chunk
        size -= len(chunk)


def read_range(source: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """The range in chunks. Raises ArtifactError if the file is short."""
    while length > 0:
        chunk = os.pread(source.fileno(), min(length, CHUNK), start)
        if not chunk:
            raise corrupt("the file is truncated")
        yield chunk
        start, length = start + len(chunk), length - len(chunk)


def read_ahead(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same chunks, read in a thread: unpacking and packing then use two processors, as in a shell's pipeline.

    What reading raises is raised here. The thread ends when this generator does.
    """
    import queue
    import threading

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


def _fill(chunks: Iterable[bytes], fifo: "queue.Queue[bytes | BaseException | None]", stop: "threading.Event") -> None:
    try:
        for chunk in chunks:
            fifo.put(chunk)
            if stop.is_set():
                return
        fifo.put(None)
    except BaseException as error:  # noqa: BLE001 - it is raised again on the other side
        fifo.put(error)


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


def copy_range(sink: Sink, source: BinaryIO, start: int, length: int) -> None:
    """A range of an artifact into the new one. Raises ArtifactError if the artifact became shorter, OSError."""
    try:
        sink.copy(source, start, length)
    except EOFError:
        raise corrupt("the artifact became shorter while it was read") from None
