"""Zip archives: local records are copied as they are, the directory is written again around them."""

import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.errors import corrupt, too_large, unsafe
from cgroup_preflight.artifacts.model import CHUNK, RATIO_FLOOR, Kind, Limits, Member
from cgroup_preflight.artifacts.sink import Sink
from cgroup_preflight.artifacts.splice import read_range
from cgroup_preflight.artifacts.survey import Survey, clean_path
from cgroup_preflight.artifacts.zip_directory import Directory, read_directory
from cgroup_preflight.artifacts.zip_records import LOCAL, LOCAL_SIZE, Record, end_records, moved, new_entry

_STORED, _DEFLATED = 0, 8


class ZipFormat:
    """A zip file of `length` bytes."""

    all_folders = False

    def __init__(self, file: BinaryIO, length: int, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._directory: Directory = read_directory(file, length)
        self._ends: dict[int, int] = {}

    def survey(self, survey: Survey) -> None:
        """Looks at every entry. Raises ArtifactError."""
        directory = self._directory
        self._check_sizes()
        for number, record in enumerate(directory.records):
            self._check_local(record)
            member = _member(record, number)
            if survey.member(member):
                if record.encrypted or record.method not in (_STORED, _DEFLATED):
                    how = f"packed by method {record.method}" if not record.encrypted else "encrypted"
                    raise unsafe(f"{member.path!r} is {how}", "store or deflate it")
                survey.content(member, self._content(record))

    def _check_sizes(self) -> None:
        """Refuses entries that overlap (one body, counted often: a bomb) and totals that no build reaches."""
        records, base = self._directory.records, self._directory.base
        total, packed = sum(item.size for item in records), sum(item.packed for item in records)
        if total > RATIO_FLOOR and total > self._limits.ratio * max(packed, 1):
            raise too_large(f"unpacks to more than {self._limits.ratio} times its size, as bombs do", "--max-ratio")
        places = sorted(item.offset + base for item in records)
        self._ends = dict(zip(places, [*places, self._directory.start][1:], strict=True))
        if len(self._ends) != len(places):
            raise unsafe("two zip entries share one body")

    def _check_local(self, record: Record) -> None:
        """The local record must be there, tell the same name, and fit before the next one. Raises ArtifactError."""
        at = record.offset + self._directory.base
        head = b"".join(read_range(self._file, at, LOCAL_SIZE)) if at >= 0 else b""
        if head[:4] != LOCAL:
            raise corrupt(f"the zip entry {record.name!r} is not where the directory says")
        name_len, extra_len = struct.unpack("<2H", head[26:30])
        name = b"".join(read_range(self._file, at + LOCAL_SIZE, name_len))
        if name != record.name:
            raise unsafe(f"the zip entry {record.name!r} has the second name {name!r}")
        if at + LOCAL_SIZE + name_len + extra_len + record.packed > self._ends[at]:
            raise unsafe(f"the zip entry {record.name!r} reaches into the next one")

    def _content(self, record: Record) -> Iterator[bytes]:
        """The unpacked content, its length and checksum checked. Raises ArtifactError."""
        at = record.offset + self._directory.base
        head = b"".join(read_range(self._file, at, LOCAL_SIZE))
        name_len, extra_len = struct.unpack("<2H", head[26:30])
        blocks = read_range(self._file, at + LOCAL_SIZE + name_len + extra_len, record.packed)
        crc, size = 0, 0
        for chunk in _inflated(blocks) if record.method == _DEFLATED else blocks:
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            if size > record.size:
                break
            yield chunk
        if (crc, size) != (record.crc, record.size):
            raise corrupt(f"the zip entry {record.name!r} is damaged")

    def write(self, sink: Sink, edit: Edit, survey: Survey, mtime: int) -> None:
        """Writes the edited archive: bodies first, as they are, then ours, then the directory."""
        directory, base = self._directory, self._directory.base
        new = {found.member.start: file for found, file in edit.replaced}
        gone = new.keys() | {found.member.start for found in edit.dropped}
        shifts = self._copy_bodies(sink, gone)
        dot = "./" if survey.dotted else ""
        for_old = {number: self._put(sink, dot + file.path, file.data, mtime) for number, file in new.items()}
        records = [
            for_old[number] if number in for_old else moved(record, shifts[record.offset + base])
            for number, record in enumerate(directory.records)
            if number in for_old or number not in gone
        ]
        records += [self._put(sink, dot + path, None, mtime) for path in edit.folders]
        records += [self._put(sink, dot + file.path, file.data, mtime) for file in edit.added]
        start = sink.tell()
        for record in records:
            sink.write(record)
        end = sink.tell()
        sink.write(end_records(directory.end64, directory.end, len(records), end - start, start - base, end - base))

    def _put(self, sink: Sink, path: str, data: bytes | None, mtime: int) -> bytes:
        """Writes a local record of ours; its central record."""
        local, central = new_entry(path, data, sink.tell() - self._directory.base, mtime)
        sink.write(local)
        return central

    def _copy_bodies(self, sink: Sink, gone: set[int]) -> dict[int, int]:
        """Copies all that stands before the directory without the bodies in `gone`; by how much each one moved."""
        directory, base = self._directory, self._directory.base
        left_out = {directory.records[number].offset + base for number in gone}
        shifts, shift, position = {}, 0, 0
        for place in sorted(self._ends):
            shifts[place] = shift
            if place in left_out:
                sink.copy(self._file, position, place - position)
                position = self._ends[place]
                shift += position - place
        sink.copy(self._file, position, directory.start - position)
        return shifts


def _member(record: Record, number: int) -> Member:
    """The entry as a member. Raises ArtifactError for odd names and kinds."""
    raw = record.name
    if not record.utf8 and not raw.isascii():
        raise unsafe(f"the zip entry {raw!r} does not say how its name is encoded", "pack it anew with UTF-8 names")
    if b"\\" in raw:
        raise unsafe(f"the zip entry {raw!r} has a backslash, which Windows takes for a folder")
    path = clean_path(raw, "zip entry")
    kind = Kind.FOLDER if raw.endswith(b"/") else Kind.FILE
    kinds = {stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.DEVICE, stat.S_IFBLK: Kind.DEVICE, stat.S_IFIFO: Kind.OTHER,
             stat.S_IFSOCK: Kind.OTHER}  # fmt: skip
    kind = kinds.get(stat.S_IFMT(record.mode), kind)
    if not path and kind is not Kind.FOLDER:
        raise unsafe("a zip entry without a name")
    return Member(path=path, raw_name=raw.decode(), kind=kind, size=record.size, mtime=record.mtime, start=number)


def _inflated(blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for block in blocks:
            while block:
                yield decoder.decompress(block, CHUNK)
                block = decoder.unconsumed_tail
        while chunk := decoder.decompress(b"", CHUNK):
            yield chunk
    except zlib.error as error:
        raise corrupt(f"a zip entry is damaged: {error}") from None
