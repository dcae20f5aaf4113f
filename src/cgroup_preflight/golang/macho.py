"""Where a macOS program (Mach-O) keeps Go build info, and how its addresses map to the file.

Source of the layout: Apple's mach-o/loader.h and mach-o/fat.h.
"""

import struct
from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.binary_file import BinaryError, Image, Layout, Region, SubImage, clip_region

SECTION = b"__go_buildinfo"
LC_SEGMENT, LC_SEGMENT_64 = 0x1, 0x19
_READ_WRITE = 3
#: Bounds of the load commands, number and bytes; real programs have some dozens in a few KiB.
MAX_COMMANDS, MAX_COMMAND_BYTES = 4096, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    mapped: list[Region]
    named: list[Region]
    writable: list[Region]


def macho_layout(image: Image) -> Layout:
    """The map of a Mach-O file; of a universal one, that of its first architecture, as Go does it.

    Raises:
        BinaryError: its headers are cut short or contradict themselves.

    """
    magic = image.read(0, 4)
    if magic in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"):
        wide = magic[3] == 0xBF
        layout = struct.Struct(">8xQQ" if wide else ">8xII")
        offset, size = layout.unpack(image.read(8, layout.size))
        image = SubImage(whole=image, start=offset, size=min(size, max(image.size - offset, 0)))
        magic = image.read(0, 4)
    order = ">" if magic[0] == 0xFE else "<"
    bits = 64 if 0xCF in (magic[0], magic[3]) else 32
    found = _Found(mapped=[], named=[], writable=[])
    for command, body in _commands(image, order, bits):
        if command in (LC_SEGMENT, LC_SEGMENT_64):
            _segment(image, body, order, 64 if command == LC_SEGMENT_64 else 32, found)
    return Layout(
        image=image,
        mapped=(*found.mapped, *found.named),
        candidates=(*found.named, *found.writable),
    )


def _commands(image: Image, order: str, bits: int) -> Iterator[tuple[int, bytes]]:
    """Load commands: number, and all bytes including number and size."""
    count, size = struct.unpack(order + "II", image.read(16, 8))
    if count > MAX_COMMANDS or size > MAX_COMMAND_BYTES:
        raise BinaryError(f"is damaged: it claims {count} load commands in {size} bytes")
    table = image.read(32 if bits == 64 else 28, size)
    position = 0
    for _ in range(count):
        if position + 8 > size:
            raise BinaryError("is damaged: its load commands are cut short")
        command, length = struct.unpack_from(order + "II", table, position)
        if length < 8 or position + length > size:
            raise BinaryError("is damaged: a load command has an impossible size")
        yield command, table[position : position + length]
        position += length


def _segment(image: Image, body: bytes, order: str, bits: int, found: _Found) -> None:
    head = struct.Struct(order + ("8x16sQQQQIIII" if bits == 64 else "8x16sIIIIIIII"))
    row = struct.Struct(order + ("16s16xQQI28x" if bits == 64 else "16s16xIII24x"))
    if len(body) < head.size:
        raise BinaryError("is damaged: a segment is cut short")
    name, address, _, offset, size, _, protection, sections, _ = head.unpack_from(body)
    region = clip_region(Region(address=address, offset=offset, size=size), image)
    if region is not None and name.rstrip(b"\0") != b"__PAGEZERO":
        found.mapped.append(region)
        if protection == _READ_WRITE:
            found.writable.append(region)
    if sections > (len(body) - head.size) // row.size:
        raise BinaryError("is damaged: a segment has room for fewer sections than it claims")
    for index in range(sections):
        title, start, length, where = row.unpack_from(body, head.size + index * row.size)
        section = clip_region(Region(address=start, offset=where, size=length), image)
        if section is not None and title.rstrip(b"\0") == SECTION:
            found.named.append(section)
