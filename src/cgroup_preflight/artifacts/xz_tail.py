"""Changes near the end of an .xz stream: what is before them stays packed as it is, which takes no time and no memory.

An .xz stream is a row of blocks and an index of them. A block is a row of LZMA2 chunks, and a checksum of what they
unpack to. A chunk may begin without the data before it ("dictionary reset"), so new chunks can follow old ones; the
checksum of the whole follows from the old one, because a CRC is linear.

Sources: the .xz file format 1.1; liblzma's lzma2_decoder.c (chunks); zlib's crc32_combine (checksums).
"""

import lzma
import os
import zlib
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from typing import Any, BinaryIO

from cgroup_preflight.artifacts.compression import decoded, vli, xz_settings
from cgroup_preflight.artifacts.model import Limits, Splice
from cgroup_preflight.artifacts.streams import ChunkStream, copy_range, read_range, spliced
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.files import Sink

#: What follows the first change, unpacked. With more, the whole stream is packed again, a little at a time.
_TAIL_MAX = 8 << 20
#: The length of the stream's header, and of its footer.
_FRAME = 12
_MAGIC, _FOOTER_MAGIC = b"\xfd7zXZ\x00", b"YZ"
_INDEX_MAX = 1 << 20
#: Bytes and polynomial of a check, the coefficient of x^0 in the highest bit; a SHA-256 cannot be continued.
_CHECKS = {lzma.CHECK_NONE: (0, 0), lzma.CHECK_CRC32: (4, 0xEDB88320), lzma.CHECK_CRC64: (8, 0xC96C5795D7870F42)}
#: The least work that still gives a checksum.
_FASTEST = {
    "id": lzma.FILTER_LZMA2,
    "preset": 0,
    "dict_size": 4096,
    "mode": lzma.MODE_FAST,
    "mf": lzma.MF_HC3,
    "depth": 1,
}

_Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A place where an .xz stream can be continued, between two chunks of one of its blocks.

    `frame`: the stream's header. `whole`: the blocks before that block, each as packed bytes without padding, and
    unpacked bytes. The block begins at `start` of the stream; `kept` bytes of its chunks stay, which unpack to `done`.
    It unpacks to `size`, with the checksum `check`, and all blocks from this one on to `rest`; they end at `end`.
    """

    frame: bytes
    whole: tuple[tuple[int, int], ...]
    start: int
    header: bytes
    kept: int
    done: int
    size: int
    check: bytes
    rest: int
    end: int


def find_cut(file: BinaryIO, start: int, length: int, offset: int) -> Cut | None:
    """The last place at or before `offset` of the unpacked stream where the packed one can be continued.

    The stream is `length` bytes of `file` from `start`, and unpacks without an error. None where all of it has to be
    packed again: it has several streams or padding, other filters, a SHA-256, or too much follows the change.
    """

    def read(place: int, size: int) -> bytes:
        return os.pread(file.fileno(), min(size, length - place), start + place) if 0 <= place < length else b""

    try:
        return _find_cut(read, length, offset)
    except IndexError:
        return None


def _find_cut(read: _Read, length: int, offset: int) -> Cut | None:
    frame = read(0, _FRAME)
    blocks = _blocks(read, frame, length)
    whole = sum(end <= offset for end in accumulate(size for _, size in blocks))
    if whole == len(blocks):
        return None
    packed, unpacked = blocks[whole]
    place = _FRAME + sum(_padded(size) for size, _ in blocks[:whole])
    header = read(place, (read(place, 1)[0] + 1) * 4)
    # One filter, and that LZMA2, whose one byte of properties is the size of its dictionary.
    if header[1] & 0x3F or _filter_of(header)[:2] != bytes((lzma.FILTER_LZMA2, 1)):
        return None
    kept, done = _chunks(read, place + len(header), offset - sum(size for _, size in blocks[:whole]))
    rest = sum(size for _, size in blocks[whole:])
    if rest - done > _TAIL_MAX:
        return None
    check_size, _ = _CHECKS[frame[7]]
    return Cut(
        frame=frame, whole=blocks[:whole], start=place, header=header, kept=kept, done=done, size=unpacked,
        check=read(place + _padded(packed) - check_size, check_size), rest=rest,
        end=place + sum(_padded(size) for size, _ in blocks[whole:]),
    )  # fmt: skip


def write_continued(sink: Sink, file: BinaryIO, start: int, cut: Cut, splices: Sequence[Splice]) -> None:
    """The stream with `splices`, none of them before the cut. Raises ArtifactError, OSError."""
    before = sum(size for _, size in cut.whole) + cut.done
    packed = chain((cut.frame,), read_range(file, start + cut.start, cut.end - cut.start))
    # What this unpacks to was compared with the limits when the artifact was read.
    stream = ChunkStream(decoded("xz", packed, Limits(ratio=1 << 62)))
    stream.skip(cut.done)
    old = stream.read(cut.rest - cut.done)
    moved = [Splice(offset=item.offset - before, remove=item.remove, data=item.data) for item in splices]
    new = b"".join(spliced([old], moved))
    check_type, filters = xz_settings(cut.frame + cut.header)
    chunks, crc = _packed(new, check_type, filters or [_FASTEST])
    header = _header(cut.header)
    size = len(header) + cut.kept + len(chunks)
    check_size, polynomial = _CHECKS[cut.frame[7]]
    check = crc
    if cut.done:
        # That of `crc(A + B)` and of B gives that of A, and so of A + C.
        was = int.from_bytes(cut.check, "little") ^ _checksum(old[: cut.size - cut.done], cut.frame[7])
        check ^= _shifted(was, len(new) - (cut.size - cut.done), polynomial, check_size * 8)
    copy_range(sink, file, start, cut.start)
    sink.write(header)
    copy_range(sink, file, start + cut.start + len(cut.header), cut.kept)
    sink.write(chunks + b"\0" * (-size % 4) + check.to_bytes(check_size, "little"))
    sink.write(_end((*cut.whole, (size + check_size, cut.done + len(new))), cut.frame[6:8]))


def _blocks(read: _Read, frame: bytes, length: int) -> tuple[tuple[int, int], ...]:
    """Each block's packed size without padding, and unpacked size; none where this is no single stream. IndexError."""
    footer = read(length - _FRAME, _FRAME)
    index_size = (int.from_bytes(footer[4:8], "little") + 1) * 4
    if frame[:6] != _MAGIC or footer[8:] != frame[6:8] + _FOOTER_MAGIC or frame[7] not in _CHECKS:
        return ()
    if index_size > _INDEX_MAX:
        return ()
    index = read(length - _FRAME - index_size, index_size)
    count, at = vli(index, 1)
    blocks = []
    for _ in range(count):
        packed, at = vli(index, at)
        unpacked, at = vli(index, at)
        blocks.append((packed, unpacked))
    # Several streams one after the other, or zeros between them, do not add up.
    whole = _FRAME + sum(_padded(packed) for packed, _ in blocks) + index_size + _FRAME
    return tuple(blocks) if whole == length else ()


