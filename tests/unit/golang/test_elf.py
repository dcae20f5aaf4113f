"""Telling what a file is, and where it can run."""

import contextlib
import os
import random
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.golang.binary_file import BytesImage, NearImage
from cgroup_preflight.golang.executable import BinaryError, ElfType, Executable, FileKind, fit, identify, identify_image
from tests.unit.golang.binaries import Part, elf, macho, pe

INTERPRETER = Part(data=b"/lib64/ld-linux-x86-64.so.2\0", kind=3, flags=4)
PORTS = [
    ("386", "i686", 3, 32, "<"),
    ("amd64", "x86_64", 62, 64, "<"),
    ("arm", "armv7l", 40, 32, "<"),
    ("arm64", "aarch64", 183, 64, "<"),
    ("loong64", "loongarch64", 258, 64, "<"),
    ("mips", "mips", 8, 32, ">"),
    ("mipsle", "mips", 8, 32, "<"),
    ("mips64", "mips64", 8, 64, ">"),
    ("mips64le", "mips64", 8, 64, "<"),
    ("ppc64", "ppc64", 21, 64, ">"),
    ("ppc64le", "ppc64le", 21, 64, "<"),
    ("riscv64", "riscv64", 243, 64, "<"),
    ("s390x", "s390x", 22, 64, ">"),
]


def of(data: bytes) -> Executable:
    return identify_image(BytesImage(data=data))


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "binary"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("goarch", "uname", "machine", "bits", "order"), PORTS)
def test_every_linux_port_of_go_is_named(goarch: str, uname: str, machine: int, bits: int, order: str) -> None:
    executable = of(elf(bits=bits, order=order, machine=machine, segments=[INTERPRETER]))
    assert executable.machine is not None
    assert executable.machine.goarch == goarch
    assert executable.machine.bits == bits
    assert executable.interpreter == "/lib64/ld-linux-x86-64.so.2"
    # The name of a MIPS kernel leaves its byte order open: not a yes, but never a no either.
    assert fit(executable, uname).ok is (None if uname.startswith("mips") else True)


def test_a_static_program_has_no_interpreter() -> None:
    executable = of(elf())
    assert executable.kind is FileKind.ELF
    assert executable.elf_type is ElfType.EXEC
    assert executable.interpreter is None


def test_a_copy_that_was_cut_off_does_not_run() -> None:
    whole = elf(segments=[Part(data=bytes(20_000), flags=5)])
    assert of(whole).missing == 0
    # The kernel fills the rest of the last page with zeros: that much is never missed.
    assert of(whole[:-1]).missing == 0
    cut = of(whole[:-8_000])
    assert cut.missing == 8_000
    assert fit(cut, "x86_64").why == "it is cut off: 8000 bytes are missing at its end"
    assert of(elf(segments=[Part(data=bytes(20_000), kind=4)])[:-8_000]).missing == 0  # a note is not mapped


