"""Parts of a page that are compressed once and put together into one gzip stream (RFC 1952).

Each part is a run of deflate blocks that ends at a whole byte and refers to nothing before it (RFC 1951), so parts can
follow each other in any order; the checksum of all is computed from the checksums of the parts.
"""

import functools
import struct
import zlib
from collections.abc import Iterable

#: Level 1, a window of 4 KiB and little memory: lines repeat at once, and a small state is made quickly.
_LEVEL, _WINDOW, _MEMORY = 1, -12, 5
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
#: An empty last block of fixed codes.
_LAST = b"\x03\x00"
#: The polynomial of CRC-32, bits reversed.
_POLYNOMIAL = 0xEDB88320


#: Deflate blocks, the checksum of the text in them, and its length in bytes.
_Packed = tuple[bytes, int, int]
#: Parts of a run that are joined at a time; where one of them changes, the others of its group are joined again.
_GROUP = 16


class Chunk:
    """Text of a page, and its compressed form, made at the first use."""

    __slots__ = ("_packed", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._packed: _Packed | None = None

    def packed(self) -> _Packed:
        """The compressed form."""
        if self._packed is None:
            stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
            blocks = stream.compress(self.data) + stream.flush(zlib.Z_SYNC_FLUSH)
            self._packed = (blocks, zlib.crc32(self.data), len(self.data))
        return self._packed


class Run:
    """Chunks that follow each other, and their joined compressed form."""

    __slots__ = ("_groups", "_packed", "chunks")

    def __init__(self) -> None:
        self.chunks: tuple[Chunk, ...] = ()
        self._groups: list[tuple[tuple[Chunk, ...], _Packed]] = []
        self._packed: _Packed | None = None

    def replace(self, chunks: Iterable[Chunk]) -> None:
        """Takes over other chunks; groups of chunks that stay the same are not joined again."""
        found = tuple(chunks)
        if found != self.chunks:
            self.chunks, self._packed = found, None

    def packed(self) -> _Packed:
        """The compressed form of all chunks."""
        if self._packed is None:
            groups = []
            for start in range(0, len(self.chunks), _GROUP):
                group, index = self.chunks[start : start + _GROUP], start // _GROUP
                if index < len(self._groups) and self._groups[index][0] == group:
                    groups.append(self._groups[index])
                else:
                    groups.append((group, _joined(chunk.packed() for chunk in group)))
            self._groups = groups
            self._packed = _joined(packed for _, packed in groups)
        return self._packed


def _joined(parts: Iterable[_Packed]) -> _Packed:
    blocks, crc, size = list[bytes](), 0, 0
    for data, checksum, length in parts:
        blocks.append(data)
        crc = combined(crc, checksum, length)
        size += length
    return b"".join(blocks), crc, size


def gzipped(runs: Iterable[Run]) -> list[bytes]:
    """One gzip stream of all runs, in parts."""
    parts, crc, size = [_HEADER], 0, 0
    for run in runs:
        blocks, checksum, length = run.packed()
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
