"""Makes an ELF program of a newer Debian run on an older one: with the loader and the libraries of a folder.

The kernel starts the program that PT_INTERP names; its text may be anywhere in the file (elf(5); linux, fs/binfmt_elf.c).
The loader looks for libraries in DT_RUNPATH, where `$ORIGIN` is the folder of the program (ld.so(8)).
"""

import struct
from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
#: elf(5): Elf64_Ehdr from e_phoff on, Elf64_Phdr, Elf64_Dyn.
_TABLE, _SEGMENT, _ENTRY = struct.Struct("<Q14xHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<QQ")
_TABLE_AT = 32
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_END, _STRINGS, _RUNPATH = 0, 5, 29
_ORIGIN = b"$ORIGIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """A program header: `at` is its place in the file, `offset` and `size` are those of its content."""

    at: int
    kind: int
    offset: int
    address: int
    size: int


def with_interpreter(program: bytes, interpreter: str) -> bytes:
    """The program that the kernel starts by the loader `interpreter`, and that finds libraries in its own folder.

    Raises ValueError for what has no loader, or no DT_RUNPATH that is long enough to be replaced in its place.
    """
    try:
        made = bytearray(program)
        segments = tuple(_segments(program))
        place = _only(segments, _INTERPRETER)
        _write_runpath(made, segments)
        text = interpreter.encode() + b"\0"
        kind, flags, _, virtual, physical, _, _, align = _SEGMENT.unpack_from(program, place.at)
        _SEGMENT.pack_into(made, place.at, kind, flags, len(made), virtual, physical, len(text), len(text), align)
    except (struct.error, OverflowError) as error:  # the second for an offset that no file can have
        raise ValueError(f"no whole ELF program: {error}") from None
    return bytes(made) + text


def _segments(program: bytes) -> Iterator[_Segment]:
    if not program.startswith(_MAGIC):
        raise ValueError("no ELF program of 64 bits")
    table, entry, count = _TABLE.unpack_from(program, _TABLE_AT)
    for at in range(table, table + entry * count, entry):
        kind, _, offset, address, _, size, _, _ = _SEGMENT.unpack_from(program, at)
        yield _Segment(at=at, kind=kind, offset=offset, address=address, size=size)


def _only(segments: tuple[_Segment, ...], kind: int) -> _Segment:
    found = [item for item in segments if item.kind == kind]
    if len(found) != 1:
        raise ValueError(f"{len(found)} segments of kind {kind}")
    return found[0]


def _write_runpath(made: bytearray, segments: tuple[_Segment, ...]) -> None:
    dynamic = _only(segments, _DYNAMIC)
    tags: dict[int, int] = {}
    for at in range(dynamic.offset, dynamic.offset + dynamic.size, _ENTRY.size):
        tag, value = _ENTRY.unpack_from(made, at)
        if tag == _END:
            break
        tags[tag] = value
    if _STRINGS not in tags or _RUNPATH not in tags:
        raise ValueError("no DT_RUNPATH")
    strings = tags[_STRINGS]
    for item in segments:
        if item.kind == _LOAD and item.address <= strings < item.address + item.size:
            start = item.offset + strings - item.address + tags[_RUNPATH]
            end = made.index(b"\0", start)
            if end - start < len(_ORIGIN):
                raise ValueError(f"DT_RUNPATH has only {end - start} bytes")
            made[start:end] = _ORIGIN.ljust(end - start, b"\0")
            return
    raise ValueError("no segment has the strings of the dynamic section")
