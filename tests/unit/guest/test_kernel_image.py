"""Kernels unpacked: what is found in a file, and what is left as it is."""

import lzma

import pytest

from cgroup_preflight.guest import kernel_image

ELF = b"\x7fELF" + bytes(range(256)) * 100
HEAD = b"MZ" + b"setup code \xfd7z and no more" * 20


def zstd_packed(data: bytes) -> bytes:
    zstd = pytest.importorskip("backports.zstd")
    return zstd.compress(data)


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
