"""Zip archives: the central directory is read without trust in it, local records are copied as they are.

The directory is written again around them. Source: PKWARE's APPNOTE 6.3.10.
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.model import (
    CHUNK,
    PATH_MAX,
    RATIO_FLOOR,
    Limits,
    Member,
    MemberKind,
    corrupt,
    too_large,
    unsafe,
)
from cgroup_preflight.artifacts.scan import Scan, clean_path
from cgroup_preflight.artifacts.streams import copy_range, read_range
from cgroup_preflight.artifacts.zip_records import (
    END,
    END64,
    END64_SIZE,
    END_SIZE,
    LOCAL,
    LOCAL_SIZE,
    LOCATOR64,
    LOCATOR64_SIZE,
    MAX16,
    MAX32,
    Record,
    end_records,
    moved,
    new_entry,
    parse_record,
)
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.host.files import Sink

#: About half a million entries; more would not fit in the memory that this tool allows itself.
_DIRECTORY_MAX = 64 << 20
_SIGNING_BLOCK = b"APK Sig Block 42"
_STORED, _DEFLATED = 0, 8
#: A data descriptor, with its mark and with zip64 sizes, stands between an entry and the next.
_DESCRIPTOR_MAX = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    """The records, where they begin, and the raw end records.

    `base` is what stands before the archive and is not counted in its offsets (a program that unpacks itself).
    """

    records: tuple[Record, ...]
    start: int
    base: int
    end: bytes
    end64: bytes


def _read_directory(file: BinaryIO, length: int) -> _Directory:
    """The directory of a zip file of `length` bytes. Raises ArtifactError (CGP304, CGP305)."""
    end_at, end = _find_end(file, length)
    disk, first, here, count, size, offset = struct.unpack("<4H2I", end[4:20])
    if disk not in (0, MAX16) or first not in (0, MAX16) or here != count:
        raise unsafe("the zip is one part of several", "pack it as one file")
    end64_at, end64 = _find_end64(file, end_at)
    if end64:
        count, size, offset = struct.unpack("<3Q", end64[32:56])
    elif MAX32 in (size, offset) or count == MAX16:
        raise corrupt("the zip64 end record is missing")
    start = (end64_at if end64 else end_at) - size
    base = start - offset
    if start < 0 or base < 0 or size > _DIRECTORY_MAX:
        raise corrupt("the zip directory is not where the end record says")
    data = os.pread(file.fileno(), size, start)
    records, at = [], 0
    while at < len(data):
        record = parse_record(data, at)
        records.append(record)
        at += len(record.raw)
    if len(records) != count or at != size:
        raise corrupt("the zip directory does not match its end record")
    if os.pread(file.fileno(), 16, max(start - 16, 0)) == _SIGNING_BLOCK:
        raise unsafe("the zip has a signing block that a new entry would break", "add the files before it is signed")
    return _Directory(records=tuple(records), start=start, base=base, end=end, end64=end64)


def _find_end(file: BinaryIO, length: int) -> tuple[int, bytes]:
    """The end record whose comment reaches exactly to the end of the file."""
    start = max(0, length - END_SIZE - MAX16)
    tail = os.pread(file.fileno(), length - start, start)
    at = tail.rfind(END)
    while at >= 0:
        comment = len(tail) - at - END_SIZE
        if comment >= 0 and int.from_bytes(tail[at + 20 : at + 22], "little") == comment:
            return start + at, tail[at:]
        at = tail.rfind(END, 0, at)
    raise corrupt("the zip has no end record: it is truncated, or something follows it")


def _find_end64(file: BinaryIO, end_at: int) -> tuple[int, bytes]:
    """The zip64 end record before its locator, or nothing."""
    locator_at = end_at - LOCATOR64_SIZE
    if locator_at < 0 or os.pread(file.fileno(), 4, locator_at) != LOCATOR64:
        return 0, b""
    # The record stands right before its locator; its own length tells how far back, whatever precedes the archive.
    (place,) = struct.unpack("<Q", os.pread(file.fileno(), 8, locator_at + 8))
    for at in dict.fromkeys((place, locator_at - END64_SIZE)):
        head = os.pread(file.fileno(), END64_SIZE, at) if 0 <= at < locator_at else b""
        whole = len(head) == END64_SIZE and head[:4] == END64
        if whole and at + 12 + int.from_bytes(head[4:12], "little") == locator_at:
            return at, os.pread(file.fileno(), locator_at - at, at)
    raise corrupt("the zip64 end record is not where its locator says")


class ZipFormat:
    """A zip file of `length` bytes."""

    all_folders = False
    wraps = True
    package = ""
    signatures: tuple[str, ...] = ()

    def __init__(self, file: BinaryIO, length: int, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._directory: _Directory = _read_directory(file, length)
        self._ends: dict[int, int] = {}

    def scan(self, scan: Scan) -> None:
        """Looks at every entry. Raises ArtifactError."""
        directory = self._directory
        self._check_sizes()
        for number, record in enumerate(directory.records):
            self._check_local(record)
            member = _member(record, number)
            if member.kind is MemberKind.SYMLINK:
                member = replace(member, link=self._link_target(record))
            if scan.member(member):
                scan.content(member, self._content(record))

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
        first = min(places, default=self._directory.start)
        self._check_gap(0, min(first, len(LOCAL)))

    def _check_local(self, record: Record) -> None:
        """The local record must exist, have the same name, and end before the next one. Raises ArtifactError."""
        at = record.offset + self._directory.base
        head = b"".join(read_range(self._file, at, LOCAL_SIZE)) if at >= 0 else b""
        if head[:4] != LOCAL:
            raise corrupt(f"the zip entry {record.name!r} is not where the directory says")
        flags, method = struct.unpack("<2H", head[6:10])
        if method != record.method or bool(flags & 1) != record.encrypted:
            raise unsafe(
                f"the zip entry {record.name!r} has two headers that contradict each other about how it is packed"
            )
        name_len, extra_len = struct.unpack("<2H", head[26:30])
        name = b"".join(read_range(self._file, at + LOCAL_SIZE, name_len))
        if name != record.name:
            raise unsafe(f"the zip entry {record.name!r} has the second name {name!r}")
        end = at + LOCAL_SIZE + name_len + extra_len + record.packed
        if end > self._ends[at]:
            raise unsafe(f"the zip entry {record.name!r} reaches into the next one")
        self._check_gap(end, min(self._ends[at] - end, _DESCRIPTOR_MAX + len(LOCAL)))

    def _check_gap(self, start: int, length: int) -> None:
        """Refuses an entry that only a reader from the beginning of the file finds. Raises ArtifactError."""
        if LOCAL in os.pread(self._file.fileno(), length, start):
            raise unsafe("the zip has an entry that its directory does not name", "pack it again")

    def _link_target(self, record: Record) -> str:
        if record.size > PATH_MAX:
            raise unsafe(f"the zip entry {record.name!r} is a link of {record.size} bytes, which no system follows")
        return b"".join(self._content(record)).decode("utf-8", "surrogateescape")

    def _content(self, record: Record) -> Iterator[bytes]:
        """The unpacked content, its length and checksum checked. Raises ArtifactError."""
        if record.encrypted or record.method not in (_STORED, _DEFLATED):
            how = f"packed by method {record.method}" if not record.encrypted else "encrypted"
            raise unsafe(f"the zip entry {record.name!r} is {how}", "store or deflate it")
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

    def write(self, sink: Sink, edit: Edit, scan: Scan, mtime: int) -> None:
        """Writes the edited archive: bodies first, as they are, then ours, then the directory."""
        directory, base = self._directory, self._directory.base
        new = {found.member.start: file for found, file in edit.replaced}
        gone = new.keys() | {found.member.start for found in edit.dropped}
        shifts = self._copy_bodies(sink, gone)
        dot = "./" if scan.dotted else ""
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
                copy_range(sink, self._file, position, place - position)
                position = self._ends[place]
                shift += position - place
        copy_range(sink, self._file, position, directory.start - position)
        return shifts


def _member(record: Record, number: int) -> Member:
    """The entry as a member. Raises ArtifactError for odd names and kinds."""
    raw = record.name
    if not record.utf8 and not raw.isascii():
        raise unsafe(f"the zip entry {raw!r} does not say how its name is encoded", "pack it again with UTF-8 names")
    if b"\\" in raw:
        raise unsafe(f"the zip entry {raw!r} has a backslash, which Windows takes for a folder")
    path = clean_path(raw, "zip entry")
    kind = MemberKind.FOLDER if raw.endswith(b"/") else MemberKind.FILE
    kinds = {stat.S_IFLNK: MemberKind.SYMLINK, stat.S_IFCHR: MemberKind.DEVICE, stat.S_IFBLK: MemberKind.DEVICE, stat.S_IFIFO: MemberKind.OTHER,
             stat.S_IFSOCK: MemberKind.OTHER}  # fmt: skip
    kind = kinds.get(stat.S_IFMT(record.mode), kind)
    if not path and kind is not MemberKind.FOLDER:
        raise unsafe("a zip entry without a name")
    return Member(path=path, raw_name=raw.decode(), kind=kind, size=record.size, mtime=record.mtime, start=number,
                  executable=bool(record.mode & 0o111) or not record.mode)  # fmt: skip


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
