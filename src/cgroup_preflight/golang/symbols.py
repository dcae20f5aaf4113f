"""Where a variable of an ELF program is in memory, from its symbol table.

Source of the layouts and numbers: the System V gABI, chapter 4 ("Symbol Table").
"""

import struct

from cgroup_preflight.golang import elf
from cgroup_preflight.golang.binary_file import BinaryError, Image

#: Only in such a file are addresses those of the process; any other program is loaded somewhere else each time.
_ET_EXEC = 2
_SHT_SYMTAB = 2
_STT_OBJECT = 1


def address_of(image: Image, name: str, size: int) -> int | None:
    """The address of the variable `name` of `size` bytes in a process of this program; None where the file does not tell.

    A program that was linked with `-s` has no symbol table, and one of another kind than ET_EXEC has no fixed addresses.
    """
    try:
        if image.read(0, len(elf.MAGIC)) != elf.MAGIC:
            return None
        header = elf.read_header(image)
        return _found(image, header, name.encode(), size) if header.type == _ET_EXEC else None
    except (BinaryError, struct.error):
        return None


def _found(image: Image, header: elf.ElfHeader, name: bytes, size: int) -> int | None:
    """Raises BinaryError, struct.error."""
    sections = elf.read_sections(image, header)
    table = next((section for section in sections if section.type == _SHT_SYMTAB), None)
    if table is None or table.link >= len(sections):
        return None
    names = image.read(sections[table.link].offset, sections[table.link].size)
    at = names.find(b"\0" + name + b"\0")
    if at < 0:
        return None
    symbols, key = image.read(table.offset, table.size), struct.pack(f"{header.order}I", at + 1)
    layout = struct.Struct(header.order + ("IIIBBH" if header.bits == 32 else "IBBHQQ"))
    place = symbols.find(key)
    while place >= 0:
        # The number can also be a part of another entry.
        if place % layout.size == 0:
            fields = layout.unpack_from(symbols, place)
            value, length, info = fields[1:4] if header.bits == 32 else (fields[4], fields[5], fields[1])
            if info & 15 == _STT_OBJECT and length == size:
                return int(value)
        place = symbols.find(key, place + 1)
    return None
