"""Kernels unpacked: what is found in a file, and what is left as it is."""

import ctypes
import lzma

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


@pytest.mark.parametrize(
    "content",
    [HEAD, HEAD + b"\xfd7zXZ\x00 damaged", HEAD + b"\x28\xb5\x2f\xfd damaged", HEAD + lzma.compress(b"no ELF")],
)
def test_else_the_packed_one_has_to_do(tmp_path, content):
    (tmp_path / "vmlinuz").write_bytes(content)
    kernel_image.unpack(tmp_path)
    assert kernel_image.found_in(tmp_path) == tmp_path / "vmlinuz"


def test_an_image_without_a_kernel(tmp_path):
    assert kernel_image.found_in(tmp_path) is None