def _filter_of(header: bytes) -> bytes:
    """The filters of a block's header, behind the sizes that it may state."""
    at = 2
    for flag in (0x40, 0x80):
        if header[1] & flag:
            _, at = vli(header, at)
    return header[at:]


def _header(old: bytes) -> bytes:
    """A block's header with the filter of an old one and without sizes, which it need not state."""
    head = bytes((2, 0)) + _filter_of(old)[:3] + b"\0\0\0"
    return head + zlib.crc32(head).to_bytes(4, "little")


def _chunks(read: _Read, place: int, offset: int) -> tuple[int, int]:
    """Packed and unpacked bytes of the chunks that end at or before `offset` of the block. Raises IndexError."""
    kept = done = 0
    while True:
        head = read(place + kept, 5)
        if head[0] >= 0x80:
            unpacked = ((head[0] & 0x1F) << 16) + int.from_bytes(head[1:3], "big") + 1
            packed = int.from_bytes(head[3:5], "big") + 1 + (6 if head[0] >= 0xC0 else 5)
        elif head[0]:
            unpacked = int.from_bytes(head[1:3], "big") + 1
            packed = unpacked + 3
        if not head[0] or done + unpacked > offset:
            return kept, done
        kept, done = kept + packed, done + unpacked


def _packed(data: bytes, check: int, filters: list[dict[str, Any]]) -> tuple[bytes, int]:
    """`data` as chunks with their end mark, and its checksum."""
    if not data:
        return b"\0", 0
    # A dictionary beyond the data changes nothing but the memory of the encoder.
    fitting = [{**item, "dict_size": max(4096, min(item["dict_size"], len(data)))} for item in filters]
    stream = lzma.compress(data, lzma.FORMAT_XZ, check=check, filters=fitting)
    index = len(stream) - _FRAME - (int.from_bytes(stream[-8:-4], "little") + 1) * 4
    size, _ = vli(stream, index + 2)  # after its mark and the number of blocks, which is one
    check_size, _ = _CHECKS[check]
    chunks = stream[_FRAME + (stream[_FRAME] + 1) * 4 : _FRAME + size - check_size]
    return chunks, int.from_bytes(stream[index - check_size : index], "little")


def _checksum(data: bytes, check: int) -> int:
    """The CRC of `data`; of the 64 bits that Python has no function for, liblzma makes it while it packs."""
    return zlib.crc32(data) if check == lzma.CHECK_CRC32 else _packed(data, check, [_FASTEST])[1]


def _shifted(crc: int, count: int, polynomial: int, bits: int) -> int:
    """A CRC times x^(8 count): that of the same bytes, as far as `count` more bytes behind them matter to it."""
    if not bits:
        return 0
    top = 1 << (bits - 1)
    # x, or with fewer bytes its inverse; every CRC's polynomial has the term x^0.
    factor = top >> 1 if count > 0 else ((top ^ polynomial) << 1 & (2 * top - 1)) | 1
    power = 8 * abs(count)
    while power:
        if power & 1:
            crc = _product(crc, factor, polynomial, top)
        factor = _product(factor, factor, polynomial, top)
        power >>= 1
    return crc


def _product(left: int, right: int, polynomial: int, top: int) -> int:
    """The product of two polynomials over GF(2), modulo the polynomial of the CRC."""
    product = 0
    while left:
        if left & top:
            product ^= right
        left = left << 1 & (2 * top - 1)
        right = right >> 1 ^ (polynomial if right & 1 else 0)
    return product


def _end(blocks: Sequence[tuple[int, int]], flags: bytes) -> bytes:
    """The index of the blocks and the footer of the stream."""
    index = b"\0" + _vli_bytes(len(blocks)) + b"".join(_vli_bytes(size) for block in blocks for size in block)
    index += b"\0" * (-len(index) % 4)
    index += zlib.crc32(index).to_bytes(4, "little")
    sizes = (len(index) // 4 - 1).to_bytes(4, "little") + flags
    return index + zlib.crc32(sizes).to_bytes(4, "little") + sizes + _FOOTER_MAGIC


def _vli_bytes(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(data) + bytes((number,))


def _padded(size: int) -> int:
    return -(-size // 4) * 4
