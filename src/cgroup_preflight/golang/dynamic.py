"""What an ELF program needs from other files when it starts: its loader and its shared libraries.

Source: the System V gABI, chapter 5, "Dynamic Section" and "Program Interpreter".
"""

import struct

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.binary_file import BinaryError, Image
from cgroup_preflight.golang.elf import PT_INTERP, PT_LOAD, ElfHeader, Segment, read_header, read_segments

_PT_DYNAMIC = 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5
_EM_X86_64 = 62
#: Larger tables and longer names are taken for damage; bytes.
_MAX_TABLE = 1 << 20
_MAX_NAME = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """`loader` is the path of the program interpreter, empty without one; `libraries` are the names of DT_NEEDED."""

    loader: str = ""
    libraries: tuple[str, ...] = ()


def needs(image: Image) -> Needs:
    """What the 64-bit x86 program or library in `image` needs; nothing for an ELF file of another machine.

    Raises:
        BinaryError: a table that the loader reads is damaged.

    """
    header = read_header(image)
    if header.bits != 64 or header.machine != _EM_X86_64:
        return Needs()
    segments = read_segments(image, header)
    loader = [segment for segment in segments if segment.type == PT_INTERP]
    dynamic = [segment for segment in segments if segment.type == _PT_DYNAMIC]
    return Needs(
        loader=_text(image, loader[0].offset) if loader else "",
        libraries=_libraries(image, header, dynamic[0], segments) if dynamic else (),
    )


def _libraries(image: Image, header: ElfHeader, dynamic: Segment, segments: list[Segment]) -> tuple[str, ...]:
    if dynamic.filesz > _MAX_TABLE:
        raise BinaryError("is damaged: its dynamic section has an impossible size")
    entry = struct.Struct(f"{header.order}qQ")
    raw = image.read(dynamic.offset, dynamic.filesz // entry.size * entry.size)
    offsets, names = [], 0
    for tag, value in entry.iter_unpack(raw):
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            offsets.append(value)
        elif tag == _DT_STRTAB:
            names = value
    if not offsets:
        return ()
    table = _offset(names, segments)
    return tuple(_text(image, table + offset) for offset in offsets)


def _offset(address: int, segments: list[Segment]) -> int:
    """Where the file has what is loaded at `address`."""
    for segment in segments:
        if segment.type == PT_LOAD and segment.vaddr <= address < segment.vaddr + segment.filesz:
            return address - segment.vaddr + segment.offset
    raise BinaryError("is damaged: the names of its libraries are outside the file")


def _text(image: Image, offset: int) -> str:
    """The text at `offset` up to its NUL."""
    length = min(_MAX_NAME, image.size - offset)
    if length <= 0:
        raise BinaryError("is damaged: a name is outside the file")
    text, end, _ = image.read(offset, length).partition(b"\0")
    if not end:
        raise BinaryError("is damaged: a name has no end")
    return text.decode("utf-8", "replace")
