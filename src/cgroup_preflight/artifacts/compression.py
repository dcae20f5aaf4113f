"""Compressed streams, read within limits, and written again with the settings that their heads show.

Sources: RFC 1952 (gzip), the .xz file format 1.1, RFC 8878 (zstd), the LZMA SDK (lzma), dpkg's deb(5).
"""

import bz2
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from cgroup_preflight.artifacts.model import CHUNK, RATIO_FLOOR, ArtifactError, Limits, corrupt, too_large, unsupported
from cgroup_preflight.core.report import Remedy

#: Magic numbers; `lzma` has none.
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
#: A head this long holds every field; gzip's file name and comment have no limit of their own.
HEAD = 1 << 16
_FEXTRA, _FNAME, _FCOMMENT, _FHCRC = 4, 8, 16, 2
_PRESETS = {1 << 18: 0, 1 << 20: 1, 1 << 21: 2, 1 << 22: 4, 1 << 23: 6, 1 << 24: 7, 1 << 25: 8, 1 << 26: 9}
#: zstd's window when the size is not known in advance to the level that has it (clevels.h); dpkg-deb uses 19.
_ZSTD_LEVELS = {19: 1, 20: 2, 21: 3, 22: 12, 23: 19}
#: From this level on it packs on all processors.
_ZSTD_SLOW = 10
#: An xz stream may ask for 4 GiB of memory to be read; -9 needs 65 MiB.
_LZMA_MEMORY = 256 << 20
_BROKEN = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


class _Decoder(Protocol):
    """The interface that bz2, lzma and zstd share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Encoder(Protocol):
    """What turns chunks into a compressed stream."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Gunzip:
    """zlib with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        # A full answer may not have been all that the bytes so far unpack to.
        return not self._inner.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        chunk = self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))
        self._full = len(chunk) == max_length
        return chunk


class _Gzip:
    """A gzip member with the header it had (RFC 1952): name, time and comment stay."""

    def __init__(self, header: bytes, level: int) -> None:
        self._header, self._crc, self._size = header, 0, 0
        self._inner = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 8)

    def compress(self, data: bytes, /) -> bytes:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        header, self._header = self._header, b""
        return header + self._inner.compress(data)

    def flush(self) -> bytes:
        trailer = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._header + self._inner.flush() + trailer


def codec_of(head: bytes) -> str:
    """The codec by magic number; empty if it is none of them."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gz": _Gunzip,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY),
    "zst": lambda: _zstd().ZstdDecompressor(),
}
#: Streams that padding of zero bytes may follow (tape blocks; the xz file format, 2.2).
_PADDED = ("gz", "xz")


