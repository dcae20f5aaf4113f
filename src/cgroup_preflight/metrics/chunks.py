"""Parts of a page that are compressed once and put together into one gzip stream (RFC 1952).

Each part is a run of deflate blocks that ends at a whole byte and refers to nothing before it (RFC 1951), so parts can
follow each other in any order; the checksum of all is computed from the checksums of the parts.
"""

import functools
import struct
import zlib
from collections.abc import Iterable, Sequence

#: Level 1, a window of 4 KiB and little memory: lines repeat at once, and a small state is made quickly.
_LEVEL, _WINDOW, _MEMORY = 1, -12, 5
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
#: An empty last block of fixed codes.
_LAST = b"\x03\x00"
#: The polynomial of CRC-32, bits reversed.
_POLYNOMIAL = 0xEDB88320


class Chunk:
    """Text of a page, and its compressed form, made at the first use."""

    __slots__ = ("_deflated", "crc", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._deflated: bytes | None = None
        self.crc = 0

    @property
    def deflated(self) -> bytes:
        """The deflate blocks; sets `crc`."""
        if self._deflated is None:
            stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
            self._deflated = stream.compress(self.data) + stream.flush(zlib.Z_SYNC_FLUSH)
            self.crc = zlib.crc32(self.data)
        return self._deflated


class Run:
    """Chunks that follow each other; joined once when it is compressed."""

    __slots__ = ("_joined", "chunks")

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = tuple(chunks)
        self._joined: tuple[bytes, int, int] | None = None

    def joined(self) -> tuple[bytes, int, int]:
        """The deflate blocks of all chunks, the checksum of their text, and its length."""
        if self._joined is None:
            parts, crc, size = [], 0, 0
            for chunk in self.chunks:
                parts.append(chunk.deflated)
                crc = combined(crc, chunk.crc, len(chunk.data))
                size += len(chunk.data)
            self._joined = (b"".join(parts), crc, size)
        return self._joined


def gzipped(runs: Iterable[Run]) -> list[bytes]:
    """One gzip stream of all runs, in parts."""
    parts, crc, size = [_HEADER], 0, 0
    for run in runs:
        blocks, checksum, length = run.joined()
        parts.append(blocks)
        crc = combined(crc, checksum, length)
        size += length
    parts.append(_LAST + struct.pack("<II", crc, size & 0xFFFFFFFF))
    return parts


def combined(first: int, second: int, length: int) -> int:
    """The CRC-32 of two texts after each other, from that of each and the length of the second in bytes."""
    if first == 0:
        return second
    return _times(_power(length), first) ^ second


@functools.lru_cache(maxsize=1 << 14)
def _power(length: int) -> int:
    """Return x to the power of 8 * `length`, modulo the polynomial: what that many bytes of zeros do to a checksum."""
    result, index = 1 << 31, 3
    while length:
        if length & 1:
            result = _times(_squares()[index & 31], result)
        length >>= 1
        index += 1
    return result


@functools.lru_cache(maxsize=1)
def _squares() -> tuple[int, ...]:
    """Return x to the powers of 2^n, modulo the polynomial."""
    found = [1 << 30]
    for _ in range(31):
        found.append(_times(found[-1], found[-1]))
    return tuple(found)


def _times(one: int, other: int) -> int:
    """The product of two polynomials over GF(2), modulo the polynomial of CRC-32; bit 31 is the constant."""
    product, bit = 0, 1 << 31
    while one:
        if one & bit:
            product ^= other
            one ^= bit
        bit >>= 1
        other = (other >> 1) ^ _POLYNOMIAL if other & 1 else other >> 1
    return product
