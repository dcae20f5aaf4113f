"""Compressed streams, read within limits, and written again with the settings they had."""

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from cgroup_preflight.artifacts import streams
from cgroup_preflight.artifacts.model import CHUNK, RATIO_FLOOR, ArtifactError, Limits, corrupt, too_large, unsupported
from cgroup_preflight.core.report import Remedy

#: An xz stream may ask for 4 GiB of memory to be read; -9 needs 65 MiB.
_LZMA_MEMORY = 256 << 20
_BROKEN = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


class Decoder(Protocol):
    """The interface that bz2, lzma and zstd share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Encoder(Protocol):
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


_DECODERS: dict[str, Callable[[], Decoder]] = {
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


def encoder_like(codec: str, head: bytes) -> Encoder:
    """An encoder with the settings that `head`, the first bytes of a stream, tells of. Raises ArtifactError."""
    try:
        if codec == "gz":
            header = streams.gzip_header(head)
            return _Gzip(header, streams.gzip_level(header))
        if codec == "bz2":
            return bz2.BZ2Compressor(streams.bzip2_level(head))
        if codec == "lzma":
            return lzma.LZMACompressor(lzma.FORMAT_ALONE, filters=streams.lzma_filters(head))
        if codec == "xz":
            check, filters = streams.xz_settings(head)
            return lzma.LZMACompressor(lzma.FORMAT_XZ, check=check, filters=filters)
        level, checksum = streams.zstd_settings(head)
        zstd = _zstd()
        parameters = zstd.CompressionParameter
        options: dict[int, int] = {parameters.compression_level: level, parameters.checksum_flag: int(checksum)}
        encoder: Encoder = zstd.ZstdCompressor(options=options)
        return encoder
    except (IndexError, lzma.LZMAError):
        raise corrupt(f"the {codec} header is damaged") from None


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
