"""Reading Go build info out of synthetic ELF, PE and Mach-O files, sound and damaged."""

import os
import struct
from pathlib import Path

import pytest

from cgroup_preflight.golang.binary_file import BytesImage
from cgroup_preflight.golang.buildinfo import (
    BinaryError,
    BuildInfo,
    Module,
    NotGoError,
    PackedError,
    read,
    read_image,
)
from tests.unit.golang.binaries import MAGIC, Part, elf, framed, inline_blob, macho, pe, pointer_blob, varint

VERSION = b"go1.25.5"
TEXT = (
    b"path\texample.com/app\n"
    b"mod\texample.com/app\tv1.2.3\th1:abc=\n"
    b"dep\texample.com/old\tv0.1.0\n"
    b"=>\texample.com/new\tv0.2.0\th1:new=\n"
    b"dep\texample.com/dep\tv1.0.0\th1:dep=\n"
    b"build\t-compiler=gc\n"
    b'build\t-ldflags="-s -w"\n'
    b"build\tDefaultGODEBUG=containermaxprocs=0,updatemaxprocs=0\n"
)
BLOB = inline_blob(VERSION, framed(TEXT))
RENDERED = (
    "app: go1.25.5\n"
    "\tpath\texample.com/app\n"
    "\tmod\texample.com/app\tv1.2.3\th1:abc=\n"
    "\tdep\texample.com/old\tv0.1.0\n"
    "\t=>\texample.com/new\tv0.2.0\th1:new=\n"
    "\t\n"
    "\tdep\texample.com/dep\tv1.0.0\th1:dep=\n"
    "\tbuild\t-compiler=gc\n"
    '\tbuild\t-ldflags="-s -w"\n'
    "\tbuild\tDefaultGODEBUG=containermaxprocs=0,updatemaxprocs=0\n"
)
SHAPES = [(bits, order) for bits in (32, 64) for order in "<>"]


def of(data: bytes) -> BuildInfo:
    return read_image(BytesImage(data=data))


def section(data: bytes, *, name: str = ".go.buildinfo", kind: int = 1) -> Part:
    return Part(data=data, name=name, kind=kind, addr=0x40000)


def test_all_fields() -> None:
    info = of(elf(segments=[Part(data=BLOB)]))
    assert info.go_version == "go1.25.5"
    assert info.path == "example.com/app"
    assert info.main == Module(path="example.com/app", version="v1.2.3", sum="h1:abc=")
    assert info.deps == (
        Module(
            path="example.com/old",
            version="v0.1.0",
            replace=Module(path="example.com/new", version="v0.2.0", sum="h1:new="),
        ),
        Module(path="example.com/dep", version="v1.0.0", sum="h1:dep="),
    )
    assert info.setting("-ldflags") == "-s -w"
    assert info.setting("-race") is None
    assert info.render("app") == RENDERED


@pytest.mark.parametrize(("bits", "order"), SHAPES)
def test_elf_by_section_or_by_segment_alone(bits: int, order: str) -> None:
    both = elf(bits=bits, order=order, segments=[Part(data=BLOB)], sections=[section(BLOB)])
    assert of(both).render("app") == RENDERED
    assert of(elf(bits=bits, order=order, segments=[Part(data=BLOB)])).render("app") == RENDERED
    assert of(elf(bits=bits, order=order, sections=[section(BLOB)])).render("app") == RENDERED


@pytest.mark.parametrize(("bits", "order"), SHAPES)
def test_pointer_layout(bits: int, order: str) -> None:
    blob = pointer_blob(b"go1.17", framed(TEXT), address=0x40000, bits=bits, order=order)
    info = of(elf(bits=bits, order=order, segments=[Part(data=blob)]))
    assert info.render("app") == RENDERED.replace("go1.25.5", "go1.17")


