"""A stream that is read, skipped and counted: unpacked chunks, or a range of a file that skips by seeking."""

import os
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from cgroup_preflight.artifacts.errors import corrupt
from cgroup_preflight.artifacts.model import CHUNK


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
