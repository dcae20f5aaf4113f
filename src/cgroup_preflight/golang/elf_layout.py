"""Where an ELF program keeps Go build info, and how its addresses map to the file."""

import struct

from cgroup_preflight.golang import elf_format
from cgroup_preflight.golang.elf_format import ElfHeader, Section, Segment
from cgroup_preflight.golang.image import BinaryError, Image
from cgroup_preflight.golang.regions import Layout, Region, clip

SECTION = b".go.buildinfo\0"
#: Largest section name table that is looked at, bytes; real ones have some hundred.
MAX_NAMES = 1 << 20


def elf_layout(image: Image) -> Layout:
    """The map of an ELF file: the section by its name, then every writable segment that is not code.

    The section is what Go 1.27 looks at, the first such segment what Go up to 1.26 fell back to. All of them
    are candidates here, since a position-independent program has a read-only-after-relocation one first.

    Raises:
        BinaryError: the file header or the program headers are damaged.

    """
    header = elf_format.read_header(image)
    segments = elf_format.read_segments(image, header)
    section = _build_info_section(image, header)
    loaded = [segment for segment in segments if segment.type == elf_format.PT_LOAD]
    writable = [segment for segment in loaded if segment.flags & 3 == elf_format.PF_W]
    named = [] if section is None else [section]
    return Layout(
        image=image,
        mapped=_clipped(image, [*map(_region, loaded), *named]),
        candidates=_clipped(image, [*named, *map(_region, writable)]),
    )


def _region(segment: Segment) -> Region:
    return Region(address=segment.vaddr, offset=segment.offset, size=segment.filesz)


def _clipped(image: Image, regions: list[Region]) -> tuple[Region, ...]:
    return tuple(found for region in regions if (found := clip(region, image)) is not None)


def _build_info_section(image: Image, header: ElfHeader) -> Region | None:
    """The region of the section; None if there is none, also where the section table is damaged.

    Linux never reads that table: such a program runs, and the segments may still tell.
    """
    try:
        names = _names(image, header)
        for section in elf_format.read_sections(image, header):
            matches = names[section.name : section.name + len(SECTION)] == SECTION
            if matches and section.type != elf_format.SHT_NOBITS:
                return Region(address=section.addr, offset=section.offset, size=section.size)
    except (BinaryError, struct.error):
        return None
    return None


def _names(image: Image, header: ElfHeader) -> bytes:
    """The section name table, empty if the header names none.

    Raises:
        BinaryError: it is damaged.

    """
    table = _name_section(image, header)
    if table is None or table.size > MAX_NAMES:
        return b""
    return image.read(table.offset, table.size)


def _name_section(image: Image, header: ElfHeader) -> Section | None:
    for index, section in enumerate(elf_format.read_sections(image, header)):
        if index == header.shstrndx:
            return section
    return None