def _zstd() -> Any:  # noqa: ANN401 - one of two modules with one interface
    """Python's own zstd, or the backport; only here, so that all else works without it. Raises ArtifactError."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        install = Remedy(title="install it", commands=(("python3", "-m", "pip", "install", "backports.zstd"),))
        raise unsupported("zstd needs the Python package backports.zstd, which is not installed", install) from None
    return zstd


def _broken(codec: str) -> tuple[type[Exception], ...]:
    return (*_BROKEN, _zstd().ZstdError) if codec == "zst" else _BROKEN


def encoder_like(codec: str, head: bytes) -> _Encoder:
    """An encoder with the settings that `head`, the first bytes of a stream, tells of. Raises ArtifactError."""
    try:
        if codec == "gz":
            header = _gzip_header(head)
            return _Gzip(header, _gzip_level(header))
        if codec == "bz2":
            return bz2.BZ2Compressor(_bzip2_level(head))
        if codec == "lzma":
            return lzma.LZMACompressor(lzma.FORMAT_ALONE, filters=_lzma_filters(head))
        if codec == "xz":
            check, filters = xz_settings(head)
            return lzma.LZMACompressor(lzma.FORMAT_XZ, check=check, filters=filters)
        level, checksum = _zstd_settings(head)
        zstd = _zstd()
        parameters = zstd.CompressionParameter
        options: dict[int, int] = {parameters.compression_level: level, parameters.checksum_flag: int(checksum)}
        if level >= _ZSTD_SLOW and parameters.nb_workers.bounds()[1]:
            # As dpkg-deb does; how many there are changes nothing of the result (zstd.h, ZSTD_c_nbWorkers).
            options[parameters.nb_workers] = os.cpu_count() or 1
        encoder: _Encoder = zstd.ZstdCompressor(options=options)
        return encoder
    except (IndexError, lzma.LZMAError):
        raise corrupt(f"the {codec} header is damaged") from None


def _gzip_header(head: bytes) -> bytes:
    """The header of the first member as it is. Raises IndexError if it is cut or longer than HEAD."""
    flags, end = head[3], 10
    if flags & _FEXTRA:
        end += 2 + int.from_bytes(head[end : end + 2], "little")
    for flag in (_FNAME, _FCOMMENT):
        if flags & flag:
            end = _after_zero(head, end)
    if flags & _FHCRC:
        end += 2
    if end > len(head):
        raise IndexError(end)
    return head[:end]


def _after_zero(head: bytes, start: int) -> int:
    zero = head.find(0, start)
    if zero < 0:
        raise IndexError(start)
    return zero + 1


def _gzip_level(header: bytes) -> int:
    """The level by XFL, as gzip, zlib and Go set it: 2 for the best, 4 for the fastest, else the default."""
    return {2: 9, 4: 1}.get(header[8], 6)


def _bzip2_level(head: bytes) -> int:
    """The block size digit, 1 to 9."""
    level = head[3] - ord("0")
    return level if 1 <= level <= 9 else 9


def _lzma_filters(head: bytes) -> list[dict[str, Any]]:
    """The filter of a .lzma file: the preset that has its dictionary."""
    size = int.from_bytes(head[1:5], "little")
    return [{"id": lzma.FILTER_LZMA1, "preset": _preset(size), "dict_size": max(size, 4096)}]


def xz_settings(head: bytes) -> tuple[int, list[dict[str, Any]] | None]:
    """Integrity check and filter chain of the first block; None for the default chain."""
    check, position = head[7] & 0x0F, 12
    if head[position] == 0:
        return check, None
    flags, position = head[position + 1], position + 2
    for flag in (0x40, 0x80):
        if flags & flag:
            _, position = vli(head, position)
    chain: list[dict[str, Any]] = []
    for _ in range((flags & 3) + 1):
        number, position = vli(head, position)
        length, position = vli(head, position)
        properties, position = head[position : position + length], position + length
        chain.append(_filter(number, properties))
    return check, chain


def _filter(number: int, properties: bytes) -> dict[str, Any]:
    if number == lzma.FILTER_LZMA2:
        bits = properties[0]
        size = (2 | (bits & 1)) << (bits // 2 + 11) if bits < 40 else 0xFFFFFFFF
        return {"id": number, "preset": _preset(size), "dict_size": min(size, 1 << 26)}
    if number == lzma.FILTER_DELTA:
        return {"id": number, "dist": properties[0] + 1}
    return {"id": number}


def vli(head: bytes, position: int) -> tuple[int, int]:
    """A number of variable length of the .xz format, and the position after it. Raises IndexError if it is cut."""
    value = 0
    for shift in range(0, 63, 7):
        byte, position = head[position], position + 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
    return value, position


def _preset(size: int) -> int:
    return _PRESETS.get(size, 6)


def _zstd_settings(head: bytes) -> tuple[int, bool]:
    """Level, by the window, and whether there is a checksum; level 3, zstd's own, where the window tells nothing."""
    descriptor = head[4]
    checksum = bool(descriptor & 4)
    if descriptor & 0x20:
        return 3, checksum
    window = 10 + (head[5] >> 3)
    return _ZSTD_LEVELS.get(window, 19 if window > 23 else 3), checksum


def decoded(codec: str, blocks: Iterable[bytes], limits: Limits) -> Iterator[bytes]:
    """The unpacked stream of `blocks`, at most CHUNK at a time. Raises ArtifactError (CGP305)."""
    read, made = 0, 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for block in blocks:
            read += len(block)
            yield block

    for chunk in _streams(codec, counted()):
        made += len(chunk)
        if made > limits.unpacked:
            raise too_large(f"unpacks to more than {limits.unpacked} bytes", "--max-size")
        if made > RATIO_FLOOR and made > limits.ratio * read:
            raise too_large(f"unpacks to more than {limits.ratio} times its size, as bombs do", "--max-ratio")
        yield chunk


def _streams(codec: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """All streams of a file one after the other: `cat a.gz b.gz` is a gzip file, too."""
    data = next(blocks, b"")
    while True:
        try:
            decoder = _DECODERS[codec]()
            while not decoder.eof:
                if decoder.needs_input and not data:
                    data = next(blocks, b"")
                    if not data:
                        raise corrupt(f"the {codec} stream ends too early: it is truncated")
                chunk = decoder.decompress(data, CHUNK)
                data = b""
                if chunk:
                    yield chunk
        except ArtifactError:
            raise
        except _broken(codec) as error:
            raise corrupt(f"the {codec} stream is damaged: {error}") from None
        data = decoder.unused_data
        while not data or (codec in _PADDED and not data.strip(b"\0")):
            data = next(blocks, b"")
            if not data:
                return
        if codec in _PADDED:
            data = data.lstrip(b"\0")