def test_a_file_on_disk_is_identified(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(write(tmp_path, elf()))
    assert identify(link).kind is FileKind.ELF
    assert identify(str(link)).kind is FileKind.ELF


@pytest.mark.parametrize(
    ("data", "kind", "runs"),
    [
        (b"", FileKind.EMPTY, False),
        (b"#!/bin/sh\n", FileKind.SCRIPT, True),
        (pe(), FileKind.PE, False),
        (macho(), FileKind.MACHO, False),
        (macho(order=">", bits=32), FileKind.MACHO, False),
        (bytes.fromhex("cafebabe00000002"), FileKind.MACHO, False),
        (bytes.fromhex("cafebabe00000034"), FileKind.OTHER, False),  # a Java class, version 52
        (b"MZ".ljust(64, b"\0"), FileKind.OTHER, False),
        (b"MZ", FileKind.OTHER, False),
        (b"hello\n", FileKind.OTHER, False),
        (b"#", FileKind.OTHER, False),
    ],
)
def test_other_formats(data: bytes, kind: FileKind, runs: bool) -> None:
    executable = of(data)
    assert executable.kind is kind
    answer = fit(executable, "x86_64")
    assert answer.ok is runs
    assert answer.why


@pytest.mark.parametrize(
    ("line", "shebang", "interpreter"),
    [
        (b"#! /usr/bin/env bash -e \nrest", "/usr/bin/env bash -e", "/usr/bin/env"),
        (b"#!/bin/sh", "/bin/sh", "/bin/sh"),
        (b"#!\n", "", None),
        (b"#!/bin/\xff\n", "/bin/\\xff", "/bin/\\xff"),
        (b"#!/" + b"x" * 1000, "/" + "x" * 253, "/" + "x" * 253),
    ],
)
def test_the_first_line_of_a_script(line: bytes, shebang: str, interpreter: str | None) -> None:
    executable = of(line)
    assert (executable.shebang, executable.interpreter) == (shebang, interpreter)


@pytest.mark.parametrize(
    ("machine", "bits", "order", "target", "ok"),
    [
        (62, 64, "<", "aarch64", False),
        (62, 64, "<", "i686", False),
        (62, 64, "<", "amd64", True),
        (3, 32, "<", "x86_64", True),
        (183, 64, "<", "x86_64", False),
        (183, 64, "<", "arm64", True),
        (40, 32, "<", "aarch64", None),
        (40, 32, "<", "armv6l", True),
        (21, 64, ">", "ppc64le", False),
        (62, 32, "<", "x86_64", False),  # x32: no port of Go
        (9999, 64, "<", "x86_64", False),
        (62, 64, "<", "quantum", None),
    ],
)
def test_where_it_runs(machine: int, bits: int, order: str, target: str, ok: bool | None) -> None:
    answer = fit(of(elf(machine=machine, bits=bits, order=order)), target)
    assert answer.ok is ok
    assert ok is True or answer.why


@pytest.mark.parametrize(
    ("kind", "entry", "ok"), [(1, 0, False), (4, 0, False), (3, 0, False), (3, 8, True), (2, 0, True)]
)
def test_object_files_cores_and_libraries_are_no_programs(kind: int, entry: int, ok: bool) -> None:
    assert fit(of(elf(kind=kind, entry=entry)), "x86_64").ok is ok


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF",
        elf()[:60],
        elf()[:4] + b"\3" + elf()[5:],
        elf()[:5] + b"\0" + elf()[6:],
        elf(segments=[Part(data=b"x", kind=3)]),
        elf(segments=[Part(data=b"x" * 5000, kind=3)]),
        elf(segments=[INTERPRETER])[:-30],
        elf(segments=[INTERPRETER]).replace(b"\x38\0\1\0", b"\x38\0\xff\xff"),  # 65535 program headers
        elf(segments=[INTERPRETER]).replace(b"\x38\0\1\0", b"\x37\0\1\0"),
    ],
)
def test_damaged_elf_is_an_error(data: bytes) -> None:
    with pytest.raises(BinaryError):
        of(data)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, words in [
            (fifo, "FIFO"),
            (tmp_path, "directory"),
            (tmp_path / "socket", "socket"),
            (Path("/dev/null"), "device"),
            (tmp_path / "none", "No such file"),
            (loop, "symbolic links"),
            (tmp_path / ("x" * 300), "too long"),
            (Path("a\0b"), "null byte"),
        ]:
            with pytest.raises(BinaryError, match=words):
                identify(path)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x7fELF", b"#!", b"MZ", bytes.fromhex("cffaedfe")]))
def test_any_bytes_give_an_answer_or_the_own_error(data: bytes, prefix: bytes) -> None:
    try:
        executable = of(prefix + data)
    except BinaryError:
        return
    assert fit(executable, "x86_64").why or executable.kind is FileKind.ELF


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.sampled_from([(32, "<"), (32, ">"), (64, "<"), (64, ">")]))
def test_mutants_give_an_answer_or_the_own_error(seed: int, shape: tuple[int, str]) -> None:
    rng = random.Random(seed)
    data = bytearray(elf(bits=shape[0], order=shape[1], segments=[INTERPRETER]))
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(4, len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    del data[rng.randint(4, len(data)) :]
    with contextlib.suppress(BinaryError):
        of(bytes(data))


class Counted:
    """An image that counts what it is asked."""

    def __init__(self, data: bytes) -> None:
        self._image, self.size, self.asked = BytesImage(data=data), len(data), 0

    def read(self, offset: int, length: int) -> bytes:
        self.asked += 1
        return self._image.read(offset, length)


@given(st.binary(max_size=20_000), st.lists(st.tuples(st.integers(-5, 20_100), st.integers(-5, 9000)), max_size=8))
def test_what_is_near_is_read_with_a_part_and_is_the_same(data: bytes, asked: list[tuple[int, int]]) -> None:
    near, plain = NearImage(BytesImage(data=data)), BytesImage(data=data)
    for offset, length in asked:
        try:
            expected = plain.read(offset, length)
        except BinaryError:
            with pytest.raises(BinaryError):
                near.read(offset, length)
        else:
            assert near.read(offset, length) == expected


def test_the_headers_of_a_program_are_one_read() -> None:
    image = Counted(elf(segments=[INTERPRETER]))
    assert identify_image(NearImage(image)) == of(elf(segments=[INTERPRETER]))
    assert image.asked == 1
