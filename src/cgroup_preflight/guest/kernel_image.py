"""Unpacks the ELF image in a bzImage, which QEMU can start directly.

An emulated CPU takes two seconds to unpack its kernel (with LZ4 a third of a second). QEMU starts an unpacked kernel by
PVH, Xen's protocol (`CONFIG_PVH`, set in Debian's kernels). The magic number of the payload tells its compression; it may
be anywhere in the file (linux, scripts/extract-vmlinux).
"""

import ctypes
import lzma
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

PACKED, UNPACKED = "vmlinuz", "vmlinux"
_ELF = b"\x7fELF"
_XZ, _ZSTD, _LZ4 = b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20
#: elf(5), Elf64_Ehdr from e_phoff on and Elf64_Phdr.
_HEADER, _SEGMENT = struct.Struct("<QQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_HEADER_AT, _LOAD, _PAGE = 32, 1, 4096


def unpack(folder: Path) -> None:
    """Puts the unpacked kernel into `folder` in place of the packed one, which stays if it cannot be unpacked."""
    data = (folder / PACKED).read_bytes()
    for magic, read in ((_ZSTD, _zstd), (_XZ, _xz), (_LZ4, _lz4)):
        for at in _places(data, magic):
            kernel = read(data[at:])
            if kernel.startswith(_ELF):
                (folder / UNPACKED).write_bytes(_trimmed(kernel))
                (folder / PACKED).unlink()
                return


def unpacked(module: bytes) -> bytes:
    """A module of the kernel, unpacked if its format is known."""
    read = next((read for magic, read in ((_XZ, _xz), (_ZSTD, _zstd)) if module.startswith(magic)), None)
    return (read(module) if read is not None else b"") or module


def found_in(folder: Path) -> Path | None:
    """The kernel in `folder`, unpacked if possible; None if there is none."""
    return next((folder / name for name in (UNPACKED, PACKED) if (folder / name).exists()), None)


def _trimmed(kernel: bytes) -> bytes:
    """Without the zeros at the ends of segments (12 MiB of uninitialised data) and all that follows the last segment.

    QEMU would keep them in memory while the machine runs, and the memory of a new machine is zero anyway.
    """
    if len(kernel) < _HEADER_AT + _HEADER.size:
        return kernel
    table, _, flags, size, entry, count, *_ = _HEADER.unpack_from(kernel, _HEADER_AT)
    if entry != _SEGMENT.size or not count or table + count * entry > len(kernel):
        return kernel
    made, end = bytearray(kernel), 0
    for at in range(table, table + count * entry, entry):
        kind, access, offset, virtual, physical, stored, _, align = _SEGMENT.unpack_from(kernel, at)
        used = len(kernel[offset : offset + stored].rstrip(b"\0"))
        kept = min(-(-used // _PAGE) * _PAGE, stored)
        end = max(end, offset + (kept if kind == _LOAD else stored))
        if kind == _LOAD:
            _SEGMENT.pack_into(made, at, kind, access, offset, virtual, physical, kept, kept, align)
    _HEADER.pack_into(made, _HEADER_AT, table, 0, flags, size, entry, count, 0, 0, 0)
    return bytes(made[:end])


def _places(data: bytes, magic: bytes) -> Iterator[int]:
    at = -1
    while (at := data.find(magic, at + 1)) >= 0:
        yield at


def _zstd(data: bytes) -> bytes:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:  # optional in Python and in our dependencies
        return b""
    return _all(zstd.ZstdDecompressor().decompress, data, zstd.ZstdError)


def _xz(data: bytes) -> bytes:
    return _all(lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress, data, lzma.LZMAError)


def _lz4(data: bytes) -> bytes:
    """Blocks, each after its size, then the size of the unpacked data (linux, lib/decompress_unlz4.c, size_append).

    Uses the library of apt and systemd, so that it exists where a guest can be built.
    """
    try:
        library = ctypes.CDLL("liblz4.so.1")
    except OSError:
        return b""
    block, blocks, at = ctypes.create_string_buffer(_LZ4_BLOCK), [], len(_LZ4)
    while 0 < (size := int.from_bytes(data[at : at + 4], "little")) <= len(data) - at - 4:
        made = library.LZ4_decompress_safe(data[at + 4 : at + 4 + size], block, size, _LZ4_BLOCK)
        if made <= 0:
            return b""
        blocks.append(ctypes.string_at(block, made))
        at += 4 + size
    kernel = b"".join(blocks)
    return kernel if len(kernel) == size else b""


def _all(decompress: Callable[[bytes], bytes], data: bytes, error: type[Exception]) -> bytes:
    """Unpacks the stream at the beginning of `data` and ignores what follows; empty for anything else."""
    try:
        return decompress(data)
    except error:
        return b""
