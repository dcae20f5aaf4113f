"""Applies splices to a stream or to a file; everything between them goes through as it is."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from cgroup_preflight.artifacts.errors import corrupt
from cgroup_preflight.artifacts.model import CHUNK, Splice
from cgroup_preflight.host.files import Sink


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
        sink.copy(source, start + position, item.offset - position)
        sink.write(item.data)
        position = item.offset + item.remove
    sink.copy(source, start + position, length - position)


def read_range(source: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """The range in chunks. Raises ArtifactError if the file is short."""
    while length > 0:
        chunk = os.pread(source.fileno(), min(length, CHUNK), start)
        if not chunk:
            raise corrupt("the file ends too early")
        yield chunk
        start, length = start + len(chunk), length - len(chunk)
