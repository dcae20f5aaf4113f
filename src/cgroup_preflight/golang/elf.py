"""ELF headers, program headers and sections as frozen data; only what reading a Go binary needs.

Source of the layouts and numbers: the System V gABI, chapters 4 and 5, and Linux's include/uapi/linux/elf.h.
Offsets, addresses and sizes are bytes.

Where an ELF program keeps Go build info, and how its addresses map to the file.
"""

import struct
from collections.abc import Sequence

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.binary_file import BinaryError, Image, Layout, Region, clip_region

MAGIC = b"\x7fELF"
PT_LOAD, PT_INTERP = 1, 3
PF_X, PF_W = 1, 2
_SHT_NOBITS = 8

#: Linux refuses to run a program whose program headers take more bytes (fs/binfmt_elf.c, load_elf_phdrs).
_MAX_SEGMENT_TABLE = 64 << 10
#: Linked programs have some dozens; a table beyond this is taken for damage.
MAX_SECTIONS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfHeader:
    """The file header; `bits` is 32 or 64, `order` the struct prefix of its byte order ("<" or ">")."""

    bits: int
    order: str
    type: int
    machine: int
    entry: int
    phoff: int
    phentsize: int
    phnum: int
    shoff: int
    shentsize: int
    shnum: int
    shstrndx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One program header; `filesz` is what the file holds, never what the process gets (p_memsz)."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfSection:
    """One section header; `name` is an offset into the section name table."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int


def read_header(image: Image) -> ElfHeader:
    """The ELF header at the start of `image`, which begins with MAGIC.

    Raises:
        BinaryError: it is cut short, or its class or byte order is none that exists.

    """
    ident = image.read(0, 16)
    bits = {1: 32, 2: 64}.get(ident[4])
    order = {1: "<", 2: ">"}.get(ident[5])
    if bits is None or order is None:
        raise BinaryError("is damaged: its ELF header names neither 32 nor 64 bits, or no byte order")
    layout = struct.Struct(order + ("HHIIIIIHHHHHH" if bits == 32 else "HHIQQQIHHHHHH"))
    kind, machine, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = layout.unpack(
        image.read(16, layout.size)
    )
    return ElfHeader(
        bits=bits,
        order=order,
        type=kind,
        machine=machine,
        entry=entry,
        phoff=phoff,
        phentsize=phentsize,
        phnum=phnum,
        shoff=shoff,
        shentsize=shentsize,
        shnum=shnum,
        shstrndx=shstrndx,
    )


def read_segments(image: Image, header: ElfHeader) -> list[Segment]:
    """All program headers, in the order of the file; an empty list if there are none.

    Raises:
        BinaryError: the table lies outside the file, or Linux would refuse it too.

    """
    if header.phnum == 0:
        return []
    layout = struct.Struct(header.order + ("IIIIIIII" if header.bits == 32 else "IIQQQQQQ"))
    length = header.phnum * header.phentsize
    if header.phentsize != layout.size or length > _MAX_SEGMENT_TABLE:
        raise BinaryError("is damaged: its program headers have an impossible size")
    return [_segment(header.bits, fields) for fields in layout.iter_unpack(image.read(header.phoff, length))]


def _segment(bits: int, fields: tuple[int, ...]) -> Segment:
    if bits == 32:
        kind, offset, vaddr, _, filesz, _, flags, _ = fields
    else:
        kind, flags, offset, vaddr, _, filesz, _, _ = fields
    return Segment(type=kind, flags=flags, offset=offset, vaddr=vaddr, filesz=filesz)


def read_sections(image: Image, header: ElfHeader) -> list[ElfSection]:
    """All section headers, in the order of the file; an empty list if there are none.

    Raises:
        BinaryError: the table lies outside the file or is impossibly large.

    """
    if header.shoff == 0:
        return []
    layout = struct.Struct(header.order + ("IIIIIIIIII" if header.bits == 32 else "IIQQQQIIQQ"))
    if not layout.size <= header.shentsize <= 256:
        raise BinaryError("is damaged: its section headers have an impossible size")
    count = header.shnum
    if count == 0:  # more than fit into 16 bits: the first header's size field holds the number
        count = layout.unpack(image.read(header.shoff, layout.size))[5]
    if count > MAX_SECTIONS:
        raise BinaryError(f"is damaged: it claims {count} sections")
    table = image.read(header.shoff, count * header.shentsize)
    rows = (layout.unpack_from(table, index * header.shentsize) for index in range(count))
    return [
        ElfSection(name=name, type=kind, flags=flags, addr=addr, offset=offset, size=size, link=link, info=info)
        for name, kind, flags, addr, offset, size, link, info, _, _ in rows
    ]


SECTION = b".go.buildinfo\0"
#: Largest section name table that is looked at, bytes; real ones have some hundred.
_MAX_NAMES = 1 << 20


def elf_layout(image: Image) -> Layout:
    """The map of an ELF file: the section by its name, then every writable segment that is not code.

    The section is what Go 1.27 looks at, the first such segment what Go up to 1.26 fell back to. All of them
    are candidates here, since a position-independent program has a read-only-after-relocation one first.

    Raises:
        BinaryError: the file header or the program headers are damaged.

    """
    header = read_header(image)
    segments = read_segments(image, header)
    section = _build_info_section(image, header)
    loaded = [segment for segment in segments if segment.type == PT_LOAD]
    writable = [segment for segment in loaded if segment.flags & 3 == PF_W]
    named = [] if section is None else [section]
    return Layout(
        image=image,
        mapped=_clipped(image, [*map(_region, loaded), *named]),
        candidates=_clipped(image, [*named, *map(_region, writable)]),
    )


def _region(segment: Segment) -> Region:
    return Region(address=segment.vaddr, offset=segment.offset, size=segment.filesz)


def _clipped(image: Image, regions: list[Region]) -> tuple[Region, ...]:
    return tuple(found for region in regions if (found := clip_region(region, image)) is not None)


def _build_info_section(image: Image, header: ElfHeader) -> Region | None:
    """The region of the section; None if there is none, also where the section table is damaged.

    Linux never reads that table: such a program runs, and the segments may still tell.
    """
    try:
        sections = read_sections(image, header)
        names = _names(image, sections[header.shstrndx : header.shstrndx + 1])
        for section in sections:
            matches = names[section.name : section.name + len(SECTION)] == SECTION
            if matches and section.type != _SHT_NOBITS:
                return Region(address=section.addr, offset=section.offset, size=section.size)
    except (BinaryError, struct.error):
        return None
    return None


def _names(image: Image, tables: Sequence[ElfSection]) -> bytes:
    """The section name table, empty if the header names none.

    Raises:
        BinaryError: it is damaged.

    """
    for table in tables:
        if table.size <= _MAX_NAMES:
            return image.read(table.offset, table.size)
    return b""
