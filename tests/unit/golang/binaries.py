"""Synthetic binaries for the tests: the smallest bytes that have the parts that matter. Offsets in bytes."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a file: an ELF segment (`kind` PT_*) or section (`kind` SHT_*), with its bytes.

    `link` is the number of another section; the first of a file has the number 1.
    """

    data: bytes
    name: str = ""
    kind: int = 1
    flags: int = 6
    addr: int = 0x40000
    link: int = 0


def elf(
    *,
    bits: int = 64,
    order: str = "<",
    machine: int = 62,
    kind: int = 2,
    entry: int = 0x400000,
    segments: Sequence[Part] = (),
    sections: Sequence[Part] = (),
) -> bytes:
    """An ELF file: header, program headers, contents, section name table, section headers."""
    ehsize, phsize, shsize = (52, 32, 40) if bits == 32 else (64, 56, 64)
    body = bytearray(ehsize + phsize * len(segments))
    placed = [(part, _append(body, part.data)) for part in segments]
    headers = b"".join(_program_header(bits, order, part, offset) for part, offset in placed)
    table, shoff = _sections(body, bits, order, sections) if sections else (b"", 0)
    body += table
    count = len(sections) + 2 if sections else 0
    ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1 if order == "<" else 2, 1]) + bytes(9)
    rest = struct.pack(
        order + ("HHIIIIIHHHHHH" if bits == 32 else "HHIQQQIHHHHHH"),
        *(kind, machine, 1, entry, ehsize if segments else 0, shoff, 0),
        *(ehsize, phsize, len(segments), shsize, count, count - 1 if count else 0),
    )
    body[: len(ident) + len(rest)] = ident + rest
    body[ehsize : ehsize + len(headers)] = headers
    return bytes(body)


def _append(body: bytearray, data: bytes) -> int:
    body += bytes(-len(body) % 16)
    offset = len(body)
    body += data
    return offset


def _program_header(bits: int, order: str, part: Part, offset: int) -> bytes:
    size = len(part.data)
    if bits == 32:
        return struct.pack(order + "8I", part.kind, offset, part.addr, part.addr, size, size, part.flags, 16)
    return struct.pack(order + "IIQQQQQQ", part.kind, part.flags, offset, part.addr, part.addr, size, size, 16)


def _sections(body: bytearray, bits: int, order: str, sections: Sequence[Part]) -> tuple[bytes, int]:
    names = b"\0" + b"".join(part.name.encode() + b"\0" for part in sections) + b".shstrtab\0"
    rows = [(0, 0, 0, 0, 0, 0, 0)]
    for part in sections:
        offset = _append(body, part.data)
        index = names.index(b"\0" + part.name.encode() + b"\0") + 1
        rows.append((index, part.kind, part.flags, part.addr, offset, len(part.data), part.link))
    rows.append((names.index(b".shstrtab"), 3, 0, 0, _append(body, names), len(names), 0))
    layout = order + ("10I" if bits == 32 else "IIQQQQIIQQ")
    body += bytes(-len(body) % 16)
    return b"".join(struct.pack(layout, *row, 0, 16, 0) for row in rows), len(body)


def pe(data: bytes = b"", *, bits: int = 64, base: int = 0x140000000, rva: int = 0x1000) -> bytes:
    """A PE file with one `.data` section (initialised, readable, writable) that holds `data`."""
    optional = struct.pack("<HBBIIIII", 0x20B if bits == 64 else 0x10B, 3, 0, 0, 0, 0, 0, rva)
    optional += struct.pack("<Q", base) if bits == 64 else struct.pack("<II", 0, base)
    optional = optional.ljust(240 if bits == 64 else 224, b"\0")
    coff = struct.pack("<HHIIIHH", 0x8664 if bits == 64 else 0x14C, 1, 0, 0, 0, len(optional), 0x22)
    offset = 512
    section = struct.pack("<8sIIIIIIHHI", b".data", len(data), rva, len(data), offset, 0, 0, 0, 0, 0xC0000040)
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    return (dos + b"PE\0\0" + coff + optional + section).ljust(offset, b"\0") + data


def macho(
    data: bytes = b"",
    *,
    order: str = "<",
    bits: int = 64,
    name: bytes = b"__go_buildinfo",
    addr: int = 0x1000,
) -> bytes:
    """A Mach-O file with one segment __DATA with one section that holds `data`."""
    wide = bits == 64
    header_size, seg, sect = (32, 72, 80) if wide else (28, 56, 68)
    offset = header_size + seg + sect
    section = struct.pack(
        order + ("16s16sQQ8I" if wide else "16s16s9I"),
        *(name, b"__DATA", addr, len(data), offset),
        *([0] * (7 if wide else 6)),
    )
    command = struct.pack(
        order + ("II16sQQQQIIII" if wide else "II16s8I"),
        *(0x19 if wide else 1, seg + sect, b"__DATA", addr, len(data), offset, len(data)),
        *(3, 3, 1, 0),
    )
    header = struct.pack(
        order + ("8I" if wide else "7I"),
        *(0xFEEDFACF if wide else 0xFEEDFACE, 0x01000007 if wide else 7, 3, 2, 1, seg + sect, 0),
        *([0] if wide else []),
    )
    return header + command + section + data


MAGIC = b"\xff Go buildinf:"
FRAME_START = bytes.fromhex("3077af0c9274080241e1c107e6d618e6")
FRAME_END = bytes.fromhex("f932433186182072008242104116d8f2")


def framed(text: bytes) -> bytes:
    """Module text between the sentinels that cmd/go puts around it."""
    return FRAME_START + text + FRAME_END


def varint(value: int) -> bytes:
    """An unsigned varint as Go's encoding/binary writes it."""
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def inline_blob(version: bytes, modules: bytes) -> bytes:
    """The layout of Go 1.18 and later: the strings follow the header."""
    head = (MAGIC + bytes([8, 2])).ljust(32, b"\0")
    return head + varint(len(version)) + version + varint(len(modules)) + modules


def pointer_blob(version: bytes, modules: bytes, *, address: int, bits: int = 64, order: str = "<") -> bytes:
    """The layout up to Go 1.17, to be mapped at `address`: pointers to string headers, then the strings."""
    size = bits // 8
    pair = order + ("II" if bits == 32 else "QQ")
    headers = address + 32
    strings = headers + 4 * size
    head = MAGIC + bytes([size, 1 if order == ">" else 0])
    head = (head + struct.pack(pair, headers, headers + 2 * size)).ljust(32, b"\0")
    first = struct.pack(pair, strings, len(version))
    second = struct.pack(pair, strings + len(version), len(modules))
    return head + first + second + version + modules
