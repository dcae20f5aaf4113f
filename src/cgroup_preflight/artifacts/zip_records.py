"""Records of a zip file: read with their raw bytes, and made. Pure. Source: PKWARE's APPNOTE 6.3.10."""

import struct
import time
import zlib

from cgroup_preflight.artifacts.model import MODE_FILE, MODE_FOLDER, corrupt, unsafe
from cgroup_preflight.core.records import dataclass

LOCAL, CENTRAL, END, END64, LOCATOR64 = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
LOCAL_SIZE, CENTRAL_SIZE, END_SIZE, END64_SIZE, LOCATOR64_SIZE = 30, 46, 22, 56, 20
MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_UTF8 = 0x800
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_UNIX = 3
_STORED_VERSION, _ZIP64_VERSION = 20, 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A central record; `raw` are its bytes, `offset_at` where in them the offset stands, 4 or 8 bytes wide."""

    raw: bytes
    name: bytes
    utf8: bool
    method: int
    encrypted: bool
    crc: int
    packed: int
    size: int
    offset: int
    offset_at: int
    offset_width: int
    mode: int
    mtime: int


def parse_record(data: bytes, at: int) -> Record:
    """The central record at `at`. Raises ArtifactError."""
    if len(data) < at + CENTRAL_SIZE or data[at : at + 4] != CENTRAL:
        raise corrupt("the zip directory is damaged")
    (_, made, _, flags, method, clock, day, crc, packed, size, name_len, extra_len, note_len, disk, _, attributes,
     offset) = _CENTRAL.unpack_from(data, at)  # fmt: skip
    end = at + CENTRAL_SIZE + name_len + extra_len + note_len
    if end > len(data):
        raise corrupt("the zip directory is damaged")
    name = data[at + CENTRAL_SIZE : at + CENTRAL_SIZE + name_len]
    values, offset_at, width = {"size": size, "packed": packed, "offset": offset}, 42, 4
    extra_at = CENTRAL_SIZE + name_len
    for tag, start, length in _extras(data, at + extra_at, extra_len):
        if tag == _UNICODE_PATH and data[start + 5 : start + length] != name:
            raise unsafe(f"the zip entry {name!r} has a second name")
        if tag == _ZIP64:
            position = start
            for key in ("size", "packed", "offset"):
                if values[key] != MAX32:
                    continue
                if position + 8 > start + length:
                    raise corrupt("a zip64 field is too short")
                values[key] = int.from_bytes(data[position : position + 8], "little")
                if key == "offset":
                    offset_at, width = position - at, 8
                position += 8
    if disk not in (0, MAX16):
        raise unsafe("the zip is one part of several", "pack it as one file")
    return Record(
        raw=data[at:end], name=name, utf8=bool(flags & _UTF8), method=method, encrypted=bool(flags & 1), crc=crc,
        packed=values["packed"], size=values["size"], offset=values["offset"], offset_at=offset_at, offset_width=width,
        mode=attributes >> 16 if made >> 8 == _UNIX else 0, mtime=_from_dos(day, clock),
    )  # fmt: skip


def _extras(data: bytes, at: int, length: int) -> list[tuple[int, int, int]]:
    """Tag, start and length of each extra field; zipalign's padding at the end is none."""
    found, end = [], at + length
    while at + 4 <= end:
        tag, size = struct.unpack_from("<2H", data, at)
        if at + 4 + size > end:
            break
        found.append((tag, at + 4, size))
        at += 4 + size
    return found


def moved(record: Record, by: int) -> bytes:
    """The raw record with its offset lowered by `by`, all else as it was."""
    if not by:
        return record.raw
    place = slice(record.offset_at, record.offset_at + record.offset_width)
    raw = bytearray(record.raw)
    raw[place] = (int.from_bytes(raw[place], "little") - by).to_bytes(record.offset_width, "little")
    return bytes(raw)


def new_entry(path: str, data: bytes | None, offset: int, mtime: int) -> tuple[bytes, bytes]:
    """Local and central record of a file of ours, or with None of a folder.

    Stored, not deflated: the bytes then depend on no version of zlib.
    """
    name = (path if data is not None else f"{path}/").encode()
    body = data or b""
    day, clock = _to_dos(mtime)
    mode = (0o100000 | MODE_FILE) if data is not None else (0o040000 | MODE_FOLDER)
    attributes = mode << 16 | (0x10 if data is None else 0)
    large = offset >= MAX32
    version = _ZIP64_VERSION if large else _STORED_VERSION
    extra = struct.pack("<2HQ", _ZIP64, 8, offset) if large else b""
    common = (0, 0, clock, day, zlib.crc32(body), len(body), len(body), len(name))
    local = struct.pack("<4s5H3I2H", LOCAL, _STORED_VERSION, *common, 0) + name + body
    central = _CENTRAL.pack(CENTRAL, _UNIX << 8 | version, version, *common, len(extra), 0, 0, 0, attributes,
                            MAX32 if large else offset)  # fmt: skip
    return local, central + name + extra


def end_records(old64: bytes, old: bytes, count: int, size: int, offset: int, end64_at: int) -> bytes:
    """The end of the directory with new numbers; comment and zip64 extension as they were.

    zip64 records are written where they were, and where the numbers need them.
    """
    parts = []
    if old64 or count >= MAX16 or size >= MAX32 or offset >= MAX32:
        base = old64 or struct.pack("<4sQ2H2I4Q", END64, END64_SIZE - 12, 45, 45, 0, 0, 0, 0, 0, 0)
        parts.append(base[:24] + struct.pack("<4Q", count, count, size, offset) + base[END64_SIZE:])
        parts.append(struct.pack("<4sIQI", LOCATOR64, 0, end64_at, 1))
    numbers = struct.pack("<2H2I", min(count, MAX16), min(count, MAX16), min(size, MAX32), min(offset, MAX32))
    return b"".join([*parts, old[:8], numbers, old[20:]])


def _to_dos(mtime: int) -> tuple[int, int]:
    """UTC, so that no time zone shows; zip knows 1980 to 2107 only."""
    year, month, day, hour, minute, second, *_ = time.gmtime(min(max(mtime, 315532800), 4354819198))
    return (year - 1980) << 9 | month << 5 | day, hour << 11 | minute << 5 | second // 2


def _from_dos(day: int, clock: int) -> int:
    import calendar

    date, hour = ((day >> 9) + 1980, day >> 5 & 15, day & 31), (clock >> 11, clock >> 5 & 63, clock % 32 * 2)
    try:
        return calendar.timegm((*date, *hour))
    except ValueError:
        return 0
