"""Where a Windows program (PE) keeps Go build info, and how its addresses map to the file.

Source of the layout: Microsoft's PE Format specification. Go's linker puts the blob into the first section of
initialised, readable and writable data.
"""

import struct

from cgroup_preflight.golang.binary_file import BinaryError, Image, Layout, Region, clip_region

#: Characteristics: initialised data, read, write; the bits that must be set or clear, without the alignment.
DATA, DATA_MASK = 0xC0000040, 0xE00000E0
#: Windows loads no image with more sections.
MAX_SECTIONS = 96


def pe_layout(image: Image) -> Layout:
    """The map of a PE file, whose signature has been seen.

    Raises:
        BinaryError: its headers are cut short or contradict themselves.

    """
    (start,) = struct.unpack("<I", image.read(60, 4))
    _, count, _, _, _, optional_size, _ = struct.unpack("<HHIIIHH", image.read(start + 4, 20))
    if count > MAX_SECTIONS:
        raise BinaryError(f"is damaged: it claims {count} sections")
    base = _image_base(image, start + 24, optional_size)
    table = image.read(start + 24 + optional_size, 40 * count)
    mapped, candidates = [], []
    for _, virtual, rva, raw, offset, _, _, _, _, flags in struct.iter_unpack("<8sIIIIIIHHI", table):
        region = clip_region(Region(address=base + rva, offset=offset, size=min(virtual, raw)), image)
        if region is not None:
            mapped.append(region)
            if flags & DATA_MASK == DATA:
                candidates.append(region)
    return Layout(image=image, mapped=tuple(mapped), candidates=tuple(candidates))


def _image_base(image: Image, offset: int, size: int) -> int:
    if size < 32:
        raise BinaryError("is damaged: its PE optional header is too short")
    magic, at_24, at_28 = struct.unpack("<H22xII", image.read(offset, 32))
    if magic == 0x20B:
        return int(at_24 | at_28 << 32)
    return int(at_28)
