"""A kernel as QEMU can start it without unpacking: the ELF image inside a bzImage.

An emulated CPU takes two seconds to unpack its kernel; QEMU starts the unpacked one as Xen's guests are started (PVH,
`CONFIG_PVH`, which Debian's kernels have). What the payload is packed with is told by its first bytes, anywhere in the
file (linux, scripts/extract-vmlinux).
"""

import lzma
import sys
from collections.abc import Callable
from pathlib import Path

PACKED, UNPACKED = "vmlinuz", "vmlinux"
_ELF = b"\x7fELF"
_XZ, _ZSTD = b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


def unpack(folder: Path) -> None:
    """Puts the unpacked kernel beside the packed one in `folder`; where that cannot be, the packed one has to do."""
    data = (folder / PACKED).read_bytes()
    for magic, read in ((_ZSTD, _zstd), (_XZ, _xz)):
        at = data.find(magic)
        kernel = read(data[at:]) if at >= 0 else b""
        if kernel.startswith(_ELF):
            (folder / UNPACKED).write_bytes(kernel)
            return


def found_in(folder: Path) -> Path | None:
    """The kernel of an image in `folder`, None where there is none."""
    return next((folder / name for name in (UNPACKED, PACKED) if (folder / name).exists()), None)


def _zstd(data: bytes) -> bytes:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:  # an optional part of Python, and of this installation
        return b""
    return _all(zstd.ZstdDecompressor().decompress, data, zstd.ZstdError)


def _xz(data: bytes) -> bytes:
    return _all(lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress, data, lzma.LZMAError)


def _all(decompress: Callable[[bytes], bytes], data: bytes, error: type[Exception]) -> bytes:
    """What is packed at the beginning of `data`, whatever follows; nothing where that is no such thing."""
    try:
        return decompress(data)
    except error:
        return b""
