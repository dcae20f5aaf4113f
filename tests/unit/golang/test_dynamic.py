"""Loader and libraries of ELF programs: of small files made here, and of damaged ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.golang.binary_file import BinaryError, BytesImage
from cgroup_preflight.golang.dynamic import Needs, needs


def elf(loader="", libraries=(), *, machine=62, address=0x400000):
    """A 64-bit little-endian ELF program of one loaded segment, with these needs."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in libraries)
    text = loader.encode() + b"\0"
    start = 64 + 3 * 56
    at_names = start + len(text)
    offsets = [1 + sum(len(name) + 1 for name in libraries[:index]) for index in range(len(libraries))]
    entries = [*((1, offset) for offset in offsets), (5, address + at_names), (0, 0), (1, 999_999)]
    at_dynamic = at_names + len(names)
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    size = at_dynamic + len(dynamic)

    def segment(kind, offset, length):
        return struct.pack("<IIQQQQQQ", kind, 5, offset, address + offset, 0, length, length, 1)

    none = segment(0, 0, 0)
    table = (
        segment(1, 0, size)
        + (segment(3, start, len(text)) if loader else none)
        + (segment(2, at_dynamic, len(dynamic)) if libraries else none)
    )
    head = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    return head + table + text + names + dynamic


def read(data):
    return needs(BytesImage(data=data))


def test_loader_and_libraries_in_the_order_of_the_file():
    assert read(elf("/lib64/ld.so", ("libz.so.1", "libc.so.6"))) == Needs(
        loader="/lib64/ld.so", libraries=("libz.so.1", "libc.so.6")
    )


def test_a_static_program_needs_nothing():
    assert read(elf()) == Needs()
    assert read(elf("/lib/ld-musl-x86_64.so.1")) == Needs(loader="/lib/ld-musl-x86_64.so.1")


def test_a_program_of_another_machine_is_not_judged():
    assert read(elf("/lib/ld.so", ("libc.so.6",), machine=183)) == Needs()


def test_names_outside_the_file_are_damage():
    data = bytearray(elf("/lib64/ld.so", ("libc.so.6",)))
    data[-4 * 16 : -3 * 16] = struct.pack("<qQ", 1, 99_999)  # the name of the one library
    with pytest.raises(BinaryError, match="damaged"):
        read(bytes(data))
    data[-3 * 16 : -2 * 16] = struct.pack("<qQ", 5, 1)  # the table of names
    with pytest.raises(BinaryError, match="names of its libraries are outside"):
        read(bytes(data))


@given(data=st.data())
def test_damage_is_told_and_nothing_else_happens(data):
    raw = bytearray(elf("/lib64/ld.so", ("libz.so.1", "libc.so.6")))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(16, len(raw)))])
    try:
        found = read(cut)
    except (BinaryError, struct.error) as error:
        assert isinstance(error, BinaryError), error
    else:
        assert all(isinstance(name, str) for name in (found.loader, *found.libraries))
