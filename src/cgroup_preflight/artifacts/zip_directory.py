"""Finds and reads the central directory of a zip file without trusting it."""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from cgroup_preflight.artifacts.errors import corrupt, unsafe
from cgroup_preflight.artifacts.zip_records import (
    END,
    END64,
    END64_SIZE,
    END_SIZE,
    LOCATOR64,
    LOCATOR64_SIZE,
    MAX16,
    MAX32,
    Record,
    parse_record,
)

#: About half a million entries; more would not fit in the memory that this tool allows itself.
_DIRECTORY_MAX = 64 << 20
_SIGNING_BLOCK = b"APK Sig Block 42"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The records, where they begin, and the raw end records.

    `base` is what stands before the archive and is not counted in its offsets (a program that unpacks itself).
    """

    records: tuple[Record, ...]
    start: int
    base: int
    end: bytes
    end64: bytes


def read_directory(file: BinaryIO, length: int) -> Directory:
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
        raise corrupt("the zip directory does not hold what its end record says")
    if os.pread(file.fileno(), 16, max(start - 16, 0)) == _SIGNING_BLOCK:
        raise unsafe("the zip has a signing block that a new entry would break", "put the files in before it is signed")
    return Directory(records=tuple(records), start=start, base=base, end=end, end64=end64)


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
