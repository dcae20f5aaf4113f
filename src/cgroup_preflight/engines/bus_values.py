"""Values as D-Bus writes them into a message (D-Bus Specification 0.43, "Marshaling"), little-endian."""

import struct
from collections.abc import Mapping


def text(words: str) -> bytes:
    """A string: its length, its bytes, a zero."""
    data = words.encode()
    return struct.pack("<I", len(data)) + data + b"\0"


def padded(data: bytes, size: int) -> bytes:
    """`data` with zeros up to where a value of that alignment can begin."""
    return data + b"\0" * (-len(data) % size)


def unit_properties(unit: str, numbers: Mapping[str, int], *, runtime: bool) -> tuple[str, bytes]:
    """Signature and bytes of the arguments of SetUnitProperties: the unit, whether only until the next start of the host,
    and properties with numbers of 64 bits (org.freedesktop.systemd1(5)).
    """
    head = padded(text(unit), 4) + struct.pack("<I", runtime)
    # The array begins where its first structure may: its length does not count what is before that.
    begin = len(padded(head + b"\0" * 4, 8))
    items = b""
    for name, number in numbers.items():
        items = padded(items, 8) + text(name) + bytes((1,)) + b"t\0"
        items = padded(items, 8) + struct.pack("<Q", number)
    return "sba(sv)", (head + struct.pack("<I", len(items))).ljust(begin, b"\0") + items
