"""Kernels unpacked: what is found in a file, and what is left as it is."""

import ctypes
import lzma
import struct

import pytest

from cgroup_preflight.guest import kernel_image

ELF = b"\x7fELF" + bytes(range(256)) * 100
HEAD = b"MZ" + b"setup code \xfd7z and no more" * 20


def zstd_packed(data: bytes) -> bytes:
    zstd = pytest.importorskip("backports.zstd")
    return zstd.compress(data)


def lz4_packed(data: bytes, *, block: int = 20_000, size: int | None = None) -> bytes:
    """As `lz4 -l` packs, and with the size that the kernel's build puts after it; the real ones have blocks of 8 MiB."""
    try:
        library = ctypes.CDLL("liblz4.so.1")
    except OSError:
        pytest.skip("liblz4 is not on this machine")
    made = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), block):
        room = ctypes.create_string_buffer(2 * block)
        piece = data[at : at + block]
        packed = ctypes.string_at(room, library.LZ4_compress_default(piece, room, len(piece), len(room)))
        made += len(packed).to_bytes(4, "little") + packed
    return made + (len(data) if size is None else size).to_bytes(4, "little")


#: More than the file that it is packed into, as a real kernel is: its size ends the blocks.
BIG_ELF = ELF * 40


def test_the_elf_image_is_taken_out_of_blocks(tmp_path):
    (tmp_path / "vmlinuz").write_bytes(HEAD + b"\x02\x21\x4c\x18 no blocks" + lz4_packed(BIG_ELF) + b"tail of the file")
    kernel_image.unpack(tmp_path)
    assert (tmp_path / "vmlinux").read_bytes() == BIG_ELF


def test_blocks_that_are_not_all_there_are_no_kernel(tmp_path):
    whole = lz4_packed(BIG_ELF)
    for packed in (whole[:-300], lz4_packed(BIG_ELF, size=len(BIG_ELF) - 1), whole[:8] + b"\0" * 200 + whole[208:]):
        (tmp_path / "vmlinuz").write_bytes(HEAD + packed)
        kernel_image.unpack(tmp_path)
        assert kernel_image.found_in(tmp_path) == tmp_path / "vmlinuz"


@pytest.mark.parametrize("pack", [zstd_packed, lzma.compress])
def test_the_elf_image_is_taken_out(tmp_path, pack):
    (tmp_path / "vmlinuz").write_bytes(HEAD + pack(ELF) + b"tail of the file")
    kernel_image.unpack(tmp_path)
    assert (tmp_path / "vmlinux").read_bytes() == ELF
    assert kernel_image.found_in(tmp_path) == tmp_path / "vmlinux"
    # Nobody needs it any more.
    assert not (tmp_path / "vmlinuz").exists()


@pytest.mark.parametrize(
    "content",
    [HEAD, HEAD + b"\xfd7zXZ\x00 damaged", HEAD + b"\x28\xb5\x2f\xfd damaged", HEAD + lzma.compress(b"no ELF")],
)
def test_else_the_packed_one_has_to_do(tmp_path, content):
    (tmp_path / "vmlinuz").write_bytes(content)
    kernel_image.unpack(tmp_path)
    assert kernel_image.found_in(tmp_path) == tmp_path / "vmlinuz"


def elf(*segments: tuple[int, int, bytes], sections: bytes = b"") -> bytes:
    """An ELF64 file as elf(5) draws it, of (kind, physical address, content), with its sections at the end."""
    offset, table, body = 64 + 56 * len(segments), b"", b""
    for kind, physical, content in segments:
        table += struct.pack(
            "<IIQQQQQQ", kind, 5, offset + len(body), physical, physical, len(content), len(content), 1
        )
        body += content
    count = len(sections) // 64
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQ", 2, 62, 1, 0x1000000)
    head += struct.pack("<QQIHHHHHH", 64, offset + len(body) if count else 0, 0, 64, 56, len(segments), 64, count, 0)
    return head + table + body + sections


def test_what_is_zero_at_the_end_of_a_segment_is_left_out(tmp_path):
    """Of the same memory, the first bytes of each segment are as they were, and the rest is zero."""
    code, data, note = b"\1" * 9000, b"\0" * 5000 + b"\2" * 4000 + b"\0" * 90_000, b"xen"
    whole = elf((1, 0x1000, code), (1, 0x9000, data), (1, 0x40000, b"\0" * 5000), (4, 0, note), sections=b"\3" * 640)
    (tmp_path / "vmlinuz").write_bytes(lzma.compress(whole))
    kernel_image.unpack(tmp_path)
    kernel = (tmp_path / "vmlinux").read_bytes()
    assert kernel[:16] == whole[:16]
    table, sections, _, _, entry, count, _, section_count, _ = struct.unpack_from("<QQIHHHHHH", kernel, 32)
    assert (sections, section_count, entry, count) == (0, 0, 56, 4)
    found = [struct.unpack_from("<IIQQQQQQ", kernel, table + at * entry) for at in range(count)]
    assert [(kind, where, stored, taken) for kind, _, _, _, where, stored, taken, _ in found] == [
        (1, 0x1000, 9000, 9000), (1, 0x9000, 12288, 12288), (1, 0x40000, 0, 0), (4, 0, 3, 3),
    ]  # fmt: skip
    for (_, _, content), (_, _, offset, _, _, stored, _, _) in zip(
        [(0, 0, code), (0, 0, data), (0, 0, b""), (0, 0, note)], found, strict=True
    ):
        assert kernel[offset : offset + stored] == content[:stored]
        assert not content[stored:].strip(b"\0")


def test_an_elf_file_of_another_kind_stays_as_it_is(tmp_path):
    for odd in (ELF, b"\x7fELF", elf(), elf((1, 0, b"x"))[:70]):
        (tmp_path / "vmlinuz").write_bytes(lzma.compress(odd))
        kernel_image.unpack(tmp_path)
        assert (tmp_path / "vmlinux").read_bytes() == odd


def test_an_image_without_a_kernel(tmp_path):
    assert kernel_image.found_in(tmp_path) is None