def test_pointer_layout_without_modules() -> None:
    blob = bytearray(pointer_blob(b"go1.13", b"", address=0x40000))
    assert of(elf(segments=[Part(data=bytes(blob))])).render("app") == "app: go1.13\n"
    blob[24:32] = bytes(8)
    assert of(elf(segments=[Part(data=bytes(blob))])).render("app") == "app: go1.13\n"


def test_the_blob_may_be_in_a_later_writable_segment() -> None:
    relro = Part(data=b"x" * 100, addr=0x30000)
    assert of(elf(kind=3, segments=[relro, Part(data=BLOB)])).render("app") == RENDERED


def test_only_writable_data_is_searched() -> None:
    code = Part(data=BLOB, flags=5)
    with pytest.raises(NotGoError):
        of(elf(segments=[code, Part(data=BLOB, flags=7), Part(data=BLOB, kind=4)]))


def test_a_damaged_section_table_does_not_matter() -> None:
    data = bytearray(elf(segments=[Part(data=BLOB)], sections=[section(b"")]))
    struct.pack_into("<Q", data, 40, 1 << 40)  # e_shoff
    assert of(bytes(data)).render("app") == RENDERED


def test_a_section_without_bytes_in_the_file_is_passed_over() -> None:
    data = elf(segments=[Part(data=BLOB)], sections=[section(b"x" * 64, kind=8)])
    assert of(data).render("app") == RENDERED


def test_the_magic_alone_or_out_of_line_is_no_blob() -> None:
    misaligned = b"12345678" + BLOB
    early = MAGIC + b"\x08\x02" + bytes(16) + varint(1 << 40)
    for first in (misaligned, early.ljust(48, b"\0")):
        data = first + bytes(-len(first) % 16) + BLOB
        assert of(elf(segments=[Part(data=data)])).render("app") == RENDERED
    with pytest.raises(NotGoError):
        of(elf(segments=[Part(data=misaligned)]))


def test_the_blob_is_found_behind_the_first_search_chunk() -> None:
    data = bytes((1 << 20) + 160) + BLOB
    assert of(elf(segments=[Part(data=data)])).render("app") == RENDERED


@pytest.mark.parametrize("bits", [32, 64])
def test_pe(bits: int) -> None:
    base = 0x400000 if bits == 32 else 0x140000000
    assert of(pe(BLOB, bits=bits, base=base)).render("app") == RENDERED
    pointers = pointer_blob(VERSION, framed(TEXT), address=base + 0x1000, bits=bits)
    assert of(pe(pointers, bits=bits, base=base)).render("app") == RENDERED


@pytest.mark.parametrize(("bits", "order"), SHAPES)
@pytest.mark.parametrize("name", [b"__go_buildinfo", b"__data"])
def test_macho(bits: int, order: str, name: bytes) -> None:
    assert of(macho(BLOB, bits=bits, order=order, name=name)).render("app") == RENDERED


@pytest.mark.parametrize("wide", [False, True])
def test_universal_macho_takes_the_first_architecture(wide: bool) -> None:
    inner = macho(BLOB)
    layout = struct.Struct(">IIII" + ("QQ" if wide else "II") + "I")
    head = layout.pack(0xCAFEBABF if wide else 0xCAFEBABE, 1, 7, 3, 64, len(inner), 12)
    assert of(head.ljust(64, b"\0") + inner).render("app") == RENDERED


def test_without_modules_only_the_version_is_told() -> None:
    for modules in (b"", b"short", framed(b"no newline")):
        info = of(elf(segments=[Part(data=inline_blob(b"devel go1.28-abc", modules))]))
        assert info.render("app") == "app: devel go1.28-abc\n"
        assert info.main is None


def test_bytes_that_are_no_utf8_survive() -> None:
    text = b"path\t\xff\xfe\nbuild\tk\xc3\xa9y=\xed\xa0\x80\n"
    info = of(elf(segments=[Part(data=inline_blob(b"go\x80", framed(text)))]))
    expected = b"f: go\x80\n\tpath\t\xff\xfe\n\tbuild\tk\xc3\xa9y=\xed\xa0\x80\n"
    assert info.render("f").encode("utf-8", "surrogateescape") == expected


