"""Tar archives, plain or compressed."""

from collections.abc import Iterator
from typing import BinaryIO

from cgroup_preflight.artifacts.ahead import ahead
from cgroup_preflight.artifacts.codecs import decoded, encoder_like
from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.model import Limits, Splice
from cgroup_preflight.artifacts.splice import copy_spliced, read_range, spliced
from cgroup_preflight.artifacts.stream import ChunkStream, FileStream, Stream
from cgroup_preflight.artifacts.stream_heads import HEAD
from cgroup_preflight.artifacts.survey import Survey
from cgroup_preflight.artifacts.tar_edit import tar_splices
from cgroup_preflight.artifacts.tar_walk import Ending, survey_tar
from cgroup_preflight.host.files import Sink


class TarPart:
    """A tar archive that fills `length` bytes of `file` from `start`, packed by `codec` (empty: not packed)."""

    all_folders = False
    package = ""
    signatures: tuple[str, ...] = ()

    def __init__(self, file: BinaryIO, start: int, length: int, codec: str, limits: Limits) -> None:
        self._file, self._start, self._length, self._limits = file, start, length, limits
        self.codec = codec
        self._ending = Ending(marker=0, total=0)

    def stream(self) -> Stream:
        """The unpacked stream from its beginning."""
        if not self.codec:
            return FileStream(self._file, self._start, self._length)
        return ChunkStream(self._unpacked())

    def survey(self, survey: Survey) -> None:
        """Looks at every member. Raises ArtifactError."""
        self._ending = survey_tar(self.stream(), survey)

    def write(self, sink: Sink, edit: Edit, survey: Survey, mtime: int) -> None:
        """Writes the edited archive."""
        self.write_spliced(sink, tar_splices(edit, survey, self._ending, mtime))

    def write_spliced(self, sink: Sink, splices: tuple[Splice, ...]) -> None:
        """Writes the archive with `splices` (offsets of the unpacked stream), packed as it was."""
        if not self.codec:
            copy_spliced(self._file, sink, self._start, self._length, splices)
            return
        head = b"".join(read_range(self._file, self._start, min(self._length, HEAD)))
        encoder = encoder_like(self.codec, head)
        for chunk in ahead(spliced(self._unpacked(), splices)):
            sink.write(encoder.compress(chunk))
        sink.write(encoder.flush())

    def _unpacked(self) -> Iterator[bytes]:
        return decoded(self.codec, read_range(self._file, self._start, self._length), self._limits)
