"""The address of a variable, from symbol tables that are right, damaged, or not there."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.golang.binary_file import BytesImage
from cgroup_preflight.golang.symbols import address_of
from tests.unit.golang.binaries import Part, elf

NAME = "runtime.gomaxprocs"
#: Type of a symbol: a variable, a function.
OBJECT, FUNCTION = 1, 2
#: A symbol as name, type, address, size.
Symbol = tuple[str, int, int, int]
RIGHT: Symbol = (NAME, OBJECT, 0x604468, 4)


def program(symbols: Sequence[Symbol], *, bits: int = 64, order: str = "<", kind: int = 2, link: int = 2) -> bytes:
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _, _, _ in symbols)
    rows = b""
    for name, form, address, size in symbols:
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        fields = (at, address, size, form, 0, 1) if bits == 32 else (at, form, 0, 1, address, size)
        rows += struct.pack(order + ("IIIBBH" if bits == 32 else "IBBHQQ"), *fields)
    table = Part(name=".symtab", kind=2, data=rows, link=link)
    return elf(bits=bits, order=order, kind=kind, sections=[table, Part(name=".strtab", kind=3, data=names)])


def found(data: bytes) -> int | None:
    return address_of(BytesImage(data=data), NAME, 4)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_variable_is_found_among_others(bits: int, order: str) -> None:
    others: list[Symbol] = [("runtime.ncpu", OBJECT, 0x1000, 4), (f"{NAME}x", OBJECT, 0x2000, 4), (f"x{NAME}", 1, 3, 4)]
    assert found(program([*others, RIGHT, *others], bits=bits, order=order)) == 0x604468
    assert found(program(others, bits=bits, order=order)) is None


def test_only_a_variable_of_this_size_counts() -> None:
    wrong: list[Symbol] = [(NAME, FUNCTION, 0x1000, 4), (NAME, OBJECT, 0x2000, 8)]
    assert found(program(wrong)) is None
    assert found(program([*wrong, RIGHT])) == 0x604468


def test_the_number_of_the_name_within_another_entry_is_no_symbol() -> None:
    whole = program([(NAME, FUNCTION, 1, 4), ("b", OBJECT, 1, 4), RIGHT])
    right, other = struct.pack("<IBBHQQ", 1, OBJECT, 0, 1, 0x604468, 4), struct.pack("<IBBHQQ", 1, FUNCTION, 0, 1, 1, 4)
    # From its address on, this function reads as a variable of that name at 0x2000, whose size is the next number of a name.
    within = struct.pack("<IBBHQQ", 5, FUNCTION, 0, 1, OBJECT << 32 | 1, 0x2000) + struct.pack(
        "<IBBHQQ", 4, 0, 0, 0, 0, 0
    )
    for last, expected in ((right, 0x604468), (other, None)):
        rows = within + last
        assert found(whole.replace(whole[whole.index(other) :][: len(rows)], rows)) == expected


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_a_program_without_fixed_addresses_tells_none(kind: int) -> None:
    assert found(program([RIGHT], kind=kind)) is None


def test_without_a_table_of_symbols_there_is_none() -> None:
    assert found(elf()) is None
    assert found(elf(sections=[Part(name=".strtab", kind=3, data=f"\0{NAME}\0".encode())])) is None
    assert found(b"#!/bin/sh\n") is None
    assert found(b"") is None


@pytest.mark.parametrize("link", [3, 4, 2**31])
def test_names_in_another_section_or_in_none_are_no_names(link: int) -> None:
    assert found(program([RIGHT], link=link)) is None


@given(st.data())
def test_what_is_damaged_tells_no_other_address(data: st.DataObject) -> None:
    whole = bytearray(program([("a", FUNCTION, 0x1000, 16), RIGHT]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 63))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    assert found(bytes(whole[:cut])) in (None, 0x604468)