@pytest.mark.parametrize(
    "line",
    [
        b"mod\tonly-one",
        b"mod\ta\tb\tc\td",
        b"=>\ta\tv1\th1:x",
        b"dep\ta\tv1\n=>\tb\tv1",
        b"dep\ta\tv1\n=>\tb\tv1\tsum\n=>\tb\tv1\tsum",
        b"build\t",
        b"build\t=value",
        b"build\tkey",
        b"build\tk y=v",
        b"build\tkey=a b",
        b'build\tkey="open',
        b'build\t"key',
        b'build\t"key"',
        b'build\t"key"x=1',
        b'build\tkey="\\q"',
        b'build\tkey="a"b',
    ],
)
def test_text_that_go_refuses_is_refused(line: bytes) -> None:
    with pytest.raises(BinaryError, match="malformed"):
        of(elf(segments=[Part(data=inline_blob(VERSION, framed(line + b"\n")))]))


def test_lines_of_later_versions_of_go_are_passed_over() -> None:
    info = of(elf(segments=[Part(data=inline_blob(VERSION, framed(b"new\tthing\npath\n\npath\tx\n")))]))
    assert info.render("f") == "f: go1.25.5\n\tpath\tx\n"


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", NotGoError, "empty"),
        (b"#!/bin/sh\nexec ./app\n", NotGoError, "script"),
        (b"#!/bin/sh\ngrep UPX! app\n", NotGoError, "script"),
        (b"plain text", NotGoError, "no program file"),
        (elf(), NotGoError, "no Go build info"),
        (elf(segments=[Part(data=b"UPX!".ljust(64))]), PackedError, "packed by UPX"),
        (b"\x7fELF\3\1\1".ljust(100, b"\0") + b"UPX!", PackedError, "packed by UPX"),
        (elf(segments=[Part(data=BLOB[:-20])]), BinaryError, "damaged"),
        (elf(segments=[Part(data=BLOB[:40])]), BinaryError, "damaged"),
        (elf(segments=[Part(data=BLOB[:20])]), BinaryError, "damaged"),
        (elf(segments=[Part(data=inline_blob(b"", framed(TEXT)))]), BinaryError, "no version"),
        (elf(segments=[Part(data=MAGIC + b"\5\0" + bytes(64))]), BinaryError, "pointers of 5 bytes"),
        (elf(segments=[Part(data=BLOB[:32] + b"\xff" * 20)]), BinaryError, "has no end"),
        (elf(segments=[Part(data=BLOB[:32] + varint(1 << 40))]), BinaryError, "claims a text"),
        (
            elf(segments=[Part(data=inline_blob(VERSION, framed(b"path\tx\n" * 20_000)))]),
            BinaryError,
            "too many lines",
        ),
        (
            elf(segments=[Part(data=inline_blob(VERSION, framed(b'build\tx="' + b"\xff" * 9_000 + b' "\n')))]),
            BinaryError,
            "too many escapes",
        ),
        (
            elf(segments=[Part(data=inline_blob(VERSION, framed(b'build\tk="' + b"\\n" * 9000 + b'"\n')))]),
            BinaryError,
            "too many escapes",
        ),
        (elf(segments=[Part(data=bytes(20_000) + BLOB)])[:10_000], BinaryError, "is cut off"),
        (pe()[:200], BinaryError, "truncated or damaged"),
        (macho()[:40], BinaryError, "truncated or damaged"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, error: type[BinaryError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        of(data)
    assert "\n" not in caught.value.reason


def test_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "app"
    path.write_bytes(elf(segments=[Part(data=BLOB)]))
    path.chmod(0)
    if os.geteuid():
        with pytest.raises(BinaryError, match="Permission denied"):
            read(path)
    path.chmod(0o400)
    assert read(str(path)).render("app") == RENDERED
    for other in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(BinaryError):
            read(other)
